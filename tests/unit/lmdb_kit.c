/*
 * lmdb_kit.c - see lmdb_kit.h.
 */
#include "tests/unit/lmdb_kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int kit_try(struct kit *k)
{
	int rc = lmdb_store_open(&k->opts, &k->st, k->why, sizeof(k->why));

	if (rc)
		k->st = NULL;
	else
		k->ops = k->st->ops;
	return rc;
}

void kit_close(struct kit *k)
{
	if (k->st)
		assert_int_equal(k->ops->close(k->st), 0);
	k->st = NULL;
}

/* Opens, with the namespace "main". */
void kit_open(struct kit *k)
{
	int rc = kit_try(k);

	if (rc)
		fail_msg("open: %s", k->why);
	rc = k->ops->ns_find(k->st, "main", 4, &k->ns);
	if (rc == -ENOENT)
		rc = k->ops->ns_create(k->st, "main", 4, NULL, &k->ns);
	assert_int_equal(rc, 0);
}

void kit_reopen(struct kit *k)
{
	kit_close(k);
	kit_open(k);
}

static void kit_paths(struct kit *k, const char *top)
{
	snprintf(k->top, sizeof(k->top), "%s", top);
	snprintf(k->dir, sizeof(k->dir), "%.100s/env", top);
	snprintf(k->data, sizeof(k->data), "%.100s/env/data.mdb", top);
	snprintf(k->lock, sizeof(k->lock), "%.100s/env/lock.mdb", top);
	k->opts = (struct lmdb_options){.dir = k->dir, .create = true, .commit_interval_ms = 5};
}

int kit_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));
	char top[] = "/tmp/kvfs-lmdb-XXXXXX";

	assert_non_null(k);
	assert_non_null(mkdtemp(top));
	kit_paths(k, top);
	*state = k;
	return 0;
}

int kit_teardown(void **state)
{
	struct kit *k = *state;

	if (k->st)
		k->ops->close(k->st);
	unlink(k->data);
	unlink(k->lock);
	rmdir(k->data);
	rmdir(k->dir);
	unlink(k->dir);
	umount(k->top);
	rmdir(k->top);
	free(k);
	return 0;
}

/* What the other program's process ends with. */
static int foreign_status(struct kit *k, void (*work)(MDB_txn *txn))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		MDB_env *env;
		MDB_txn *txn;

		if (mdb_env_create(&env) || mdb_env_set_maxdbs(env, 64) ||
			mdb_env_set_mapsize(env, 256 << 20) || mdb_env_open(env, k->dir, 0, 0600) ||
			mdb_txn_begin(env, NULL, 0, &txn))
			_exit(1);
		work(txn);
		_exit(mdb_txn_commit(txn) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

void kit_foreign(struct kit *k, void (*work)(MDB_txn *txn))
{
	assert_int_equal(foreign_status(k, work), 0);
}

void kit_await(struct kit *k, void (*work)(MDB_txn *txn))
{
	const struct timespec pause = {.tv_nsec = 20000000};

	for (int i = 0; foreign_status(k, work); i++) {
		assert_true(i < 1000);
		nanosleep(&pause, NULL);
	}
}

MDB_dbi raw_open(MDB_txn *txn, const char *db, unsigned flags)
{
	MDB_dbi dbi;

	if (mdb_dbi_open(txn, db, flags, &dbi))
		_exit(2);
	return dbi;
}

void raw_put(MDB_txn *txn, const char *db, unsigned flags, const char *key, const char *value)
{
	MDB_val k = {strlen(key), (void *)(uintptr_t)key},
		v = {strlen(value), (void *)(uintptr_t)value};

	if (mdb_put(txn, raw_open(txn, db, flags), &k, &v, 0))
		_exit(3);
}

size_t raw_count(MDB_txn *txn, const char *db)
{
	MDB_stat stat;

	if (mdb_stat(txn, raw_open(txn, db, 0), &stat))
		_exit(4);
	return stat.ms_entries;
}

struct entry_id kit_id(struct kit *k, enum entry_kind kind, const char *bytes)
{
	return (struct entry_id){
		k->ns, kind, (uint16_t)strlen(bytes), (const unsigned char *)bytes};
}

int kit_try_put(struct kit *k, const char *key, const void *value, size_t len, int64_t expiration)
{
	struct record rec = {.mode = 0100644, .ino = 1, .expiration = expiration};
	struct change c = {.op = CHANGE_PUT, .id = kit_id(k, ENTRY_KEY, key), .rec = &rec};
	int rc = blob_new_copy(k->st->blobs, value, len, &c.value);

	if (rc == 0)
		rc = k->ops->throttle(k->st, len);
	if (rc == 0)
		rc = k->ops->apply(k->st, &c, 1, NULL);
	blob_unref(c.value);
	return rc;
}

void kit_put(struct kit *k, const char *key, const char *value)
{
	assert_int_equal(kit_try_put(k, key, value, strlen(value), 0), 0);
}

int kit_drop(struct kit *k, const char *key)
{
	struct change c = {.op = CHANGE_REMOVE, .id = kit_id(k, ENTRY_KEY, key)};

	return k->ops->apply(k->st, &c, 1, NULL);
}

void kit_sync(struct kit *k)
{
	assert_int_equal(k->ops->sync(k->st, UINT64_MAX), 0);
}

int kit_get(struct kit *k, const char *key, struct entry *e)
{
	struct entry_id id = kit_id(k, ENTRY_KEY, key);
	struct view *v;

	assert_int_equal(k->ops->view_begin(k->st, NOW, &v), 0);
	int rc = k->ops->view_get(v, &id, e);
	k->ops->view_end(v);
	return rc;
}

void kit_expect(struct kit *k, const char *key, const char *value)
{
	struct entry_id id = kit_id(k, ENTRY_KEY, key);
	struct value v;
	int rc = k->ops->read(k->st, &id, NOW, &v);

	assert_int_equal(rc, value ? 0 : -ENOENT);
	if (!value)
		return;
	assert_int_equal(v.len, strlen(value));
	assert_memory_equal(v.data, value, v.len);
	value_release(&v);
}
