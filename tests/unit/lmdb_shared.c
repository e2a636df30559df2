/*
 * lmdb_shared.c - keys with records of ours, and namespaces, that other programs rewrite, remove,
 * and make again: what becomes of the records, and of what other keys and namespaces have.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/lmdb_kit.h"

static const int64_t AT_1000 = INT64_C(1000) * 1000000000;

static void new_key(MDB_txn *txn)
{
	raw_put(txn, "main", 0, "d/k", "a new value of another program");
}

static int get_at(struct kit *k, const char *key, int64_t now, struct entry *e)
{
	struct entry_id id = kit_id(k, ENTRY_KEY, key);
	struct view *v;

	assert_int_equal(k->ops->view_begin(k->st, now, &v), 0);
	int rc = k->ops->view_get(v, &id, e);
	k->ops->view_end(v);
	return rc;
}

/* A key whose record has expired, and that another program has made anew while nobody looked. */
static void make_outlived(struct kit *k)
{
	struct entry e;

	kit_open(k);
	assert_int_equal(kit_try_put(k, "d/k", "x", 1, 500), 0);
	kit_sync(k);
	kit_close(k);
	kit_foreign(k, new_key);
	kit_open(k);
	assert_int_equal(get_at(k, "d/k", AT_1000, &e), 0);
	assert_true(e.unrecorded);
}

static void test_outlived_key_moves(void **state)
{
	struct kit *k = *state;
	struct entry_id from, to;
	struct entry e;

	make_outlived(k);
	from = kit_id(k, ENTRY_DIR, "d/");
	to = kit_id(k, ENTRY_DIR, "t/");
	for (int exchange = 0; exchange < 2; exchange++) {
		const char *key = exchange ? "d/k" : "t/k";

		assert_int_equal(k->ops->move_tree(k->st, &from, &to, exchange != 0, AT_1000), 0);
		assert_int_equal(get_at(k, key, AT_1000, &e), 0);
		assert_int_equal(e.size, 30);
		assert_true(e.unrecorded);
		/* Nothing is left that could expire. */
		assert_int_equal(get_at(k, key, INT64_MIN, &e), 0);
		assert_true(e.unrecorded);
	}
}

static void test_outlived_key_is_live(void **state)
{
	struct kit *k = *state;
	struct entry e;

	make_outlived(k);
	assert_int_equal(k->ops->ns_remove(k->st, k->ns, AT_1000), -ENOTEMPTY);
	assert_int_equal(get_at(k, "d/k", AT_1000, &e), 0);
}

int lmdb_shared_tests(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		TEST(test_outlived_key_moves),
		TEST(test_outlived_key_is_live),
#undef TEST
	};

	return cmocka_run_group_tests_name("shared", tests, NULL, NULL);
}
