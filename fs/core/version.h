/*
 * version.h - behind a cache: which version of a value an open file is.
 *
 * Others may replace a value at any time. As with a file over which another is renamed, who has the
 * old one open reads it to its end: its node is left behind, with the content that it has, and the
 * name leads to a new node. So the kernel's pages and sizes, which belong to a node, never mix two
 * versions.
 *
 * A file that somebody has open for writing is not left behind, since what is written to it is to
 * become the key's value: it stays one file for all who have it open or open it now, with the content
 * that it had, until its last writer has closed it.
 */
#ifndef KVFS_VERSION_H
#define KVFS_VERSION_H

#include "fs/core/file.h"

/* The caller, a user of `f`, is to read one version to its end: the newest that is known here, or with
 * `any` what those have who have it open already. -ESTALE: `f` is an older one. Where the store is its
 * own, nothing happens. */
int version_take(struct fs *fs, struct node *n, struct open_file *f, bool any);

/* The store has been given the content of `f`. Under fs.change and f->lock. */
void version_note(struct fs *fs, const struct entry_id *id, struct open_file *f);

/* Leaves the node behind, if it is open, to read only, and the store has another version: true. Who
 * tells the kernel is foreign.c. Without locks. */
bool version_leave(struct fs *fs, struct node *n);

/* An answer with the size of this version (0: not known) is about to be given. */
void version_note_told(struct node *n, uint64_t version);

/* The node has just been opened. *content: what the kernel has cached of it may be of another version;
 * *size: so may the size that it believes. It may not have been told yet. */
void version_is_new(struct fs *fs, struct node *n, bool *content, bool *size);
/* The kernel reads it: whoever opened it then has let the kernel drop what it had of another version. */
void version_note_cached(struct fs *fs, struct node *n);

/* Whether the node was left behind. */
bool version_is_left(struct fs *fs, struct node *n);

#endif
