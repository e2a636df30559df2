/*
 * test_writeback.c - what the write-back cache asks for, keeps, and shows.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

static const char *asked(struct wbk *k)
{
	return fake_log(&k->remote);
}

/* --- how it is written down ---------------------------------------------------------------------- */

static void test_info(void **state)
{
	struct info info = {true, true, true, true, true, true, 1ULL << 40, UINT64_MAX, 5, -6,
			    INT64_MAX},
		    got;
	struct record rec = {0}, bare = {0};
	unsigned char *list, *attribute;
	size_t len;
	uint32_t joined;

	assert_int_equal(xattrs_set(NULL, 0, "user.a", "1", 1, &attribute, &len), 0);
	rec.xattrs = attribute;
	rec.xattrs_len = (uint32_t)len;
	assert_int_equal(info_join(&rec, &info, &list, &joined), 0);
	for (uint32_t n = 0; n <= joined; n++) { /* cut off anywhere */
		struct record part = {.xattrs = list, .xattrs_len = n};

		info_split(&part, &got);
		if (n >= joined - len)
			assert_int_equal(got.size, info.size);
		else
			assert_false(got.cached);
	}
	struct record whole = {.xattrs = list, .xattrs_len = joined};
	info_split(&whole, &got);
	assert_true(
		got.cached && got.sized && got.local && got.marked && got.alone && got.confirmed);
	assert_int_equal(got.hash, info.hash);
	assert_int_equal(got.seen, 5);
	assert_int_equal(got.read, -6);
	assert_true(got.pinned == INT64_MAX);
	assert_int_equal(whole.xattrs_len, len);
	assert_memory_equal(whole.xattrs, attribute, len);
	free(list);
	assert_int_equal(info_join(&bare, &info, &list, &joined), 0);
	whole = (struct record){.xattrs = list, .xattrs_len = joined};
	info_split(&whole, &got);
	assert_null(whole.xattrs);
	assert_int_equal(whole.xattrs_len, 0);
	free(list);
	free(attribute);
}

static void test_journal_entry(void **state)
{
	struct journal j = {JOURNAL_REMOVE, true, false, true, 1ULL << 63, 6, 7, -8, 9, 10, -EFBIG};
	unsigned char bytes[JOURNAL_SIZE + 1];
	struct journal got;

	journal_pack(&j, bytes);
	assert_int_equal(journal_unpack(bytes, JOURNAL_SIZE, &got), 0);
	assert_int_equal(got.op, JOURNAL_REMOVE);
	assert_true(got.remote_has && got.failed && !got.base_known);
	assert_true(got.seq == j.seq && got.first == 6 && got.changed == 7 &&
		got.not_before == -8 && got.base == 9);
	assert_int_equal(got.tries, 10);
	assert_int_equal(got.error, -EFBIG);
	for (size_t n = 0; n <= JOURNAL_SIZE + 1; n++)
		assert_int_equal(journal_unpack(bytes, n, &got), n == JOURNAL_SIZE ? 0 : -EBADMSG);
	for (int op = 0; op < 256; op++) {
		bytes[1] = (unsigned char)op;
		assert_int_equal(journal_unpack(bytes, JOURNAL_SIZE, &got),
			op == JOURNAL_PUT || op == JOURNAL_REMOVE ? 0 : -EBADMSG);
	}
	bytes[1] = JOURNAL_PUT;
	bytes[0] ^= 0x80;
	assert_int_equal(journal_unpack(bytes, JOURNAL_SIZE, &got), -EBADMSG);
	/* Of the first version, which had not the second number. */
	bytes[0] = 1;
	memmove(bytes + 11, bytes + 19, JOURNAL_SIZE - 19);
	assert_int_equal(journal_unpack(bytes, JOURNAL_SIZE, &got), -EBADMSG);
	assert_int_equal(journal_unpack(bytes, JOURNAL_SIZE - 8, &got), 0);
	assert_true(got.seq == j.seq && got.first == j.seq && got.changed == 7);
	assert_int_equal(got.error, -EFBIG);
}

/* --- questions ---------------------------------------------------------------------------------- */

static void test_name_by_its_directory(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "d/a", "1");
	fake_put(&k->remote, "d/b", "2");
	assert_int_equal(wbk_name(k, "d/a", "d/a/"), 0);
	assert_string_equal(asked(k), "list d/a"); /* all that begins like it; no value */
	assert_int_equal(wbk_value(k, "d/a"), 0);
	assert_string_equal(asked(k), "get d/a");
	assert_string_equal(wbk_shown(k, "d/a"), "1");
	/* With the second name all of the directory is asked for, which answers for others. */
	assert_int_equal(wbk_name(k, "d/b", "d/b/"), 0);
	assert_string_equal(asked(k), "list d/");
	assert_int_equal(wbk_value(k, "d/b"), 0);
	assert_string_equal(asked(k), "get d/b");
	assert_int_equal(wbk_name(k, "d/none", "d/none/"), 0);
	assert_int_equal(wbk_value(k, "d/b"), 0);
	assert_int_equal(wbk_list(k, "d/"), 0);
	assert_string_equal(asked(k), "");
	wbk_advance(61);
	assert_int_equal(wbk_name(k, "d/none", "d/none/"), 0);
	assert_string_equal(asked(k), "list d/none");
}

static void test_name_in_a_large_directory(void **state)
{
	struct wbk *k = *state;
	char key[16];

	k->remote.page_size = 2;
	for (int i = 0; i < 9; i++) {
		snprintf(key, sizeof(key), "d/%d", i);
		fake_put(&k->remote, key, "v");
	}
	assert_int_equal(wbk_name(k, "d/7", "d/7/"), 0);
	assert_string_equal(asked(k), "list d/7");
	/* Its directory's first page does not have it; its own prefix does. */
	assert_int_equal(wbk_name(k, "d/5", "d/5/"), 0);
	assert_string_equal(asked(k), "list d/; list d/5");
	assert_int_equal(wbk_name(k, "d/0", "d/0/"), 0);
	assert_string_equal(asked(k), "");
}

static void test_prefixes_end_at_separators(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "ab", "1");
	fake_put(&k->remote, "a/b", "2");
	assert_int_equal(wbk_list(k, "a/"), 0);
	assert_string_equal(wbk_keys(k), "a/b");
	int64_t now = clock_now();
	assert_true(wb_covers(k->wb, k->ns, "a/x", 3, false, now));
	assert_true(wb_covers(k->wb, k->ns, "a/x/", 4, true, now));
	assert_false(wb_covers(k->wb, k->ns, "ab", 2, false, now));
	assert_false(wb_covers(k->wb, k->ns, "a", 1, false, now));
	assert_false(wb_covers(k->wb, k->ns, "", 0, true, now));
	assert_false(wb_covers(k->wb, k->ns, "a/x", 3, false, now + 60LL * CLOCK_SECOND));
	assert_true(wb_covers(k->wb, k->ns, "a/x", 3, false, now + 60LL * CLOCK_SECOND - 1));
	assert_false(wb_covers(k->wb, k->ns, "a/x", 3, false, now - 1)); /* time went back */
	asked(k);
}

static void test_listing_in_pages(void **state)
{
	struct wbk *k = *state;
	struct want want;

	k->remote.page_size = 2;
	k->remote.empty_pages = 1;
	for (const char *c = "a\0b\0c\0d\0e\0"; *c; c += 2)
		fake_put(&k->remote, c, "v");
	assert_int_equal(wbk_list_from(k, "", "", &want), 0);
	assert_false(want.complete);
	assert_int_equal(want.upto_len, 1);
	assert_memory_equal(want.upto, "b", 1);
	assert_string_equal(wbk_keys(k), "a b");
	int64_t now = clock_now();
	assert_true(wb_covers(k->wb, k->ns, "aa", 2, false, now));
	assert_true(wb_covers(k->wb, k->ns, "aa/", 3, true, now));
	assert_true(wb_covers(k->wb, k->ns, "b", 1, false, now));
	assert_false(wb_covers(k->wb, k->ns, "b", 1, true, now));
	assert_false(wb_covers(k->wb, k->ns, "bb", 2, false, now));
	assert_int_equal(wbk_list_from(k, "", "b", &want), 0);
	assert_memory_equal(want.upto, "d", 1);
	assert_int_equal(wbk_list_from(k, "", "d", &want), 0);
	assert_true(want.complete);
	assert_string_equal(asked(k), "list ; more ; more ; more ");
	assert_string_equal(wbk_keys(k), "a b c d e");
}

static void test_listing_changes(void **state)
{
	struct wbk *k = *state;

	for (const char *c = "a\0b\0c\0d\0e\0"; *c; c += 2)
		fake_put(&k->remote, c, "v");
	assert_int_equal(wbk_list(k, ""), 0);
	fake_drop(&k->remote, "a");
	fake_drop(&k->remote, "c");
	fake_drop(&k->remote, "e");
	fake_put_with(&k->remote, "b", "v", 2000000000, "{}");
	fake_put(&k->remote, "cc", "v");
	wbk_put(k, "own", "1"); /* journaled */
	wbk_put(k, "x.swp", "2"); /* never there */
	wbk_hold(k, "held");
	wbk_advance(61);
	k->remote.page_size = 2;
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "b cc d held own x.swp");
	assert_int_equal(wbk_expiration(k, "b"), 2000000000);
	assert_string_equal(wbk_metadata(k, "b"), "{}");
}

static void test_disorder_is_refused(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "v");
	fake_put(&k->remote, "b", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	wbk_advance(61);
	k->remote.disorder = true;
	wbk_list(k, "");
	assert_string_equal(wbk_keys(k), "a b");
}

static void test_read_ahead(void **state)
{
	struct wbk *k = *state;
	char key[16];

	k->remote.page_size = 60;
	for (int i = 0; i < 250; i++) {
		snprintf(key, sizeof(key), "d/%03d", i);
		fake_put(&k->remote, key, "v");
	}
	fake_put(&k->remote, "e", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	asked(k);
	int before = atomic_load(&k->remote.requests);
	for (int i = 0; i < 250; i++) {
		snprintf(key, sizeof(key), "d/%03d", i);
		assert_int_equal(wbk_value(k, key), 0);
		assert_string_equal(wbk_shown(k, key), "v");
	}
	assert_int_equal(atomic_load(&k->remote.requests) - before, 3);
	/* Of another directory, and next for who reads all. */
	assert_string_equal(wbk_shown(k, "e"), "v");
}

static void test_tree(void **state)
{
	struct wbk *k = *state;
	char key[16];

	for (int i = 0; i < 120; i++) {
		snprintf(key, sizeof(key), "d/%03d", i);
		fake_put(&k->remote, key, "v");
	}
	k->remote.page_size = 50;
	assert_int_equal(wbk_tree(k, "d/"), 0);
	assert_int_equal(atomic_load(&k->remote.requests), 1 + 1 + 3 + 2); /* create, titles */
	assert_string_equal(wbk_shown(k, "d/119"), "v");
}

/* --- values ------------------------------------------------------------------------------------- */

static void test_values_become_old(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "1");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	fake_put_with(&k->remote, "a", "22", 0, "{\"m\":1}");
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_string_equal(wbk_shown(k, "a"), "1");
	wbk_advance(61);
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_string_equal(wbk_shown(k, "a"), "22");
	assert_string_equal(wbk_metadata(k, "a"), "{\"m\":1}");
	fake_drop(&k->remote, "a");
	wbk_advance(61);
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_string_equal(wbk_shown(k, "a"), "-");
}

/* An older answer that arrives after a newer one says nothing. */
static void get_newer(struct fake *f, const char *op)
{
	struct wbk *k = (struct wbk *)(void *)((char *)f - offsetof(struct wbk, remote));

	if (strcmp(op, "list") != 0)
		return;
	f->after = NULL;
	fake_thaw(f);
	wbk_advance(1);
	assert_int_equal(wb_fetch_page(k->wb, k->ns, "new", 3, NULL), 0);
	assert_int_equal(wbk_value(k, "new"), 0);
	assert_string_equal(wbk_shown(k, "new"), "1");
}

static void test_answers_that_cross(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "0");
	fake_freeze(&k->remote);
	fake_put(&k->remote, "new", "1");
	k->remote.after = get_newer;
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_shown(k, "new"), "1");
}

static void test_own_changes_win(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "old");
	fake_put(&k->remote, "gone", "old");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	fake_freeze(&k->remote);
	wbk_put_with(k, "a", "mine", 0, "{\"m\":1}");
	wbk_put(k, "new", "mine");
	wbk_remove(k, "gone");
	wbk_upload(k);
	assert_string_equal(wbk_state(k, "a"), "synced");
	assert_string_equal(fake_value(&k->remote, "a"), "mine");
	for (int i = 0; i < 3; i++) { /* the remote store still says what was */
		wbk_advance(i ? 58 : 1);
		assert_int_equal(wbk_list(k, ""), 0);
		assert_int_equal(wbk_value(k, "a"), 0);
		assert_string_equal(wbk_keys(k), "a new");
		assert_string_equal(wbk_shown(k, "a"), "mine");
		assert_string_equal(wbk_metadata(k, "a"), "{\"m\":1}");
	}
	wbk_advance(61); /* that has been enough */
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "a gone");
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_string_equal(wbk_shown(k, "a"), "old");
}

/* A change of the metadata alone: the value says nothing about whether an answer is old. */
static void test_own_attributes_win(void **state)
{
	struct wbk *k = *state;

	fake_put_with(&k->remote, "a", "v", 0, "{\"old\":1}");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	fake_freeze(&k->remote);
	wbk_set(k, "a", 0, "{\"new\":1}");
	wbk_upload(k);
	assert_string_equal(fake_find(&k->remote, "a")->metadata, "{\"new\":1}");
	struct entry_id id = wbk_key(k, "a");
	assert_int_equal(wb_fetch_values(k->wb, k->ns, &id), 0);
	assert_string_equal(wbk_metadata(k, "a"), "{\"new\":1}");
	k->remote.raw = true; /* and where it is not told, it is not known to be new */
	assert_int_equal(wb_fetch_values(k->wb, k->ns, &id), 0);
	wbk_advance(61);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_metadata(k, "a"), "{\"new\":1}");
}

/* --- nobody answers ----------------------------------------------------------------------------- */

static void test_offline(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "1");
	fake_put(&k->remote, "b", "1");
	assert_int_equal(wbk_list(k, ""), 0);
	struct entry_id id = wbk_key(k, "a");
	struct remote_name name = {id.bytes, id.len};
	assert_int_equal(wb_fetch_exactly(k->wb, k->ns, &name, 1, false), 0);
	wbk_advance(61);
	k->remote.fail = -ETIMEDOUT;
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_string_equal(wbk_shown(k, "a"), "1");
	assert_int_equal(wbk_value(k, "b"), -ETIMEDOUT);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_name(k, "none", "none/"), 0); /* it was known not to be there */
	k->remote.fail = 0;
	assert_int_equal(wbk_value(k, "b"), 0);
	assert_string_equal(wbk_shown(k, "b"), "1");
}

/* A listing that never came to its end is not shown as if it had. */
static void test_offline_in_a_listing(void **state)
{
	struct wbk *k = *state;
	struct want want;

	k->remote.page_size = 2;
	for (const char *c = "d/a\0d/b\0d/c\0"; *c; c += 4)
		fake_put(&k->remote, c, "v");
	assert_int_equal(wbk_list_from(k, "d/", "", &want), 0);
	assert_int_equal(wbk_value(k, "d/a"), 0);
	k->remote.fail = -ETIMEDOUT;
	assert_int_equal(wbk_list_from(k, "d/", "d/b", &want), -ETIMEDOUT);
	assert_int_equal(wbk_tree(k, "d/"), -ETIMEDOUT);
}

static void test_longest_prefix(void **state)
{
	struct wbk *k = *state;
	char key[STORE_KEY_MAX + 2];

	memset(key, 'k', sizeof(key));
	key[STORE_KEY_MAX] = '/';
	key[STORE_KEY_MAX + 1] = '\0';
	struct want want = {.kind = WANT_LIST,
		.ns = k->ns->keys,
		.prefix = (const unsigned char *)key,
		.prefix_len = STORE_PREFIX_MAX};
	assert_int_equal(k->st->ops->prepare(k->st, &want), 0);
	assert_true(want.complete);
	want.kind = WANT_NAME;
	assert_int_equal(k->st->ops->prepare(k->st, &want), 0);
	want.key = want.prefix;
	want.key_len = STORE_KEY_MAX;
	assert_int_equal(k->st->ops->prepare(k->st, &want), 0);
	want.kind = WANT_TREE;
	assert_int_equal(k->st->ops->prepare(k->st, &want), 0);
}

static void test_refresh(void **state)
{
	struct wbk *k = *state;
	struct want want;

	for (const char *c = "d/a\0d/b\0d/c\0"; *c; c += 4)
		fake_put(&k->remote, c, "1");
	k->remote.page_size = 2;
	assert_int_equal(wbk_list_from(k, "d/", "", &want), 0);
	assert_int_equal(wbk_value(k, "d/a"), 0);
	fake_put(&k->remote, "d/a", "2");
	fake_put(&k->remote, "d/aa", "2");
	struct entry_id below = {.ns = k->ns->keys,
		.kind = ENTRY_DIR,
		.len = 2,
		.bytes = (const unsigned char *)"d/"};
	assert_int_equal(k->st->ops->control(k->st, CONTROL_REFRESH, &below), 0);
	assert_int_equal(wbk_value(k, "d/a"), 0);
	assert_string_equal(wbk_shown(k, "d/a"), "2");
	assert_int_equal(wbk_name(k, "d/aa", ""), 0);
	assert_int_equal(wbk_value(k, "d/aa"), 0);
	assert_string_equal(wbk_shown(k, "d/aa"), "2");
}

/* --- namespaces --------------------------------------------------------------------------------- */

static void test_namespaces(void **state)
{
	struct wbk *k = *state;
	char name[64];
	size_t len;
	uint32_t a, b;

	assert_int_equal(k->st->ops->ns_create(k->st, "other", 5, NULL, &a), 0);
	assert_int_equal(k->st->ops->ns_find(k->st, "other", 5, &b), 0);
	assert_int_equal(a, b);
	asked(k);
	struct want want = {.kind = WANT_LIST, .ns = a};
	assert_int_equal(k->st->ops->prepare(k->st, &want), 0);
	assert_string_equal(asked(k), ""); /* it is new, so there is nothing in it */
	assert_int_equal(k->st->ops->ns_rename(k->st, a, "third", 5, clock_now()), 0);
	assert_int_equal(k->st->ops->ns_find(k->st, "other", 5, &b), -ENOENT);
	assert_int_equal(k->st->ops->ns_next(k->st, "main", 4, name, sizeof(name), &len), 0);
	assert_memory_equal(name, "third", 5);
	assert_int_equal(k->st->ops->ns_remove(k->st, a, clock_now()), 0);
	assert_int_equal(k->st->ops->ns_find(k->st, "third", 5, &b), -ENOENT);
	wbk_put(k, "a", "1");
	assert_int_equal(k->st->ops->ns_remove(k->st, k->ns->keys, clock_now()), -ENOTEMPTY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_journal_entry),
		wbk_test(test_name_by_its_directory),
		wbk_test(test_name_in_a_large_directory),
		wbk_test(test_prefixes_end_at_separators),
		wbk_test(test_listing_in_pages),
		wbk_test(test_listing_changes),
		wbk_test(test_disorder_is_refused),
		wbk_test(test_read_ahead),
		wbk_test(test_tree),
		wbk_test(test_values_become_old),
		wbk_test(test_answers_that_cross),
		wbk_test(test_own_changes_win),
		wbk_test(test_own_attributes_win),
		wbk_test(test_offline),
		wbk_test(test_offline_in_a_listing),
		wbk_test(test_longest_prefix),
		wbk_test(test_refresh),
		wbk_test(test_namespaces),
	};

	return wbk_run("write-back cache", tests, sizeof(tests) / sizeof(tests[0]));
}
