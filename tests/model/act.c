/*
 * act.c - opening, reading, writing; and who does the rest.
 */
#include "tests/model/act.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

int actor_init(struct actor *a, const char *kvfs, const char *plain)
{
	memset(a, 0, sizeof(*a));
	a->root[SIDE_KVFS] = kvfs;
	a->root[SIDE_PLAIN] = plain;
	a->fill = malloc(STEP_LEN_MAX + sizeof(uint64_t));
	for (int side = 0; side < SIDES; side++) {
		a->data[side] = malloc(ACT_DATA_MAX);
		for (int i = 0; i < STEP_SLOTS; i++)
			a->handles[i].fd[side] = -1;
	}
	return a->fill && a->data[0] && a->data[1] ? 0 : -ENOMEM;
}

static void unmap(struct handle *h, int side)
{
	if (h->map[side])
		munmap(h->map[side], h->map_len);
	h->map[side] = NULL;
}

static void close_side(struct handle *h, int side)
{
	if (h->fd[side] >= 0)
		close(h->fd[side]);
	h->fd[side] = -1;
	if (h->dir[side])
		closedir(h->dir[side]);
	h->dir[side] = NULL;
}

void actor_close_all(struct actor *a)
{
	for (int i = 0; i < STEP_SLOTS; i++) {
		for (int side = 0; side < SIDES; side++) {
			unmap(&a->handles[i], side);
			close_side(&a->handles[i], side);
		}
	}
}

const char *act_path(const struct actor *a, int side, const char *path, char *buf)
{
	snprintf(buf, PATH_MAX, "%s/%s", a->root[side], path);
	return buf;
}

bool act_possible(const struct actor *a, const struct step *s)
{
	const struct handle *h = &a->handles[s->slot];

	switch (s->op) {
	case OP_relist:
		return h->dir[SIDE_KVFS] != NULL;
	case OP_mapread:
		return h->map[SIDE_KVFS] != NULL;
	case OP_mapwrite: /* the descriptor tells where the file ends */
		return h->map[SIDE_KVFS] && h->fd[SIDE_KVFS] >= 0 &&
			(h->map_flags & MAP_STEP_WRITABLE);
	case OP_unmap:
		return h->map[SIDE_KVFS] != NULL;
	case OP_copyrange:
	case OP_sendfile:
		return h->fd[SIDE_KVFS] >= 0 && a->handles[s->slot2].fd[SIDE_KVFS] >= 0;
	default:
		return s->path[0] || h->fd[SIDE_KVFS] >= 0;
	}
}

void act_begin(struct actor *a, const struct step *s)
{
	uint64_t word = s->salt | 1;

	if (s->op == OP_setxattr) {
		for (int64_t i = 0; i < s->len; i++)
			a->fill[i] = (unsigned char)(s->salt + (unsigned)i);
		return;
	}
	if (s->op != OP_write && s->op != OP_pwrite && s->op != OP_mapwrite)
		return;
	for (int64_t i = 0; i < s->len; i += (int64_t)sizeof(word)) {
		word = word * 6364136223846793005u + 1442695040888963407u;
		memcpy(a->fill + i, &word, sizeof(word));
	}
}

void act_end(struct actor *a, const struct step *s)
{
	struct handle *h = &a->handles[s->slot];

	/* A slot that only one side could fill is of no use; the difference is reported by now. */
	if ((h->fd[0] < 0) != (h->fd[1] < 0)) {
		close_side(h, 0);
		close_side(h, 1);
	}
}

static long act_open(struct actor *a, int side, const struct step *s)
{
	struct handle *h = &a->handles[s->slot];
	char buf[PATH_MAX];

	close_side(h, side);
	h->map_flags = 0;
	h->fd[side] = open(act_path(a, side, s->path, buf), (int)(s->flags | O_CLOEXEC), s->mode);
	return h->fd[side] < 0 ? -1 : 0;
}

static long act_dup(struct actor *a, int side, const struct step *s)
{
	struct handle *to = &a->handles[s->slot2];
	int fd;

	if (s->slot == s->slot2)
		return 0;
	fd = fcntl(a->handles[s->slot].fd[side], F_DUPFD_CLOEXEC, 0);
	close_side(to, side);
	to->map_flags = 0;
	to->fd[side] = fd;
	return fd < 0 ? -1 : 0;
}

/* What is read is compared. */
static long act_read(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	int fd = a->handles[s->slot].fd[side];
	size_t len = (size_t)s->len;
	long rc = s->op == OP_read ? read(fd, a->data[side], len)
				   : pread(fd, a->data[side], len, s->off);

	out->len = rc > 0 ? (size_t)rc : 0;
	return rc;
}

/* kvfs has no holes: all of a file is data. Where a plain file's holes are is up to its filesystem. */
static long act_lseek(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	int fd = a->handles[s->slot].fd[side], whence = (int)s->flags;
	off_t at = lseek(fd, 0, SEEK_CUR), end = at < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (at >= 0)
		lseek(fd, at, SEEK_SET);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return lseek(fd, s->off, whence);
	off_t rc = lseek(fd, s->off, whence);
	if (rc < 0 && (side == SIDE_KVFS || s->off >= end))
		return rc;
	if (side == SIDE_KVFS && rc != (whence == SEEK_DATA ? s->off : end))
		out->wrong = "SEEK_DATA or SEEK_HOLE found a hole";
	lseek(fd, s->off, SEEK_SET);
	return 0;
}

static long act_copy(struct actor *a, int side, const struct step *s)
{
	int from = a->handles[s->slot].fd[side], to = a->handles[s->slot2].fd[side];
	off_t in = s->off, out = s->off2;

	if (s->op == OP_sendfile)
		return sendfile(to, from, in < 0 ? NULL : &in, (size_t)s->len);
	return copy_file_range(
		from, in < 0 ? NULL : &in, to, out < 0 ? NULL : &out, (size_t)s->len, 0);
}

static long act_truncate(struct actor *a, int side, const struct step *s)
{
	char buf[PATH_MAX];

	if (s->path[0])
		return truncate(act_path(a, side, s->path, buf), s->len);
	return ftruncate(a->handles[s->slot].fd[side], s->len);
}

static long act_on_file(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	struct handle *h = &a->handles[s->slot];
	int fd = h->fd[side];

	switch (s->op) {
	case OP_open:
		return act_open(a, side, s);
	case OP_close:
		h->fd[side] = -1;
		return close(fd);
	case OP_dup:
		return act_dup(a, side, s);
	case OP_read:
	case OP_pread:
		return act_read(a, side, s, out);
	case OP_write:
		return write(fd, a->fill, (size_t)s->len);
	case OP_pwrite:
		return pwrite(fd, a->fill, (size_t)s->len, s->off);
	case OP_lseek:
		return act_lseek(a, side, s, out);
	case OP_truncate:
		return act_truncate(a, side, s);
	case OP_fallocate:
		return fallocate(fd, (int)s->flags, s->off, s->len);
	case OP_fsync:
		return fsync(fd);
	case OP_fdatasync:
		return fdatasync(fd);
	default:
		return act_copy(a, side, s);
	}
}

static long dispatch(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	switch (s->op) {
	case OP_map:
	case OP_mapread:
	case OP_mapwrite:
	case OP_unmap:
		return act_on_map(a, side, s, out);
	case OP_rename:
	case OP_link:
	case OP_unlink:
	case OP_mkdir:
	case OP_rmdir:
	case OP_symlink:
	case OP_readlink:
	case OP_mknod:
	case OP_contents:
		return act_on_names(a, side, s, out);
	case OP_list:
	case OP_opendir:
	case OP_relist:
		return act_on_listing(a, side, s, out);
	case OP_chmod:
	case OP_chown:
	case OP_utimens:
	case OP_setxattr:
	case OP_getxattr:
	case OP_listxattr:
	case OP_removexattr:
	case OP_stat:
		return act_on_attributes(a, side, s, out);
	default:
		return act_on_file(a, side, s, out);
	}
}

void act(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	*out = (struct outcome){0};
	errno = 0;
	out->rc = dispatch(a, side, s, out);
	out->err = out->rc < 0 ? errno : 0;
}
