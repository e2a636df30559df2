/*
 * verified.h - which large values have been compared with their hashes, so that not every look at
 * an entry reads its whole value after another program has committed anything at all.
 */
#ifndef KVFS_LMDB_VERIFIED_H
#define KVFS_LMDB_VERIFIED_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/base/lock.h"

enum { VERIFIED_SLOTS = 4096 };

struct verified {
	struct lock lock;
	struct {
		uint64_t key, hash; /* of the entry's name; of the value */
		uint64_t txn; /* the snapshot in which they were compared */
		bool same;
	} slots[VERIFIED_SLOTS];
};

/* Whether a comparison of this entry's value with `hash` in snapshot `since` or later is known, and
 * what it said. */
bool verified_known(struct verified *v, uint64_t key, uint64_t hash, uint64_t since, bool *same);
void verified_add(struct verified *v, uint64_t key, uint64_t hash, uint64_t txn, bool same);

#endif
