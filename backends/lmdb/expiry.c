/*
 * expiry.c - what has expired, and what expires next: kvfs:expiry merged with the table of changes,
 * which decides for the entries whose record it has.
 */
#include <errno.h>
#include <string.h>

#include "backends/lmdb/view.h"

/* Reads the id that the cursor stands at. -ENOENT: of a namespace that is not known. */
static int index_id(struct view *v, const MDB_val *name, struct entry_id *id,
	unsigned char bytes[STORE_PREFIX_MAX])
{
	enum entry_kind kind;
	uint32_t ns_id;
	size_t len;
	int rc = nodekey_parse(&v->txn, name, &ns_id, &kind, bytes, &len);

	if (rc)
		return rc;
	struct ns *ns = ns_by_id(&v->st->namespaces, ns_id);
	if (!ns)
		return -ENOENT;
	*id = (struct entry_id){ns->number, kind, (uint16_t)len, bytes};
	return 0;
}

static bool overridden(const struct view *v, const struct entry_id *id)
{
	const struct pending_entry *e = pending_find(v->st->pending, id);

	return e && (e->state.removed || e->state.rec_part != PENDING_STORED);
}

/* Whether the record of an entry in the order of expiry is what that says. */
static bool confirmed(struct view *v, const struct entry_id *id, const MDB_val *key)
{
	struct node_stamp stamp;
	struct record rec;
	unsigned char at[8];

	if (node_record(v->st, &v->txn, id, &stamp, &rec))
		return false;
	expiry_key(record_expiry_ns(&rec), at);
	return key->mv_size == sizeof(at) && memcmp(at, key->mv_data, sizeof(at)) == 0;
}

/* What is never confirmed stays in the way of every look for what has expired. */
static void note_unconfirmed(struct view *v)
{
	atomic_store_explicit(&v->st->orphans.unconfirmed, true, memory_order_relaxed);
}

/* Moves the cursor on to the next entry that counts; `op` MDB_FIRST or MDB_NEXT. */
static int index_step(struct view *v, MDB_cursor_op op)
{
	unsigned char bytes[STORE_PREFIX_MAX];
	struct entry_id id;

	v->expiring_valid = false;
	for (;; op = MDB_NEXT) {
		int rc = mdb_cursor_get(v->expiring, &v->expiring_key, &v->expiring_name, op);
		if (rc)
			return rc == MDB_NOTFOUND ? 0 : env_error(v->txn.env, rc, "reading");
		rc = index_id(v, &v->expiring_name, &id, bytes);
		if (rc == 0 && overridden(v, &id))
			continue;
		if (rc == 0 && confirmed(v, &id, &v->expiring_key)) {
			v->expiring_valid = true;
			return 0;
		}
		note_unconfirmed(v);
	}
}

static int restart(struct view *v)
{
	int rc = 0;

	if (!v->expiring)
		rc = txn_cursor(&v->txn, v->txn.own[OWN_EXPIRY], &v->expiring);
	if (rc == 0)
		rc = index_step(v, MDB_FIRST);
	v->expiring_skipped = 0;
	v->expiring_pending = pending_first_expiring(v->st->pending);
	return rc == -ENOENT ? 0 : rc;
}

/* When the first of what is left expires, and whether it stands in the index. */
static int64_t front(const struct view *v, bool *in_index)
{
	int64_t index = v->expiring_valid ? expiry_from_key(&v->expiring_key) : INT64_MAX;
	int64_t table = v->expiring_pending ? v->expiring_pending->expiry : INT64_MAX;

	*in_index = index < table;
	return *in_index ? index : table;
}

static int advance(struct view *v, bool in_index)
{
	v->expiring_skipped++;
	if (in_index)
		return index_step(v, MDB_NEXT);
	v->expiring_pending = pending_next_expiring(v->expiring_pending);
	return 0;
}

int lmdb_view_expired(struct view *v, size_t skip, struct entry_id *id)
{
	bool in_index;
	int rc = 0;

	if (!view_has_expired(v))
		return -ENOENT;
	if (skip == 0 || skip < v->expiring_skipped || (!v->expiring_valid && !v->expiring_pending))
		rc = restart(v);
	while (rc == 0) {
		int64_t at = front(v, &in_index);

		if (at == INT64_MAX || at > v->now)
			return -ENOENT;
		if (v->expiring_skipped == skip)
			break;
		rc = advance(v, in_index);
	}
	if (rc)
		return rc;
	if (!in_index) {
		*id = v->expiring_pending->id;
		return 0;
	}
	unsigned char *bytes = view_alloc(v, STORE_PREFIX_MAX);
	return bytes ? index_id(v, &v->expiring_name, id, bytes) : -ENOMEM;
}

int64_t lmdb_view_next_expiry(struct view *v)
{
	bool in_index;

	if (v->first_expiry == INT64_MAX && !pending_first_expiring(v->st->pending))
		return INT64_MAX;
	return restart(v) ? INT64_MAX : front(v, &in_index);
}
