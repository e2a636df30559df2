/*
 * ops_attributes.c - steps that read and change attributes.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/step.h"

enum { XATTR_BUFFER = 70000 };

static const struct symbol at_flags[] = {{"NOFOLLOW", AT_SYMLINK_NOFOLLOW},
	{"EMPTY", AT_EMPTY_PATH}, {"EACCESS", AT_EACCESS}, {"BAD", 1 << 30}, {0}};

static long op_chmod(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	mode_t mode = mode_of(arg[1], 0);

	if (at.alone)
		return fchmod(at.fd, mode);
	return fchmodat(at.fd, at.path, mode, (int)symbols(at_flags, arg[2]));
}

/* chown PATH UID GID [FLAGS]; -1 leaves it. */
static long op_chown(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	uid_t uid = (uid_t)number(arg[1], 0);
	gid_t gid = (gid_t)number(arg[2], 0);

	if (at.alone)
		return fchown(at.fd, uid, gid);
	return fchownat(at.fd, at.path, uid, gid, (int)symbols(at_flags, arg[3]));
}

/* "now", "omit", or SECONDS.NANOSECONDS. */
static struct timespec time_of(const char *word)
{
	char *end;

	if (strcmp(word, "now") == 0)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (strcmp(word, "omit") == 0)
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	long long seconds = strtoll(word, &end, 10);
	return (struct timespec){seconds, *end == '.' ? strtol(end + 1, NULL, 10) : 0};
}

/* utimens PATH ATIME MTIME [FLAGS]; "null null" for no times at all. */
static long op_utimens(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	bool null = strcmp(arg[1], "null") == 0;
	struct timespec times[] = {time_of(arg[1]), time_of(arg[2])};

	if (at.alone)
		return futimens(at.fd, null ? NULL : times);
	return utimensat(at.fd, at.path, null ? NULL : times, (int)symbols(at_flags, arg[3]));
}

static long op_truncate(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	off_t size = number(arg[1], 0);

	return at.alone ? ftruncate(at.fd, size) : truncate(at.path, size);
}

static long op_access(struct run *run, char **arg)
{
	static const struct symbol modes[] = {
		{"F", F_OK}, {"R", R_OK}, {"W", W_OK}, {"X", X_OK}, {"BAD", 8}, {0}};
	struct at at = at_of(run, arg[0]);

	return faccessat(
		at.fd, at.path, (int)symbols(modes, arg[1]), (int)symbols(at_flags, arg[2]));
}

/* stat PATH [FLAGS]: what is printed does not depend on the clock. */
static long op_stat(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	struct stat st;
	int flags = (int)symbols(at_flags, arg[1]) | (at.alone ? AT_EMPTY_PATH : 0);
	int rc = fstatat(at.fd, at.path, &st, flags);

	if (!rc)
		printf(" %o %u:%u n%u s%lld", st.st_mode, st.st_uid, st.st_gid,
			(unsigned)st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size);
	return rc;
}

static long op_statfs(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	struct statvfs s;
	int rc = at.alone ? fstatvfs(at.fd, &s) : statvfs(at.path, &s);

	if (!rc)
		printf(" names up to %lu bytes, %s room", s.f_namemax,
			s.f_bavail && s.f_blocks >= s.f_bfree && s.f_bfree >= s.f_bavail ? "has"
											 : "no");
	return rc;
}

/* --- extended attributes -------------------------------------------------------------------- */

/* PATH:l for the link itself. */
static bool itself(char *word, char path[SCRIPT_LINE])
{
	size_t len = strlen(word);
	bool l = len > 2 && strcmp(word + len - 2, ":l") == 0;

	snprintf(path, SCRIPT_LINE, "%.*s", (int)(l ? len - 2 : len), word);
	return l;
}

/* setx PATH NAME VALUE [CREATE|REPLACE|BAD] */
static long op_setx(struct run *run, char **arg)
{
	static const struct symbol flags[] = {
		{"CREATE", XATTR_CREATE}, {"REPLACE", XATTR_REPLACE}, {"BAD", 64}, {0}};
	struct at at = at_of(run, arg[0]);
	const char *value = strcmp(arg[2], "%empty%") == 0 ? "" : arg[2];
	int how = (int)symbols(flags, arg[3]);
	char path[SCRIPT_LINE];

	if (at.alone)
		return fsetxattr(at.fd, arg[1], value, strlen(value), how);
	if (itself(arg[0], path))
		return lsetxattr(path, arg[1], value, strlen(value), how);
	return setxattr(at.path, arg[1], value, strlen(value), how);
}

static long op_getx(struct run *run, char **arg)
{
	static char buf[XATTR_BUFFER];
	struct at at = at_of(run, arg[0]);
	size_t cap = (size_t)number(arg[2], sizeof(buf));
	char path[SCRIPT_LINE];
	ssize_t n;

	if (at.alone)
		n = fgetxattr(at.fd, arg[1], buf, cap);
	else if (itself(arg[0], path))
		n = lgetxattr(path, arg[1], buf, cap);
	else
		n = getxattr(at.path, arg[1], buf, cap);
	if (n >= 0 && cap)
		say_bytes(buf, (size_t)n);
	return n;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In order: there is none that filesystems agree on. Labels of security modules are not ours. */
static long say_names(char *buf, size_t len)
{
	char *names[64];
	size_t n = 0, bytes = 0;

	for (char *p = buf; p < buf + len && n < 64; p += strlen(p) + 1) {
		if (strncmp(p, "security.", 9) != 0)
			names[n++] = p;
	}
	qsort(names, n, sizeof(names[0]), by_text);
	for (size_t i = 0; i < n; i++) {
		printf(" %s", names[i]);
		bytes += strlen(names[i]) + 1;
	}
	return (long)bytes;
}

static long op_listx(struct run *run, char **arg)
{
	static char buf[XATTR_BUFFER];
	struct at at = at_of(run, arg[0]);
	size_t cap = (size_t)number(arg[1], sizeof(buf));
	char path[SCRIPT_LINE];
	ssize_t n;

	if (at.alone)
		n = flistxattr(at.fd, buf, cap);
	else if (itself(arg[0], path))
		n = llistxattr(path, buf, cap);
	else
		n = listxattr(at.path, buf, cap);
	return n < 0 || !cap ? n : say_names(buf, (size_t)n);
}

static long op_remx(struct run *run, char **arg)
{
	struct at at = at_of(run, arg[0]);
	char path[SCRIPT_LINE];

	if (at.alone)
		return fremovexattr(at.fd, arg[1]);
	if (itself(arg[0], path))
		return lremovexattr(path, arg[1]);
	return removexattr(at.path, arg[1]);
}

const struct step_op ops_attributes[] = {
	{"chmod", 2, 3, op_chmod, false},
	{"chown", 3, 4, op_chown, false},
	{"utimens", 3, 4, op_utimens, false},
	{"truncate", 2, 2, op_truncate, false},
	{"access", 2, 3, op_access, false},
	{"stat", 1, 2, op_stat, false},
	{"statfs", 1, 1, op_statfs, false},
	{"setx", 3, 4, op_setx, false},
	{"getx", 2, 3, op_getx, false},
	{"listx", 1, 2, op_listx, false},
	{"remx", 2, 2, op_remx, false},
	{0},
};
