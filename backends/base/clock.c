#include "backends/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *clock_file; /* NULL: the real time */
static _Atomic int64_t clock_last; /* what the file said last */

static int clock_read_file(int64_t *ns)
{
	char text[64];
	int fd = open(clock_file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -EINVAL;
	text[n] = '\0';
	char *end;
	errno = 0;
	long double t = strtold(text, &end);
	if (end == text || errno || t < 0 || t > 9e9L)
		return -EINVAL;
	*ns = (int64_t)(t * CLOCK_SECOND);
	return 0;
}

int clock_init(void)
{
	const char *file = getenv("KVFS_CLOCK");
	int64_t ns;

	if (!file || !*file)
		return 0;
	clock_file = strdup(file);
	if (!clock_file)
		return -ENOMEM;
	int rc = clock_read_file(&ns);
	if (rc)
		return rc;
	atomic_store(&clock_last, ns);
	return 0;
}

bool clock_is_set_by_test(void)
{
	return clock_file != NULL;
}

int64_t clock_now(void)
{
	struct timespec ts;
	int64_t ns;

	if (clock_file) {
		/* A file that is being rewritten says nothing for a moment: the time stands still.
		 */
		if (clock_read_file(&ns) == 0)
			atomic_store(&clock_last, ns);
		return atomic_load(&clock_last);
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	return clock_ns(ts);
}

int64_t clock_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_ns(ts);
}

int64_t clock_steady(void)
{
	static _Atomic int64_t began; /* the real time, less the monotonic one */
	int64_t offset = atomic_load(&began), none = 0;

	if (clock_file)
		return clock_now();
	if (!offset) {
		offset = clock_now() - clock_monotonic();
		if (!offset)
			offset = 1;
		if (!atomic_compare_exchange_strong(&began, &none, offset))
			offset = none;
	}
	return clock_monotonic() + offset;
}

struct timespec clock_steady_until(int64_t ns)
{
	int64_t wait = ns - clock_steady();

	return clock_timespec(clock_monotonic() + (wait > 0 ? wait : 0));
}

struct timespec clock_timespec(int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / CLOCK_SECOND, .tv_nsec = ns % CLOCK_SECOND};

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += CLOCK_SECOND;
		ts.tv_sec--;
	}
	return ts;
}

int64_t clock_ns(struct timespec ts)
{
	return (int64_t)ts.tv_sec * CLOCK_SECOND + ts.tv_nsec;
}
