/*
 * orphans.h - records whose key another program has removed, and entries of kvfs:expiry without a
 * record. They are removed, or a key that is made later under that name would take over what the
 * old one had, its expiry too.
 *
 * After another program's commit all records are walked along the keys of their namespaces, a few
 * milliseconds at a time. A key that is removed and made again before the walk comes by keeps its
 * record: nothing tells it from one that was rewritten.
 */
#ifndef KVFS_LMDB_ORPHANS_H
#define KVFS_LMDB_ORPHANS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/lmdb/env.h"

struct lmdb_store;

struct orphans {
	_Atomic uint64_t
		walked; /* all records have been looked at since this foreign transaction */
	atomic_bool unconfirmed; /* a reader has found an entry of kvfs:expiry without its record */
	/* The rest is the watch's. */
	bool walking;
	uint64_t walking_for; /* what `walked` becomes */
	size_t at_len; /* the record to be looked at next; 0: the first */
	unsigned char at[ENV_KEY_MAX];
	unsigned pause; /* steps to wait after an error */
};

/* A few milliseconds of it, in the thread of the watch, without locks. */
void orphans_step(struct lmdb_store *st);

#endif
