/*
 * status.h - what `kvfs status` asks the daemon: lines of NAME=VALUE, read as the extended
 * attribute STATUS_XATTR of the mount's root (never listed). A name may repeat.
 */
#ifndef KVFS_STATUS_H
#define KVFS_STATUS_H

#include "fs/fuse/ops.h"

#define STATUS_XATTR "kvfs.status"

/* The text, malloc'd; NULL: out of memory. */
char *status_text(struct mounted *m);

#endif
