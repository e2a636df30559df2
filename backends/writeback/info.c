#include "backends/writeback/info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/writeback/pack.h"

/* Before every "user.", so that it stands first in the list. */
static const char NAME[] = "kvfs.remote";

enum {
	VERSION = 1,
	CACHED = 1,
	SIZED = 2,
	LOCAL = 4,
	MARKED = 8,
	CONFIRMED = 16,
	ALONE = 32,
	SIZE = 2 + 5 * 8,
	NAME_LEN = sizeof(NAME) - 1,
	HEAD = 1 + NAME_LEN + 4, /* of an attribute in a packed list (record.h) */
};

void info_split(struct record *rec, struct info *out)
{
	const unsigned char *list = rec->xattrs;
	struct info i = {0};

	if (rec->xattrs_len >= HEAD + SIZE && list[0] == NAME_LEN &&
		memcmp(list + 1, NAME, NAME_LEN) == 0 && list[HEAD] == VERSION) {
		struct unpack u = {list + HEAD + 1, SIZE - 1};
		uint64_t flags = unpack_number(&u, 1);

		i.cached = flags & CACHED;
		i.sized = flags & SIZED;
		i.local = flags & LOCAL;
		i.marked = flags & MARKED;
		i.confirmed = flags & CONFIRMED;
		i.alone = flags & ALONE;
		i.size = unpack_number(&u, 8);
		i.hash = unpack_number(&u, 8);
		i.seen = (int64_t)unpack_number(&u, 8);
		i.read = (int64_t)unpack_number(&u, 8);
		i.pinned = (int64_t)unpack_number(&u, 8);
		rec->xattrs_len -= HEAD + SIZE;
		rec->xattrs = rec->xattrs_len ? list + HEAD + SIZE : NULL;
	}
	*out = i;
}

int info_join(
	const struct record *rec, const struct info *info, unsigned char **xattrs, uint32_t *len)
{
	size_t total = HEAD + SIZE + (size_t)rec->xattrs_len;
	unsigned char *list = malloc(total), *p = list;

	if (!list)
		return -ENOMEM;
	p = pack_number(p, NAME_LEN, 1);
	memcpy(p, NAME, NAME_LEN);
	p = pack_number(p + NAME_LEN, SIZE, 4);
	p = pack_number(p, VERSION, 1);
	p = pack_number(p,
		(info->cached ? CACHED : 0u) | (info->sized ? SIZED : 0u) |
			(info->local ? LOCAL : 0u) | (info->marked ? MARKED : 0u) |
			(info->confirmed ? CONFIRMED : 0u) | (info->alone ? ALONE : 0u),
		1);
	p = pack_number(p, info->size, 8);
	p = pack_number(p, info->hash, 8);
	p = pack_number(p, (uint64_t)info->seen, 8);
	p = pack_number(p, (uint64_t)info->read, 8);
	p = pack_number(p, (uint64_t)info->pinned, 8);
	if (rec->xattrs_len)
		memcpy(p, rec->xattrs, rec->xattrs_len);
	*xattrs = list;
	*len = (uint32_t)total;
	return 0;
}
