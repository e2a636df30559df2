/*
 * fetch.c - asking the remote store: pages of listings, and values with read-ahead.
 *
 * What somebody is asking for already, others wait for rather than ask again: a page by its walk's
 * `busy`, a value by its flight.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/internal.h"

enum {
	WALKS_MAX = 64,
	AHEAD_BYTES = 20 << 20, /* of values that are known to be so large */
	AHEAD_LOOKED_AT = 2000, /* keys looked at for what is to be read ahead */
};

void wb_note_answer(struct writeback *wb, int rc)
{
	bool lost = rc == -ETIMEDOUT;
	int64_t since = atomic_load(&wb->offline_since);

	if (lost && !since) {
		atomic_store(&wb->offline_since, clock_now());
		log_warning(
			"the remote store does not answer: what is cached is served, and changes "
			"wait in the journal");
	} else if (!lost && since && (!rc || rc == -ENOENT)) {
		atomic_store(&wb->offline_since, 0);
		log_info("the remote store answers again");
	}
	atomic_store(&wb->last_error, lost ? rc : 0);
}

/* --- listings --------------------------------------------------------------------------------- */

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

/* The listing under way of this prefix, made if there is none. Under `traffic`. */
static struct walk *walk_get(struct wb_ns *ns, const void *prefix, size_t len)
{
	struct walk *idle = NULL;
	unsigned n = 0;

	for (struct walk *w = ns->walks; w; w = w->next, n++) {
		if (w->prefix_len == len && (!len || memcmp(w->prefix, prefix, len) == 0))
			return w;
		if (!w->busy)
			idle = w; /* the last in the list is the oldest */
	}
	if (n >= WALKS_MAX && idle) {
		walk_unlink(ns, idle);
		walk_free(idle);
	}
	struct walk *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	if (len)
		memcpy(w->prefix, prefix, len);
	w->prefix_len = (uint16_t)len;
	w->next = ns->walks;
	ns->walks = w;
	return w;
}

/* Takes the page in. Whether the listing has come to its end. */
static int walk_take(struct writeback *wb, struct wb_ns *ns, struct walk *w,
	const struct remote_name *after, struct remote_page *page, int64_t asked, bool *ended)
{
	struct remote_name prefix = {w->prefix, w->prefix_len};
	int rc = wb_merge_page(wb, ns, page, after, &prefix, asked);

	*ended = !page->cursor;
	if (!rc && *ended)
		rc = wb_cover(wb, ns, w->prefix, w->prefix_len, asked);
	pthread_mutex_lock(&wb->traffic);
	free(w->cursor);
	w->cursor = NULL;
	if (!rc && !*ended) {
		w->cursor = page->cursor;
		page->cursor = NULL;
		w->began = asked;
		if (page->n) {
			const struct remote_key *last = &page->keys[page->n - 1];

			memcpy(w->upto, last->bytes, last->len);
			w->upto_len = (uint16_t)last->len;
		}
	}
	pthread_mutex_unlock(&wb->traffic);
	return rc;
}

int wb_fetch_page(
	struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, struct want *want)
{
	unsigned char after_bytes[STORE_KEY_MAX];
	struct remote_name name = {prefix, len}, after = {after_bytes, 0};
	struct remote_page page = {0};
	bool ended = false;

	pthread_mutex_lock(&wb->traffic);
	struct walk *w = walk_get(ns, prefix, len);
	if (!w || w->busy) {
		/* Somebody asks for this page: it will be looked at again. */
		if (w)
			pthread_cond_wait(&wb->landed, &wb->traffic);
		pthread_mutex_unlock(&wb->traffic);
		return w ? 0 : -ENOMEM;
	}
	w->busy = true;
	int64_t asked = clock_now();
	if (w->cursor && asked - w->began >= wb->opt.max_age) { /* it has become old: anew */
		free(w->cursor);
		w->cursor = NULL;
		w->upto_len = 0;
	}
	after.len = w->upto_len;
	memcpy(after_bytes, w->upto, w->upto_len);
	pthread_mutex_unlock(&wb->traffic);
	/* The cursor is only changed by whoever has made the walk busy. */
	int rc = wb->remote->ops->list(wb->remote, ns->id, &name, w->cursor, &after, &page);
	wb_note_answer(wb, rc);
	if (!rc) {
		rc = walk_take(wb, ns, w, &after, &page, asked, &ended);
		wb->remote->ops->page_release(&page);
	}
	pthread_mutex_lock(&wb->traffic);
	w->busy = false;
	if (want) {
		want->complete = ended;
		want->upto_len = w->upto_len;
		memcpy(want->upto, w->upto, w->upto_len);
	}
	if (rc || ended) {
		walk_unlink(ns, w);
		walk_free(w);
	}
	pthread_cond_broadcast(&wb->landed);
	pthread_mutex_unlock(&wb->traffic);
	return rc;
}

/* --- values ----------------------------------------------------------------------------------- */

struct flight {
	struct flight *next;
	const struct wb_ns *ns;
	const unsigned char *bytes; /* of the batch */
	size_t len;
};

struct batch {
	size_t n;
	struct remote_name names[REMOTE_GET_MAX];
	struct flight flights[REMOTE_GET_MAX];
	struct remote_value values[REMOTE_GET_MAX];
	unsigned char bytes[REMOTE_GET_MAX][STORE_KEY_MAX];
};

static void batch_add(struct batch *b, const unsigned char *bytes, size_t len)
{
	memcpy(b->bytes[b->n], bytes, len);
	b->names[b->n] = (struct remote_name){b->bytes[b->n], len};
	b->n++;
}

/* Whether a key's value is to be got: it is not known, or old. */
static bool is_wanted(struct writeback *wb, const struct wb_ns *ns, struct view *v,
	const struct entry_id *id, bool bytes_needed, int64_t now, uint64_t *size)
{
	struct store *local = wb->local;
	struct journal j;
	struct entry e;
	struct info info;

	if (local->ops->view_get(v, id, &e))
		return false;
	info_split(&e.rec, &info);
	*size = info.size;
	if (bytes_needed && !info.cached)
		return true;
	if (wb_is_fresh(wb, &info, false, now))
		return false;
	return journal_get(local, ns->journal, id, &j) == -ENOENT;
}

/* What is to be asked for together with `key`: what follows it in its directory, and below that, in
 * the order of a listing. */
static int read_ahead(
	struct writeback *wb, const struct wb_ns *ns, const struct entry_id *key, struct batch *b)
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1];
	size_t len = key->len, dir = key->len;
	int64_t now = clock_now();
	uint64_t total = 0, size;
	struct view *v;
	struct scan *s;
	int rc = local->ops->view_begin(local, now, &v);

	if (rc)
		return rc;
	while (dir && key->bytes[dir - 1] != (unsigned char)wb->opt.separator)
		dir--;
	memcpy(at, key->bytes, len);
	at[len++] = '\0';
	rc = local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s);
	for (int i = 0; !rc && i < AHEAD_LOOKED_AT && b->n < REMOTE_GET_MAX; i++) {
		struct entry_id id;

		rc = local->ops->scan_seek(s, at, len, &id);
		if (rc || id.len < dir || memcmp(id.bytes, key->bytes, dir) != 0)
			break;
		memcpy(at, id.bytes, id.len);
		len = id.len;
		if (is_wanted(wb, ns, v, &id, false, now, &size)) {
			total += size;
			if (total > AHEAD_BYTES)
				break;
			batch_add(b, at, len);
		}
		at[len++] = '\0';
	}
	if (rc == 0 || rc == -ENOENT)
		local->ops->scan_close(s);
	local->ops->view_end(v);
	return rc == -ENOENT ? 0 : rc;
}

static bool is_flying(
	const struct writeback *wb, const struct wb_ns *ns, const void *bytes, size_t len)
{
	for (const struct flight *f = wb->flights; f; f = f->next) {
		if (f->ns == ns && f->len == len && memcmp(f->bytes, bytes, len) == 0)
			return true;
	}
	return false;
}

/* Takes out what others ask for, and announces the rest. False: the first is being asked for, and
 * has been waited for. */
static bool batch_depart(struct writeback *wb, const struct wb_ns *ns, struct batch *b)
{
	size_t n = 0;

	pthread_mutex_lock(&wb->traffic);
	if (is_flying(wb, ns, b->names[0].bytes, b->names[0].len)) {
		pthread_cond_wait(&wb->landed, &wb->traffic);
		pthread_mutex_unlock(&wb->traffic);
		return false;
	}
	for (size_t i = 0; i < b->n; i++) {
		if (!is_flying(wb, ns, b->names[i].bytes, b->names[i].len))
			b->names[n++] = b->names[i];
	}
	b->n = n;
	for (size_t i = 0; i < n; i++) {
		b->flights[i] =
			(struct flight){wb->flights, ns, b->names[i].bytes, b->names[i].len};
		wb->flights = &b->flights[i];
	}
	pthread_mutex_unlock(&wb->traffic);
	return true;
}

static void batch_land(struct writeback *wb, struct batch *b)
{
	pthread_mutex_lock(&wb->traffic);
	for (struct flight **at = &wb->flights; *at;) {
		if (*at >= b->flights && *at < b->flights + b->n)
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
	pthread_cond_broadcast(&wb->landed);
	pthread_mutex_unlock(&wb->traffic);
}

static void values_release(struct remote_value *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		blob_unref(values[i].value);
		free(values[i].metadata);
	}
}

static int batch_fly(struct writeback *wb, struct wb_ns *ns, struct batch *b, bool background)
{
	int64_t asked = clock_now();
	int rc = wb->remote->ops->get(wb->remote, ns->id, b->names, b->n, background, b->values);

	wb_note_answer(wb, rc);
	if (rc)
		return rc;
	rc = wb_merge_values(wb, ns, b->names, b->values, b->n, asked);
	int first = b->values[0].error;
	values_release(b->values, b->n);
	return rc || first == -ENOENT ? rc : first;
}

int wb_fetch_values(
	struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, bool bytes_needed)
{
	struct batch *b = calloc(1, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	if (rc)
		return rc;
	batch_add(b, key->bytes, key->len);
	rc = read_ahead(wb, ns, key, b);
	if (!rc && batch_depart(wb, ns, b)) {
		rc = batch_fly(wb, ns, b, false);
		batch_land(wb, b);
	}
	free(b);
	return rc;
}

int wb_fetch_exactly(struct writeback *wb, struct wb_ns *ns, const struct remote_name *keys,
	size_t n, bool background)
{
	struct batch *b = calloc(1, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !rc; i += b->n) {
		memset(b, 0, sizeof(*b));
		for (size_t k = i; k < n && b->n < REMOTE_GET_MAX; k++)
			batch_add(b, keys[k].bytes, keys[k].len);
		rc = batch_fly(wb, ns, b, background);
	}
	free(b);
	return rc;
}
