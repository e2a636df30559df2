/*
 * lmdb_shared.c - keys with records of ours, and namespaces, that other programs rewrite, remove,
 * and make again: what becomes of the records, and of what other keys and namespaces have.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

enum { MANY = 3000 };

static void many_key(char key[16], int i)
{
	snprintf(key, 16, "k%05d", i);
}

/* Even ones, and a long one. */
static void remove_half(MDB_txn *txn)
{
	char key[512];

	for (int i = 0; i <= MANY; i += 2) {
		if (i == MANY)
			memset(key, 'l', 511);
		else
			many_key(key, i);
		MDB_val k = {i == MANY ? 511 : 6, key};
		if (mdb_del(txn, raw_open(txn, "main", 0), &k, NULL))
			_exit(5);
	}
}

static void half_is_known(MDB_txn *txn)
{
	/* And a directory's record. */
	if (raw_count(txn, "kvfs:nodes") != MANY / 2 + 1 ||
		raw_count(txn, "kvfs:expiry") != MANY / 2 || raw_count(txn, "kvfs:heads"))
		_exit(6);
}

static void put_all_again(MDB_txn *txn)
{
	char key[16];

	for (int i = 0; i < MANY; i++) {
		many_key(key, i);
		raw_put(txn, "main", 0, key, "anew");
	}
}

static void put_many(struct kit *k)
{
	struct record rec = {.mode = 040755, .ino = 3, .flags = RECORD_MADE};
	struct change dir = {.op = CHANGE_PUT, .id = kit_id(k, ENTRY_DIR, "k00001/"), .rec = &rec};
	char key[512] = "";

	for (int i = 0; i < MANY; i++) {
		many_key(key, i);
		assert_int_equal(kit_try_put(k, key, "x", 1, 5000), 0);
	}
	memset(key, 'l', 511);
	key[511] = '\0';
	assert_int_equal(kit_try_put(k, key, "x", 1, 5000), 0);
	assert_int_equal(k->ops->apply(k->st, &dir, 1, NULL), 0);
	kit_sync(k);
}

/* What another program makes after it has removed a key of that name is new, although nobody has
 * looked meanwhile; whether it removes it while the store is open or not. */
static void test_records_go_with_their_keys(void **state)
{
	struct kit *k = *state;
	struct entry e;
	char key[16];

	for (int open = 0; open < 2; open++) {
		kit_open(k);
		k->ops->watch(k->st, do_nothing, NULL);
		put_many(k);
		if (!open)
			kit_close(k);
		kit_foreign(k, remove_half);
		if (!open)
			kit_open(k);
		kit_await(k, half_is_known);
		kit_foreign(k, put_all_again);
		for (int i = 0; i < MANY; i++) {
			many_key(key, i);
			assert_int_equal(kit_get(k, key, &e), 0);
			assert_true(e.unrecorded == (i % 2 == 0));
		}
		kit_close(k);
	}
}

static void nothing_is_known(MDB_txn *txn)
{
	/* But the directory. */
	if (raw_count(txn, "kvfs:nodes") != 1 || raw_count(txn, "kvfs:expiry") ||
		raw_count(txn, "kvfs:heads"))
		_exit(6);
}

static void test_records_go_with_their_namespace(void **state)
{
	struct kit *k = *state;

	kit_open(k);
	k->ops->watch(k->st, do_nothing, NULL);
	put_many(k);
	kit_foreign(k, drop_main);
	kit_await(k, nothing_is_known);
	kit_close(k);
}

static void main_is_gone(MDB_txn *txn)
{
	MDB_dbi dbi;

	if (mdb_dbi_open(txn, "main", 0, &dbi) != MDB_NOTFOUND)
		_exit(6);
	if (raw_count(txn, "kvfs:nodes") || raw_count(txn, "kvfs:expiry"))
		_exit(7);
}

/* Keys of a namespace that is not there any more can be removed, and it is not made again for that. */
static void test_removing_from_a_dropped_namespace(void **state)
{
	struct kit *k = *state;

	for (int known = 0; known < 2; known++) {
		kit_open(k);
		assert_int_equal(kit_try_put(k, "k", "x", 1, 500), 0);
		kit_sync(k);
		if (!known)
			kit_close(k);
		kit_foreign(k, drop_main);
		if (!known)
			assert_int_equal(kit_try(k), 0);
		assert_int_equal(kit_drop(k, "k"), 0);
		kit_sync(k);
		kit_foreign(k, main_is_gone);
		kit_close(k);
	}
}

static void spoil_index(MDB_txn *txn)
{
	raw_put(txn, "kvfs:expiry", 0, "\1\1\1\1\1\1\1\1", "no name at all");
	raw_put(txn, "kvfs:expiry", 0, "short", "\1\2\3\4\1of no namespace");
}

static void index_is_tidy(MDB_txn *txn)
{
	if (raw_count(txn, "kvfs:expiry") != 1)
		_exit(6);
}

/* What no record confirms does not stay in the way of every look. */
static void test_index_is_tidied(void **state)
{
	struct kit *k = *state;
	struct entry_id id;
	struct view *v;

	kit_open(k);
	assert_int_equal(kit_try_put(k, "k", "x", 1, 5000), 0);
	kit_sync(k);
	kit_foreign(k, spoil_index);
	kit_reopen(k);
	assert_int_equal(k->ops->view_begin(k->st, INT64_MAX - 1, &v), 0);
	assert_int_equal(k->ops->view_expired(v, 0, &id), 0);
	assert_int_equal(id.len, 1);
	assert_int_equal(k->ops->view_expired(v, 1, &id), -ENOENT);
	k->ops->view_end(v);
	kit_await(k, index_is_tidy);
}

static void make_main_unfit(MDB_txn *txn)
{
	drop_main(txn);
	raw_put(txn, "main", MDB_CREATE | MDB_DUPSORT, "x", "y");
}

static void other_is_stored(MDB_txn *txn)
{
	if (raw_count(txn, "other") != 1)
		_exit(6);
}

static const char *failure(struct kit *k, uint32_t ns, const char *key)
{
	struct entry e;

	k->ns = ns;
	assert_int_equal(get_at(k, key, INT64_MIN, &e), 0);
	return e.failed;
}

/* A key that was renamed to where it cannot be written stays, in the store, where it was. */
static void test_rename_that_is_left_out(void **state)
{
	struct kit *k = *state;
	uint32_t main_ns, other;
	struct entry e;

	k->opts.commit_interval_ms = 60000;
	kit_open(k);
	main_ns = k->ns;
	other = make_ns(k, "other");
	put_in(k, other, "old", 0);
	kit_sync(k);
	k->ns = main_ns;
	struct blob *value;
	struct record rec = {.mode = S_IFREG | 0644, .ino = 77};
	assert_int_equal(blob_new_copy(k->st->blobs, "v", 1, &value), 0);
	struct change moved[] = {
		{.op = CHANGE_PUT, .id = kit_id(k, ENTRY_KEY, "new"), .rec = &rec, .value = value},
		{.op = CHANGE_REMOVE, .id = {other, ENTRY_KEY, 3, (const unsigned char *)"old"}},
	};
	assert_int_equal(k->ops->apply(k->st, moved, 2, NULL), 0);
	blob_unref(value);
	kit_foreign(k, make_main_unfit);
	assert_int_equal(k->ops->sync(k->st, UINT64_MAX), -EIO);
	kit_foreign(k, other_is_stored);
	k->ns = other;
	assert_int_equal(get_at(k, "old", INT64_MIN, &e), -ENOENT);
	kit_foreign(k, drop_main);
	put_in(k, other, "one", 0);
	kit_sync(k);
	kit_foreign(k, other_is_stored); /* which is "one" now */
	assert_null(failure(k, main_ns, "new"));
}

/* A namespace that cannot be written to keeps nothing else from being durable. */
static void test_unfit_database_is_left_out(void **state)
{
	struct kit *k = *state;
	uint32_t main_ns, other;

	k->opts.commit_interval_ms = 60000;
	kit_open(k);
	main_ns = k->ns;
	other = make_ns(k, "other");
	put_in(k, main_ns, "k", 5000);
	put_in(k, other, "k", 0);
	kit_foreign(k, make_main_unfit);
	assert_int_equal(k->ops->sync(k->st, UINT64_MAX), -EIO);
	kit_foreign(k, other_is_stored);
	assert_non_null(failure(k, main_ns, "k"));
	assert_null(failure(k, other, "k"));
	/* It is tried again. */
	kit_foreign(k, drop_main);
	put_in(k, other, "k", 6000);
	kit_sync(k);
	assert_null(failure(k, main_ns, "k"));
	kit_reopen(k);
	assert_int_equal(expiration_in(k, find_ns(k, "main"), "k"), 5000);
	assert_int_equal(expiration_in(k, find_ns(k, "other"), "k"), 6000);
}

static void spoil_heads(MDB_txn *txn)
{
	raw_put(txn, "kvfs:heads", 0, "\377\377\377\377\377", "junk");
}

/* Nor do entries for which the environment is damaged. Their loss is told at the end. */
static void test_damage_is_left_out(void **state)
{
	struct kit *k = *state;
	char key[512];

	kit_open(k);
	kit_put(k, "before", "one");
	kit_sync(k);
	kit_foreign(k, spoil_heads);
	memset(key, 'l', 511);
	key[511] = '\0';
	put_in(k, k->ns, key, 5000);
	put_in(k, k->ns, "after", 6000);
	assert_int_equal(k->ops->sync(k->st, UINT64_MAX), -EIO);
	assert_non_null(failure(k, k->ns, key));
	assert_null(failure(k, k->ns, "after"));
	assert_int_equal(k->ops->close(k->st), -EIO);
	assert_int_equal(kit_try(k), 0);
	assert_int_equal(expiration_in(k, find_ns(k, "main"), "after"), 6000);
}

static void seen_one(MDB_txn *txn)
{
	raw_put(txn, "main", 0, "k", "one");
	raw_put(txn, "main", 0, "same", "one");
}

static void seen_two(MDB_txn *txn)
{
	raw_put(txn, "main", 0, "k", "two");
}

/* A record is of the value that somebody saw, not of what is there when it is stored. */
static void test_record_of_what_was_seen(void **state)
{
	struct kit *k = *state;
	struct record rec = {.mode = 0100644, .ino = 1};
	const char *const keys[] = {"k", "same"};
	struct entry e;

	k->opts.commit_interval_ms = 60000;
	kit_open(k);
	kit_foreign(k, seen_one);
	for (int i = 0; i < 2; i++) {
		struct value_stamp seen;
		struct change c = {.op = CHANGE_PUT,
			.id = kit_id(k, ENTRY_KEY, keys[i]),
			.rec = &rec,
			.seen = &seen};

		assert_int_equal(k->ops->stamp(k->st, &c.id, &seen), 0);
		assert_int_equal(k->ops->apply(k->st, &c, 1, NULL), 0);
		/* Another record, made of that one. */
		c.seen = NULL;
		assert_int_equal(k->ops->apply(k->st, &c, 1, NULL), 0);
	}
	kit_foreign(k, seen_two);
	kit_sync(k);
	assert_int_equal(kit_get(k, "k", &e), 0);
	assert_true(e.touched && !e.unrecorded);
	assert_int_equal(kit_get(k, "same", &e), 0);
	assert_false(e.touched || e.unrecorded);
}

static void overtake(MDB_txn *txn)
{
	MDB_val gone = {4, (void *)(uintptr_t) "gone"};

	raw_put(txn, "main", 0, "new", "foreign");
	raw_put(txn, "main", 0, "old", "foreign");
	raw_put(txn, "main", 0, "removed", "foreign");
	if (mdb_del(txn, raw_open(txn, "main", 0), &gone, NULL))
		_exit(5);
}

static void overtake_again(MDB_txn *txn)
{
	raw_put(txn, "main", 0, "new", "foreign again");
}

/* Whoever writes last wins, also where the other one's transaction is before the commit of ours. */
static void test_last_writer_wins(void **state)
{
	struct kit *k = *state;
	const char *const keys[] = {"old", "removed", "gone", "other"};
	struct entry e;

	k->opts.commit_interval_ms = 60000;
	kit_open(k);
	for (int i = 0; i < 4; i++)
		kit_put(k, keys[i], "x");
	kit_sync(k);
	kit_put(k, "new", "mount");
	assert_int_equal(kit_try_put(k, "old", "mount", 5, 5000), 0);
	kit_put(k, "gone", "mount");
	kit_put(k, "other", "mount");
	assert_int_equal(kit_drop(k, "removed"), 0);
	kit_foreign(k, overtake);
	kit_sync(k);
	kit_expect(k, "new", "foreign");
	kit_expect(k, "old", "foreign");
	kit_expect(k, "removed", "foreign");
	kit_expect(k, "gone", NULL);
	kit_expect(k, "other", "mount");
	assert_int_equal(kit_get(k, "old", &e), 0);
	assert_true(e.touched && e.rec.expiration == 5000);
	/* Ours comes after theirs here. */
	kit_put(k, "other", "again");
	kit_foreign(k, overtake_again);
	kit_put(k, "new", "mount");
	kit_foreign(k, seen_one);
	kit_sync(k);
	kit_expect(k, "new", "mount");
	kit_expect(k, "other", "again");
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
		TEST(test_records_go_with_their_keys),
		TEST(test_records_go_with_their_namespace),
		TEST(test_removing_from_a_dropped_namespace),
		TEST(test_index_is_tidied),
		TEST(test_rename_that_is_left_out),
		TEST(test_unfit_database_is_left_out),
		TEST(test_damage_is_left_out),
		TEST(test_record_of_what_was_seen),
		TEST(test_last_writer_wins),
#undef TEST
	};

	return cmocka_run_group_tests_name("shared", tests, NULL, NULL);
}
