/*
 * audit.h - whether LMDB can follow what is in a data file, found out without LMDB.
 *
 * LMDB believes its file. A page number, an offset or a length in it that is wrong makes it read or
 * write elsewhere; a flag that is wrong ends the process by an assertion. So the trees that we use
 * are read here first, with pread(), and everything is checked that LMDB relies on: that pages are
 * where they should be, of the kind that they should be, and in one place of one tree only; that
 * nodes lie within their pages and not over each other; that large values end where their pages do;
 * that free pages are none of these. What keys and values mean is not looked at, nor their order:
 * a wrong one of those is an error, or another answer, but not the end of the process.
 */
#ifndef KVFS_LMDB_AUDIT_H
#define KVFS_LMDB_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "backends/lmdb/disk.h"

/* Reads the trees of the snapshot that a meta page (which has been checked) describes, for at most
 * so many milliseconds. 0: all is well; -ETIME: so is what there was time for; -EINVAL: *page is not
 * what it should be; -ENOMEM, -EIO. */
int audit_trees(int fd, const struct disk_meta *m, int64_t limit_ms, uint64_t *page);

#endif
