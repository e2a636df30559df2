/*
 * meta.c - reading at open, writing with each commit.
 */
#include "backends/lmdb/meta.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backends/base/log.h"
#include "backends/lmdb/bytes.h"
#include "backends/lmdb/node.h"

enum {
	FORMAT = 1,
	STATE_SIZE = 32,
	WALKED_SIZE = 8,
	NS_KEY = 5,
	NS_ID_MAX = 1 << 30, /* they count up from 1: no environment has had so many */
	FIRST_INO = 256, /* smaller ones are for what is no entry: roots and such */
};

/* A read-only store gives out numbers that no writing one will give. */
static const uint64_t READONLY_INO = UINT64_C(1) << 61;

static void ns_key(uint32_t id, unsigned char key[NS_KEY])
{
	uint32_t be = htobe32(id);

	key[0] = 'n';
	memcpy(key + 1, &be, sizeof(be));
}

static int load_state(struct lmdb_store *st, struct txn *t, char *why, size_t why_cap)
{
	struct env *e = &st->env;
	uint64_t next_ino = FIRST_INO, own = 0, foreign = t->id;
	MDB_val data;
	int rc = txn_get(t, t->own[OWN_META], "s", 1, &data);

	if (rc == 0) {
		const unsigned char *p = data.mv_data;

		if (data.mv_size != STATE_SIZE || (get_u64(p) & UINT32_MAX) != FORMAT) {
			snprintf(why, why_cap, "it was written by another version of kvfs");
			return -EINVAL;
		}
		next_ino = get_u64(p + 8);
		own = get_u64(p + 16);
		foreign = get_u64(p + 24);
	} else if (rc != -ENOENT) {
		return rc;
	}
	rc = txn_get(t, t->own[OWN_META], "w", 1, &data);
	if (rc && rc != -ENOENT)
		return rc;
	atomic_store(&st->orphans.walked,
		rc == 0 && data.mv_size == WALKED_SIZE ? get_u64(data.mv_data) : 0);
	/* Whatever came after our last one was another program's. */
	e->own_last = own;
	e->known_last = t->id;
	e->foreign = own == t->id ? foreign : t->id;
	atomic_store(&st->next_ino, st->base.readonly ? next_ino | READONLY_INO : next_ino);
	return 0;
}

/* A name of `n` in the environment. Two ids with one name come from a rename that was not finished
 * well: the first keeps it, and the other is never given out again. */
static int load_namespace(struct lmdb_store *st, uint32_t id, const MDB_val *name)
{
	struct ns_table *table = &st->namespaces;
	char shown[128];
	struct ns *ns;

	/* The last numbers mean something else (the top, heads), and must never be reached. */
	if (id > NS_ID_MAX)
		return 0;
	ns_reserve_id(table, id);
	if (id == 0 || ns_name_check(name->mv_data, name->mv_size))
		return 0;
	if (ns_lookup(table, name->mv_data, name->mv_size)) {
		log_warning("%s: two ids have the name %s; the attributes under the second, %u, "
			    "are not used",
			st->env.dir, log_bytes(name->mv_data, name->mv_size, shown, sizeof(shown)),
			id);
		return 0;
	}
	int rc = ns_add(table, name->mv_data, name->mv_size, id, false, &ns);
	if (rc == 0)
		ns->id_saved = true;
	return rc;
}

/* Handles to all namespaces that have records: what expires in them must be found before anyone has
 * asked for them by name. */
static int load_namespaces(struct lmdb_store *st, struct txn *t)
{
	MDB_val key = {.mv_size = 1, .mv_data = (void *)(uintptr_t) "n"}, name;
	MDB_cursor *cur;
	int rc = txn_cursor(t, t->own[OWN_META], &cur);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	for (MDB_cursor_op op = MDB_SET_RANGE;; op = MDB_NEXT) {
		uint32_t be;

		rc = env_error(t->env, mdb_cursor_get(cur, &key, &name, op), "reading");
		if (rc)
			break;
		const unsigned char *p = key.mv_data;
		if (key.mv_size != NS_KEY || p[0] != 'n')
			break;
		memcpy(&be, p + 1, sizeof(be));
		rc = load_namespace(st, be32toh(be), &name);
		if (rc)
			break;
	}
	mdb_cursor_close(cur);
	return rc == -ENOENT ? 0 : rc;
}

static void open_namespaces(struct lmdb_store *st)
{
	struct ns *ns;

	for (uint32_t i = 1; (ns = ns_get(&st->namespaces, i)); i++)
		ns_open(&st->namespaces, &st->env, ns->name, ns->len, &ns);
}

int meta_load(struct lmdb_store *st, char *why, size_t why_cap)
{
	struct txn t;
	int rc = env_read_begin(&st->env, false, &t);

	if (rc == 0) {
		rc = load_state(st, &t, why, why_cap);
		if (rc == 0)
			rc = load_namespaces(st, &t);
		atomic_store(&st->first_expiry, expiry_first(&t));
		env_read_end(&t);
	}
	if (rc && !*why)
		snprintf(why, why_cap, "it cannot be read: %s", strerror(-rc));
	if (rc == 0)
		open_namespaces(st);
	return rc;
}

int meta_put_ns(struct txn *t, uint32_t id, const void *name, size_t len)
{
	unsigned char key[NS_KEY];

	ns_key(id, key);
	return txn_put(t, t->own[OWN_META], key, sizeof(key), name, len);
}

int meta_forget_ns(struct txn *t, uint32_t id)
{
	unsigned char key[NS_KEY];

	ns_key(id, key);
	return txn_del(t, t->own[OWN_META], key, sizeof(key));
}

int meta_save(struct lmdb_store *st, struct txn *t)
{
	unsigned char state[STATE_SIZE], walked[WALKED_SIZE];
	struct ns *ns;
	int rc = 0;

	if (atomic_load(&st->namespaces.unsaved)) {
		for (uint32_t i = 1; rc == 0 && (ns = ns_get(&st->namespaces, i)); i++) {
			uint32_t id = atomic_load(&ns->id);

			if (!id || ns->id_saved || ns->saving == t->serial)
				continue;
			ns->saving = t->serial;
			rc = meta_put_ns(t, id, ns->name, ns->len);
		}
	}
	put_u64(state, FORMAT);
	put_u64(state + 8, atomic_load(&st->next_ino));
	put_u64(state + 16, t->id);
	put_u64(state + 24, env_foreign(t->env, t->id - 1));
	put_u64(walked, atomic_load(&st->orphans.walked));
	if (rc == 0)
		rc = txn_put(t, t->own[OWN_META], "s", 1, state, sizeof(state));
	return rc ? rc : txn_put(t, t->own[OWN_META], "w", 1, walked, sizeof(walked));
}

void meta_saved(struct lmdb_store *st, uint64_t serial)
{
	struct ns *ns;
	bool left = false;

	if (!atomic_exchange(&st->namespaces.unsaved, false))
		return;
	for (uint32_t i = 1; (ns = ns_get(&st->namespaces, i)); i++) {
		if (ns->saving == serial)
			ns->id_saved = true;
		left |= !ns->id_saved && atomic_load(&ns->id);
	}
	if (left)
		atomic_store(&st->namespaces.unsaved, true);
}
