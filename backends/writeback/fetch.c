/*
 * fetch.c - asking the remote store for values, with read-ahead.
 *
 * What somebody is asking for already, others wait for rather than ask again (struct flight).
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/base/thread.h"
#include "backends/writeback/internal.h"

enum {
	AHEAD_BYTES = 20 << 20, /* of values that are known to be so large */
	ALONE_MAX = 15, /* values got ahead by a request each */
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
		wb_upload_expect(wb, WB_PROBE_AFTER);
	} else if (!lost && since && (!rc || rc == -ENOENT)) {
		atomic_store(&wb->offline_since, 0);
		log_info("the remote store answers again");
	}
	atomic_store(&wb->last_error, lost ? rc : 0);
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

static void batch_add(
	struct batch *b, const unsigned char *bytes, size_t len, bool exact, bool ahead)
{
	memcpy(b->bytes[b->n], bytes, len);
	b->names[b->n] = (struct remote_name){b->bytes[b->n], len};
	b->values[b->n].exact = exact;
	b->values[b->n].ahead = ahead;
	b->n++;
}

/* Whether a key's value is to be got together with another: it is not known, or old. */
static bool is_wanted(struct writeback *wb, const struct wb_ns *ns, struct view *v,
	const struct entry_id *id, int64_t now, struct info *info)
{
	struct store *local = wb->local;
	struct journal j;
	struct entry e;

	if (local->ops->view_get(v, id, &e))
		return false;
	info_split(&e.rec, info);
	if (wb_is_fresh(wb, info, false, now))
		return false;
	return journal_get(local, ns->journal, id, &j) == -ENOENT;
}

/* A walk through the keys of a namespace, from one on. */
struct course {
	struct writeback *wb;
	struct wb_ns *ns;
	struct view *v;
	struct scan *s;
	int64_t now;
	unsigned looked;
	size_t len;
	unsigned char at[STORE_KEY_MAX + 1];
};

static void course_begin(struct course *c, const unsigned char *after, size_t len)
{
	memcpy(c->at, after, len);
	c->at[len] = '\0';
	c->len = len + 1;
	c->looked = 0;
}

/* The next key that begins with `prefix` and whose value is wanted; *id is valid until the next
 * call. */
static bool course_next(struct course *c, const unsigned char *prefix, size_t prefix_len,
	struct entry_id *id, struct info *info)
{
	struct store *local = c->wb->local;

	while (c->looked++ < AHEAD_LOOKED_AT) {
		if (local->ops->scan_seek(c->s, c->at, c->len, id) || id->len < prefix_len ||
			(prefix_len && memcmp(id->bytes, prefix, prefix_len) != 0))
			return false;
		memcpy(c->at, id->bytes, id->len);
		c->at[id->len] = '\0';
		c->len = id->len + 1u;
		id->bytes = c->at;
		if (is_wanted(c->wb, c->ns, c->v, id, c->now, info))
			return true;
	}
	return false;
}

/* Whether somebody reads one value after the other: this one is the next that is wanted after where
 * `trail` is. */
static bool is_next(struct course *c, const struct trail *trail, const struct entry_id *key)
{
	struct writeback *wb = c->wb;
	unsigned char after[STORE_KEY_MAX];
	struct entry_id id;
	struct info info;

	lock_take(&wb->traffic);
	size_t len = trail->len;
	memcpy(after, trail->at, len);
	lock_drop(&wb->traffic);
	if (!len)
		return false;
	course_begin(c, after, len);
	return course_next(c, NULL, 0, &id, &info) && id.len == key->len &&
		memcmp(id.bytes, key->bytes, id.len) == 0;
}

/* Under `traffic`. */
static void trail_set(struct trail *t, const void *bytes, size_t len)
{
	if (len)
		memcpy(t->at, bytes, len);
	t->len = (uint16_t)len;
}

/* How many of those that take a request each are worth to be got with this one: twice as many each
 * time that somebody reads in order. */
static unsigned run_length(struct course *c, const struct entry_id *key)
{
	bool next = is_next(c, &c->ns->alone, key);

	lock_take(&c->wb->traffic);
	unsigned run = next ? 2 * c->ns->run + 1 : 0;
	c->ns->run = run < ALONE_MAX ? run : ALONE_MAX;
	run = c->ns->run;
	lock_drop(&c->wb->traffic);
	return run;
}

/* Up to where values were got. */
static void note_ahead(struct writeback *wb, struct wb_ns *ns, const struct batch *b)
{
	lock_take(&wb->traffic);
	for (size_t i = 0; i < b->n; i++) {
		const struct remote_value *v = &b->values[i];

		if (v->alone && v->error != -EAGAIN)
			trail_set(&ns->alone, b->names[i].bytes, b->names[i].len);
		if (!v->exact)
			trail_set(&ns->ahead, b->names[i].bytes, b->names[i].len);
	}
	lock_drop(&wb->traffic);
}

/* Whether the directory was listed last, after that in which it is: somebody goes through all of a
 * tree, and will go on after it. */
static bool is_walked(struct course *c, const unsigned char *dir, size_t len)
{
	char sep = c->wb->opt.separator;
	size_t above = len ? len - 1 : 0;

	while (above && dir[above - 1] != (unsigned char)sep)
		above--;
	lock_take(&c->wb->traffic);
	const struct trail *last = &c->ns->listed_last, *before = &c->ns->listed_before;
	bool is = len && c->ns->lists >= 2 && last->len == len && memcmp(last->at, dir, len) == 0 &&
		before->len == above && memcmp(before->at, dir, above) == 0;
	lock_drop(&c->wb->traffic);
	return is;
}

void wb_note_listed(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len)
{
	lock_take(&wb->traffic);
	if (ns->lists == 0 || ns->listed_last.len != len ||
		memcmp(ns->listed_last.at, prefix, len) != 0) {
		ns->listed_before = ns->listed_last;
		trail_set(&ns->listed_last, prefix, len);
		ns->lists += ns->lists < 2;
	}
	lock_drop(&wb->traffic);
}

/* What is to be asked for together with the first of the batch, in the order of a listing. One that
 * takes a request of its own brings only others of its kind along, as many as `run`. */
static void course_gather(
	struct course *c, const struct entry_id *key, size_t dir, unsigned run, struct batch *b)
{
	bool alone = b->values[0].exact;
	uint64_t total = 0;
	struct entry_id id;
	struct info info;

	course_begin(c, key->bytes, key->len);
	while (b->n < REMOTE_GET_MAX && (run || !alone) &&
		course_next(c, key->bytes, alone ? 0 : dir, &id, &info)) {
		bool exact = info.marked || info.alone;

		if ((alone && !exact) || (exact && !run))
			continue;
		total += info.size;
		if (total > AHEAD_BYTES)
			break;
		batch_add(b, id.bytes, id.len, exact, !run);
		run -= run > 0;
	}
}

/* What follows in the directory, and below that; and what follows the directory too, for who goes
 * through all of it. */
static int read_ahead(
	struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, struct batch *b)
{
	struct store *local = wb->local;
	struct course c = {.wb = wb, .ns = ns, .now = clock_now()};
	size_t dir = key->len;
	int rc = local->ops->view_begin(local, c.now, &c.v);

	if (rc)
		return rc;
	while (dir && key->bytes[dir - 1] != (unsigned char)wb->opt.separator)
		dir--;
	rc = local->ops->scan_open(c.v, ns->keys, ENTRY_KEY, &c.s);
	if (!rc) {
		if (is_next(&c, &ns->ahead, key) || is_walked(&c, key->bytes, dir))
			dir = 0;
		course_gather(&c, key, dir, run_length(&c, key), b);
		local->ops->scan_close(c.s);
	}
	local->ops->view_end(c.v);
	return rc;
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

	lock_take(&wb->traffic);
	if (is_flying(wb, ns, b->names[0].bytes, b->names[0].len)) {
		thread_waits();
		do
			lock_wait(&wb->traffic, &wb->landed);
		while (is_flying(wb, ns, b->names[0].bytes, b->names[0].len));
		lock_drop(&wb->traffic);
		return false;
	}
	for (size_t i = 0; i < b->n; i++) {
		if (is_flying(wb, ns, b->names[i].bytes, b->names[i].len))
			continue;
		b->values[n].exact = b->values[i].exact;
		b->values[n].ahead = b->values[i].ahead;
		b->names[n++] = b->names[i];
	}
	b->n = n;
	for (size_t i = 0; i < n; i++) {
		b->flights[i] =
			(struct flight){wb->flights, ns, b->names[i].bytes, b->names[i].len};
		wb->flights = &b->flights[i];
	}
	lock_drop(&wb->traffic);
	return true;
}

static void batch_land(struct writeback *wb, struct batch *b)
{
	lock_take(&wb->traffic);
	for (struct flight **at = &wb->flights; *at;) {
		if (*at >= b->flights && *at < b->flights + b->n)
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
	pthread_cond_broadcast(&wb->landed);
	lock_drop(&wb->traffic);
}

static void values_release(struct remote_value *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		blob_unref(values[i].value);
		free(values[i].metadata);
	}
}

/* Whether getting many at once is known not to bring the value as it is. */
static bool is_exact(struct writeback *wb, const struct entry_id *key)
{
	struct wb_entry e;

	if (wb_entry_get(wb, key, &e))
		return false;
	wb_entry_release(&e);
	return e.info.marked || e.info.alone;
}

static int batch_fly(struct writeback *wb, struct wb_ns *ns, struct batch *b, bool background)
{
	int64_t asked = clock_now();
	int rc = wb->remote->ops->get(wb->remote, ns->id, b->names, b->n, background, b->values);

	wb_note_answer(wb, rc);
	if (rc)
		return rc;
	rc = wb_merge_values(wb, ns, b->names, b->values, b->n, asked);
	if (!background)
		note_ahead(wb, ns, b);
	int first = b->values[0].error;
	values_release(b->values, b->n);
	return rc || first == -ENOENT ? rc : first;
}

int wb_fetch_values(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key)
{
	struct batch *b = calloc(1, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	if (rc)
		return rc;
	batch_add(b, key->bytes, key->len, is_exact(wb, key), false);
	rc = read_ahead(wb, ns, key, b);
	if (!rc && batch_depart(wb, ns, b)) {
		rc = batch_fly(wb, ns, b, false);
		batch_land(wb, b);
		wb_note_use(wb, ns, key->bytes, key->len); /* after those that came along */
		wb_evict(wb);
		/* Who reads faster than the disk writes waits for it. */
		wb->local->ops->throttle(wb->local, 0);
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
		for (size_t k = i; k < n && b->n < REMOTE_GET_MAX; k++) {
			struct entry_id id = wb_key(ns->keys, keys[k].bytes, keys[k].len);

			batch_add(b, keys[k].bytes, keys[k].len, is_exact(wb, &id), false);
		}
		rc = batch_fly(wb, ns, b, background);
	}
	free(b);
	return rc;
}
