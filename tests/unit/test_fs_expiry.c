/*
 * test_fs_expiry.c - expiration, time to live, and metadata, through the core of the filesystem.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/core/core.h"
#include "tests/unit/fs_kit.h"

static void test_expiry(void **state)
{
	struct env e;

	env_open(&e, ':', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), strerror(ENODATA));
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "60"), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.expiration"), "1000000060");
	set_clock("1000000059.5");
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "1");
	assert_string_equal(read_file(&e, "k"), "v");
	set_clock("1000000060");
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	assert_string_equal(list(&e, ""), "");
	/* A new key of this name has nothing of the old one. */
	assert_int_equal(write_file(&e, "k", "again"), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.expiration"), strerror(ENODATA));
	assert_int_equal(set_xattr(&e, "k", "user.kv.expiration", "1000000100"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "0"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", NULL), -ENODATA);
	set_clock("2000000000");
	assert_string_equal(read_file(&e, "k"), "again");
	env_close(&e);
}

static void test_bad_attributes(void **state)
{
	static const char *const bad_numbers[] = {
		"", "-1", "+1", " 1", "1 ", "x", "1.5", "0x10", "99999999999999999999"};
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(make_dir(&e, "d"), 0);
	for (size_t i = 0; i < sizeof(bad_numbers) / sizeof(bad_numbers[0]); i++) {
		assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", bad_numbers[i]), -EINVAL);
		assert_int_equal(set_xattr(&e, "k", "user.kv.expiration", bad_numbers[i]), -EINVAL);
		assert_int_equal(set_xattr(&e, "d", "user.kv.ttl", bad_numbers[i]), -EINVAL);
	}
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "{bad"), -EINVAL);
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "{} {}"), -EINVAL);
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "18446744073709551615"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "{\"a\": [1, null]}"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.key", "z"), -EPERM);
	assert_int_equal(set_xattr(&e, "k", "user.kv.state", "z"), -EPERM);
	assert_int_equal(set_xattr(&e, "k", "user.kv.other", "z"), -EINVAL);
	assert_int_equal(set_xattr(&e, "d", "user.kv.metadata", "{}"), -EINVAL);
	assert_string_equal(get_xattr(&e, "k", "user.kv.key"), "k");
	assert_string_equal(get_xattr(&e, "k", "user.kv.state"), "synced");
	assert_false(fs_xattr_known("security.capability"));
	assert_false(fs_xattr_known("system.posix_acl_access"));
	assert_false(fs_xattr_known("user."));
	env_close(&e);
}

static void test_past_expiration(void **state)
{
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, ".k.tmp", "v"), 0);
	assert_int_equal(set_xattr(&e, ".k.tmp", "user.kv.expiration", "999999999"), 0);
	assert_int_equal(move(&e, ".k.tmp", "k", 0), 0);
	set_clock("1000000001");
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	assert_string_equal(list(&e, ""), "");
	env_close(&e);
}

static void test_rewriting_keeps(void **state)
{
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "100"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "{}"), 0);
	assert_int_equal(write_file(&e, "k", "in place"), 0);
	replace_file(&e, "k", "by rename");
	assert_string_equal(read_file(&e, "k"), "by rename");
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "100");
	assert_string_equal(get_xattr(&e, "k", "user.kv.metadata"), "{}");
	/* The new file's own wins. */
	assert_int_equal(write_file(&e, "tmp", "own"), 0);
	assert_int_equal(set_xattr(&e, "tmp", "user.kv.ttl", "7"), 0);
	assert_int_equal(move(&e, "tmp", "k", 0), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "7");
	assert_string_equal(get_xattr(&e, "k", "user.kv.metadata"), "{}");
	/* "Never", said by hand, is its own too. */
	assert_int_equal(write_file(&e, "tmp", "own"), 0);
	assert_int_equal(set_xattr(&e, "tmp", "user.kv.ttl", "0"), 0);
	assert_int_equal(move(&e, "tmp", "k", 0), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), strerror(ENODATA));
	env_close(&e);
}

static void test_noinherit(void **state)
{
	struct fs_options opt = {.noinherit = true};
	struct env e;

	env_open(&e, '/', &opt);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "100"), 0);
	assert_int_equal(write_file(&e, "k", "in place"), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "100");
	replace_file(&e, "k", "by rename");
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), strerror(ENODATA));
	env_close(&e);
}

static void test_default_ttls(void **state)
{
	struct fs_options opt = {.have_ttl = true, .ttl = 1000};
	struct env e;

	env_open(&e, '/', &opt);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "1000");
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(set_xattr(&e, "d", "user.kv.ttl", "50"), 0);
	assert_string_equal(get_xattr(&e, "d", "user.kv.ttl"), "50");
	assert_int_equal(make_dir(&e, "d/e"), 0);
	assert_int_equal(write_file(&e, "d/e/k", "v"), 0);
	assert_string_equal(get_xattr(&e, "d/e/k", "user.kv.ttl"), "50");
	assert_int_equal(set_xattr(&e, "d/e", "user.kv.ttl", "0"), 0);
	assert_int_equal(write_file(&e, "d/e/never", "v"), 0);
	assert_string_equal(get_xattr(&e, "d/e/never", "user.kv.ttl"), strerror(ENODATA));
	/* A default is not the new file's own: what is replaced keeps its expiration. */
	assert_int_equal(write_file(&e, "tmp", "v"), 0);
	assert_int_equal(move(&e, "tmp", "d/e/never", 0), 0);
	assert_string_equal(get_xattr(&e, "d/e/never", "user.kv.ttl"), strerror(ENODATA));
	env_close(&e);
}

/* Who has an expired key open keeps it, whatever comes in its place before the sweep. */
static void test_new_key_in_place_of_an_expired_one(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *n;
	char text[64];
	struct env e;

	env_open(&e, '/', NULL);
	for (int by_rename = 0; by_rename < 2; by_rename++) {
		set_clock("1000000000");
		assert_int_equal(write_file(&e, "k", "old"), 0);
		assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "5"), 0);
		assert_int_equal(walk(&e, "k", &n, &attr), 0);
		assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &h), 0);
		set_clock("1000000010");
		if (by_rename)
			replace_file(&e, "k", "new");
		else
			assert_int_equal(write_file(&e, "k", "new"), 0);
		assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
		assert_string_equal(text, "old");
		assert_int_equal(fs_write(e.fs, h, 0, "OLD", 3, false), 0);
		assert_int_equal(fs_flush(e.fs, h, 0), 0);
		fs_release_file(e.fs, h);
		fs_forget(e.fs, n, 1);
		assert_string_equal(read_file(&e, "k"), "new");
		assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), strerror(ENODATA));
		assert_int_equal(remove_path(&e, "k", false), 0);
	}
	env_close(&e);
}

/* A default time to live begins with the value, however long it took to write. */
static void test_default_ttl_of_a_slow_writer(void **state)
{
	struct handle *h;
	struct fs_options opt = {.have_ttl = true, .ttl = 5};
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', &opt);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &h, &attr), 0);
	assert_int_equal(fs_write(e.fs, h, 0, "slow", 4, false), 0);
	set_clock("1000000010");
	assert_int_equal(fs_flush(e.fs, h, 0), 0);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "slow");
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "5");
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_bad_attributes),
		cmocka_unit_test(test_past_expiration),
		cmocka_unit_test(test_rewriting_keeps),
		cmocka_unit_test(test_noinherit),
		cmocka_unit_test(test_default_ttls),
		cmocka_unit_test(test_new_key_in_place_of_an_expired_one),
		cmocka_unit_test(test_default_ttl_of_a_slow_writer),
	};

	return fs_kit_run(tests, sizeof(tests) / sizeof(tests[0]));
}
