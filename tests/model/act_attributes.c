/*
 * act_attributes.c - attributes, extended ones too, by name or by descriptor.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/model/act.h"
#include "tests/model/look.h"

static const char *const xattr_names[] = {
	"user.a", "user.b", "user.long.name.of.an.attribute", "user.\xc3\xa4", "user.KV"};

enum { XATTR_NAMES = sizeof(xattr_names) / sizeof(xattr_names[0]) };

static void times_of(const struct step *s, struct timespec times[2])
{
	bool now = s->flags & TIME_STEP_NOW;

	times[0] = (struct timespec){s->off, now ? UTIME_NOW : s->len};
	times[1] = (struct timespec){s->off2, now ? UTIME_NOW : s->len};
	if (s->flags & TIME_STEP_OMIT_ATIME)
		times[0].tv_nsec = UTIME_OMIT;
	if (s->flags & TIME_STEP_OMIT_MTIME)
		times[1].tv_nsec = UTIME_OMIT;
}

/* Of the namespace "user" only: others are the kernel's business. */
static long list_xattrs(const char *path, int fd, unsigned char *data, size_t *len)
{
	char all[4096], *names[64];
	size_t n = 0;
	long rc = path ? llistxattr(path, all, sizeof(all)) : flistxattr(fd, all, sizeof(all));

	if (rc < 0)
		return rc;
	for (char *at = all; at < all + rc; at += strlen(at) + 1) {
		if (strncmp(at, "user.", 5) == 0 && n < 64)
			names[n++] = at;
	}
	look_sort_names(names, n);
	for (size_t i = 0; i < n; i++) {
		memcpy(data + *len, names[i], strlen(names[i]) + 1);
		*len += strlen(names[i]) + 1;
	}
	return (long)n;
}

static long act_on_xattr(struct actor *a, int side, const struct step *s, const char *path, int fd,
	struct outcome *out)
{
	const char *name = xattr_names[s->name % XATTR_NAMES];
	size_t len = (size_t)s->len;
	long rc;

	switch (s->op) {
	case OP_setxattr:
		return path ? lsetxattr(path, name, a->fill, len, (int)s->flags)
			    : fsetxattr(fd, name, a->fill, len, (int)s->flags);
	case OP_removexattr:
		return path ? lremovexattr(path, name) : fremovexattr(fd, name);
	case OP_listxattr:
		return list_xattrs(path, fd, a->data[side], &out->len);
	default:
		rc = path ? lgetxattr(path, name, a->data[side], len)
			  : fgetxattr(fd, name, a->data[side], len);
		out->len = rc > 0 && len ? (size_t)rc : 0;
		return rc;
	}
}

static long act_stat(const char *path, int fd, unsigned char *data, size_t *len)
{
	struct stat st;
	long rc = path ? stat(path, &st) : fstat(fd, &st);

	if (rc == 0) {
		look_print(&st, (char *)data);
		*len = strlen((char *)data);
	}
	return rc;
}

long act_on_attributes(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	char buf[PATH_MAX];
	const char *path = s->path[0] ? act_path(a, side, s->path, buf) : NULL;
	int fd = a->handles[s->slot].fd[side];
	struct timespec times[2];

	switch (s->op) {
	case OP_chmod:
		return path ? chmod(path, s->mode) : fchmod(fd, s->mode);
	case OP_chown:
		return path ? lchown(path, (uid_t)s->off, (gid_t)s->off2)
			    : fchown(fd, (uid_t)s->off, (gid_t)s->off2);
	case OP_utimens:
		times_of(s, times);
		return path ? utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)
			    : futimens(fd, times);
	case OP_stat:
		return act_stat(path, fd, a->data[side], &out->len);
	default:
		return act_on_xattr(a, side, s, path, fd, out);
	}
}
