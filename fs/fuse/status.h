/*
 * status.h - how the commands talk to the daemon: through extended attributes that are never listed.
 *
 *   STATUS_XATTR    of the mount's root: read, lines of NAME=VALUE. A name may repeat.
 *   CONTROL_XATTR   of a file, or of a directory with all below it: set, to what is to be done
 *                   (store_ops.control): upload, retry or drop.
 *   REFRESH_XATTR   of the same: read, with an empty answer; what is cached counts as old from then
 *                   on. It is read, since it changes nothing, and must be possible where nothing can
 *                   be set: in a read-only mount, and for a file that may only be read.
 *
 * The last two are for the user who mounted, and root.
 */
#ifndef KVFS_STATUS_H
#define KVFS_STATUS_H

#include "fs/fuse/ops.h"

#define STATUS_XATTR "kvfs.status"
#define CONTROL_XATTR "kvfs.control"
#define REFRESH_XATTR "kvfs.refresh"

/* The text, malloc'd; NULL: out of memory. */
char *status_text(struct mounted *m);

#endif
