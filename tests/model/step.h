/*
 * step.h - one step of a run: which worker does which system call with which arguments.
 *
 * A step is complete in itself. It refers to files by their paths and to open files by the worker's
 * slots; where a slot is empty the step is passed over. So any part of a list of steps is a list of
 * steps too, which is what lets a failing list be made smaller.
 *
 * As text a step is one line, "wWORKER OPERATION NAME=VALUE...", where what is zero is left out.
 */
#ifndef KVFS_MODEL_STEP_H
#define KVFS_MODEL_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
	STEP_PATH_MAX = 600,
	STEP_TEXT_MAX = 8 * STEP_PATH_MAX + 400, /* bytes of its line */
	STEP_LEN_MAX = 1 << 18, /* bytes that one step reads or writes */
	STEP_SLOTS = 6,
	STEP_WORKERS_MAX = 8,
};

/* Operations on what `path` names, or, where there is no path, on what `slot` has open: */
#define STEP_OPS(X)                                                                                     \
	X(chmod) /* mode */                                                                             \
	X(chown) /* off: user, off2: group; -1 keeps */                                                 \
	X(utimens) /* off, off2: seconds of atime and mtime, len: nanoseconds; flags: enum step_time */ \
	X(setxattr) /* name, len, salt: the value; flags */                                             \
	X(getxattr) /* name */                                                                          \
	X(listxattr)                                                                                    \
	X(removexattr) /* name */                                                                       \
	X(stat)                                                                                         \
	X(truncate) /* len */                                                                           \
	/* Operations on a slot: */                                                                     \
	X(open) /* path, flags, mode: into the slot, which is closed before */                          \
	X(close)                                                                                        \
	X(dup) /* slot2 becomes another descriptor of slot */                                           \
	X(read)                                                                                         \
	X(pread)                                                                                        \
	X(write)                                                                                        \
	X(pwrite) /* off, len, salt */                                                                  \
	X(lseek) /* off, flags: whence */                                                               \
	X(fallocate) /* off, len, flags: mode */                                                        \
	X(copyrange) /* slot at off to slot2 at off2; -1: at the descriptor's own offset */             \
	X(sendfile) /* slot at off to slot2 */                                                          \
	X(fsync)                                                                                        \
	X(fdatasync)                                                                                    \
	X(map) /* off, len, flags: enum step_map; the slot keeps it when it is closed */                \
	X(mapread)                                                                                      \
	X(mapwrite) /* off (in the mapping), len, salt, flags: enum step_map */                         \
	X(unmap)                                                                                        \
	/* Operations on names: */                                                                      \
	X(rename) /* path to path2, flags */                                                            \
	X(link)                                                                                         \
	X(unlink)                                                                                       \
	X(mkdir)                                                                                        \
	X(rmdir)                                                                                        \
	X(symlink) /* path2: the target */                                                              \
	X(readlink)                                                                                     \
	X(mknod) /* mode, off: the device */                                                            \
	X(contents) /* reads all of a file */                                                           \
	X(list) /* names, types and inode numbers; flags: where to come back to */                      \
	X(opendir) /* keeps a listing in the slot */                                                    \
	X(relist) /* lists it from its beginning again */                                               \
	/* Done by who drives the workers: */                                                           \
	X(dropcaches)                                                                                   \
	X(compare) /* both trees from end to end */                                                     \
	X(remount) /* and compares */

#define STEP_ENUM(name) OP_##name,
enum step_op { STEP_OPS(STEP_ENUM) OP_COUNT };
#undef STEP_ENUM

enum step_map {
	MAP_STEP_PRIVATE = 1,
	MAP_STEP_WRITABLE = 2,
	MAP_STEP_MSYNC = 4, /* after the write */
	MAP_STEP_UNMAP = 8,
};

enum step_time { TIME_STEP_NOW = 1, TIME_STEP_OMIT_ATIME = 2, TIME_STEP_OMIT_MTIME = 4 };

/* What is looked at beside the call itself. Looking brings fresh attributes into the kernel's
 * cache, so it is left out at times. */
enum step_look {
	LOOK_BEFORE = 1,
	LOOK_AFTER = 2,
	LOOK_LOOSE = 4, /* mappings may be dirty: times of files say nothing */
};

struct step {
	enum step_op op;
	int worker;
	int slot, slot2;
	unsigned flags, mode, salt, name, look;
	int64_t off, off2, len;
	char path[STEP_PATH_MAX], path2[STEP_PATH_MAX];
};

const char *step_op_name(enum step_op op);
bool step_is_driver(const struct step *s);

/* Writes the line, without its end, into STEP_TEXT_MAX bytes. */
void step_print(const struct step *s, char *text);

/* False: the line is no step. */
bool step_parse(const char *text, struct step *out);

#endif
