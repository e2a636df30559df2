/*
 * txn.c - transactions: read ones from a pool, write ones, and the book of whose they were.
 *
 * A read transaction that has been used is reset, not freed: it keeps its slot in LMDB's table of
 * readers, so that beginning the next one is a few loads and stores, without a system call.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/statvfs.h>

#include "backends/base/log.h"
#include "backends/lmdb/env.h"

static MDB_txn *pool_take(struct env *e)
{
	lock_take(&e->pool_lock);
	MDB_txn *txn = e->pool_n ? e->pool[--e->pool_n] : NULL;
	lock_drop(&e->pool_lock);
	return txn;
}

static void pool_give(struct env *e, MDB_txn *txn)
{
	lock_take(&e->pool_lock);
	if (e->pool_n < ENV_POOL_MAX) {
		e->pool[e->pool_n++] = txn;
		txn = NULL;
	}
	lock_drop(&e->pool_lock);
	if (txn)
		mdb_txn_abort(txn);
}

static int read_txn(struct env *e, MDB_txn **out)
{
	MDB_txn *txn = pool_take(e);
	int rc;

	if (!e->mdb)
		return MDB_PANIC;
	if (txn) {
		rc = mdb_txn_renew(txn);
		if (rc == 0)
			*out = txn;
		else
			mdb_txn_abort(txn);
		return rc;
	}
	rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, out);
	if (rc == MDB_READERS_FULL) {
		mdb_reader_check(e->mdb, NULL);
		rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, out);
	}
	return rc;
}

int env_read_begin(struct env *e, bool nested, struct txn *t)
{
	struct txn new = {.env = e};

	gate_enter(&e->map, nested);
	/* Handles first: what is younger than them is unknown to the transaction. */
	for (int i = 0; i < OWN_COUNT; i++)
		new.own[i] = atomic_load(&e->own[i]);
	int rc = read_txn(e, &new.mdb);
	if (rc) {
		gate_leave(&e->map);
		return rc == MDB_PANIC ? ENV_REMAP : env_error(e, rc, "beginning to read");
	}
	new.id = mdb_txn_id(new.mdb);
	*t = new;
	return 0;
}

void env_read_end(struct txn *t)
{
	mdb_txn_reset(t->mdb);
	pool_give(t->env, t->mdb);
	if (t->pinned)
		gate_leave_handed(&t->env->map);
	else
		gate_leave(&t->env->map);
}

void env_read_pin(struct txn *t)
{
	t->pinned = true;
	gate_hand_over(&t->env->map);
}

void env_read_end_keeping_handles(struct txn *t)
{
	mdb_txn_commit(t->mdb);
	gate_leave(&t->env->map);
}

/* A write transaction has begun: nobody else can commit until it has ended. */
static void book_begin(struct env *e, uint64_t id)
{
	lock_take(&e->ids_lock);
	if (id - 1 > e->known_last)
		e->foreign = e->known_last = id - 1;
	lock_drop(&e->ids_lock);
}

static void book_landing(struct env *e, uint64_t id)
{
	lock_take(&e->ids_lock);
	e->landing = id;
	lock_drop(&e->ids_lock);
}

static void book_landed(struct env *e, uint64_t id, bool ok)
{
	lock_take(&e->ids_lock);
	e->landing = 0;
	if (ok)
		e->own_last = id;
	if (ok && e->known_last < id)
		e->known_last = id;
	lock_drop(&e->ids_lock);
}

void env_own_landed(struct env *e, uint64_t id)
{
	book_landed(e, id, true);
}

uint64_t env_foreign(struct env *e, uint64_t snapshot)
{
	lock_take(&e->ids_lock);
	if (snapshot > e->known_last && snapshot != e->landing)
		e->foreign = e->known_last = snapshot;
	uint64_t foreign = e->foreign;
	lock_drop(&e->ids_lock);
	return foreign;
}

uint64_t env_newest_foreign(struct env *e)
{
	lock_take(&e->ids_lock);
	uint64_t foreign = e->foreign;
	lock_drop(&e->ids_lock);
	return foreign;
}

int env_write_begin(struct env *e, struct txn *t)
{
	struct txn new = {.env = e, .writes = true, .serial = ++e->serial};
	uint64_t last;
	int rc = e->broken ? env_revive(e, false, &last) : 0;

	if (rc)
		return rc;
	rc = mdb_txn_begin(e->mdb, NULL, 0, &new.mdb);
	if (rc == MDB_PANIC) {
		rc = env_revive(e, false, &last);
		if (rc)
			return rc;
		rc = mdb_txn_begin(e->mdb, NULL, 0, &new.mdb);
	}
	while (rc == MDB_MAP_RESIZED) {
		rc = env_set_map_size(e, 0);
		if (rc)
			return rc;
		rc = mdb_txn_begin(e->mdb, NULL, 0, &new.mdb);
	}
	if (rc)
		return env_error(e, rc, "beginning to write");
	new.id = mdb_txn_id(new.mdb);
	book_begin(e, new.id);
	for (int i = 0; i < OWN_COUNT; i++)
		new.own[i] = atomic_load(&e->own[i]);
	*t = new;
	return 0;
}

/* LMDB takes a write that was cut short for an I/O error; mostly the medium is full. */
static bool medium_is_full(const struct env *e)
{
	struct statvfs fs;

	return fstatvfs(e->fd, &fs) == 0 && fs.f_bavail < 16;
}

int env_write_commit(struct txn *t)
{
	struct env *e = t->env;

	/* A transaction that changed nothing takes no number: another program may take it next. */
	book_landing(e, t->dirty ? t->id : 0);
	int rc = mdb_txn_commit(t->mdb);
	t->mdb = NULL;
	book_landed(e, t->id, rc == 0 && t->dirty);
	if (rc == EIO && medium_is_full(e))
		rc = ENOSPC;
	return env_error(e, rc, "committing");
}

void env_write_abort(struct txn *t)
{
	mdb_txn_abort(t->mdb);
	t->mdb = NULL;
}

int txn_get(struct txn *t, MDB_dbi dbi, const void *key, size_t len, MDB_val *data)
{
	MDB_val k = {.mv_size = len, .mv_data = (void *)(uintptr_t)key};

	if (!dbi)
		return -ENOENT;
	int rc = mdb_get(t->mdb, dbi, &k, data);
	if (!t->writes && (rc == EINVAL || rc == MDB_BAD_DBI))
		return -ENOENT;
	return env_error(t->env, rc, "reading");
}

int txn_put(struct txn *t, MDB_dbi dbi, const void *key, size_t len, const void *data, size_t size)
{
	MDB_val k = {.mv_size = len, .mv_data = (void *)(uintptr_t)key};
	MDB_val d = {.mv_size = size, .mv_data = (void *)(uintptr_t)data};

	t->dirty = true;
	return env_error(t->env, mdb_put(t->mdb, dbi, &k, &d, 0), "writing");
}

int txn_reserve(struct txn *t, MDB_dbi dbi, const void *key, size_t len, size_t size, void **data)
{
	MDB_val k = {.mv_size = len, .mv_data = (void *)(uintptr_t)key};
	MDB_val d = {.mv_size = size};

	t->dirty = true;
	int rc = mdb_put(t->mdb, dbi, &k, &d, MDB_RESERVE);
	if (rc == 0)
		*data = d.mv_data;
	return env_error(t->env, rc, "writing");
}

int txn_del(struct txn *t, MDB_dbi dbi, const void *key, size_t len)
{
	MDB_val k = {.mv_size = len, .mv_data = (void *)(uintptr_t)key};
	int rc = mdb_del(t->mdb, dbi, &k, NULL);

	if (rc == MDB_NOTFOUND)
		return 0;
	t->dirty = true;
	return env_error(t->env, rc, "removing");
}

bool txn_is_empty(struct txn *t, MDB_dbi dbi)
{
	MDB_stat stat;

	return !dbi || mdb_stat(t->mdb, dbi, &stat) || stat.ms_entries == 0;
}

int txn_cursor(struct txn *t, MDB_dbi dbi, MDB_cursor **out)
{
	if (!dbi)
		return -ENOENT;
	int rc = mdb_cursor_open(t->mdb, dbi, out);
	if (!t->writes && (rc == EINVAL || rc == MDB_BAD_DBI))
		return -ENOENT;
	return env_error(t->env, rc, "reading");
}
