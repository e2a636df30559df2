/*
 * space.c - the estimate is for the worst that LMDB can do: it copies every page on the way to what
 * it changes, but each page at most once in a commit, and it packs new entries into pages half
 * full.
 */
#include "backends/lmdb/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backends/record.h"

enum {
	PAGES_PER_ENTRY =
		3, /* the leaves of the namespace, of kvfs:nodes, and one for what is above */
	SLACK = 16 * 4096, /* meta data, LMDB's list of free pages */
	ENTRY_BYTES = 128, /* a stamp, a name in kvfs:expiry */
	CHUNK_MAX = 16 << 20,
	CHUNK_MIN = 64 << 10,
	RESERVE_MAX = 1 << 20,
	NUDGE_WORTH = 16 * 4096, /* a commit frees a few pages itself, each time */
	PAGE = 4096,
};

void space_add_change(const struct change *c, struct pending_totals *sum)
{
	sum->count++;
	sum->small += c->id.len;
	if (c->rec)
		pending_add_value(sum, record_encoded_size(c->rec));
	if (c->value)
		pending_add_value(sum, blob_size(c->value));
}

void space_init(struct space *s, const struct env *e)
{
	struct statvfs fs;
	uint64_t total = UINT64_MAX;

	*s = (struct space){0};
	lock_init(&s->lock, LOCK_SPACE);
	if (fstatvfs(e->fd, &fs) == 0)
		total = (uint64_t)fs.f_blocks * fs.f_frsize;
	s->chunk = total / 64 > CHUNK_MAX ? CHUNK_MAX : total / 64 / PAGE * PAGE;
	if (s->chunk < CHUNK_MIN)
		s->chunk = CHUNK_MIN;
	s->reserve = total / 20 > RESERVE_MAX ? RESERVE_MAX : total / 20;
}

static uint64_t need(
	const struct pending_totals *p, const struct pending_totals *more, uint64_t used)
{
	uint64_t entries = p->count + more->count;
	uint64_t copied = entries * PAGES_PER_ENTRY * PAGE;
	uint64_t small = p->small + more->small + entries * ENTRY_BYTES;

	if (copied > used)
		copied = used;
	return copied + 2 * small + p->large + more->large + SLACK;
}

/* Gets blocks up to `end`, or as far beyond as the chunk says. */
static int allocate(struct space *s, const struct env *e, uint64_t from, uint64_t end)
{
	for (uint64_t extra = s->chunk;; extra = extra > CHUNK_MIN ? extra / 2 : 0) {
		uint64_t len = end + extra - from;

		if (fallocate(e->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)len) == 0) {
			s->allocated = from + len;
			return 0;
		}
		if (errno == EINTR)
			continue;
		if (errno != ENOSPC && errno != EDQUOT) {
			s->unsupported = true;
			return 0;
		}
		if (extra == 0)
			return -ENOSPC;
	}
}

bool space_admits(struct space *s, struct env *e, bool nested, const struct pending_totals *pending,
	const struct pending_totals *more)
{
	struct env_usage usage;
	bool ok = true;

	env_usage(e, nested, &usage);
	uint64_t want = need(pending, more, usage.used) + s->reserve;
	uint64_t runs = pending->runs + more->runs;
	lock_take(&s->lock);
	uint64_t from = s->allocated > usage.used ? s->allocated : usage.used;
	if (s->unsupported || usage.used + want <= from)
		goto out;
	if (allocate(s, e, from, usage.used + want) == 0)
		goto out;
	uint64_t room = from - usage.used;
	ok = room + s->reusable >= want && (runs <= room || runs <= s->longest_run);
out:
	lock_drop(&s->lock);
	return ok;
}

struct page_list {
	uint64_t *pages;
	size_t n, cap;
};

/* `pages`: n numbers of 64 bits, which LMDB does not align. */
static int page_list_add(struct page_list *list, const unsigned char *pages, size_t n)
{
	if (list->n + n > list->cap) {
		size_t cap = 2 * (list->n + n);
		void *grown = realloc(list->pages, cap * sizeof(*list->pages));

		if (!grown)
			return -ENOMEM;
		list->pages = grown;
		list->cap = cap;
	}
	memcpy(list->pages + list->n, pages, n * sizeof(*list->pages));
	list->n += n;
	return 0;
}

static int page_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static size_t longest_run(struct page_list *list)
{
	size_t longest = 0, run = 0;

	if (list->n == 0)
		return 0;
	qsort(list->pages, list->n, sizeof(*list->pages), page_compare);
	for (size_t i = 0; i < list->n; i++) {
		run = i && list->pages[i] == list->pages[i - 1] + 1 ? run + 1 : 1;
		if (run > longest)
			longest = run;
	}
	return longest;
}

/* Database 0 is LMDB's own: number of a transaction -> a count, and as many pages that it freed.
 * The next commit can use what was freed before the last one; *soon: how many come after that. */
static int read_free_pages(struct txn *t, struct page_list *list, uint64_t *soon)
{
	MDB_cursor *cur;
	MDB_val key, data;
	int rc = env_error(t->env, mdb_cursor_open(t->mdb, 0, &cur), "reading");

	if (rc)
		return rc;
	while (rc == 0) {
		rc = env_error(t->env, mdb_cursor_get(cur, &key, &data, MDB_NEXT), "reading");
		if (rc)
			break;
		uint64_t id, n;
		if (key.mv_size != sizeof(id) || data.mv_size < sizeof(n))
			break;
		memcpy(&id, key.mv_data, sizeof(id));
		memcpy(&n, data.mv_data, sizeof(n));
		if (n == 0 || n >= data.mv_size / sizeof(n))
			continue;
		if (id >= t->id)
			*soon += n;
		else
			rc = page_list_add(
				list, (const unsigned char *)data.mv_data + sizeof(n), n);
	}
	mdb_cursor_close(cur);
	return rc == -ENOENT ? 0 : rc;
}

int space_count_reusable(struct space *s, struct env *e, bool nested)
{
	struct page_list list = {0};
	uint64_t soon = 0;
	struct txn t;
	int rc = env_read_begin(e, nested, &t);

	if (rc)
		return rc;
	rc = read_free_pages(&t, &list, &soon);
	env_read_end(&t);
	if (rc == 0) {
		size_t run = longest_run(&list);

		lock_take(&s->lock);
		s->reusable = list.n * e->page_size;
		s->longest_run = run * e->page_size;
		s->soon = soon * e->page_size;
		lock_drop(&s->lock);
	}
	free(list.pages);
	return rc;
}

bool space_more_soon(struct space *s)
{
	lock_take(&s->lock);
	bool more = s->soon > NUDGE_WORTH;
	lock_drop(&s->lock);
	return more;
}

void space_committed(struct space *s)
{
	lock_take(&s->lock);
	s->reusable = s->longest_run = s->soon = 0;
	lock_drop(&s->lock);
}

/* Other programs extend the file while they write; so we keep them from it. Some filesystems give
 * blocks beyond the end back when the size is set, others when a hole is made there. */
void space_trim(struct space *s, struct env *e)
{
	struct stat file;
	struct txn t;

	lock_destroy(&s->lock);
	if (!s->allocated || env_write_begin(e, &t))
		return;
	if (fstat(e->fd, &file) == 0 && (uint64_t)file.st_size < s->allocated) {
		off_t end = (file.st_size + PAGE - 1) / PAGE * PAGE;

		if (ftruncate(e->fd, file.st_size) == 0)
			fallocate(e->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end,
				(off_t)s->allocated - end + PAGE);
	}
	env_write_abort(&t);
}
