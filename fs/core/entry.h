/*
 * entry.h - one entry with its attributes as the mount shows them.
 *
 * What another program made has no record yet; what it changed has one whose times are old. Both
 * are "fresh": the core gives them attributes, and writes those down the first time somebody asks,
 * so that they stay.
 */
#ifndef KVFS_ENTRY_H
#define KVFS_ENTRY_H

#include "fs/core/core.h"

struct loaded {
	struct record rec; /* rec.xattrs: an own copy, to be freed by loaded_release() */
	uint64_t size;
	bool fresh;
	bool pending;
	bool partial; /* behind a cache: its size is not known now */
	bool uploading;
	const char *failed; /* why it will not be uploaded; static */
	int64_t fresh_until; /* nanoseconds since the epoch; 0: until it is changed */
	uint64_t version; /* behind a cache: of its value; 0: not known */
};

/* The attributes of an entry at `now`. -ENOENT: it does not exist (a directory: nothing makes it
 * exist). */
int entry_load(struct fs *fs, const struct entry_id *id, int64_t now, struct loaded *out);

/* The same of a node's entry: what is open is there although it has expired. Unless another program
 * has made a key of that name since: then that one is meant. */
int entry_load_node(
	struct fs *fs, const struct node *n, const struct entry_id *id, struct loaded *out);

/* The same within a view of the caller's. With `bare` extended attributes are left out. */
int entry_load_in(
	struct fs *fs, struct view *v, const struct entry_id *id, bool bare, struct loaded *out);
void loaded_release(struct loaded *l);

/* The same, bare, of what the store says of an entry that is known to exist (NULL: it says nothing).
 * Its rec.xattrs is the store's. */
void entry_show(
	struct fs *fs, const struct entry_id *id, const struct entry *e, struct loaded *out);

/* Its inode number and mode alone. */
void entry_identity(struct fs *fs, const struct entry_id *id, const struct entry *e, uint64_t *ino,
	uint32_t *mode);

/* Writes down the attributes that a fresh entry was given, unless somebody else was faster: then
 * those are loaded. Takes fs.change, unless the caller holds it (`locked`). */
int entry_adopt(
	struct fs *fs, const struct entry_id *id, int64_t now, struct loaded *l, bool locked);

/* An entry that another program made has a number made of its name. It may make another of that
 * name when this one is renamed, so this one gets a number of its own then. */
void entry_own_ino(struct fs *fs, struct record *rec);

/* The mode of what other programs made. */
uint32_t entry_default_mode(struct fs *fs, enum entry_kind kind);

/* Whether somebody has set attributes of this directory that another one would not have. */
bool entry_is_set(struct fs *fs, const struct record *dir);

/* Where the record's expiration had passed when it was set (visible_ns): the key lives on for a
 * moment from now, since whoever restores it may have more to do to it. */
void entry_linger(struct record *rec);

/* A new key's default time to live (RECORD_DEFAULT_TTL) begins now. */
void entry_begin_life(struct record *rec);

/* The attributes of a new entry. */
struct record entry_new_record(struct fs *fs, uint32_t mode, uint32_t uid, uint32_t gid);

#endif
