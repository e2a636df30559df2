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
	bool absent; /* REMOVE: it was never there, so nothing is to be sent */
	bool local; /* the same, since its name has become a local one */
	bool urgent; /* somebody waits for it, who may have it open himself */
	int result;
};

enum { BATCH_MAX = 10000 };

/* Whose uploads somebody waits for: what begins with the changes up to this one. */
struct urgent_key {
	uint32_t ns; /* 0: every key */
	uint16_t len;
	unsigned char bytes[STORE_KEY_MAX];
	uint64_t upto;
};

struct batch {
	struct parcel *parcels;
	size_t n, cap;
	size_t puts, removes;
	uint64_t bytes;
	bool full; /* no value is taken any more */
	int64_t next_due; /* of what is left out */

	/* What somebody wants sooner: */
	uint64_t urgent; /* changes up to this one do not wait for upload_delay */
	bool again; /* what of these failed a moment ago is taken too */
	struct urgent_key *keys; /* whoever waits for them may have them open himself */
	size_t keys_n;

	/* What was seen: */
	int64_t now; /* by clock_steady() */
	uint64_t looked; /* changes up to this one */
	uint64_t oldest; /* change that waits; UINT64_MAX: none */
	uint64_t left_put; /* the oldest change of a value that should have gone, and did not */
	uint64_t live; /* entries that have not failed for good */
	uint64_t waiting; /* of these: those that wait for upload_delay only */
	uint64_t hurried; /* parcels that somebody waits for */
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
int wb_collect(struct writeback *wb, struct batch *b);
int wb_load_batch(struct writeback *wb, struct batch *b);
/* Whether what is due fills a request, so that there is nothing to wait for. */
bool wb_batch_is_full(struct writeback *wb, const struct batch *b);
void wb_batch_release(struct batch *b);

/* waiting.c: what somebody wants sooner, for wb_collect(). */
int wb_batch_asks(struct writeback *wb, struct batch *b);

/* recent.c: when a key may be written again, by clock_steady(); 0: at once. By the uploader only. */
int64_t wb_recent_until(const struct writeback *wb, const struct parcel *p, int64_t now);
void wb_recent_add(struct writeback *wb, const struct batch *b);
void wb_recent_free(struct writeback *wb);

/* results.c: notes in the journal that the parcels may be there from now on; what became of them. */
int wb_mark_sent(struct writeback *wb, struct batch *b);
int wb_note_results(struct writeback *wb, struct batch *b);

/* conflict.c: where the remote store has another value than the one that a change began from, that
 * is kept beside, as KEY.conflict-TIME. */
int wb_keep_conflicts(struct writeback *wb, struct batch *b);

#endif
