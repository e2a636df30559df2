/*
 * handle.h - what open(2) and creat(2) make: one way to an open file, which one or more descriptors
 * stand for.
 *
 * The content is the open file's and shared; a handle knows what has been changed through it and
 * is not published yet, that is, not given to the store. So the close of one handle never
 * publishes what somebody else is halfway through writing by another.
 *
 * Of one handle there can be several descriptors (dup, fork), and the kernel says of each that it
 * was closed, not whether it was the last. As a shell opens a file for a command, it closes one at
 * once, and each command that it runs closes another. So where it is in doubt, it is looked up
 * whether the process that opened the file still has it open for writing; then nothing is
 * published before it closes that too. What the release of the handle finds, it publishes anyway.
 */
#ifndef KVFS_HANDLE_H
#define KVFS_HANDLE_H

#include "fs/core/file.h"

struct handle {
	struct handle *next; /* of the same open file; file->lock */
	struct node *node;
	struct open_file *file;
	bool writing;
	uint32_t opener; /* the thread that opened it; 0: not known */
	/* All below: file->lock. */
	uint64_t changed; /* file->changes as of the last one made through this handle */
	bool wrote; /* more than emptied it */
	bool closed_before; /* one of its descriptors was closed */
};

/* NULL: out of memory. */
struct handle *handle_new(bool writing, uint32_t opener);
/* Makes it a handle of `f`, in which the caller counts as a user (and, with `writing`, as a writer). */
void handle_attach(struct fs *fs, struct handle *h, struct node *n, struct open_file *f);
/* Its open file, if it has one, is not touched otherwise. */
void handle_free(struct fs *fs, struct handle *h);

/* The content was changed through `h` (NULL: by its path) now; `emptied`: only that. Under the
 * file's lock. */
void handle_touch(struct handle *h, struct open_file *f, bool emptied);

/* Whether the store has yet to be given something that was changed through `h`. Under the file's lock. */
bool handle_is_unpublished(const struct handle *h);

/* One of h's descriptors was closed, by thread `pid`: whether what it has to publish is to be
 * published now. Without locks. */
bool handle_closed(struct fs *fs, struct handle *h, uint32_t pid);

/* Whether somebody who has something to publish has closed the file, although the kernel is yet to say
 * so: it does that some time after the end of a process. Without locks, by a user of the file. */
bool handle_any_closed(struct open_file *f);

#endif
