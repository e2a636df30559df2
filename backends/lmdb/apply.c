/*
 * apply.c - accepting changes: checks, room on the medium, the table.
 */
#include <errno.h>
#include <string.h>

#include "backends/lmdb/commit.h"
#include "backends/lmdb/node.h"

static int change_check(struct lmdb_store *st, const struct change *c)
{
	const struct entry_id *id = &c->id;
	struct ns *ns = ns_get(&st->namespaces, id->ns);

	if (!ns || (id->ns == 0 && id->kind == ENTRY_KEY))
		return -ENOENT;
	/* What is left of a namespace that another program has dropped can be removed. */
	if (id->ns && c->op != CHANGE_REMOVE && !atomic_load(&ns->dbi))
		return -ENOENT;
	if (id->kind == ENTRY_KEY && id->len == 0)
		return -EINVAL;
	if (id->len > (id->kind == ENTRY_KEY ? (int)STORE_KEY_MAX : (int)STORE_PREFIX_MAX))
		return -ENAMETOOLONG;
	if (c->op == CHANGE_REMOVE)
		return 0;
	if (id->kind == ENTRY_DIR && (c->value || c->hold))
		return -EINVAL;
	return c->value && blob_size(c->value) > VALUE_MAX ? -EFBIG : 0;
}

static bool same_id(const struct entry_id *a, const struct entry_id *b)
{
	return a->ns == b->ns && a->kind == b->kind && a->len == b->len &&
		(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Whether a PUT keeps something that must be there. */
static bool needs_base(const struct change *c)
{
	if (c->op == CHANGE_REMOVE || c->value || c->hold)
		return false;
	return c->id.kind == ENTRY_KEY || !c->rec;
}

/* Whether an entry is there to keep something of: put earlier in the group, in the table, or
 * stored. With `changes` held alone. */
static int find_base(struct lmdb_store *st, struct txn *t, const struct change *changes, size_t i)
{
	const struct entry_id *id = &changes[i].id;
	struct node_stamp stamp;
	struct record rec;
	MDB_val value;

	for (size_t k = i; k-- > 0;) {
		if (same_id(&changes[k].id, id))
			return changes[k].op == CHANGE_PUT ? 0 : -ENOENT;
	}
	const struct pending_entry *e = pending_find(st->pending, id);
	if (e)
		return e->state.removed ? -ENOENT : 0;
	return id->kind == ENTRY_KEY ? node_value(st, t, id, &value)
				     : node_record(st, t, id, &stamp, &rec);
}

static int check_bases(struct lmdb_store *st, bool nested, const struct change *changes, size_t n)
{
	struct txn t;
	bool reading = false;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!needs_base(&changes[i]))
			continue;
		if (!reading) {
			rc = env_read_begin(&st->env, nested, &t);
			reading = rc == 0;
		}
		if (rc == 0)
			rc = find_base(st, &t, changes, i);
	}
	if (reading)
		env_read_end(&t);
	return rc;
}

/* The error that is to stop more changes, while what is there cannot be made durable. */
static int refusal(struct lmdb_store *st)
{
	int error = atomic_load(&st->commit_error);

	if (error == -ENOSPC || error == -EDQUOT ||
		pending_totals(st->pending)->weight > st->pending_max / 2)
		return error;
	return 0;
}

void pending_publish(struct lmdb_store *st)
{
	const struct pending_totals *t = pending_totals(st->pending);

	atomic_store(&st->pending_count, t->count);
	atomic_store(&st->pending_weight, t->weight);
	atomic_store(&st->pending_bytes, t->bytes);
}

/* With `changes` held alone. `more`: what the group adds, all zero where it only removes. */
static int apply_locked(struct lmdb_store *st, bool nested, const struct change *changes, size_t n,
	const struct pending_totals *more, uint64_t *seq)
{
	int rc = more->count ? refusal(st) : 0;

	if (rc == 0 && more->count &&
		!space_admits(&st->space, &st->env, nested, pending_totals(st->pending), more))
		rc = -ENOSPC;
	if (rc == 0)
		rc = check_bases(st, nested, changes, n);
	if (rc == 0)
		rc = pending_apply(st->pending, changes, n, st->seq + 1,
			bases_now(&st->bases, &st->env, nested));
	if (rc)
		return rc;
	*seq = ++st->seq;
	pending_publish(st);
	return 0;
}

int lmdb_apply(struct store *base, const struct change *changes, size_t n, uint64_t *out_seq)
{
	struct lmdb_store *st = lmdb_store(base);
	struct nesting *nesting = nesting_get(st);
	struct pending_totals more = {0};
	bool counted = false;
	uint64_t seq = 0;
	int rc = st->base.readonly ? -EROFS : nesting ? 0 : -ENOMEM;
	bool nested = rc == 0 && nesting_in_map(nesting); /* the thread may hold a value */
	bool removes = false; /* a group that removes is accepted, with what belongs to it */

	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = change_check(st, &changes[i]);
		if (changes[i].op == CHANGE_PUT)
			space_add_change(&changes[i], &more);
		else if (!changes[i].value)
			removes = true;
	}
	for (size_t i = 0; i < n; i++)
		removes = removes && (changes[i].op == CHANGE_REMOVE || !changes[i].value);
	if (removes)
		more = (struct pending_totals){0};
	while (rc == 0) {
		gate_close(&st->changes);
		rc = apply_locked(st, nested, changes, n, &more, &seq);
		gate_open(&st->changes);
		if (rc == ENV_REMAP) {
			rc = nested ? -EAGAIN : env_adopt_size(&st->env);
		} else if (rc == -ENOSPC && !counted) {
			counted = true;
			rc = space_count_reusable(&st->space, &st->env, nested);
		} else {
			break;
		}
	}
	if (rc)
		return rc;
	atomic_fetch_add_explicit(&st->writes, n, memory_order_relaxed);
	committer_notify(st, seq);
	if (out_seq)
		*out_seq = seq;
	return 0;
}

static bool admits(struct lmdb_store *st, const struct pending_totals *more)
{
	gate_enter(&st->changes, false);
	struct pending_totals now = *pending_totals(st->pending);
	gate_leave(&st->changes);
	return space_admits(&st->space, &st->env, false, &now, more);
}

/* A commit that only moves time on: pages that the last one freed can be used after it. */
static int job_nothing(struct lmdb_store *st, struct txn *t, struct job *job)
{
	return 0;
}

int lmdb_throttle(struct store *base, uint64_t bytes)
{
	struct lmdb_store *st = lmdb_store(base);
	/* More than the value will come with it: records, the removal of what it replaces. */
	struct pending_totals more = {.count = 4, .small = 4096};

	if (st->base.readonly)
		return -EROFS;
	if (bytes > VALUE_MAX)
		return -EFBIG;
	if (atomic_load(&st->pending_weight) > st->pending_max) {
		int rc = committer_drain(st, st->pending_max);

		if (rc)
			return rc;
	}
	pending_add_value(&more, bytes);
	if (admits(st, &more))
		return 0;
	/* For this one alone, then, and with the pages that are free inside the file. */
	committer_drain(st, 0);
	if (admits(st, &more))
		return 0;
	for (int round = 0; round < 2; round++) {
		int rc = space_count_reusable(&st->space, &st->env, false);

		if (rc && rc != ENV_REMAP)
			return rc;
		if (admits(st, &more))
			return 0;
		if (!space_more_soon(&st->space))
			break;
		struct job nothing = {.run = job_nothing};
		commit_job(st, &nothing);
	}
	return -ENOSPC;
}
