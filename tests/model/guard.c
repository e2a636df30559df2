/*
 * guard.c - what a plain folder allows and kvfs refuses, by its contract or by the kernel's rules for
 * FUSE: names that stand for no key, paths that are longer than a key, devices that are opened.
 */
#include "tests/model/guard.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_ALLOWED = 500 }; /* less than a key's 512 bytes; escapes make paths longer, not keys */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_dir(const struct actor *a, const char *path)
{
	struct stat st;
	char buf[PATH_MAX];

	return lstat(act_path(a, SIDE_PLAIN, path, buf), &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_link(const struct actor *a, const char *path)
{
	struct stat st;
	char buf[PATH_MAX];

	return lstat(act_path(a, SIDE_PLAIN, path, buf), &st) == 0 && S_ISLNK(st.st_mode);
}

static bool is_device(const struct actor *a, const char *path)
{
	struct stat st;
	char buf[PATH_MAX];

	return stat(act_path(a, SIDE_PLAIN, path, buf), &st) == 0 &&
		(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static bool slot_is(const struct actor *a, int slot, mode_t type)
{
	struct stat st;

	return fstat(a->handles[slot].fd[SIDE_PLAIN], &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* Whether the directory that `path` is in is the tree's root, by whatever links. */
static bool in_root(const struct actor *a, const char *path)
{
	char buf[PATH_MAX], real[PATH_MAX], root[PATH_MAX];

	act_path(a, SIDE_PLAIN, path, buf);
	*strrchr(buf, '/') = '\0';
	return !realpath(buf, real) || !realpath(a->root[SIDE_PLAIN], root) ||
		strcmp(real, root) == 0;
}

static bool is_piece(const char *name)
{
	size_t n = strlen(name);

	return n > 250 && strcmp(name + n - 2, "%+") == 0;
}

/* Whether a file, or a directory, may have this name where it is. */
static bool name_fits(const struct actor *a, const char *path, bool dir)
{
	const char *name = base_of(path);
	bool value = strcmp(name, "%value") == 0, empty = strcmp(name, "%empty") == 0;

	if (is_piece(name))
		return dir;
	if (value && dir)
		return false;
	return !(value || empty) || !in_root(a, path);
}

static __thread size_t deepest;

static int measure(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t n = strlen(path);

	if (n > deepest)
		deepest = n;
	return 0;
}

/* The bytes that the longest path below `path` has more than `path`. */
static size_t depth_below(const struct actor *a, const char *path)
{
	char buf[PATH_MAX];

	act_path(a, SIDE_PLAIN, path, buf);
	deepest = strlen(buf);
	nftw(buf, measure, 16, FTW_PHYS);
	return deepest - strlen(buf);
}

/* A link below a piece would lead to names beside it, which are too short to go on with one. */
static bool link_fits(const char *path)
{
	return !strstr(path, "%+/");
}

static bool moves_fit(const struct actor *a, const char *from, const char *to)
{
	bool dir = is_dir(a, from);

	if (is_piece(base_of(from)) || is_piece(base_of(to)) || !name_fits(a, to, dir))
		return false;
	if (is_link(a, from) && !link_fits(to))
		return false;
	return !dir || strlen(to) + depth_below(a, from) < PATH_ALLOWED;
}

bool guard_allows(const struct actor *a, const struct step *s)
{
	switch (s->op) {
	case OP_open:
		return !is_device(a, s->path) &&
			(!(s->flags & O_CREAT) || name_fits(a, s->path, false));
	case OP_mkdir:
		return name_fits(a, s->path, true);
	case OP_symlink:
		return name_fits(a, s->path, false) && link_fits(s->path);
	case OP_mknod:
		return name_fits(a, s->path, false);
	case OP_contents:
	case OP_truncate:
		return !s->path[0] || !is_device(a, s->path);
	case OP_sendfile:
		return !slot_is(a, s->slot, S_IFIFO) && !slot_is(a, s->slot2, S_IFIFO);
	case OP_lseek:
		return !slot_is(a, s->slot, S_IFDIR);
	case OP_rename:
		return moves_fit(a, s->path, s->path2) &&
			(!(s->flags & 2) || moves_fit(a, s->path2, s->path));
	default:
		return true;
	}
}
