/*
 * view.c - views, looking up, reading values.
 */
#include "backends/lmdb/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/lmdb/commit.h"

struct view_chunk {
	struct view_chunk *next;
	max_align_t data[];
};

int snapshot_begin(struct lmdb_store *st, const struct nesting *n, struct txn *t)
{
	for (;;) {
		gate_enter(&st->changes, nesting_in_changes(n));
		int rc = env_read_begin(&st->env, nesting_in_map(n), t);
		if (rc == 0)
			return 0;
		gate_leave(&st->changes);
		if (rc != ENV_REMAP)
			return rc;
		/* While we hold another one we cannot wait until there is none. */
		rc = nesting_in_map(n) ? -EAGAIN : env_adopt_size(&st->env);
		if (rc)
			return rc;
	}
}

/* Only kvfs writes kvfs:expiry, and while we may write nobody else's kvfs does. */
static int64_t snapshot_first_expiry(struct lmdb_store *st, struct txn *t)
{
	return st->base.readonly ? expiry_first(t) : atomic_load(&st->first_expiry);
}

int lmdb_view_begin(struct store *base, int64_t now, struct view **out)
{
	struct lmdb_store *st = lmdb_store(base);
	struct view *v = calloc(1, sizeof(*v));
	int rc = -ENOMEM;

	if (!v)
		return rc;
	v->st = st;
	v->now = now;
	v->nesting = nesting_get(st);
	if (v->nesting)
		rc = snapshot_begin(st, v->nesting, &v->txn);
	if (rc) {
		free(v);
		return rc;
	}
	nesting_enter(v->nesting, NESTING_VIEW);
	v->first_expiry = snapshot_first_expiry(st, &v->txn);
	*out = v;
	return 0;
}

void lmdb_view_end(struct view *v)
{
	struct lmdb_store *st = v->st;

	if (v->expiring)
		mdb_cursor_close(v->expiring);
	nesting_leave(v->nesting, NESTING_VIEW);
	env_read_end(&v->txn);
	gate_leave(&st->changes);
	while (v->chunks) {
		struct view_chunk *next = v->chunks->next;

		free(v->chunks);
		v->chunks = next;
	}
	free(v);
}

void *view_alloc(struct view *v, size_t len)
{
	struct view_chunk *c = malloc(sizeof(*c) + len);

	if (!c)
		return NULL;
	c->next = v->chunks;
	v->chunks = c;
	return c->data;
}

bool view_has_expired(const struct view *v)
{
	const struct pending_entry *e = pending_first_expiring(v->st->pending);

	return (v->first_expiry != INT64_MAX && v->first_expiry <= v->now) ||
		(e && e->expiry <= v->now);
}

/* What a look-up has found out so far. */
struct found {
	const struct pending_entry *e;
	struct record rec;
	bool recorded, rec_stored;
	struct node_stamp stamp;
	bool value_stored;
	MDB_val value; /* where value_stored */
	uint64_t size;
};

static int find_record(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, struct found *f)
{
	if (f->e && f->e->state.rec_part == PENDING_NONE)
		return 0;
	if (f->e && f->e->state.rec_part == PENDING_OWN) {
		f->rec = *pending_record(&f->e->state);
		f->recorded = true;
		return 0;
	}
	int rc = node_record(st, t, id, &f->stamp, &f->rec);
	f->recorded = f->rec_stored = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

static int find_value(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, struct found *f)
{
	if (f->e && f->e->state.value_part != PENDING_STORED) {
		f->size = f->e->state.value ? blob_size(f->e->state.value) : 0;
		return 0;
	}
	int rc = node_value(st, t, id, &f->value);
	f->value_stored = rc == 0;
	if (rc == 0)
		f->size = f->value.mv_size;
	else if (rc == -ENOENT && f->e && f->e->held)
		rc = 0; /* it is shown before it has a value */
	return rc;
}

static bool is_of_another(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, const struct found *f)
{
	return f->rec_stored && !f->e && node_outlived(st, t, id, &f->stamp);
}

static int find(struct lmdb_store *st, struct txn *t, const struct entry_id *id, int64_t now,
	struct found *f)
{
	*f = (struct found){.e = pending_find(st->pending, id)};
	if (f->e && f->e->state.removed)
		return -ENOENT;
	int rc = find_record(st, t, id, f);
	if (rc)
		return rc;
	if (f->recorded && record_expired(&f->rec, now)) {
		if (!is_of_another(st, t, id, f))
			return -ENOENT;
		f->recorded = f->rec_stored = false;
	}
	if (id->kind == ENTRY_DIR)
		return f->recorded ? 0 : -ENOENT;
	return find_value(st, t, id, f);
}

int lmdb_view_get(struct view *v, const struct entry_id *id, struct entry *out)
{
	struct found f;
	int rc = find(v->st, &v->txn, id, v->now, &f);

	if (rc)
		return rc;
	atomic_fetch_add_explicit(&v->st->reads, 1, memory_order_relaxed);
	*out = (struct entry){
		.size = f.size,
		.unrecorded = !f.recorded,
		.touched = f.rec_stored && f.value_stored &&
			node_touched(v->st, &v->txn, id, &f.stamp, &f.value),
		.pending = f.e != NULL,
		.failed = f.e && f.e->error ? commit_why(f.e->error) : NULL,
	};
	if (f.recorded)
		out->rec = f.rec;
	return 0;
}

bool view_is_live(struct view *v, const struct entry_id *id, const struct pending_entry *e)
{
	struct found f = {.e = e};

	if (e && e->state.removed)
		return false;
	if (find_record(v->st, &v->txn, id, &f))
		return false;
	if (f.recorded && record_expired(&f.rec, v->now))
		return is_of_another(v->st, &v->txn, id, &f);
	return id->kind == ENTRY_DIR ? f.recorded : find_value(v->st, &v->txn, id, &f) == 0;
}

/* What keeps the snapshot that a value points into. */
struct held_txn {
	struct txn txn;
	struct nesting *nesting;
};

static void release_txn(void *arg)
{
	struct held_txn *held = arg;

	nesting_leave(held->nesting, NESTING_VALUE);
	env_read_end(&held->txn);
	free(held);
}

static int value_from_map(struct txn *t, struct nesting *n, const MDB_val *data, struct value *out)
{
	struct held_txn *held = malloc(sizeof(*held));

	if (!held)
		return -ENOMEM;
	*held = (struct held_txn){*t, n};
	nesting_enter(n, NESTING_VALUE);
	*out = (struct value){
		.data = data->mv_data, .len = data->mv_size, .release = release_txn, .arg = held};
	return 0;
}

int lmdb_read(struct store *base, const struct entry_id *id, int64_t now, struct value *out)
{
	struct lmdb_store *st = lmdb_store(base);
	struct nesting *nesting = nesting_get(st);
	struct txn t;
	struct found f;
	bool keep_txn = false;

	if (!nesting)
		return -ENOMEM;
	if (id->kind != ENTRY_KEY)
		return -ENOENT;
	int rc = snapshot_begin(st, nesting, &t);
	if (rc)
		return rc;
	rc = find(st, &t, id, now, &f);
	if (rc)
		goto out;
	if (f.value_stored && f.size) {
		rc = value_from_map(&t, nesting, &f.value, out);
		keep_txn = rc == 0;
	} else if (!f.value_stored && f.size) {
		value_from_blob(f.e->state.value, out);
	} else {
		*out = (struct value){0};
	}
	if (rc == 0)
		atomic_fetch_add_explicit(&st->reads, 1, memory_order_relaxed);
out:
	gate_leave(&st->changes);
	if (!keep_txn)
		env_read_end(&t);
	return rc;
}

int lmdb_stamp(struct store *base, const struct entry_id *id, struct value_stamp *out)
{
	struct lmdb_store *st = lmdb_store(base);
	struct nesting *nesting = nesting_get(st);
	struct txn t;
	MDB_val value;

	if (!nesting)
		return -ENOMEM;
	int rc = id->kind == ENTRY_KEY ? snapshot_begin(st, nesting, &t) : -ENOENT;
	if (rc)
		return rc;
	const struct pending_entry *e = pending_find(st->pending, id);
	if (e && (e->state.removed || e->state.value_part != PENDING_STORED))
		rc = -ENOENT;
	gate_leave(&st->changes);
	if (rc == 0)
		rc = node_value(st, &t, id, &value);
	if (rc == 0) {
		struct node_stamp stamp = node_stamp_of(&t, &value);

		*out = (struct value_stamp){stamp.size, stamp.hash, stamp.txn};
	}
	env_read_end(&t);
	return rc;
}
