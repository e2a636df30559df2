/*
 * evict.c - keeping the cache within its size: values that were got longest ago go first. What
 * waits in the journal, and what is nowhere else, never goes.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/writeback/internal.h"

enum { CANDIDATES_MAX = 4096 };

struct candidate {
	const struct wb_ns *ns;
	int64_t read;
	uint64_t size;
	uint16_t len;
	unsigned char bytes[STORE_KEY_MAX];
};

static int older(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->read > y->read) - (x->read < y->read);
}

/* Gives up the value, and keeps what is known of it. */
static uint64_t drop_value(struct writeback *wb, const struct candidate *c)
{
	struct entry_id id = wb_key(c->ns->keys, c->bytes, c->len);
	struct record joined;
	struct blob *empty = NULL;
	struct change put;
	void *memory = NULL;
	struct journal j;
	struct wb_entry e;
	uint64_t freed = 0;

	lock_take(&wb->book);
	if (wb_entry_get(wb, &id, &e))
		goto out;
	/* What is pinned cannot be got again yet. */
	if (e.exists && e.info.cached && !e.info.local && !info_is_own(&e.info) &&
		e.info.pinned <= clock_now() &&
		journal_get(wb->local, c->ns->journal, &id, &j) == -ENOENT &&
		blob_new(wb->local->blobs, &empty) == 0) {
		e.info.cached = false;
		if (wb_put_change(&id, &e.rec, &e.info, empty, &put, &joined, &memory) == 0 &&
			wb->local->ops->apply(wb->local, &put, 1, NULL) == 0)
			freed = e.info.size;
	}
	free(memory);
	blob_unref(empty);
	wb_entry_release(&e);
out:
	lock_drop(&wb->book);
	return freed;
}

/* Adds the values of a namespace to what may go; the total of all of them. */
static uint64_t gather(struct writeback *wb, const struct wb_ns *ns, struct candidate *list,
	size_t *n, int64_t not_after)
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1] = {0};
	size_t len = 1;
	uint64_t total = 0;
	struct view *v;
	struct scan *s;

	if (local->ops->view_begin(local, NOW_NEVER, &v))
		return 0;
	if (local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s) == 0) {
		struct entry_id id;

		while (local->ops->scan_seek(s, at, len, &id) == 0) {
			struct entry e;
			struct info info;

			memcpy(at, id.bytes, id.len);
			len = id.len;
			if (local->ops->view_get(v, &id, &e) == 0) {
				info_split(&e.rec, &info);
				total += info.cached ? e.size : 0;
				if (info.cached && e.size && info.read < not_after &&
					*n < CANDIDATES_MAX) {
					struct candidate *c = &list[(*n)++];

					c->ns = ns;
					c->read = info.read;
					c->size = e.size;
					c->len = id.len;
					memcpy(c->bytes, id.bytes, id.len);
				}
			}
			at[len++] = '\0';
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return total;
}

void wb_evict(struct writeback *wb)
{
	/* What was just got is about to be read. */
	int64_t not_after = clock_now() - 10LL * CLOCK_SECOND;
	uint64_t total = 0, goal = wb->opt.cache_size / 10 * 9;
	struct candidate *list;
	struct store_stat stat;
	size_t n = 0;

	if (!wb->opt.cache_size)
		return;
	wb->local->ops->stat(wb->local, &stat);
	if (stat.bytes < wb->opt.cache_size)
		return;
	list = calloc(CANDIDATES_MAX, sizeof(*list));
	if (!list)
		return;
	lock_take(&wb->book);
	size_t namespaces = wb->namespaces_n;
	lock_drop(&wb->book);
	for (size_t i = 0; i < namespaces; i++)
		total += gather(wb, wb->namespaces[i], list, &n, not_after);
	qsort(list, n, sizeof(*list), older);
	for (size_t i = 0; i < n && total > goal; i++) {
		uint64_t freed = drop_value(wb, &list[i]);

		total -= freed < total ? freed : total;
	}
	free(list);
}
