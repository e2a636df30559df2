/*
 * suite_moves.c - moving and exchanging everything below a prefix.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

static int move(struct kit *k, struct entry_id from, struct entry_id to)
{
	return k->st->ops->move_tree(k->st, &from, &to, false, NOW);
}

static int exchange(struct kit *k, struct entry_id a, struct entry_id b)
{
	return k->st->ops->move_tree(k->st, &a, &b, true, NOW);
}

/* A tree "src/" of all sorts, and neighbours that are not of it. */
static void put_tree(struct kit *k, const struct record *rec)
{
	kit_put(k, kit_key(k, "src"), rec, "bears the name");
	kit_put(k, kit_key(k, "src/"), rec, "has an empty name");
	kit_put(k, kit_key(k, "src/a"), rec, "1");
	kit_put(k, kit_key(k, "src/b/c"), NULL, "22");
	kit_put(k, kit_dir(k, "src/"), rec, NULL);
	kit_put(k, kit_dir(k, "src/made/"), rec, NULL);
	kit_put(k, kit_key(k, "src."), NULL, "before");
	kit_put(k, kit_key(k, "src0"), NULL, "after");
	kit_put(k, kit_key(k, "sr"), NULL, "shorter");
	kit_put(k, kit_dir(k, "src0/"), rec, NULL);
}

static void test_move(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry e;

	for (int synced = 0; synced < 2; synced++) {
		put_tree(k, &rec);
		if (synced)
			kit_sync(k);
		assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "to/x/")), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "sr src. src0 to/x to/x/ to/x/a to/x/b/c");
		kit_expect_list(k, ENTRY_DIR, NOW, "src0/ to/x/ to/x/made/");
		kit_expect_value(k, kit_key(k, "to/x"), "bears the name");
		kit_expect_value(k, kit_key(k, "to/x/"), "has an empty name");
		kit_expect_value(k, kit_key(k, "to/x/a"), "1");
		kit_expect_value(k, kit_key(k, "to/x/b/c"), "22");
		kit_expect_record(k, kit_key(k, "to/x"), &rec);
		kit_expect_record(k, kit_key(k, "to/x/a"), &rec);
		kit_expect_record(k, kit_dir(k, "to/x/"), &rec);
		kit_expect_record(k, kit_dir(k, "to/x/made/"), &rec);
		assert_int_equal(kit_get(k, kit_key(k, "to/x/b/c"), NOW, &e), 0);
		assert_true(e.unrecorded);
		assert_false(e.pending); /* it is durable */
		kit_expect_absent(k, kit_dir(k, "src/"));
		kit_expect_absent(k, kit_key(k, "src/a"));
		kit_expect_value(k, kit_key(k, "src0"), "after");
		assert_int_equal(move(k, kit_dir(k, "to/x/"), kit_dir(k, "s/")), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "s s/ s/a s/b/c sr src. src0");
		assert_int_equal(move(k, kit_dir(k, "s/"), kit_dir(k, "src/")), 0);
	}
	if (!kit_reopen(k))
		return;
	kit_expect_list(k, ENTRY_KEY, NOW, "sr src src. src/ src/a src/b/c src0");
	kit_expect_record(k, kit_key(k, "src/a"), &rec);
}

static void test_move_nothing(void **state)
{
	struct kit *k = *state;

	kit_put(k, kit_key(k, "a"), NULL, "v");
	assert_int_equal(move(k, kit_dir(k, "x/"), kit_dir(k, "y/")), 0);
	kit_expect_list(k, ENTRY_KEY, NOW, "a");
}

static void test_move_onto_empty_directory(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k), old = kit_record(k);

	for (int synced = 0; synced < 2; synced++) {
		kit_put(k, kit_key(k, "src/a"), &rec, "1");
		kit_put(k, kit_dir(k, "to/"), &old, NULL);
		if (synced)
			kit_sync(k);
		assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "to/")), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "to/a");
		/* The directory that came had no entry, and the one that was there is gone. */
		kit_expect_absent(k, kit_dir(k, "to/"));
		kit_put(k, kit_dir(k, "src/"), &rec, NULL);
		kit_put(k, kit_dir(k, "empty/"), &old, NULL);
		assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "empty/")), 0);
		kit_expect_record(k, kit_dir(k, "empty/"), &rec);
		kit_expect_list(k, ENTRY_DIR, NOW, "empty/");
		kit_remove(k, kit_key(k, "to/a"));
	}
}

static void test_move_expiry(void **state)
{
	struct kit *k = *state;
	struct record gone = kit_expiring(k, NOW_S), soon = kit_expiring(k, NOW_S + 10);
	struct entry_id id;

	kit_put(k, kit_key(k, "src/gone"), &gone, "v");
	kit_put(k, kit_key(k, "src/soon"), &soon, "v");
	kit_put(k, kit_dir(k, "src/"), &soon, NULL);
	kit_sync(k);
	kit_put(k, kit_key(k, "src/gone2"), &gone, "v");
	kit_put(k, kit_key(k, "src/soon2"), &soon, "v");
	assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "to/")), 0);
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_list(k, ENTRY_KEY, NOW, "to/soon to/soon2");
		kit_expect_record(k, kit_key(k, "to/soon"), &soon);
		struct view *v = kit_view(k, NOW);
		assert_true(k->st->ops->view_next_expiry(v) == NOW + 10 * SECOND);
		assert_int_equal(k->st->ops->view_expired(v, 0, &id), -ENOENT);
		kit_view_end(k, v);
		v = kit_view(k, NOW + 10 * SECOND);
		for (size_t i = 0; i < 3; i++) {
			assert_int_equal(k->st->ops->view_expired(v, i, &id), 0);
			assert_memory_equal(id.bytes, "to/", 3);
		}
		assert_int_equal(k->st->ops->view_expired(v, 3, &id), -ENOENT);
		kit_view_end(k, v);
		assert_false(kit_exists(k, kit_key(k, "to/soon"), NOW + 10 * SECOND));
		kit_sync(k);
	}
}

static void test_exchange(void **state)
{
	struct kit *k = *state;
	struct record ra = kit_expiring(k, NOW_S + 1), rb = kit_record(k);

	for (int synced = 0; synced < 2; synced++) {
		kit_put(k, kit_key(k, "a"), &ra, "name a");
		kit_put(k, kit_key(k, "a/1"), &ra, "a1");
		kit_put(k, kit_key(k, "a/same"), &ra, "from a");
		kit_put(k, kit_dir(k, "a/"), &ra, NULL);
		kit_put(k, kit_key(k, "bb/2"), &rb, "b2");
		kit_put(k, kit_key(k, "bb/same"), &rb, "from b");
		kit_put(k, kit_dir(k, "bb/d/"), &rb, NULL);
		if (synced)
			kit_sync(k);
		assert_int_equal(exchange(k, kit_dir(k, "a/"), kit_dir(k, "bb/")), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "a/2 a/same bb bb/1 bb/same");
		kit_expect_list(k, ENTRY_DIR, NOW, "a/d/ bb/");
		kit_expect_value(k, kit_key(k, "bb"), "name a");
		kit_expect_value(k, kit_key(k, "bb/same"), "from a");
		kit_expect_value(k, kit_key(k, "a/same"), "from b");
		kit_expect_record(k, kit_key(k, "bb/same"), &ra);
		kit_expect_record(k, kit_key(k, "a/same"), &rb);
		kit_expect_list(k, ENTRY_KEY, NOW + SECOND, "a/2 a/same");
		assert_int_equal(exchange(k, kit_dir(k, "a/"), kit_dir(k, "bb/")), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "a a/1 a/same bb/2 bb/same");
		kit_expect_value(k, kit_key(k, "a/same"), "from a");
		kit_expect_record(k, kit_key(k, "a/same"), &ra);
	}
}

static void test_move_between_namespaces(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	uint32_t other;

	assert_int_equal(k->st->ops->ns_create(k->st, "other", 5, NULL, &other), 0);
	for (int synced = 0; synced < 2; synced++) {
		struct entry_id there = kit_id(other, ENTRY_DIR, "src/", 4);

		kit_put(k, kit_key(k, "src"), &rec, "n");
		kit_put(k, kit_key(k, "src/a"), &rec, "1");
		kit_put(k, kit_dir(k, "src/d/"), &rec, NULL);
		if (synced)
			kit_sync(k);
		/* The same prefix is another place there. */
		assert_int_equal(move(k, kit_dir(k, "src/"), there), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "");
		kit_expect_list_of(k, other, ENTRY_KEY, "src src/a");
		kit_expect_list_of(k, other, ENTRY_DIR, "src/d/");
		kit_expect_value(k, kit_id(other, ENTRY_KEY, "src/a", 5), "1");
		kit_expect_record(k, kit_id(other, ENTRY_KEY, "src/a", 5), &rec);
		kit_put(k, kit_key(k, "src/main"), &rec, "m");
		assert_int_equal(exchange(k, kit_dir(k, "src/"), there), 0);
		kit_expect_list(k, ENTRY_KEY, NOW, "src src/a");
		kit_expect_list_of(k, other, ENTRY_KEY, "src/main");
		kit_expect_value(k, kit_id(other, ENTRY_KEY, "src/main", 8), "m");
		kit_remove(k, kit_id(other, ENTRY_KEY, "src/main", 8));
	}
}

/* One key too long: nothing moves, neither way. */
static void test_move_too_long(void **state)
{
	struct kit *k = *state;
	unsigned char bytes[STORE_KEY_MAX];
	struct record rec = kit_record(k), gone = kit_expiring(k, NOW_S);
	struct entry_id full = kit_id(k->ns, ENTRY_KEY, bytes, sizeof(bytes));

	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, "a/", 2);
	kit_put(k, kit_key(k, "a/1"), &rec, "1");
	kit_put(k, kit_key(k, "long/2"), &rec, "2");
	kit_put(k, full, &rec, "full");
	for (int synced = 0; synced < 2; synced++) {
		assert_int_equal(move(k, kit_dir(k, "a/"), kit_dir(k, "aa/")), -ENAMETOOLONG);
		assert_int_equal(exchange(k, kit_dir(k, "a/"), kit_dir(k, "long/")), -ENAMETOOLONG);
		assert_int_equal(exchange(k, kit_dir(k, "long/"), kit_dir(k, "a/")), -ENAMETOOLONG);
		kit_expect_value(k, kit_key(k, "a/1"), "1");
		kit_expect_value(k, kit_key(k, "long/2"), "2");
		kit_expect_value(k, full, "full");
		kit_expect_absent(k, kit_key(k, "aa/1"));
		kit_sync(k);
	}
	/* As long as it may be is not too long, and what has expired does not count. */
	assert_int_equal(move(k, kit_dir(k, "a/"), kit_dir(k, "b/")), 0);
	bytes[0] = 'b';
	kit_expect_value(k, full, "full");
	kit_put(k, full, &gone, NULL);
	assert_int_equal(move(k, kit_dir(k, "b/"), kit_dir(k, "longer/")), 0);
	kit_expect_list(k, ENTRY_KEY, NOW, "long/2 longer/1");
}

/* What is removed, has expired, or is only remembered of a directory keeps nothing from being moved where
 * its own name would be too long. */
static void test_move_unseen_too_long(void **state)
{
	struct kit *k = *state;
	unsigned char bytes[STORE_PREFIX_MAX];
	struct record rec = kit_record(k), gone = kit_expiring(k, NOW_S);
	struct record remembered = rec;
	struct entry_id full = kit_id(k->ns, ENTRY_KEY, bytes, STORE_KEY_MAX);
	struct entry_id dir = kit_id(k->ns, ENTRY_DIR, bytes, STORE_PREFIX_MAX);

	remembered.flags &= ~RECORD_MADE;
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, "a/", 2);
	bytes[STORE_PREFIX_MAX - 1] = '/';
	kit_put(k, kit_key(k, "long/2"), &rec, "2");
	for (int what = 0; what < 3; what++) {
		for (int synced = 0; synced < 2; synced++) {
			for (int exchanged = 0; exchanged < 2; exchanged++) {
				kit_put(k, kit_key(k, "a/1"), &rec, "1");
				if (what < 2)
					kit_put(k, full, what ? &gone : &rec, "full");
				else
					kit_put(k, dir, &remembered, NULL);
				if (synced)
					kit_sync(k);
				if (what == 0)
					kit_remove(k, full);
				if (exchanged) {
					assert_int_equal(
						exchange(k, kit_dir(k, "a/"), kit_dir(k, "long/")),
						0);
					kit_expect_list(k, ENTRY_KEY, NOW, "a/2 long/1");
					kit_remove(k, kit_key(k, "a/2"));
					kit_remove(k, kit_key(k, "long/1"));
					kit_put(k, kit_key(k, "long/2"), &rec, "2");
				} else {
					assert_int_equal(
						move(k, kit_dir(k, "a/"), kit_dir(k, "longer/")),
						0);
					kit_expect_list(k, ENTRY_KEY, NOW, "long/2 longer/1");
					kit_remove(k, kit_key(k, "longer/1"));
				}
			}
		}
	}
}

/* What is not complete moves along, and is completed under its new name. */
static void test_move_held(void **state)
{
	struct kit *k = *state;
	struct entry e;

	kit_put(k, kit_key(k, "src/a"), NULL, "1");
	kit_hold(k, kit_key(k, "src/held"), NULL, "half");
	assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "to/")), 0);
	kit_expect_list(k, ENTRY_KEY, NOW, "to/a to/held");
	kit_expect_value(k, kit_key(k, "to/held"), "half");
	kit_sync(k);
	assert_int_equal(kit_get(k, kit_key(k, "to/held"), NOW, &e), 0);
	assert_true(e.pending);
	kit_put(k, kit_key(k, "to/held"), NULL, "whole");
	kit_sync(k);
	assert_int_equal(kit_get(k, kit_key(k, "to/held"), NOW, &e), 0);
	assert_false(e.pending);
	kit_expect_value(k, kit_key(k, "to/held"), "whole");
	kit_expect_absent(k, kit_key(k, "src/held"));
}

/* Large values and many entries move as well. */
static void test_move_large(void **state)
{
	enum { LARGE = 3 << 20, COUNT = 2000 };
	struct kit *k = *state;
	static unsigned char data[LARGE];
	static char names[COUNT][24];
	static struct change group[COUNT + 1];
	struct record rec = kit_record(k);
	struct blob *small = kit_blob(k, "v", 1), *large;

	for (size_t i = 0; i < LARGE; i++)
		data[i] = (unsigned char)(i * 11 + (i >> 9));
	large = kit_blob(k, data, LARGE);
	for (int i = 0; i < COUNT; i++) {
		snprintf(names[i], sizeof(names[i]), "src/%d/%d", i % 7, i);
		group[i] = (struct change){.op = CHANGE_PUT, .id = kit_key(k, names[i])};
		group[i].rec = i % 2 ? &rec : NULL;
		group[i].value = small;
	}
	group[COUNT] =
		(struct change){.op = CHANGE_PUT, .id = kit_key(k, "src/large"), .value = large};
	assert_int_equal(kit_apply(k, group, COUNT + 1), 0);
	blob_unref(small);
	blob_unref(large);
	assert_int_equal(move(k, kit_dir(k, "src/"), kit_dir(k, "tgt/")), 0);
	assert_int_equal(move(k, kit_dir(k, "tgt/"), kit_dir(k, "TGT/")), 0);
	kit_expect_bytes(k, kit_key(k, "TGT/large"), data, LARGE);
	for (int i = 0; i < COUNT; i++) {
		memcpy(names[i], "TGT", 3);
		kit_expect_value(k, kit_key(k, names[i]), "v");
	}
}

SUITE_PART(moves, cmocka_unit_test(test_move), cmocka_unit_test(test_move_nothing),
	cmocka_unit_test(test_move_onto_empty_directory), cmocka_unit_test(test_move_expiry),
	cmocka_unit_test(test_exchange), cmocka_unit_test(test_move_between_namespaces),
	cmocka_unit_test(test_move_too_long), cmocka_unit_test(test_move_held),
	cmocka_unit_test(test_move_unseen_too_long), cmocka_unit_test(test_move_large));
