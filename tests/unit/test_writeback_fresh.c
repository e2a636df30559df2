/*
 * test_writeback_fresh.c - how old what is known may be, and whose word counts.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

static const char *asked(struct wbk *k)
{
	return fake_log(&k->remote);
}

static int get_exactly(struct wbk *k, const char *key)
{
	struct remote_name name = {(const unsigned char *)key, strlen(key)};

	return wb_fetch_exactly(k->wb, k->ns, &name, 1, false);
}

/* Getting a value and listing it may be answered by different servers, one of which is behind. */
static void test_removed_here_and_still_listed(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "gone", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	fake_freeze(&k->remote);
	wbk_remove(k, "gone");
	wbk_upload(k);
	fake_thaw(&k->remote);
	assert_int_equal(get_exactly(k, "gone"), 0);
	assert_string_equal(wbk_keys(k), "");
	k->remote.stale = true;
	wbk_advance(61);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "");
	wbk_advance(61); /* that has been enough */
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "gone");
}

static void test_made_here_and_not_listed(void **state)
{
	struct wbk *k = *state;

	fake_freeze(&k->remote);
	wbk_put(k, "new", "v");
	wbk_upload(k);
	fake_thaw(&k->remote);
	assert_int_equal(get_exactly(k, "new"), 0);
	k->remote.stale = true;
	wbk_advance(61);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "new");
	/* What getting says counts again, since it has returned what was written. */
	fake_thaw(&k->remote);
	fake_put(&k->remote, "new", "other");
	assert_int_equal(wbk_value(k, "new"), 0);
	assert_string_equal(wbk_shown(k, "new"), "other");
}

static void fill(struct wbk *k, const char *prefix, int n)
{
	char key[32];

	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%s%02d", prefix, i);
		fake_put(&k->remote, key, "v");
	}
}

/* What a listing says is as old as the page that said it. */
static void test_a_listing_that_takes_long(void **state)
{
	struct wbk *k = *state;
	struct want want = {0};
	char from[STORE_KEY_MAX + 1] = "";

	k->remote.page_size = 2;
	fill(k, "d/", 20);
	for (int page = 0; page < 10; page++) { /* one page in 10 s */
		assert_int_equal(wbk_list_from(k, "d/", from, &want), 0);
		memcpy(from, want.upto, want.upto_len);
		from[want.upto_len] = '\0';
		int64_t now = clock_now();
		bool ended = page == 9;
		assert_int_equal(want.complete, ended);
		assert_int_equal(wb_covers(k->wb, k->ns, "d/00", 4, false, now), page < 6);
		if (page >= 1 && !ended)
			assert_true(wb_covers(k->wb, k->ns, "d/02", 4, false, now) == (page < 7));
		if (!ended)
			assert_true(wb_covers(k->wb, k->ns, from, strlen(from), false, now));
		assert_true(wb_covers(k->wb, k->ns, "d/00", 4, false, NOW_NEVER));
		wbk_advance(10);
	}
	asked(k);
	assert_false(wb_covers(k->wb, k->ns, "d/", 2, true, clock_now()));
	assert_true(wb_was_whole(k->wb, k->ns, "d/", 2));
}

/* A listing of more that is at a directory goes on where the directory's own would begin. */
static void test_a_listing_within_another(void **state)
{
	struct wbk *k = *state;

	k->remote.page_size = 10;
	fill(k, "a", 4);
	fill(k, "d/", 25);
	fill(k, "e", 25);
	struct want want;
	assert_int_equal(wbk_list_from(k, "", "", &want), 0);
	assert_int_equal(wbk_list(k, "d/"), 0);
	assert_string_equal(asked(k), "list ; more ; more ");
	assert_int_equal(wbk_name(k, "d/none", "d/none/"), 0);
	assert_int_equal(wbk_list(k, "d/"), 0);
	assert_string_equal(asked(k), "");
	wbk_reopen(k);
	asked(k);
	assert_int_equal(wbk_list(k, "d/"), 0); /* it is known for good */
	assert_string_equal(asked(k), "");
	wbk_advance(61);
	assert_int_equal(wbk_list(k, "d/"), 0);
	assert_string_equal(asked(k), "list d/; more d/; more d/");
}

/* --- names -------------------------------------------------------------------------------------- */

static void test_names_with_numbers(void **state)
{
	struct wbk *k = *state;

	fill(k, "d/k", 20);
	fake_put(&k->remote, "d/other", "v");
	assert_int_equal(wbk_name(k, "d/k05", "d/k05/"), 0);
	assert_string_equal(asked(k), "list d/k");
	assert_int_equal(wbk_name(k, "d/k19", "d/k19/"), 0);
	assert_int_equal(wbk_name(k, "d/k77", "d/k77/"), 0);
	assert_int_equal(wbk_name(k, "d/k7/none", "d/k7/none/"), 0);
	assert_string_equal(asked(k), "");
	assert_true(wb_covers(k->wb, k->ns, "d/k7/", 5, true, clock_now()));
	assert_false(wb_covers(k->wb, k->ns, "d/other", 7, false, clock_now()));
	struct entry_id one = wbk_key(k, "d/k05");
	assert_int_equal(k->st->ops->control(k->st, CONTROL_REFRESH, &one), 0);
	assert_false(wb_covers(k->wb, k->ns, "d/k05", 5, false, clock_now()));
	assert_int_equal(wb_stem(k->wb, "a1", 2), 1);
	assert_int_equal(wb_stem(k->wb, "1a", 2), 0);
	assert_int_equal(wb_stem(k->wb, "07", 2), 0);
	assert_int_equal(wb_stem(k->wb, "ab/1", 4), 0);
	assert_int_equal(wb_stem(k->wb, "", 0), 0);
}

/* --- reading ahead ------------------------------------------------------------------------------ */

/* A value that is no text takes a request of its own, which only what is asked for is worth, and what
 * is being read in order. */
static void test_binary_values_ahead(void **state)
{
	struct wbk *k = *state;
	char key[8];

	k->remote.page_size = 60;
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "b%02d", i);
		fake_put(&k->remote, key, "\xff");
	}
	fake_put(&k->remote, "b07", "text");
	assert_int_equal(wbk_list(k, ""), 0);
	asked(k);
	assert_int_equal(wbk_value(k, "b05"), 0);
	assert_int_equal(k->remote.raws, 1);
	asked(k);
	assert_int_equal(wbk_value(k, "b20"), 0);
	assert_string_equal(asked(k), "get b20"); /* it is known to be none */
	assert_int_equal(wbk_value(k, "b07"), 0); /* has come along */
	assert_string_equal(asked(k), "");
	assert_int_equal(wbk_value(k, "b21"), 0);
	assert_string_equal(asked(k), "get b21 b22");
	assert_int_equal(wbk_value(k, "b22"), 0);
	assert_int_equal(wbk_value(k, "b23"), 0);
	assert_string_equal(asked(k), "get b23 b24 b25 b26");
	assert_int_equal(wbk_value(k, "b35"), 0);
	assert_string_equal(asked(k), "get b35");
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "b%02d", i);
		assert_int_equal(wbk_value(k, key), 0);
		assert_string_equal(wbk_shown(k, key), i == 7 ? "text" : "\xff");
	}
	assert_int_equal(k->remote.raws, 39);
}

/* What was no text may become one, and the other way round. */
static void test_what_is_binary_changes(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "\xff");
	fake_put(&k->remote, "b", "text");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	wbk_advance(61);
	fake_put(&k->remote, "a", "text");
	fake_put(&k->remote, "b", "\xff");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_int_equal(wbk_value(k, "b"), 0);
	assert_string_equal(wbk_shown(k, "a"), "text");
	assert_string_equal(wbk_shown(k, "b"), "\xff");
	wbk_advance(61);
	assert_int_equal(wbk_list(k, ""), 0);
	asked(k);
	unsigned raws = k->remote.raws;
	assert_int_equal(wbk_value(k, "a"), 0);
	assert_int_equal(k->remote.raws, raws);
	assert_int_equal(wbk_value(k, "b"), 0);
	assert_int_equal(k->remote.raws, raws + 1);
}

/* Who goes through a tree of small folders gets what follows them too. */
static void test_small_folders(void **state)
{
	struct wbk *k = *state;
	char key[16];

	for (int i = 0; i < 30; i++) {
		snprintf(key, sizeof(key), "g/%02d/k", i);
		fake_put(&k->remote, key, "v");
	}
	assert_int_equal(wbk_list(k, "g/"), 0);
	assert_int_equal(wbk_list(k, "g/10/"), 0);
	asked(k);
	assert_int_equal(wbk_value(k, "g/20/k"), 0);
	assert_string_equal(asked(k), "get g/20/k");
	assert_int_equal(wbk_value(k, "g/10/k"), 0);
	assert_int_equal(wbk_value(k, "g/29/k"), 0);
	assert_string_equal(wbk_shown(k, "g/29/k"), "v");
	assert_true(strstr(asked(k), "; ") == NULL);
}

/* --- making room -------------------------------------------------------------------------------- */

enum { VALUE = 65000 };

static void fill_large(struct wbk *k, int n)
{
	static char value[VALUE + 1];
	char key[16];

	memset(value, 'v', VALUE);
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "k%03d", i);
		fake_put(&k->remote, key, value);
	}
}

static unsigned cached(struct wbk *k, int n)
{
	unsigned count = 0;
	char key[16];

	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "k%03d", i);
		struct entry_id id = wbk_key(k, key);
		struct wb_entry e;

		assert_int_equal(wb_entry_get(k->wb, &id, &e), 0);
		count += e.info.cached;
		wb_entry_release(&e);
	}
	return count;
}

/* Ten times as much is read as the cache may have; one value is read again and again. */
static void test_cache_size(void **state)
{
	struct wbk *k = *state;
	char key[16], path[128];
	enum { N = 200, ROOM = 20 };

	k->opt.cache_size = ROOM * 65536;
	k->remote.page_size = 60;
	fake_put(&k->remote, "hot", "h");
	wbk_reopen(k);
	wb_evict(k->wb); /* counts */
	wbk_put(k, "own", "not uploaded");
	fill_large(k, N);
	fake_put(&k->remote, "k000-hot", "hot"); /* the first in the order of keys */
	for (int round = 0; round < 2; round++) {
		assert_int_equal(wbk_list(k, ""), 0);
		for (int i = 0; i < N; i++) {
			snprintf(key, sizeof(key), "k%03d", i);
			struct remote_name name = {(const unsigned char *)key, strlen(key)};
			assert_int_equal(wb_fetch_exactly(k->wb, k->ns, &name, 1, false), 0);
			assert_int_equal(wbk_value(k, key), 0);
			assert_int_equal(strlen(wbk_shown(k, key)) > 2000, 1);
			assert_int_equal(wbk_value(k, "k000-hot"), 0);
			assert_string_equal(wbk_shown(k, "k000-hot"), "hot");
			wb_evict(k->wb);
			assert_true(cached(k, N) <= ROOM);
			if (i % 5 == 0) /* so that it does not depend on the disk */
				assert_int_equal(k->local->ops->sync(k->local, UINT64_MAX), 0);
		}
		assert_true(cached(k, N) >= ROOM / 2);
		asked(k);
	}
	assert_int_equal(wbk_value(k, "k000-hot"), 0);
	assert_string_equal(asked(k), "");
	assert_string_equal(wbk_shown(k, "own"), "not uploaded");
	/* The values that have gone leave room for those that come, once nobody's snapshot has them: the
	 * watch holds one for as long as it takes to look. Two times N values were written. */
	struct stat st;
	assert_int_equal(k->local->ops->sync(k->local, UINT64_MAX), 0);
	snprintf(path, sizeof(path), "%s/data.mdb", k->folder);
	assert_int_equal(stat(path, &st), 0);
	print_message("the local store has %lld bytes\n", (long long)st.st_size);
	assert_true(st.st_size < 8 * ROOM * 65536);
}

/* What was got ahead does not make what is asked for go. */
static void test_larger_than_the_cache(void **state)
{
	struct wbk *k = *state;

	k->opt.cache_size = 2 * 65536;
	wbk_reopen(k);
	wb_evict(k->wb);
	fill_large(k, 40);
	k->remote.page_size = 60;
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "k000"), 0);
	assert_true(strlen(wbk_shown(k, "k000")) > 2);
	assert_true(cached(k, 40) <= 2);
	/* While nobody answers, what is here is all that there is. */
	k->remote.fail = -ETIMEDOUT;
	assert_int_equal(wbk_value(k, "k039"), -ETIMEDOUT);
	k->wb->opt.cache_size = 1;
	wb_evict(k->wb);
	assert_true(strlen(wbk_shown(k, "k000")) > 2);
}

static void test_a_tree_that_is_moved(void **state)
{
	struct wbk *k = *state;
	char key[16];

	k->opt.cache_size = 1000;
	wbk_reopen(k);
	wb_evict(k->wb);
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "d/%02d", i);
		fake_put(&k->remote, key, "a value of some forty bytes, more or less");
	}
	assert_int_equal(wbk_tree(k, "d/"), 0);
	wb_evict(k->wb);
	struct entry_id from = {k->ns->keys, ENTRY_DIR, 2, (const unsigned char *)"d/"}, to = from;
	to.bytes = (const unsigned char *)"e/";
	assert_int_equal(k->st->ops->move_tree(k->st, &from, &to, false, clock_now()), 0);
	wbk_upload(k);
	assert_string_equal(
		fake_value(&k->remote, "e/49"), "a value of some forty bytes, more or less");
}

/* --- what is uploaded ------------------------------------------------------------------------- */

static struct wbk *reading; /* whose local store is read next */
static int (*read_value)(struct store *, const struct entry_id *, int64_t, struct value *);

/* Somebody changes the key between the two looks at it, if that can be. */
static int change_and_read(
	struct store *st, const struct entry_id *id, int64_t now, struct value *out)
{
	struct wbk *k = reading;

	if (k && id->ns == k->ns->keys && lock_try(&k->wb->book)) {
		lock_drop(&k->wb->book);
		reading = NULL;
		wbk_put_with(k, "a", "second", 0, "{\"n\":2}");
	}
	return read_value(st, id, now, out);
}

static void test_value_and_attributes_belong_together(void **state)
{
	struct wbk *k = *state;

	wbk_put_with(k, "a", "first", 0, "{\"n\":1}");
	wbk_advance(2);
	read_value = k->keeping.read;
	k->keeping.read = change_and_read;
	reading = k;
	wbk_pass(k);
	reading = NULL;
	const struct fake_item *i = fake_find(&k->remote, "a");
	assert_non_null(i);
	assert_string_equal(i->metadata, strcmp(i->value, "first") ? "{\"n\":2}" : "{\"n\":1}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		wbk_test(test_removed_here_and_still_listed),
		wbk_test(test_made_here_and_not_listed),
		wbk_test(test_a_listing_that_takes_long),
		wbk_test(test_a_listing_within_another),
		wbk_test(test_names_with_numbers),
		wbk_test(test_binary_values_ahead),
		wbk_test(test_what_is_binary_changes),
		wbk_test(test_small_folders),
		wbk_test_durable(test_cache_size),
		wbk_test(test_larger_than_the_cache),
		wbk_test(test_a_tree_that_is_moved),
		wbk_test(test_value_and_attributes_belong_together),
	};

	return wbk_run("write-back cache: freshness", tests, sizeof(tests) / sizeof(tests[0]));
}
