/*
 * ns.c - the table of namespaces, and what in an environment is one.
 *
 * The unnamed database holds the names of all others, but may hold plain records too. LMDB shows a
 * database there as its 48 bytes of root information; that it is one, only opening it can tell.
 */
#include "backends/lmdb/ns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/log.h"

enum {
	DB_INFO_SIZE = 48, /* what LMDB keeps of a database in the unnamed one */
	SURVEY_MAX = 10000,
	DB_INFO_FLAGS = 4, /* where its flags are in there, 16 bits */
};

static int name_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t common = a_len < b_len ? a_len : b_len;
	int order = common ? memcmp(a, b, common) : 0;

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int ns_compare(const struct ns *a, const struct ns *b)
{
	return name_compare(a->name, a->len, b->name, b->len);
}

RB_GENERATE_INTERNAL(ns_tree, ns, by_name, ns_compare, static __attribute__((unused)))

/* Ids of namespaces count up from 1. */
#define TOP_ID UINT32_MAX

int namespaces_init(struct ns_table *t)
{
	*t = (struct ns_table){.top = {.id = TOP_ID}};
	lock_init(&t->lock, LOCK_NAMESPACES);
	/* The kernel gives its pages when they are used. */
	t->by_number = calloc(NS_NUMBERS_MAX, sizeof(*t->by_number));
	return t->by_number ? 0 : -ENOMEM;
}

void namespaces_release(struct ns_table *t)
{
	for (uint32_t i = 0; t->by_number && i < t->numbers; i++)
		free(atomic_load(&t->by_number[i]));
	free(t->by_number);
	lock_destroy(&t->lock);
}

struct ns *ns_get(struct ns_table *t, uint32_t number)
{
	if (number == 0)
		return &t->top;
	if (number > NS_NUMBERS_MAX)
		return NULL;
	return atomic_load(&t->by_number[number - 1]);
}

struct ns *ns_by_id(struct ns_table *t, uint32_t id)
{
	struct ns *ns, *found = NULL;

	lock_take(&t->lock);
	RB_FOREACH(ns, ns_tree, &t->by_name)
	{
		if (atomic_load(&ns->id) == id) {
			found = ns;
			break;
		}
	}
	lock_drop(&t->lock);
	return found;
}

static struct ns *lookup_locked(struct ns_table *t, const void *name, size_t len)
{
	struct ns wanted = {.len = len};

	if (len > ENV_KEY_MAX)
		return NULL;
	memcpy(wanted.name, name, len);
	return RB_FIND(ns_tree, &t->by_name, &wanted);
}

struct ns *ns_lookup(struct ns_table *t, const void *name, size_t len)
{
	lock_take(&t->lock);
	struct ns *ns = lookup_locked(t, name, len);
	lock_drop(&t->lock);
	return ns;
}

int ns_add(struct ns_table *t, const void *name, size_t len, uint32_t id, bool with_id,
	struct ns **out)
{
	struct ns *ns = calloc(1, sizeof(*ns));
	int rc = 0;

	if (!ns)
		return -ENOMEM;
	ns->len = len;
	memcpy(ns->name, name, len);
	lock_take(&t->lock);
	if (t->numbers == NS_NUMBERS_MAX) {
		rc = -ENFILE;
	} else {
		if (id > t->last_id)
			t->last_id = id;
		else if (!id && with_id)
			id = ++t->last_id;
		atomic_store(&ns->id, id);
		atomic_store(&t->unsaved, true);
		ns->number = t->numbers + 1;
		atomic_store(&t->by_number[t->numbers++], ns);
		RB_INSERT(ns_tree, &t->by_name, ns);
	}
	lock_drop(&t->lock);
	if (rc)
		free(ns);
	else
		*out = ns;
	return rc;
}

/* For one that was made known before it could be used. */
static void give_id(struct ns_table *t, struct ns *ns)
{
	lock_take(&t->lock);
	if (!atomic_load(&ns->id))
		atomic_store(&ns->id, ++t->last_id);
	atomic_store(&t->unsaved, true);
	lock_drop(&t->lock);
}

int ns_with_id(struct ns_table *t, const void *name, size_t len, struct ns **out)
{
	struct ns *ns = ns_lookup(t, name, len);
	int rc = ns ? 0 : ns_add(t, name, len, 0, true, &ns);

	if (rc)
		return rc;
	give_id(t, ns);
	*out = ns;
	return 0;
}

void ns_reserve_id(struct ns_table *t, uint32_t id)
{
	lock_take(&t->lock);
	if (id > t->last_id && id != TOP_ID)
		t->last_id = id;
	lock_drop(&t->lock);
}

void ns_retire(struct ns_table *t, struct ns *ns)
{
	lock_take(&t->lock);
	RB_REMOVE(ns_tree, &t->by_name, ns);
	atomic_store(&ns->id, 0);
	atomic_store(&ns->dbi, 0);
	lock_drop(&t->lock);
}

void ns_set_name(struct ns_table *t, struct ns *ns, const void *name, size_t len)
{
	lock_take(&t->lock);
	RB_REMOVE(ns_tree, &t->by_name, ns);
	memcpy(ns->name, name, len);
	ns->name[len] = '\0';
	ns->len = len;
	RB_INSERT(ns_tree, &t->by_name, ns);
	lock_drop(&t->lock);
}

int ns_name_check(const void *name, size_t len)
{
	if (len == 0 || (len <= ENV_KEY_MAX && memchr(name, 0, len)))
		return -EINVAL;
	if (len > ENV_KEY_MAX)
		return -ENAMETOOLONG;
	return env_name_reserved(name, len) ? -EPERM : 0;
}

static void warn_plain_record(struct ns_table *t, const struct env *e)
{
	if (!atomic_exchange(&t->warned_plain, true))
		log_warning(
			"%s: the unnamed database holds records that are in no namespace; they are "
			"not shown",
			e->dir);
}

/* Says once of each that it cannot be shown. Caller holds env.handles. */
static void warn_unfit(struct ns_table *t, const struct env *e, const void *name, size_t len)
{
	struct ns *ns = ns_lookup(t, name, len);
	char shown[128];

	if (!ns && ns_add(t, name, len, 0, false, &ns))
		return;
	if (ns->warned)
		return;
	ns->warned = true;
	atomic_fetch_add(&t->unfit, 1);
	log_warning("%s: the database %s is no plain map (it has duplicates, or keys in an order "
		    "of its "
		    "own); it is not shown",
		e->dir, log_bytes(name, len, shown, sizeof(shown)));
}

int ns_refuse_long_key(const struct env *e)
{
	log_error("%s: a key is longer than %d bytes: it can only be removed by the program that "
		  "made "
		  "it",
		e->dir, (int)ENV_KEY_MAX);
	return -EIO;
}

void ns_note_long_key(struct ns *ns, const struct env *e)
{
	char shown[128];

	if (!atomic_exchange(&ns->long_keys, true))
		log_warning(
			"%s: the database %s has keys of more than %d bytes; they are not shown",
			e->dir, log_bytes(ns->name, ns->len, shown, sizeof(shown)),
			(int)ENV_KEY_MAX);
}

static unsigned info_flags(const MDB_val *info)
{
	uint16_t flags;

	memcpy(&flags, (const char *)info->mv_data + DB_INFO_FLAGS, sizeof(flags));
	return flags;
}

/* Opens the database in a read transaction: its handle is good until that ends, or for good where
 * it ends keeping handles. Caller holds env.handles. */
static int open_handle(struct ns_table *t, struct txn *txn, const char *name, MDB_dbi *dbi)
{
	struct env *e = txn->env;
	unsigned flags = 0;
	int rc = mdb_dbi_open(txn->mdb, name, 0, dbi);

	if (rc == MDB_INCOMPATIBLE) {
		warn_plain_record(t, e);
		return -ENOENT;
	}
	if (rc == MDB_DBS_FULL) {
		log_error("%s: more than %d databases are in use", e->dir, (int)ENV_DBS_MAX);
		return -ENFILE;
	}
	if (rc == 0)
		rc = mdb_dbi_flags(txn->mdb, *dbi, &flags);
	if (rc == 0 && flags) {
		warn_unfit(t, e, name, strlen(name));
		return -EOPNOTSUPP;
	}
	return env_error(e, rc, "opening a database");
}

static int read_begin(struct env *e, struct txn *txn)
{
	int rc;

	while ((rc = env_read_begin(e, false, txn)) == ENV_REMAP) {
		rc = env_adopt_size(e);
		if (rc)
			break;
	}
	return rc;
}

/* Begins to read with env.handles held. */
static int handles_begin(struct env *e, struct txn *txn)
{
	int rc;

	for (;;) {
		lock_take(&e->handles);
		rc = env_read_begin(e, false, txn);
		if (rc == 0)
			return 0;
		lock_drop(&e->handles);
		if (rc != ENV_REMAP)
			return rc;
		rc = env_adopt_size(e);
		if (rc)
			return rc;
	}
}

static int open_new(
	struct ns_table *t, struct env *e, const void *name, size_t len, struct ns **out)
{
	char text[ENV_KEY_MAX + 1];
	struct txn txn;
	MDB_dbi dbi = 0;
	int rc = handles_begin(e, &txn);

	if (rc)
		return rc;
	memcpy(text, name, len);
	text[len] = '\0';
	struct ns *ns = ns_lookup(t, name, len);
	if (!ns || !atomic_load(&ns->dbi))
		rc = open_handle(t, &txn, text, &dbi);
	if (rc || !dbi) {
		env_read_end(&txn);
		goto out;
	}
	env_read_end_keeping_handles(&txn);
	if (!ns)
		rc = ns_add(t, name, len, 0, !e->readonly, &ns);
	if (rc == 0) {
		if (!e->readonly)
			give_id(t, ns);
		atomic_store(&ns->dbi, dbi);
	}
out:
	lock_drop(&e->handles);
	if (rc == 0)
		*out = ns;
	return rc;
}

int ns_open(struct ns_table *t, struct env *e, const void *name, size_t len, struct ns **out)
{
	struct txn txn;
	MDB_val info;

	if (ns_name_check(name, len))
		return -ENOENT;
	struct ns *ns = ns_lookup(t, name, len);
	if (!ns || !atomic_load(&ns->dbi))
		return open_new(t, e, name, len, out);
	int rc = read_begin(e, &txn);
	if (rc)
		return rc;
	rc = txn_get(&txn, e->main_dbi, name, len, &info);
	if (rc == 0 && info.mv_size != DB_INFO_SIZE)
		rc = -ENOENT;
	if (rc == 0 && info_flags(&info))
		rc = -EOPNOTSUPP;
	env_read_end(&txn);
	if (rc == 0)
		*out = ns;
	return rc;
}

/* Whether an entry of the unnamed database is a namespace: 0, or what open_handle() says. */
static int judge(struct ns_table *t, struct txn *txn, const MDB_val *name, const MDB_val *info)
{
	char text[ENV_KEY_MAX + 1];
	MDB_dbi dbi;

	if (env_name_reserved(name->mv_data, name->mv_size))
		return -EPERM;
	if (info->mv_size != DB_INFO_SIZE || name->mv_size > ENV_KEY_MAX ||
		memchr(name->mv_data, 0, name->mv_size)) {
		warn_plain_record(t, txn->env);
		return -ENOENT;
	}
	struct ns *ns = ns_lookup(t, name->mv_data, name->mv_size);
	if (ns && atomic_load(&ns->dbi))
		return info_flags(info) ? -EOPNOTSUPP : 0;
	memcpy(text, name->mv_data, name->mv_size);
	text[name->mv_size] = '\0';
	return open_handle(t, txn, text, &dbi);
}

int ns_next_name(struct ns_table *t, struct env *e, const void *after, size_t after_len, void *name,
	size_t cap, size_t *len)
{
	MDB_val key = {.mv_size = after_len, .mv_data = (void *)(uintptr_t)after}, info;
	MDB_cursor *cur;
	struct txn txn;

	if (after_len > ENV_KEY_MAX)
		return -ENAMETOOLONG;
	int rc = handles_begin(e, &txn);
	if (rc)
		return rc;
	rc = txn_cursor(&txn, e->main_dbi, &cur);
	if (rc)
		goto out;
	MDB_cursor_op op = after_len ? MDB_SET_RANGE : MDB_FIRST;
	for (;; op = MDB_NEXT) {
		rc = env_error(e, mdb_cursor_get(cur, &key, &info, op), "listing databases");
		if (rc)
			break;
		if (name_compare(key.mv_data, key.mv_size, after, after_len) <= 0)
			continue;
		rc = judge(t, &txn, &key, &info);
		if (rc == 0)
			break;
	}
	if (rc == 0 && key.mv_size > cap)
		rc = -ENAMETOOLONG;
	if (rc == 0) {
		memcpy(name, key.mv_data, key.mv_size);
		*len = key.mv_size;
	}
	mdb_cursor_close(cur);
out:
	env_read_end(&txn);
	lock_drop(&e->handles);
	return rc;
}

void ns_survey(struct ns_table *t, struct env *e)
{
	MDB_cursor_op op = MDB_FIRST;
	MDB_val name, info;
	MDB_cursor *cur;
	struct txn txn;

	if (handles_begin(e, &txn))
		return;
	if (txn_cursor(&txn, e->main_dbi, &cur) == 0) {
		for (int i = 0; i < SURVEY_MAX && mdb_cursor_get(cur, &name, &info, op) == 0; i++) {
			/* What looks like a namespace is opened when it is asked for. */
			if (info.mv_size != DB_INFO_SIZE || info_flags(&info))
				judge(t, &txn, &name, &info);
			op = MDB_NEXT;
		}
		mdb_cursor_close(cur);
	}
	env_read_end(&txn);
	lock_drop(&e->handles);
}

int ns_write_handle(struct txn *t, struct ns *ns, MDB_dbi *dbi)
{
	MDB_dbi handle = atomic_load(&ns->dbi);
	MDB_val info;

	if (ns->checked != t->serial) {
		if (!handle || txn_get(t, t->env->main_dbi, ns->name, ns->len, &info)) {
			t->missing = ns;
			return -ESTALE;
		}
		if (info.mv_size != DB_INFO_SIZE || info_flags(&info))
			return -EOPNOTSUPP;
		ns->checked = t->serial;
	}
	*dbi = handle;
	return 0;
}

void ns_reopen_handles(void *table, MDB_txn *txn)
{
	struct ns_table *t = table;
	struct ns *ns;

	for (uint32_t i = 1; (ns = ns_get(t, i)); i++) {
		MDB_dbi dbi = 0;

		if (!atomic_load(&ns->dbi))
			continue;
		if (mdb_dbi_open(txn, ns->name, 0, &dbi))
			dbi = 0;
		atomic_store(&ns->dbi, dbi);
	}
}
