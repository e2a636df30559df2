/*
 * fs_kit.h - what the tests of the filesystem's core share: a filesystem over the memory store,
 * walked by paths.
 *
 * The time is the test's (KVFS_CLOCK). Nothing waits: what the sweep does in the background is
 * looked at through what views show, which does not depend on it.
 */
#ifndef KVFS_FS_KIT_H
#define KVFS_FS_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fs/core/fs.h"

struct env {
	struct fs *fs;
	struct store *st;
	uint32_t ns;
};

/* A listing as "name name/ ...", in the order it comes. */
struct listed {
	char text[8192];
	size_t left; /* how many more it takes; then it is full */
	uint64_t next;
};

/* Takes dirents as far as `left` allows. */
bool list_one(void *arg, const struct fs_dirent *d);

void set_clock(const char *seconds);
void env_open(struct env *e, char sep, const struct fs_options *more);
void env_close(struct env *e);
void foreign_put(struct env *e, const char *key, const char *value);
void foreign_remove(struct env *e, const char *key);
int walk(struct env *e, const char *path, struct node **out, struct fs_attr *attr);
void forget(struct env *e, struct node *n);
int mode_of(struct env *e, const char *path);
bool is_file(struct env *e, const char *path);
bool is_dir(struct env *e, const char *path);
int take_all(void *arg, const void *data, size_t len);
int write_file(struct env *e, const char *path, const char *text);
/* Saves `name` as an editor does: a new file, renamed over the old one. */
void replace_file(struct env *e, const char *name, const char *text);
const char *read_file(struct env *e, const char *path);
int make_dir(struct env *e, const char *path);
int remove_path(struct env *e, const char *path, bool dir);
int move(struct env *e, const char *from, const char *to, unsigned flags);
int set_xattr(struct env *e, const char *path, const char *name, const char *value);
const char *get_xattr(struct env *e, const char *path, const char *name);
const char *list(struct env *e, const char *path);

/* Runs the tests with a clock of their own; main()'s result. */
int fs_kit_run(const struct CMUnitTest *tests, size_t n);

#endif
