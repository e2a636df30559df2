/*
 * trail.h - the places that a listing was at, by position. Pure, but for memory.
 *
 * They stand in a row without gaps, the newest last; when they take too much memory, the older half is
 * forgotten.
 */
#ifndef KVFS_TRAIL_H
#define KVFS_TRAIL_H

#include "fs/core/children.h"

/* All zero: empty. */
struct trail {
	uint64_t first; /* the position of the oldest */
	size_t count, cap;
	uint32_t *starts; /* where in `bytes` each begins: a struct place cut to its bytes */
	size_t used, size;
	unsigned char *bytes;
};

void trail_release(struct trail *t);
void trail_clear(struct trail *t);

/* Position `pos`, which is the one after the newest, is at this place. -ENOMEM. */
int trail_add(struct trail *t, uint64_t pos, const struct place *at);

/* Goes back to a position: it and what is newer is forgotten. False: it is not remembered. */
bool trail_back(struct trail *t, uint64_t pos, struct place *at);

#endif
