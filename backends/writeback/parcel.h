/*
 * parcel.h - what is being sent to the remote store.
 */
#ifndef KVFS_PARCEL_H
#define KVFS_PARCEL_H

#include "backends/writeback/internal.h"

/* One key of a batch: its journal entry, and what the local store had of it when it was taken. */
struct parcel {
	struct journal j;
	struct wb_ns *ns;
	uint16_t len;
	unsigned char bytes[STORE_KEY_MAX];
	struct blob *value; /* PUT */
	int64_t expiration;
	char *metadata;
	size_t metadata_len;
	uint64_t hash, size;
	int result;
};

struct batch {
	struct parcel *parcels;
	size_t n, cap;
	uint64_t bytes;
	int64_t next_due; /* of what is left out */
};

static inline struct entry_id parcel_id(const struct parcel *p)
{
	return wb_key(p->ns->keys, p->bytes, p->len);
}

/* conflict.c: where the remote store has another value than the one that a change began from, that
 * is kept beside, as KEY.conflict-TIME. */
int wb_keep_conflicts(struct writeback *wb, struct batch *b);

#endif
