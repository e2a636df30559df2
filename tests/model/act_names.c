/*
 * act_names.c - what changes directories, and reads through a name.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/model/act.h"

static long read_all(const char *path, unsigned char *buf, size_t *len)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	long n = 0;

	if (fd < 0)
		return -1;
	while (*len < ACT_DATA_MAX && (n = read(fd, buf + *len, ACT_DATA_MAX - *len)) > 0)
		*len += (size_t)n;
	int err = errno;
	close(fd);
	errno = err;
	return n;
}

/* A key has one name. What a plain folder says is of no interest. */
static long refused_link(const char *path, const char *path2, struct outcome *out)
{
	static const int fine[] = {EPERM, EEXIST, ENOENT, ENOTDIR, ELOOP, EACCES};

	if (link(path, path2) == 0)
		out->wrong = "a hard link was made";
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		if (errno == fine[i])
			return 0;
	}
	return -1;
}

static long act_readlink(const char *path, unsigned char *buf, size_t *len)
{
	long n = readlink(path, (char *)buf, PATH_MAX);

	*len = n > 0 ? (size_t)n : 0;
	return n;
}

long act_on_names(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	char first[PATH_MAX], second[PATH_MAX];
	const char *path = act_path(a, side, s->path, first);
	const char *path2 = act_path(a, side, s->path2, second);

	switch (s->op) {
	case OP_rename:
		return renameat2(AT_FDCWD, path, AT_FDCWD, path2, s->flags);
	case OP_link:
		return side == SIDE_KVFS ? refused_link(path, path2, out) : 0;
	case OP_unlink:
		return unlink(path);
	case OP_mkdir:
		return mkdir(path, s->mode);
	case OP_rmdir:
		return rmdir(path);
	case OP_symlink:
		return symlink(s->path2, path);
	case OP_readlink:
		return act_readlink(path, a->data[side], &out->len);
	case OP_mknod:
		return mknod(path, s->mode, (dev_t)s->off);
	default:
		return read_all(path, a->data[side], &out->len);
	}
}
