/*
 * thread.h - threads that leave signals to the program's own.
 */
#ifndef KVFS_THREAD_H
#define KVFS_THREAD_H

#include <pthread.h>

/* A thread that no signal is delivered to. 0 or -errno. */
int thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

#endif
