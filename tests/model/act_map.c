/*
 * act_map.c - mappings. Touching one beyond its file's end is a SIGBUS, which is a result like any
 * other.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/model/act.h"

static sigjmp_buf beyond;

static void on_sigbus(int signo)
{
	siglongjmp(beyond, signo);
}

/* memcpy() to or from a mapping. */
static long copy_guarded(unsigned char *to, const unsigned char *from, size_t len)
{
	struct sigaction act = {.sa_handler = on_sigbus}, old;
	volatile long rc = -1;

	sigaction(SIGBUS, &act, &old);
	if (sigsetjmp(beyond, 1) == 0) {
		memcpy(to, from, len);
		rc = (long)len;
	}
	sigaction(SIGBUS, &old, NULL);
	errno = EFAULT;
	return rc;
}

static long map(struct handle *h, int side, const struct step *s)
{
	int prot = PROT_READ | (s->flags & MAP_STEP_WRITABLE ? PROT_WRITE : 0);
	int flags = s->flags & MAP_STEP_PRIVATE ? MAP_PRIVATE : MAP_SHARED;

	if (h->map[side])
		munmap(h->map[side], h->map_len);
	h->map[side] = mmap(NULL, (size_t)s->len, prot, flags, h->fd[side], s->off);
	if (side == SIDES - 1) {
		h->map_len = (size_t)s->len;
		h->map_off = s->off;
		h->map_flags = s->flags;
	}
	if (h->map[side] != MAP_FAILED)
		return 0;
	h->map[side] = NULL;
	return -1;
}

/* Bytes from `off` on that are in the mapping. */
static size_t bounded(const struct handle *h, const struct step *s)
{
	size_t off = (size_t)s->off, len = (size_t)s->len;

	if (off >= h->map_len)
		return 0;
	return len < h->map_len - off ? len : h->map_len - off;
}

/* Bytes that are written behind the end, into the rest of its page, are nobody's. */
static long write_map(struct actor *a, struct handle *h, int side, const struct step *s)
{
	struct stat st;
	size_t len = bounded(h, s);

	if (fstat(h->fd[side], &st))
		return -1;
	int64_t room = st.st_size - h->map_off - s->off;
	if (room <= 0)
		return 0;
	long rc = copy_guarded(
		h->map[side] + s->off, a->fill, len < (size_t)room ? len : (size_t)room);
	if (s->flags & MAP_STEP_MSYNC)
		msync(h->map[side], h->map_len, MS_SYNC);
	if (s->flags & MAP_STEP_UNMAP) {
		munmap(h->map[side], h->map_len);
		h->map[side] = NULL;
	}
	return rc;
}

long act_on_map(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	struct handle *h = &a->handles[s->slot];

	if (s->op == OP_map)
		return map(h, side, s);
	if (s->op == OP_mapwrite)
		return write_map(a, h, side, s);
	if (s->op == OP_unmap) {
		long rc = munmap(h->map[side], h->map_len);

		h->map[side] = NULL;
		return rc;
	}
	long rc = copy_guarded(a->data[side], h->map[side] + s->off, bounded(h, s));
	out->len = rc > 0 ? (size_t)rc : 0;
	return rc;
}
