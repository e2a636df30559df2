/*
 * worker.h - a process that does steps on both trees and compares what they bring.
 *
 * Several processes, since a filesystem treats descriptors, mappings and locks of one process
 * differently from those of many.
 */
#ifndef KVFS_MODEL_WORKER_H
#define KVFS_MODEL_WORKER_H

#include <sys/types.h>

#include "tests/model/act.h"

enum { REPLY_TEXT_MAX = 1200 };

enum reply_word {
	REPLY_DONE, /* and both sides agree */
	REPLY_FAILED, /* with the same error on both sides */
	REPLY_PASSED_OVER,
	REPLY_DIFFERENT,
};

struct reply {
	enum reply_word word;
	char text[REPLY_TEXT_MAX]; /* what differs */
};

/* Does one step here and now. */
void worker_step(struct actor *a, const struct step *s, struct reply *out);

struct worker {
	pid_t pid;
	int socket;
};

/* Starts a process that ends with this one. 0 or -errno. */
int worker_start(struct worker *w, const char *kvfs, const char *plain);

/* Has a step done. -ETIMEDOUT: the worker hangs; -EPIPE: it is gone. */
int worker_do(struct worker *w, const struct step *s, struct reply *out);

/* Has everything closed. */
int worker_close_all(struct worker *w);

void worker_end(struct worker *w);

#endif
