/*
 * concurrent.h - workers that do not wait for each other: each does its own steps in its own folder,
 * in step on both trees, and now and then one of shared.h.
 */
#ifndef KVFS_MODEL_CONCURRENT_H
#define KVFS_MODEL_CONCURRENT_H

#include "tests/model/run.h"

/* `steps` per worker. False: it failed, as `f->text` says, with the worker's steps before it, most of
 * which others do not influence, printed to standard output. */
bool concurrent_run(const struct mount_options *opt, const struct generator *g, unsigned long steps,
	struct failure *f);

#endif
