/*
 * internal.h - the store's own struct, and which file does what with it.
 *
 *   store.c      opening and closing       check.c      looking before opening
 *   env.c, txn.c the environment, its map, transactions      gate.c, nesting.c  their locks
 *   ns.c         what is a namespace       nsops.c      making, removing, renaming one
 *   view.c, scan.c, expiry.c  reading      watch.c      other programs' changes
 *   apply.c      accepting changes         space.c      room on the medium for them
 *   committer.c  when to commit            commit.c     one commit
 *   node.c       one stored entry          nodekey.c    what it is called in our databases
 *   value.c      a value into LMDB         verified.c   which values have been compared
 *   damaged.c    records that are none
 *   meta.c       kvfs:meta                 tree.c, walk.c  move_tree
 *   bases.c      the moments when changes were accepted
 *   orphans.c    records of keys that other programs removed
 *
 * The locks are in env.h.
 */
#ifndef KVFS_LMDB_INTERNAL_H
#define KVFS_LMDB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/base/thread.h"
#include "backends/lmdb/bases.h"
#include "backends/lmdb/damaged.h"
#include "backends/lmdb/env.h"
#include "backends/lmdb/nesting.h"
#include "backends/lmdb/ns.h"
#include "backends/lmdb/orphans.h"
#include "backends/lmdb/space.h"
#include "backends/lmdb/verified.h"
#include "backends/pending.h"
#include "backends/store.h"

enum {
	VALUE_MAX = 0x7fff0000, /* LMDB writes a value with one call, which takes less than 2 GiB */
	READERS_CHECK_EVERY = 4 << 20, /* bytes that the environment grows by */
};

struct committer {
	pthread_t thread;
	bool running;
	struct lock lock;
	pthread_cond_t work, done;
	/* All below: lock. */
	bool stop, idle, urgent;
	bool busy; /* somebody commits, and is not done yet */
	uint64_t applied, durable; /* groups */
	unsigned waiting; /* in sync or throttle: do not gather any longer */
	uint64_t failures; /* attempts that failed */
	uint64_t failed_seq; /* the newest group in the last attempt that failed */
	uint64_t readers_checked; /* env.writer: the size used when dead readers were last looked
				     for */
};

struct watch {
	pthread_t thread;
	bool running;
	struct lock lock;
	pthread_cond_t changed;
	/* All below: lock. */
	bool stop, calling;
	store_watcher fn;
	void *arg;
	bool have_before, have_after;
	struct txn before, after;
	uint64_t reported; /* the newest foreign transaction that fn was told of */
	bool overtaken; /* a view shows other programs' values that fn may have been told of before */
};

struct lmdb_store {
	struct store base;
	struct env env;
	struct ns_table namespaces;
	struct verified verified;
	struct orphans orphans;
	struct damaged damaged;
	struct space space;
	struct bases bases;

	struct gate changes;
	struct pending *pending; /* changes */
	uint64_t seq; /* changes: the newest group */
	_Atomic uint64_t pending_count, pending_weight,
		pending_bytes; /* copies, to look at unlocked */

	struct committer committer;
	unsigned commit_interval_ms;
	size_t pending_max;
	_Atomic int commit_error; /* of the last attempt */
	_Atomic int left_out; /* why something was left out of it; 0: nothing was */
	/* Not greater than the first entry of kvfs:expiry in any snapshot that a view can have, but
	 * for entries that the table of changes overrides. */
	_Atomic int64_t first_expiry;

	struct watch watch;
	_Atomic uint64_t next_ino, reads, writes, commits;
};

static inline struct lmdb_store *lmdb_store(struct store *st)
{
	return (struct lmdb_store *)st;
}

/* view.c: shared `changes` and a snapshot, in one moment; given what the thread holds already. */
int snapshot_begin(struct lmdb_store *st, const struct nesting *n, struct txn *t);

/* apply.c: after the table has changed, with `changes` held alone. */
void pending_publish(struct lmdb_store *st);

/* view.c */
int lmdb_view_begin(struct store *base, int64_t now, struct view **out);
void lmdb_view_end(struct view *v);
int lmdb_view_get(struct view *v, const struct entry_id *id, struct entry *out);
int lmdb_read(struct store *base, const struct entry_id *id, int64_t now, struct value *out);
int lmdb_stamp(struct store *base, const struct entry_id *id, struct value_stamp *out);

/* expiry.c */
int lmdb_view_expired(struct view *v, size_t skip, struct entry_id *id);
int64_t lmdb_view_next_expiry(struct view *v);

/* scan.c */
int lmdb_scan_open(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out);
int lmdb_scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found);
int lmdb_scan_get(struct scan *s, const struct entry_id *found, bool brief, struct entry *out);
void lmdb_scan_close(struct scan *s);

/* apply.c */
int lmdb_apply(struct store *base, const struct change *changes, size_t n, uint64_t *seq);
int lmdb_throttle(struct store *base, uint64_t bytes);

/* commit.c */
int committer_start(struct lmdb_store *st);
int committer_stop(struct lmdb_store *st); /* commits everything; the first error */
void committer_notify(struct lmdb_store *st, uint64_t seq);
int committer_drain(struct lmdb_store *st, uint64_t max_weight);
int lmdb_sync(struct store *base, uint64_t seq);

/* tree.c, nsops.c */
int lmdb_move_tree(struct store *base, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now);
int lmdb_ns_create(
	struct store *base, const void *name, size_t len, const struct record *rec, uint32_t *ns);
int lmdb_ns_remove(struct store *base, uint32_t ns, int64_t now);
int lmdb_ns_rename(struct store *base, uint32_t ns, const void *name, size_t len, int64_t now);

/* watch.c */
void watch_init(struct lmdb_store *st); /* before the committer starts */
int watch_start(struct lmdb_store *st);
void watch_stop(struct lmdb_store *st);
void watch_destroy(struct lmdb_store *st); /* after the committer has stopped */
void watch_committed(struct lmdb_store *st); /* this process has just committed; without locks */
void watch_release_pins(void *arg);
void watch_overtaken(struct lmdb_store *st); /* other programs' values stay in place of ours */
void lmdb_watch(struct store *base, store_watcher fn, void *arg);
enum foreign_verdict lmdb_foreign_compare(struct foreign_change *what, const struct entry_id *id);
int lmdb_foreign_old_value(
	struct foreign_change *what, const struct entry_id *id, struct blob **out);

#endif
