#include "backends/writeback/walk.h"

#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/thread.h"

enum {
	WALKS_MAX = 64,
	MARKS_PER_AGE = 8, /* less than WALK_MARKS, so that a mark is old when it has to go */
};

/* --- how far, and how old --------------------------------------------------------------------- */

static int compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t both = a_len < b_len ? a_len : b_len;
	int order = both ? memcmp(a, b, both) : 0;

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static bool begins(const void *bytes, size_t len, const void *prefix, size_t prefix_len)
{
	return len >= prefix_len && (!prefix_len || memcmp(bytes, prefix, prefix_len) == 0);
}

/* The last key that it was told of; NULL: none yet. */
static const struct walk_mark *walk_last(const struct walk *w)
{
	return w->marks_n ? &w->marks[w->marks_n - 1] : NULL;
}

static void walk_note(
	struct writeback *wb, struct walk *w, const struct remote_key *key, int64_t asked)
{
	struct walk_mark *last = w->marks_n ? &w->marks[w->marks_n - 1] : NULL;

	if (!last || asked - last->asked >= wb->opt.max_age / MARKS_PER_AGE) {
		if (w->marks_n == WALK_MARKS) {
			w->passed = w->marks[0];
			memmove(w->marks, w->marks + 1, (WALK_MARKS - 1) * sizeof(w->marks[0]));
			w->marks_n--;
		}
		last = &w->marks[w->marks_n++];
		last->asked = asked;
	}
	memcpy(last->upto, key->bytes, key->len);
	last->len = (uint16_t)key->len;
}

/* When it was asked for what begins with `bytes`, at least for the first of it; 0: it is not known. */
static int64_t walk_age(const struct walk *w, const void *bytes, size_t len)
{
	if (w->passed.len && compare(bytes, len, w->passed.upto, w->passed.len) <= 0)
		return 0;
	for (unsigned i = 0; i < w->marks_n; i++) {
		if (compare(bytes, len, w->marks[i].upto, w->marks[i].len) <= 0)
			return w->marks[i].asked;
	}
	return 0;
}

static bool walk_covers(const struct walk *w, const unsigned char *bytes, size_t len, bool below)
{
	const struct walk_mark *last = walk_last(w);

	if (!last || !begins(bytes, len, w->prefix, w->prefix_len))
		return false;
	return compare(bytes, len, last->upto, last->len) <= 0 &&
		!(below && begins(last->upto, last->len, bytes, len));
}

bool wb_walks_cover(struct writeback *wb, struct wb_ns *ns, const unsigned char *bytes, size_t len,
	bool below, int64_t now)
{
	bool is = false;

	lock_take(&wb->traffic);
	for (const struct walk *w = ns->walks; w && !is; w = w->next) {
		if (!walk_covers(w, bytes, len, below))
			continue;
		int64_t age = walk_age(w, bytes, len);
		is = now == NOW_NEVER || (age && age <= now && now - age < wb->opt.max_age);
	}
	lock_drop(&wb->traffic);
	return is;
}

void wb_walks_forget(
	struct writeback *wb, struct wb_ns *ns, const unsigned char *prefix, size_t len)
{
	enum { LONG_AGO = 1 };

	lock_take(&wb->traffic);
	for (struct walk *w = ns->walks; w; w = w->next) {
		size_t both = len < w->prefix_len ? len : w->prefix_len;

		if (both && memcmp(w->prefix, prefix, both) != 0)
			continue;
		w->first = w->latest = LONG_AGO;
		for (unsigned i = 0; i < w->marks_n; i++)
			w->marks[i].asked = LONG_AGO;
	}
	lock_drop(&wb->traffic);
}

/* --- the list --------------------------------------------------------------------------------- */

static void walk_free(struct walk *w)
{
	free(w->cursor);
	free(w);
}

void wb_fetch_free(struct wb_ns *ns)
{
	while (ns->walks) {
		struct walk *w = ns->walks;

		ns->walks = w->next;
		walk_free(w);
	}
}

static void walk_unlink(struct wb_ns *ns, struct walk *w)
{
	struct walk **at = &ns->walks;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

static struct walk *walk_find(const struct wb_ns *ns, const void *prefix, size_t len)
{
	struct walk *w = ns->walks;

	while (w && (w->prefix_len != len || (len && memcmp(w->prefix, prefix, len) != 0)))
		w = w->next;
	return w;
}

/* Makes room for another one: the oldest that nobody is at goes. */
static void walks_shorten(struct wb_ns *ns)
{
	struct walk *idle = NULL;
	unsigned n = 0;

	for (struct walk *w = ns->walks; w; w = w->next, n++) {
		if (!w->busy)
			idle = w;
	}
	if (n >= WALKS_MAX && idle) {
		walk_unlink(ns, idle);
		walk_free(idle);
	}
}

/* That of this prefix, made if there is none. */
static struct walk *walk_get(struct wb_ns *ns, const void *prefix, size_t len)
{
	struct walk *w = walk_find(ns, prefix, len);

	if (w)
		return w;
	walks_shorten(ns);
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	if (len)
		memcpy(w->prefix, prefix, len);
	w->prefix_len = (uint16_t)len;
	w->next = ns->walks;
	ns->walks = w;
	return w;
}

/* One of a shorter prefix that is within this one now, and knows all of it up to there: what it
 * asks for next is of this one. */
static struct walk *walk_within(const struct writeback *wb, const struct wb_ns *ns,
	const void *prefix, size_t len, int64_t now)
{
	for (struct walk *w = ns->walks; w; w = w->next) {
		const struct walk_mark *last = walk_last(w);

		if (w->prefix_len >= len || !last || !w->cursor ||
			!begins(prefix, len, w->prefix, w->prefix_len) ||
			!begins(last->upto, last->len, prefix, len))
			continue;
		int64_t age = walk_age(w, prefix, len);
		if (age && age <= now && now - age < wb->opt.max_age)
			return w;
	}
	return NULL;
}

/* The one that is to be moved on for the sake of this prefix. */
static struct walk *walk_for(
	const struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, int64_t now)
{
	struct walk *own = walk_find(ns, prefix, len);
	struct walk *other = own && own->cursor ? NULL : walk_within(wb, ns, prefix, len, now);

	return other ? other : walk_get(ns, prefix, len);
}

unsigned wb_note_miss(struct writeback *wb, struct wb_ns *ns, const void *dir, size_t len)
{
	unsigned misses = 0;

	lock_take(&wb->traffic);
	struct walk *w = walk_get(ns, dir, len);
	if (w)
		misses = ++w->misses;
	lock_drop(&wb->traffic);
	return misses;
}

bool wb_walks_know_large(struct writeback *wb, struct wb_ns *ns, const void *dir, size_t len)
{
	bool large = false;

	lock_take(&wb->traffic);
	const struct walk *own = walk_find(ns, dir, len);
	for (const struct walk *w = ns->walks; w && !large && !(own && own->cursor); w = w->next)
		large = w->cursor && w->prefix_len > len &&
			begins(w->prefix, w->prefix_len, dir, len);
	lock_drop(&wb->traffic);
	return large;
}

bool wb_walk_has_begun(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len)
{
	lock_take(&wb->traffic);
	const struct walk *w = walk_find(ns, prefix, len);
	bool begun = w && (w->cursor || w->busy);
	lock_drop(&wb->traffic);
	return begun;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* All that begins like a name is known, and so what is below a directory of this name. */
static int cover(struct writeback *wb, struct wb_ns *ns, const struct walk *w)
{
	unsigned char below[STORE_KEY_MAX + 1];
	size_t len = w->prefix_len;

	lock_take(&wb->traffic);
	int64_t first = w->first; /* LONG_AGO where it has been forgotten meanwhile */
	lock_drop(&wb->traffic);
	int rc = wb_cover(wb, ns, w->prefix, len, first);
	if (rc || !len || len >= STORE_KEY_MAX ||
		w->prefix[len - 1] == (unsigned char)wb->opt.separator)
		return rc;
	memcpy(below, w->prefix, len);
	below[len] = (unsigned char)wb->opt.separator;
	return wb_cover(wb, ns, below, len + 1, first);
}

/* Takes the page in. Whether the listing has come to its end. */
static int walk_take(struct writeback *wb, struct wb_ns *ns, struct walk *w,
	const struct remote_name *after, struct remote_page *page, int64_t asked, bool *ended)
{
	struct remote_name prefix = {w->prefix, w->prefix_len};
	int rc = wb_merge_page(wb, ns, page, after, &prefix, asked);

	*ended = !page->cursor;
	if (!rc && *ended)
		rc = cover(wb, ns, w);
	lock_take(&wb->traffic);
	free(w->cursor);
	w->cursor = NULL;
	if (!rc && !*ended) {
		w->cursor = page->cursor;
		page->cursor = NULL;
		w->latest = asked;
		if (page->n)
			walk_note(wb, w, &page->keys[page->n - 1], asked);
	}
	lock_drop(&wb->traffic);
	return rc;
}

/* With `traffic`: somebody asks for this page, and it will be looked at again. */
static void walk_wait(struct writeback *wb, struct wb_ns *ns, const struct walk *w)
{
	unsigned char prefix[STORE_KEY_MAX];
	size_t len = w->prefix_len;

	memcpy(prefix, w->prefix, len);
	thread_waits();
	while (w && w->busy) {
		lock_wait(&wb->traffic, &wb->landed);
		w = walk_find(ns, prefix, len);
	}
}

/* Makes ready for the next page, with `traffic`; what comes before it. */
static void walk_depart(struct writeback *wb, struct walk *w, int64_t asked,
	struct remote_name *after, unsigned char after_bytes[STORE_KEY_MAX])
{
	w->busy = true;
	if (w->cursor && asked - w->latest >= wb->opt.max_age) { /* it has become old: anew */
		free(w->cursor);
		w->cursor = NULL;
	}
	if (!w->cursor) {
		w->marks_n = 0;
		w->passed.len = 0;
		w->first = asked;
	}
	const struct walk_mark *last = walk_last(w);
	*after = (struct remote_name){after_bytes, last ? last->len : 0};
	if (last)
		memcpy(after_bytes, last->upto, last->len);
}

/* With `traffic`: what a page has brought for `prefix`. Whether all that begins so has been listed. */
static bool walk_land(
	const struct walk *w, const void *prefix, size_t len, bool ended, struct want *want)
{
	const struct walk_mark *last = walk_last(w);
	bool through = ended || (last && !begins(last->upto, last->len, prefix, len));

	if (want) {
		want->complete = through;
		want->upto_len = last ? last->len : 0;
		if (last)
			memcpy(want->upto, last->upto, last->len);
	}
	return through;
}

int wb_fetch_page(
	struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, struct want *want)
{
	unsigned char after_bytes[STORE_KEY_MAX];
	int64_t asked = clock_now(), whole = 0;
	struct remote_page page = {0};
	struct remote_name after;
	bool ended = false;

	lock_take(&wb->traffic);
	struct walk *w = walk_for(wb, ns, prefix, len, asked);
	if (!w || w->busy) {
		if (w)
			walk_wait(wb, ns, w);
		lock_drop(&wb->traffic);
		return w ? 0 : -ENOMEM;
	}
	walk_depart(wb, w, asked, &after, after_bytes);
	lock_drop(&wb->traffic);
	/* Cursor and prefix are only changed by whoever has made the walk busy. */
	struct remote_name name = {w->prefix, w->prefix_len};
	int rc = wb->remote->ops->list(wb->remote, ns->id, &name, w->cursor, &after, &page);
	wb_note_answer(wb, rc);
	if (!rc) {
		rc = walk_take(wb, ns, w, &after, &page, asked, &ended);
		wb->remote->ops->page_release(&page);
	}
	lock_take(&wb->traffic);
	w->busy = false;
	if (walk_land(w, prefix, len, ended, want) && !rc && w->prefix_len < len)
		whole = walk_age(w, prefix, len);
	if (rc || ended) {
		walk_unlink(ns, w);
		walk_free(w);
	}
	pthread_cond_broadcast(&wb->landed);
	lock_drop(&wb->traffic);
	/* What a listing of more has told of this prefix outlives it. */
	return whole ? wb_cover(wb, ns, prefix, len, whole) : rc;
}
