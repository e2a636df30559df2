/*
 * tree.c - move_tree: renaming a directory renames every key below it, in the transaction that also
 * commits what is pending.
 *
 * An entry is moved by reading it, removing it, and writing it under its new name. An exchange
 * walks both subtrees in step, in the order of what follows their prefixes: what is on one side
 * only moves to the other, behind the walk, and what is on both sides changes places.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/lmdb/commit.h"
#include "backends/lmdb/node.h"
#include "backends/lmdb/walk.h"

struct move_job {
	struct job job;
	const struct entry_id *from, *to;
	bool exchange;
	int64_t now;
	struct pending_move_plan *plan;
};

/* An entry taken out of the store. */
struct taken {
	bool recorded;
	struct node_stamp stamp;
	struct record rec;
	unsigned char *xattrs; /* rec's */
	struct blob *value; /* of a key; NULL: there was none, or it has expired */
};

static void taken_release(struct taken *e)
{
	free(e->xattrs);
	blob_unref(e->value);
	*e = (struct taken){0};
}

static int take_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id, int64_t now,
	struct taken *e)
{
	int rc = node_record(st, t, id, &e->stamp, &e->rec);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (record_expired(&e->rec, now) && node_outlived(st, t, id, &e->stamp))
		return 0;
	e->recorded = true;
	if (e->rec.xattrs_len) {
		e->xattrs = malloc(e->rec.xattrs_len);
		if (!e->xattrs)
			return -ENOMEM;
		memcpy(e->xattrs, e->rec.xattrs, e->rec.xattrs_len);
	}
	e->rec.xattrs = e->xattrs;
	return 0;
}

/* Whether the entry has expired: a held one, whose record is not stored yet, as the table says. */
static bool has_expired(
	struct lmdb_store *st, const struct entry_id *id, const struct taken *e, int64_t now)
{
	bool expired = e->recorded && record_expired(&e->rec, now);

	gate_enter(&st->changes, false);
	const struct pending_entry *p = pending_find(st->pending, id);
	if (p && !p->state.removed && p->state.rec_part != PENDING_STORED)
		expired = p->expiry <= now && p->expiry != INT64_MAX;
	gate_leave(&st->changes);
	return expired;
}

/* Reads an entry, and removes it. What is absent, or has expired, leaves *e all zero. */
static int take(struct lmdb_store *st, struct txn *t, const struct entry_id *id, int64_t now,
	struct taken *e)
{
	MDB_val value;
	int rc;

	*e = (struct taken){0};
	rc = take_record(st, t, id, now, e);
	if (rc == 0 && has_expired(st, id, e, now)) {
		taken_release(e);
	} else if (rc == 0 && id->kind == ENTRY_KEY) {
		rc = node_value(st, t, id, &value);
		/* A copy, in a file when it is large: what LMDB shows may move as it writes. */
		if (rc == 0)
			rc = blob_new_copy(st->base.blobs, value.mv_data, value.mv_size, &e->value);
		if (rc == -ENOENT) {
			taken_release(e);
			rc = 0;
		}
	}
	if (rc == 0)
		rc = node_remove(st, t, id);
	if (rc)
		taken_release(e);
	return rc;
}

/* Writes what has been taken under another name. The stamp stays: whether the value was the one
 * that the record was written for does not change. */
static int put_taken(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, const struct taken *e)
{
	struct node_stamp stamp;
	int rc = 0;

	if (e->value)
		rc = node_put_value(st, t, id, e->value, &stamp);
	if (rc == 0 && e->recorded)
		rc = node_put_record(st, t, id, &e->stamp, &e->rec);
	return rc;
}

/* The name that an entry below `from` has below `to`. `bytes` has room for two ids. */
static int new_name(const struct entry_id *id, const struct entry_id *from,
	const struct entry_id *to, struct entry_id *out, unsigned char *bytes)
{
	bool is_base = id->len < from->len;
	size_t cut = is_base ? 1 : 0;
	size_t tail = is_base ? 0 : (size_t)(id->len - from->len);

	if (to->len < cut || (id->kind == ENTRY_KEY && to->len - cut + tail == 0))
		return -EINVAL;
	size_t len = to->len - cut + tail;
	if (len > (id->kind == ENTRY_KEY ? (size_t)STORE_KEY_MAX : (size_t)STORE_PREFIX_MAX))
		return -ENAMETOOLONG;
	if (to->len)
		memcpy(bytes, to->bytes, to->len - cut);
	if (tail)
		memcpy(bytes + to->len - cut, id->bytes + from->len, tail);
	*out = (struct entry_id){to->ns, id->kind, (uint16_t)len, bytes};
	return 0;
}

/* Moves the entry `a` to where it belongs below `to`; with an exchange, what is there comes back.
 */
static int move_one(struct lmdb_store *st, struct txn *t, const struct entry_id *a,
	const struct entry_id *from, const struct entry_id *to, const struct move_job *m)
{
	unsigned char bytes[2 * STORE_PREFIX_MAX];
	struct taken left, right = {0};
	struct entry_id b;
	int rc = take(st, t, a, m->now, &left);

	if (rc)
		return rc;
	if (!left.recorded && !left.value && !m->exchange)
		return 0;
	rc = new_name(a, from, to, &b, bytes);
	/* What nobody sees keeps no one from renaming; and nothing can be there to be exchanged for it. */
	bool unseen = !left.recorded && !left.value;
	if (a->kind == ENTRY_DIR && left.recorded)
		unseen = !(left.rec.flags & RECORD_MADE);
	if (rc == -ENAMETOOLONG && unseen) {
		taken_release(&left);
		return 0;
	}
	if (rc == 0 && m->exchange)
		rc = take(st, t, &b, m->now, &right);
	if (rc == 0)
		rc = put_taken(st, t, &b, &left);
	if (rc == 0)
		rc = put_taken(st, t, a, &right);
	taken_release(&right);
	taken_release(&left);
	return rc;
}

/* The key that is a prefix less its last byte. */
static bool base_key(const struct entry_id *prefix, struct entry_id *key)
{
	*key = *prefix;
	key->kind = ENTRY_KEY;
	key->len = prefix->len ? (uint16_t)(prefix->len - 1) : 0;
	return key->len > 0;
}

/* The first stored entry whose bytes are the prefix and then at least `tail`; *out is what follows
 * the prefix. */
static int seek_below(struct lmdb_store *st, struct txn *t, const struct entry_id *prefix,
	enum entry_kind kind, const struct walk_entry *tail, struct walk_entry *out)
{
	struct ns *ns = ns_get(&st->namespaces, prefix->ns);
	struct walk_entry e;

	if (prefix->len + tail->len > sizeof(e.bytes))
		return -ENOENT; /* no name is that long */
	if (prefix->len)
		memcpy(e.bytes, prefix->bytes, prefix->len);
	memcpy(e.bytes + prefix->len, tail->bytes, tail->len);
	e.len = prefix->len + tail->len;
	int rc = walk_seek(t, ns, kind, e.bytes, e.len, &e);
	if (rc)
		return rc;
	if (e.len < prefix->len ||
		(prefix->len && memcmp(e.bytes, prefix->bytes, prefix->len) != 0))
		return -ENOENT;
	out->len = e.len - prefix->len;
	memcpy(out->bytes, e.bytes + prefix->len, out->len);
	return 0;
}

static struct entry_id below(const struct entry_id *prefix, enum entry_kind kind,
	const struct walk_entry *tail, unsigned char *bytes)
{
	if (prefix->len)
		memcpy(bytes, prefix->bytes, prefix->len);
	memcpy(bytes + prefix->len, tail->bytes, tail->len);
	return (struct entry_id){prefix->ns, kind, (uint16_t)(prefix->len + tail->len), bytes};
}

static int remove_tree(struct lmdb_store *st, struct txn *t, const struct entry_id *prefix)
{
	unsigned char bytes[2 * STORE_PREFIX_MAX];
	struct entry_id id;
	int rc = base_key(prefix, &id) ? node_remove(st, t, &id) : 0;

	for (int kind = ENTRY_KEY; kind <= ENTRY_DIR && rc == 0; kind++) {
		struct walk_entry tail = {.len = 0};

		while (rc == 0) {
			rc = seek_below(st, t, prefix, (enum entry_kind)kind, &tail, &tail);
			if (rc)
				break;
			id = below(prefix, (enum entry_kind)kind, &tail, bytes);
			rc = node_remove(st, t, &id);
			walk_after(&tail);
		}
		if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}

static int tail_compare(const struct walk_entry *a, const struct walk_entry *b)
{
	size_t common = a->len < b->len ? a->len : b->len;
	int order = memcmp(a->bytes, b->bytes, common);

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* Moves everything of one kind; with an exchange, in both directions. */
static int move_kind(
	struct lmdb_store *st, struct txn *t, const struct move_job *m, enum entry_kind kind)
{
	unsigned char bytes[2 * STORE_PREFIX_MAX];
	struct walk_entry pos = {.len = 0}, a, b;

	for (;;) {
		int in_from = seek_below(st, t, m->from, kind, &pos, &a);
		int in_to = m->exchange ? seek_below(st, t, m->to, kind, &pos, &b) : -ENOENT;

		if ((in_from && in_from != -ENOENT) || (in_to && in_to != -ENOENT))
			return in_from && in_from != -ENOENT ? in_from : in_to;
		if (in_from && in_to)
			return 0;
		bool forth = in_from == 0 && (in_to || tail_compare(&a, &b) <= 0);
		const struct entry_id *from = forth ? m->from : m->to,
				      *to = forth ? m->to : m->from;
		struct entry_id id = below(from, kind, forth ? &a : &b, bytes);
		int rc = move_one(st, t, &id, from, to, m);
		if (rc)
			return rc;
		pos = forth ? a : b;
		walk_after(&pos);
	}
}

/* The keys that bear the directories' names. */
static int move_base(struct lmdb_store *st, struct txn *t, const struct move_job *m)
{
	struct entry_id key;
	MDB_val value;

	if (base_key(m->from, &key) && node_value(st, t, &key, &value) == 0)
		return move_one(st, t, &key, m->from, m->to, m);
	if (m->exchange && base_key(m->to, &key) && node_value(st, t, &key, &value) == 0)
		return move_one(st, t, &key, m->to, m->from, m);
	return 0;
}

static int move_run(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct move_job *m = (struct move_job *)job;
	struct ns *from = ns_get(&st->namespaces, m->from->ns);
	struct ns *to = ns_get(&st->namespaces, m->to->ns);
	MDB_dbi dbi;
	int rc = ns_write_handle(t, from, &dbi);

	if (rc == 0)
		rc = ns_write_handle(t, to, &dbi);
	if (rc == -ESTALE)
		return -ENOENT;
	if (rc == 0 && !m->exchange)
		rc = remove_tree(st, t, m->to);
	if (rc == 0)
		rc = move_base(st, t, m);
	if (rc == 0)
		rc = move_kind(st, t, m, ENTRY_KEY);
	if (rc == 0)
		rc = move_kind(st, t, m, ENTRY_DIR);
	return rc;
}

static int move_seal(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct move_job *m = (struct move_job *)job;

	return pending_move_check(st->pending, m->from, m->to, m->exchange, m->now, &m->plan);
}

static void move_landed(struct lmdb_store *st, struct job *job)
{
	struct move_job *m = (struct move_job *)job;

	pending_move(st->pending, m->plan);
	m->plan = NULL;
}

static void move_undone(struct lmdb_store *st, struct job *job)
{
	struct move_job *m = (struct move_job *)job;

	pending_move_cancel(m->plan);
	m->plan = NULL;
}

static bool begins_with(const struct entry_id *id, const struct entry_id *prefix)
{
	return id->len >= prefix->len &&
		(prefix->len == 0 || memcmp(id->bytes, prefix->bytes, prefix->len) == 0);
}

int lmdb_move_tree(struct store *base, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	struct lmdb_store *st = lmdb_store(base);
	struct ns *from_ns = ns_get(&st->namespaces, from->ns);
	struct ns *to_ns = ns_get(&st->namespaces, to->ns);
	struct move_job m = {
		.job = {.run = move_run,
			.seal = move_seal,
			.landed = move_landed,
			.undone = move_undone},
		.from = from,
		.to = to,
		.exchange = exchange,
		.now = now,
	};

	if (st->base.readonly)
		return -EROFS;
	if (!from_ns || !atomic_load(&from_ns->dbi) || !to_ns || !atomic_load(&to_ns->dbi))
		return -ENOENT;
	if (from->ns == to->ns && (begins_with(from, to) || begins_with(to, from)))
		return -EINVAL;
	if (from->len > STORE_PREFIX_MAX || to->len > STORE_PREFIX_MAX)
		return -ENAMETOOLONG;
	return commit_job(st, &m.job);
}
