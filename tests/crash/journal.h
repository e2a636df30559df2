/*
 * journal.h - every write, change of size and barrier that reaches one file, in order.
 *
 * As inject.h: the functions that this program defines come before the C library's, for kvfs and
 * for liblmdb. A shared writable mapping of the file would escape them, so that ends the program.
 */
#ifndef KVFS_TESTS_JOURNAL_H
#define KVFS_TESTS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum journal_kind {
	JOURNAL_WRITE, /* begins */
	JOURNAL_WRITTEN, /* a write through a descriptor with O_DSYNC has ended */
	JOURNAL_SIZE, /* ftruncate */
	JOURNAL_BARRIER, /* fsync, fdatasync: begins */
	JOURNAL_DURABLE, /* has ended well */
};

struct journal_event {
	enum journal_kind kind;
	int64_t when; /* monotonic nanoseconds */
	size_t of; /* WRITTEN, DURABLE: the event that has ended */
	uint64_t off; /* WRITE; SIZE: the new size */
	size_t len;
	unsigned char *bytes;
};

/* Begins with the file of this path, which need not exist yet, or NULL: ends. */
void journal_begin(const char *path);

/* What was written down. Nobody writes any more. */
const struct journal_event *journal_events(size_t *n);

#endif
