/*
 * ops_folders.c - steps that list.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/posix/step.h"

enum { NAMES_MOST = 4096, POSITIONS = 40 };

/* A raw entry, as getdents64(2) gives it. */
struct raw_dirent {
	uint64_t ino;
	int64_t next;
	unsigned short len;
	unsigned char type;
	char name[];
};

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* list PATH: every name with its type, in order, and how many there are. */
static long op_list(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	int fd = openat(at.fd, at.alone ? "." : at.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char *names[NAMES_MOST];
	struct dirent *e;
	size_t n = 0;

	if (!dir)
		return -1;
	while ((e = readdir(dir)) && n < NAMES_MOST) {
		if (asprintf(&names[n++], "%s:%u", e->d_name, e->d_type) < 0)
			err(2, "list");
	}
	closedir(dir);
	qsort(names, n, sizeof(names[0]), by_text);
	for (size_t i = 0; i < n; i++) {
		if (n <= 20)
			printf(" %s", names[i]);
		free(names[i]);
	}
	return (long)n;
}

/* fill PATH COUNT [PREFIX]: that many empty files. */
static long op_fill(struct run *run, char **arg)
{
	char path[SCRIPT_LINE];

	for (long i = 0; i < number(arg[1], 0); i++) {
		snprintf(path, sizeof(path), "%s/%s%04ld", arg[0], arg[2] ? arg[2] : "f", i);
		if (mknod(path, S_IFREG | 0644, 0))
			return -1;
	}
	return 0;
}

/* filldirs PATH COUNT */
static long op_filldirs(struct run *run, char **arg)
{
	char path[SCRIPT_LINE];

	for (long i = 0; i < number(arg[1], 0); i++) {
		snprintf(path, sizeof(path), "%s/d%04ld", arg[0], i);
		if (mkdir(path, 0755))
			return -1;
	}
	return 0;
}

/* getdents N SIZE: raw calls with so small a buffer, to the end. How many entries there were. */
static long op_getdents(struct run *run, char **arg)
{
	static _Alignas(8) char buf[1 << 16];
	int fd = fd_of(run, arg[0]);
	long count = 0, n;

	while ((n = syscall(SYS_getdents64, fd, buf, (size_t)number(arg[1], sizeof(buf)))) > 0) {
		for (long at = 0; at < n; count++)
			at += ((struct raw_dirent *)(void *)(buf + at))->len;
	}
	return n < 0 ? n : count;
}

/* positions PATH: from positions that telldir() gave, all over the folder, the same entries
 * follow as before. */
static long op_positions(struct run *run, char **arg)
{
	static char names[NAMES_MOST][NAME_MAX + 1];
	static long at[NAMES_MOST];
	DIR *dir = opendir(arg[0]);
	struct dirent *e;
	long n = 0, wrong = 0;

	if (!dir)
		return -1;
	for (; n < NAMES_MOST; n++) {
		at[n] = telldir(dir);
		e = readdir(dir);
		if (!e)
			break;
		snprintf(names[n], sizeof(names[n]), "%s", e->d_name);
	}
	for (long i = 0; i < POSITIONS && i < 2 * n; i++) {
		long k = i * 97 % n;

		seekdir(dir, at[k]);
		e = readdir(dir);
		wrong += !e || strcmp(e->d_name, names[k]) != 0;
		e = readdir(dir);
		wrong += k + 1 < n ? !e || strcmp(e->d_name, names[k + 1]) != 0 : e != NULL;
	}
	seekdir(dir, at[n]);
	wrong += readdir(dir) != NULL;
	rewinddir(dir);
	e = readdir(dir);
	wrong += !e || strcmp(e->d_name, names[0]) != 0;
	closedir(dir);
	printf(" %ld wrong", wrong);
	return n;
}

/* removewhile PATH [EVERY]: removes entries (each, or each EVERYth) as they are listed; what
 * remains is listed once. How many entries were listed. */
static long op_removewhile(struct run *run, char **arg)
{
	DIR *dir = opendir(arg[0]);
	long every = number(arg[1], 1), n = 0;
	struct dirent *e;

	if (!dir)
		return -1;
	while ((e = readdir(dir))) {
		if (*e->d_name == '.')
			continue;
		if (n++ % every == 0 && unlinkat(dirfd(dir), e->d_name, 0))
			return -1;
	}
	closedir(dir);
	return n;
}

/* renamewhile PATH: renames every second entry as they are listed; those that stay are listed
 * once. How many of those. */
static long op_renamewhile(struct run *run, char **arg)
{
	DIR *dir = opendir(arg[0]);
	char to[NAME_MAX + 2];
	struct dirent *e;
	long stayed = 0;

	if (!dir)
		return -1;
	while ((e = readdir(dir))) {
		if (*e->d_name != 'f')
			continue;
		if ((e->d_name[4] - '0') % 2) {
			stayed++;
			continue;
		}
		snprintf(to, sizeof(to), "r%s", e->d_name);
		if (renameat(dirfd(dir), e->d_name, dirfd(dir), to))
			return -1;
	}
	closedir(dir);
	return stayed;
}

/* addwhile PATH: creates as it lists; the old ones are listed once each. How many of those. */
static long op_addwhile(struct run *run, char **arg)
{
	DIR *dir = opendir(arg[0]);
	char path[NAME_MAX];
	struct dirent *e;
	long old = 0;

	if (!dir)
		return -1;
	while ((e = readdir(dir))) {
		if (*e->d_name != 'f')
			continue;
		snprintf(path, sizeof(path), "%c%ld", old % 2 ? 'a' : 'z', old);
		old++;
		if (mknodat(dirfd(dir), path, S_IFREG | 0644, 0))
			return -1;
	}
	closedir(dir);
	return old;
}

const struct step_op ops_folders[] = {
	{"list", 1, 1, op_list, false},
	{"fill", 2, 3, op_fill, true},
	{"filldirs", 2, 2, op_filldirs, true},
	{"getdents", 1, 2, op_getdents, false},
	{"positions", 1, 1, op_positions, false},
	{"removewhile", 1, 2, op_removewhile, true},
	{"renamewhile", 1, 1, op_renamewhile, true},
	{"addwhile", 1, 1, op_addwhile, true},
	{0},
};
