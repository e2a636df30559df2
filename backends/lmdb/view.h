/*
 * view.h - a consistent picture: the table of changes, shared for as long as the view lives, over a
 * snapshot of LMDB that was begun while it was shared already. A commit in between shows in both
 * the same way: its entries leave the table only when the view has ended.
 */
#ifndef KVFS_LMDB_VIEW_H
#define KVFS_LMDB_VIEW_H

#include "backends/lmdb/internal.h"
#include "backends/lmdb/node.h"

struct view_chunk;

struct view {
	struct lmdb_store *st;
	struct nesting *nesting;
	struct txn txn;
	int64_t now;
	int64_t first_expiry; /* no later than that of any stored entry that the table does not
				 override */
	struct view_chunk *chunks; /* memory that lives as long as the view */
	/* Where view_expired() is. */
	MDB_cursor *expiring;
	MDB_val expiring_key, expiring_name;
	bool expiring_valid;
	const struct pending_entry *expiring_pending;
	size_t expiring_skipped;
};

/* Whether anything at all may have expired: then each entry's record has to be looked at. */
bool view_has_expired(const struct view *v);

/* Whether the entry is there, and unexpired, given what the table says of it (`e` may be NULL).
 * Does not look at RECORD_MADE. */
bool view_is_live(struct view *v, const struct entry_id *id, const struct pending_entry *e);

void *view_alloc(struct view *v, size_t len); /* NULL: out of memory */

#endif
