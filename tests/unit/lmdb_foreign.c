/*
 * lmdb_foreign.c - the LMDB store's layout, what other programs do to the environment meanwhile,
 * and damaged environments. Tests that need to mount something do without where that is not
 * allowed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/base/log.h"
#include "tests/unit/lmdb_kit.h"

static void layout_check(MDB_txn *txn)
{
	MDB_val k = {1, (void *)(uintptr_t) "a"}, v;

	if (raw_count(txn, "main") != 2 || mdb_get(txn, raw_open(txn, "main", 0), &k, &v) ||
		v.mv_size != 3 || memcmp(v.mv_data, "one", 3) != 0)
		_exit(5);
	/* Three expire; one of them has been given another time, one has been removed. */
	if (raw_count(txn, "kvfs:expiry") != 1 || raw_count(txn, "kvfs:nodes") != 3 ||
		raw_count(txn, "kvfs:long") != 1 || raw_count(txn, "kvfs:heads") != 2)
		_exit(6);
}

static void layout_is_clean(MDB_txn *txn)
{
	if (raw_count(txn, "kvfs:long") || raw_count(txn, "kvfs:heads") ||
		raw_count(txn, "kvfs:nodes") != 2)
		_exit(7);
}

static void test_layout(void **state)
{
	struct kit *k = *state;
	char longest[513];

	memset(longest, 'k', 512);
	longest[512] = '\0';
	kit_open(k);
	kit_put(k, "a", "one");
	kit_put(k, longest, "long");
	assert_int_equal(kit_try_put(k, "e", "x", 1, 5000), 0);
	kit_sync(k);
	assert_int_equal(kit_try_put(k, "e", "x", 1, 6000), 0);
	assert_int_equal(kit_try_put(k, "gone", "x", 1, 7000), 0);
	kit_sync(k);
	assert_int_equal(kit_drop(k, "gone"), 0);
	kit_sync(k);
	kit_foreign(k, layout_check);
	assert_int_equal(kit_drop(k, longest), 0);
	kit_sync(k);
	kit_foreign(k, layout_is_clean);
}

static void foreign_writes(MDB_txn *txn)
{
	MDB_val gone = {1, (void *)(uintptr_t) "c"};

	raw_put(txn, "main", 0, "a", "two"); /* the same length */
	raw_put(txn, "main", 0, "new", "n");
	if (mdb_del(txn, raw_open(txn, "main", 0), &gone, NULL))
		_exit(5);
}

static void foreign_elsewhere(MDB_txn *txn)
{
	raw_put(txn, "elsewhere", MDB_CREATE, "a", "x");
}

static void test_foreign_changes(void **state)
{
	struct kit *k = *state;
	struct entry e;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_put(k, "b", "one");
	kit_put(k, "c", "one");
	kit_sync(k);
	kit_foreign(k, foreign_writes);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(kit_get(k, "a", &e), 0);
		assert_true(e.touched && !e.unrecorded);
		assert_int_equal(kit_get(k, "b", &e), 0);
		assert_false(e.touched || e.unrecorded);
		assert_int_equal(kit_get(k, "new", &e), 0);
		assert_true(e.unrecorded);
		assert_int_equal(kit_get(k, "c", &e), -ENOENT);
		kit_expect(k, "a", "two");
		kit_reopen(k);
	}
	kit_put(k, "a", "three");
	kit_sync(k);
	kit_foreign(k, foreign_elsewhere);
	assert_int_equal(kit_get(k, "a", &e), 0);
	assert_false(e.touched);
}

static void foreign_kinds(MDB_txn *txn)
{
	MDB_val k = {6, (void *)(uintptr_t) "record"};

	raw_put(txn, "dup", MDB_CREATE | MDB_DUPSORT, "a", "x");
	raw_open(txn, "integer", MDB_CREATE | MDB_INTEGERKEY);
	raw_open(txn, "reverse", MDB_CREATE | MDB_REVERSEKEY);
	raw_put(txn, "plain", MDB_CREATE, "a", "x");
	if (mdb_put(txn, raw_open(txn, NULL, 0), &k, &k, 0))
		_exit(5);
}

static void test_only_plain_maps_are_namespaces(void **state)
{
	struct kit *k = *state;
	char name[64];
	size_t len;
	uint32_t ns;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_sync(k);
	kit_foreign(k, foreign_kinds);
	assert_int_equal(k->ops->ns_next(k->st, "", 0, name, sizeof(name), &len), 0);
	assert_memory_equal(name, "main", len);
	assert_int_equal(k->ops->ns_next(k->st, "main", 4, name, sizeof(name), &len), 0);
	assert_memory_equal(name, "plain", len);
	assert_int_equal(k->ops->ns_next(k->st, "plain", 5, name, sizeof(name), &len), -ENOENT);
	assert_int_equal(k->ops->ns_find(k->st, "dup", 3, &ns), -EOPNOTSUPP);
	assert_int_equal(k->ops->ns_find(k->st, "record", 6, &ns), -ENOENT);
	assert_int_equal(k->ops->ns_find(k->st, "kvfs:nodes", 10, &ns), -ENOENT);
	assert_int_equal(k->ops->ns_create(k->st, "kvfs:nodes", 10, NULL, &ns), -EPERM);
	assert_int_equal(k->ops->ns_create(k->st, "record", 6, NULL, &ns), -EEXIST);
	assert_int_equal(k->ops->ns_rename(k->st, k->ns, "dup", 3, NOW), -EEXIST);
}

static void foreign_drop(MDB_txn *txn)
{
	if (mdb_drop(txn, raw_open(txn, "main", 0), 1))
		_exit(5);
}

static void foreign_main(MDB_txn *txn)
{
	raw_put(txn, "main", MDB_CREATE, "again", "x");
}

static void test_dropped_by_another_program(void **state)
{
	struct kit *k = *state;
	struct entry e;
	uint32_t ns;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_sync(k);
	kit_foreign(k, foreign_drop);
	assert_int_equal(kit_get(k, "a", &e), -ENOENT);
	kit_expect(k, "a", NULL);
	assert_int_equal(k->ops->ns_find(k->st, "main", 4, &ns), -ENOENT);
	kit_foreign(k, foreign_main);
	assert_int_equal(k->ops->ns_find(k->st, "main", 4, &ns), 0);
	assert_int_equal(ns, k->ns);
	kit_expect(k, "again", "x");
	/* Changes that have been accepted are not lost with the database. */
	kit_foreign(k, foreign_drop);
	kit_put(k, "b", "two");
	kit_sync(k);
	kit_reopen(k);
	kit_expect(k, "b", "two");
	kit_expect(k, "again", NULL);
}

static void damage_records(MDB_txn *txn)
{
	MDB_cursor *cur;
	MDB_val k, v, junk = {3, (void *)(uintptr_t) "\1\2\3"};
	unsigned char bytes[4096];

	if (mdb_cursor_open(txn, raw_open(txn, "kvfs:nodes", 0), &cur))
		_exit(5);
	while (mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0) {
		memcpy(bytes, v.mv_data, v.mv_size);
		bytes[0] = 0xff;
		v.mv_data = bytes;
		if (mdb_cursor_put(cur, &k, &v, MDB_CURRENT))
			_exit(6);
	}
	if (mdb_cursor_get(cur, &k, &v, MDB_LAST) || mdb_cursor_put(cur, &k, &junk, MDB_CURRENT))
		_exit(7);
	mdb_cursor_close(cur);
	raw_put(txn, "kvfs:expiry", 0, "\1\1\1\1\1\1\1\1", "??");
	raw_put(txn, "kvfs:expiry", 0, "short", "\1\2\3\4\200\1\2\3\4\5\6\7\7\7");
	raw_put(txn, "kvfs:heads", 0, "x", "y");
}

/* How many lines of the file speak of damaged records. */
static int count_damage(const char *path)
{
	char line[1024];
	FILE *f = fopen(path, "r");
	int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "the record of ") != NULL;
	fclose(f);
	return n;
}

/* What cannot be read is nothing, and replaced or removed like nothing. */
static void test_damaged_records(void **state)
{
	struct kit *k = *state;
	char log[KIT_PATH + 8];
	struct entry_id id;
	struct view *v;
	struct entry e;

	snprintf(log, sizeof(log), "%s/log", k->top);
	assert_int_equal(log_open(log, false), 0);
	kit_open(k);
	assert_int_equal(kit_try_put(k, "a", "one", 3, 5), 0);
	kit_put(k, "b", "two");
	kit_put(k, "c", "three");
	kit_sync(k);
	kit_foreign(k, damage_records);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(kit_get(k, "a", &e), 0);
		assert_true(e.unrecorded);
		assert_int_equal(e.size, 3);
		for (int i = 0; i < 20; i++)
			assert_int_equal(kit_get(k, "b", &e), 0);
		assert_int_equal(count_damage(log), 2 * (round + 1));
		assert_int_equal(k->ops->view_begin(k->st, INT64_MAX - 1, &v), 0);
		for (size_t i = 0; k->ops->view_expired(v, i, &id) == 0; i++)
			assert_true(i < 10);
		k->ops->view_next_expiry(v);
		k->ops->view_end(v);
		kit_reopen(k);
	}
	assert_int_equal(log_open(NULL, false), 0);
	unlink(log);
	kit_put(k, "a", "new");
	assert_int_equal(kit_drop(k, "b"), 0);
	struct entry_id c = kit_id(k, ENTRY_KEY, "c");
	struct record rec = {.mode = 0100600, .ino = 7};
	struct change put = {.op = CHANGE_PUT, .id = c, .rec = &rec};
	assert_int_equal(k->ops->apply(k->st, &put, 1, NULL), 0);
	kit_sync(k);
	kit_reopen(k);
	assert_int_equal(kit_get(k, "a", &e), 0);
	assert_false(e.unrecorded);
	assert_int_equal(kit_get(k, "b", &e), -ENOENT);
	assert_int_equal(kit_get(k, "c", &e), 0);
	assert_int_equal(e.rec.mode, 0100600);
	kit_expect(k, "c", "three");
	assert_int_equal(k->ops->ns_remove(k->st, k->ns, INT64_C(1000) * 1000000000), -ENOTEMPTY);
}

struct watcher {
	struct kit *k;
	pthread_mutex_t lock;
	pthread_cond_t called;
	int calls;
	enum foreign_verdict a, b, c, added;
	bool old_is_one;
};

static void watcher_called(void *arg, struct foreign_change *what)
{
	struct watcher *w = arg;
	struct kit *k = w->k;
	struct entry_id a = kit_id(k, ENTRY_KEY, "a"), b = kit_id(k, ENTRY_KEY, "b"),
			c = kit_id(k, ENTRY_KEY, "c"), n = kit_id(k, ENTRY_KEY, "new");
	struct blob *old;

	pthread_mutex_lock(&w->lock);
	w->a = k->ops->foreign_compare(what, &a);
	w->b = k->ops->foreign_compare(what, &b);
	w->c = k->ops->foreign_compare(what, &c);
	w->added = k->ops->foreign_compare(what, &n);
	if (k->ops->foreign_old_value(what, &a, &old) == 0) {
		w->old_is_one = blob_size(old) == 3 && memcmp(blob_data(old), "one", 3) == 0;
		blob_unref(old);
	}
	w->calls++;
	pthread_cond_signal(&w->called);
	pthread_mutex_unlock(&w->lock);
}

static void test_watch(void **state)
{
	struct kit *k = *state;
	struct watcher w = {
		.k = k, .lock = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};
	struct timespec until;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_put(k, "b", "one");
	kit_put(k, "c", "one");
	kit_sync(k);
	k->ops->watch(k->st, watcher_called, &w);
	/* Our own commits are nobody else's. */
	kit_put(k, "b", "two");
	kit_sync(k);
	kit_foreign(k, foreign_writes);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	pthread_mutex_lock(&w.lock);
	while (!w.calls && pthread_cond_timedwait(&w.called, &w.lock, &until) == 0)
		;
	assert_int_equal(w.calls, 1);
	pthread_mutex_unlock(&w.lock);
	k->ops->watch(k->st, NULL, NULL);
	assert_int_equal(w.a, FOREIGN_CHANGED);
	assert_int_equal(w.c, FOREIGN_GONE);
	assert_int_equal(w.added, FOREIGN_CHANGED);
	assert_true(w.old_is_one);
	kit_close(k);
}

static void expect_refused(struct kit *k, int error)
{
	struct stat before, after;

	assert_int_equal(stat(k->data, &before), 0);
	assert_int_equal(kit_try(k), error);
	assert_true(strlen(k->why) > 5);
	assert_int_equal(access(k->lock, F_OK), -1);
	assert_int_equal(stat(k->data, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	assert_true(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static void fill_file(const char *path, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	for (size_t i = 0; i < len; i++)
		fputc((int)(i * 2654435761u >> 7), f);
	fclose(f);
}

static void test_damaged_environments(void **state)
{
	struct kit *k = *state;
	struct stat st;
	char big[9000];

	assert_int_equal(mkdir(k->dir, 0700), 0);
	for (size_t len = 1; len < 100000; len *= 7) {
		fill_file(k->data, len);
		expect_refused(k, -EINVAL);
	}
	unlink(k->data);
	kit_open(k);
	memset(big, 'v', sizeof(big));
	for (int i = 0; i < 30; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%d", i);
		assert_int_equal(kit_try_put(k, key, big, sizeof(big), 0), 0);
	}
	kit_sync(k);
	kit_close(k);
	unlink(k->lock);
	assert_int_equal(stat(k->data, &st), 0);
	for (int part = 9; part > 0; part -= 2) {
		assert_int_equal(truncate(k->data, st.st_size * part / 10 / 4096 * 4096), 0);
		expect_refused(k, -EINVAL);
	}
	unlink(k->data);
	assert_int_equal(mkdir(k->data, 0700), 0);
	assert_int_equal(kit_try(k), -EISDIR);
	assert_int_equal(access(k->lock, F_OK), -1);
	rmdir(k->data);
	rmdir(k->dir);
	fill_file(k->dir, 10);
	assert_int_equal(kit_try(k), -ENOTDIR);
}

static void test_making_an_environment(void **state)
{
	struct kit *k = *state;
	struct lmdb_options other = k->opts;
	struct store *second;
	struct stat st;

	k->opts.create = false;
	assert_int_equal(kit_try(k), -ENOENT);
	k->opts.dir = "/tmp/kvfs-lmdb-none/below";
	k->opts.create = true;
	assert_int_equal(kit_try(k), -ENOENT);
	k->opts.dir = k->dir;
	kit_open(k);
	assert_int_equal(stat(k->dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(k->data, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(lmdb_store_open(&other, &second, k->why, sizeof(k->why)), -EBUSY);
	kit_put(k, "a", "one");
	kit_sync(k);
	kit_close(k);
	/* What was allocated ahead has been given back. */
	assert_int_equal(stat(k->data, &st), 0);
	assert_true(st.st_blocks * 512 <= st.st_size + 4096);
}

/* An environment that kvfs has never written to is read as it is. */
static void test_readonly(void **state)
{
	struct kit *k = *state;
	struct change c = {.op = CHANGE_REMOVE};
	char name[64];
	struct entry e;
	size_t len;

	assert_int_equal(mkdir(k->dir, 0700), 0);
	kit_foreign(k, foreign_main);
	k->opts.readonly = true;
	for (int on_readonly = 0; on_readonly < 2; on_readonly++) {
		assert_int_equal(kit_try(k), 0);
		assert_int_equal(k->ops->ns_next(k->st, "", 0, name, sizeof(name), &len), 0);
		assert_int_equal(k->ops->ns_find(k->st, "main", 4, &k->ns), 0);
		assert_int_equal(kit_get(k, "again", &e), 0);
		assert_true(e.unrecorded);
		kit_expect(k, "again", "x");
		c.id = kit_id(k, ENTRY_KEY, "again");
		assert_int_equal(k->ops->apply(k->st, &c, 1, NULL), -EROFS);
		kit_close(k);
		unlink(k->lock);
		if (mount(k->dir, k->dir, NULL, MS_BIND, NULL) ||
			mount(NULL, k->dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
			break;
	}
	while (umount(k->dir) == 0)
		;
}

int lmdb_foreign_tests(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		TEST(test_layout),
		TEST(test_foreign_changes),
		TEST(test_only_plain_maps_are_namespaces),
		TEST(test_dropped_by_another_program),
		TEST(test_damaged_records),
		TEST(test_watch),
		TEST(test_damaged_environments),
		TEST(test_making_an_environment),
		TEST(test_readonly),
#undef TEST
	};

	return cmocka_run_group_tests_name("LMDB and other programs", tests, NULL, NULL);
}
