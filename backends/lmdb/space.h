/*
 * space.h - room on the medium for what has been accepted and is not committed yet.
 *
 * A change must fail with ENOSPC before it is accepted, not when it is committed. So the data file
 * always owns blocks beyond its end (fallocate, which leaves its size alone) for everything
 * pending: what LMDB appends goes there. When no more blocks can be had, pages that LMDB will use
 * again are counted. Some room is kept for removals, which need new pages before they give old ones
 * back.
 *
 * Where the filesystem knows no fallocate, nothing is refused here, and a full medium shows when
 * committing.
 */
#ifndef KVFS_LMDB_SPACE_H
#define KVFS_LMDB_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/lmdb/env.h"
#include "backends/pending.h"

struct space {
	struct lock lock;
	bool unsupported;
	uint64_t chunk, reserve;
	uint64_t allocated; /* lock: blocks are ours up to this offset */
	uint64_t reusable, longest_run; /* lock: bytes of free pages inside the file, as last
					   counted, and of the longest run of them */
	uint64_t soon; /* lock: bytes of pages that the last commit freed, for the one after the
			  next */
};

/* What a change adds to the table at most. */
void space_add_change(const struct change *c, struct pending_totals *sum);

void space_init(struct space *s, const struct env *e);

/* Whether there is room for the pending changes and `more` of them. `nested`: as env_read_begin().
 */
bool space_admits(struct space *s, struct env *e, bool nested, const struct pending_totals *pending,
	const struct pending_totals *more);

/* Counts pages that the next commits can use again; 0 or -errno. */
int space_count_reusable(struct space *s, struct env *e, bool nested);

/* Whether another commit, of anything, would free more pages. */
bool space_more_soon(struct space *s);

/* After a commit: what was counted is not true any more. */
void space_committed(struct space *s);

/* Gives back what was allocated and not used. No other thread uses the store. */
void space_trim(struct space *s, struct env *e);

#endif
