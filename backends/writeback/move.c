/*
 * move.c - moving directories: what is below one prefix gets its place below another, or changes
 * places with it. The remote store has nothing of the kind: each key is written under its new name
 * and removed under the old one, which the journal is told of as of any other change.
 *
 * Everything is gone through once, in the order of what follows the prefixes, in batches that memory
 * has room for. What fits into one batch moves in one step. Otherwise the first batch brings a note
 * along, of what moves where, each batch brings it up to where it has come, and the last one takes it
 * away; after a crash the next mount goes on from there (wb_moves_resume). Whether all of it can be
 * moved is looked at before the first batch.
 *
 * Directories have entries of their own, also those that exist by their keys only; they are found by
 * the names of what is below them.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/log.h"
#include "backends/writeback/internal.h"
#include "backends/writeback/pack.h"

enum {
	BATCH_CHANGES = 1024,
	ELEMENT_CHANGES = 2 * STORE_PREFIX_MAX + 4, /* of one key: it is in so many directories */
	CHANGES_MAX = BATCH_CHANGES + ELEMENT_CHANGES,
	BATCH_BYTES = 16 << 20, /* of values; one may be larger */
	NOTE_VERSION = 1,
	NOTE_MAX = 16 + 2 * REMOTE_ID_MAX + 3 * STORE_PREFIX_MAX,
};

static const char NOTES[] =
	":move"; /* the local namespace of the notes, by the ids they move from */

/* What follows a prefix. */
struct tail {
	uint16_t len;
	unsigned char bytes[STORE_PREFIX_MAX];
};

struct move {
	struct writeback *wb;
	struct wb_ns *from_ns, *to_ns;
	struct entry_id from, to; /* prefixes */
	bool exchange;
	int64_t now;
	bool begun; /* the directories themselves have moved, and everything up to `at` */
	struct tail at;
	bool noted;

	/* A batch. */
	struct change *changes;
	struct record *records; /* as many */
	unsigned char (*ids)[STORE_PREFIX_MAX];
	void **memory;
	size_t n;
	uint64_t bytes;
};

static int move_init(struct move *m)
{
	m->changes = calloc(CHANGES_MAX + 1, sizeof(*m->changes));
	m->records = calloc(CHANGES_MAX, sizeof(*m->records));
	m->ids = calloc(CHANGES_MAX, sizeof(*m->ids));
	m->memory = calloc(CHANGES_MAX, sizeof(*m->memory));
	return m->changes && m->records && m->ids && m->memory ? 0 : -ENOMEM;
}

static void batch_clear(struct move *m)
{
	for (size_t i = 0; i < m->n; i++) {
		blob_unref(m->changes[i].value);
		free(m->memory[i]);
		m->changes[i] = (struct change){0};
		m->memory[i] = NULL;
	}
	m->n = 0;
	m->bytes = 0;
}

static void move_release(struct move *m)
{
	if (m->changes && m->memory)
		batch_clear(m);
	free(m->changes);
	free(m->records);
	free(m->ids);
	free(m->memory);
}

/* --- one entry ---------------------------------------------------------------------------------- */

/* The entry that is `tail` below a prefix; `cut`: the key that is the prefix less its last byte. */
static int name(const struct entry_id *prefix, enum entry_kind kind, const struct tail *tail,
	bool cut, unsigned char *bytes, struct entry_id *out)
{
	size_t head = prefix->len - (cut ? 1u : 0), len = head + tail->len;

	if (len > (kind == ENTRY_KEY ? (size_t)STORE_KEY_MAX : (size_t)STORE_PREFIX_MAX))
		return -ENAMETOOLONG;
	memcpy(bytes, prefix->bytes, head);
	memcpy(bytes + head, tail->bytes, tail->len);
	*out = (struct entry_id){prefix->ns, kind, (uint16_t)len, bytes};
	return 0;
}

/* One side of a move, as it is before. */
struct side {
	struct entry_id id;
	unsigned char bytes[STORE_PREFIX_MAX];
	bool nameless; /* its name would be too long: it cannot be there */
	struct wb_entry e;
	bool live; /* it has something to take along */
	bool hold;
};

static int side_load(struct move *m, const struct entry_id *prefix, enum entry_kind kind,
	const struct tail *tail, bool cut, struct side *s)
{
	struct journal j;

	*s = (struct side){0};
	s->nameless = name(prefix, kind, tail, cut, s->bytes, &s->id) != 0;
	if (s->nameless || !s->id.len)
		return 0;
	int rc = wb_entry_get(m->wb, &s->id, &s->e);
	if (rc)
		return rc;
	s->live = s->e.exists && !record_expired(&s->e.rec, m->now);
	if (kind == ENTRY_DIR || !s->live)
		return 0;
	/* What was made here and is not in the journal has no complete value yet. */
	s->hold = !s->e.info.local && info_is_own(&s->e.info) &&
		journal_get(m->wb->local, wb_ns(m->wb, s->id.ns)->journal, &s->id, &j) == -ENOENT;
	return s->e.info.cached ? 0 : -ETIMEDOUT; /* nobody has prepared for it */
}

static struct change *batch_add(struct move *m, const struct entry_id *id)
{
	struct change *c = &m->changes[m->n];

	memcpy(m->ids[m->n], id->bytes, id->len);
	*c = (struct change){.op = CHANGE_REMOVE, .id = *id};
	c->id.bytes = m->ids[m->n++];
	return c;
}

/* What is at `from` comes to `to` as well. */
static int take_over(struct move *m, const struct side *from, const struct side *to)
{
	struct value v;

	if (to->nameless)
		return -ENAMETOOLONG;
	size_t at = m->n;
	struct change *c = batch_add(m, &to->id);
	c->op = CHANGE_PUT;
	c->hold = from->hold;
	m->records[at] = from->e.rec;
	if (from->e.rec.xattrs_len) {
		m->memory[at] = malloc(from->e.rec.xattrs_len);
		if (!m->memory[at])
			return -ENOMEM;
		memcpy(m->memory[at], from->e.rec.xattrs, from->e.rec.xattrs_len);
		m->records[at].xattrs = m->memory[at];
	}
	c->rec = &m->records[at];
	if (from->id.kind == ENTRY_DIR)
		return 0;
	int rc = wb_read(&m->wb->base, &from->id, NOW_NEVER, &v);
	if (rc)
		return rc;
	rc = value_to_blob(&v, m->wb->local->blobs, &c->value);
	m->bytes += v.len;
	value_release(&v);
	return rc;
}

/* Moves what is `tail` below the prefixes. */
static int visit(struct move *m, enum entry_kind kind, const struct tail *tail, bool cut)
{
	struct side a, b = {0};
	int rc = side_load(m, &m->from, kind, tail, cut, &a);

	if (!rc)
		rc = side_load(m, &m->to, kind, tail, cut, &b);
	if (!rc && a.live)
		rc = take_over(m, &a, &b);
	else if (!rc && b.e.exists)
		batch_add(m, &b.id);
	if (!rc && m->exchange && b.live)
		rc = take_over(m, &b, &a);
	else if (!rc && a.e.exists)
		batch_add(m, &a.id);
	wb_entry_release(&a.e);
	wb_entry_release(&b.e);
	/* Others' values that have been listed since it was looked at stay where they are. */
	return rc == -ETIMEDOUT && m->noted ? 0 : rc;
}

/* --- all of them -------------------------------------------------------------------------------- */

/* The first entry of a kind below a prefix, from `at` on. */
static int first_from(struct view *v, const struct entry_id *prefix, enum entry_kind kind,
	const unsigned char *at, size_t len, struct tail *out)
{
	unsigned char bytes[2 * STORE_PREFIX_MAX + 1];
	struct entry_id id;
	struct scan *s;
	int rc = wb_scan_open(v, prefix->ns, kind, &s);

	if (rc)
		return rc;
	memcpy(bytes, prefix->bytes, prefix->len);
	memcpy(bytes + prefix->len, at, len);
	rc = wb_scan_seek(s, bytes, prefix->len + len, &id);
	if (!rc && (id.len < prefix->len || memcmp(id.bytes, prefix->bytes, prefix->len) != 0))
		rc = -ENOENT;
	if (!rc) {
		out->len = (uint16_t)(id.len - prefix->len);
		memcpy(out->bytes, id.bytes + prefix->len, out->len);
	}
	wb_scan_close(s);
	return rc;
}

static int tail_compare(const struct tail *a, const struct tail *b)
{
	size_t both = a->len < b->len ? a->len : b->len;
	int order = memcmp(a->bytes, b->bytes, both);

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* What comes after `at` (NULL: the first of all), on either side. -ENOENT: nothing. */
static int next_tail(const struct move *m, const struct tail *at, struct tail *out)
{
	unsigned char begin[STORE_PREFIX_MAX + 1] = {0};
	size_t len = 0;
	bool found = false;
	struct view *v;
	int rc = wb_view_begin(&m->wb->base, NOW_NEVER, &v);

	if (rc)
		return rc;
	if (at) {
		memcpy(begin, at->bytes, at->len);
		len = at->len + 1u;
	}
	for (int i = 0; i < (m->exchange ? 4 : 2) && !rc; i++) {
		struct tail t;

		rc = first_from(v, i < 2 ? &m->from : &m->to, i % 2 ? ENTRY_DIR : ENTRY_KEY, begin,
			len, &t);
		if (!rc && (!found || tail_compare(&t, out) < 0)) {
			found = true;
			*out = t;
		}
		if (rc == -ENOENT)
			rc = 0;
	}
	wb_view_end(v);
	return rc ? rc : found ? 0 : -ENOENT;
}

/* The directories that a name is in, as far as the one before was not in them; then the key. */
static int visit_all(struct move *m, const struct tail *t)
{
	struct tail dir = *t;
	int rc = 0;

	for (uint16_t i = 0; i < t->len && !rc; i++) {
		if (t->bytes[i] != (unsigned char)m->wb->opt.separator)
			continue;
		dir.len = (uint16_t)(i + 1);
		if (m->at.len < dir.len || memcmp(m->at.bytes, t->bytes, dir.len) != 0)
			rc = visit(m, ENTRY_DIR, &dir, false);
	}
	return rc ? rc : visit(m, ENTRY_KEY, t, false);
}

/* The directories themselves, and the keys of their names. */
static int visit_heads(struct move *m)
{
	static const struct tail none = {0};
	int rc = visit(m, ENTRY_DIR, &none, false);

	m->at.len = 0;
	return rc ? rc : visit(m, ENTRY_KEY, &none, true);
}

/* Fills a batch. 1: that is the last one. Under `book`. */
static int fill(struct move *m)
{
	struct tail t;
	int rc = m->begun ? 0 : visit_heads(m);
	bool first = !m->begun;

	while (!rc && m->n < BATCH_CHANGES && m->bytes < BATCH_BYTES) {
		rc = next_tail(m, first ? NULL : &m->at, &t);
		if (!rc)
			rc = visit_all(m, &t);
		if (!rc)
			m->at = t;
		first = false;
	}
	m->begun = true;
	return rc == -ENOENT ? 1 : rc;
}

static bool fits(const struct move *m, const struct entry_id *prefix, const struct tail *t)
{
	return (size_t)prefix->len + t->len <= STORE_KEY_MAX;
}

/* Whether all that comes after the first batch can be moved. Under `book`. */
static int check_rest(struct move *m)
{
	struct tail t = m->at;
	int rc = 0;

	while (!rc && !(rc = next_tail(m, &t, &t))) {
		struct side a, b = {0};

		rc = side_load(m, &m->from, ENTRY_KEY, &t, false, &a);
		if (!rc && m->exchange)
			rc = side_load(m, &m->to, ENTRY_KEY, &t, false, &b);
		if (!rc && ((a.live && !fits(m, &m->to, &t)) || (b.live && !fits(m, &m->from, &t))))
			rc = -ENAMETOOLONG;
		wb_entry_release(&a.e);
		wb_entry_release(&b.e);
	}
	return rc == -ENOENT ? 0 : rc;
}

/* --- the note ----------------------------------------------------------------------------------- */

static int notes_ns(struct writeback *wb, bool make, uint32_t *number)
{
	const struct store_ops *ops = wb->local->ops;
	int rc = ops->ns_find(wb->local, NOTES, sizeof(NOTES) - 1, number);

	return rc == -ENOENT && make
		? ops->ns_create(wb->local, NOTES, sizeof(NOTES) - 1, NULL, number)
		: rc;
}

static unsigned char *pack_bytes(unsigned char *p, const void *bytes, size_t len)
{
	p = pack_number(p, len, 2);
	memcpy(p, bytes, len);
	return p + len;
}

static bool unpack_bytes(struct unpack *u, void *bytes, size_t cap, uint16_t *len)
{
	uint64_t n = unpack_number(u, 2);

	if (n > cap || n > u->left)
		return false;
	memcpy(bytes, u->p, n);
	u->p += n;
	u->left -= n;
	*len = (uint16_t)n;
	return true;
}

/* Adds the note to the batch, or takes it away with the last one. */
static int add_note(struct move *m, bool last)
{
	unsigned char bytes[NOTE_MAX], *p = pack_number(bytes, NOTE_VERSION, 1);
	struct change *c = &m->changes[m->n];
	uint32_t number;
	int rc = notes_ns(m->wb, true, &number);

	if (rc)
		return rc;
	*c = (struct change){
		.op = CHANGE_REMOVE, .id = wb_key(number, m->from_ns->id, strlen(m->from_ns->id))};
	if (!last) {
		p = pack_number(p, m->exchange, 1);
		p = pack_bytes(p, m->to_ns->id, strlen(m->to_ns->id));
		p = pack_bytes(p, m->from.bytes, m->from.len);
		p = pack_bytes(p, m->to.bytes, m->to.len);
		p = pack_bytes(p, m->at.bytes, m->at.len);
		c->op = CHANGE_PUT;
		rc = blob_new_copy(m->wb->local->blobs, bytes, (size_t)(p - bytes), &c->value);
	}
	m->n++;
	return rc;
}

/* One batch after the other. */
static int run(struct move *m)
{
	bool resumed = m->noted, last = false, journals;
	struct store *local = m->wb->local;
	int rc = 0;

	atomic_fetch_add(&m->wb->moving, 1);
	while (!last && !rc) {
		lock_take(&m->wb->book);
		rc = fill(m);
		last = rc == 1;
		if (rc == 0 && !m->noted)
			rc = check_rest(m);
		if (rc >= 0 && (!last || m->noted))
			rc = add_note(m, last);
		if (rc >= 0)
			rc = wb_apply_group(m->wb, m->changes, m->n, &journals);
		lock_drop(&m->wb->book);
		batch_clear(m);
		m->noted = m->noted || (!rc && !last);
		/* What memory holds of it goes to the disk before there is more. */
		if (!rc)
			rc = local->ops->sync(local, UINT64_MAX);
	}
	atomic_fetch_sub(&m->wb->moving, 1);
	if (rc && m->noted && !resumed)
		log_error("a directory is moved in part: %s; the next mount goes on with it",
			strerror(-rc));
	return rc;
}

int wb_move_tree(struct store *base, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	struct writeback *wb = writeback(base);
	struct move m = {
		.wb = wb,
		.from_ns = wb_ns(wb, from->ns),
		.to_ns = wb_ns(wb, to->ns),
		.from = *from,
		.to = *to,
		.exchange = exchange,
		.now = now,
	};
	int rc = base->readonly ? -EROFS : !m.from_ns || !m.to_ns ? -ENOENT : wb_moves_resume(wb);

	if (!rc)
		rc = move_init(&m);
	if (!rc)
		rc = run(&m);
	wb_note_tree(wb, false);
	wb_upload_expect(wb, wb->opt.upload_delay);
	move_release(&m);
	return rc;
}

/* --- after a crash ------------------------------------------------------------------------------ */

static struct wb_ns *ns_of_id(struct writeback *wb, const void *id, size_t len)
{
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n; i++) {
		struct wb_ns *ns = wb_namespace_at(wb, i);

		if (strlen(ns->id) == len && memcmp(ns->id, id, len) == 0)
			return ns;
	}
	return NULL;
}

static int go_on(struct writeback *wb, struct wb_ns *from_ns, struct unpack *u)
{
	unsigned char id[REMOTE_ID_MAX], from[STORE_PREFIX_MAX], to[STORE_PREFIX_MAX];
	uint16_t id_len, from_len, to_len;
	struct move m = {.wb = wb, .from_ns = from_ns, .begun = true, .noted = true};

	if (unpack_number(u, 1) != NOTE_VERSION)
		return -EBADMSG;
	m.exchange = unpack_number(u, 1) != 0;
	if (!unpack_bytes(u, id, sizeof(id), &id_len) ||
		!unpack_bytes(u, from, sizeof(from), &from_len) ||
		!unpack_bytes(u, to, sizeof(to), &to_len) ||
		!unpack_bytes(u, m.at.bytes, sizeof(m.at.bytes), &m.at.len))
		return -EBADMSG;
	m.to_ns = ns_of_id(wb, id, id_len);
	if (!m.to_ns) /* it is not shown by this mount */
		return 0;
	m.now = INT64_MIN; /* what has expired since has its turn later */
	m.from = (struct entry_id){from_ns->keys, ENTRY_DIR, from_len, from};
	m.to = (struct entry_id){m.to_ns->keys, ENTRY_DIR, to_len, to};
	int rc = move_init(&m);
	if (!rc)
		rc = run(&m);
	move_release(&m);
	return rc;
}

int wb_moves_resume(struct writeback *wb)
{
	unsigned char bytes[NOTE_MAX];
	uint32_t number;
	int rc = wb->base.readonly ? -ENOENT : notes_ns(wb, false, &number);

	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++) {
		struct wb_ns *ns = wb_namespace_at(wb, i);
		struct entry_id id = wb_key(number, ns->id, strlen(ns->id));
		struct value v;

		rc = wb->local->ops->read(wb->local, &id, NOW_NEVER, &v);
		if (rc) {
			rc = rc == -ENOENT ? 0 : rc;
			continue;
		}
		int64_t len = value_read(&v, 0, bytes, sizeof(bytes));
		value_release(&v);
		struct unpack u = {bytes, len > 0 ? (size_t)len : 0};
		log_info("a directory that was being moved when the last mount ended is moved on");
		rc = len < 0 ? (int)len : go_on(wb, ns, &u);
	}
	return rc == -ENOENT ? 0 : rc;
}
