/*
 * history.h - what several threads did to one filesystem, and which moment of it a found state is.
 *
 * Model. Each thread has namespaces of its own, and a plan (plan.h) that says what it does, one
 * operation after the other. Of an operation only the times of its beginning and end are written
 * down: the plan tells the rest. The times lie in memory that is shared with the parent, so that
 * they outlive a killed child; the clock is the machine's, the same for every process.
 *
 * A found state is right when, for each thread, what is found of its namespaces is its tree after
 * its first k operations, for some k, and all these k are of one moment:
 *
 *   - k is not less than what the thread had done when an fsync began, of whatever thread, that
 *     has been acknowledged since;
 *   - no operation that is in the state began after one that is not in it had ended.
 *
 * The second is decided exactly: each thread's k starts at the greatest that fits and is lowered
 * only where another thread's, which cannot become greater, forces it.
 */
#ifndef KVFS_TESTS_HISTORY_H
#define KVFS_TESTS_HISTORY_H

#include <stdatomic.h>

#include "tests/crash/plan.h"

enum { HISTORY_THREADS = 4, HISTORY_OPS = 20000 };

struct logged {
	_Atomic int64_t begin, end; /* monotonic nanoseconds; 0: not yet */
};

/* In shared memory. */
struct history_log {
	struct logged ops[HISTORY_THREADS][HISTORY_OPS];
	atomic_bool killed; /* set before the kill: whatever fails from then on may */
	_Atomic int failed; /* -errno of an operation that should have succeeded */
	char failed_text[256];
};

struct history {
	unsigned threads;
	uint64_t seed;
	size_t large; /* bytes of the largest value */
	int64_t now; /* seconds, of all that is done */
	struct history_log *log;
	struct model start[HISTORY_THREADS]; /* what there was before the first operation */
};

/* How an operation is done; 0 or -errno. */
typedef int (*history_run)(void *arg, const struct op *op);

int history_init(struct history *h, unsigned threads, uint64_t seed); /* -ENOMEM */
void history_release(struct history *h);

/* The names of a thread's namespaces begin with this. */
const char *history_top(unsigned thread);

/* A new history from `start` on: the next seed, an empty log. What has expired at `now` is gone. */
void history_begin(struct history *h, int64_t now);

/* Does what one thread does, until `most` operations are done or one fails; as none may, before
 * log->killed. */
void history_thread(struct history *h, unsigned thread, size_t most, history_run run, void *arg);

size_t history_done(const struct history *h); /* operations of all threads so far */

/* Finds the moment that `found` (one model for each thread) is, of a history that was cut off at
 * time `cut` (INT64_MAX: not at all). On success `start` is that moment. False: there is none;
 * standard error says why. `keep`: leave `start` as it is. */
bool history_match(struct history *h, struct model *found, int64_t cut, bool keep);

int64_t history_clock(void);

#endif
