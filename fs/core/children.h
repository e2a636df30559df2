/*
 * children.h - what is in a directory, in the order of the store, without a look at what lies
 * deeper.
 *
 * Two ordered streams are merged: the keys, and the directories that were made. Each entry below
 * the directory belongs to one child (names.h); once a child is known the walk seeks past
 * everything of it. A child is met where it is first met in byte order, but for a key that is a
 * directory too: its place is the directory's.
 *
 * A place in a walk is a plain value that outlives the view: a later walk goes on from it, whatever
 * has come and gone meanwhile.
 */
#ifndef KVFS_CHILDREN_H
#define KVFS_CHILDREN_H

#include "fs/core/core.h"

struct place {
	uint8_t stage; /* 0: before %value; 1: at `bytes` */
	bool past_key; /* the key of exactly these bytes is behind */
	uint16_t len;
	unsigned char bytes[STORE_PREFIX_MAX +
		2]; /* room for a NUL twice: see place_after(), entry_at() */
};

static inline void place_copy(struct place *to, const struct place *from)
{
	memcpy(to, from, offsetof(struct place, bytes) + from->len);
}

struct child {
	struct node_id id;
	size_t name_len;
	char name[NAMES_NAME_MAX + 1];
	bool recorded; /* the store says of it what is in `entry` */
	struct entry entry; /* where children.what asks for it; valid as long as the view */
};

/* What is wanted of each child beside its name. */
enum children_what {
	CHILDREN_NAMES,
	CHILDREN_BRIEF, /* what store_ops.scan_get tells briefly */
	CHILDREN_ENTRIES, /* all that the store says */
};

struct children {
	struct fs *fs;
	enum children_what what; /* set by children_open() to CHILDREN_NAMES */
	struct view *view; /* NULL in the root of all namespaces, which is no part of a view */
	struct scan *keys, *dirs;
	struct entry_id dir; /* borrowed */
	size_t raw_len;
};

/* `dir` is borrowed until children_close(). In the root of all namespaces `v` is NULL. */
int children_open(struct fs *fs, struct view *v, const struct entry_id *dir, struct children *c);
void children_close(struct children *c);

/* The next child from `at` on, which moves past it. -ENOENT: no more. */
int children_next(struct children *c, struct place *at, struct child *out);

/* Whether an ordinary or piece directory exists (1, 0): it was made, or something live lies below
 * it. -errno. */
int dir_exists(struct fs *fs, struct view *v, const struct entry_id *dir);

/* Whether nothing is in it (1, 0), %value included. -errno. */
int dir_is_empty(struct fs *fs, struct view *v, const struct entry_id *dir);

/* The same in a view of its own: 0, -ENOTEMPTY or another -errno. */
int dir_check_empty(struct fs *fs, const struct entry_id *dir);

/* At how many children dir_count_dirs() looks: for who asks for a directory, and in a listing of many,
 * where it is to take no longer than asking for one by itself. */
enum { DIR_COUNT_MOST = 100, DIR_COUNT_BRIEF = 20 };

/* How many directories are in it; UINT32_MAX: `most` or more children are. *room (may be NULL): as many
 * more may come before that is so. */
uint32_t dir_count_dirs(
	struct fs *fs, struct view *v, const struct entry_id *dir, unsigned most, uint32_t *room);

#endif
