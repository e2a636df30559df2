/*
 * nsops.c - making, removing and renaming namespaces. LMDB cannot rename a database: it is copied,
 * and the old one dropped in the same transaction.
 *
 * Dropping a database closes its handle at once, whatever becomes of the transaction; so from there
 * on nobody may be reading, and when the transaction comes to nothing the handle is opened again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/lmdb/commit.h"
#include "backends/lmdb/meta.h"
#include "backends/lmdb/node.h"
#include "backends/lmdb/value.h"
#include "backends/lmdb/walk.h"

enum { RENAME_TRIES = 8 }; /* while other programs make and drop the new name */

struct ns_job {
	struct job job;
	struct ns *ns;
	int64_t now;
	bool dropped; /* ns' handle is closed */
	const struct record *rec; /* creating: of its directory, or NULL */
	MDB_dbi dbi; /* creating, renaming: the database of the new name, */
	unsigned opened; /* and the opening of the environment that the handle is of */
	/* Renaming. */
	const void *name;
	size_t len;
	struct ns *target; /* what is known by that name: an empty one, or one that another program
			      has dropped; or NULL */
};

/* Where the job's new handle goes; 0, to be opened when it is asked for, where the environment has
 * been opened anew after it. */
static MDB_dbi landed_handle(struct lmdb_store *st, const struct ns_job *j)
{
	return j->opened == st->env.opened ? j->dbi : 0;
}

/* Of a database that another program has dropped: LMDB would give it for a new one of that name. */
static void close_handle(struct lmdb_store *st, struct ns *ns)
{
	if (!atomic_load(&ns->dbi))
		return;
	lock_take(&st->env.writer);
	env_alone_begin(&st->env);
	if (st->env.mdb)
		mdb_dbi_close(st->env.mdb, atomic_load(&ns->dbi));
	atomic_store(&ns->dbi, 0);
	env_alone_end(&st->env);
	lock_drop(&st->env.writer);
}

static int create_run(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;
	struct entry_id dir = {.ns = j->ns->number, .kind = ENTRY_DIR};
	struct node_stamp stamp = {.txn = t->id};

	if (env_db_present(t, j->ns->name, j->ns->len))
		return -EEXIST;
	t->dirty = true;
	j->opened = st->env.opened;
	int rc = mdb_dbi_open(t->mdb, j->ns->name, MDB_CREATE, &j->dbi);
	if (rc == MDB_DBS_FULL)
		return -ENFILE;
	rc = env_error(t->env, rc, "making a database");
	if (rc == 0 && j->rec)
		rc = node_put_record(st, t, &dir, &stamp, j->rec);
	return rc;
}

static void create_landed(struct lmdb_store *st, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;

	atomic_store(&j->ns->dbi, landed_handle(st, j));
}

/* What is known of the name without being there: made known now, or dropped by another program, and
 * its handle with it. -EEXIST. */
static int create_prepare(struct lmdb_store *st, const void *name, size_t len, struct ns **out)
{
	struct ns *ns;
	int rc = ns_open(&st->namespaces, &st->env, name, len, &ns);

	if (rc == 0 || rc == -EOPNOTSUPP)
		return -EEXIST;
	if (rc != -ENOENT)
		return rc;
	rc = ns_with_id(&st->namespaces, name, len, &ns);
	if (rc)
		return rc;
	close_handle(st, ns);
	*out = ns;
	return 0;
}

int lmdb_ns_create(struct store *base, const void *name, size_t len, const struct record *rec,
	uint32_t *number)
{
	struct lmdb_store *st = lmdb_store(base);
	struct ns_job j = {
		.job = {.run = create_run, .landed = create_landed, .handles = true}, .rec = rec};
	int rc = st->base.readonly ? -EROFS : ns_name_check(name, len);

	if (rc == 0)
		rc = create_prepare(st, name, len, &j.ns);
	if (rc == 0)
		rc = commit_job(st, &j.job);
	if (rc == 0)
		*number = j.ns->number;
	return rc;
}

/* Removes all that our databases have under the namespace's id. */
static int forget_nodes(struct lmdb_store *st, struct txn *t, struct ns *ns, enum own_db db)
{
	unsigned char prefix[NODEKEY_PREFIX], bytes[STORE_PREFIX_MAX], name[ENV_KEY_MAX];

	for (;;) {
		MDB_val key = {.mv_size = 4, .mv_data = prefix}, data;
		enum entry_kind kind;
		MDB_cursor *cur;
		uint32_t ns_id;
		size_t len;

		nodekey_prefix(atomic_load(&ns->id), 0, prefix);
		int rc = txn_cursor(t, t->own[db], &cur);
		if (rc)
			return rc;
		rc = env_error(t->env, mdb_cursor_get(cur, &key, &data, MDB_SET_RANGE), "reading");
		if (rc == 0 && (key.mv_size < 4 || memcmp(key.mv_data, prefix, 4) != 0))
			rc = -ENOENT;
		mdb_cursor_close(cur);
		if (rc == 0 && key.mv_size > sizeof(name))
			rc = -EIO;
		if (rc)
			return rc == -ENOENT ? 0 : rc;
		memcpy(name, key.mv_data, key.mv_size);
		key.mv_data = name;
		if (nodekey_parse(t, &key, &ns_id, &kind, bytes, &len) == 0) {
			struct entry_id id = {ns->number, kind, (uint16_t)len, bytes};

			rc = db == OWN_LONG ? node_remove_value(st, t, &id)
					    : node_remove_record(st, t, &id);
		}
		/* Also where it was no name of ours, or stood under another than it should. */
		if (rc == 0)
			rc = txn_del(t, t->own[db], name, key.mv_size);
		if (rc)
			return rc;
	}
}

/* Removes what is ours of it; its database stays. */
static int forget(struct lmdb_store *st, struct txn *t, struct ns *ns)
{
	int rc = forget_nodes(st, t, ns, OWN_NODES);

	if (rc == 0)
		rc = forget_nodes(st, t, ns, OWN_LONG);
	if (rc == 0)
		rc = meta_forget_ns(t, atomic_load(&ns->id));
	ns->saving = t->serial;
	return rc;
}

/* -ENOTEMPTY, or forget(). */
static int clear(struct lmdb_store *st, struct txn *t, struct ns *ns, int64_t now)
{
	int rc = walk_first_live(st, t, ns, now);

	if (rc != -ENOENT)
		return rc ? rc : -ENOTEMPTY;
	return forget(st, t, ns);
}

/* Drops a database, and with it the handle. All are kept out. */
static int drop(struct txn *t, struct ns_job *j)
{
	t->dirty = true;
	j->dropped = true;
	return env_error(
		t->env, mdb_drop(t->mdb, atomic_load(&j->ns->dbi), 1), "dropping a database");
}

/* The transaction has come to nothing: the database is still there. */
static void drop_undone(struct lmdb_store *st, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;
	MDB_dbi dbi = 0;
	MDB_txn *txn;

	if (!j->dropped)
		return;
	j->dropped = false;
	atomic_store(&j->ns->dbi, 0);
	if (!st->env.mdb || mdb_txn_begin(st->env.mdb, NULL, MDB_RDONLY, &txn))
		return;
	if (mdb_dbi_open(txn, j->ns->name, 0, &dbi) == 0)
		atomic_store(&j->ns->dbi, dbi);
	mdb_txn_commit(txn);
}

static int remove_run(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;
	MDB_dbi dbi;

	if (ns_write_handle(t, j->ns, &dbi))
		return -ENOENT;
	return clear(st, t, j->ns, j->now);
}

static int remove_seal(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;

	return pending_outlives_in(st->pending, j->ns->number) ? -ENOTEMPTY : drop(t, j);
}

static void remove_landed(struct lmdb_store *st, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;

	pending_forget(st->pending, j->ns->number);
	ns_retire(&st->namespaces, j->ns);
}

int lmdb_ns_remove(struct store *base, uint32_t number, int64_t now)
{
	struct lmdb_store *st = lmdb_store(base);
	struct ns_job j = {
		.job = {.run = remove_run,
			.seal = remove_seal,
			.landed = remove_landed,
			.undone = drop_undone,
			.handles = true,
			.alone = true},
		.ns = ns_get(&st->namespaces, number),
		.now = now,
	};

	if (st->base.readonly)
		return -EROFS;
	if (!j.ns || !atomic_load(&j.ns->dbi))
		return -ENOENT;
	return commit_job(st, &j.job);
}

/* Appends one entry to the new database. Values with pages of their own are copied aside first:
 * LMDB may move what it shows as it writes. */
static int append(struct lmdb_store *st, struct txn *t, MDB_dbi dbi, MDB_val *key, MDB_val *data)
{
	unsigned char small[2048];
	struct blob *blob;

	t->dirty = true;
	if (data->mv_size <= sizeof(small)) {
		if (data->mv_size)
			memcpy(small, data->mv_data, data->mv_size);
		MDB_val copy = {.mv_size = data->mv_size, .mv_data = small};
		return env_error(t->env, mdb_put(t->mdb, dbi, key, &copy, MDB_APPEND), "writing");
	}
	int rc = blob_new_copy(st->base.blobs, data->mv_data, data->mv_size, &blob);
	if (rc)
		return rc;
	MDB_val room = {.mv_size = data->mv_size};
	rc = env_error(
		t->env, mdb_put(t->mdb, dbi, key, &room, MDB_APPEND | MDB_RESERVE), "writing");
	if (rc == 0)
		rc = value_fill(room.mv_data, room.mv_size, blob);
	blob_unref(blob);
	return rc;
}

static int copy_all(struct lmdb_store *st, struct txn *t, MDB_dbi from, MDB_dbi to)
{
	unsigned char name[ENV_KEY_MAX];
	MDB_cursor *cur;
	MDB_val key, data;
	int rc = txn_cursor(t, from, &cur);

	if (rc)
		return rc;
	while (rc == 0) {
		rc = env_error(t->env, mdb_cursor_get(cur, &key, &data, MDB_NEXT), "reading");
		if (rc)
			break;
		if (key.mv_size > sizeof(name)) {
			rc = ns_refuse_long_key(t->env);
			break;
		}
		memcpy(name, key.mv_data, key.mv_size);
		key.mv_data = name;
		rc = append(st, t, to, &key, &data);
	}
	if (rc == -ENOENT)
		rc = 0;
	mdb_cursor_close(cur);
	return rc;
}

/* A new database of that name. What we have of an older one goes with the name. */
static int rename_target_new(struct lmdb_store *st, struct txn *t, struct ns_job *j)
{
	char text[ENV_KEY_MAX + 1];

	memcpy(text, j->name, j->len);
	text[j->len] = '\0';
	if (j->target) {
		/* It was dropped between, and LMDB would give its old handle for the new one. */
		if (atomic_load(&j->target->dbi))
			return -EAGAIN;
		int rc = forget(st, t, j->target);
		if (rc)
			return rc;
	}
	return env_error(
		t->env, mdb_dbi_open(t->mdb, text, MDB_CREATE, &j->dbi), "making a database");
}

/* The database of the new name: the empty one that is there, or a new one. -EAGAIN: another program
 * has made it, or dropped it, since find_target(). */
static int rename_target(struct lmdb_store *st, struct txn *t, struct ns_job *j)
{
	t->dirty = true;
	j->opened = st->env.opened;
	if (!env_db_present(t, j->name, j->len))
		return rename_target_new(st, t, j);
	if (!j->target || !atomic_load(&j->target->dbi))
		return -EAGAIN;
	int rc = ns_write_handle(t, j->target, &j->dbi);
	if (rc == 0)
		rc = clear(st, t, j->target, j->now);
	return rc ? rc : env_error(t->env, mdb_drop(t->mdb, j->dbi, 0), "emptying a database");
}

static int rename_run(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;
	MDB_dbi dbi;

	if (ns_write_handle(t, j->ns, &dbi))
		return -ENOENT;
	int rc = rename_target(st, t, j);
	if (rc == 0)
		rc = copy_all(st, t, dbi, j->dbi);
	if (rc == 0)
		rc = meta_put_ns(t, atomic_load(&j->ns->id), j->name, j->len);
	j->ns->saving = t->serial;
	return rc;
}

static int rename_seal(struct lmdb_store *st, struct txn *t, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;

	if (j->target && pending_outlives_in(st->pending, j->target->number))
		return -ENOTEMPTY;
	return drop(t, j);
}

static void rename_landed(struct lmdb_store *st, struct job *job)
{
	struct ns_job *j = (struct ns_job *)job;

	if (j->target) {
		pending_forget(st->pending, j->target->number);
		ns_retire(&st->namespaces, j->target);
	}
	ns_set_name(&st->namespaces, j->ns, j->name, j->len);
	atomic_store(&j->ns->dbi, landed_handle(st, j));
}

/* What has the name now: *target, or NULL. -EEXIST: no namespace. One that another program has
 * dropped is a target too: until the name is given away in a commit it keeps its id, and the
 * changes to it that wait. Only its handle is of no use any more. */
static int find_target(struct lmdb_store *st, const void *name, size_t len, struct ns **target)
{
	struct ns *ns;
	int rc = ns_open(&st->namespaces, &st->env, name, len, &ns);

	*target = rc == 0 ? ns : NULL;
	if (rc == -EOPNOTSUPP)
		return -EEXIST;
	if (rc != -ENOENT)
		return rc;
	*target = ns = ns_lookup(&st->namespaces, name, len);
	if (ns)
		close_handle(st, ns);
	return 0;
}

int lmdb_ns_rename(struct store *base, uint32_t number, const void *name, size_t len, int64_t now)
{
	struct lmdb_store *st = lmdb_store(base);
	struct ns_job j = {
		.job = {.run = rename_run,
			.seal = rename_seal,
			.landed = rename_landed,
			.undone = drop_undone,
			.handles = true,
			.alone = true},
		.ns = ns_get(&st->namespaces, number),
		.now = now,
		.name = name,
		.len = len,
	};

	int rc = st->base.readonly ? -EROFS : ns_name_check(name, len);
	if (rc)
		return rc;
	if (!j.ns || !atomic_load(&j.ns->dbi))
		return -ENOENT;
	if (ns_lookup(&st->namespaces, name, len) == j.ns)
		return 0;
	for (int i = 0; i < RENAME_TRIES; i++) {
		rc = find_target(st, name, len, &j.target);
		if (rc == 0)
			rc = commit_job(st, &j.job);
		if (rc != -EAGAIN)
			break;
	}
	return rc == -EAGAIN ? -EBUSY : rc;
}
