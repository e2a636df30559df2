/*
 * suite_expiry.c - what has expired is absent in every respect, and is found to be removed.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

static int64_t next_expiry(struct kit *k, int64_t now)
{
	struct view *v = kit_view(k, now);
	int64_t next = k->st->ops->view_next_expiry(v);

	kit_view_end(k, v);
	return next;
}

/* The expired entries in the order given, joined by blanks. */
static void expect_expired(struct kit *k, int64_t now, const char *joined)
{
	struct view *v = kit_view(k, now);
	struct entry_id id;
	char got[1024];
	size_t n = 0;
	int rc;

	for (size_t skip = 0; (rc = k->st->ops->view_expired(v, skip, &id)) == 0; skip++) {
		if (n)
			got[n++] = ' ';
		memcpy(got + n, id.bytes, id.len);
		n += id.len;
	}
	got[n] = '\0';
	assert_int_equal(rc, -ENOENT);
	kit_view_end(k, v);
	assert_string_equal(got, joined);
}

static void test_expired_is_absent(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_expiring(k, NOW_S + 10);

	kit_put(k, kit_key(k, "a"), &rec, "v");
	kit_put(k, kit_key(k, "b"), NULL, "v");
	kit_put(k, kit_dir(k, "d/"), &rec, NULL);
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_record(k, kit_key(k, "a"), &rec);
		assert_true(kit_exists(k, kit_key(k, "a"), NOW + 10 * SECOND - 1));
		assert_false(kit_exists(k, kit_key(k, "a"), NOW + 10 * SECOND));
		assert_true(kit_exists(k, kit_dir(k, "d/"), NOW + 10 * SECOND - 1));
		assert_false(kit_exists(k, kit_dir(k, "d/"), NOW + 10 * SECOND));
		kit_expect_list(k, ENTRY_KEY, NOW + 10 * SECOND - 1, "a b");
		kit_expect_list(k, ENTRY_KEY, NOW + 10 * SECOND, "b");
		kit_expect_list(k, ENTRY_DIR, NOW + 10 * SECOND - 1, "d/");
		kit_expect_list(k, ENTRY_DIR, NOW + 10 * SECOND, "");
		kit_sync(k);
	}
}

static void test_next_expiry(void **state)
{
	struct kit *k = *state;
	struct record later = kit_expiring(k, NOW_S + 20), sooner = kit_expiring(k, NOW_S + 10);
	struct record never = kit_record(k);

	assert_true(next_expiry(k, NOW) == INT64_MAX);
	kit_put(k, kit_key(k, "never"), &never, "v");
	assert_true(next_expiry(k, NOW) == INT64_MAX);
	kit_put(k, kit_key(k, "a"), &later, "v");
	assert_true(next_expiry(k, NOW) == NOW + 20 * SECOND);
	kit_sync(k);
	assert_true(next_expiry(k, NOW) == NOW + 20 * SECOND);
	kit_put(k, kit_key(k, "b"), &sooner, "v");
	assert_true(next_expiry(k, NOW) == NOW + 10 * SECOND);
	kit_sync(k);
	/* One that has expired counts until it is removed. */
	assert_true(next_expiry(k, NOW + 15 * SECOND) == NOW + 10 * SECOND);
	kit_put(k, kit_key(k, "b"), &never, NULL);
	assert_true(next_expiry(k, NOW) == NOW + 20 * SECOND);
	kit_remove(k, kit_key(k, "a"));
	assert_true(next_expiry(k, NOW) == INT64_MAX);
	kit_sync(k);
	assert_true(next_expiry(k, NOW) == INT64_MAX);
}

static void test_expired_in_order(void **state)
{
	struct kit *k = *state;
	struct record r1 = kit_expiring(k, NOW_S + 1), r2 = kit_expiring(k, NOW_S + 2);
	struct record r3 = kit_expiring(k, NOW_S + 3), r4 = kit_expiring(k, NOW_S + 400);

	expect_expired(k, NOW, "");
	kit_put(k, kit_key(k, "third"), &r3, "v");
	kit_put(k, kit_key(k, "first"), &r1, "v");
	kit_sync(k);
	kit_put(k, kit_key(k, "fourth"), &r4, "v");
	kit_put(k, kit_key(k, "second"), &r2, "v");
	for (int synced = 0; synced < 2; synced++) {
		expect_expired(k, NOW, "");
		expect_expired(k, NOW + SECOND, "first");
		expect_expired(k, NOW + 2 * SECOND, "first second");
		expect_expired(k, NOW + 300 * SECOND, "first second third");
		expect_expired(k, NOW + 1000 * SECOND, "first second third fourth");
		kit_sync(k);
	}
	kit_remove(k, kit_key(k, "first"));
	expect_expired(k, NOW + 300 * SECOND, "second third");
	/* One whose record changes moves along. */
	kit_put(k, kit_key(k, "second"), &r4, NULL);
	expect_expired(k, NOW + 300 * SECOND, "third");
	kit_sync(k);
	expect_expired(k, NOW + 300 * SECOND, "third");
}

static void test_expired_are_removed(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_expiring(k, NOW_S + 1);
	struct entry e;

	kit_put(k, kit_key(k, "a"), &rec, "v");
	kit_put(k, kit_dir(k, "d/"), &rec, NULL);
	kit_sync(k);
	kit_remove(k, kit_key(k, "a"));
	kit_remove(k, kit_dir(k, "d/"));
	for (int synced = 0; synced < 2; synced++) {
		expect_expired(k, NOW + 5 * SECOND, "");
		assert_true(next_expiry(k, NOW) == INT64_MAX);
		kit_sync(k);
	}
	/* A new key of that name has nothing of it. */
	kit_put(k, kit_key(k, "a"), NULL, "new");
	assert_int_equal(kit_get(k, kit_key(k, "a"), NOW + 5 * SECOND, &e), 0);
	assert_true(e.unrecorded);
}

/* An expiration that had passed when it was set takes effect at visible_ns only. */
static void test_visible_ns(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_expiring(k, NOW_S - 1000);

	rec.visible_ns = NOW + 5 * SECOND;
	kit_put(k, kit_key(k, "a"), &rec, "v");
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_record(k, kit_key(k, "a"), &rec);
		assert_true(kit_exists(k, kit_key(k, "a"), NOW + 5 * SECOND - 1));
		assert_false(kit_exists(k, kit_key(k, "a"), NOW + 5 * SECOND));
		kit_expect_list(k, ENTRY_KEY, NOW, "a");
		kit_expect_list(k, ENTRY_KEY, NOW + 5 * SECOND, "");
		assert_true(next_expiry(k, NOW) == NOW + 5 * SECOND);
		expect_expired(k, NOW, "");
		expect_expired(k, NOW + 5 * SECOND, "a");
		kit_sync(k);
	}
}

static void test_extreme_expirations(void **state)
{
	struct kit *k = *state;
	struct record first = kit_expiring(k, 1), last = kit_expiring(k, INT64_MAX);

	kit_put(k, kit_key(k, "first"), &first, "v");
	kit_put(k, kit_key(k, "last"), &last, "v");
	for (int synced = 0; synced < 2; synced++) {
		assert_false(kit_exists(k, kit_key(k, "first"), NOW));
		assert_true(kit_exists(k, kit_key(k, "last"), INT64_MAX));
		assert_true(next_expiry(k, NOW) == SECOND);
		expect_expired(k, INT64_MAX, "first");
		kit_sync(k);
	}
}

/* What keeps its record keeps its expiry, and what is expired can be put again. */
static void test_expiry_follows_the_record(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_expiring(k, NOW_S + 1), never = kit_record(k);

	kit_put(k, kit_key(k, "a"), &rec, "v");
	kit_sync(k);
	kit_put(k, kit_key(k, "a"), NULL, "rewritten");
	assert_false(kit_exists(k, kit_key(k, "a"), NOW + SECOND));
	kit_sync(k);
	assert_false(kit_exists(k, kit_key(k, "a"), NOW + SECOND));
	kit_put(k, kit_key(k, "a"), &never, "again");
	assert_true(kit_exists(k, kit_key(k, "a"), NOW + SECOND));
	kit_sync(k);
	assert_true(kit_exists(k, kit_key(k, "a"), NOW + SECOND));
	kit_expect_value(k, kit_key(k, "a"), "again");
}

static void test_expiry_is_kept(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_expiring(k, NOW_S + 1);

	kit_put(k, kit_key(k, "a"), &rec, "v");
	if (!kit_reopen(k))
		return;
	kit_expect_record(k, kit_key(k, "a"), &rec);
	assert_true(next_expiry(k, NOW) == NOW + SECOND);
	assert_false(kit_exists(k, kit_key(k, "a"), NOW + SECOND));
	expect_expired(k, NOW + SECOND, "a");
}

SUITE_PART(expiry, cmocka_unit_test(test_expired_is_absent), cmocka_unit_test(test_next_expiry),
	cmocka_unit_test(test_expired_in_order), cmocka_unit_test(test_expired_are_removed),
	cmocka_unit_test(test_visible_ns), cmocka_unit_test(test_extreme_expirations),
	cmocka_unit_test(test_expiry_follows_the_record), cmocka_unit_test(test_expiry_is_kept));
