/*
 * mounted.h - a real `kvfs mount`, used through system calls, and killed.
 */
#ifndef KVFS_TESTS_MOUNTED_H
#define KVFS_TESTS_MOUNTED_H

#include <sys/types.h>

#include "tests/crash/plan.h"

struct mounted {
	const char *kvfs; /* the program */
	char root[64]; /* the mount point */
	pid_t daemon; /* 0: none is running */
};

/* Mounts every namespace of the environment `dir`, and waits until it is there. -ETIMEDOUT, -ECHILD:
 * it ended. */
int mounted_start(struct mounted *m, const char *dir, const char *options);

/* SIGKILL. When it returns the daemon is dead; whoever uses the mount point gets ENOTCONN. */
void mounted_kill(struct mounted *m);

/* The mount point becomes an empty folder again. */
void mounted_detach(const struct mounted *m);

int mounted_run(void *arg, const struct op *op); /* history_run; arg: struct mounted * */

#endif
