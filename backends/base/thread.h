/*
 * thread.h - threads that leave signals to the program's own, and word of those that wait.
 */
#ifndef KVFS_THREAD_H
#define KVFS_THREAD_H

#include <pthread.h>

/* A thread that no signal is delivered to. 0 or -errno. */
int thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* To be called before waiting for the disk, the network, or a thread that does: others may do the
 * work that is there meanwhile. Cheap; any lock may be held. */
void thread_waits(void);

/* What thread_waits() calls from now on, in the thread that is about to wait. It takes no lock but its
 * own. */
void thread_on_wait(void (*fn)(void));

#endif
