/* The pacer against a model of the server's quota, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backends/cloudflare/pacer.h"
#include "backends/cloudflare/retry.h"

static const int64_t SECOND = INT64_C(1000000000);

enum { QUOTA = 1200, WINDOW_S = 300, FLIGHTS = 64 };

/* The server: a window begins with the first request after the last one. */
struct server {
	int64_t end;
	int used, refused, quota;
};

static void server_count(struct server *s, int64_t now, int64_t *remaining, int64_t *reset)
{
	if (now >= s->end) {
		s->end = now + WINDOW_S * SECOND;
		s->used = 0;
	}
	if (s->used == s->quota)
		s->refused++;
	else
		s->used++;
	*remaining = s->quota - s->used;
	*reset = (s->end - now) / SECOND;
}

/* A request on its way: counted at one time, answered at another. */
struct flight {
	int64_t started, counted_at, answered_at, remaining, reset;
	bool counted, lost;
};

struct world {
	struct pacer pacer;
	struct server server;
	struct flight flights[FLIGHTS];
	int n;
	int64_t now;
	unsigned seed;
	unsigned slowest; /* milliseconds, of each way */
};

static unsigned draw(struct world *w, unsigned below)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 16) % below;
}

static void take_off(struct world *w)
{
	struct flight *f = w->flights + w->n++;

	f->started = w->now;
	f->counted_at = w->now + draw(w, w->slowest) * (SECOND / 1000);
	f->answered_at = f->counted_at + draw(w, w->slowest) * (SECOND / 1000);
	f->counted = false;
	f->lost = draw(w, 100) == 0;
}

/* Lets time go on to `until`, in the order of what happens. */
static void advance(struct world *w, int64_t until)
{
	for (;;) {
		struct flight *next = NULL;
		int64_t when = until;

		for (struct flight *f = w->flights; f < w->flights + w->n; f++) {
			int64_t at = f->counted ? f->answered_at : f->counted_at;

			if (at <= when) {
				when = at;
				next = f;
			}
		}
		w->now = when;
		if (!next)
			return;
		if (!next->counted) {
			server_count(&w->server, when, &next->remaining, &next->reset);
			next->counted = true;
			continue;
		}
		pacer_done(&w->pacer, when, next->started, !next->lost,
			next->lost ? -1 : next->remaining, next->lost ? -1 : next->reset,
			next->lost ? -1 : w->server.quota);
		*next = w->flights[--w->n];
	}
}

static void init_world(struct world *w, int quota, unsigned seed)
{
	*w = (struct world){.now = 5 * SECOND, .seed = seed, .slowest = 400, .server.quota = quota};
	pacer_init(&w->pacer);
}

/* Starts `total` requests as fast as is allowed; how long it took, in seconds. */
static int64_t drive(struct world *w, int total, enum client_priority prio)
{
	int64_t began = w->now;

	for (int left = total; left > 0;) {
		int64_t at = w->n < FLIGHTS ? pacer_start(&w->pacer, w->now, prio) : INT64_MAX;

		if (at == 0) {
			take_off(w);
			left--;
			continue;
		}
		assert_true(at > w->now);
		assert_true(at < INT64_MAX || w->n > 0);
		int64_t soon = w->now + SECOND / 20;
		advance(w, at < soon ? at : w->n ? soon : at);
	}
	advance(w, w->now + 10 * SECOND);
	return (w->now - began) / SECOND;
}

static void test_never_refused(void **state)
{
	for (unsigned seed = 1; seed <= 8; seed++) {
		for (int prio = 0; prio < PACER_PRIORITIES; prio++) {
			struct world w;

			init_world(&w, QUOTA, seed);
			int64_t took = drive(&w, 5000, (enum client_priority)prio);
			assert_int_equal(w.server.refused, 0);
			/* And not much slower than the quota allows: 4 whole windows and a bit. */
			assert_in_range(took, 4 * WINDOW_S, 6 * WINDOW_S);
		}
	}
}

/* Answers that take a quarter of a minute are not those of a new window. */
static void test_slow_answers(void **state)
{
	for (unsigned seed = 1; seed <= 8; seed++) {
		for (int prio = 0; prio < PACER_PRIORITIES; prio++) {
			struct world w;

			init_world(&w, QUOTA, seed);
			w.slowest = 8000;
			drive(&w, 5000, (enum client_priority)prio);
			assert_int_equal(w.server.refused, 0);
		}
	}
}

static void test_small_quotas(void **state)
{
	for (int quota = 1; quota <= 40; quota++) {
		struct world w;

		init_world(&w, quota, (unsigned)quota);
		/* The first few go out before the quota is known. */
		w.server.end = w.now + WINDOW_S * SECOND;
		if (quota < 8)
			pacer_done((w.pacer.under_way++, &w.pacer), w.now, w.now, true, quota,
				WINDOW_S, quota);
		drive(&w, 3 * quota, CLIENT_INTERACTIVE);
		assert_int_equal(w.server.refused, 0);
	}
}

static void test_others_use_the_token_too(void **state)
{
	struct world w;
	int64_t remaining, reset;

	init_world(&w, QUOTA, 3);
	for (int i = 0; i < 30; i++) {
		drive(&w, 50, CLIENT_BACKGROUND);
		for (int j = 0; j < 10; j++)
			server_count(&w.server, w.now, &remaining, &reset);
	}
	assert_int_equal(w.server.refused, 0);
}

static void test_background_leaves_a_reserve(void **state)
{
	struct world w;

	init_world(&w, QUOTA, 4);
	while (w.now < 250 * SECOND) {
		while (w.n < FLIGHTS && pacer_start(&w.pacer, w.now, CLIENT_BACKGROUND) == 0)
			take_off(&w);
		advance(&w, w.now + SECOND / 10);
		assert_true(w.server.used <= QUOTA - QUOTA / 10);
	}
	assert_true(w.server.used > QUOTA / 2);
	/* Somebody at a prompt gets answers at once. */
	for (int i = 0; i < 50; i++) {
		assert_int_equal(pacer_start(&w.pacer, w.now, CLIENT_INTERACTIVE), 0);
		take_off(&w);
		advance(&w, w.now + SECOND);
	}
	assert_int_equal(w.server.refused, 0);
}

static void test_interactive_goes_first(void **state)
{
	struct pacer p;

	pacer_init(&p);
	assert_int_equal(pacer_start(&p, 10, CLIENT_BACKGROUND), 0);
	pacer_wait_begin(&p, CLIENT_INTERACTIVE);
	assert_true(pacer_start(&p, 11, CLIENT_BACKGROUND) == INT64_MAX);
	assert_int_equal(pacer_start(&p, 12, CLIENT_INTERACTIVE), 0);
	pacer_wait_end(&p, CLIENT_INTERACTIVE);
	assert_int_equal(pacer_start(&p, 13, CLIENT_BACKGROUND), 0);
}

static void test_blocked(void **state)
{
	struct pacer p;

	pacer_init(&p);
	pacer_block(&p, 100);
	pacer_block(&p, 50);
	assert_int_equal(pacer_start(&p, 99, CLIENT_INTERACTIVE), 100);
	assert_int_equal(pacer_start(&p, 99, CLIENT_BACKGROUND), 100);
	assert_int_equal(pacer_start(&p, 100, CLIENT_INTERACTIVE), 0);
}

static void test_no_quota(void **state)
{
	struct pacer p;

	pacer_init(&p);
	int started = 0;
	while (pacer_start(&p, 1, CLIENT_INTERACTIVE) == 0)
		assert_true(++started < 100);
	assert_int_equal(started, 8);
	pacer_done(&p, 2, 1, true, -1, -1, -1);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(pacer_start(&p, 3, CLIENT_BACKGROUND), 0);
	assert_int_equal(pacer_left(&p, 3), -1);
}

static void test_answers_overtake_each_other(void **state)
{
	struct pacer p;

	pacer_init(&p);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pacer_start(&p, SECOND, CLIENT_INTERACTIVE), 0);
	pacer_done(&p, 2 * SECOND, SECOND, true, 90, 200, 100);
	assert_int_equal(pacer_left(&p, 2 * SECOND), 87);
	pacer_done(&p, 2 * SECOND, SECOND, true, 92, 200, 100);
	assert_int_equal(pacer_left(&p, 2 * SECOND), 88);
	/* A window later, an answer from the one before. */
	pacer_done(&p, 203 * SECOND, 202 * SECOND, true, 99, 299, 100);
	assert_int_equal(pacer_left(&p, 203 * SECOND), 98);
	pacer_done(&p, 203 * SECOND, SECOND, true, 0, 0, 100);
	assert_int_equal(pacer_left(&p, 203 * SECOND), 99);
}

/* An old answer that comes late does not give back what has been used since. */
static void test_late_answers(void **state)
{
	struct pacer p;

	pacer_init(&p);
	for (int i = 0; i < 5; i++)
		assert_int_equal(pacer_start(&p, SECOND, CLIENT_INTERACTIVE), 0);
	pacer_done(&p, 2 * SECOND, SECOND, true, 50, 200, 100);
	pacer_done(&p, 60 * SECOND, SECOND, true, 90, 199, 100);
	assert_int_equal(pacer_left(&p, 60 * SECOND), 47);
	assert_true(p.reset_at <= 203 * SECOND);
	/* The next window may begin a little before this one is known to be over. */
	pacer_done(&p, 202 * SECOND + 2, 202 * SECOND + 1, true, 99, 299, 100);
	assert_int_equal(pacer_left(&p, 203 * SECOND), 97);
	/* What was sent in this window and answered in the next. */
	pacer_done(&p, 260 * SECOND, SECOND, true, 1, 5, 100);
	assert_int_equal(pacer_left(&p, 260 * SECOND), 98);
}

static void test_retry_delay(void **state)
{
	static const int64_t half[] = {1, 1, 2, 4, 8, 16, 16, 16};

	for (unsigned attempt = 0; attempt < 8; attempt++) {
		int64_t whole = half[attempt] * SECOND / 2;

		assert_true(retry_delay(attempt, 0) == whole);
		assert_true(retry_delay(attempt, UINT32_MAX) == whole - whole / 4);
	}
	assert_true(retry_delay(4000000000u, 0) == 8 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_refused),
		cmocka_unit_test(test_slow_answers),
		cmocka_unit_test(test_small_quotas),
		cmocka_unit_test(test_others_use_the_token_too),
		cmocka_unit_test(test_background_leaves_a_reserve),
		cmocka_unit_test(test_interactive_goes_first),
		cmocka_unit_test(test_blocked),
		cmocka_unit_test(test_no_quota),
		cmocka_unit_test(test_answers_overtake_each_other),
		cmocka_unit_test(test_late_answers),
		cmocka_unit_test(test_retry_delay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
