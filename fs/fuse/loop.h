/*
 * loop.h - the threads that take requests from the kernel and answer them.
 *
 * What a request costs is mostly the waking of threads: of the one that answers, then of the one that
 * asked. Handing each request to another thread, as libfuse's own loop does, wakes a core that sleeps
 * for each. So one worker answers one request after the other, and looks out for the next for a short
 * while before it sleeps (pace.h), and idle cores do not halt meanwhile (wakeful.h). Others take over
 *
 *   - when a request waits, which whoever waits says (thread_waits() in backends/base/thread.h),
 *   - when a request takes longer than a tick, which the thread that called loop_run() looks out for,
 *   - when requests queue all the time: up to half of the processors, or as many as wait.
 *
 * Workers beside those are parked, and sleep elsewhere than in the kernel's queue, which would wake
 * one of them for each request.
 */
#ifndef KVFS_LOOP_H
#define KVFS_LOOP_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct loop;

/* eager: processors may be kept awake for requests that are about to come. NULL: out of memory. */
struct loop *loop_new(struct fuse_session *se, bool eager);
void loop_free(struct loop *l);

/* Answers requests until the filesystem is unmounted or loop_stop() is called. 0 or -errno. One at a
 * time in a process. */
int loop_run(struct loop *l);

/* Ends loop_run(), when the requests under way are answered. From any thread. */
void loop_stop(struct loop *l);

#endif
