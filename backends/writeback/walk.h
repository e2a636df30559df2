/*
 * walk.h - listings of the remote store under way.
 *
 * A walk has asked for the first pages of a prefix, and knows how old what it was told is: a long
 * one takes longer than an answer counts. It serves longer prefixes too, while it is within them.
 *
 * All is guarded by `traffic`, but for what walk.c says.
 */
#ifndef KVFS_WALK_H
#define KVFS_WALK_H

#include "backends/writeback/internal.h"

enum { WALK_MARKS = 10 };

/* What comes after the mark before, up to this key, was asked for at `asked` or later. */
struct walk_mark {
	int64_t asked;
	uint16_t len;
	unsigned char upto[STORE_KEY_MAX];
};

struct walk {
	struct walk *next;
	bool busy; /* somebody is asking for its next page */
	unsigned misses; /* names below it that were asked for by themselves */
	char *cursor; /* NULL: it has not begun */
	int64_t first, latest; /* when its first page was asked for, and its last */
	uint16_t prefix_len;
	unsigned char prefix[STORE_KEY_MAX];
	struct walk_mark
		passed; /* what it was told longer ago than its marks say; len 0: nothing */
	unsigned marks_n;
	struct walk_mark marks[WALK_MARKS];
};

/* Whether a listing under way is past the key, or past everything that begins so. Takes `traffic`. */
bool wb_walks_cover(struct writeback *wb, struct wb_ns *ns, const unsigned char *bytes, size_t len,
	bool below, int64_t now);
/* What they were told of this prefix counts as old. Takes `traffic`. */
void wb_walks_forget(
	struct writeback *wb, struct wb_ns *ns, const unsigned char *prefix, size_t len);
/* Whether more begins with `dir` than a page holds, as far as one below it tells, while its own first
 * page has not been asked for: that page is not likely to have a name. Takes `traffic`. */
bool wb_walks_know_large(struct writeback *wb, struct wb_ns *ns, const void *dir, size_t len);
/* Whether the listing of this very prefix has been begun. Takes `traffic`. */
bool wb_walk_has_begun(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len);

#endif
