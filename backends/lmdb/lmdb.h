/*
 * lmdb.h - the store in a local LMDB environment, which other programs may read and write at the
 * same time.
 *
 * Layout. A namespace is the named database of that name: keys and values byte for byte, and
 * nothing else, so that it is what other LMDB programs expect. What kvfs remembers beside it is in
 * databases of its own, whose names cannot be namespaces:
 *
 *   kvfs:nodes   records
 *   kvfs:expiry  the same in the order of expiry
 *   kvfs:long    values of keys that are longer than LMDB's keys may be
 *   kvfs:heads   the beginnings of such keys
 *   kvfs:meta    the numbers of namespaces, the next inode number, which transactions were ours
 *
 * They are made at the first write; an environment made by another program opens as it is.
 */
#ifndef KVFS_LMDB_H
#define KVFS_LMDB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "backends/store.h"

struct lmdb_options {
	const char *dir; /* the environment: a folder with data.mdb and lock.mdb */
	bool readonly;
	bool create; /* make the environment, and the last component of `dir`, where there is none
		      */
	unsigned commit_interval_ms; /* how long changes gather; 0: they are committed at once */
	size_t pending_max; /* bytes of changes in memory before writers wait; 0: 32 MiB */
	size_t map_size; /* bytes of the map to begin with; 0: 1 GiB */
};

/* -ENOENT, -ENOTDIR, -EACCES; -EINVAL: the environment is damaged, and has been left untouched;
 * -EBUSY: another kvfs writes to it. `why`: one clause for a person, terminated. */
int lmdb_store_open(const struct lmdb_options *opts, struct store **out, char *why, size_t why_cap);

/* The process that has the environment open for writing, as far as it is known; 0: it is not. For
 * messages: it can have ended meanwhile. */
pid_t lmdb_holder(const char *dir);

#endif
