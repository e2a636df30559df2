/*
 * faulty - preloaded into a daemon (LD_PRELOAD), makes calls on its regular files fail as a bad disk
 * does, when a test says so in a file that both have mapped: FAULTY=FILE, a struct faults.
 *
 * Not before `skip` calls of the kinds that are to fail, and then `times` times. The system is not
 * asked: what a failed call was to write has not been written, or is not known to be on the disk.
 */
/* The names with and without 64 are to be two, as they are in the C library. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, READ = 4 };

struct faults {
	_Atomic uint32_t kinds; /* as bits; 0: none */
	_Atomic uint32_t error; /* an errno */
	_Atomic int32_t skip, times;
	_Atomic uint32_t failed, seen; /* how many calls did, and how many could have */
};

static struct faults none;
static struct faults *faults = &none;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAULTY");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	void *at = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		faults = at;
	close(fd);
}

static int fails(int fd, uint32_t kind)
{
	struct stat st;

	if (!(atomic_load(&faults->kinds) & kind) || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return 0;
	atomic_fetch_add(&faults->seen, 1);
	if (atomic_fetch_sub(&faults->skip, 1) > 0 || atomic_fetch_sub(&faults->times, 1) <= 0)
		return 0;
	atomic_fetch_add(&faults->failed, 1);
	errno = (int)atomic_load(&faults->error);
	return 1;
}

/* The function that comes after ours. POSIX lets a pointer to one be read from where dlsym()'s result
 * is stored. */
#define NEXT(type, name, ...)                                                                      \
	static type (*volatile real)(__VA_ARGS__);                                                 \
	if (!real) {                                                                               \
		void *found = dlsym(RTLD_NEXT, name);                                              \
		real = *(type(**)(__VA_ARGS__)) & found;                                           \
	}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
	NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t)
	return fails(fd, WRITE) ? -1 : real(fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t)
	return fails(fd, WRITE) ? -1 : real(fd, data, len, at);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int n, off_t at)
{
	NEXT(ssize_t, "pwritev", int, const struct iovec *, int, off_t)
	return fails(fd, WRITE) ? -1 : real(fd, pieces, n, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int n)
{
	NEXT(ssize_t, "writev", int, const struct iovec *, int)
	return fails(fd, WRITE) ? -1 : real(fd, pieces, n);
}

int fsync(int fd)
{
	NEXT(int, "fsync", int)
	return fails(fd, SYNC) ? -1 : real(fd);
}

int fdatasync(int fd)
{
	NEXT(int, "fdatasync", int)
	return fails(fd, SYNC) ? -1 : real(fd);
}

ssize_t pread64(int fd, void *data, size_t len, off_t at)
{
	NEXT(ssize_t, "pread64", int, void *, size_t, off_t)
	return fails(fd, READ) ? -1 : real(fd, data, len, at);
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
	NEXT(ssize_t, "pread", int, void *, size_t, off_t)
	return fails(fd, READ) ? -1 : real(fd, data, len, at);
}
