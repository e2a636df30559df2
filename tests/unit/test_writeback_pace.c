/*
 * test_writeback_pace.c - when changes go to the remote store, with how many requests, and how many
 * are said to wait.
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

static int control_all(struct wbk *k, enum control what)
{
	struct entry_id all = {.kind = ENTRY_DIR, .bytes = (const void *)""};

	return k->st->ops->control(k->st, what, &all);
}

/* Who asks for uploads asks for what has been changed until then. */
static void test_only_what_was_asked_for_hurries(void **state)
{
	struct wbk *k = *state;

	k->remote.fail = -EAGAIN;
	wbk_put(k, "a", "1");
	assert_int_equal(control_all(k, CONTROL_UPLOAD), 0);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
	k->remote.fail = 0;
	wbk_put(k, "b", "1");
	wbk_put(k, "a", "2"); /* what was asked for is still to be uploaded */
	wbk_pass(k);
	assert_string_equal(asked(k), ""); /* not more than one write a second */
	wbk_advance(1);
	wbk_put(k, "b", "2");
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
	wbk_put(k, "a", "3");
	wbk_pass(k);
	assert_string_equal(asked(k), "");
	wbk_advance(1);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a b");
}

static void test_one_write_a_second(void **state)
{
	struct wbk *k = *state;

	k->opt.upload_delay = 0;
	wbk_reopen(k);
	asked(k);
	wbk_put(k, "a", "1");
	wbk_pass(k);
	wbk_remove(k, "a");
	wbk_pass(k);
	wbk_put(k, "b", "1");
	wbk_pass(k);
	assert_string_equal(asked(k), "put a; put b");
	wbk_advance(1);
	wbk_pass(k);
	assert_string_equal(asked(k), "remove a");
	wbk_put(k, "a", "2");
	wbk_pass(k);
	assert_int_equal(control_all(k, CONTROL_UPLOAD), 0);
	wbk_pass(k);
	assert_string_equal(asked(k), "");
	wbk_advance(1);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
}

/* While the uploader looks whether somebody has it open, somebody changes it. */
static bool changes_it(void *arg, const struct entry_id *id)
{
	struct wbk *k = arg;

	(void)id;
	k->st->is_written = NULL;
	wbk_set(k, "a", 0, "{\"n\":1}");
	return false;
}

/* What is changed between the collecting and the loading is sent once, with its own turn. */
static void test_changed_while_it_is_loaded(void **state)
{
	struct wbk *k = *state;

	wbk_put(k, "a", "1");
	wbk_advance(1);
	k->st->is_written_arg = k;
	k->st->is_written = changes_it;
	wbk_pass(k);
	assert_string_equal(asked(k), "");
	wbk_advance(1);
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
	assert_string_equal(fake_find(&k->remote, "a")->metadata, "{\"n\":1}");
	wbk_upload(k);
	assert_string_equal(asked(k), "");
	/* Or at once, where somebody waits for it. */
	wbk_put(k, "a", "2");
	assert_int_equal(control_all(k, CONTROL_UPLOAD), 0);
	k->st->is_written = changes_it;
	wbk_pass(k);
	assert_string_equal(asked(k), "put a");
	wbk_upload(k);
	assert_string_equal(asked(k), "");
}

static void put_many(struct wbk *k, char letter, int from, int n)
{
	char key[32];

	for (int i = from; i < from + n; i++) {
		snprintf(key, sizeof(key), "%c%05d", letter, i);
		wbk_put(k, key, "v");
	}
}

/* Since the last call. */
static size_t requests(struct wbk *k)
{
	asked(k);
	return (size_t)atomic_exchange(&k->remote.requests, 0);
}

/* One key after the other is changed: they go together, thirty seconds later at the latest. */
static void test_a_stream(void **state)
{
	struct wbk *k = *state;
	int seconds = 0;

	requests(k);

	for (int i = 0; i < 29; i++) {
		put_many(k, 'k', 40 * i, 40);
		wbk_advance(0.5);
		put_many(k, 'l', 40 * i, 40);
		wbk_advance(0.5);
		wbk_pass(k);
		size_t n = requests(k);
		assert_true(n <= (i < 2)); /* the first of them did not know */
	}
	for (; seconds < 10 && !requests(k); seconds++) {
		put_many(k, 'm', 80 * seconds, 80);
		wbk_advance(1);
		wbk_pass(k);
	}
	assert_in_range(seconds, 1, 4);
	wbk_advance(1.1); /* its end */
	wbk_pass(k);
	wbk_pass(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* What is changed again and again does not hold the others, nor is anything held for whoever waits. */
static void test_what_is_no_stream(void **state)
{
	struct wbk *k = *state;

	put_many(k, 'k', 0, 100);
	wbk_advance(0.9);
	wbk_put(k, "hot", "1");
	wbk_advance(0.2);
	wbk_pass(k);
	assert_int_equal(atomic_load(&k->wb->pending), 1);
	wbk_upload(k);
	put_many(k, 'l', 0, 100);
	wbk_advance(0.9);
	put_many(k, 'm', 0, 20);
	wbk_advance(0.2);
	wbk_pass(k);
	assert_int_equal(atomic_load(&k->wb->pending), 120);
	assert_int_equal(control_all(k, CONTROL_UPLOAD), 0);
	wbk_pass(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* A few changes a second, for long: a request each would use the quota up. */
static void test_a_trickle(void **state)
{
	struct wbk *k = *state;
	size_t n = 0;

	requests(k);
	for (int i = 0; i < 600; i++) {
		put_many(k, 'k', i, 1);
		wbk_advance(0.1);
		wbk_pass(k);
		n += requests(k);
	}
	assert_in_range(n, 60, 80);
	wbk_upload(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

static void test_a_request_is_full(void **state)
{
	struct wbk *k = *state;

	requests(k);
	put_many(k, 'k', 0, 10001);
	wbk_advance(1);
	put_many(k, 'l', 0, 100);
	wbk_pass(k);
	assert_int_equal(requests(k), 1);
	assert_int_equal(atomic_load(&k->wb->pending), 101);
	wbk_upload(k);
	assert_int_equal(requests(k), 1);
	assert_int_equal(k->remote.now.n, 10101);
	for (int i = 9900; i < 10001; i++) {
		char key[32];

		snprintf(key, sizeof(key), "k%05d", i);
		wbk_remove(k, key);
	}
	wbk_upload(k);
	assert_int_equal(requests(k), 1);
	assert_int_equal(k->remote.now.n, 10000);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* 100 MB in a request at most. */
static void test_large_values(void **state)
{
	enum { SIZE = 20 << 20, N = 12 };
	struct wbk *k = *state;
	char *bytes = calloc(1, SIZE), key[16];
	struct record rec = {.mode = 0100644, .ino = 7};
	uint64_t most = 0;

	assert_non_null(bytes);
	k->st->value_max = SIZE;
	requests(k);
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "k%02d", i);
		struct change put = {.op = CHANGE_PUT, .id = wbk_key(k, key), .rec = &rec};
		assert_int_equal(blob_new_copy(k->st->blobs, bytes, SIZE, &put.value), 0);
		assert_int_equal(k->st->ops->apply(k->st, &put, 1, NULL), 0);
		blob_unref(put.value);
	}
	free(bytes);
	wbk_advance(2);
	for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++) {
		uint64_t before = atomic_load(&k->wb->pending);

		wbk_pass(k);
		before -= atomic_load(&k->wb->pending);
		most = before > most ? before : most;
	}
	assert_int_equal(atomic_load(&k->wb->pending), 0);
	assert_in_range(requests(k), 3, 4);
	assert_true(most * SIZE <= 100000000);
}

/* --- how many ------------------------------------------------------------------------------------ */

static uint64_t counted(struct wbk *k)
{
	struct writeback other = {.local = k->local};

	assert_int_equal(wb_count_journal(&other, k->ns), 0);
	return atomic_load(&other.pending);
}

struct putting {
	struct wbk *k;
	pthread_t thread;
	atomic_int done;
	unsigned missing; /* how often a change was not counted when it had been made */
};

static void *put_and_look(void *arg)
{
	struct putting *p = arg;
	char key[16];

	for (unsigned i = 0; i < 400; i++) {
		snprintf(key, sizeof(key), "k%05u", i);
		wbk_put(p->k, key, "v");
		p->missing += atomic_load(&p->k->wb->pending) < i + 1;
	}
	atomic_store(&p->done, 1);
	return NULL;
}

/* What has been changed is counted, also while a pass looks at the journal. */
static void test_pending_is_never_too_low(void **state)
{
	struct wbk *k = *state;
	struct putting p = {.k = k};

	assert_int_equal(pthread_create(&p.thread, NULL, put_and_look, &p), 0);
	while (!atomic_load(&p.done))
		wbk_pass(k);
	pthread_join(p.thread, NULL);
	assert_int_equal(p.missing, 0);
	assert_int_equal(atomic_load(&k->wb->pending), 400);
}

static void test_pending_is_exact(void **state)
{
	static const char *const keys[] = {"a", "b", "c", "d/e", "x.swp"};
	struct wbk *k = *state;
	unsigned random = 1;

	fake_put(&k->remote, "a", "old");
	assert_int_equal(wbk_list(k, ""), 0);
	k->remote.refusal = -EFBIG;
	for (int i = 0; i < 400; i++) {
		const char *key;

		random = random * 1103515245 + 12345;
		key = keys[(random >> 16) % 5];
		switch ((random >> 20) % 8) {
		case 0:
			k->remote.refused = k->remote.refused ? NULL : "b";
			break;
		case 1:
			k->remote.fail = k->remote.fail ? 0 : -EAGAIN;
			break;
		case 2:
			wbk_remove(k, key);
			break;
		case 3:
			control_all(k, (random >> 24) % 2 ? CONTROL_RETRY : CONTROL_DROP);
			break;
		case 4:
			wbk_upload(k);
			break;
		default:
			wbk_put(k, key, "v");
		}
		assert_int_equal(atomic_load(&k->wb->pending), counted(k));
		assert_true(atomic_load(&k->wb->failed) <= atomic_load(&k->wb->pending));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		wbk_test(test_only_what_was_asked_for_hurries),
		wbk_test(test_one_write_a_second),
		wbk_test(test_changed_while_it_is_loaded),
		wbk_test(test_a_stream),
		wbk_test(test_what_is_no_stream),
		wbk_test(test_a_trickle),
		wbk_test(test_a_request_is_full),
		wbk_test(test_large_values),
		wbk_test(test_pending_is_never_too_low),
		wbk_test(test_pending_is_exact),
	};

	return wbk_run("write-back pace", tests, sizeof(tests) / sizeof(tests[0]));
}
