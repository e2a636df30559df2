/*
 * suite_namespaces.c - namespaces: made, found, listed, renamed, removed.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

static uint32_t ns_create(struct kit *k, const char *name)
{
	uint32_t ns, found;

	assert_int_equal(k->st->ops->ns_create(k->st, name, strlen(name), NULL, &ns), 0);
	assert_int_equal(k->st->ops->ns_find(k->st, name, strlen(name), &found), 0);
	assert_int_equal(found, ns);
	return ns;
}

static int ns_find(struct kit *k, const char *name)
{
	uint32_t ns;

	return k->st->ops->ns_find(k->st, name, strlen(name), &ns);
}

static int ns_rename(struct kit *k, uint32_t ns, const char *name)
{
	return k->st->ops->ns_rename(k->st, ns, name, strlen(name), NOW);
}

static int ns_remove(struct kit *k, uint32_t ns)
{
	return k->st->ops->ns_remove(k->st, ns, NOW);
}

static void expect_namespaces(struct kit *k, const char *joined)
{
	char name[511], got[2048];
	size_t n = 0, len = 0;
	int rc;

	while ((rc = k->st->ops->ns_next(k->st, name, len, name, sizeof(name), &len)) == 0) {
		if (n)
			got[n++] = ' ';
		memcpy(got + n, name, len);
		n += len;
	}
	got[n] = '\0';
	assert_int_equal(rc, -ENOENT);
	assert_string_equal(got, joined);
}

static void test_ns_create(void **state)
{
	struct kit *k = *state;
	uint32_t ns = 77;

	assert_int_equal(ns_find(k, "more"), -ENOENT);
	ns_create(k, "more");
	assert_int_equal(k->st->ops->ns_create(k->st, "more", 4, NULL, &ns), -EEXIST);
	assert_int_equal(ns, 77);
	assert_int_equal(ns_find(k, "mor"), -ENOENT);
	assert_int_equal(ns_find(k, "more1"), -ENOENT);
	if (kit_reopen(k))
		assert_int_equal(ns_find(k, "more"), 0);
}

static void test_ns_order(void **state)
{
	struct kit *k = *state;

	expect_namespaces(k, "main");
	ns_create(k, "zz");
	ns_create(k, "a");
	ns_create(k, "main2");
	ns_create(k, "\303\244");
	ns_create(k, "mai");
	ns_create(k, "with space/slash:colon");
	expect_namespaces(k, "a mai main main2 with space/slash:colon zz \303\244");
	if (kit_reopen(k))
		expect_namespaces(k, "a mai main main2 with space/slash:colon zz \303\244");
}

static void test_ns_next_from_any_name(void **state)
{
	struct kit *k = *state;
	char name[511];
	size_t len = 0;

	assert_int_equal(k->st->ops->ns_next(k->st, "maa", 3, name, sizeof(name), &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(name, "main", 4);
	len = 77;
	assert_int_equal(k->st->ops->ns_next(k->st, "main", 4, name, sizeof(name), &len), -ENOENT);
	assert_int_equal(len, 77);
}

/* Names are bytes; the longest has 511. */
static void test_ns_long_name(void **state)
{
	struct kit *k = *state;
	char longest[511], name[511];
	uint32_t ns, found;
	size_t len;

	memset(longest, 'n', sizeof(longest));
	assert_int_equal(k->st->ops->ns_create(k->st, longest, sizeof(longest), NULL, &ns), 0);
	kit_put(k, kit_id(ns, ENTRY_KEY, "k", 1), NULL, "v");
	kit_sync(k);
	assert_int_equal(k->st->ops->ns_find(k->st, longest, sizeof(longest), &found), 0);
	assert_int_equal(found, ns);
	assert_int_equal(k->st->ops->ns_next(k->st, "main", 4, name, sizeof(name), &len), 0);
	assert_int_equal(len, sizeof(longest));
	assert_memory_equal(name, longest, len);
	kit_expect_list_of(k, ns, ENTRY_KEY, "k");
}

static void test_ns_are_apart(void **state)
{
	struct kit *k = *state;
	uint32_t other = ns_create(k, "other");
	struct record rec = kit_record(k);

	kit_put(k, kit_key(k, "a"), &rec, "main");
	kit_expect_absent(k, kit_id(other, ENTRY_KEY, "a", 1));
	kit_put(k, kit_id(other, ENTRY_KEY, "a", 1), NULL, "other");
	for (int synced = 0; synced < 2; synced++) {
		kit_expect_value(k, kit_key(k, "a"), "main");
		kit_expect_value(k, kit_id(other, ENTRY_KEY, "a", 1), "other");
		kit_expect_record(k, kit_key(k, "a"), &rec);
		kit_sync(k);
	}
	kit_remove(k, kit_key(k, "a"));
	kit_expect_value(k, kit_id(other, ENTRY_KEY, "a", 1), "other");
}

static void test_ns_remove(void **state)
{
	struct kit *k = *state;
	uint32_t ns = ns_create(k, "more"), again;
	struct record made = kit_record(k), soon = kit_expiring(k, NOW_S);

	for (int synced = 0; synced < 2; synced++) {
		kit_put(k, kit_id(ns, ENTRY_KEY, "a", 1), NULL, "v");
		if (synced)
			kit_sync(k);
		assert_int_equal(ns_remove(k, ns), -ENOTEMPTY);
		kit_expect_value(k, kit_id(ns, ENTRY_KEY, "a", 1), "v");
		kit_remove(k, kit_id(ns, ENTRY_KEY, "a", 1));
	}
	/* What is expired goes with it, and directories, its own among them. */
	kit_put(k, kit_id(ns, ENTRY_KEY, "expired", 7), &soon, "v");
	kit_put(k, kit_id(ns, ENTRY_DIR, "d/", 2), &made, NULL);
	kit_put(k, kit_id(ns, ENTRY_DIR, "", 0), &made, NULL);
	kit_sync(k);
	kit_put(k, kit_id(ns, ENTRY_DIR, "e/", 2), &made, NULL);
	assert_int_equal(ns_remove(k, ns), 0);
	assert_int_equal(ns_find(k, "more"), -ENOENT);
	expect_namespaces(k, "main");
	assert_int_equal(ns_remove(k, ns), -ENOENT);
	again = ns_create(k, "more");
	kit_expect_list_of(k, again, ENTRY_KEY, "");
	kit_expect_absent(k, kit_id(again, ENTRY_DIR, "d/", 2));
	kit_expect_absent(k, kit_id(again, ENTRY_DIR, "", 0));
	kit_put(k, kit_id(again, ENTRY_KEY, "expired", 7), NULL, "new");
	kit_expect_value(k, kit_id(again, ENTRY_KEY, "expired", 7), "new");
	if (kit_reopen(k))
		expect_namespaces(k, "main more");
}

static void test_ns_rename(void **state)
{
	struct kit *k = *state;
	uint32_t ns = ns_create(k, "old"), found;
	struct record rec = kit_expiring(k, NOW_S + 50);

	kit_put(k, kit_id(ns, ENTRY_KEY, "stored", 6), &rec, "1");
	kit_put(k, kit_id(ns, ENTRY_DIR, "d/", 2), &rec, NULL);
	kit_sync(k);
	kit_put(k, kit_id(ns, ENTRY_KEY, "pending", 7), &rec, "2");
	assert_int_equal(ns_rename(k, ns, "new"), 0);
	assert_int_equal(ns_find(k, "old"), -ENOENT);
	assert_int_equal(k->st->ops->ns_find(k->st, "new", 3, &found), 0);
	assert_int_equal(found, ns);
	kit_expect_list_of(k, ns, ENTRY_KEY, "pending stored");
	kit_expect_list_of(k, ns, ENTRY_DIR, "d/");
	kit_expect_value(k, kit_id(ns, ENTRY_KEY, "stored", 6), "1");
	kit_expect_record(k, kit_id(ns, ENTRY_KEY, "stored", 6), &rec);
	expect_namespaces(k, "main new");
	if (!kit_reopen(k))
		return;
	expect_namespaces(k, "main new");
	assert_int_equal(k->st->ops->ns_find(k->st, "new", 3, &ns), 0);
	kit_expect_value(k, kit_id(ns, ENTRY_KEY, "stored", 6), "1");
	kit_expect_value(k, kit_id(ns, ENTRY_KEY, "pending", 7), "2");
	kit_expect_record(k, kit_id(ns, ENTRY_KEY, "pending", 7), &rec);
	kit_expect_record(k, kit_id(ns, ENTRY_DIR, "d/", 2), &rec);
	assert_false(kit_exists(k, kit_id(ns, ENTRY_KEY, "stored", 6), NOW + 50 * SECOND));
}

static void test_ns_rename_onto(void **state)
{
	struct kit *k = *state;
	uint32_t ns = ns_create(k, "source"), full = ns_create(k, "full");
	uint32_t empty = ns_create(k, "empty"), found;
	struct record made = kit_record(k);

	kit_put(k, kit_id(ns, ENTRY_KEY, "k", 1), NULL, "v");
	kit_put(k, kit_id(full, ENTRY_KEY, "other", 5), NULL, "v");
	kit_put(k, kit_id(empty, ENTRY_DIR, "d/", 2), &made, NULL);
	assert_int_equal(ns_rename(k, ns, "full"), -ENOTEMPTY);
	expect_namespaces(k, "empty full main source");
	kit_expect_list_of(k, ns, ENTRY_KEY, "k");
	kit_expect_list_of(k, full, ENTRY_KEY, "other");
	assert_int_equal(ns_rename(k, ns, "empty"), 0);
	expect_namespaces(k, "empty full main");
	assert_int_equal(k->st->ops->ns_find(k->st, "empty", 5, &found), 0);
	assert_int_equal(found, ns);
	kit_expect_list_of(k, ns, ENTRY_KEY, "k");
	kit_expect_absent(k, kit_id(ns, ENTRY_DIR, "d/", 2));
	assert_int_equal(ns_remove(k, empty), -ENOENT);
	assert_int_equal(ns_rename(k, empty, "x"), -ENOENT);
	expect_namespaces(k, "empty full main");
}

static void test_ns_rename_to_itself(void **state)
{
	struct kit *k = *state;

	kit_put(k, kit_key(k, "a"), NULL, "v");
	assert_int_equal(ns_rename(k, k->ns, "main"), 0);
	kit_expect_value(k, kit_key(k, "a"), "v");
	expect_namespaces(k, "main");
}

static void test_ns_reserved(void **state)
{
	struct kit *k = *state;
	uint32_t ns;

	if (!k->f->reserved)
		return;
	kit_put(k, kit_key(k, "a"), NULL, "v");
	kit_sync(k);
	size_t len = strlen(k->f->reserved);
	assert_int_equal(k->st->ops->ns_create(k->st, k->f->reserved, len, NULL, &ns), -EPERM);
	assert_int_equal(ns_rename(k, k->ns, k->f->reserved), -EPERM);
	assert_int_not_equal(ns_find(k, k->f->reserved), 0);
	expect_namespaces(k, "main");
}

/* Number 0 is no namespace: it holds the directory above all of them. */
static void test_directory_above(void **state)
{
	struct kit *k = *state;
	struct entry_id above = kit_id(0, ENTRY_DIR, "", 0);
	struct record rec = kit_record(k);

	assert_int_not_equal(k->ns, 0);
	kit_put(k, above, &rec, NULL);
	kit_expect_record(k, above, &rec);
	kit_expect_absent(k, kit_dir(k, ""));
	expect_namespaces(k, "main");
	kit_sync(k);
	kit_expect_record(k, above, &rec);
	if (kit_reopen(k))
		kit_expect_record(k, above, &rec);
}

/* A namespace and the attributes of its directory are there in one step. */
static void test_ns_create_with_a_record(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k), none = {0};
	uint32_t ns, plain;

	rec.expiration = 0;
	rec.flags = RECORD_MADE;
	assert_int_equal(k->st->ops->ns_create(k->st, "recorded", 8, &rec, &ns), 0);
	assert_int_equal(k->st->ops->ns_create(k->st, "recorded", 8, &none, &plain), -EEXIST);
	kit_expect_record(k, kit_id(ns, ENTRY_DIR, "", 0), &rec);
	assert_int_equal(k->st->ops->ns_create(k->st, "plain", 5, NULL, &plain), 0);
	assert_false(kit_exists(k, kit_id(plain, ENTRY_DIR, "", 0), NOW));
	if (kit_reopen(k)) {
		assert_int_equal(k->st->ops->ns_find(k->st, "recorded", 8, &ns), 0);
		kit_expect_record(k, kit_id(ns, ENTRY_DIR, "", 0), &rec);
	}
}

SUITE_PART(namespaces, cmocka_unit_test(test_ns_create_with_a_record),
	cmocka_unit_test(test_ns_create), cmocka_unit_test(test_ns_order),
	cmocka_unit_test(test_ns_next_from_any_name), cmocka_unit_test(test_ns_long_name),
	cmocka_unit_test(test_ns_are_apart), cmocka_unit_test(test_ns_remove),
	cmocka_unit_test(test_ns_rename), cmocka_unit_test(test_ns_rename_onto),
	cmocka_unit_test(test_ns_rename_to_itself), cmocka_unit_test(test_ns_reserved),
	cmocka_unit_test(test_directory_above));
