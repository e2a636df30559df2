/*
 * info.h - what the cache knows of one key beside its value and attributes, kept in the same record
 * of the local store: as the first of its extended attributes, which nobody else sees.
 *
 * Pure.
 */
#ifndef KVFS_INFO_H
#define KVFS_INFO_H

#include "backends/record.h"

struct info {
	bool cached; /* the local store has the value's bytes; otherwise it has none */
	bool sized; /* size and hash are known */
	bool local; /* it is never uploaded under this name */
	bool marked; /* the value begins with a byte order mark, which getting many at once may lose */
	bool alone; /* getting many at once does not bring the value's bytes */
	bool confirmed; /* since it was pinned, getting it has returned it: what getting returns counts
			   again, and what listings say does not yet */
	uint64_t size, hash; /* of the value */
	int64_t seen; /* when the remote store last had the key, as far as anybody asked; 0: never */
	int64_t read; /* when its value was last got from there; 0: never */
	int64_t pinned; /* until then only what is equal to this is believed; 0: anything */
};

/* Whether the key was made here, and the remote store has never been known to have it. */
static inline bool info_is_own(const struct info *i)
{
	return !i->seen && !i->read && !i->pinned;
}

/* Takes the information out of a record that was read from the local store: rec->xattrs goes on
 * behind it. All zero where there is none. */
void info_split(struct record *rec, struct info *out);

/* The list of extended attributes with the information before those of `rec`: malloc'd. -ENOMEM. */
int info_join(
	const struct record *rec, const struct info *info, unsigned char **xattrs, uint32_t *len);

#endif
