/*
 * opener.h - whether a process has a file open, as far as /proc tells.
 */
#ifndef KVFS_OPENER_H
#define KVFS_OPENER_H

#include <stdint.h>

enum opener {
	OPENER_UNKNOWN, /* it may not be looked at, or has too many files open to look at all */
	OPENER_GONE, /* there is no such process */
	OPENER_CLOSED,
	OPENER_HAS_IT,
};

/* Whether thread `pid` has an inode of this number open for writing. Another filesystem's inode of
 * the same number counts too. Takes as long as reading a small file for each of its descriptors;
 * does not wait for the process. */
enum opener opener_look(uint32_t pid, uint64_t ino);

#endif
