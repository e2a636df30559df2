/*
 * minimise.h - the smallest part of a failing list of steps that still fails.
 */
#ifndef KVFS_MODEL_MINIMISE_H
#define KVFS_MODEL_MINIMISE_H

#include "tests/model/run.h"

/* Removes steps from the list for as long as the rest fails and `seconds` last. The new length;
 * `f` is the last failure. A list that does not fail again is left as it is, and *again false. */
size_t minimise(const struct mount_options *opt, int workers, struct step *steps, size_t n,
	int seconds, struct failure *f, bool *again);

#endif
