/*
 * tree.h - names in directories, as the operations that make, remove and rename share them.
 */
#ifndef KVFS_TREE_H
#define KVFS_TREE_H

#include "fs/core/entry.h"

/* What a name in a directory says. */
struct resolved {
	bool in_top; /* it names a namespace: ns_name */
	bool exists;
	struct node_id found; /* where it exists */
	struct name_target target; /* not in_top */
	size_t ns_len;
	unsigned char ns_name[NAMES_NS_MAX];
};

/* Reads `name` in directory `parent` and looks whether it exists in view `v`. -EINVAL,
 * -ENAMETOOLONG of names_resolve(), -EIO ... */
int tree_resolve(struct fs *fs, struct view *v, const struct entry_id *parent, const char *name,
	struct resolved *out);

/* The same in a view of its own, which expects the caller to hold fs.change. */
int tree_resolve_now(
	struct fs *fs, const struct entry_id *parent, const char *name, struct resolved *out);

/* The id that a new file or directory of this name has. -EINVAL: the name cannot be one (%value is
 * no directory, PIECE%+ no file); -EPERM: files in the root of all namespaces. */
int resolved_new_id(
	const struct resolved *r, uint32_t ns, enum entry_kind kind, struct node_id *out);

/* A directory whose content changes: its id, its attributes with the new times. */
struct parent {
	struct node_id id;
	struct loaded l;
	struct record before; /* with the old times; it shares the attributes of `l` */
};

/* Loads directory `n` for a change of its content now. `removing`: it must not vanish with what is
 * removed, so it is made from now on. -ENOENT: it is gone. The caller holds fs.change. */
int parent_load(struct fs *fs, struct node *n, bool removing, struct parent *p);
struct change parent_change(struct parent *p);
void parent_release(struct parent *p);

/* The last of an entry whose node the kernel knows. */
struct last {
	struct loaded l;
	struct blob *content;
	struct gone *gone; /* memory for what is left, so that unlinking cannot fail */
};

/* The entry is about to be removed or replaced: loads its attributes at `now`, and, if the kernel
 * knows it, keeps its content: all of it for those who have it open, a small one for those who are
 * about to. -ENOENT: there is none, and *last is good for tree_unlink_node() all the same. The caller
 * holds fs.change, and releases it with last_release(). */
int last_take(struct fs *fs, const struct entry_id *id, int64_t now, struct last *last);
void last_release(struct last *last);

/* What `name` leads to is about to be removed or replaced: file_prefetch() for it. Without locks. */
void tree_prefetch(struct fs *fs, struct node *parent, const char *name);

/* The entry has been removed or replaced: if the kernel knows a node of it, that is an unlinked
 * node from now on. Uses up what last_take() gave. The caller holds fs.change. */
void tree_unlink_node(struct fs *fs, const struct entry_id *id, struct last *last);

#endif
