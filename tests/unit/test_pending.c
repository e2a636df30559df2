/*
 * test_pending.c - the table of pending changes: what readers see, what is collected, what becomes
 * of it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/pending.h"

enum { NS = 1 };

struct kit {
	struct blob_pool *blobs;
	struct pending *p;
	uint64_t seq;
};

static int setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	k->blobs = blob_pool_new("/tmp", 1 << 20, 64 << 20);
	k->p = pending_new();
	assert_true(k->blobs && k->p);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kit *k = *state;

	pending_free(k->p);
	blob_pool_free(k->blobs);
	free(k);
	return 0;
}

static struct entry_id id_of(enum entry_kind kind, const char *bytes)
{
	return (struct entry_id){NS, kind, (uint16_t)strlen(bytes), (const unsigned char *)bytes};
}

static struct entry_id key(const char *bytes)
{
	return id_of(ENTRY_KEY, bytes);
}

/* A PUT of a key; `value` and `ino` as wanted, NULL and 0: as it is. */
static int put(struct kit *k, const char *name, const char *value, uint64_t ino, bool hold)
{
	struct record rec = {.ino = ino};
	struct change c = {
		.op = CHANGE_PUT, .id = key(name), .rec = ino ? &rec : NULL, .hold = hold};

	if (value)
		assert_int_equal(blob_new_copy(k->blobs, value, strlen(value), &c.value), 0);
	int rc = pending_apply(k->p, &c, 1, ++k->seq, 0);
	blob_unref(c.value);
	return rc;
}

static int put_expiring(struct kit *k, const char *name, int64_t at)
{
	struct record rec = {.ino = 1, .expiration = at};
	struct change c = {.op = CHANGE_PUT, .id = key(name), .rec = &rec};

	return pending_apply(k->p, &c, 1, ++k->seq, 0);
}

static void drop(struct kit *k, const char *name)
{
	struct change c = {.op = CHANGE_REMOVE, .id = key(name)};

	assert_int_equal(pending_apply(k->p, &c, 1, ++k->seq, 0), 0);
}

static const struct pending_entry *find(struct kit *k, const char *name)
{
	struct entry_id id = key(name);

	return pending_find(k->p, &id);
}

static void expect_own(const struct pending_state *s, const char *value)
{
	assert_false(s->removed);
	assert_int_equal(s->value_part, PENDING_OWN);
	assert_int_equal(blob_size(s->value), strlen(value));
	assert_memory_equal(blob_data(s->value), value, strlen(value));
}

static struct pending_batch collect(struct kit *k, size_t n)
{
	struct pending_batch b;

	assert_int_equal(pending_collect(k->p, UINT64_MAX, &b), 0);
	assert_int_equal(b.n, n);
	return b;
}

static void test_put_and_commit(void **state)
{
	struct kit *k = *state;

	assert_int_equal(put(k, "a", "one", 7, false), 0);
	expect_own(&find(k, "a")->state, "one");
	assert_int_equal(pending_record(&find(k, "a")->state)->ino, 7);
	struct pending_batch b = collect(k, 1);
	assert_int_equal(b.items[0].what, PENDING_BOTH);
	assert_true(find(k, "a")->in_flight);
	pending_finish(k->p, &b, true);
	assert_null(find(k, "a"));
	assert_int_equal(pending_totals(k->p)->count, 0);
	assert_int_equal(pending_totals(k->p)->bytes, 0);
	assert_int_equal(pending_totals(k->p)->weight, 0);
	assert_int_equal(pending_totals(k->p)->small, 0);
	assert_int_equal(pending_totals(k->p)->large, 0);
}

static void test_parts_stay_stored(void **state)
{
	struct kit *k = *state;

	assert_int_equal(put(k, "a", NULL, 7, false), 0);
	assert_int_equal(put(k, "b", "v", 0, false), 0);
	assert_int_equal(find(k, "a")->state.value_part, PENDING_STORED);
	assert_int_equal(find(k, "b")->state.rec_part, PENDING_STORED);
	struct pending_batch b = collect(k, 2);
	assert_int_equal(b.items[0].what, PENDING_REC);
	assert_int_equal(b.items[1].what, PENDING_VALUE);
	pending_finish(k->p, &b, true);
}

static void test_failure_keeps_everything(void **state)
{
	struct kit *k = *state;

	put(k, "a", "one", 7, false);
	drop(k, "b");
	struct pending_batch b = collect(k, 2);
	pending_finish(k->p, &b, false);
	b = collect(k, 2);
	expect_own(&b.items[0].state, "one");
	assert_true(b.items[1].state.removed);
	pending_finish(k->p, &b, true);
	assert_int_equal(pending_totals(k->p)->count, 0);
}

static void test_changed_in_flight(void **state)
{
	struct kit *k = *state;

	put(k, "a", "one", 7, false);
	struct pending_batch b = collect(k, 1);
	put(k, "a", NULL, 8, false);
	expect_own(&find(k, "a")->state, "one");
	pending_finish(k->p, &b, true);
	/* The value is stored now; the newer record is not. */
	assert_int_equal(find(k, "a")->state.value_part, PENDING_STORED);
	assert_int_equal(pending_record(&find(k, "a")->state)->ino, 8);
	b = collect(k, 1);
	assert_int_equal(b.items[0].what, PENDING_REC);
	pending_finish(k->p, &b, true);
	assert_null(find(k, "a"));
}

static void test_changed_in_flight_that_fails(void **state)
{
	struct kit *k = *state;

	put(k, "a", "one", 7, false);
	struct pending_batch b = collect(k, 1);
	put(k, "a", NULL, 8, false);
	pending_finish(k->p, &b, false);
	b = collect(k, 1);
	assert_int_equal(b.items[0].what, PENDING_BOTH);
	expect_own(&b.items[0].state, "one");
	assert_int_equal(pending_record(&b.items[0].state)->ino, 8);
	pending_finish(k->p, &b, true);
}

static void test_removed_and_put_again(void **state)
{
	struct kit *k = *state;

	drop(k, "a");
	assert_true(find(k, "a")->state.removed);
	assert_int_equal(put(k, "a", NULL, 7, false), -ENOENT);
	assert_true(find(k, "a")->state.removed);
	/* The record that is stored is not the new key's. */
	assert_int_equal(put(k, "a", "new", 0, false), 0);
	assert_int_equal(find(k, "a")->state.rec_part, PENDING_NONE);
	struct pending_batch b = collect(k, 1);
	assert_int_equal(b.items[0].what, PENDING_BOTH);
	pending_finish(k->p, &b, true);
}

static void test_removed_in_flight_and_put_again(void **state)
{
	struct kit *k = *state;

	drop(k, "a");
	struct pending_batch b = collect(k, 1);
	put(k, "a", "new", 7, false);
	pending_finish(k->p, &b, true);
	expect_own(&find(k, "a")->state, "new");
	b = collect(k, 1);
	assert_int_equal(b.items[0].what, PENDING_BOTH);
	pending_finish(k->p, &b, true);
}

static void test_group_fails_whole(void **state)
{
	struct kit *k = *state;
	struct record rec = {.ino = 1};
	struct change group[] = {
		{.op = CHANGE_PUT, .id = key("a"), .rec = &rec},
		{.op = CHANGE_REMOVE, .id = key("b")},
		{.op = CHANGE_PUT, .id = key("b"), .rec = &rec},
	};

	assert_int_equal(pending_apply(k->p, group, 3, ++k->seq, 0), -ENOENT);
	assert_int_equal(pending_totals(k->p)->count, 0);
}

static void test_hold_is_not_collected(void **state)
{
	struct kit *k = *state;

	assert_int_equal(put(k, "a", NULL, 7, true), 0);
	assert_true(find(k, "a")->held);
	struct pending_batch b = collect(k, 0);
	pending_finish(k->p, &b, true);
	assert_non_null(find(k, "a"));
	/* A new record alone does not complete it. */
	put(k, "a", NULL, 8, false);
	b = collect(k, 0);
	pending_finish(k->p, &b, true);
	put(k, "a", "done", 0, false);
	b = collect(k, 1);
	expect_own(&b.items[0].state, "done");
	assert_int_equal(b.items[0].what, PENDING_BOTH);
	pending_finish(k->p, &b, true);
	assert_null(find(k, "a"));
}

static void test_hold_keeps_what_is_due(void **state)
{
	struct kit *k = *state;

	put(k, "a", "one", 7, false);
	put(k, "a", "tw", 8, true);
	expect_own(&find(k, "a")->state, "tw");
	struct pending_batch b = collect(k, 1);
	expect_own(&b.items[0].state, "one");
	assert_int_equal(pending_record(&b.items[0].state)->ino, 7);
	pending_finish(k->p, &b, true);
	b = collect(k, 0);
	pending_finish(k->p, &b, true);
	put(k, "a", "two", 0, false);
	b = collect(k, 1);
	assert_int_equal(pending_record(&b.items[0].state)->ino, 8);
	pending_finish(k->p, &b, true);
}

static void test_hold_in_a_flight_that_fails(void **state)
{
	struct kit *k = *state;

	put(k, "a", "one", 7, false);
	struct pending_batch b = collect(k, 1);
	put(k, "a", "tw", 0, true);
	pending_finish(k->p, &b, false);
	expect_own(&find(k, "a")->state, "tw");
	b = collect(k, 1);
	expect_own(&b.items[0].state, "one");
	pending_finish(k->p, &b, true);
	b = collect(k, 0);
	pending_finish(k->p, &b, true);
	assert_true(find(k, "a")->held);
}

static void test_hold_after_a_removal(void **state)
{
	struct kit *k = *state;

	drop(k, "a");
	put(k, "a", NULL, 7, true);
	assert_int_equal(find(k, "a")->state.value_part, PENDING_NONE);
	struct pending_batch b = collect(k, 1);
	assert_true(b.items[0].state.removed);
	pending_finish(k->p, &b, false);
	b = collect(k, 1);
	assert_true(b.items[0].state.removed);
	pending_finish(k->p, &b, true);
	assert_true(find(k, "a")->held);
}

static void test_drop_holds(void **state)
{
	struct kit *k = *state;

	put(k, "a", "whole", 7, false);
	put(k, "a", "part", 7, true);
	put(k, "b", "part", 7, true);
	drop(k, "c");
	put(k, "c", NULL, 7, true);
	put(k, "d", "whole", 7, false);
	struct pending_batch b = collect(k, 3);
	pending_finish(k->p, &b, false);
	pending_drop_holds(k->p);
	assert_null(find(k, "b"));
	b = collect(k, 3);
	expect_own(&b.items[0].state, "whole");
	assert_true(b.items[1].state.removed);
	expect_own(&b.items[2].state, "whole");
	pending_finish(k->p, &b, true);
	assert_int_equal(pending_totals(k->p)->count, 0);
}

static void test_order(void **state)
{
	struct kit *k = *state;
	static const char *const names[] = {"b", "a", "ab", "\377", "c"};
	static const char *const sorted[] = {"a", "ab", "b", "c", "\377"};
	struct entry_id from = key("");

	for (size_t i = 0; i < 5; i++)
		put(k, names[i], "v", 0, false);
	const struct pending_entry *e = pending_seek(k->p, &from);
	for (size_t i = 0; i < 5; i++) {
		assert_non_null(e);
		assert_memory_equal(e->id.bytes, sorted[i], e->id.len);
		e = pending_next(e);
	}
	assert_null(e);
	from = key("b");
	assert_memory_equal(pending_seek(k->p, &from)->id.bytes, "b", 1);
	from = key("b\1");
	assert_memory_equal(pending_seek(k->p, &from)->id.bytes, "c", 1);
	from = id_of(ENTRY_DIR, "");
	assert_null(pending_seek(k->p, &from));
}

static void test_order_of_expiry(void **state)
{
	struct kit *k = *state;

	put_expiring(k, "c", 30);
	put_expiring(k, "a", 20);
	put_expiring(k, "b", 0);
	put_expiring(k, "d", 10);
	const struct pending_entry *e = pending_first_expiring(k->p);
	assert_memory_equal(e->id.bytes, "d", 1);
	e = pending_next_expiring(e);
	assert_memory_equal(e->id.bytes, "a", 1);
	e = pending_next_expiring(e);
	assert_memory_equal(e->id.bytes, "c", 1);
	assert_null(pending_next_expiring(e));
	put_expiring(k, "d", 40);
	drop(k, "a");
	assert_memory_equal(pending_first_expiring(k->p)->id.bytes, "c", 1);
	struct pending_batch b = collect(k, 4);
	pending_finish(k->p, &b, true);
	assert_null(pending_first_expiring(k->p));
}

static void move(struct kit *k, const char *from, const char *to, bool exchange, int64_t now)
{
	struct entry_id a = id_of(ENTRY_DIR, from), b = id_of(ENTRY_DIR, to);
	struct pending_move_plan *plan;

	assert_int_equal(pending_move_check(k->p, &a, &b, exchange, now, &plan), 0);
	pending_move(k->p, plan);
}

static void test_move(void **state)
{
	struct kit *k = *state;

	put(k, "a", "base", 1, true);
	put(k, "a/x", "one", 2, true);
	put(k, "a0", "else", 3, true);
	put(k, "b/y", "gone", 4, true);
	move(k, "a/", "b/", false, 0);
	assert_null(find(k, "a"));
	assert_null(find(k, "a/x"));
	assert_null(find(k, "b/y"));
	expect_own(&find(k, "b")->state, "base");
	expect_own(&find(k, "b/x")->state, "one");
	assert_true(find(k, "b/x")->held);
	expect_own(&find(k, "a0")->state, "else");
	assert_int_equal(pending_totals(k->p)->count, 3);
}

static void test_move_exchange(void **state)
{
	struct kit *k = *state;

	put(k, "a/x", "one", 2, true);
	put(k, "b/x", "two", 3, true);
	put(k, "b/y", "three", 4, true);
	move(k, "a/", "b/", true, 0);
	expect_own(&find(k, "a/x")->state, "two");
	expect_own(&find(k, "a/y")->state, "three");
	expect_own(&find(k, "b/x")->state, "one");
	assert_null(find(k, "b/y"));
}

static void test_move_leaves_what_has_expired(void **state)
{
	struct kit *k = *state;

	put(k, "a/x", "one", 2, true);
	put_expiring(k, "a/x", 5);
	move(k, "a/", "b/", false, INT64_C(6000000000));
	assert_int_equal(pending_totals(k->p)->count, 0);
}

static void test_move_too_long(void **state)
{
	struct kit *k = *state;
	char name[512], to[300];
	struct entry_id a = id_of(ENTRY_DIR, "a/"), b;
	struct pending_move_plan *plan;

	memset(name, 'n', sizeof(name) - 1);
	memcpy(name, "a/", 2);
	name[sizeof(name) - 1] = '\0';
	memset(to, 't', sizeof(to) - 1);
	to[sizeof(to) - 1] = '\0';
	b = id_of(ENTRY_DIR, to);
	put(k, name, "v", 1, true);
	assert_int_equal(pending_move_check(k->p, &a, &b, false, 0, &plan), -ENAMETOOLONG);
	assert_non_null(find(k, name));
}

/* What is in flight and unchanged is stored when the move is: only newer changes are moved. */
static void test_move_with_a_batch(void **state)
{
	struct kit *k = *state;
	struct entry_id a = id_of(ENTRY_DIR, "a/"), b = id_of(ENTRY_DIR, "b/");
	struct pending_move_plan *plan;

	put(k, "a/clean", "one", 1, false);
	put(k, "a/newer", "one", 2, false);
	struct pending_batch batch = collect(k, 2);
	put(k, "a/newer", "two", 0, false);
	assert_int_equal(pending_move_check(k->p, &a, &b, false, 0, &plan), 0);
	pending_finish(k->p, &batch, true);
	pending_move(k->p, plan);
	assert_int_equal(pending_totals(k->p)->count, 1);
	expect_own(&find(k, "b/newer")->state, "two");
	batch = collect(k, 1);
	assert_int_equal(batch.items[0].what, PENDING_VALUE);
	pending_finish(k->p, &batch, true);
}

static void test_outlives(void **state)
{
	struct kit *k = *state;

	assert_false(pending_outlives_in(k->p, NS));
	drop(k, "a");
	assert_false(pending_outlives_in(k->p, NS));
	put(k, "b", "v", 1, false);
	assert_true(pending_outlives_in(k->p, NS));
	assert_false(pending_outlives_in(k->p, NS + 1));
	struct pending_batch b = collect(k, 2);
	assert_false(pending_outlives_in(k->p, NS));
	put(k, "c", NULL, 1, true);
	assert_true(pending_outlives_in(k->p, NS));
	pending_finish(k->p, &b, true);
	pending_forget(k->p, NS);
	assert_int_equal(pending_totals(k->p)->count, 0);
}

/* Values in files weigh what they take of memory, which is not their size. */
static void test_weight(void **state)
{
	struct kit *k = *state;
	struct blob *b;

	assert_int_equal(blob_new(k->blobs, &b), 0);
	assert_int_equal(blob_resize(b, 100 << 20), 0);
	struct change c = {.op = CHANGE_PUT, .id = key("a"), .value = b};
	assert_int_equal(pending_apply(k->p, &c, 1, ++k->seq, 0), 0);
	blob_unref(b);
	assert_true(pending_totals(k->p)->bytes >= 100 << 20);
	assert_true(pending_totals(k->p)->large >= 100 << 20);
	assert_true(pending_totals(k->p)->weight < 10 << 20);
}

/* A batch can stop at a group that no entry was changed both before and after. */
static void test_cut(void **state)
{
	struct kit *k = *state;
	struct pending_batch b;
	uint64_t upto;

	assert_int_equal(pending_cut(k->p, 1, &upto), -ENOENT);
	put(k, "a", "1", 0, false);
	put(k, "b", "2", 0, false);
	put(k, "c", "3", 0, false);
	put(k, "b", "4", 0, false);
	put(k, "d", "5", 0, false);
	put(k, "e", "6", 0, true);
	assert_int_equal(pending_cut(k->p, 1, &upto), 0);
	assert_int_equal(upto, 1);
	assert_int_equal(pending_cut(k->p, 2, &upto), 0);
	assert_int_equal(upto, 1);
	assert_int_equal(pending_cut(k->p, 3, &upto), 0);
	assert_int_equal(upto, 4);
	assert_int_equal(pending_cut(k->p, 9, &upto), 0);
	assert_int_equal(upto, 5);
	assert_int_equal(pending_collect(k->p, 4, &b), 0);
	assert_int_equal(b.n, 3);
	expect_own(&b.items[1].state, "4");
	pending_finish(k->p, &b, false);
	put(k, "a", "7", 0, false);
	/* Now `a` spans everything. */
	assert_int_equal(pending_cut(k->p, 1, &upto), 0);
	assert_int_equal(upto, 7);
	b = collect(k, 4);
	pending_finish(k->p, &b, true);
	assert_int_equal(pending_cut(k->p, 9, &upto), -ENOENT);
}

/* Every name has at most one state, and a batch that fails loses nothing: against a model. */
static void test_random(void **state)
{
	struct kit *k = *state;
	int stored[16], seen[16]; /* a number as value; -1: absent */
	uint64_t seed = 1;

	for (int i = 0; i < 16; i++)
		stored[i] = seen[i] = -1;
	for (int step = 1; step < 5000; step++) {
		char name[2] = "", value[16];

		for (int n = 0; n < 5; n++) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
			int i = (int)(seed >> 60);

			name[0] = (char)('a' + i);
			snprintf(value, sizeof(value), "%d", step);
			if (seed >> 40 & 1) {
				drop(k, name);
				seen[i] = -1;
			} else {
				put(k, name, value, (seed >> 41 & 1) ? 1 : 0, false);
				seen[i] = step;
			}
		}
		struct pending_batch b;
		bool ok = seed >> 50 & 1;
		assert_int_equal(pending_collect(k->p, UINT64_MAX, &b), 0);
		for (size_t n = 0; ok && n < b.n; n++) {
			const struct pending_item *it = &b.items[n];
			int i = it->entry->id.bytes[0] - 'a';

			value[0] = '\0';
			if (it->state.value)
				value[blob_read(it->state.value, 0, value, 15)] = '\0';
			stored[i] = it->state.removed ? -1 : atoi(value);
		}
		pending_finish(k->p, &b, ok);
		for (int i = 0; i < 16; i++) {
			name[0] = (char)('a' + i);
			if (!find(k, name))
				assert_int_equal(stored[i], seen[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_put_and_commit), TEST(test_parts_stay_stored),
		TEST(test_failure_keeps_everything), TEST(test_changed_in_flight),
		TEST(test_changed_in_flight_that_fails), TEST(test_removed_and_put_again),
		TEST(test_removed_in_flight_and_put_again), TEST(test_group_fails_whole),
		TEST(test_hold_is_not_collected), TEST(test_hold_keeps_what_is_due),
		TEST(test_hold_in_a_flight_that_fails), TEST(test_hold_after_a_removal),
		TEST(test_drop_holds), TEST(test_order), TEST(test_order_of_expiry),
		TEST(test_move), TEST(test_move_exchange), TEST(test_move_leaves_what_has_expired),
		TEST(test_move_too_long), TEST(test_move_with_a_batch), TEST(test_outlives),
		TEST(test_weight), TEST(test_cut), TEST(test_random)
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
