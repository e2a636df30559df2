/*
 * ops_names.c - steps that make, remove and move names.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/posix/step.h"

static long op_umask(struct run *run, char **arg)
{
	umask(mode_of(arg[0], 0));
	return 0;
}

static long op_mkdir(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);

	return mkdirat(at.fd, at.path, mode_of(arg[1], 0755));
}

static long op_rmdir(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);

	return unlinkat(at.fd, at.path, AT_REMOVEDIR);
}

static long op_unlink(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);

	return unlinkat(at.fd, at.path, 0);
}

/* create PATH [MODE]: a file, and it must be new. */
static long op_create(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	int fd = openat(
		at.fd, at.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_of(arg[1], 0644));

	return fd < 0 ? fd : close(fd);
}

static long op_mkfifo(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);

	return mkfifoat(at.fd, at.path, mode_of(arg[1], 0644));
}

/* mknod PATH f|p|s|c|b|d [MODE [MAJOR MINOR]] */
static long op_mknod(struct run *run, char **arg)
{
	static const char letters[] = "fpscbdl";
	static const mode_t types[] = {
		S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK};
	struct at at = at_of(run, arg[0]);
	const char *letter = strchr(letters, *arg[1]);
	dev_t dev = makedev((unsigned)number(arg[2] ? arg[3] : NULL, 7),
		(unsigned)number(arg[2] && arg[3] ? arg[4] : NULL, 300));

	if (!letter)
		errx(2, "mknod %s", arg[1]);
	return mknodat(at.fd, at.path, types[letter - letters] | mode_of(arg[2], 0644),
		strchr("cb", *arg[1]) ? dev : 0);
}

/* symlink TARGET PATH */
static long op_symlink(struct run *run, char **arg)
{
	struct at target = at_of(run, arg[0]), at = at_of(run, arg[1]);

	return symlinkat(target.path, at.fd, at.path);
}

static long op_readlink(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	char buf[PATH_MAX + 1];
	size_t cap = (size_t)number(arg[1], sizeof(buf));
	ssize_t n = readlinkat(at.fd, at.path, buf, cap);

	if (n >= 0)
		say_bytes(buf, (size_t)n);
	return n;
}

static long op_rename(struct run *run, char **arg)
{
	static const struct symbol flags[] = {{"NOREPLACE", RENAME_NOREPLACE},
		{"EXCHANGE", RENAME_EXCHANGE}, {"WHITEOUT", RENAME_WHITEOUT}, {"BAD", 1 << 10},
		{0}};
	struct at from = at_of(run, arg[0]), to = at_of(run, arg[1]);

	return renameat2(from.fd, from.path, to.fd, to.path, (unsigned)symbols(flags, arg[2]));
}

static long op_link(struct run *run, char **arg)
{
	static const struct symbol flags[] = {
		{"FOLLOW", AT_SYMLINK_FOLLOW}, {"EMPTY", AT_EMPTY_PATH}, {0}};
	struct at from = at_of(run, arg[0]), to = at_of(run, arg[1]);

	return linkat(from.fd, from.path, to.fd, to.path, (int)symbols(flags, arg[2]));
}

static long op_chdir(struct run *run, char **arg)
{
	return *arg[0] == '@' ? fchdir(fd_of(run, arg[0])) : chdir(arg[0]);
}

static int make_full_folder(const char *path)
{
	char inner[PATH_MAX];

	snprintf(inner, sizeof(inner), "%s/inner", path);
	return mkdir(path, 0755) || mkdir(inner, 0755) ? -1 : 0;
}

static int make_file(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	size_t len = strlen(content);

	if (fd < 0)
		return -1;
	int rc = write(fd, content, len) == (ssize_t)len ? 0 : -1;
	return close(fd) ? -1 : rc;
}

/* make TYPE PATH: an object of any type, for cases that go through all of them. */
static long op_make(struct run *run, char **arg)
{
	const char *type = arg[0], *path = arg[1];

	if (strcmp(type, "none") == 0)
		return 0;
	if (strcmp(type, "file") == 0)
		return make_file(path, "content of a file");
	if (strcmp(type, "empty") == 0)
		return make_file(path, "");
	if (strcmp(type, "dir") == 0)
		return mkdir(path, 0755);
	if (strcmp(type, "full") == 0)
		return make_full_folder(path);
	if (strcmp(type, "fifo") == 0)
		return mkfifo(path, 0644);
	if (strcmp(type, "sock") == 0)
		return mknod(path, S_IFSOCK | 0644, 0);
	if (strcmp(type, "char") == 0)
		return mknod(path, S_IFCHR | 0644, makedev(1, 3));
	if (strcmp(type, "block") == 0)
		return mknod(path, S_IFBLK | 0644, makedev(7, 250));
	if (strcmp(type, "broken") == 0)
		return symlink("nowhere", path);
	if (strcmp(type, "loop") == 0)
		return symlink(path, path);
	if (strcmp(type, "tofile") == 0)
		return make_file("target-file", "linked") || symlink("target-file", path) ? -1 : 0;
	if (strcmp(type, "todir") == 0)
		return mkdir("target-dir", 0755) || symlink("target-dir", path) ? -1 : 0;
	errx(2, "make %s", type);
}

const struct step_op ops_names[] = {
	{"umask", 1, 1, op_umask, false},
	{"mkdir", 1, 2, op_mkdir, true},
	{"rmdir", 1, 1, op_rmdir, true},
	{"unlink", 1, 1, op_unlink, true},
	{"create", 1, 2, op_create, true},
	{"mkfifo", 1, 2, op_mkfifo, true},
	{"mknod", 2, 5, op_mknod, true},
	{"symlink", 2, 2, op_symlink, true},
	{"readlink", 1, 2, op_readlink, false},
	{"rename", 2, 3, op_rename, true},
	{"link", 2, 3, op_link, true},
	{"chdir", 1, 1, op_chdir, false},
	{"make", 2, 2, op_make, true},
	{0},
};
