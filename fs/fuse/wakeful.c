#include "fs/fuse/wakeful.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In microseconds, as the kernel's own word for "any". */
static const int32_t NO_DELAY = 0, ANY_DELAY = 2000000000;

static bool halts_through_the_host(const char *sys)
{
	char path[PATH_MAX], driver[32] = "";

	snprintf(path, sizeof(path), "%s/devices/system/cpu/cpuidle/current_driver", sys);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool is = fgets(driver, sizeof(driver), f) && strcmp(driver, "haltpoll\n") == 0;
	fclose(f);
	return is;
}

void wakeful_init(struct wakeful *w, const char *dev, const char *sys, long cpus)
{
	char path[PATH_MAX];

	lock_init(&w->lock, LOCK_WAKEFUL);
	atomic_init(&w->held, false);
	w->fd = -1;
	if (cpus < 2 || cpus > WAKEFUL_CPUS_MAX || !halts_through_the_host(sys))
		return;
	snprintf(path, sizeof(path), "%s/cpu_dma_latency", dev);
	w->fd = open(path, O_WRONLY | O_CLOEXEC);
}

void wakeful_destroy(struct wakeful *w)
{
	if (w->fd >= 0)
		close(w->fd);
	lock_destroy(&w->lock);
}

static void say(struct wakeful *w, bool hold)
{
	if (w->fd < 0 || atomic_load_explicit(&w->held, memory_order_relaxed) == hold)
		return;
	lock_take(&w->lock);
	if (atomic_load(&w->held) != hold) {
		ssize_t n = write(w->fd, hold ? &NO_DELAY : &ANY_DELAY, sizeof(NO_DELAY));

		if (n == sizeof(NO_DELAY))
			atomic_store(&w->held, hold);
	}
	lock_drop(&w->lock);
}

void wakeful_hold(struct wakeful *w)
{
	say(w, true);
}

void wakeful_release(struct wakeful *w)
{
	say(w, false);
}

bool wakeful_held(struct wakeful *w)
{
	return atomic_load_explicit(&w->held, memory_order_relaxed);
}
