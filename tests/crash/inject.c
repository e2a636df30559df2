/* The names with and without 64 are to be two, as they are in the C library. */
#undef _FILE_OFFSET_BITS

#include "tests/crash/inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* This file defines functions that system headers declare, also under names that those give to
 * others. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wredundant-decls"

enum { FRAMES = 24, PLACES = 1 << 14 };

static _Atomic unsigned armed; /* kinds, as bits */
static _Atomic unsigned long calls, target;
static atomic_bool sticky_faults;
static _Atomic int write_error, fired_error;
static _Thread_local unsigned quiet;
static void *frames[FRAMES];
static int frames_n;
static struct {
	const char *from, *to;
} lmdb; /* its code */
static uint64_t places[PLACES];
static size_t places_n;

void inject_quiet(bool on)
{
	quiet += on ? 1 : -1u;
}

/* Whether it is kvfs or liblmdb that calls: the C library's own needs, and the sanitizers', are not
 * for these tests, and some of them end the program. */
static bool ours(const void *caller)
{
	extern const char __executable_start[], etext[];
	const char *at = caller;

	return (at >= __executable_start && at < etext) || (at >= lmdb.from && at < lmdb.to);
}

static int find_lmdb(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *base = (const char *)(uintptr_t)info->dlpi_addr;

	if (!strstr(info->dlpi_name, "lmdb"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && p->p_flags & PF_X) {
			lmdb.from = base + p->p_vaddr;
			lmdb.to = lmdb.from + p->p_memsz;
		}
	}
	return 1;
}

void inject_arm(unsigned kinds, unsigned long n, bool sticky, int error)
{
	if (!lmdb.from && !dl_iterate_phdr(find_lmdb, NULL))
		abort();
	atomic_store(&calls, 0);
	atomic_store(&target, n);
	atomic_store(&sticky_faults, sticky);
	atomic_store(&write_error, error);
	atomic_store(&fired_error, 0);
	atomic_store(&armed, kinds);
}

unsigned long inject_disarm(int *fired)
{
	atomic_store(&armed, 0);
	*fired = atomic_load(&fired_error);
	return atomic_load(&calls);
}

void inject_show(void)
{
	inject_quiet(true);
	backtrace_symbols_fd(frames, frames_n, STDERR_FILENO);
	inject_quiet(false);
}

size_t inject_places(void)
{
	return places_n;
}

/* Counts the different ways to the calls that failed. One thread at a time: the n-th call is one. */
static void note_place(void)
{
	uint64_t hash = 14695981039346656037u;

	frames_n = backtrace(frames, FRAMES);
	for (int i = 2; i < frames_n && i < 10; i++)
		hash = (hash ^ (uintptr_t)frames[i]) * 1099511628211u;
	for (size_t i = hash % PLACES;; i = (i + 1) % PLACES) {
		if (places[i] == hash || places_n == PLACES / 2)
			return;
		if (places[i])
			continue;
		places[i] = hash;
		places_n++;
		return;
	}
}

static bool hit_from(const void *caller, enum inject_kind kind, int error)
{
	if (!(atomic_load(&armed) & 1u << kind) || quiet || !ours(caller))
		return false;
	unsigned long n = atomic_fetch_add(&calls, 1) + 1, at = atomic_load(&target);
	if (n != at && !(n > at && atomic_load(&sticky_faults)))
		return false;
	if (n == at) {
		inject_quiet(true);
		note_place();
		inject_quiet(false);
	}
	atomic_store(&fired_error, error);
	errno = error;
	return true;
}

#define hit(kind, error) hit_from(__builtin_return_address(0), kind, error)

static void *next(const char *name)
{
	inject_quiet(true);
	void *f = dlsym(RTLD_NEXT, name);
	inject_quiet(false);
	if (!f)
		abort();
	return f;
}

/* The function of this name that comes after ours. */
#define NEXT(name)                                                                                 \
	static __typeof__(name) *volatile real;                                                    \
	if (!real)                                                                                 \
	real = (__typeof__(name) *)(uintptr_t)next(#name)

/* dlsym() allocates itself, so these are found by the names that the sanitizers, or the C library,
 * give them beside the usual ones. */
extern void *__interceptor_malloc(size_t) __attribute__((weak));
extern void *__interceptor_calloc(size_t, size_t) __attribute__((weak));
extern void *__interceptor_realloc(void *, size_t) __attribute__((weak));
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

void *malloc(size_t size)
{
	if (hit(INJECT_MEMORY, ENOMEM))
		return NULL;
	return __interceptor_malloc ? __interceptor_malloc(size) : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	if (hit(INJECT_MEMORY, ENOMEM))
		return NULL;
	return __interceptor_calloc ? __interceptor_calloc(n, size) : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	if (hit(INJECT_MEMORY, ENOMEM))
		return NULL;
	return __interceptor_realloc ? __interceptor_realloc(p, size) : __libc_realloc(p, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	NEXT(posix_memalign);
	return hit(INJECT_MEMORY, ENOMEM) ? ENOMEM : real(out, alignment, size);
}

char *strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = malloc(size);

	return copy ? memcpy(copy, text, size) : NULL;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	NEXT(pwrite);
	return hit(INJECT_WRITE, atomic_load(&write_error)) ? -1 : real(fd, buf, len, off);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t off)
{
	NEXT(pwrite64);
	return hit(INJECT_WRITE, atomic_load(&write_error)) ? -1 : real(fd, buf, len, off);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	NEXT(writev);
	return hit(INJECT_WRITE, atomic_load(&write_error)) ? -1 : real(fd, iov, n);
}

int ftruncate64(int fd, off_t size)
{
	NEXT(ftruncate64);
	return hit(INJECT_WRITE, atomic_load(&write_error)) ? -1 : real(fd, size);
}

int fsync(int fd)
{
	NEXT(fsync);
	return hit(INJECT_SYNC, EIO) ? -1 : real(fd);
}

int fdatasync(int fd)
{
	NEXT(fdatasync);
	return hit(INJECT_SYNC, EIO) ? -1 : real(fd);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	NEXT(pread);
	return hit(INJECT_READ, EIO) ? -1 : real(fd, buf, len, off);
}

ssize_t pread64(int fd, void *buf, size_t len, off_t off)
{
	NEXT(pread64);
	return hit(INJECT_READ, EIO) ? -1 : real(fd, buf, len, off);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	NEXT(mmap);
	return hit(INJECT_MAP, ENOMEM) ? MAP_FAILED : real(at, len, prot, flags, fd, off);
}

void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	NEXT(mmap64);
	return hit(INJECT_MAP, ENOMEM) ? MAP_FAILED : real(at, len, prot, flags, fd, off);
}

static mode_t open_mode(int flags, va_list args)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	NEXT(open);
	va_list args;

	va_start(args, flags);
	mode_t mode = open_mode(flags, args);
	va_end(args);
	return hit(INJECT_OPEN, EMFILE) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	NEXT(open64);
	va_list args;

	va_start(args, flags);
	mode_t mode = open_mode(flags, args);
	va_end(args);
	return hit(INJECT_OPEN, EMFILE) ? -1 : real(path, flags, mode);
}

int mkostemp64(char *name, int flags)
{
	NEXT(mkostemp64);
	return hit(INJECT_OPEN, EMFILE) ? -1 : real(name, flags);
}

int fallocate64(int fd, int mode, off_t off, off_t len)
{
	NEXT(fallocate64);
	return hit(INJECT_ROOM, ENOSPC) ? -1 : real(fd, mode, off, len);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	NEXT(pthread_create);
	return hit(INJECT_THREAD, EAGAIN) ? EAGAIN : real(thread, attr, main, arg);
}

static const struct store_ops *ops; /* the store's own */

static int view_begin(struct store *st, int64_t now, struct view **out)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->view_begin(st, now, out);
}

static int view_get(struct view *v, const struct entry_id *id, struct entry *out)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->view_get(v, id, out);
}

static int view_expired(struct view *v, size_t skip, struct entry_id *id)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->view_expired(v, skip, id);
}

static int scan_open(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->scan_open(v, ns, kind, out);
}

static int scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->scan_seek(s, from, len, found);
}

static int store_read(struct store *st, const struct entry_id *id, int64_t now, struct value *out)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->read(st, id, now, out);
}

static int apply(struct store *st, const struct change *changes, size_t n, uint64_t *seq)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->apply(st, changes, n, seq);
}

static int throttle(struct store *st, uint64_t bytes)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->throttle(st, bytes);
}

static int store_sync(struct store *st, uint64_t seq)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->sync(st, seq);
}

static int move_tree(struct store *st, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->move_tree(st, from, to, exchange, now);
}

static int ns_find(struct store *st, const void *name, size_t len, uint32_t *ns)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->ns_find(st, name, len, ns);
}

static int ns_remove(struct store *st, uint32_t ns, int64_t now)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->ns_remove(st, ns, now);
}

static int ns_rename(struct store *st, uint32_t ns, const void *name, size_t len, int64_t now)
{
	return hit(INJECT_STORE, EIO) ? -EIO : ops->ns_rename(st, ns, name, len, now);
}

void inject_store(struct store *st)
{
	static struct store_ops all;

	ops = st->ops;
	all = *ops;
	all.view_begin = view_begin;
	all.view_get = view_get;
	all.view_expired = view_expired;
	all.scan_open = scan_open;
	all.scan_seek = scan_seek;
	all.read = store_read;
	all.apply = apply;
	all.throttle = throttle;
	all.sync = store_sync;
	all.move_tree = move_tree;
	all.ns_find = ns_find;
	all.ns_remove = ns_remove;
	all.ns_rename = ns_rename;
	st->ops = &all;
}
