/*
 * env.c - opening, closing, the map and its size, errors.
 *
 * The map grows by doubling. LMDB can only resize it while this process has no transaction, which
 * the map gate sees to. A read-write environment never gets smaller than what another program made
 * of it.
 */
#include "backends/lmdb/env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/base/log.h"

enum { READERS_MAX = 510 };

const char *const own_names[OWN_COUNT] = {
	[OWN_NODES] = "kvfs:nodes",
	[OWN_EXPIRY] = "kvfs:expiry",
	[OWN_META] = "kvfs:meta",
	[OWN_LONG] = "kvfs:long",
	[OWN_HEADS] = "kvfs:heads",
};

int env_error(const struct env *e, int rc, const char *doing)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_RESIZED:
		return ENV_REMAP;
	case MDB_MAP_FULL:
		return ENV_MAP_FULL;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EROFS:
		return -rc;
	default:
		log_error("%s: %s: %s", e->dir, doing, mdb_strerror(rc));
		return rc > 0 ? -rc : -EIO;
	}
}

bool env_name_reserved(const void *name, size_t len)
{
	for (int i = 0; i < OWN_COUNT; i++) {
		if (len == strlen(own_names[i]) && memcmp(name, own_names[i], len) == 0)
			return true;
	}
	return false;
}

static unsigned own_flags(int db)
{
	return db == OWN_EXPIRY ? MDB_DUPSORT : 0;
}

/* Opens handles to those of our databases that are there. */
static int own_open(struct env *e, char *why, size_t why_cap)
{
	MDB_txn *txn = NULL;
	int rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, &txn);

	if (rc == 0)
		rc = mdb_dbi_open(txn, NULL, 0, &e->main_dbi);
	for (int i = 0; i < OWN_COUNT && rc == 0; i++) {
		unsigned flags;
		MDB_dbi dbi;

		rc = mdb_dbi_open(txn, own_names[i], 0, &dbi);
		if (rc == MDB_NOTFOUND) {
			rc = 0;
			continue;
		}
		if (rc == 0)
			rc = mdb_dbi_flags(txn, dbi, &flags);
		if (rc == 0 && flags != own_flags(i))
			rc = MDB_INCOMPATIBLE;
		if (rc)
			snprintf(why, why_cap, "its database %s is not what kvfs makes",
				own_names[i]);
		else
			atomic_store(&e->own[i], dbi);
	}
	if (rc) {
		if (!*why)
			snprintf(why, why_cap, "it cannot be read: %s", mdb_strerror(rc));
		mdb_txn_abort(txn);
		return rc > 0 ? -rc : -EINVAL;
	}
	e->known_last = mdb_txn_id(txn);
	mdb_txn_commit(txn); /* which keeps the handles */
	return 0;
}

static int open_once(struct env *e, const char *dir, size_t map_size, unsigned more)
{
	unsigned flags = MDB_NOTLS | (e->readonly ? MDB_RDONLY : 0) | more;
	int rc = mdb_env_create(&e->mdb);

	if (rc == 0)
		rc = mdb_env_set_mapsize(e->mdb, map_size);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(e->mdb, ENV_DBS_MAX);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(e->mdb, READERS_MAX);
	/* On a read-only filesystem LMDB finds that it cannot lock, and goes without. */
	if (rc == 0)
		rc = mdb_env_open(e->mdb, dir, flags, 0600);
	return rc;
}

/* Whether no process has the environment open now. Each has a lock on the lock file's beginning. Not to be
 * asked while this process is one of them: its own would be dropped. */
static bool is_unused(const char *dir)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	char *path = NULL;
	bool unused = false;

	if (asprintf(&path, "%s/lock.mdb", dir) < 0)
		return false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		unused = errno == ENOENT;
	else
		unused = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
	if (fd >= 0)
		close(fd);
	free(path);
	return unused;
}

/* Who may not write to the lock file cannot tell writers what it reads. Where there are none that does not
 * matter, as with a backup or what root has put there for all. */
static int open_mdb(struct env *e, const char *dir, size_t map_size)
{
	int rc = open_once(e, dir, map_size, 0);

	if (rc != EACCES || !e->readonly || !is_unused(dir))
		return rc;
	mdb_env_close(e->mdb);
	e->mdb = NULL;
	rc = open_once(e, dir, map_size, MDB_NOLOCK);
	if (rc == 0)
		log_warning("%s: its lock.mdb may not be written to, so it is read without locks: "
			    "unmount "
			    "it before another program writes to it",
			dir);
	return rc;
}

int env_open(struct env *e, const char *dir, int fd, bool readonly, size_t map_size, char *why,
	size_t why_cap)
{
	MDB_envinfo info;
	MDB_stat stat;
	int rc;

	*e = (struct env){.readonly = readonly, .fd = fd, .dir = strdup(dir)};
	lock_init(&e->writer, LOCK_WRITER);
	lock_init(&e->handles, LOCK_HANDLES);
	lock_init(&e->pool_lock, LOCK_POOL);
	lock_init(&e->ids_lock, LOCK_IDS);
	gate_init(&e->map, LOCK_MAP);
	if (!e->dir) {
		rc = -ENOMEM;
		goto fail;
	}
	rc = open_mdb(e, dir, map_size);
	if (rc) {
		if (rc == EACCES && e->readonly && !is_unused(dir))
			snprintf(why, why_cap,
				"another program has it open, and its lock.mdb may not be written "
				"to, "
				"which a reader beside others must");
		else
			snprintf(why, why_cap, "LMDB cannot open it: %s", mdb_strerror(rc));
		rc = rc > 0 ? -rc : -EINVAL;
		goto fail;
	}
	mdb_reader_check(e->mdb, NULL);
	rc = own_open(e, why, why_cap);
	if (rc)
		goto fail;
	mdb_env_info(e->mdb, &info);
	mdb_env_stat(e->mdb, &stat);
	e->map_size = info.me_mapsize;
	e->page_size = stat.ms_psize;
	return 0;
fail:
	env_close(e);
	return rc;
}

void env_close(struct env *e)
{
	for (size_t i = 0; i < e->pool_n; i++)
		mdb_txn_abort(e->pool[i]);
	if (e->mdb)
		mdb_env_close(e->mdb);
	if (e->fd >= 0)
		close(e->fd);
	gate_destroy(&e->map);
	lock_destroy(&e->ids_lock);
	lock_destroy(&e->pool_lock);
	lock_destroy(&e->handles);
	lock_destroy(&e->writer);
	free(e->dir);
	*e = (struct env){.fd = -1};
}

void env_alone_begin(struct env *e)
{
	atomic_store(&e->alone_wanted, true);
	if (e->release_pins)
		e->release_pins(e->pins_arg);
	gate_close(&e->map);
}

void env_alone_end(struct env *e)
{
	gate_open(&e->map);
	atomic_store(&e->alone_wanted, false);
}

/* Sets the size of the map; 0: what the file says. LMDB gives up the old map before it has the new
 * one, so we see first whether there will be one. */
int env_set_map_size(struct env *e, size_t size)
{
	MDB_envinfo info;
	int rc = 0;

	if (!e->mdb)
		return -EIO;
	if (size) {
		void *trial = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, e->fd, 0);

		if (trial == MAP_FAILED)
			return -errno;
		munmap(trial, size);
	}
	env_alone_begin(e);
	rc = mdb_env_set_mapsize(e->mdb, size);
	if (rc == 0 && mdb_env_info(e->mdb, &info) == 0)
		e->map_size = info.me_mapsize;
	env_alone_end(e);
	return env_error(e, rc, "resizing the map");
}

int env_grow(struct env *e)
{
	size_t size = e->map_size;

	if (size > SIZE_MAX / 4)
		return -ENOSPC;
	return env_set_map_size(e, 2 * size);
}

int env_adopt_size(struct env *e)
{
	uint64_t last;

	lock_take(&e->writer);
	int rc = e->broken || env_is_broken(e, false) ? env_revive(e, false, &last)
						      : env_set_map_size(e, 0);
	lock_drop(&e->writer);
	return rc;
}

bool env_is_broken(struct env *e, bool alone)
{
	MDB_txn *txn = NULL;

	if (!alone)
		gate_enter(&e->map, false);
	if (e->mdb && mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, &txn) == MDB_PANIC)
		e->broken = true;
	if (!alone)
		gate_leave(&e->map);
	if (txn)
		mdb_txn_abort(txn);
	return e->broken;
}

/* All but what others hold. Alone. */
static int reopen(struct env *e)
{
	uint64_t known = e->known_last;
	char why[256] = "";
	MDB_txn *txn;

	for (size_t i = 0; i < e->pool_n; i++)
		mdb_txn_abort(e->pool[i]);
	e->pool_n = 0;
	if (e->mdb)
		mdb_env_close(e->mdb);
	e->mdb = NULL;
	for (int i = 0; i < OWN_COUNT; i++)
		atomic_store(&e->own[i], 0);
	e->opened++;
	int rc = open_mdb(e, e->dir, e->map_size);
	if (rc == 0)
		rc = own_open(e, why, sizeof(why)) ? EIO : 0;
	if (rc == 0)
		rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, &txn);
	if (rc == 0) {
		e->reopen_handles(e->handles_arg, txn);
		mdb_txn_commit(txn); /* which keeps them */
	}
	/* What others have committed meanwhile is to be noticed as ever. */
	e->known_last = known;
	return rc;
}

int env_revive(struct env *e, bool alone, uint64_t *last)
{
	MDB_envinfo info;

	if (!alone)
		env_alone_begin(e);
	int rc = reopen(e);
	e->broken = rc != 0;
	if (rc && e->mdb) {
		mdb_env_close(e->mdb);
		e->mdb = NULL;
	}
	if (rc == 0) {
		mdb_env_info(e->mdb, &info);
		e->map_size = info.me_mapsize;
		*last = info.me_last_txnid;
	}
	if (!alone)
		env_alone_end(e);
	return env_error(e, rc, "opening it anew after an error");
}

bool env_db_present(struct txn *t, const void *name, size_t len)
{
	MDB_val data;

	return txn_get(t, t->env->main_dbi, name, len, &data) == 0;
}

bool env_own_present(struct txn *t)
{
	for (int i = 0; i < OWN_COUNT; i++) {
		if (!t->own[i] || !env_db_present(t, own_names[i], strlen(own_names[i])))
			return false;
	}
	return true;
}

static int db_create(struct env *e, const char *name, unsigned flags, MDB_dbi *dbi)
{
	struct txn t;
	int rc = env_write_begin(e, &t);

	if (rc)
		return rc;
	lock_take(&e->handles);
	t.dirty = !env_db_present(&t, name, strlen(name));
	rc = env_error(e, mdb_dbi_open(t.mdb, name, flags | MDB_CREATE, dbi), "making a database");
	if (rc)
		env_write_abort(&t);
	else
		rc = env_write_commit(&t);
	lock_drop(&e->handles);
	return rc;
}

int env_db_create(struct env *e, const char *name, unsigned flags, _Atomic MDB_dbi *handle)
{
	MDB_dbi dbi = atomic_load(handle);
	int rc;

	if (dbi) {
		env_alone_begin(e);
		if (e->mdb)
			mdb_dbi_close(e->mdb, dbi);
		atomic_store(handle, 0);
		env_alone_end(e);
	}
	do {
		rc = db_create(e, name, flags, &dbi);
		if (rc == ENV_MAP_FULL) {
			int grown = env_grow(e);

			rc = grown ? grown : ENV_MAP_FULL;
		}
	} while (rc == ENV_MAP_FULL);
	if (rc == 0)
		atomic_store(handle, dbi);
	return rc;
}

int env_own_create(struct env *e)
{
	for (int i = 0; i < OWN_COUNT; i++) {
		struct txn t;
		int rc = env_write_begin(e, &t);

		if (rc)
			return rc;
		bool present = t.own[i] && env_db_present(&t, own_names[i], strlen(own_names[i]));
		env_write_abort(&t);
		if (!present)
			rc = env_db_create(e, own_names[i], own_flags(i), &e->own[i]);
		if (rc)
			return rc;
	}
	return 0;
}

void env_check_readers(struct env *e)
{
	gate_enter(&e->map, false);
	if (e->mdb)
		mdb_reader_check(e->mdb, NULL);
	gate_leave(&e->map);
}

void env_usage(struct env *e, bool nested, struct env_usage *out)
{
	MDB_envinfo info = {0};

	gate_enter(&e->map, nested);
	if (e->mdb)
		mdb_env_info(e->mdb, &info);
	gate_leave(&e->map);
	out->used = (info.me_last_pgno + 1) * e->page_size;
	out->last_txn = info.me_last_txnid;
}
