/*
 * meta.h - kvfs:meta: what kvfs remembers of the environment as a whole.
 *
 *   "s"              state: u32 format version, u32 zero, u64 next inode number, u64 our last
 *                    transaction, u64 the newest transaction of another program; little-endian
 *   "w"              u64 little-endian: the newest one of those that orphans.c is done with
 *   "n", u32 BE      the name of the namespace with this id
 */
#ifndef KVFS_LMDB_META_H
#define KVFS_LMDB_META_H

#include "backends/lmdb/internal.h"

/* Takes over what the environment says. -EINVAL: a format of the future, or damage. */
int meta_load(struct lmdb_store *st, char *why, size_t why_cap);

/* Writes the state, as it will be when the transaction has been committed, and new ids. */
int meta_save(struct lmdb_store *st, struct txn *t);
void meta_saved(struct lmdb_store *st, uint64_t serial); /* txn.serial; it has been committed */

/* Removes a namespace's id. */
int meta_forget_ns(struct txn *t, uint32_t id);

/* Writes one name under an id. */
int meta_put_ns(struct txn *t, uint32_t id, const void *name, size_t len);

#endif
