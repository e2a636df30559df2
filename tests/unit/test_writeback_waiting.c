/*
 * test_writeback_waiting.c - fsync that waits for uploads (-o fsync=remote): for what it waits, for
 * what it does not, and what it says.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

static int setup_waiting(void **state)
{
	struct wbk *k;
	int rc = wbk_setup(state);

	k = *state;
	k->opt.sync_remote = true;
	wbk_reopen(k);
	return rc;
}

#define waiting_test(f) cmocka_unit_test_setup_teardown(f, setup_waiting, wbk_teardown)

/* One who waits, in a thread of his own. */
struct caller {
	struct wbk *k;
	const char *key; /* NULL: everything */
	pthread_t thread;
	atomic_int done, rc;
	atomic_bool gives_up;
};

static bool has_given_up(void *arg)
{
	return atomic_load((atomic_bool *)arg);
}

static void *call(void *arg)
{
	struct caller *c = arg;
	struct entry_id id = wbk_key(c->k, c->key ? c->key : "");
	struct given_up g = {has_given_up, &c->gives_up};

	atomic_store(&c->rc, c->k->st->ops->sync_entry(c->k->st, c->key ? &id : NULL, &g));
	atomic_store(&c->done, 1);
	return NULL;
}

static void caller_start(struct caller *c, struct wbk *k, const char *key)
{
	*c = (struct caller){.k = k, .key = key};
	assert_int_equal(pthread_create(&c->thread, NULL, call, c), 0);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* What it came to; within a minute, or the test fails. */
static int caller_end(struct caller *c)
{
	for (int i = 0; i < 6000 && !atomic_load(&c->done); i++)
		pause_ms(10);
	if (!atomic_load(&c->done))
		fail_msg("it still waits");
	pthread_join(c->thread, NULL);
	return atomic_load(&c->rc);
}

/* Whether it waits: it has been given the time to come to an end. */
static bool caller_waits(struct caller *c)
{
	pause_ms(300);
	return !atomic_load(&c->done);
}

/* Somebody waits for "a", which the remote store does not take for now. */
static void start_waiting(struct wbk *k, struct caller *c)
{
	k->remote.fail = -EAGAIN;
	wbk_watch(k);
	wbk_put(k, "a", "1");
	caller_start(c, k, "a");
	assert_true(caller_waits(c));
}

static int sync_key(struct wbk *k, const char *key)
{
	struct caller c;

	caller_start(&c, k, key);
	return caller_end(&c);
}

static void test_only_the_own_failure(void **state)
{
	struct wbk *k = *state;

	k->remote.refused = "bad";
	k->remote.refusal = -EFBIG;
	wbk_watch(k);
	wbk_put(k, "bad", "1");
	wbk_put(k, "good", "1");
	assert_int_equal(sync_key(k, "bad"), -EIO);
	assert_int_equal(sync_key(k, "good"), 0);
	assert_string_equal(fake_value(&k->remote, "good"), "1");
	assert_int_equal(sync_key(k, "nothing"), 0);
	assert_int_equal(sync_key(k, NULL), -EIO); /* it is not all there */
	assert_int_equal(sync_key(k, "bad"), -EIO); /* nor is this one, still */
}

/* Others' changes are not waited for, nor hurried. */
static void test_only_the_own_changes(void **state)
{
	struct wbk *k = *state;

	fake_log(&k->remote);
	wbk_watch(k);
	wbk_put(k, "other", "1");
	wbk_put(k, "own", "1");
	assert_int_equal(sync_key(k, "own"), 0);
	assert_string_equal(fake_value(&k->remote, "own"), "1");
	assert_string_equal(wbk_state(k, "other"), "pending");
	assert_string_equal(fake_log(&k->remote), "put own");
}

static atomic_int blocked, let_go;

static void block_put(struct fake *f, const char *op)
{
	if (strcmp(op, "put") != 0)
		return;
	atomic_store(&blocked, 1);
	for (int i = 0; i < 6000 && !atomic_load(&let_go); i++)
		pause_ms(10);
}

static void wait_until_blocked(void)
{
	for (int i = 0; i < 1000 && !atomic_load(&blocked); i++)
		pause_ms(10);
	assert_true(atomic_load(&blocked));
}

/* A key that is changed again and again: what counts is what it was when the caller asked. */
static void test_a_later_change_is_not_waited_for(void **state)
{
	struct wbk *k = *state;
	struct caller key, all;

	atomic_store(&blocked, 0);
	atomic_store(&let_go, 0);
	k->remote.before = block_put;
	wbk_watch(k);
	wbk_put(k, "a", "1");
	caller_start(&key, k, "a");
	wait_until_blocked();
	caller_start(&all, k, NULL);
	assert_true(caller_waits(&key) && caller_waits(&all));
	wbk_put(k, "a", "2");
	wbk_put(k, "b", "2");
	atomic_store(&let_go, 1);
	assert_int_equal(caller_end(&key), 0);
	assert_int_equal(caller_end(&all), 0);
	assert_string_equal(fake_value(&k->remote, "a"), "1");
	assert_string_equal(wbk_state(k, "a"), "pending");
	assert_string_equal(wbk_state(k, "b"), "pending");
}

/* What has been changed since counts for what was before. */
static void test_a_newer_value_will_do(void **state)
{
	struct wbk *k = *state;
	struct caller c;

	start_waiting(k, &c);
	wbk_put(k, "a", "2");
	assert_true(caller_waits(&c));
	k->remote.fail = 0;
	wbk_advance(100);
	assert_int_equal(caller_end(&c), 0);
	assert_string_equal(fake_value(&k->remote, "a"), "2");
}

static void test_what_is_waited_out(void **state)
{
	struct wbk *k = *state;
	struct caller c;

	wbk_watch(k);
	k->remote.fail = -EAGAIN; /* 429 */
	wbk_put(k, "a", "1");
	caller_start(&c, k, "a");
	for (int i = 0; i < 3; i++) {
		wbk_advance(100);
		assert_true(caller_waits(&c));
	}
	k->remote.fail = 0;
	wbk_advance(100);
	assert_int_equal(caller_end(&c), 0);
}

static void test_what_is_not_waited_out(void **state)
{
	static const int errors[] = {-ETIMEDOUT, -EACCES, -EDQUOT, -EIO};
	struct wbk *k = *state;

	wbk_watch(k);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		k->remote.fail = errors[i];
		wbk_advance(10);
		wbk_put(k, "a", "1");
		assert_int_equal(sync_key(k, "a"), errors[i]);
		wbk_advance(1.1); /* one write a second */
		assert_int_equal(sync_key(k, NULL), errors[i]);
		assert_string_equal(wbk_state(k, "a"), "pending");
	}
	/* Each asks again: it does not wait for the next regular try. */
	k->remote.fail = 0;
	wbk_advance(1.1);
	assert_int_equal(sync_key(k, "a"), 0);
}

static void test_giving_up(void **state)
{
	struct wbk *k = *state;
	struct caller key, all;

	k->remote.fail = -EAGAIN;
	wbk_watch(k);
	wbk_put(k, "a", "1");
	caller_start(&key, k, "a");
	caller_start(&all, k, NULL);
	assert_true(caller_waits(&key) && caller_waits(&all));
	atomic_store(&key.gives_up, true);
	assert_int_equal(caller_end(&key), -EINTR);
	assert_false(atomic_load(&all.done));
	atomic_store(&all.gives_up, true);
	assert_int_equal(caller_end(&all), -EINTR);
}

/* The mount ends, or its uploader never began. */
static void test_in_vain(void **state)
{
	struct wbk *k = *state;
	struct caller c;

	wbk_put(k, "a", "1");
	assert_int_equal(sync_key(k, "a"), -EIO);
	assert_int_equal(sync_key(k, NULL), -EIO);
	k->remote.fail = -EAGAIN;
	wbk_watch(k);
	caller_start(&c, k, "a");
	assert_true(caller_waits(&c));
	k->st->ops->watch(k->st, NULL, NULL);
	assert_int_equal(caller_end(&c), -EIO);
	assert_string_equal(wbk_state(k, "a"), "pending");
}

static bool always(void *arg, const struct entry_id *id)
{
	return true;
}

/* Whoever has a file open waits for what he has published of it; what others have open stays. */
static void test_what_is_open(void **state)
{
	struct wbk *k = *state;

	k->st->is_written = always;
	wbk_watch(k);
	wbk_put(k, "a", "1");
	wbk_put(k, "b", "1");
	wbk_advance(5);
	assert_int_equal(sync_key(k, "a"), 0);
	assert_string_equal(fake_value(&k->remote, "a"), "1");
	assert_null(fake_find(&k->remote, "b"));
	k->st->ops->watch(k->st, NULL, NULL);
	wbk_close(k);
}

/* It is removed, or given up, while somebody waits. */
static void test_what_is_gone(void **state)
{
	struct wbk *k = *state;
	struct caller c;

	start_waiting(k, &c);
	wbk_remove(k, "a");
	k->remote.fail = 0;
	wbk_advance(100);
	assert_int_equal(caller_end(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(test_only_the_own_failure),
		waiting_test(test_only_the_own_changes),
		waiting_test(test_a_later_change_is_not_waited_for),
		waiting_test(test_a_newer_value_will_do),
		waiting_test(test_what_is_waited_out),
		waiting_test(test_what_is_not_waited_out),
		waiting_test(test_giving_up),
		waiting_test(test_in_vain),
		waiting_test(test_what_is_open),
		waiting_test(test_what_is_gone),
	};

	return wbk_run("write-back waiting", tests, sizeof(tests) / sizeof(tests[0]));
}
