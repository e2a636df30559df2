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
	bool unsent; /* it is not to be sent: `result` says why */
	int result;
};

enum { BATCH_MAX = 10000 };

struct batch {
	struct parcel *parcels;
	size_t n, cap;
	uint64_t bytes;
	int64_t next_due; /* of what is left out */
	bool again; /* what failed a moment ago is taken too */
	uint64_t held; /* left out, since it is open for writing */
	int64_t first_due; /* of all */
	int64_t last; /* when the last change was */
};

static inline struct entry_id parcel_id(const struct parcel *p)
{
	return wb_key(p->ns->keys, p->bytes, p->len);
}

/* collect.c: what is due, up to a batch of it (to be released also after a failure); and its values,
 * which leaves out what must wait. */
int wb_collect(struct writeback *wb, bool hurry, bool again, struct batch *b);
int wb_load_batch(struct writeback *wb, struct batch *b, bool hurry);
void wb_batch_release(struct batch *b);

/* results.c: notes in the journal that the parcels may be there from now on; what became of them. */
int wb_mark_sent(struct writeback *wb, struct batch *b);
int wb_note_results(struct writeback *wb, struct batch *b);

/* conflict.c: where the remote store has another value than the one that a change began from, that
 * is kept beside, as KEY.conflict-TIME. */
int wb_keep_conflicts(struct writeback *wb, struct batch *b);

#endif
