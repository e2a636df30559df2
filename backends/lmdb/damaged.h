/*
 * damaged.h - which records have been found damaged, so that each is logged once and not at every
 * look.
 */
#ifndef KVFS_LMDB_DAMAGED_H
#define KVFS_LMDB_DAMAGED_H

#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/store.h"

enum { DAMAGED_MAX = 256 }; /* keys that are named; then it is said once that there are more */

struct damaged {
	struct lock lock;
	size_t n;
	uint64_t said[DAMAGED_MAX]; /* hashes of ids */
};

/* Logs that the entry's record, in the environment `dir`, cannot be read. */
void damaged_say(struct damaged *d, const char *dir, const struct entry_id *id);

#endif
