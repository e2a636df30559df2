/*
 * vanish.h - entries that went away without the kernel's doing: expired, or removed by another
 * program.
 *
 * The kernel is told to drop the name, and the names of directories that existed only because of
 * what went away.
 */
#ifndef KVFS_VANISH_H
#define KVFS_VANISH_H

#include "fs/core/core.h"

/* Tells the kernel that a key's entry is gone, under either of its names, and what that means for
 * the directories above it. Without locks. */
void vanish_key(struct fs *fs, const struct entry_id *key);

/* The same for a directory, if it does not exist any more. True: it does not. Without locks. */
bool vanish_dir(struct fs *fs, const struct entry_id *dir);

/* Tells the kernel to look the name of this entry up again. Without locks. */
void vanish_name(struct fs *fs, const struct entry_id *id, bool as_value);

#endif
