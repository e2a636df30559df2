/*
 * commit.h - one transaction with everything that is pending, and a job in it or none.
 *
 * A job is a change of many entries or of namespaces: it goes into the same transaction, after what
 * is pending, and is durable when commit_run() returns.
 */
#ifndef KVFS_LMDB_COMMIT_H
#define KVFS_LMDB_COMMIT_H

#include "backends/lmdb/internal.h"

struct job {
	/* Works in the transaction. It may be called again, in another transaction, when that came
	 * to nothing. An error makes the job fail, not what is pending. */
	int (*run)(struct lmdb_store *st, struct txn *t, struct job *job);

	/* The rest is called with `changes` held alone; each may be NULL. seal: the last word of
	 * the table of changes, before the commit. landed, undone: the commit has gone well, or
	 * not. */
	int (*seal)(struct lmdb_store *st, struct txn *t, struct job *job);
	void (*landed)(struct lmdb_store *st, struct job *job);
	void (*undone)(struct lmdb_store *st, struct job *job);

	bool handles; /* env.handles is to be held: it opens one */
	bool alone; /* from seal on without any read transaction: it closes a handle */
	int result;
};

/* Commits everything that is pending and not held. The error of the commit; the job's own is in its
 * result. Takes env.writer. */
int commit_run(struct lmdb_store *st, struct job *job);

/* Why an entry was left out (pending_entry.error), in a clause. */
const char *commit_why(int error);

/* As above, and the job's result, or the commit's. */
int commit_job(struct lmdb_store *st, struct job *job);

#endif
