#include "backends/base/thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static void (*_Atomic on_wait)(void);

int thread_start(pthread_t *thread, void *(*main)(void *), void *arg)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = -pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

void thread_waits(void)
{
	void (*fn)(void) = atomic_load(&on_wait);

	if (fn)
		fn();
}

void thread_on_wait(void (*fn)(void))
{
	atomic_store(&on_wait, fn);
}
