/*
 * ops_files.c - steps on open files and their content.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/posix/step.h"

enum { BUFFER = 4 << 20 };

static char buffer[BUFFER];

static const struct symbol open_flags[] = {{"RDONLY", O_RDONLY}, {"WRONLY", O_WRONLY},
	{"RDWR", O_RDWR}, {"CREAT", O_CREAT}, {"EXCL", O_EXCL}, {"TRUNC", O_TRUNC},
	{"APPEND", O_APPEND}, {"DIRECTORY", O_DIRECTORY}, {"NOFOLLOW", O_NOFOLLOW},
	{"PATH", O_PATH}, {"TMPFILE", O_TMPFILE}, {"SYNC", O_SYNC}, {"DSYNC", O_DSYNC},
	{"NOATIME", O_NOATIME}, {"ACCMODE", O_ACCMODE}, {"-", 0}, {0}};

/* open N PATH FLAGS [MODE] */
static long op_open(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[1]);
	int flags = (int)symbols(open_flags, arg[2]) | O_CLOEXEC | O_NONBLOCK;
	int fd = openat(at.fd, at.path, flags, mode_of(arg[3], 0644));

	if (fd >= 0)
		fd_keep(run, arg[0], fd);
	return fd < 0 ? -1 : 0;
}

static long op_close(struct run *run, char **arg)
{
	int fd = fd_of(run, arg[0]);

	run->fds[*arg[0] - '0'] = -1;
	return close(fd);
}

/* try PATH FLAGS [MODE]: opens, writes, reads, closes. */
static long op_try(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	int flags = (int)symbols(open_flags, arg[1]) | O_CLOEXEC | O_NONBLOCK;
	int fd = openat(at.fd, at.path, flags, mode_of(arg[2], 0644));

	if (fd < 0)
		return -1;
	long n = write(fd, "NEW", 3);
	printf(" writes: %s", n < 0 ? strerrorname_np(errno) : "yes");
	n = pread(fd, buffer, BUFFER, 0);
	printf(" reads: %s", n < 0 ? strerrorname_np(errno) : "");
	if (n >= 0)
		say_bytes(buffer, (size_t)n);
	return close(fd);
}

static long op_dup(struct run *run, char **arg)
{
	int fd = fcntl(fd_of(run, arg[0]), F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		fd_keep(run, arg[1], fd);
	return fd < 0 ? -1 : 0;
}

static long op_setfl(struct run *run, char **arg)
{
	return fcntl(fd_of(run, arg[0]), F_SETFL, (int)symbols(open_flags, arg[1]));
}

static long op_write(struct run *run, char **arg)
{
	return write(fd_of(run, arg[0]), arg[1], strlen(arg[1]));
}

/* pwrite N OFFSET DATA */
static long op_pwrite(struct run *run, char **arg)
{
	return pwrite(fd_of(run, arg[0]), arg[2], strlen(arg[2]), number(arg[1], 0));
}

static long say_read(ssize_t n)
{
	if (n >= 0)
		say_bytes(buffer, (size_t)n);
	return n;
}

static long op_read(struct run *run, char **arg)
{
	return say_read(read(fd_of(run, arg[0]), buffer, (size_t)number(arg[1], BUFFER)));
}

/* pread N OFFSET LENGTH */
static long op_pread(struct run *run, char **arg)
{
	return say_read(pread(
		fd_of(run, arg[0]), buffer, (size_t)number(arg[2], BUFFER), number(arg[1], 0)));
}

/* cat PATH: its content, as it is for whoever opens it now. */
static long op_cat(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	int fd = openat(at.fd, at.path, O_RDONLY | O_NONBLOCK | O_NOATIME | O_CLOEXEC);

	if (fd < 0)
		return -1;
	long n = say_read(read(fd, buffer, BUFFER));
	int error = errno;
	close(fd);
	errno = error;
	return n;
}

/* put PATH DATA [FLAGS]: opens, writes, closes. */
static long op_put(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	int how = arg[2] ? (int)symbols(open_flags, arg[2]) : O_CREAT | O_TRUNC;
	int fd = openat(at.fd, at.path, O_WRONLY | O_CLOEXEC | how, 0644);

	if (fd < 0)
		return -1;
	long n = write(fd, arg[1], strlen(arg[1]));
	int error = errno;
	int rc = close(fd);
	if (n < 0)
		errno = error;
	return n < 0 || rc ? -1 : n;
}

/* lseek N OFFSET SET|CUR|END|DATA|HOLE; for the last two, what holes are to be found is the
 * filesystem's own affair: see holes. */
static long op_lseek(struct run *run, char **arg)
{
	static const struct symbol from[] = {{"SET", SEEK_SET}, {"CUR", SEEK_CUR},
		{"END", SEEK_END}, {"DATA", SEEK_DATA}, {"HOLE", SEEK_HOLE}, {"BAD", 99}, {0}};

	return lseek(fd_of(run, arg[0]), number(arg[1], 0), (int)symbols(from, arg[2]));
}

/* holes N: walks by SEEK_DATA and SEEK_HOLE. Whatever is said to be a hole must read as zeros,
 * and the pieces must cover the file: how fine they are is free. The number of bytes covered. */
static long op_holes(struct run *run, char **arg)
{
	int fd = fd_of(run, arg[0]);
	off_t at = 0, data, hole;

	while ((data = lseek(fd, at, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (data < at || hole <= data)
			errx(2, "holes: data at %ld, hole at %ld", (long)data, (long)hole);
		for (off_t i = at; i < data; i++) {
			if (pread(fd, buffer, 1, i) != 1 || *buffer)
				errx(2, "holes: data in a hole at %ld", (long)i);
		}
		at = hole;
	}
	return errno == ENXIO ? lseek(fd, 0, SEEK_END) - at >= 0 : -1;
}

/* fallocate N MODE OFFSET LENGTH */
static long op_fallocate(struct run *run, char **arg)
{
	static const struct symbol modes[] = {{"KEEP", FALLOC_FL_KEEP_SIZE}, {"BAD", 1 << 20}, {0}};

	return fallocate(fd_of(run, arg[0]), (int)symbols(modes, arg[1]), number(arg[2], 0),
		number(arg[3], 0));
}

static long op_posix_fallocate(struct run *run, char **arg)
{
	errno = posix_fallocate(fd_of(run, arg[0]), number(arg[1], 0), number(arg[2], 0));
	return errno ? -1 : 0;
}

/* copy FROM OFFSET TO OFFSET LENGTH; "-" for the file's own position. */
static long op_copy(struct run *run, char **arg)
{
	off_t in = strcmp(arg[1], "-") ? number(arg[1], 0) : -1;
	off_t out = strcmp(arg[3], "-") ? number(arg[3], 0) : -1;

	return copy_file_range(fd_of(run, arg[0]), *arg[1] == '-' ? NULL : &in, fd_of(run, arg[2]),
		*arg[3] == '-' ? NULL : &out, (size_t)number(arg[4], 0), 0);
}

static long op_fsync(struct run *run, char **arg)
{
	return fsync(fd_of(run, arg[0]));
}

static long op_fdatasync(struct run *run, char **arg)
{
	return fdatasync(fd_of(run, arg[0]));
}

static long op_syncfs(struct run *run, char **arg)
{
	return syncfs(fd_of(run, arg[0]));
}

/* mmap N R|RW shared|private LENGTH [OFFSET DATA]: maps, writes the data, syncs, says the first
 * bytes, unmaps. */
static long op_mmap(struct run *run, char **arg)
{
	int prot = PROT_READ | (strcmp(arg[1], "RW") ? 0 : PROT_WRITE);
	int how = strcmp(arg[2], "shared") ? MAP_PRIVATE : MAP_SHARED;
	size_t len = (size_t)number(arg[3], 0);
	char *map = mmap(NULL, len, prot, how, fd_of(run, arg[0]), 0);

	if (map == MAP_FAILED)
		return -1;
	if (arg[4] && arg[5])
		memcpy(map + number(arg[4], 0), arg[5], strlen(arg[5]));
	say_bytes(map, len < 64 ? len : 64);
	int rc = msync(map, len, MS_SYNC);
	return munmap(map, len) ? -1 : rc;
}

const struct step_op ops_files[] = {
	{"open", 3, 4, op_open, true},
	{"try", 2, 3, op_try, true},
	{"close", 1, 1, op_close, false},
	{"dup", 2, 2, op_dup, false},
	{"setfl", 2, 2, op_setfl, false},
	{"write", 2, 2, op_write, false},
	{"pwrite", 3, 3, op_pwrite, false},
	{"read", 1, 2, op_read, false},
	{"pread", 3, 3, op_pread, false},
	{"cat", 1, 1, op_cat, false},
	{"put", 2, 3, op_put, true},
	{"lseek", 3, 3, op_lseek, false},
	{"holes", 1, 1, op_holes, false},
	{"fallocate", 4, 4, op_fallocate, false},
	{"posix_fallocate", 3, 3, op_posix_fallocate, false},
	{"copy", 5, 5, op_copy, false},
	{"fsync", 1, 1, op_fsync, false},
	{"fdatasync", 1, 1, op_fdatasync, false},
	{"syncfs", 1, 1, op_syncfs, false},
	{"mmap", 4, 6, op_mmap, false},
	{0},
};
