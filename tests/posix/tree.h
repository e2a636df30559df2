/*
 * tree.h - what a step did to the case's folder: every object in it, before and after.
 *
 * After each step the whole folder is looked at, and what changed is printed: objects that came,
 * went or moved, and of those that stayed the mode, owner, links, size and times. So a step that
 * should not have changed something is caught although nobody thought of it.
 *
 * Every object is looked at three times: by path as the kernel remembers it, by its directory's
 * listing, and by path with the filesystem asked anew. Where these differ the kernel remembers
 * something that the filesystem should have made it forget; lines that begin with '!' say so.
 */
#ifndef POSIX_TREE_H
#define POSIX_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
	TREE_FDS = 10,
	TREE_OBJECTS = 400,
	TREE_PATH = 600,
	TREE_FOLDER_MOST = 40, /* entries; what is in larger folders is not looked at */
};

struct tree_object {
	char path[TREE_PATH]; /* relative to the case's folder */
	bool nameless; /* an open file without a name; its path is "@N" */
	bool there; /* false: it was once */
	struct stat st;
};

struct tree {
	size_t n;
	struct tree_object o[TREE_OBJECTS];
};

/* Looks at the current folder. `before` (may be NULL) tells which paths have been seen; fds[] are
 * open files or -1. Without `list` only at paths that have been seen. Prints '!' lines. */
void tree_look(struct tree *t, const struct tree *before, bool list, const int fds[TREE_FDS]);

/* Prints what changed. Times from `since` on (nanoseconds since the epoch) are "now". */
void tree_print_changes(const struct tree *before, const struct tree *after, int64_t since);

/* Removes everything in the current folder. */
void tree_clear(void);

#endif
