/*
 * test_fs_values.c - content, expiry, attributes and namespaces in the core.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backends/memory/memory.h"
#include "tests/unit/fs_kit.h"

/* --- content
 * ---------------------------------------------------------------------------------------- */

/* The store sees whole values only: nothing before the close. */
static void test_store_sees_whole_values(void **state)
{
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &attr), 0);
	assert_int_equal(fs_write(e.fs, n, 0, "half", 4), 0);
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_size, 4);
	assert_string_equal(list(&e, ""), "k");
	assert_int_equal(fs_write(e.fs, n, 4, " whole", 6), 0);
	assert_int_equal(fs_flush(e.fs, n, true), 0);
	fs_release_file(e.fs, n, true);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "half whole");
	env_close(&e);
}

static void test_open_outlives_unlink(void **state)
{
	struct fs_attr attr;
	struct node *n;
	char text[64];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "value"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, false), 0);
	assert_int_equal(remove_path(&e, "k", false), 0);
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	assert_int_equal(write_file(&e, "k", "other"), 0);
	assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
	assert_string_equal(text, "value");
	assert_int_equal(fs_write(e.fs, n, 5, "!", 1), 0);
	assert_int_equal(fs_flush(e.fs, n, false), 0);
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_nlink, 0);
	assert_int_equal(attr.st.st_size, 6);
	fs_release_file(e.fs, n, true);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "other");
	env_close(&e);
}

/* --- attributes while content is stored ------------------------------------------------------ */

/* A store whose next view to end is followed by the close of a file. */
static struct closing {
	struct store_ops ops;
	void (*view_end)(struct view *v);
	struct fs *fs;
	struct node *node; /* NULL: no more */
} closing;

static void end_view_and_close(struct view *v)
{
	struct node *n = closing.node;

	closing.view_end(v);
	closing.node = NULL;
	if (n) {
		assert_int_equal(fs_flush(closing.fs, n, false), 0);
		fs_release_file(closing.fs, n, true);
	}
}

static void write_and_close_after_next_view(struct env *e, struct node *n, const char *text)
{
	assert_int_equal(fs_open_file(e->fs, n, true, true), 0);
	assert_int_equal(fs_write(e->fs, n, 0, text, strlen(text)), 0);
	closing.node = n;
}

static bool size_of_only_one(void *arg, const struct fs_dirent *d)
{
	struct stat *st = arg;

	if (d->node) {
		*st = d->attr.st;
		fs_forget(closing.fs, d->node, 1);
	}
	return true;
}

/* What is dirty when an answer is begun may be stored when it is ended. The answer must not say
 * what was before both: the kernel would go on believing it. */
static void test_attributes_while_content_is_stored(void **state)
{
	struct node *n, *same;
	struct fs_attr attr;
	struct listing *l;
	struct env e;
	double valid;

	env_open(&e, '/', NULL);
	closing.ops = *e.st->ops;
	closing.view_end = e.st->ops->view_end;
	closing.ops.view_end = end_view_and_close;
	closing.fs = e.fs;
	closing.node = NULL;
	e.st->ops = &closing.ops;
	assert_int_equal(write_file(&e, "k", ""), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	write_and_close_after_next_view(&e, n, "1");
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_null(closing.node);
	assert_int_equal(attr.st.st_size, 1);
	write_and_close_after_next_view(&e, n, "22");
	assert_int_equal(fs_lookup(e.fs, fs_root(e.fs), "k", &same, &attr, &valid), 0);
	assert_null(closing.node);
	assert_int_equal(attr.st.st_size, 2);
	forget(&e, same);
	assert_int_equal(fs_opendir(e.fs, fs_root(e.fs), &l), 0);
	write_and_close_after_next_view(&e, n, "333");
	assert_int_equal(fs_readdir(e.fs, l, 2, true, 10, size_of_only_one, &attr.st), 0);
	assert_null(closing.node);
	assert_int_equal(attr.st.st_size, 3);
	fs_closedir(e.fs, l);
	forget(&e, n);
	env_close(&e);
}

static void test_rename_of_an_open_file(void **state)
{
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "t", 0600, who, &n, &attr), 0);
	assert_int_equal(fs_write(e.fs, n, 0, "new", 3), 0);
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(move(&e, "t", "d/t", 0), 0);
	assert_int_equal(move(&e, "d", "c", 0), 0);
	assert_int_equal(fs_flush(e.fs, n, false), 0);
	fs_release_file(e.fs, n, true);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "c/t"), "new");
	assert_string_equal(list(&e, ""), "c/");
	env_close(&e);
}

/* --- expiry and metadata -------------------------------------------------------------------------
 */

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

/* Saves `name` as an editor does: a new file, renamed over the old one. */
static void replace(struct env *e, const char *name, const char *text)
{
	assert_int_equal(write_file(e, "tmp", text), 0);
	assert_int_equal(move(e, "tmp", name, 0), 0);
}

static void test_rewriting_keeps(void **state)
{
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.ttl", "100"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.kv.metadata", "{}"), 0);
	assert_int_equal(write_file(&e, "k", "in place"), 0);
	replace(&e, "k", "by rename");
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
	replace(&e, "k", "by rename");
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

/* --- what others do
 * -------------------------------------------------------------------------------- */

static void test_numbers_stay(void **state)
{
	struct fs_attr first, again;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	foreign_put(&e, "theirs", "v");
	assert_int_equal(walk(&e, "theirs", &n, &first), 0);
	forget(&e, n);
	set_clock("1000000500");
	assert_int_equal(walk(&e, "theirs", &n, &again), 0);
	forget(&e, n);
	assert_int_equal(first.st.st_ino, again.st.st_ino);
	assert_int_equal(first.st.st_mtim.tv_sec, again.st.st_mtim.tv_sec);
	assert_int_equal(first.st.st_mode, S_IFREG | 0644);
	assert_int_equal(move(&e, "theirs", "ours", 0), 0);
	assert_int_equal(walk(&e, "ours", &n, &again), 0);
	forget(&e, n);
	/* Another program may make another key of the old name: the two differ. */
	foreign_put(&e, "theirs", "v");
	assert_int_equal(walk(&e, "theirs", &n, &first), 0);
	forget(&e, n);
	assert_int_not_equal(first.st.st_ino, again.st.st_ino);
	env_close(&e);
}

static void test_namespaces(void **state)
{
	struct fs_options opt = {.separator = '/', .umask = 022};
	struct env e;

	assert_int_equal(memory_store_open(&e.st), 0);
	assert_int_equal(fs_open(e.st, FS_NS_ALL, &opt, &e.fs), 0);
	assert_int_equal(make_dir(&e, "one"), 0);
	assert_int_equal(make_dir(&e, "one"), -EEXIST);
	assert_int_equal(make_dir(&e, "a%2Fb"), 0);
	assert_int_equal(write_file(&e, "file", "v"), -EPERM);
	assert_int_equal(write_file(&e, "one/k", "v"), 0);
	assert_string_equal(list(&e, ""), "a%2Fb/ one/");
	assert_int_equal(remove_path(&e, "one", true), -ENOTEMPTY);
	assert_int_equal(move(&e, "one/k", "k", 0), -EPERM);
	assert_int_equal(move(&e, "one", "a%2Fb/one", 0), -EXDEV);
	assert_int_equal(move(&e, "one/k", "a%2Fb/k", 0), 0);
	assert_string_equal(read_file(&e, "a%2Fb/k"), "v");
	assert_int_equal(move(&e, "a%2Fb", "two", 0), 0);
	assert_string_equal(read_file(&e, "two/k"), "v");
	assert_int_equal(move(&e, "two", "one", 0), 0);
	assert_string_equal(list(&e, ""), "one/");
	assert_string_equal(list(&e, "one"), "k");
	assert_int_equal(remove_path(&e, "one/k", false), 0);
	assert_int_equal(remove_path(&e, "one", true), 0);
	assert_string_equal(list(&e, ""), "");
	env_close(&e);
}

/* Who has an expired key open keeps it, whatever comes in its place before the sweep. */
static void test_new_key_in_place_of_an_expired_one(void **state)
{
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
		assert_int_equal(fs_open_file(e.fs, n, true, false), 0);
		set_clock("1000000010");
		if (by_rename)
			replace(&e, "k", "new");
		else
			assert_int_equal(write_file(&e, "k", "new"), 0);
		assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
		assert_string_equal(text, "old");
		assert_int_equal(fs_write(e.fs, n, 0, "OLD", 3), 0);
		assert_int_equal(fs_flush(e.fs, n, false), 0);
		fs_release_file(e.fs, n, true);
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
	struct fs_options opt = {.have_ttl = true, .ttl = 5};
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', &opt);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &attr), 0);
	assert_int_equal(fs_write(e.fs, n, 0, "slow", 4), 0);
	set_clock("1000000010");
	assert_int_equal(fs_flush(e.fs, n, false), 0);
	fs_release_file(e.fs, n, true);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "slow");
	assert_string_equal(get_xattr(&e, "k", "user.kv.ttl"), "5");
	env_close(&e);
}

static void test_attributes_of_an_unlinked_file(void **state)
{
	struct fs_attr attr;
	struct node *n;
	char text[16];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.a", "1"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, false, false), 0);
	assert_int_equal(remove_path(&e, "k", false), 0);
	assert_int_equal(fs_getxattr(e.fs, n, "user.a", text, sizeof(text)), 1);
	assert_int_equal(fs_setxattr(e.fs, n, "user.b", "22", 2, 0), 0);
	assert_int_equal(fs_getxattr(e.fs, n, "user.b", text, sizeof(text)), 2);
	assert_int_equal(fs_listxattr(e.fs, n, NULL, 0), 14);
	fs_release_file(e.fs, n, false);
	fs_forget(e.fs, n, 1);
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	env_close(&e);
}

/* Who looked a file up before it was replaced, and opens it after, gets it as it was. */
static void test_open_of_a_replaced_file(void **state)
{
	struct fs_attr attr;
	struct node *n;
	char text[64];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "before"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	replace(&e, "k", "after all");
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_size, 6);
	assert_int_equal(fs_open_file(e.fs, n, false, false), 0);
	assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
	assert_string_equal(text, "before");
	fs_release_file(e.fs, n, false);
	fs_forget(e.fs, n, 1);
	env_close(&e);
}

/* The kernel does not forget what it knows before it is unmounted; nothing of that is lost or left
 * over. */
static void test_close_with_unlinked_nodes(void **state)
{
	struct fs_attr attr;
	struct node *known, *open;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "known", "v"), 0);
	assert_int_equal(write_file(&e, "open", "v"), 0);
	assert_int_equal(walk(&e, "known", &known, &attr), 0);
	assert_int_equal(walk(&e, "open", &open, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, open, true, false), 0);
	assert_int_equal(fs_write(e.fs, open, 0, "w", 1), 0);
	assert_int_equal(remove_path(&e, "known", false), 0);
	assert_int_equal(remove_path(&e, "open", false), 0);
	env_close(&e);
}

static void test_greatest_value(void **state)
{
	struct fs_caller who = {0};
	struct stat to = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &attr), 0);
	assert_int_equal(fs_write(e.fs, n, e.st->value_max, "x", 1), -EFBIG);
	to.st_size = (off_t)e.st->value_max + 1;
	assert_int_equal(fs_setattr(e.fs, n, &to, FS_SET_SIZE, true, &attr), -EFBIG);
	assert_int_equal(fs_fallocate(e.fs, n, 0, e.st->value_max, 1), -EFBIG);
	assert_int_equal(fs_write(e.fs, n, 0, "x", 1), 0);
	assert_int_equal(fs_flush(e.fs, n, false), 0);
	fs_release_file(e.fs, n, true);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "x");
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_key_in_place_of_an_expired_one),
		cmocka_unit_test(test_default_ttl_of_a_slow_writer),
		cmocka_unit_test(test_attributes_of_an_unlinked_file),
		cmocka_unit_test(test_open_of_a_replaced_file),
		cmocka_unit_test(test_greatest_value),
		cmocka_unit_test(test_close_with_unlinked_nodes),
		cmocka_unit_test(test_store_sees_whole_values),
		cmocka_unit_test(test_open_outlives_unlink),
		cmocka_unit_test(test_attributes_while_content_is_stored),
		cmocka_unit_test(test_rename_of_an_open_file),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_bad_attributes),
		cmocka_unit_test(test_past_expiration),
		cmocka_unit_test(test_rewriting_keeps),
		cmocka_unit_test(test_noinherit),
		cmocka_unit_test(test_default_ttls),
		cmocka_unit_test(test_numbers_stay),
		cmocka_unit_test(test_namespaces),
	};

	return fs_kit_run(tests, sizeof(tests) / sizeof(tests[0]));
}
