/*
 * step.h - one step of a case: a system call, by name.
 *
 * Arguments that name a file:
 *	PATH          relative to the case's folder, or absolute
 *	@N            the open file N itself (fchmod for chmod, and so on)
 *	@N/PATH       relative to the open folder N (openat, mkdirat, ...)
 *	%empty%       the empty path;  %null%  no path at all (EFAULT)
 */
#ifndef POSIX_STEP_H
#define POSIX_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/posix/script.h"
#include "tests/posix/tree.h"

struct run {
	int fds[TREE_FDS]; /* -1: not open */
};

/* A file as an argument names it: a file descriptor alone (path NULL), or a path at one. */
struct at {
	int fd;
	const char *path;
	bool alone;
};

struct step_op {
	const char *name;
	size_t least, most; /* arguments */
	long (*fn)(struct run *run, char **arg); /* -1 with errno; absent arguments are NULL */
	bool names; /* it may make, remove or move names */
};

/* Tables that end with a NULL name, by what they are about. */
extern const struct step_op ops_names[], ops_attributes[], ops_files[], ops_folders[], ops_locks[];

/* Whether the step is done as another user. */
bool step_needs_root(const char *step);

/* Does one step, with its user and process, and prints its result. Whether it should have changed
 * names, so that a listing is worth its time; what should not have, is listed in the end. */
bool step_run(struct run *run, char **words, size_t n);

/* --- for the operations --------------------------------------------------------------------- */

struct at at_of(struct run *run, const char *word);
/* The open file N, from "N" or "@N". */
int fd_of(struct run *run, const char *word);
void fd_keep(struct run *run, const char *word, int fd);
long number(const char *word, long otherwise); /* where word is NULL */
mode_t mode_of(const char *word, mode_t otherwise);

struct symbol {
	const char *name;
	long value;
};
/* "A|B|C" or "0", of a table that ends with a NULL name. */
long symbols(const struct symbol *table, const char *word);

/* Prints bytes as they are where they are few and printable, otherwise their hash. */
void say_bytes(const void *data, size_t len);

#endif
