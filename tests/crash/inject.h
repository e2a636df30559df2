/*
 * inject.h - calls that fail on demand: of the C library, of the system, of the store.
 *
 * Model. The functions below, as this program defines them, come before everyone else's, so that
 * kvfs and liblmdb both call these; they pass the call on, unless it is the one that is to fail.
 * inject_arm() says which: the n-th from then on, of some kinds, by any thread that is not quiet;
 * `sticky`: and all after it. The sanitizers' own calls do not come by.
 */
#ifndef KVFS_TESTS_INJECT_H
#define KVFS_TESTS_INJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/store.h"

enum inject_kind {
	INJECT_MEMORY, /* malloc, calloc, realloc, posix_memalign: ENOMEM */
	INJECT_WRITE, /* pwrite, writev, ftruncate: EIO or ENOSPC */
	INJECT_SYNC, /* fsync, fdatasync: EIO */
	INJECT_READ, /* pread: EIO */
	INJECT_MAP, /* mmap: ENOMEM */
	INJECT_OPEN, /* open, mkostemp: EMFILE */
	INJECT_ROOM, /* fallocate: ENOSPC */
	INJECT_THREAD, /* pthread_create: EAGAIN */
	INJECT_STORE, /* a call of the store: EIO */
	INJECT_KINDS
};

/* `error`: the errno of writes; others have their own. */
void inject_arm(unsigned kinds, unsigned long n, bool sticky, int error);

/* Ends it. How many calls of these kinds there were; *fired: what failed, 0 where nothing did. */
unsigned long inject_disarm(int *fired);

/* This thread's calls are not counted, and do not fail, between these two. They nest. */
void inject_quiet(bool on);

/* Lets the calls of the store fail too. */
void inject_store(struct store *st);

/* Where the call that failed came from, for people; how many places there have been. */
void inject_show(void);
size_t inject_places(void);

#endif
