/*
 * lmdb_shared.c - keys with records of ours, and namespaces, that other programs rewrite, remove,
 * and make again: what becomes of the records, and of what other keys and namespaces have.
 */
#include <endian.h>
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

static void drop_old(MDB_txn *txn)
{
	if (mdb_drop(txn, raw_open(txn, "old", 0), 1))
		_exit(5);
}

static uint32_t make_ns(struct kit *k, const char *name)
{
	uint32_t ns;

	assert_int_equal(k->ops->ns_create(k->st, name, strlen(name), NULL, &ns), 0);
	return ns;
}

static uint32_t find_ns(struct kit *k, const char *name)
{
	uint32_t ns;

	assert_int_equal(k->ops->ns_find(k->st, name, strlen(name), &ns), 0);
	return ns;
}

/* Key `key` of a namespace, with an expiration that tells whose record it is. */
static void put_in(struct kit *k, uint32_t ns, const char *key, int64_t expiration)
{
	k->ns = ns;
	assert_int_equal(kit_try_put(k, key, "x", 1, expiration), 0);
}

static int64_t expiration_in(struct kit *k, uint32_t ns, const char *key)
{
	struct entry e;

	k->ns = ns;
	int rc = get_at(k, key, INT64_MIN, &e);
	return rc ? rc : e.rec.expiration;
}

static void drop_main(MDB_txn *txn)
{
	if (mdb_drop(txn, raw_open(txn, "main", 0), 1))
		_exit(5);
}

/* A namespace takes the name of one that another program has dropped: each id keeps one name. */
static void test_rename_to_a_dropped_name(void **state)
{
	struct kit *k = *state;
	uint32_t other, fresh;

	kit_open(k);
	put_in(k, k->ns, "k", 5000);
	kit_sync(k);
	other = make_ns(k, "other");
	put_in(k, other, "k", 6000);
	kit_sync(k);
	kit_foreign(k, drop_main);
	assert_int_equal(k->ops->ns_rename(k->st, other, "main", 4, NOW), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(expiration_in(k, find_ns(k, "main"), "k"), 6000);
		kit_close(k);
		assert_int_equal(kit_try(k), 0);
	}
	/* Its id, and what is known under it, is not given to the next one. */
	fresh = make_ns(k, "fresh");
	assert_int_equal(expiration_in(k, fresh, "k"), -ENOENT);
	assert_int_equal(expiration_in(k, find_ns(k, "main"), "k"), 6000);
}

/* What waits for a namespace that has been dropped is not lost with its name. */
static void test_rename_to_a_dropped_name_with_changes(void **state)
{
	struct kit *k = *state;
	uint32_t main_ns, old;

	k->opts.commit_interval_ms = 60000;
	kit_open(k);
	main_ns = k->ns;
	put_in(k, main_ns, "k", 0);
	old = make_ns(k, "old");
	put_in(k, old, "accepted", 5000);
	kit_foreign(k, drop_old);
	assert_int_equal(k->ops->ns_rename(k->st, main_ns, "old", 3, NOW), -ENOTEMPTY);
	assert_int_equal(expiration_in(k, old, "accepted"), 5000);
	assert_int_equal(expiration_in(k, main_ns, "k"), 0);
}

static void second_id(MDB_txn *txn)
{
	MDB_val k = {5, (void *)(uintptr_t) "n\0\0\0\7"}, v = {4, (void *)(uintptr_t) "main"};

	if (mdb_put(txn, raw_open(txn, "kvfs:meta", 0), &k, &v, 0))
		_exit(5);
}

static void has_id_eight(MDB_txn *txn)
{
	MDB_val k = {5, (void *)(uintptr_t) "n\0\0\0\10"}, v;

	if (mdb_get(txn, raw_open(txn, "kvfs:meta", 0), &k, &v) || v.mv_size != 5 ||
		memcmp(v.mv_data, "fresh", 5) != 0)
		_exit(5);
}

static void test_two_ids_of_one_name(void **state)
{
	struct kit *k = *state;

	kit_open(k);
	put_in(k, k->ns, "k", 5000);
	kit_sync(k);
	kit_foreign(k, second_id);
	kit_close(k);
	kit_open(k);
	assert_int_equal(expiration_in(k, k->ns, "k"), 5000);
	put_in(k, make_ns(k, "fresh"), "k", 6000);
	kit_sync(k);
	kit_foreign(k, has_id_eight);
}

/* The newest transaction of another program, as kvfs:meta has it, is older than our last. */
static void nobody_else_wrote(MDB_txn *txn)
{
	MDB_val k = {1, (void *)(uintptr_t) "s"}, v;
	uint64_t own, foreign;

	if (mdb_get(txn, raw_open(txn, "kvfs:meta", 0), &k, &v) || v.mv_size != 32)
		_exit(5);
	memcpy(&own, (char *)v.mv_data + 16, sizeof(own));
	memcpy(&foreign, (char *)v.mv_data + 24, sizeof(foreign));
	if (le64toh(foreign) >= le64toh(own))
		_exit(6);
}

static void do_nothing(void *arg, struct foreign_change *what)
{
}

/* A commit with nothing to write takes no number, and the one that takes it next is ours. */
static void test_empty_commits_are_nobodys(void **state)
{
	struct kit *k = *state;
	struct record rec = {.mode = 0100644, .ino = 9};
	struct change held = {.op = CHANGE_PUT, .rec = &rec, .hold = true};

	kit_open(k);
	kit_put(k, "a", "one");
	kit_sync(k);
	k->ops->watch(k->st, do_nothing, NULL);
	held.id = kit_id(k, ENTRY_KEY, "held");
	assert_int_equal(k->ops->apply(k->st, &held, 1, NULL), 0);
	kit_sync(k);
	held.hold = false;
	assert_int_equal(k->ops->apply(k->st, &held, 1, NULL), 0);
	kit_sync(k);
	kit_put(k, "b", "one");
	kit_sync(k);
	k->ops->watch(k->st, NULL, NULL);
	kit_foreign(k, nobody_else_wrote);
}

int lmdb_shared_tests(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		TEST(test_outlived_key_moves),
		TEST(test_outlived_key_is_live),
		TEST(test_rename_to_a_dropped_name),
		TEST(test_rename_to_a_dropped_name_with_changes),
		TEST(test_two_ids_of_one_name),
		TEST(test_empty_commits_are_nobodys),
#undef TEST
	};

	return cmocka_run_group_tests_name("shared", tests, NULL, NULL);
}
