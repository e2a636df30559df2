/*
 * orphans.c - the walk, and the transactions that remove what it has found, which look again.
 *
 * Two cursors go side by side, one over the records and one over the keys of the namespace that
 * they are of, in a snapshot that is given up after each step.
 */
#include "backends/lmdb/orphans.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/lmdb/commit.h"
#include "backends/lmdb/node.h"

enum {
	STEP_MS = 20, /* of each LOOK_MS of the watch */
	LOOK_AT_CLOCK_EVERY = 64,
	FOUND_MAX = 1024, /* removed in one transaction */
	INDEX_MAX = 4096, /* entries of kvfs:expiry looked at in one transaction */
	ID_SIZE = 4,
	PAUSE = 10,
};

struct walker {
	struct lmdb_store *st;
	struct txn txn;
	MDB_cursor *records, *keys; /* keys: NULL where the namespace's database is not there */
	uint32_t ns_id; /* whose `keys` are; 0: nobody's */
	struct ns *ns;
	bool skip_ns; /* nothing can be said of its keys */
	MDB_val key; /* where `keys` stands */
	bool at_end;
	struct nodekey *found;
	size_t n;
};

static int compare(const MDB_val *a, const void *b, size_t b_len)
{
	size_t common = a->mv_size < b_len ? a->mv_size : b_len;
	int order = memcmp(a->mv_data, b, common);

	return order ? order : (a->mv_size > b_len) - (a->mv_size < b_len);
}

static void keys_take(struct walker *w, int rc)
{
	w->at_end = rc == MDB_NOTFOUND;
	w->skip_ns |= rc && rc != MDB_NOTFOUND;
}

/* Moves on to another namespace. */
static void enter_ns(struct walker *w, uint32_t ns_id)
{
	MDB_val data;

	if (w->keys)
		mdb_cursor_close(w->keys);
	w->keys = NULL;
	w->ns_id = ns_id;
	w->ns = ns_by_id(&w->st->namespaces, ns_id);
	w->skip_ns = !w->ns;
	if (!w->ns || !env_db_present(&w->txn, w->ns->name, w->ns->len))
		return;
	MDB_dbi dbi = atomic_load(&w->ns->dbi);
	if (!dbi || mdb_cursor_open(w->txn.mdb, dbi, &w->keys)) {
		w->keys = NULL;
		w->skip_ns = true;
		return;
	}
	keys_take(w, mdb_cursor_get(w->keys, &w->key, &data, MDB_FIRST));
}

/* Whether the namespace has the key; each is asked for in order. */
static bool has_key(struct walker *w, const void *key, size_t len)
{
	MDB_val data;

	if (!w->keys)
		return false;
	if (!w->at_end && !w->skip_ns && compare(&w->key, key, len) < 0)
		keys_take(w, mdb_cursor_get(w->keys, &w->key, &data, MDB_NEXT));
	if (!w->at_end && !w->skip_ns && compare(&w->key, key, len) < 0) {
		w->key = (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)key};
		keys_take(w, mdb_cursor_get(w->keys, &w->key, &data, MDB_SET_RANGE));
	}
	return w->skip_ns || (!w->at_end && compare(&w->key, key, len) == 0);
}

/* The same for a name that is too long for one of ours. */
static bool has_long_key(struct walker *w, const MDB_val *name)
{
	unsigned char bytes[STORE_PREFIX_MAX];
	enum entry_kind kind;
	uint32_t ns_id;
	MDB_val value;
	size_t len;

	if (nodekey_parse(&w->txn, name, &ns_id, &kind, bytes, &len))
		return true; /* damaged: this is not the place to judge it */
	struct entry_id id = {w->ns->number, kind, (uint16_t)len, bytes};
	return node_value(w->st, &w->txn, &id, &value) != -ENOENT;
}

/* Where to go on after a record of this namespace and kind whose like need not be looked at. */
static void skip_to(struct orphans *o, uint32_t ns_id, unsigned kind)
{
	nodekey_prefix(ns_id, kind, o->at);
	o->at_len = NODEKEY_PREFIX;
}

enum step { NEXT, SEEK, END };

/* Looks at one record; SEEK: go on at w->st->orphans.at. */
static enum step look_at(struct walker *w, const MDB_val *name)
{
	struct orphans *o = &w->st->orphans;
	const unsigned char *p = name->mv_data;

	if (name->mv_size < NODEKEY_PREFIX || name->mv_size > ENV_KEY_MAX)
		return NEXT;
	uint32_t ns_id = nodekey_ns(p);
	if (ns_id != w->ns_id)
		enter_ns(w, ns_id);
	if (w->skip_ns || (p[ID_SIZE] != ENTRY_KEY && p[ID_SIZE] >= NODEKEY_LONG + ENTRY_DIR)) {
		if (ns_id == UINT32_MAX)
			return END;
		skip_to(o, ns_id + 1, ENTRY_KEY);
		return SEEK;
	}
	if (p[ID_SIZE] != ENTRY_KEY && p[ID_SIZE] != NODEKEY_LONG) {
		skip_to(o, ns_id, NODEKEY_LONG);
		return SEEK;
	}
	if (p[ID_SIZE] == ENTRY_KEY ? has_key(w, p + NODEKEY_PREFIX, name->mv_size - NODEKEY_PREFIX)
				    : has_long_key(w, name))
		return NEXT;
	w->found[w->n].len = name->mv_size;
	memcpy(w->found[w->n++].bytes, p, name->mv_size);
	return NEXT;
}

static uint64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Walks on, in the snapshot, until the time is over. True: to the end. */
static bool walk(struct walker *w)
{
	struct orphans *o = &w->st->orphans;
	uint64_t until = milliseconds() + STEP_MS;
	enum step step = SEEK;
	MDB_val name, data;

	for (unsigned i = 1; w->n < FOUND_MAX; i++) {
		if (step == SEEK)
			name = (MDB_val){.mv_size = o->at_len, .mv_data = o->at};
		int rc = mdb_cursor_get(w->records, &name, &data,
			step == NEXT           ? MDB_NEXT
				: name.mv_size ? MDB_SET_RANGE
					       : MDB_FIRST);
		if (rc)
			return true; /* another walk comes, should it have been an error */
		if (step == SEEK && compare(&name, o->at, o->at_len) < 0)
			return true; /* they are not in order */
		if (i % LOOK_AT_CLOCK_EVERY == 0 && step == NEXT &&
			(milliseconds() >= until || atomic_load(&w->st->env.alone_wanted)))
			break;
		step = look_at(w, &name);
		if (step == END)
			return true;
	}
	if (step == NEXT && name.mv_size <= sizeof(o->at)) {
		memcpy(o->at, name.mv_data, name.mv_size);
		o->at_len = name.mv_size;
	}
	return false;
}

/* Whether the key of a record is not there. */
static bool is_orphan(struct lmdb_store *st, struct txn *t, struct entry_id *id)
{
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	MDB_val value;

	if (env_db_present(t, ns->name, ns->len) && !atomic_load(&ns->dbi))
		return false;
	return node_value(st, t, id, &value) == -ENOENT;
}

struct removal {
	struct job job;
	const struct nodekey *found;
	size_t n;
};

/* -ENOENT: nothing is left to be done, and needs no commit. */
static int remove_found(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct removal *r = (struct removal *)job;
	int rc = 0, removed = 0;

	for (size_t i = 0; i < r->n && rc == 0; i++) {
		MDB_val name = {r->found[i].len, (void *)(uintptr_t)r->found[i].bytes};
		unsigned char bytes[STORE_PREFIX_MAX];
		enum entry_kind kind;
		uint32_t ns_id;
		size_t len;

		rc = nodekey_parse(t, &name, &ns_id, &kind, bytes, &len);
		struct ns *ns = rc ? NULL : ns_by_id(&st->namespaces, ns_id);
		if (!ns)
			continue;
		struct entry_id id = {ns->number, kind, (uint16_t)len, bytes};
		if (!is_orphan(st, t, &id))
			continue;
		rc = node_remove_record(st, t, &id);
		removed++;
	}
	return rc ? rc : removed ? 0 : -ENOENT;
}

/* Whether an entry of kvfs:expiry has a namespace, and a record that says the same. */
static bool is_confirmed(
	struct lmdb_store *st, struct txn *t, const MDB_val *at, const MDB_val *name)
{
	unsigned char bytes[STORE_PREFIX_MAX], expiry[8];
	struct node_stamp stamp;
	enum entry_kind kind;
	struct record rec;
	uint32_t ns_id;
	size_t len;

	if (nodekey_parse(t, name, &ns_id, &kind, bytes, &len))
		return false;
	struct ns *ns = ns_by_id(&st->namespaces, ns_id);
	if (!ns)
		return false;
	struct entry_id id = {ns->number, kind, (uint16_t)len, bytes};
	if (node_record(st, t, &id, &stamp, &rec))
		return false;
	expiry_key(record_expiry_ns(&rec), expiry);
	return at->mv_size == sizeof(expiry) && memcmp(expiry, at->mv_data, sizeof(expiry)) == 0;
}

/* Tidies the beginning of kvfs:expiry, which is what readers look at. */
static int tidy_index(struct lmdb_store *st, struct txn *t, struct job *job)
{
	MDB_val at, name;
	MDB_cursor *cur;
	int removed = 0, rc = txn_cursor(t, t->own[OWN_EXPIRY], &cur);

	if (rc)
		return rc;
	for (int i = 0; i < INDEX_MAX && rc == 0; i++) {
		if (mdb_cursor_get(cur, &at, &name, MDB_NEXT))
			break;
		if (is_confirmed(st, t, &at, &name))
			continue;
		t->dirty = true;
		rc = env_error(t->env, mdb_cursor_del(cur, 0), "removing");
		removed++;
	}
	mdb_cursor_close(cur);
	return rc ? rc : removed ? 0 : -ENOENT;
}

/* One step of the walk; what it finds is in `found`. How many. */
static size_t walk_step(struct lmdb_store *st, struct nodekey *found)
{
	struct orphans *o = &st->orphans;
	struct walker w = {.st = st, .found = found};
	bool done = false;

	if (env_read_begin(&st->env, false, &w.txn))
		return 0;
	int rc = txn_cursor(&w.txn, w.txn.own[OWN_NODES], &w.records);
	if (rc == 0)
		done = walk(&w);
	else if (rc == -ENOENT)
		done = true;
	if (w.keys)
		mdb_cursor_close(w.keys);
	if (w.records)
		mdb_cursor_close(w.records);
	env_read_end(&w.txn);
	if (done)
		o->walking = false;
	return w.n;
}

/* Begins a walk where there is reason for one. */
static bool walk_is_due(struct lmdb_store *st)
{
	struct orphans *o = &st->orphans;
	uint64_t foreign = env_newest_foreign(&st->env);

	if (o->walking)
		return true;
	if (foreign <= atomic_load(&o->walked))
		return false;
	o->walking = true;
	o->walking_for = foreign;
	o->at_len = 0;
	return true;
}

void orphans_step(struct lmdb_store *st)
{
	struct orphans *o = &st->orphans;

	if (st->base.readonly || atomic_load(&st->env.alone_wanted))
		return;
	if (o->pause) {
		o->pause--;
		return;
	}
	if (walk_is_due(st)) {
		struct nodekey *found = malloc(FOUND_MAX * sizeof(*found));

		if (!found)
			return;
		struct removal r = {.job = {.run = remove_found}, .found = found};
		r.n = walk_step(st, found);
		int rc = r.n ? commit_job(st, &r.job) : 0;
		free(found);
		if (rc && rc != -ENOENT) {
			o->walking = false; /* all over again */
			o->pause = PAUSE;
		} else if (!o->walking) {
			atomic_store(&o->walked, o->walking_for);
		}
	}
	if (atomic_exchange(&o->unconfirmed, false)) {
		struct job tidy = {.run = tidy_index};

		commit_job(st, &tidy);
	}
}
