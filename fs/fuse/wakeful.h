/*
 * wakeful.h - keeps idle processors from halting while requests come one after the other.
 *
 * To wake a processor of a virtual machine that has halted takes the host tens of microseconds, which
 * is several times what a request takes, and each request needs it twice: for us, and for the program
 * that asked. Linux lets a process say what delay it can bear (/dev/cpu_dma_latency); with none, idle
 * processors wait for work without halting. That costs the host their time, so
 *
 *   - only where idle processors halt through the host (the driver "haltpoll"),
 *   - only where they are few, since it holds for all of them,
 *   - only during a stream of requests, which ends sooner for it.
 *
 * The kernel takes the wish back when the process ends, however it ends. Who may not open the device,
 * as ordinary users may not, goes without.
 *
 * Threads: hold, release and held by any.
 */
#ifndef KVFS_WAKEFUL_H
#define KVFS_WAKEFUL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "backends/base/lock.h"

enum { WAKEFUL_CPUS_MAX = 4 };

struct wakeful {
	struct lock lock; /* of the last word */
	int fd; /* -1: not here */
	_Atomic bool held;
};

/* `dev`, `sys`: "/dev" and "/sys", but in tests. `cpus`: that are online. */
void wakeful_init(struct wakeful *w, const char *dev, const char *sys, long cpus);
void wakeful_destroy(struct wakeful *w);

void wakeful_hold(struct wakeful *w);
void wakeful_release(struct wakeful *w);
bool wakeful_held(struct wakeful *w);

#endif
