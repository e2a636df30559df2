/*
 * walk.h - what is stored of a namespace, one entry after the other, in transactions that change it
 * meanwhile: each step begins at the root.
 */
#ifndef KVFS_LMDB_WALK_H
#define KVFS_LMDB_WALK_H

#include "backends/lmdb/nodekey.h"

struct walk_entry {
	size_t len;
	unsigned char bytes[STORE_PREFIX_MAX + 1]; /* with room for walk_after() */
};

/* The first stored entry at or after `from`: keys that have a value, directories that have a
 * record. Expired ones too. -ENOENT: none. */
int walk_seek(struct txn *t, const struct ns *ns, enum entry_kind kind, const void *from,
	size_t len, struct walk_entry *out);

/* Makes it the position right after it. */
void walk_after(struct walk_entry *e);

/* -ENOENT: there is no live key. */
int walk_first_live(struct lmdb_store *st, struct txn *t, const struct ns *ns, int64_t now);

#endif
