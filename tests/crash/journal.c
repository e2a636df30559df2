/* The names with and without 64 are to be two, as they are in the C library. */
#undef _FILE_OFFSET_BITS

#include "tests/crash/journal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/history.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static char file[256];
static atomic_bool on;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct journal_event *events;
static size_t events_n, events_cap;

void journal_begin(const char *path)
{
	if (path) {
		for (size_t i = 0; i < events_n; i++)
			free(events[i].bytes);
		events_n = 0;
	}
	snprintf(file, sizeof(file), "%s", path ? path : "");
	atomic_store(&on, path != NULL);
}

const struct journal_event *journal_events(size_t *n)
{
	*n = events_n;
	return events;
}

static bool is_ours(int fd)
{
	struct stat a, b;

	return atomic_load(&on) && fstat(fd, &a) == 0 && stat(file, &b) == 0 &&
		a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static size_t add(enum journal_kind kind, size_t of, uint64_t off, const void *bytes, size_t len)
{
	pthread_mutex_lock(&lock);
	if (events_n == events_cap) {
		events_cap = events_cap ? 2 * events_cap : 1024;
		events = realloc(events, events_cap * sizeof(*events));
	}
	unsigned char *copy = malloc(len ? len : 1);
	if (!events || !copy)
		abort();
	if (len)
		memcpy(copy, bytes, len);
	events[events_n] = (struct journal_event){kind, history_clock(), of, off, len, copy};
	size_t at = events_n++;
	pthread_mutex_unlock(&lock);
	return at;
}

static void *next(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (!f)
		abort();
	return f;
}

#define NEXT(name) __typeof__(name) *real = (__typeof__(name) *)(uintptr_t)next(#name)

static ssize_t written(int fd, size_t of, ssize_t n)
{
	if (n >= 0 && fcntl(fd, F_GETFL) & O_DSYNC)
		add(JOURNAL_WRITTEN, of, 0, NULL, 0);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	NEXT(pwrite);
	if (!is_ours(fd))
		return real(fd, buf, len, off);
	size_t of = add(JOURNAL_WRITE, 0, (uint64_t)off, buf, len);
	return written(fd, of, real(fd, buf, len, off));
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t off)
{
	return pwrite(fd, buf, len, off);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	NEXT(writev);
	if (!is_ours(fd))
		return real(fd, iov, n);
	off_t off = lseek(fd, 0, SEEK_CUR);
	size_t of = 0;
	for (int i = 0; i < n; i++) {
		of = add(JOURNAL_WRITE, 0, (uint64_t)off, iov[i].iov_base, iov[i].iov_len);
		off += (off_t)iov[i].iov_len;
	}
	return written(fd, of, real(fd, iov, n));
}

ssize_t write(int fd, const void *buf, size_t len)
{
	NEXT(write);
	if (!is_ours(fd))
		return real(fd, buf, len);
	size_t of = add(JOURNAL_WRITE, 0, (uint64_t)lseek(fd, 0, SEEK_CUR), buf, len);
	return written(fd, of, real(fd, buf, len));
}

int ftruncate(int fd, off_t size)
{
	NEXT(ftruncate);
	if (is_ours(fd))
		add(JOURNAL_SIZE, 0, (uint64_t)size, NULL, 0);
	return real(fd, size);
}

int ftruncate64(int fd, off_t size)
{
	return ftruncate(fd, size);
}

static int barrier(int fd, int (*real)(int fd))
{
	if (!is_ours(fd))
		return real(fd);
	size_t of = add(JOURNAL_BARRIER, 0, 0, NULL, 0);
	int rc = real(fd);
	if (rc == 0)
		add(JOURNAL_DURABLE, of, 0, NULL, 0);
	return rc;
}

int fsync(int fd)
{
	NEXT(fsync);
	return barrier(fd, real);
}

int fdatasync(int fd)
{
	NEXT(fdatasync);
	return barrier(fd, real);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	NEXT(mmap);
	if (fd >= 0 && (prot & PROT_WRITE) && (flags & MAP_SHARED) && is_ours(fd)) {
		fputs("the file is written through a mapping, which is not seen here\n", stderr);
		abort();
	}
	return real(at, len, prot, flags, fd, off);
}

void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return mmap(at, len, prot, flags, fd, off);
}
