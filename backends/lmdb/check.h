/*
 * check.h - whether an LMDB environment can be opened, found out without LMDB.
 *
 * LMDB trusts its file: it maps it and follows page numbers, so that a damaged one ends the process
 * (SIGBUS, an assertion) rather than the call. And opening makes a lock file beside it. So we look
 * first, and touch nothing.
 */
#ifndef KVFS_LMDB_CHECK_H
#define KVFS_LMDB_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check_info {
	uint64_t map_size; /* what the file says */
	uint64_t used; /* bytes up to the last page in use */
};

/* Looks at the data file that is open as `fd` (for reading at least) and not empty: all of it that
 * LMDB would follow, in a very large one as much as a second is enough for. -EINVAL: damaged, or of
 * another version; -EIO. */
int check_environment(int fd, struct check_info *info, char *why, size_t why_cap);

/* Whether nothing has ever been in the data file: LMDB was about to write its first two pages when
 * the power went away, and one of them, or both, did not come to the disk. */
bool check_unborn(int fd, uint64_t size);

#endif
