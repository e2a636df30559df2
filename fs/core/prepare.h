/*
 * prepare.h - before an operation looks at the store: what it will look at is brought up to date
 * (store_ops.prepare), where the store is a cache of another one.
 *
 * To be called without locks, and before an answer is begun (fs_answer_begin), since the store may
 * wait for somebody far away. 0, or the error that the operation ends with. Where the store is its
 * own, they do nothing.
 */
#ifndef KVFS_PREPARE_H
#define KVFS_PREPARE_H

#include "fs/core/fs.h"

/* A name is about to be looked up, made or removed. */
int fs_prepare_name(struct fs *fs, struct node *parent, const char *name);

/* Attributes of a node, or its value (`value`), are about to be looked at. */
int fs_prepare_node(struct fs *fs, struct node *n, bool value);

/* A listing is about to go on from `off`. */
int fs_prepare_listing(struct fs *fs, struct listing *l, uint64_t off);

/* Directory `name` is about to be removed. */
int fs_prepare_rmdir(struct fs *fs, struct node *parent, const char *name);

/* Everything under the first name, and with `exchange` under the second too, is about to be moved
 * with its values. */
int fs_prepare_rename(struct fs *fs, struct node *parent, const char *name, struct node *newparent,
	const char *newname, bool exchange);

#endif
