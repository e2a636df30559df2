/*
 * scan.c - walking a namespace: three ordered sources merged. What is stored under short names,
 * what is stored under names too long for LMDB, and the table of changes, which decides for the ids
 * it has.
 *
 * Each source stands at its first entry at or after the last position asked for. Seeking forward by
 * little moves a cursor by one entry, which is a few instructions; only if that was not enough does
 * it descend from the root.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/log.h"
#include "backends/lmdb/view.h"

enum { FROM_MAX = STORE_PREFIX_MAX + 1 }; /* longer than any id: the bytes of one and a zero */

struct source {
	bool valid; /* stands at an entry */
	const unsigned char *bytes;
	size_t len;
};

struct scan {
	struct view *view;
	struct ns *ns;
	uint32_t ns_number;
	enum entry_kind kind;
	bool check_expiry;
	bool started;
	size_t from_len; /* what the sources stand at or after */
	unsigned char from[FROM_MAX];
	MDB_cursor *cursor; /* NULL: nothing stored */
	MDB_val value; /* of `stored` */
	struct source stored, longs, pending;
	struct recordwalk records; /* for lmdb_scan_get() */
	struct longwalk walk;
	const struct pending_entry *entry; /* of `pending` */
};

static int compare(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len)
{
	size_t common = a_len < b_len ? a_len : b_len;
	int order = common ? memcmp(a, b, common) : 0;

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static bool at_or_after(const struct source *s, const unsigned char *from, size_t len)
{
	return compare(s->bytes, s->len, from, len) >= 0;
}

int lmdb_scan_open(struct view *v, uint32_t ns_number, enum entry_kind kind, struct scan **out)
{
	struct ns *ns = ns_get(&v->st->namespaces, ns_number);
	struct scan *s = ns ? calloc(1, sizeof(*s)) : NULL;

	if (!s)
		return ns ? -ENOMEM : -ENOENT;
	s->view = v;
	s->ns = ns;
	s->ns_number = ns_number;
	s->kind = kind;
	s->check_expiry = view_has_expired(v);
	MDB_dbi dbi = kind == ENTRY_KEY ? atomic_load(&ns->dbi) : v->txn.own[OWN_NODES];
	int rc = txn_cursor(&v->txn, dbi, &s->cursor);
	if (rc == 0 || rc == -ENOENT)
		rc = longwalk_open(&s->walk, &v->txn, ns, kind);
	if (rc) {
		if (s->cursor)
			mdb_cursor_close(s->cursor);
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void lmdb_scan_close(struct scan *s)
{
	recordwalk_close(&s->records);
	longwalk_close(&s->walk);
	if (s->cursor)
		mdb_cursor_close(s->cursor);
	free(s);
}

/* Sets the source to what the cursor has found; for DIR as far as it is one of ours. */
static int stored_take(struct scan *s, int rc, MDB_val *key)
{
	unsigned char prefix[NODEKEY_PREFIX];
	struct source *src = &s->stored;

	src->valid = false;
	while (rc == 0 && key->mv_size > ENV_KEY_MAX) {
		if (s->kind == ENTRY_KEY)
			ns_note_long_key(s->ns, s->view->txn.env);
		rc = mdb_cursor_get(s->cursor, key, &s->value, MDB_NEXT);
	}
	if (rc)
		return rc == MDB_NOTFOUND ? 0 : env_error(s->view->txn.env, rc, "listing");
	src->bytes = key->mv_data;
	src->len = key->mv_size;
	src->valid = true;
	if (s->kind == ENTRY_KEY)
		return 0;
	nodekey_prefix(atomic_load(&s->ns->id), s->kind, prefix);
	src->valid = src->len >= NODEKEY_PREFIX && memcmp(src->bytes, prefix, NODEKEY_PREFIX) == 0;
	src->bytes += NODEKEY_PREFIX;
	src->len -= NODEKEY_PREFIX;
	return 0;
}

static int stored_seek(struct scan *s, const unsigned char *from, size_t len, bool forward)
{
	unsigned char packed[NODEKEY_PREFIX + FROM_MAX];
	MDB_val key;
	int rc;

	if (!s->cursor || (s->kind == ENTRY_DIR && !atomic_load(&s->ns->id)))
		return 0;
	if (forward) {
		/* Nothing came after where it stood before. */
		if (!s->stored.valid || at_or_after(&s->stored, from, len))
			return 0;
		rc = mdb_cursor_get(s->cursor, &key, &s->value, MDB_NEXT);
		rc = stored_take(s, rc, &key);
		if (rc || !s->stored.valid || at_or_after(&s->stored, from, len))
			return rc;
	}
	key = (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)from};
	if (s->kind == ENTRY_DIR) {
		nodekey_prefix(atomic_load(&s->ns->id), s->kind, packed);
		if (len)
			memcpy(packed + NODEKEY_PREFIX, from, len);
		key = (MDB_val){.mv_size = NODEKEY_PREFIX + len, .mv_data = packed};
	}
	rc = mdb_cursor_get(s->cursor, &key, &s->value, key.mv_size ? MDB_SET_RANGE : MDB_FIRST);
	return stored_take(s, rc, &key);
}

static int long_seek(struct scan *s, const unsigned char *from, size_t len, bool forward)
{
	if (forward && (!s->longs.valid || at_or_after(&s->longs, from, len)))
		return 0;
	int rc = longwalk_seek(&s->walk, from, len);
	s->longs = (struct source){.valid = rc == 0, .bytes = s->walk.bytes, .len = s->walk.len};
	return rc == -ENOENT ? 0 : rc;
}

static void pending_move_to(struct scan *s, const unsigned char *from, size_t len, bool forward)
{
	if (forward && (!s->entry || at_or_after(&s->pending, from, len)))
		return;
	if (forward)
		s->entry = pending_next(s->entry);
	if (!forward || (s->entry && compare(s->entry->id.bytes, s->entry->id.len, from, len) < 0))
		s->entry = pending_seek(s->view->st->pending,
			&(struct entry_id){s->ns_number, s->kind, (uint16_t)len, from});
	s->pending = (struct source){.valid = s->entry != NULL};
	if (s->entry) {
		s->pending.bytes = s->entry->id.bytes;
		s->pending.len = s->entry->id.len;
	}
}

static int sources_seek(struct scan *s, const unsigned char *from, size_t len)
{
	bool forward = s->started && compare(from, len, s->from, s->from_len) >= 0;

	s->started = false; /* until it has gone well */
	int rc = stored_seek(s, from, len, forward);
	if (rc == 0)
		rc = long_seek(s, from, len, forward);
	if (rc)
		return rc;
	pending_move_to(s, from, len, forward);
	if (len)
		memmove(s->from, from, len);
	s->from_len = len;
	s->started = true;
	return 0;
}

/* Whether the entry is to be shown. */
static bool shown(struct scan *s, const struct entry_id *id, const struct pending_entry *e)
{
	struct view *v = s->view;
	struct node_stamp stamp;
	struct record rec;

	if (e && e->state.removed)
		return false;
	if (s->kind == ENTRY_KEY) {
		bool sure = !e || e->held || e->state.value_part != PENDING_STORED;

		return sure && !s->check_expiry ? true : view_is_live(v, id, e);
	}
	if (e && e->state.rec_part == PENDING_OWN)
		rec = *pending_record(&e->state);
	else if (node_record(v->st, &v->txn, id, &stamp, &rec))
		return false;
	return (rec.flags & RECORD_MADE) && !record_expired(&rec, v->now);
}

static const struct source *first_source(const struct scan *s)
{
	const struct source *first = NULL;
	const struct source *all[] = {&s->pending, &s->stored, &s->longs};

	for (size_t i = 0; i < 3; i++) {
		if (all[i]->valid &&
			(!first ||
				compare(all[i]->bytes, all[i]->len, first->bytes, first->len) < 0))
			first = all[i];
	}
	return first;
}

/* Then one could look for the next one for ever. */
static int out_of_order(const struct scan *s)
{
	log_error("%s: the keys of a database are not in order; dump it with mdb_dump and load it "
		  "into "
		  "a new one",
		s->view->txn.env->dir);
	return -EIO;
}

/* Whether nothing but what is stored under short names can come next, so that a step from one entry to
 * the next is a step of the cursor. */
static bool is_plain(const struct scan *s)
{
	return s->kind == ENTRY_KEY && !s->check_expiry && s->started && s->stored.valid &&
		!s->longs.valid && !s->entry;
}

/* The entry after the one that was found last, if that is what is asked for: 1; 0: it is not. */
static int step(struct scan *s, const unsigned char *from, size_t len)
{
	MDB_val key;

	if (!is_plain(s) || len != s->stored.len + 1 || from[len - 1] != '\0' ||
		memcmp(from, s->stored.bytes, len - 1) != 0)
		return 0;
	memcpy(s->from, from, len);
	s->from_len = len;
	int rc = mdb_cursor_get(s->cursor, &key, &s->value, MDB_NEXT);
	rc = stored_take(s, rc, &key);
	s->started = rc == 0;
	return rc ? rc : 1;
}

/* Whether the same is asked for again. */
static bool is_again(const struct scan *s, const unsigned char *from, size_t len)
{
	return s->started && len == s->from_len && memcmp(from, s->from, len) == 0;
}

int lmdb_scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found)
{
	unsigned char next[FROM_MAX];

	/* No id is longer: what is cut off here only says "after that one". A copy, since `from`
	 * may be what the last call found. */
	if (len > FROM_MAX)
		len = FROM_MAX;
	int rc = is_again(s, from, len) ? 1 : step(s, from, len);
	if (rc == 0) {
		if (len)
			memcpy(next, from, len);
		rc = sources_seek(s, next, len);
	} else if (rc == 1) {
		rc = 0;
	}
	while (rc == 0) {
		const struct source *first = first_source(s);

		if (!first)
			return -ENOENT;
		if (!at_or_after(first, s->from, s->from_len))
			return out_of_order(s);
		struct entry_id id = {s->ns_number, s->kind, (uint16_t)first->len, first->bytes};
		if (shown(s, &id, first == &s->pending ? s->entry : NULL)) {
			*found = id;
			return 0;
		}
		memcpy(next, first->bytes, first->len);
		next[first->len] = 0;
		rc = sources_seek(s, next, first->len + 1);
	}
	return rc;
}

/* What is stored of a key that the table of changes does not know and that has a short name. */
static int stored_get(struct scan *s, const struct entry_id *id, bool brief, struct entry *out)
{
	struct view *v = s->view;
	struct node_stamp stamp;

	brief = brief && !s->check_expiry;
	int rc = recordwalk_get(
		&s->records, v->st, &v->txn, s->ns, id, brief ? NULL : &stamp, &out->rec);
	if (rc && rc != -ENOENT)
		return rc;
	out->unrecorded = rc != 0;
	if (brief)
		return 0;
	if (!rc && record_expired(&out->rec, v->now)) /* and yet it was found: it is another's */
		return lmdb_view_get(v, id, out);
	*out = (struct entry){
		.size = s->value.mv_size,
		.unrecorded = rc != 0,
		.rec = rc ? (struct record){0} : out->rec,
		.touched = !rc && node_touched(v->st, &v->txn, id, &stamp, &s->value),
	};
	atomic_fetch_add_explicit(&v->st->reads, 1, memory_order_relaxed);
	return 0;
}

int lmdb_scan_get(struct scan *s, const struct entry_id *found, bool brief, struct entry *out)
{
	const struct source *first = first_source(s);

	if (first == &s->stored && s->kind == ENTRY_KEY && found->len <= NODEKEY_SHORT_MAX)
		return stored_get(s, found, brief, out);
	return lmdb_view_get(s->view, found, out);
}
