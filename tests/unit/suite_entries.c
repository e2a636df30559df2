/*
 * suite_entries.c - putting, getting and removing entries, alone and in groups.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

static void test_put_and_get(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry e;

	kit_put(k, kit_key(k, "a"), &rec, "value");
	kit_expect_value(k, kit_key(k, "a"), "value");
	kit_expect_record(k, kit_key(k, "a"), &rec);
	assert_int_equal(kit_get(k, kit_key(k, "a"), NOW, &e), 0);
	assert_int_equal(e.size, 5);
	kit_sync(k);
	kit_expect_value(k, kit_key(k, "a"), "value");
	kit_expect_record(k, kit_key(k, "a"), &rec);
}

static void test_absent(void **state)
{
	struct kit *k = *state;

	kit_expect_absent(k, kit_key(k, "a"));
	kit_expect_absent(k, kit_dir(k, "a/"));
	kit_expect_absent(k, kit_dir(k, ""));
	kit_put(k, kit_key(k, "ab"), NULL, "x");
	kit_expect_absent(k, kit_key(k, "a"));
	kit_expect_absent(k, kit_key(k, "abc"));
}

static void test_failed_get_leaves_output(void **state)
{
	struct kit *k = *state;
	struct entry_id id = kit_key(k, "a");
	struct entry e, before;
	struct value v = {.len = 77};

	memset(&e, 0x5a, sizeof(e));
	before = e;
	assert_int_equal(kit_get(k, id, NOW, &e), -ENOENT);
	assert_int_equal(e.size, before.size);
	assert_int_equal(e.rec.ino, before.rec.ino);
	assert_int_equal(k->st->ops->read(k->st, &id, NOW, &v), -ENOENT);
	assert_int_equal(v.len, 77);
}

static void test_value_only(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k), zero = {0};
	struct entry e;

	kit_put(k, kit_key(k, "new"), NULL, "1");
	assert_int_equal(kit_get(k, kit_key(k, "new"), NOW, &e), 0);
	assert_true(e.unrecorded);
	assert_memory_equal(&e.rec, &zero, sizeof(zero));
	kit_put(k, kit_key(k, "old"), &rec, "1");
	kit_put(k, kit_key(k, "old"), NULL, "22");
	kit_expect_record(k, kit_key(k, "old"), &rec);
	kit_expect_value(k, kit_key(k, "old"), "22");
	kit_sync(k);
	kit_put(k, kit_key(k, "old"), NULL, "333");
	kit_expect_record(k, kit_key(k, "old"), &rec);
	kit_sync(k);
	kit_expect_record(k, kit_key(k, "old"), &rec);
	kit_expect_value(k, kit_key(k, "old"), "333");
}

static void test_record_only(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k), other = kit_record(k);

	other.mode = 0100600;
	other.xattrs = NULL;
	other.xattrs_len = 0;
	kit_put(k, kit_key(k, "a"), NULL, "value");
	kit_put(k, kit_key(k, "a"), &rec, NULL);
	kit_expect_record(k, kit_key(k, "a"), &rec);
	kit_expect_value(k, kit_key(k, "a"), "value");
	kit_sync(k);
	kit_put(k, kit_key(k, "a"), &other, NULL);
	kit_expect_record(k, kit_key(k, "a"), &other);
	kit_expect_value(k, kit_key(k, "a"), "value");
	kit_sync(k);
	kit_expect_record(k, kit_key(k, "a"), &other);
	kit_expect_value(k, kit_key(k, "a"), "value");
}

static void test_record_is_copied(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k), same = rec;
	unsigned char xattrs[64];

	memcpy(xattrs, rec.xattrs, rec.xattrs_len);
	rec.xattrs = xattrs;
	kit_put(k, kit_key(k, "a"), &rec, "v");
	memset(xattrs, 0xee, sizeof(xattrs));
	kit_expect_record(k, kit_key(k, "a"), &same);
}

static void test_remove(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry e;

	kit_remove(k, kit_key(k, "never"));
	for (int synced = 0; synced < 2; synced++) {
		kit_put(k, kit_key(k, "a"), &rec, "1");
		kit_put(k, kit_dir(k, "d/"), &rec, NULL);
		if (synced)
			kit_sync(k);
		kit_remove(k, kit_key(k, "a"));
		kit_remove(k, kit_dir(k, "d/"));
		kit_expect_absent(k, kit_key(k, "a"));
		kit_expect_absent(k, kit_dir(k, "d/"));
		if (synced)
			kit_sync(k);
		kit_expect_absent(k, kit_key(k, "a"));
		/* The record went with it. */
		kit_put(k, kit_key(k, "a"), NULL, "2");
		assert_int_equal(kit_get(k, kit_key(k, "a"), NOW, &e), 0);
		assert_true(e.unrecorded);
		kit_remove(k, kit_key(k, "a"));
	}
}

static void test_kinds_are_apart(void **state)
{
	struct kit *k = *state;
	struct record key = kit_record(k), dir = kit_record(k);

	kit_put(k, kit_key(k, "a/"), &key, "v");
	kit_expect_absent(k, kit_dir(k, "a/"));
	kit_put(k, kit_dir(k, "a/"), &dir, NULL);
	kit_put(k, kit_dir(k, ""), &dir, NULL);
	kit_expect_record(k, kit_key(k, "a/"), &key);
	kit_expect_record(k, kit_dir(k, "a/"), &dir);
	kit_expect_record(k, kit_dir(k, ""), &dir);
	kit_remove(k, kit_key(k, "a/"));
	kit_expect_record(k, kit_dir(k, "a/"), &dir);
	kit_expect_list(k, ENTRY_KEY, NOW, "");
}

static void test_unmade_directory_is_remembered(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry e;

	rec.flags = RECORD_DEFAULT_TTL;
	kit_put(k, kit_dir(k, "d/"), &rec, NULL);
	kit_expect_record(k, kit_dir(k, "d/"), &rec);
	assert_int_equal(kit_get(k, kit_dir(k, "d/"), NOW, &e), 0);
	assert_int_equal(e.size, 0);
	kit_expect_list(k, ENTRY_DIR, NOW, "");
	kit_sync(k);
	kit_expect_record(k, kit_dir(k, "d/"), &rec);
	kit_expect_list(k, ENTRY_DIR, NOW, "");
}

static void test_group(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct blob *one = kit_blob(k, "1", 1), *two = kit_blob(k, "22", 2);
	struct change group[] = {
		{.op = CHANGE_REMOVE, .id = kit_key(k, "gone")},
		{.op = CHANGE_PUT, .id = kit_key(k, "a"), .value = one},
		{.op = CHANGE_PUT, .id = kit_key(k, "a"), .rec = &rec},
		{.op = CHANGE_PUT, .id = kit_key(k, "b"), .rec = &rec, .value = one},
		{.op = CHANGE_REMOVE, .id = kit_key(k, "b")},
		{.op = CHANGE_PUT, .id = kit_key(k, "c"), .value = one},
		{.op = CHANGE_PUT, .id = kit_key(k, "c"), .value = two},
		{.op = CHANGE_PUT, .id = kit_dir(k, "d/"), .rec = &rec},
	};

	kit_put(k, kit_key(k, "gone"), NULL, "x");
	assert_int_equal(kit_apply(k, group, sizeof(group) / sizeof(group[0])), 0);
	blob_unref(one);
	blob_unref(two);
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_absent(k, kit_key(k, "gone"));
		kit_expect_value(k, kit_key(k, "a"), "1");
		kit_expect_record(k, kit_key(k, "a"), &rec);
		kit_expect_absent(k, kit_key(k, "b"));
		kit_expect_value(k, kit_key(k, "c"), "22");
		kit_expect_record(k, kit_dir(k, "d/"), &rec);
		kit_sync(k);
	}
}

static void test_group_fails_whole(void **state)
{
	struct kit *k = *state;
	unsigned char bytes[STORE_PREFIX_MAX + 1];
	struct record rec = kit_record(k);
	struct blob *b = kit_blob(k, "new", 3);
	struct change group[] = {
		{.op = CHANGE_PUT, .id = kit_key(k, "a"), .value = b},
		{.op = CHANGE_REMOVE, .id = kit_key(k, "b")},
		{.op = CHANGE_PUT,
			.id = kit_id(k->ns, ENTRY_KEY, bytes, STORE_KEY_MAX + 1),
			.value = b},
	};

	memset(bytes, 'k', sizeof(bytes));
	kit_put(k, kit_key(k, "a"), NULL, "old");
	kit_put(k, kit_key(k, "b"), NULL, "old");
	assert_int_equal(kit_apply(k, group, 3), -ENAMETOOLONG);
	kit_expect_value(k, kit_key(k, "a"), "old");
	kit_expect_value(k, kit_key(k, "b"), "old");
	kit_expect_list(k, ENTRY_KEY, NOW, "a b");
	group[2] = (struct change){
		.op = CHANGE_PUT,
		.id = kit_id(k->ns, ENTRY_DIR, bytes, STORE_PREFIX_MAX + 1),
		.rec = &rec,
	};
	assert_int_equal(kit_apply(k, group, 3), -ENAMETOOLONG);
	kit_expect_value(k, kit_key(k, "a"), "old");
	assert_true(blob_writable(b));
	blob_unref(b);
}

static void test_longest_ids(void **state)
{
	struct kit *k = *state;
	unsigned char bytes[STORE_PREFIX_MAX];
	struct record rec = kit_record(k);
	struct entry_id key = kit_id(k->ns, ENTRY_KEY, bytes, STORE_KEY_MAX);
	struct entry_id dir = kit_id(k->ns, ENTRY_DIR, bytes, STORE_PREFIX_MAX);
	struct blob *b = kit_blob(k, "long", 4);
	struct change c = {.op = CHANGE_PUT, .id = key, .rec = &rec, .value = b};

	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(kit_apply(k, &c, 1), 0);
	kit_put(k, dir, &rec, NULL);
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_value(k, key, "long");
		kit_expect_record(k, key, &rec);
		kit_expect_record(k, dir, &rec);
		kit_sync(k);
	}
	/* A view knows ids that cannot exist as well as any that do not. */
	kit_expect_absent(k, kit_id(k->ns, ENTRY_KEY, bytes, STORE_PREFIX_MAX));
	kit_remove(k, key);
	kit_expect_absent(k, key);
	kit_sync(k);
	kit_expect_absent(k, key);
	blob_unref(b);
}

static void test_hold(void **state)
{
	struct kit *k = *state;
	struct entry_id id = kit_key(k, "a");
	struct record rec = kit_record(k), other = kit_record(k);
	struct entry e;

	kit_hold(k, id, &rec, NULL);
	kit_expect_record(k, id, &rec);
	kit_expect_value(k, id, "");
	kit_expect_list(k, ENTRY_KEY, NOW, "a");
	/* What is held does not hold up a sync, nor does the sync end it. */
	kit_sync(k);
	assert_int_equal(kit_get(k, id, NOW, &e), 0);
	assert_true(e.pending);
	kit_put(k, id, &other, NULL);
	kit_sync(k);
	assert_int_equal(kit_get(k, id, NOW, &e), 0);
	assert_true(e.pending);
	kit_expect_record(k, id, &other);
	kit_hold(k, id, NULL, "half");
	kit_expect_value(k, id, "half");
	kit_sync(k);
	assert_int_equal(kit_get(k, id, NOW, &e), 0);
	assert_true(e.pending);
	kit_put(k, id, NULL, "whole");
	kit_sync(k);
	assert_int_equal(kit_get(k, id, NOW, &e), 0);
	assert_false(e.pending);
	kit_expect_value(k, id, "whole");
	kit_expect_record(k, id, &other);
}

static void test_hold_removed(void **state)
{
	struct kit *k = *state;
	struct store_stat stat;

	kit_hold(k, kit_key(k, "a"), NULL, "half");
	kit_remove(k, kit_key(k, "a"));
	kit_expect_absent(k, kit_key(k, "a"));
	kit_sync(k);
	kit_expect_absent(k, kit_key(k, "a"));
	kit_expect_list(k, ENTRY_KEY, NOW, "");
	k->st->ops->stat(k->st, &stat);
	assert_int_equal(stat.pending, 0);
}

static void test_sync_ends_pending(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct change c = {.op = CHANGE_PUT, .id = kit_key(k, "a"), .rec = &rec};
	uint64_t first, second;
	struct store_stat stat;
	struct entry e;

	c.value = kit_blob(k, "v", 1);
	assert_int_equal(k->st->ops->apply(k->st, &c, 1, &first), 0);
	c.id = kit_key(k, "b");
	assert_int_equal(k->st->ops->apply(k->st, &c, 1, &second), 0);
	blob_unref(c.value);
	assert_true(second > first);
	assert_int_equal(k->st->ops->sync(k->st, first), 0);
	assert_int_equal(kit_get(k, kit_key(k, "a"), NOW, &e), 0);
	assert_false(e.pending);
	assert_int_equal(k->st->ops->sync(k->st, second), 0);
	assert_int_equal(kit_get(k, kit_key(k, "b"), NOW, &e), 0);
	assert_false(e.pending);
	assert_int_equal(k->st->ops->sync(k->st, UINT64_MAX), 0);
	k->st->ops->stat(k->st, &stat);
	assert_int_equal(stat.pending, 0);
	assert_int_equal(stat.pending_bytes, 0);
}

static void test_throttle(void **state)
{
	struct kit *k = *state;

	assert_int_equal(k->st->ops->throttle(k->st, 0), 0);
	assert_int_equal(k->st->ops->throttle(k->st, 1000), 0);
	/* No medium has room for it, and a store may say that no value of its own can be so large.
	 */
	int rc = k->st->ops->throttle(k->st, UINT64_MAX / 4);
	assert_true(rc == -ENOSPC || rc == -EFBIG);
}

static void test_stat(void **state)
{
	struct kit *k = *state;
	struct store_stat before, after;
	struct entry e;

	k->st->ops->stat(k->st, &before);
	assert_int_equal(before.error, 0);
	assert_true(before.total_bytes > 0);
	assert_true(before.free_bytes <= before.total_bytes);
	kit_put(k, kit_key(k, "a"), NULL, "v");
	kit_sync(k);
	assert_int_equal(kit_get(k, kit_key(k, "a"), NOW, &e), 0);
	k->st->ops->stat(k->st, &after);
	assert_int_equal(after.writes, before.writes + 1);
	assert_true(after.reads > before.reads);
	assert_true(after.commits > before.commits);
	assert_true(after.bytes > 0);
	assert_int_equal(after.error, 0);
}

static void test_new_ino(void **state)
{
	struct kit *k = *state;
	uint64_t last = 0;

	for (int i = 0; i < 5000; i++) {
		struct record rec = kit_record(k);

		assert_true(rec.ino > last && rec.ino < UINT64_C(1) << 62);
		last = rec.ino;
		if (i % 1000 == 999)
			kit_put(k, kit_key(k, "a"), &rec, "v");
	}
	/* Not even after it was closed, and what had the number was removed: a crash may take back
	 * what was never durable, and its number with it. */
	kit_sync(k);
	kit_remove(k, kit_key(k, "a"));
	if (kit_reopen(k))
		assert_true(k->st->ops->new_ino(k->st) > last);
}

static void test_reopen(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry e;

	kit_put(k, kit_key(k, "removed"), &rec, "1");
	kit_put(k, kit_key(k, "synced"), &rec, "2");
	kit_put(k, kit_dir(k, "d/"), &rec, NULL);
	kit_sync(k);
	kit_remove(k, kit_key(k, "removed"));
	kit_put(k, kit_key(k, "closed"), &rec, "3");
	kit_put(k, kit_key(k, "bare"), NULL, "4");
	if (!kit_reopen(k))
		return;
	kit_expect_list(k, ENTRY_KEY, NOW, "bare closed synced");
	kit_expect_list(k, ENTRY_DIR, NOW, "d/");
	kit_expect_value(k, kit_key(k, "synced"), "2");
	kit_expect_value(k, kit_key(k, "closed"), "3");
	kit_expect_record(k, kit_key(k, "closed"), &rec);
	kit_expect_record(k, kit_dir(k, "d/"), &rec);
	kit_expect_value(k, kit_key(k, "bare"), "4");
	assert_int_equal(kit_get(k, kit_key(k, "bare"), NOW, &e), 0);
	assert_false(e.pending);
}

SUITE_PART(entries, cmocka_unit_test(test_put_and_get), cmocka_unit_test(test_absent),
	cmocka_unit_test(test_failed_get_leaves_output), cmocka_unit_test(test_value_only),
	cmocka_unit_test(test_record_only), cmocka_unit_test(test_record_is_copied),
	cmocka_unit_test(test_remove), cmocka_unit_test(test_kinds_are_apart),
	cmocka_unit_test(test_unmade_directory_is_remembered), cmocka_unit_test(test_group),
	cmocka_unit_test(test_group_fails_whole), cmocka_unit_test(test_longest_ids),
	cmocka_unit_test(test_hold), cmocka_unit_test(test_hold_removed),
	cmocka_unit_test(test_sync_ends_pending), cmocka_unit_test(test_throttle),
	cmocka_unit_test(test_stat), cmocka_unit_test(test_new_ino), cmocka_unit_test(test_reopen));
