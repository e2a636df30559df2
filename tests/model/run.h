/*
 * run.h - a list of steps from its beginning to its end, in lock-step: one step at a time, each
 * done on both trees by one of the workers.
 */
#ifndef KVFS_MODEL_RUN_H
#define KVFS_MODEL_RUN_H

#include "tests/model/generate.h"
#include "tests/model/mount.h"
#include "tests/model/worker.h"

struct tally {
	unsigned long words[OP_COUNT][REPLY_DIFFERENT + 1];
};

struct failure {
	size_t at; /* which step */
	char text[REPLY_TEXT_MAX + 200];
};

struct run {
	struct mount_options opt;
	struct trees trees;
	struct worker workers[STEP_WORKERS_MAX];
	int n_workers;
	struct tally *tally; /* or NULL */
	bool loose; /* a step was LOOK_LOOSE */
	enum reply_word last; /* how the last step went */
};

int run_begin(struct run *r, const struct mount_options *opt, int workers, struct tally *tally);

/* Does the `at`th step. False: it failed, as `f` says. */
bool run_step(struct run *r, const struct step *s, size_t at, struct failure *f);

/* Compares the trees a last time, and ends everything. `f->at` is `at` where that fails. */
bool run_end(struct run *r, size_t at, struct failure *f);

/* After a failure. */
void run_abandon(struct run *r);

/* All of it. False: it failed. */
bool run_list(const struct mount_options *opt, int workers, const struct step *steps, size_t n,
	struct failure *f);

#endif
