/*
 * shared.h - what several workers do to the same files at the same time, and what must hold in the
 * end however they met: appends are whole and none is lost, a replaced file is never half another,
 * O_EXCL has one winner, what is renamed is neither lost nor doubled.
 */
#ifndef KVFS_MODEL_SHARED_H
#define KVFS_MODEL_SHARED_H

#include "tests/model/rng.h"
#include "tests/model/step.h"

/* What the workers did, in memory that they share; each writes its own element. */
struct shared_counts {
	unsigned appends[STEP_WORKERS_MAX], claims[STEP_WORKERS_MAX];
};

/* Makes the files below `root`. False: it cannot. */
bool shared_prepare(const char *root);

/* One random act. NULL, or what is wrong. */
const char *shared_act(const char *root, int worker, struct rng *rng, struct shared_counts *counts);

/* When all is quiet. NULL, or what is wrong. */
const char *shared_check(const char *root, int workers, const struct shared_counts *counts);

#endif
