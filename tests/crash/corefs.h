/*
 * corefs.h - the filesystem's core over the LMDB store, in this process and without FUSE, used by
 * paths: a lookup for each name, as the kernel does it.
 *
 * Functions return 0 or -errno. Any number of threads may run operations; opening, closing and
 * looking are for one.
 */
#ifndef KVFS_TESTS_COREFS_H
#define KVFS_TESTS_COREFS_H

#include "fs/core/fs.h"
#include "tests/crash/plan.h"

struct corefs {
	struct store *st;
	struct fs *fs;
	char why[256]; /* why it could not be opened */
};

/* Every namespace of the environment in `dir`, which is made where it is missing. `started`: with
 * the threads of the core, as when mounted. */
int corefs_open(struct corefs *c, const char *dir, bool started);
int corefs_close(struct corefs *c);

int corefs_run(struct corefs *c, const struct op *op);

/* How many bytes this thread's last operation wrote before it failed; SIZE_MAX: it did not come to
 * that. What they make of the file is stored when it is closed, as on any filesystem. */
size_t corefs_written(void);
int corefs_sync(struct corefs *c);

/* A path's node, looked up once more, until it is forgotten. */
int corefs_lookup(struct corefs *c, const char *path, struct node **out, struct fs_attr *attr);
void corefs_forget(struct corefs *c, struct node *n);

/* What can be seen, of all namespaces whose names begin with `top`, is added to *out. */
int corefs_observe(struct corefs *c, const char *top, struct model *out);

#endif
