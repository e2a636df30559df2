/*
 * core.h - what the files of the core share. The locks are in fs.h, their order in base/lock.h.
 */
#ifndef KVFS_CORE_H
#define KVFS_CORE_H

#include <string.h>

#include "backends/base/lock.h"
#include "fs/core/fs.h"
#include "fs/core/names.h"
#include "fs/core/node.h"

struct negatives;
struct sweep;
struct foreign;

enum { FS_SENT_BACK = 256 };

struct fs {
	struct store *st;
	struct fs_options opt;
	uint32_t root_ns;
	struct node *root;
	struct node_table nodes;
	atomic_bool said_long; /* logged that a namespace cannot be shown */
	atomic_bool said_misfit; /* logged that a record says another type than its entry has */
	_Atomic int64_t said_full; /* when it was last logged that there is no room */
	_Atomic int64_t mounted; /* when, for what has no other time */
	struct lock change;
	_Atomic unsigned writers; /* handles open for writing */
	_Atomic unsigned open_files;
	_Atomic unsigned rebinding; /* odd while nodes and the store are at odds (rebind_begin) */
	_Atomic uint64_t stores; /* how often the store was given the content of an open file */
	_Atomic uint32_t dirs_epoch; /* changes when a directory comes, goes or moves; 0 is none */
	_Atomic uint64_t sent_back[FS_SENT_BACK]; /* io.c: threads, each in its place, and when */
	struct negatives *negatives;
	struct sweep *sweep;
	struct foreign *foreign;
	const struct fs_notify_ops *notify;
	void *notify_arg;

	/* Answers under way, by the parity of the epoch in which they began (fs_answer_begin). */
	_Atomic unsigned epoch;
	_Atomic unsigned answering[2];
	_Atomic bool draining;
	struct lock drain; /* one at a time; a leaf */
	pthread_cond_t drained;
};

/* A view that sees expired keys too: what is open outlives its expiry. */
#define NOW_NEVER INT64_MIN

/* An id with its bytes, from whatever a target or child says. */
static inline struct entry_id id_key(uint32_t ns, const void *key, size_t len)
{
	return (struct entry_id){.ns = ns, .kind = ENTRY_KEY, .len = (uint16_t)len, .bytes = key};
}

static inline struct entry_id id_dir(uint32_t ns, const void *dir, size_t len)
{
	return (struct entry_id){.ns = ns, .kind = ENTRY_DIR, .len = (uint16_t)len, .bytes = dir};
}

/* The directory that a key would be, were there keys below it. `bytes` holds its id. */
static inline struct entry_id id_dir_of_key(
	const struct entry_id *key, char sep, unsigned char bytes[STORE_PREFIX_MAX])
{
	memcpy(bytes, key->bytes, key->len);
	bytes[key->len] = (unsigned char)sep;
	return id_dir(key->ns, bytes, key->len + 1u);
}

/* The root that lists every namespace. */
static inline bool id_is_top(const struct entry_id *id)
{
	return id->ns == FS_NS_ALL;
}

/* Waits until every answer that began before the call has been given. Without locks. */
void fs_answers_drain(struct fs *fs);

/* Removing and renaming change which node an entry belongs to: in the store and in the node table,
 * one after the other. The change is made between rebind_begin() and rebind_end(), by a holder of
 * fs.change, from before content is taken from the store. Whoever goes from a node to the store
 * without that lock looks whether it was disturbed, and does it again:
 *
 *	struct rebind_check check = {0};
 *	do {
 *		rebind_look(fs, &check);
 *		...
 *	} while (rebind_disturbed(fs, &check));
 *
 * After a few tries it does so with fs.change, which is released by rebind_disturbed().
 *
 * Who puts together what the store says of a node and what its open file says (file_overlay) calls
 * rebind_check_stored() before the end of the loop: the content may have gone from the one to the
 * other in between. */
struct rebind_check {
	unsigned seen, tries;
	uint64_t stores;
	bool locked, stored;
};

void rebind_begin(struct fs *fs);
void rebind_end(struct fs *fs);
void rebind_look(struct fs *fs, struct rebind_check *check);
void rebind_check_stored(struct fs *fs, struct rebind_check *check, struct node *n);
bool rebind_disturbed(struct fs *fs, struct rebind_check *check);

/* A directory has come, gone or moved, so that others have another number of links. */
void fs_dirs_changed(struct fs *fs);

/* store->apply, then, with -o sync, nothing more: the caller syncs after it has let go of its
 * locks. */
int fs_apply(struct fs *fs, const struct change *changes, size_t n);

/* With -o sync: waits for what was applied. Without locks. Returns `rc` or the error. */
int fs_settle(struct fs *fs, int rc);

#endif
