/*
 * suite_threads.c - many threads at once: a view is one moment, a group is seen whole.
 *
 * cmocka's assertions jump, which only its own thread may; the others count what they find wrong.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

enum { APPLIERS = 4, SCANNERS = 2, ROUNDS = 400, VIEWS = 600 };

/* Applier i writes, in each group: the number of the round into the records of "i/x" and "i/y",
 * values of as many bytes, and a key "i/n/ROUND" in the place of the round before. */
struct crew {
	struct kit *k;
	_Atomic bool applying; /* a change is about to be applied */
	_Atomic int wrong;
	_Atomic int seen; /* comparisons made, numbers taken */
};

struct worker {
	struct crew *crew;
	int number;
	pthread_t thread;
};

static void expect(struct crew *crew, bool right)
{
	if (!right)
		atomic_fetch_add(&crew->wrong, 1);
}

static void applier_round(struct worker *w, uint64_t round)
{
	struct kit *k = w->crew->k;
	char x[16], y[16], now[32], before[32];
	unsigned char bytes[ROUNDS];
	struct record rec = {.mode = 0100644, .ino = round};
	struct blob *b;

	snprintf(x, sizeof(x), "%d/x", w->number);
	snprintf(y, sizeof(y), "%d/y", w->number);
	snprintf(now, sizeof(now), "%d/n/%d", w->number, (int)round);
	snprintf(before, sizeof(before), "%d/n/%d", w->number, (int)round - 1);
	memset(bytes, (int)round, sizeof(bytes));
	expect(w->crew, k->st->ops->throttle(k->st, round) == 0);
	if (blob_new_copy(k->st->blobs, bytes, (size_t)round, &b)) {
		expect(w->crew, false);
		return;
	}
	struct change group[] = {
		{.op = CHANGE_PUT, .id = kit_key(k, x), .rec = &rec, .value = b},
		{.op = CHANGE_REMOVE, .id = kit_key(k, before)},
		{.op = CHANGE_PUT, .id = kit_key(k, now), .rec = &rec, .value = b},
		{.op = CHANGE_PUT, .id = kit_key(k, y), .rec = &rec, .value = b},
	};
	uint64_t seq = 0;
	expect(w->crew, k->st->ops->apply(k->st, group, 4, &seq) == 0);
	blob_unref(b);
	if (round % 100 == (uint64_t)w->number)
		expect(w->crew, k->st->ops->sync(k->st, seq) == 0);
}

static void *applier(void *arg)
{
	struct worker *w = arg;

	for (uint64_t round = 2; round < ROUNDS; round++)
		applier_round(w, round);
	return NULL;
}

/* Whether x, y and the one key of the round agree in this view. */
static void compare_one(struct crew *crew, struct view *v, struct scan *s, int number)
{
	struct kit *k = crew->k;
	char x[16], y[16], prefix[16], name[32];
	struct entry ex, ey, en;
	struct entry_id found, id;
	int rx, ry;

	snprintf(x, sizeof(x), "%d/x", number);
	snprintf(y, sizeof(y), "%d/y", number);
	id = kit_key(k, x);
	rx = k->st->ops->view_get(v, &id, &ex);
	id = kit_key(k, y);
	ry = k->st->ops->view_get(v, &id, &ey);
	expect(crew, rx == ry);
	if (rx || ry)
		return;
	expect(crew, ex.rec.ino == ey.rec.ino && ex.size == ey.size && ex.size == ex.rec.ino);
	snprintf(name, sizeof(name), "%d/n/%d", number, (int)ex.rec.ino);
	snprintf(prefix, sizeof(prefix), "%d/n/", number);
	expect(crew,
		k->st->ops->scan_seek(s, prefix, strlen(prefix), &found) == 0 &&
			found.len == strlen(name) && memcmp(found.bytes, name, found.len) == 0);
	id = kit_key(k, name);
	expect(crew, k->st->ops->view_get(v, &id, &en) == 0 && en.rec.ino == ex.rec.ino);
	/* Nothing else is between it and x. */
	expect(crew,
		k->st->ops->scan_seek(s, name, strlen(name) + 1, &found) == 0 &&
			found.len == strlen(x) && memcmp(found.bytes, x, found.len) == 0);
	atomic_fetch_add(&crew->seen, 1);
}

/* A value is of one round, whichever. */
static void read_one(struct crew *crew, int number)
{
	struct kit *k = crew->k;
	unsigned char bytes[ROUNDS];
	struct entry_id id;
	struct value v;
	char x[16];

	snprintf(x, sizeof(x), "%d/x", number);
	id = kit_key(k, x);
	if (k->st->ops->read(k->st, &id, NOW, &v))
		return;
	expect(crew, value_read(&v, 0, bytes, sizeof(bytes)) == (int64_t)v.len);
	for (uint64_t i = 0; i < v.len; i++)
		expect(crew, bytes[i] == (unsigned char)v.len);
	value_release(&v);
}

static void *scanner(void *arg)
{
	struct worker *w = arg;
	struct kit *k = w->crew->k;

	for (int i = 0; i < VIEWS; i++) {
		struct view *v;
		struct scan *s;

		if (k->st->ops->view_begin(k->st, NOW, &v)) {
			expect(w->crew, false);
			break;
		}
		if (k->st->ops->scan_open(v, k->ns, ENTRY_KEY, &s)) {
			expect(w->crew, false);
		} else {
			for (int n = 0; n < APPLIERS; n++)
				compare_one(w->crew, v, s, n);
			k->st->ops->scan_close(s);
		}
		k->st->ops->view_end(v);
		read_one(w->crew, i % APPLIERS);
		sched_yield();
	}
	return NULL;
}

static void test_groups_are_seen_whole(void **state)
{
	struct crew crew = {.k = *state};
	struct worker workers[APPLIERS + SCANNERS];

	for (int i = 0; i < APPLIERS + SCANNERS; i++) {
		workers[i] = (struct worker){.crew = &crew, .number = i};
		if (i < APPLIERS)
			applier_round(&workers[i], 1);
	}
	for (int i = 0; i < APPLIERS + SCANNERS; i++) {
		struct worker *w = &workers[i];

		assert_int_equal(
			pthread_create(&w->thread, NULL, i < APPLIERS ? applier : scanner, w), 0);
	}
	for (int i = 0; i < APPLIERS + SCANNERS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	assert_int_equal(atomic_load(&crew.wrong), 0);
	assert_true(atomic_load(&crew.seen) > 0);
	kit_sync(crew.k);
	kit_expect_list(crew.k, ENTRY_KEY, NOW,
		"0/n/399 0/x 0/y 1/n/399 1/x 1/y 2/n/399 2/x 2/y 3/n/399 3/x 3/y");
}

static void *apply_one(void *arg)
{
	struct crew *crew = arg;
	struct change c = {.op = CHANGE_PUT, .id = kit_key(crew->k, "a")};

	if (blob_new_copy(crew->k->st->blobs, "new", 3, &c.value)) {
		expect(crew, false);
		return NULL;
	}
	atomic_store(&crew->applying, true);
	expect(crew, kit_apply(crew->k, &c, 1) == 0);
	blob_unref(c.value);
	return NULL;
}

/* The holder of a view may read, even while a writer waits for the view to end. */
static void test_read_within_a_view(void **state)
{
	struct kit *k = *state;
	struct crew crew = {.k = k};
	struct entry_id id = kit_key(k, "a");
	struct view *v;
	pthread_t thread;
	struct value value;
	struct entry e;

	kit_put(k, id, NULL, "old value");
	kit_sync(k);
	v = kit_view(k, NOW);
	assert_int_equal(pthread_create(&thread, NULL, apply_one, &crew), 0);
	while (!atomic_load(&crew.applying))
		sched_yield();
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(k->st->ops->read(k->st, &id, NOW, &value), 0);
		assert_int_equal(value.len, 9);
		value_release(&value);
		assert_int_equal(k->st->ops->view_get(v, &id, &e), 0);
		assert_int_equal(e.size, 9);
		sched_yield();
	}
	kit_view_end(k, v);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&crew.wrong), 0);
	kit_expect_value(k, id, "new");
}

static void *take_numbers(void *arg)
{
	struct worker *w = arg;
	uint64_t last = 0;

	for (int i = 0; i < 2000; i++) {
		uint64_t ino = w->crew->k->st->ops->new_ino(w->crew->k->st);

		expect(w->crew, ino > last);
		last = ino;
		atomic_fetch_add(&w->crew->seen, 1);
	}
	return NULL;
}

static void test_new_ino_in_threads(void **state)
{
	struct crew crew = {.k = *state};
	struct worker workers[2];
	uint64_t first = crew.k->st->ops->new_ino(crew.k->st), last;

	for (int i = 0; i < 2; i++) {
		workers[i] = (struct worker){.crew = &crew, .number = i};
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, take_numbers, &workers[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	last = crew.k->st->ops->new_ino(crew.k->st);
	assert_int_equal(atomic_load(&crew.wrong), 0);
	/* None was given twice, or the last would be too small. */
	assert_true(last - first >= (uint64_t)atomic_load(&crew.seen));
}

SUITE_PART(threads, cmocka_unit_test(test_groups_are_seen_whole),
	cmocka_unit_test(test_read_within_a_view), cmocka_unit_test(test_new_ino_in_threads));
