/*
 * node.c - the form at rest:
 *
 *   value    in the namespace's database under the key itself; in kvfs:long for longer keys
 *   record   in kvfs:nodes: version (u8), 7 bytes of zero, size, hash, txn of the stamp (u64 each,
 *            little-endian), then what record_encode() writes
 *   expiry   in kvfs:expiry: u64 big-endian nanoseconds -> packed key, as a duplicate
 *
 * Every change of a record keeps kvfs:expiry exact, so that a sweep never looks at what has not
 * expired.
 */
#include "backends/lmdb/node.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "backends/lmdb/bytes.h"
#include "backends/lmdb/value.h"

enum {
	STAMP_VERSION = 1,
	STAMP_SIZE = 32,
	HASH_FREELY = 4096, /* a value up to here is hashed sooner than looked up */
};

void expiry_key(int64_t expiry, unsigned char out[8])
{
	uint64_t be = htobe64(expiry < 0 ? 0 : (uint64_t)expiry);

	memcpy(out, &be, sizeof(be));
}

int64_t expiry_from_key(const MDB_val *key)
{
	uint64_t be;

	if (key->mv_size != sizeof(be))
		return INT64_MAX;
	memcpy(&be, key->mv_data, sizeof(be));
	be = be64toh(be);
	return be > INT64_MAX ? INT64_MAX : (int64_t)be;
}

int64_t expiry_first(struct txn *t)
{
	MDB_cursor *cur;
	MDB_val key, data;
	int64_t first = INT64_MAX;

	if (txn_cursor(t, t->own[OWN_EXPIRY], &cur))
		return INT64_MAX;
	if (mdb_cursor_get(cur, &key, &data, MDB_FIRST) == 0)
		first = expiry_from_key(&key);
	mdb_cursor_close(cur);
	return first;
}

/* Without a stamp, of the record too only what record_peek() reads is read.
 *
 * What cannot be read counts as absent: so what it belonged to is still found, listed and removed, as
 * what another program made, and the next change writes a new record in its place. */
static int record_read(struct lmdb_store *st, struct txn *t, const MDB_val *data,
	const struct entry_id *id, struct node_stamp *stamp, struct record *rec)
{
	const unsigned char *p = data->mv_data;

	if (data->mv_size < STAMP_SIZE || p[0] != STAMP_VERSION ||
		(stamp ? record_decode : record_peek)(
			p + STAMP_SIZE, data->mv_size - STAMP_SIZE, rec)) {
		damaged_say(&st->damaged, t->env->dir, id);
		return -ENOENT;
	}
	if (stamp)
		*stamp = (struct node_stamp){get_u64(p + 8), get_u64(p + 16), get_u64(p + 24)};
	return 0;
}

static int record_at(struct lmdb_store *st, struct txn *t, const struct nodekey *key,
	const struct entry_id *id, struct node_stamp *stamp, struct record *rec)
{
	MDB_val data;
	int rc = txn_get(t, t->own[OWN_NODES], key->bytes, key->len, &data);

	return rc ? rc : record_read(st, t, &data, id, stamp, rec);
}

int node_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	struct node_stamp *stamp, struct record *rec)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	struct nodekey key;

	if (!ns)
		return -ENOENT;
	int rc = nodekey_make(t, ns, id, false, &key);
	return rc ? rc : record_at(st, t, &key, id, stamp, rec);
}

/* How the record that the walk stands at compares to `key`. */
static int walk_compare(const struct recordwalk *w, const struct nodekey *key)
{
	size_t both = w->key.mv_size < key->len ? w->key.mv_size : key->len;
	int order = memcmp(w->key.mv_data, key->bytes, both);

	return order ? order : (w->key.mv_size > key->len) - (w->key.mv_size < key->len);
}

/* Moves the cursor; how what it finds compares to `key`, in *order. */
static int walk_step(struct recordwalk *w, struct txn *t, const struct nodekey *key,
	MDB_cursor_op op, int *order)
{
	int rc = mdb_cursor_get(w->cursor, &w->key, &w->data, op);

	w->at = rc == 0;
	*order = w->at ? walk_compare(w, key) : 1;
	return rc == MDB_NOTFOUND ? 0 : env_error(t->env, rc, "reading");
}

/* Goes to the record of `key`, which is mostly the next one; or else to one after it, or to the end:
 * -ENOENT. */
static int walk_seek(struct recordwalk *w, struct txn *t, const struct nodekey *key)
{
	int rc = w->cursor ? 0 : txn_cursor(t, t->own[OWN_NODES], &w->cursor);
	int order = w->at ? walk_compare(w, key) : 1;
	bool far = order > 0;

	if (!rc && order < 0) {
		rc = walk_step(w, t, key, MDB_NEXT, &order);
		far = order < 0;
	}
	if (!rc && far) {
		w->key = (MDB_val){.mv_size = key->len, .mv_data = (void *)(uintptr_t)key->bytes};
		rc = walk_step(w, t, key, MDB_SET_RANGE, &order);
	}
	return rc ? rc : order ? -ENOENT : 0;
}

int recordwalk_get(struct recordwalk *w, struct lmdb_store *st, struct txn *t, const struct ns *ns,
	const struct entry_id *id, struct node_stamp *stamp, struct record *rec)
{
	struct nodekey key;
	int rc = nodekey_make(t, ns, id, false, &key);

	if (!rc)
		rc = walk_seek(w, t, &key);
	return rc ? rc : record_read(st, t, &w->data, id, stamp, rec);
}

void recordwalk_close(struct recordwalk *w)
{
	if (w->cursor)
		mdb_cursor_close(w->cursor);
}

int node_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id, MDB_val *value)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	struct nodekey key;

	if (!ns || !id->len)
		return -ENOENT;
	if (id->len <= ENV_KEY_MAX)
		return txn_get(t, atomic_load(&ns->dbi), id->bytes, id->len, value);
	int rc = nodekey_make(t, ns, id, false, &key);
	return rc ? rc : txn_get(t, t->own[OWN_LONG], key.bytes, key.len, value);
}

struct node_stamp node_stamp_of(struct txn *t, const MDB_val *value)
{
	return (struct node_stamp){
		value->mv_size, XXH3_64bits(value->mv_data, value->mv_size), t->id};
}

bool node_touched(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp, const MDB_val *value)
{
	uint64_t foreign = env_foreign(t->env, t->writes ? t->id - 1 : t->id);
	uint64_t key = 0;
	bool same;

	if (value->mv_size != stamp->size)
		return true;
	if (stamp->txn > foreign)
		return false;
	if (value->mv_size > HASH_FREELY) {
		key = XXH3_64bits_withSeed(id->bytes, id->len, id->ns);
		if (verified_known(&st->verified, key, stamp->hash, foreign, &same))
			return !same;
	}
	same = XXH3_64bits(value->mv_data, value->mv_size) == stamp->hash;
	if (value->mv_size > HASH_FREELY)
		verified_add(&st->verified, key, stamp->hash, t->writes ? t->id - 1 : t->id, same);
	return !same;
}

bool node_outlived(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp)
{
	MDB_val value;

	return id->kind == ENTRY_KEY && node_value(st, t, id, &value) == 0 &&
		node_touched(st, t, id, stamp, &value);
}

/* Where the value of a key goes: the database, and the key in it. */
struct home {
	MDB_dbi dbi;
	const void *key;
	size_t len;
	struct nodekey packed;
};

static int home_of(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, struct home *out)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);

	if (!ns)
		return -ENOENT;
	int rc = ns_write_handle(t, ns, &out->dbi);
	if (rc || id->len <= ENV_KEY_MAX) {
		out->key = id->bytes;
		out->len = id->len;
		return rc;
	}
	rc = nodekey_make(t, ns, id, true, &out->packed);
	out->dbi = t->own[OWN_LONG];
	out->key = out->packed.bytes;
	out->len = out->packed.len;
	return rc;
}

int node_put_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct blob *blob, struct node_stamp *stamp)
{
	MDB_val value = {.mv_size = blob ? blob_size(blob) : 0, .mv_data = NULL};
	struct home at;
	int rc;

	if (!value.mv_size || blob_data(blob)) {
		if (value.mv_size)
			value.mv_data = (void *)(uintptr_t)blob_data(blob);
		rc = node_put_bytes(st, t, id, &value);
	} else {
		rc = home_of(st, t, id, &at);
		if (rc == 0)
			rc = txn_reserve(t, at.dbi, at.key, at.len, value.mv_size, &value.mv_data);
		if (rc == 0)
			rc = value_fill(value.mv_data, value.mv_size, blob);
	}
	if (rc == 0)
		*stamp = node_stamp_of(t, &value);
	return rc;
}

int node_put_bytes(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, const MDB_val *value)
{
	struct home at;
	int rc = home_of(st, t, id, &at);

	return rc ? rc : txn_put(t, at.dbi, at.key, at.len, value->mv_data, value->mv_size);
}

static int expiry_add(struct txn *t, const struct nodekey *key, int64_t expiry)
{
	unsigned char at[8];

	if (expiry == INT64_MAX)
		return 0;
	expiry_key(expiry, at);
	return txn_put(t, t->own[OWN_EXPIRY], at, sizeof(at), key->bytes, key->len);
}

static int expiry_remove(struct txn *t, const struct nodekey *key, int64_t expiry)
{
	unsigned char at[8];
	MDB_val k = {.mv_size = sizeof(at), .mv_data = at};
	MDB_val d = {.mv_size = key->len, .mv_data = (void *)(uintptr_t)key->bytes};

	if (expiry == INT64_MAX)
		return 0;
	expiry_key(expiry, at);
	int rc = mdb_del(t->mdb, t->own[OWN_EXPIRY], &k, &d);
	if (rc == MDB_NOTFOUND)
		return 0;
	t->dirty = true;
	return env_error(t->env, rc, "removing");
}

/* When the stored record expires, INT64_MAX where there is none, or none that can be read: it is
 * about to be replaced. */
static int old_expiry(struct lmdb_store *st, struct txn *t, const struct nodekey *key,
	const struct entry_id *id, int64_t *expiry)
{
	struct node_stamp stamp;
	struct record rec;
	int rc = record_at(st, t, key, id, &stamp, &rec);

	*expiry = rc ? INT64_MAX : record_expiry_ns(&rec);
	return rc == -ENOENT ? 0 : rc;
}

int node_put_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp, const struct record *rec)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	size_t len = STAMP_SIZE + record_encoded_size(rec);
	int64_t before, expiry = record_expiry_ns(rec);
	struct nodekey key;

	if (!ns)
		return -ENOENT;
	/* A copy: `rec` may point into the page that is about to change. */
	unsigned char *bytes = calloc(1, len);
	if (!bytes)
		return -ENOMEM;
	bytes[0] = STAMP_VERSION;
	put_u64(bytes + 8, stamp->size);
	put_u64(bytes + 16, stamp->hash);
	put_u64(bytes + 24, stamp->txn);
	record_encode(rec, bytes + STAMP_SIZE);
	int rc = nodekey_make(t, ns, id, true, &key);
	if (rc == 0)
		rc = old_expiry(st, t, &key, id, &before);
	if (rc == 0)
		rc = txn_put(t, t->own[OWN_NODES], key.bytes, key.len, bytes, len);
	if (rc == 0 && before != expiry) {
		rc = expiry_remove(t, &key, before);
		if (rc == 0)
			rc = expiry_add(t, &key, expiry);
	}
	free(bytes);
	return rc;
}

/* A database that another program has dropped is not made again for this. */
static int remove_short(struct txn *t, struct ns *ns, const struct entry_id *id)
{
	MDB_dbi dbi;
	int rc = ns_write_handle(t, ns, &dbi);

	if (rc == -ESTALE)
		return 0;
	return rc ? rc : txn_del(t, dbi, id->bytes, id->len);
}

int node_remove_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	struct nodekey packed;

	if (!ns || !id->len)
		return 0;
	if (id->len <= ENV_KEY_MAX)
		return remove_short(t, ns, id);
	int rc = nodekey_make(t, ns, id, false, &packed);
	if (rc == 0)
		rc = txn_del(t, t->own[OWN_LONG], packed.bytes, packed.len);
	if (rc == 0)
		rc = nodekey_release_head(t, &packed);
	return rc == -ENOENT ? 0 : rc;
}

int node_remove_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	struct nodekey key;
	int64_t expiry;

	if (!ns)
		return 0;
	int rc = nodekey_make(t, ns, id, false, &key);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = old_expiry(st, t, &key, id, &expiry);
	if (rc == 0)
		rc = expiry_remove(t, &key, expiry);
	if (rc == 0)
		rc = txn_del(t, t->own[OWN_NODES], key.bytes, key.len);
	return rc ? rc : nodekey_release_head(t, &key);
}

int node_remove(struct lmdb_store *st, struct txn *t, const struct entry_id *id)
{
	int rc = node_remove_record(st, t, id);

	if (rc == 0 && id->kind == ENTRY_KEY)
		rc = node_remove_value(st, t, id);
	return rc;
}
