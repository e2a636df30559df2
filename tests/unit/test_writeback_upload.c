/*
 * test_writeback_upload.c - what is taken to the remote store, when, and what becomes of it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

static const char *asked(struct wbk *k)
{
	return fake_log(&k->remote);
}

static void test_one_put_for_many_changes(void **state)
{
	struct wbk *k = *state;

	wbk_put(k, "a", "1");
	wbk_advance(0.9);
	wbk_put(k, "a", "2");
	wbk_advance(0.9);
	wbk_pass(k);
	assert_string_equal(asked(k), "");
	wbk_put(k, "b.swp", "never");
	wbk_put(k, "temporary", "1");
	wbk_remove(k, "temporary");
	wbk_advance(0.2);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
	assert_string_equal(fake_value(&k->remote, "a"), "2");
	assert_string_equal(wbk_state(k, "a"), "synced");
}

static void test_put_and_remove_in_one_group(void **state)
{
	struct wbk *k = *state;
	struct record rec = {.mode = 0100644, .ino = 7};
	struct change group[] = {
		{.op = CHANGE_PUT, .id = wbk_key(k, "a"), .rec = &rec},
		{.op = CHANGE_REMOVE, .id = wbk_key(k, "a")},
		{.op = CHANGE_PUT, .id = wbk_key(k, "b"), .rec = &rec},
	};
	struct journal j;

	assert_int_equal(blob_new_copy(k->st->blobs, "v", 1, &group[0].value), 0);
	group[2].value = group[0].value;
	assert_int_equal(k->st->ops->apply(k->st, group, 3, NULL), 0);
	blob_unref(group[0].value);
	assert_false(wbk_journal(k, "a", &j));
	wbk_upload(k);
	assert_string_equal(asked(k), "put b");
}

static void put_newer(struct fake *f, const char *op)
{
	struct wbk *k = (struct wbk *)(void *)((char *)f - offsetof(struct wbk, remote));

	if (strcmp(op, "put") != 0)
		return;
	f->before = NULL;
	wbk_put(k, "a", "newer");
	wbk_remove(k, "b");
}

static void test_changed_meanwhile(void **state)
{
	struct wbk *k = *state;

	wbk_put(k, "a", "1");
	wbk_put(k, "b", "1");
	wbk_advance(2);
	k->remote.before = put_newer;
	wbk_pass(k);
	assert_string_equal(fake_value(&k->remote, "a"), "1");
	assert_string_equal(wbk_state(k, "a"), "pending");
	wbk_upload(k);
	assert_string_equal(asked(k), "put a b; put a; remove b");
	assert_string_equal(fake_value(&k->remote, "a"), "newer");
	assert_null(fake_find(&k->remote, "b"));
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

static void test_failures(void **state)
{
	struct wbk *k = *state;
	struct journal j;

	wbk_put(k, "a", "1");
	wbk_put(k, "b", "1");
	k->remote.refused = "a";
	k->remote.refusal = -EFBIG;
	wbk_upload(k);
	assert_string_equal(wbk_state(k, "a"), journal_reason(-EFBIG));
	assert_string_equal(wbk_state(k, "b"), "synced");
	wbk_put(k, "a", "2"); /* another try */
	assert_string_equal(wbk_state(k, "a"), "pending");
	k->remote.refusal = -EAGAIN;
	wbk_upload(k);
	assert_true(wbk_journal(k, "a", &j));
	assert_int_equal(j.tries, 1);
	k->remote.refused = NULL;
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "a"), "2");
}

static void test_restart(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "old", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	wbk_put(k, "a", "1");
	wbk_remove(k, "old");
	wbk_reopen(k);
	assert_int_equal(atomic_load(&k->wb->pending), 2);
	asked(k);
	wbk_upload(k);
	assert_string_equal(asked(k), "put a; remove old");
	assert_string_equal(wbk_shown(k, "a"), "1");
}

static void test_the_clock_goes_back(void **state)
{
	struct wbk *k = *state;

	wbk_put(k, "a", "1");
	wbk_advance(-100000);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
}

static void test_expired_before_its_turn(void **state)
{
	struct wbk *k = *state;

	wbk_put_with(k, "a", "1", 1000000001, NULL);
	asked(k);
	wbk_upload(k);
	assert_string_equal(asked(k), ""); /* it was never there */
	assert_null(fake_find(&k->remote, "a"));
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* Attributes of a value that is not here, and is not there any more. */
static void test_attributes_of_what_has_gone(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a", "v");
	fake_put(&k->remote, "b", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	wbk_set(k, "a", 0, "{}");
	wbk_set(k, "b", 0, "{}");
	fake_drop(&k->remote, "a");
	asked(k);
	wbk_upload(k);
	assert_string_equal(asked(k), "get a; get b; put b");
	assert_string_equal(fake_find(&k->remote, "b")->metadata, "{}");
	assert_string_equal(wbk_keys(k), "b");
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

static void test_conflicts(void **state)
{
	struct wbk *k = *state;
	char key[STORE_KEY_MAX + 1];

	memset(key, 'z', STORE_KEY_MAX); /* there is no room for ".conflict" */
	key[STORE_KEY_MAX] = '\0';
	k->opt.keep_conflicts = true;
	wbk_reopen(k);
	fake_put(&k->remote, "a", "base");
	fake_put(&k->remote, key, "base");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a"), 0);
	wbk_put(k, "a", "mine");
	wbk_put(k, key, "mine");
	wbk_put(k, "b", "mine");
	fake_put(&k->remote, "a", "theirs");
	fake_put(&k->remote, key, "theirs");
	k->remote.refused = "a"; /* get fails, so it is not known whether there is one */
	k->remote.refusal = -EAGAIN;
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "a"), "theirs");
	assert_string_equal(fake_value(&k->remote, "b"), "mine");
	assert_string_equal(fake_value(&k->remote, key), "theirs"); /* not overwritten */
	k->remote.refused = NULL;
	wbk_upload(k);
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "a"), "mine");
	const struct fake_item *kept = NULL;
	size_t n = 0;
	for (size_t i = 0; i < k->remote.now.n; i++) {
		if (strstr(k->remote.now.list[i].key, ".conflict-")) {
			kept = &k->remote.now.list[i];
			n++;
		}
	}
	assert_int_equal(n, 1);
	assert_string_equal(kept->value, "theirs");
}

static bool always(void *arg, const struct entry_id *id)
{
	return true;
}

/* fsync waits for the upload of a file that its caller has open. */
static void test_sync_of_what_is_open(void **state)
{
	struct wbk *k = *state;

	k->opt.sync_remote = true;
	wbk_reopen(k);
	k->st->is_written = always;
	wbk_watch(k);
	wbk_put(k, "a", "1");
	struct entry_id id = wbk_key(k, "a");
	assert_int_equal(k->st->ops->sync_entry(k->st, &id, NULL), 0);
	assert_string_equal(fake_value(&k->remote, "a"), "1");
	k->st->ops->watch(k->st, NULL, NULL);
}

static int control(struct wbk *k, enum control what, enum entry_kind kind, const char *bytes)
{
	struct entry_id id = wbk_key(k, bytes);

	id.kind = kind;
	return k->st->ops->control(k->st, what, &id);
}

static int control_all(struct wbk *k, enum control what)
{
	struct entry_id all = {.kind = ENTRY_DIR, .bytes = (const void *)""};

	return k->st->ops->control(k->st, what, &all);
}

static void put_many(struct wbk *k, char letter, int from, int n)
{
	char key[32];

	for (int i = from; i < from + n; i++) {
		snprintf(key, sizeof(key), "%c%05d", letter, i);
		wbk_put(k, key, "v");
	}
}

/* --- what failed ---------------------------------------------------------------------------------- */

/* Of many, one is not carried out: it alone is sent again, later and later. */
static void test_one_of_many(void **state)
{
	struct wbk *k = *state;
	struct journal j;

	put_many(k, 'k', 0, 50);
	k->remote.refused = "k00007";
	k->remote.refusal = -EAGAIN;
	wbk_upload(k);
	assert_int_equal(atomic_load(&k->wb->pending), 1);
	assert_string_equal(wbk_state(k, "k00007"), "pending");
	asked(k);
	for (int wait = 1; wait < 200; wait *= 2) {
		assert_true(wbk_journal(k, "k00007", &j));
		assert_in_range(j.not_before - clock_now(), 0, 60LL * CLOCK_SECOND);
		wbk_advance((double)(j.not_before - clock_now()) / CLOCK_SECOND + 0.001);
		wbk_pass(k);
		assert_string_equal(asked(k), "put k00007");
	}
	k->remote.refused = NULL;
	wbk_advance(61);
	wbk_pass(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

static void fail_all(struct wbk *k)
{
	static const char *const keys[] = {"a", "d/a", "d/b", "d", "e/a"};

	for (size_t i = 0; i < 5; i++) {
		wbk_put(k, keys[i], "mine");
		k->remote.refused = keys[i];
		k->remote.refusal = -EFBIG;
		wbk_upload(k);
		assert_string_equal(wbk_state(k, keys[i]), journal_reason(-EFBIG));
	}
	k->remote.refused = NULL;
	asked(k);
	assert_int_equal(atomic_load(&k->wb->failed), 5);
}

static void test_retry(void **state)
{
	struct wbk *k = *state;

	assert_int_equal(control_all(k, CONTROL_RETRY), 0); /* there is nothing */
	fail_all(k);
	wbk_upload(k);
	assert_string_equal(asked(k), ""); /* not by itself */
	assert_int_equal(control(k, CONTROL_RETRY, ENTRY_KEY, "d"), 0);
	wbk_advance(2);
	wbk_pass(k);
	assert_string_equal(asked(k), "put d");
	assert_int_equal(control(k, CONTROL_RETRY, ENTRY_KEY, "none"), 0);
	wbk_pass(k);
	assert_string_equal(asked(k), "");
	assert_int_equal(control(k, CONTROL_RETRY, ENTRY_DIR, "d/"), 0);
	wbk_pass(k);
	assert_string_equal(asked(k), "put d/a d/b");
	assert_int_equal(atomic_load(&k->wb->failed), 2);
	assert_int_equal(control_all(k, CONTROL_RETRY), 0);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a e/a");
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

static void test_drop(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "d/a", "theirs");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(control_all(k, CONTROL_DROP), 0);
	fail_all(k);
	wbk_put(k, "good", "1");
	assert_int_equal(control(k, CONTROL_DROP, ENTRY_KEY, "good"), 0); /* it has not failed */
	assert_string_equal(wbk_shown(k, "good"), "1");
	assert_int_equal(control(k, CONTROL_DROP, ENTRY_KEY, "d"), 0);
	assert_string_equal(wbk_shown(k, "d"), "-");
	assert_string_equal(wbk_shown(k, "d/b"), "mine");
	assert_int_equal(control(k, CONTROL_DROP, ENTRY_DIR, "d/"), 0);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "d/a"), 0);
	assert_string_equal(wbk_shown(k, "d/a"), "theirs");
	assert_string_equal(wbk_shown(k, "d/b"), "-");
	assert_int_equal(atomic_load(&k->wb->failed), 2);
	assert_int_equal(control_all(k, CONTROL_DROP), 0);
	assert_int_equal(atomic_load(&k->wb->failed), 0);
	assert_int_equal(atomic_load(&k->wb->pending), 1);
	wbk_upload(k);
	assert_int_equal(k->remote.now.n, 2);
}

/* The removal of what has a new name goes after the value, whatever happens. */
static void test_renamed(void **state)
{
	struct wbk *k = *state;
	struct record rec = {.mode = 0100644, .ino = 7};
	struct change group[] = {
		{.op = CHANGE_PUT, .id = wbk_key(k, "new"), .rec = &rec},
		{.op = CHANGE_REMOVE, .id = wbk_key(k, "old")},
	};

	fake_put(&k->remote, "old", "v");
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(blob_new_copy(k->st->blobs, "v", 1, &group[0].value), 0);
	assert_int_equal(k->st->ops->apply(k->st, group, 2, NULL), 0);
	blob_unref(group[0].value);
	k->remote.refused = "new";
	k->remote.refusal = -EAGAIN;
	asked(k);
	wbk_upload(k);
	wbk_pass(k);
	assert_string_equal(fake_value(&k->remote, "old"), "v");
	k->remote.refused = NULL;
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "new"), "v");
	assert_null(fake_find(&k->remote, "old"));
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* The end of the mount is no failure. */
static void test_cancelled(void **state)
{
	struct wbk *k = *state;
	struct journal j;

	wbk_put(k, "a", "1");
	k->remote.fail = -ECANCELED;
	wbk_upload(k);
	assert_true(wbk_journal(k, "a", &j));
	assert_int_equal(j.tries, 0);
	assert_int_equal(j.error, 0);
	assert_true(j.remote_has); /* it may be there */
	k->remote.fail = 0;
	wbk_reopen(k);
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "a"), "1");
}

/* An expiration that has come too near on its way is put off there; here it is not. */
static void test_expiration_comes_too_near(void **state)
{
	struct wbk *k = *state;
	int64_t now = clock_now() / CLOCK_SECOND;

	k->remote.base.ttl_min = 60;
	wbk_put_with(k, "a", "1", now + 61, NULL);
	wbk_upload(k);
	assert_string_equal(wbk_state(k, "a"), "synced");
	assert_in_range(fake_find(&k->remote, "a")->expiration, now + 62, now + 63);
	assert_int_equal(wbk_expiration(k, "a"), now + 61);
	wbk_advance(59.5); /* here it has expired, and there it has not */
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "");
	wbk_remove(k, "a"); /* as the sweep does */
	wb_uncover(k->wb, k->ns, "", 0);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "");
	wbk_advance(200);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_string_equal(wbk_keys(k), "");
}

/* It arrives too late even so, again and again: that is not its fault. */
static void test_expiration_too_near_on_arrival(void **state)
{
	struct wbk *k = *state;
	int64_t now = clock_now() / CLOCK_SECOND;

	k->remote.base.ttl_min = 60;
	k->remote.refused = "a";
	k->remote.refusal = -EINVAL;
	wbk_put_with(k, "a", "1", now + 61, NULL);
	wbk_put_with(k, "b", "1", now + 1000, NULL);
	for (int i = 0; i < 4; i++) {
		wbk_upload(k);
		assert_string_equal(wbk_state(k, "a"), "pending");
		wbk_advance(1 << i);
	}
	k->remote.refused = NULL;
	wbk_upload(k);
	now = clock_now() / CLOCK_SECOND;
	assert_string_equal(wbk_state(k, "a"), "synced");
	assert_in_range(fake_find(&k->remote, "a")->expiration, now + 60 + 15, now + 60 + 17);
	/* What is refused for another reason is. */
	k->remote.refused = "b";
	wbk_put_with(k, "b", "2", now + 1000, NULL);
	wbk_upload(k);
	assert_string_not_equal(wbk_state(k, "b"), "pending");
}

/* Offline for so long that it has expired meanwhile; what was there before goes. */
static void test_expired_while_offline(void **state)
{
	struct wbk *k = *state;
	int64_t now = clock_now() / CLOCK_SECOND;

	fake_put(&k->remote, "b", "old");
	assert_int_equal(wbk_list(k, ""), 0);
	k->remote.fail = -ETIMEDOUT;
	wbk_put_with(k, "a", "1", now + 100, NULL);
	wbk_put_with(k, "b", "1", now + 100, NULL);
	wbk_upload(k);
	wbk_advance(200);
	k->remote.fail = 0;
	wbk_upload(k);
	wbk_upload(k);
	assert_int_equal(k->remote.now.n, 0);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* The sweep has seen a key that has expired, and others have given it more time since. */
static void test_given_more_time_before_the_sweep(void **state)
{
	struct wbk *k = *state;
	struct change sweep = {.op = CHANGE_REMOVE, .id = wbk_key(k, "a"), .if_expired = true};
	int64_t now = clock_now() / CLOCK_SECOND;

	fake_put_with(&k->remote, "a", "theirs", now + 100, NULL);
	assert_int_equal(wbk_list(k, ""), 0);
	fake_put_with(&k->remote, "a", "theirs", now + 1000, NULL);
	wbk_advance(101);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(k->st->ops->apply(k->st, &sweep, 1, NULL), -EAGAIN);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
	wbk_upload(k);
	assert_string_equal(wbk_keys(k), "a");
	assert_int_equal(k->remote.now.n, 1);
	wbk_advance(1000);
	assert_int_equal(k->st->ops->apply(k->st, &sweep, 1, NULL), 0);
	assert_int_equal(atomic_load(&k->wb->pending), 0); /* there it expires by itself */
}

/* The option says which names are local, not when a key was made. */
static void test_names_become_local(void **state)
{
	struct wbk *k = *state;

	fake_put(&k->remote, "a.tmp", "theirs");
	assert_int_equal(wbk_list(k, ""), 0);
	wbk_put(k, "a.tmp", "mine");
	wbk_put(k, "b.tmp", "mine");
	wbk_put(k, "c.swp", "mine");
	k->opt.local_globs = "*.tmp";
	wbk_reopen(k);
	asked(k);
	wbk_upload(k);
	assert_string_equal(asked(k), "");
	assert_int_equal(atomic_load(&k->wb->pending), 0);
	assert_string_equal(fake_value(&k->remote, "a.tmp"), "theirs");
	wbk_advance(200);
	assert_int_equal(wbk_list(k, ""), 0);
	assert_int_equal(wbk_value(k, "a.tmp"), 0);
	assert_string_equal(wbk_shown(k, "a.tmp"), "mine");
	assert_string_equal(wbk_shown(k, "b.tmp"), "mine");
	wbk_put(k, "c.swp", "mine again");
	wbk_upload(k);
	assert_string_equal(fake_value(&k->remote, "c.swp"), "mine again");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		wbk_test(test_one_put_for_many_changes),
		wbk_test(test_put_and_remove_in_one_group),
		wbk_test(test_changed_meanwhile),
		wbk_test(test_failures),
		wbk_test(test_restart),
		wbk_test_durable(test_restart),
		wbk_test(test_the_clock_goes_back),
		wbk_test(test_expired_before_its_turn),
		wbk_test(test_attributes_of_what_has_gone),
		wbk_test(test_conflicts),
		wbk_test(test_sync_of_what_is_open),
		wbk_test(test_one_of_many),
		wbk_test(test_retry),
		wbk_test(test_drop),
		wbk_test(test_renamed),
		wbk_test(test_cancelled),
		wbk_test(test_expiration_comes_too_near),
		wbk_test(test_expiration_too_near_on_arrival),
		wbk_test(test_expired_while_offline),
		wbk_test(test_given_more_time_before_the_sweep),
		wbk_test(test_names_become_local),
	};

	return wbk_run("write-back uploads", tests, sizeof(tests) / sizeof(tests[0]));
}
