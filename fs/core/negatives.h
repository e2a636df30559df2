/*
 * negatives.h - the names that the kernel was told are absent, until further notice.
 *
 * Bounded: when the table is full, absence is believed for a second only, and nobody needs to
 * remember it. A name leaves the table when its directory is forgotten, and when it was found to be
 * there.
 *
 * Threads: every function by any; the table's lock is a leaf, but for fs.nodes.lock inside
 * negatives_add().
 */
#ifndef KVFS_NEGATIVES_H
#define KVFS_NEGATIVES_H

#include "fs/core/core.h"

struct negatives *negatives_new(struct fs *fs);
void negatives_free(struct negatives *t);

/* -ENOSPC: the table is full. */
int negatives_add(struct negatives *t, struct node *parent, const char *name);

/* This name has been made. */
void negatives_remove(struct negatives *t, struct node *parent, const char *name);

/* Forgets all names of this directory. */
void negatives_drop(struct negatives *t, struct node *parent);

/* Calls `fn` for each, with a ref on the directory and without a lock; where it returns true the
 * name is forgotten. */
void negatives_each(struct negatives *t,
	bool (*fn)(void *arg, struct node *parent, const char *name), void *arg);

#endif
