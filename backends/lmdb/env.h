/*
 * env.h - an open LMDB environment: its map, its transactions, its own databases, and whose
 * transactions are whose.
 *
 * The locks of the whole backend, which are taken in the order that base/lock.h says:
 *
 *   env.writer        one write transaction, or one who resizes the map or closes handles
 *   env.handles       opening database handles, until the transaction that opened them has ended
 *   store.changes     (gate) shared by views, alone for who changes the table of pending changes
 *   watch.lock        the snapshots that the watcher holds
 *   env.map           (gate) shared by every read transaction; alone for who remaps the file or
 *                     closes a handle. A write transaction is kept from both by env.writer.
 *   everything else   nothing is called with them held
 *
 * So nobody who holds store.changes or env.map may wait for env.writer: a reader that finds the map
 * too small leaves both, adopts the new size, and begins again. No thread takes a gate twice, but
 * for nested read transactions (view.c).
 *
 * LMDB's transaction numbers are consecutive, and only a commit that changed something takes one.
 * While we write, nobody else does. So every transaction between two of ours is another program's,
 * and it is enough to remember the newest one of those.
 */
#ifndef KVFS_LMDB_ENV_H
#define KVFS_LMDB_ENV_H

#include <errno.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/lmdb/gate.h"

enum own_db { OWN_NODES, OWN_EXPIRY, OWN_META, OWN_LONG, OWN_HEADS, OWN_COUNT };

extern const char *const own_names[OWN_COUNT];

enum {
	ENV_KEY_MAX = 511, /* LMDB's limit, of keys and of names of databases */
	ENV_DBS_MAX = 8192, /* each read transaction has an array of this size (LMDB touches only
			       what is used) */
	ENV_POOL_MAX = 64, /* read transactions kept for use again */
	ENV_REMAP = -ERESTART, /* begin again after env_adopt_size(), or when the environment has
				  been opened anew, which that does too */
	ENV_MAP_FULL = -EXFULL, /* abort, env_grow(), and do it again */
};

struct env {
	MDB_env *mdb; /* writer and map alone; NULL: it is broken, and could not be opened anew */
	unsigned opened; /* writer: how often it has been opened anew; handles are of one opening */
	bool broken; /* writer: LMDB refuses everything until it is opened anew */
	char *dir;
	bool readonly;
	int fd; /* the data file: the lock against a second kvfs, and space.c's */
	size_t page_size;
	MDB_dbi main_dbi; /* the unnamed database: names of all others */

	struct lock writer;
	struct gate map;
	size_t map_size; /* writer and map alone */
	uint64_t serial; /* writer */

	struct lock handles;
	_Atomic MDB_dbi own[OWN_COUNT]; /* 0: there is none yet */

	struct lock pool_lock;
	MDB_txn *pool[ENV_POOL_MAX]; /* reset */
	size_t pool_n;

	struct lock ids_lock;
	uint64_t known_last; /* the newest transaction that we know of */
	uint64_t landing; /* ours, being committed; 0: none */
	uint64_t own_last; /* the newest one of ours */
	uint64_t foreign; /* the newest one of another program */

	/* Lets go of read transactions that are held for long, before the map gate is closed; none
	 * may be held for long while alone_wanted. */
	void (*release_pins)(void *arg);
	void *pins_arg;
	atomic_bool alone_wanted;

	/* Opens its handles again, in this transaction of the environment that was opened anew. */
	void (*reopen_handles)(void *arg, MDB_txn *txn);
	void *handles_arg;
};

struct ns;

/* A transaction, of either sort. A plain value, used by one thread at a time. */
struct txn {
	struct env *env;
	MDB_txn *mdb;
	uint64_t id; /* of the snapshot; of the new state where it writes */
	bool writes, dirty; /* dirty: something has been written */
	bool pinned; /* any thread may end it */
	struct ns *missing; /* why a write was -ESTALE: another program has dropped its database */
	uint64_t serial; /* of write transactions in this process; an aborted one's id is used again
			  */
	MDB_dbi own[OWN_COUNT]; /* 0: not there */
};

/* Translates what an LMDB call returned: 0, -ENOENT, ENV_REMAP, ENV_MAP_FULL, the system's own; the
 * rest, which are damage or our mistakes, are logged and become -EIO. `doing`: "reading ..." */
int env_error(const struct env *e, int rc, const char *doing);

/* Opens; `fd` becomes the environment's in any case. */
int env_open(struct env *e, const char *dir, int fd, bool readonly, size_t map_size, char *why,
	size_t why_cap);
void env_close(struct env *e);

/* A snapshot. ENV_REMAP: nothing is held; call env_adopt_size() without any lock. */
int env_read_begin(struct env *e, bool nested, struct txn *t);
void env_read_end(struct txn *t);
/* Lets any thread end it. */
void env_read_pin(struct txn *t);
void env_read_end_keeping_handles(struct txn *t);
int env_adopt_size(struct env *e);

/* Caller holds env.writer throughout. */
int env_write_begin(struct env *e, struct txn *t);
int env_write_commit(struct txn *t);
void env_write_abort(struct txn *t);

/* A commit that failed is there all the same (env_revive). */
void env_own_landed(struct env *e, uint64_t id);

/* Doubles the map; sets its size (0: what the file says). Caller holds env.writer, without a
 * transaction. */
int env_grow(struct env *e);
int env_set_map_size(struct env *e, size_t size);

/* To be alone: no read transaction is active, none begins. Caller holds env.writer. */
void env_alone_begin(struct env *e);
void env_alone_end(struct env *e);

/* Whether the database of this name is there in the transaction. LMDB keeps handles to databases
 * that another program has dropped, and must not be asked to write through one. */
bool env_db_present(struct txn *t, const void *name, size_t len);

/* Makes the databases that kvfs needs, as far as they are missing; afterwards begin a new
 * transaction. Caller holds env.writer, without a transaction. */
int env_own_create(struct env *e);
bool env_own_present(struct txn *t);

/* Makes a database, and a handle, in a transaction of its own. *dbi: a handle that is of no use any
 * more, or 0; the new one. Caller holds env.writer, without a transaction. */
int env_db_create(struct env *e, const char *name, unsigned flags, _Atomic MDB_dbi *dbi);

/* Opens the environment anew when LMDB has given it up (a meta page could not be written: it refuses
 * everything from then on). `alone`: the caller is so already. *last: the newest transaction that it
 * has. Caller holds env.writer, without a transaction. */
int env_revive(struct env *e, bool alone, uint64_t *last);

/* Whether LMDB has given the environment up; to be asked after a commit that failed. As above. */
bool env_is_broken(struct env *e, bool alone);

bool env_name_reserved(const void *name, size_t len);

/* The newest transaction of another program, as far as a snapshot shows it. */
uint64_t env_foreign(struct env *e, uint64_t snapshot);

/* Clears the slots that dead processes have left in LMDB's table of readers. */
void env_check_readers(struct env *e);

/* The newest one that we know of. */
uint64_t env_newest_foreign(struct env *e);

struct env_usage {
	uint64_t used; /* bytes up to the last page in use */
	uint64_t last_txn;
};
void env_usage(struct env *e, bool nested, struct env_usage *out);

/* A look-up; handle 0, or one that is younger than the snapshot, is -ENOENT. */
int txn_get(struct txn *t, MDB_dbi dbi, const void *key, size_t len, MDB_val *data);
int txn_put(struct txn *t, MDB_dbi dbi, const void *key, size_t len, const void *data, size_t size);
int txn_reserve(struct txn *t, MDB_dbi dbi, const void *key, size_t len, size_t size, void **data);
int txn_del(struct txn *t, MDB_dbi dbi, const void *key, size_t len); /* absent: 0 */
/* Whether nothing is in a database, or it cannot be known. */
bool txn_is_empty(struct txn *t, MDB_dbi dbi);
int txn_cursor(struct txn *t, MDB_dbi dbi, MDB_cursor **out); /* -ENOENT as txn_get() */

#endif
