#include "backends/lmdb/bases.h"

#include <string.h>

#include "backends/lmdb/node.h"

uint64_t bases_now(struct bases *b, struct env *e, bool nested)
{
	MDB_envinfo info;
	uint64_t now = 0;

	lock_take(&b->lock);
	if (atomic_load(&e->alone_wanted))
		goto out;
	/* The snapshots keep the environment from being closed. */
	if (b->n && mdb_env_info(e->mdb, &info) == 0 &&
		info.me_last_txnid == b->txns[b->n - 1].id) {
		now = info.me_last_txnid;
		goto out;
	}
	if (b->n < BASES_MAX && env_read_begin(e, nested, &b->txns[b->n]) == 0) {
		env_read_pin(&b->txns[b->n]);
		now = b->txns[b->n++].id;
	}
out:
	lock_drop(&b->lock);
	return now;
}

/* A handle that is younger than the snapshot says nothing of what was there. */
static bool knows(struct txn *t, MDB_dbi dbi)
{
	unsigned flags;

	return dbi && mdb_dbi_flags(t->mdb, dbi, &flags) == 0;
}

static bool differs(
	struct lmdb_store *st, struct txn *before, struct txn *now, const struct entry_id *id)
{
	MDB_val old, new;
	int was = node_value(st, before, id, &old);
	int is = node_value(st, now, id, &new);

	if ((was && was != -ENOENT) || (is && is != -ENOENT))
		return false;
	if (was || is)
		return was != is;
	return old.mv_size != new.mv_size ||
		(old.mv_data != new.mv_data &&memcmp(old.mv_data, new.mv_data, old.mv_size) != 0);
}

bool bases_overtaken(struct lmdb_store *st, struct txn *t, const struct entry_id *id, uint64_t base)
{
	struct bases *b = &st->bases;
	struct ns *ns = ns_get(&st->namespaces, id->ns);
	bool overtaken = false;
	MDB_dbi dbi;

	/* Longer keys are in a database of ours. A database that was dropped is made again. */
	if (!base || id->kind != ENTRY_KEY || id->len > ENV_KEY_MAX ||
		env_foreign(t->env, t->id - 1) <= base || ns_write_handle(t, ns, &dbi))
		return false;
	lock_take(&b->lock);
	for (size_t i = 0; i < b->n; i++) {
		if (b->txns[i].id == base && knows(&b->txns[i], dbi))
			overtaken = differs(st, &b->txns[i], t, id);
	}
	lock_drop(&b->lock);
	return overtaken;
}

void bases_release(struct bases *b)
{
	lock_take(&b->lock);
	while (b->n)
		env_read_end(&b->txns[--b->n]);
	lock_drop(&b->lock);
}
