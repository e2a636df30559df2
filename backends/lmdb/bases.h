/*
 * bases.h - snapshots of the moments when changes were accepted that are not stored yet: so that at
 * the commit one sees what other programs have changed since, and the last writer wins.
 *
 * They are few, and are held until the next commit has ended; no longer when somebody needs to be
 * alone. What cannot be known for it counts as not changed.
 */
#ifndef KVFS_LMDB_BASES_H
#define KVFS_LMDB_BASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/lmdb/env.h"
#include "backends/store.h"

enum { BASES_MAX = 8 };

struct bases {
	struct lock lock; /* as watch.lock; never both */
	struct txn txns[BASES_MAX];
	size_t n;
};

struct lmdb_store;

/* The number of this moment; 0: it could not be kept. `nested`: the thread holds a snapshot. */
uint64_t bases_now(struct bases *b, struct env *e, bool nested);

/* Whether another program has changed the value of a key since then, or removed it: as far as the
 * write transaction shows it before it has changed the key itself. */
bool bases_overtaken(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, uint64_t base);

void bases_release(struct bases *b);

#endif
