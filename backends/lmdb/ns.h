/*
 * ns.h - namespaces: named databases that are plain maps of keys to values.
 *
 * A namespace has two numbers. Its `number` is the one that the rest of the program uses, and is
 * given out when this process sees it first. Its `id` is part of the keys in our own databases: it
 * is persistent, and belongs to the name, so that directories' records survive when another program
 * drops the database and makes it again, and those of keys when it does so at once. A read-only store
 * gives out no ids: 0 means that nothing of ours is known of the namespace.
 */
#ifndef KVFS_LMDB_NS_H
#define KVFS_LMDB_NS_H

#include <bsd/sys/tree.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/lmdb/env.h"

enum { NS_NUMBERS_MAX = 1 << 20 };

struct ns {
	RB_ENTRY(ns) by_name; /* table.lock */
	uint32_t number;
	_Atomic uint32_t id;
	_Atomic MDB_dbi
		dbi; /* 0: not there, or no plain map. Reset only while alone (env_alone_begin) */
	bool warned; /* env.handles: said that it is no plain map */
	atomic_bool long_keys; /* said that it has keys that are too long */
	bool id_saved; /* env.writer: the id is in kvfs:meta */
	uint64_t saving; /* env.writer: the write transaction that wrote it there */
	uint64_t checked; /* env.writer: the write transaction that has found the database there */
	size_t len;
	char name[ENV_KEY_MAX + 1]; /* terminated; changes under table.lock while alone */
};

RB_HEAD(ns_tree, ns);

struct ns_table {
	struct ns top; /* number 0, which is no namespace: the directory above them all has its
			  record there */
	struct lock lock;
	struct ns_tree by_name; /* lock */
	_Atomic(struct ns *)
		*by_number; /* of NS_NUMBERS_MAX; entries are never freed before the end */
	uint32_t numbers; /* lock: how many have been given out */
	uint32_t last_id; /* lock */
	atomic_bool unsaved; /* some id may not be in kvfs:meta */
	atomic_bool warned_plain; /* said that the unnamed database has plain records */
	_Atomic uint32_t unfit; /* how many databases are no plain maps, as far as they were met */
};

int namespaces_init(struct ns_table *t);
void namespaces_release(struct ns_table *t);

/* The namespace of a number, NULL for a number that was never given out. */
struct ns *ns_get(struct ns_table *t, uint32_t number);
struct ns *ns_by_id(struct ns_table *t, uint32_t id);

/* One that is known by name, or made known: `id` 0 gives it the next one (with_id), or none. */
struct ns *ns_lookup(struct ns_table *t, const void *name, size_t len);
int ns_add(struct ns_table *t, const void *name, size_t len, uint32_t id, bool with_id,
	struct ns **out);

/* The same with an id in every case, whether or not its database is there. */
int ns_with_id(struct ns_table *t, const void *name, size_t len, struct ns **out);

/* No namespace is given this id any more, or one below it. */
void ns_reserve_id(struct ns_table *t, uint32_t id);

/* Takes a namespace's name away from it; it is gone for good. */
void ns_retire(struct ns_table *t, struct ns *ns);
void ns_set_name(struct ns_table *t, struct ns *ns, const void *name, size_t len);

/* -EINVAL, -ENAMETOOLONG, -EPERM (reserved): a name that no namespace can have. */
int ns_name_check(const void *name, size_t len);

/* store_ops.ns_find: the namespace, with its handle open. */
int ns_open(struct ns_table *t, struct env *e, const void *name, size_t len, struct ns **out);

/* Looks for what cannot be shown, and says so; not at more than the first SURVEY_MAX names. */
void ns_survey(struct ns_table *t, struct env *e);

/* store_ops.ns_next. */
int ns_next_name(struct ns_table *t, struct env *e, const void *after, size_t after_len, void *name,
	size_t cap, size_t *len);

/* env.reopen_handles; `table`: struct ns_table *. */
void ns_reopen_handles(void *table, MDB_txn *txn);

/* The handle to write through in this transaction. -ESTALE: another program has dropped the
 * database (t->missing says which). -EOPNOTSUPP: it has made one in its place that is no plain map. */
int ns_write_handle(struct txn *t, struct ns *ns, MDB_dbi *dbi);

/* LMDB can be built for longer keys than ours has; such ones are not shown, and not moved. The error
 * that says so. */
int ns_refuse_long_key(const struct env *e);
/* Whoever lists the namespace has come by one: says so, once. */
void ns_note_long_key(struct ns *ns, const struct env *e);

#endif
