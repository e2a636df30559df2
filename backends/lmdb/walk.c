/*
 * walk.c - steps from the root, since a cursor that stays while entries come and go is not worth
 * its subtleties here.
 */
#include "backends/lmdb/walk.h"

#include <errno.h>
#include <string.h>

#include "backends/lmdb/node.h"

void walk_after(struct walk_entry *e)
{
	e->bytes[e->len++] = 0;
}

/* The first entry of a database at or after a key that still has the prefix; *out is what follows
 * it. */
static int seek_in(struct txn *t, MDB_dbi dbi, const unsigned char *key, size_t len, size_t prefix,
	struct walk_entry *out)
{
	MDB_val k = {.mv_size = len, .mv_data = (void *)(uintptr_t)key}, data;
	MDB_cursor *cur;
	int rc = txn_cursor(t, dbi, &cur);

	if (rc)
		return rc;
	rc = env_error(
		t->env, mdb_cursor_get(cur, &k, &data, len ? MDB_SET_RANGE : MDB_FIRST), "reading");
	if (rc == 0 && (k.mv_size < prefix || (prefix && memcmp(k.mv_data, key, prefix) != 0)))
		rc = -ENOENT;
	if (rc == 0 && k.mv_size > ENV_KEY_MAX)
		rc = ns_refuse_long_key(t->env);
	if (rc == 0) {
		out->len = k.mv_size - prefix;
		memcpy(out->bytes, (unsigned char *)k.mv_data + prefix, out->len);
	}
	mdb_cursor_close(cur);
	return rc;
}

static int seek_short(struct txn *t, const struct ns *ns, enum entry_kind kind, const void *from,
	size_t len, struct walk_entry *out)
{
	unsigned char key[NODEKEY_PREFIX + STORE_PREFIX_MAX + 1];

	if (kind == ENTRY_KEY)
		return seek_in(t, atomic_load(&ns->dbi), from, len, 0, out);
	if (!atomic_load(&ns->id))
		return -ENOENT;
	nodekey_prefix(atomic_load(&ns->id), kind, key);
	if (len)
		memcpy(key + NODEKEY_PREFIX, from, len);
	return seek_in(t, t->own[OWN_NODES], key, NODEKEY_PREFIX + len, NODEKEY_PREFIX, out);
}

static bool comes_first(const struct longwalk *w, const struct walk_entry *e)
{
	size_t common = w->len < e->len ? w->len : e->len;
	int order = memcmp(w->bytes, e->bytes, common);

	return order ? order < 0 : w->len < e->len;
}

int walk_seek(struct txn *t, const struct ns *ns, enum entry_kind kind, const void *from,
	size_t len, struct walk_entry *out)
{
	struct walk_entry first;
	struct longwalk w;
	int rc = seek_short(t, ns, kind, from, len, &first);

	if (rc && rc != -ENOENT)
		return rc;
	bool found = rc == 0;
	rc = longwalk_open(&w, t, ns, kind);
	if (rc)
		return rc;
	rc = longwalk_seek(&w, from, len);
	if (rc == 0 && (!found || comes_first(&w, &first))) {
		first.len = w.len;
		memcpy(first.bytes, w.bytes, w.len);
		found = true;
	}
	longwalk_close(&w);
	if (rc && rc != -ENOENT)
		return rc;
	if (!found)
		return -ENOENT;
	out->len = first.len;
	memcpy(out->bytes, first.bytes, first.len);
	return 0;
}

int walk_first_live(struct lmdb_store *st, struct txn *t, const struct ns *ns, int64_t now)
{
	struct walk_entry e = {.len = 0};
	int rc;

	while ((rc = walk_seek(t, ns, ENTRY_KEY, e.bytes, e.len, &e)) == 0) {
		struct entry_id id = {ns->number, ENTRY_KEY, (uint16_t)e.len, e.bytes};
		struct node_stamp stamp;
		struct record rec;

		rc = node_record(st, t, &id, &stamp, &rec);
		if (rc == -ENOENT ||
			(rc == 0 &&
				(!record_expired(&rec, now) || node_outlived(st, t, &id, &stamp))))
			return 0;
		if (rc)
			return rc;
		walk_after(&e);
	}
	return rc;
}
