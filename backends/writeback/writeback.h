/*
 * writeback.h - a remote store behind a local one that caches it and keeps a journal of changes.
 *
 * Model. The local store has, for each remote namespace, four namespaces: the keys with their
 * values as far as they were needed, the journal (journal.h), what was listed (coverage.h), and
 * what was asked for and is absent. Everything that the filesystem reads comes from the local store;
 * store_ops.prepare brings it up to date before, and is the only function that waits for the remote
 * store. Changes go into the local store and the journal in one group, with the durability of the
 * local store; a thread takes them to the remote one (upload.c).
 *
 * Freshness. What the remote store said counts for max_age. Own changes win over anything it says
 * as long as they are in the journal, and after that until it says the same or two max_age have
 * passed (they are pinned), since it may go on giving old answers for a while.
 *
 * Locks, outermost first:
 *
 *   book       every change of the local store that depends on what is there: look, decide, apply.
 *              Never held while the remote store is asked.
 *   traffic    what is being fetched, by whom; a leaf
 *   queue      the uploader's; a leaf
 */
#ifndef KVFS_WRITEBACK_H
#define KVFS_WRITEBACK_H

#include "backends/store.h"
#include "backends/writeback/remote.h"

struct writeback_options {
	char separator;
	bool readonly;
	uint32_t uid, gid, umask; /* of keys that others made */
	int64_t max_age; /* nanoseconds */
	int64_t upload_delay; /* nanoseconds */
	bool sync_remote; /* store_ops.sync waits for uploads too */
	bool keep_conflicts; /* what others wrote meanwhile is kept beside */
	uint64_t cache_size; /* bytes of values kept; 0: no bound */
	const char *local_globs; /* names that are never uploaded: globs, separated by spaces */
	const struct remote_ns *fixed; /* the namespaces, by these titles; copied */
	size_t fixed_n;
	const void *title; /* what the one namespace (`only`) is called; copied */
	size_t title_len; /* 0: it is called by its id */
	struct blob_pool *client_blobs; /* NULL, or freed when the remote store is closed */
};

/* Takes over both stores, which are closed with it, also when this fails. `only`: the id of the one
 * namespace to show, with *ns its number; NULL: all, by their titles, or those of `fixed`. `why`: one clause for a
 * person. -ENODEV: no such namespace. */
int writeback_open(struct store *local, struct remote *remote, const struct writeback_options *o,
	const char *only, struct store **out, uint32_t *ns, char *why, size_t why_cap);

#endif
