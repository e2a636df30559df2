/*
 * evict.c - keeping the cache within its size: the values that nobody has used for longest go first.
 * What waits in the journal, and what is nowhere else, never goes; what is open has its own content
 * (fs/core/version.h).
 *
 * When values were used is remembered in memory only, by a hash of the key: two of one hash count as
 * used together. Of those that were not used since the mount, the one that was got longest ago goes
 * first.
 *
 * How much there is is counted by going through all keys, and in between by adding what comes; so
 * whoever brings the values that are too many pays for one walk in each tenth of the size.
 */
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "backends/base/clock.h"
#include "backends/writeback/internal.h"

enum {
	CANDIDATES_MAX = 4096, /* that go at once */
	VIEW_KEYS = 1024, /* looked at within one view */
	PAGE = 4096, /* of the local store; larger values have pages of their own */
	TREE_TIME = 10, /* seconds that what was got for moving a directory is needed */
};

struct candidate {
	struct wb_ns *ns;
	uint32_t used;
	int64_t read;
	uint16_t len;
	unsigned char bytes[STORE_KEY_MAX];
};

/* What is to go: a heap with the one that is to go last on top. */
struct leavers {
	struct candidate *list;
	size_t n;
	uint64_t total; /* of all values, bytes */
};

/* What a value takes in the local store. */
static uint64_t cost(uint64_t size)
{
	return size < PAGE / 2 ? size : (size + 16 + PAGE - 1) / PAGE * PAGE;
}

static _Atomic uint32_t *use_of(
	struct writeback *wb, const struct wb_ns *ns, const void *key, size_t len)
{
	return &wb->uses[XXH3_64bits_withSeed(key, len, ns->keys) % WB_USES];
}

void wb_note_use(struct writeback *wb, const struct wb_ns *ns, const void *key, size_t len)
{
	atomic_store(use_of(wb, ns, key, len), atomic_fetch_add(&wb->used, 1) + 1);
}

void wb_note_kept(struct writeback *wb, uint64_t size)
{
	atomic_fetch_add(&wb->kept, cost(size));
}

void wb_note_tree(struct writeback *wb, bool begins)
{
	atomic_store(&wb->tree_until, begins ? clock_now() + TREE_TIME * (int64_t)CLOCK_SECOND : 0);
}

/* Negative: x is to go before y. */
static int order(const struct candidate *x, const struct candidate *y)
{
	int by_use = (x->used > y->used) - (x->used < y->used);

	return by_use ? by_use : (x->read > y->read) - (x->read < y->read);
}

static int by_order(const void *a, const void *b)
{
	return order(a, b);
}

static void swap(struct candidate *x, struct candidate *y)
{
	struct candidate z = *x;

	*x = *y;
	*y = z;
}

/* Adds one, unless there are enough that are to go before it. */
static void leavers_add(struct leavers *l, const struct candidate *c)
{
	size_t at = 0;

	if (l->n < CANDIDATES_MAX) {
		l->list[l->n] = *c;
		for (at = l->n++; at && order(&l->list[(at - 1) / 2], &l->list[at]) < 0;
			at = (at - 1) / 2)
			swap(&l->list[(at - 1) / 2], &l->list[at]);
		return;
	}
	if (order(c, &l->list[0]) >= 0)
		return;
	l->list[0] = *c;
	for (;;) {
		size_t next = 2 * at + 1;

		if (next + 1 < l->n && order(&l->list[next + 1], &l->list[next]) > 0)
			next++;
		if (next >= l->n || order(&l->list[next], &l->list[at]) <= 0)
			return;
		swap(&l->list[next], &l->list[at]);
		at = next;
	}
}

/* Whether all that is here is needed. */
static bool all_stay(struct writeback *wb)
{
	return atomic_load(&wb->moving) || atomic_load(&wb->tree_until) > clock_now();
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
	/* A directory may have begun to move since the values were counted. */
	if (all_stay(wb) || wb_entry_get(wb, &id, &e))
		goto out;
	/* What is pinned cannot be got again yet. */
	if (e.exists && e.info.cached && !e.info.local && !info_is_own(&e.info) &&
		(e.info.pinned <= clock_now() || e.info.confirmed) &&
		journal_get(wb->local, c->ns->journal, &id, &j) == -ENOENT &&
		blob_new(wb->local->blobs, &empty) == 0) {
		e.info.cached = false;
		if (wb_put_change(&id, &e.rec, &e.info, empty, &put, &joined, &memory) == 0 &&
			wb->local->ops->apply(wb->local, &put, 1, NULL) == 0)
			freed = cost(e.info.size);
	}
	free(memory);
	blob_unref(empty);
	wb_entry_release(&e);
out:
	lock_drop(&wb->book);
	return freed;
}

static void look_at(struct writeback *wb, struct wb_ns *ns, const struct entry_id *id,
	const struct entry *e, struct leavers *l)
{
	struct record rec = e->rec;
	struct candidate c;
	struct info info;

	info_split(&rec, &info);
	if (!info.cached || !e->size)
		return;
	l->total += cost(e->size);
	if (info.local || info_is_own(&info))
		return;
	c.ns = ns;
	c.used = atomic_load(use_of(wb, ns, id->bytes, id->len));
	c.read = info.read;
	c.len = id->len;
	memcpy(c.bytes, id->bytes, id->len);
	leavers_add(l, &c);
}

/* Looks at some keys, from `at` on, within one view. False: there are no more. */
static bool gather_some(
	struct writeback *wb, struct wb_ns *ns, unsigned char *at, size_t *len, struct leavers *l)
{
	struct store *local = wb->local;
	struct entry_id id;
	struct view *v;
	struct scan *s;
	unsigned n = 0;
	int rc;

	if (local->ops->view_begin(local, NOW_NEVER, &v))
		return false;
	rc = local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s);
	if (!rc) {
		while (n++ < VIEW_KEYS && !(rc = local->ops->scan_seek(s, at, *len, &id))) {
			struct entry e;

			memcpy(at, id.bytes, id.len);
			*len = id.len;
			id.bytes = at;
			if (local->ops->view_get(v, &id, &e) == 0)
				look_at(wb, ns, &id, &e, l);
			at[(*len)++] = '\0';
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return !rc;
}

/* One walk through all keys, and the end of the values that are too many. Whether another one may
 * help. */
static bool evict_some(struct writeback *wb, struct leavers *l)
{
	uint64_t goal = wb->opt.cache_size / 10 * 9, freed = 0, before = atomic_load(&wb->kept);

	l->n = 0;
	l->total = 0;
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n; i++) {
		unsigned char at[STORE_KEY_MAX + 1] = {0};
		size_t len = 1;

		while (gather_some(wb, wb_namespace_at(wb, i), at, &len, l))
			;
	}
	bool over = l->total > wb->opt.cache_size;
	if (over)
		qsort(l->list, l->n, sizeof(*l->list), by_order);
	for (size_t i = 0; over && i < l->n && l->total - freed > goal; i++)
		freed += drop_value(wb, &l->list[i]);
	/* What has come meanwhile stays counted. */
	uint64_t left = l->total - freed;
	atomic_fetch_add(&wb->kept, left - before);
	return over && freed && left > goal;
}

void wb_evict(struct writeback *wb)
{
	struct leavers l = {0};
	bool more = true;

	/* While nobody answers, nothing that is here can be got again. */
	if (!wb->opt.cache_size || atomic_load(&wb->offline_since) || all_stay(wb))
		return;
	if (atomic_load(&wb->counted) && atomic_load(&wb->kept) <= wb->opt.cache_size)
		return;
	if (atomic_exchange(&wb->evicting, true)) /* somebody is at it */
		return;
	l.list = calloc(CANDIDATES_MAX, sizeof(*l.list));
	while (l.list && more)
		more = evict_some(wb, &l);
	free(l.list);
	atomic_store(&wb->counted, true);
	atomic_store(&wb->evicting, false);
}
