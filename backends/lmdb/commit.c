/*
 * commit.c - one transaction with everything that is pending, tried until LMDB has what it needs.
 *
 * What can be missing is made and the transaction begun anew: our own databases, a namespace's
 * database that another program has dropped while changes to it were pending (they were accepted,
 * so it is made again), a larger map.
 */
#include "backends/lmdb/commit.h"

#include <errno.h>
#include <string.h>

#include "backends/base/log.h"
#include "backends/lmdb/meta.h"
#include "backends/lmdb/node.h"

enum { ANEW_MAX = 16 }; /* items that are left out one after the other */
enum { LOG_MAX = 16 }; /* lines about them after one commit */

enum { BEGIN_ANEW = -ECHILD }; /* an attempt came to nothing; what was missing is there now */

/* What the record is to say of the value that it belongs to. If somebody has looked at one, then of
 * that one, whatever other programs have written since. */
static struct node_stamp stamp_for(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct value_stamp *seen, const MDB_val *value)
{
	struct node_stamp stamp = {seen->size, seen->hash, seen->txn};
	struct record old;

	if (!seen->txn &&
		(node_record(st, t, id, &stamp, &old) || node_touched(st, t, id, &stamp, value)))
		return node_stamp_of(t, value);
	if (seen->txn && !node_touched(st, t, id, &stamp, value))
		stamp.txn = t->id;
	return stamp;
}

/* Writes a record whose value stays: its stamp stays too, as long as it is known to be right. */
static int store_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct pending_state *state)
{
	struct node_stamp stamp = {.txn = t->id};
	MDB_val value;

	if (id->kind == ENTRY_KEY) {
		int rc = node_value(st, t, id, &value);

		/* Another program has removed the key meanwhile. */
		if (rc == -ENOENT)
			return node_remove_record(st, t, id);
		if (rc)
			return rc;
		stamp = stamp_for(st, t, id, pending_seen(state), &value);
	}
	return node_put_record(st, t, id, &stamp, pending_record(state));
}

/* Another program has written or removed the key after our change of it was accepted: it is as if
 * ours had been stored before. */
static int store_overtaken(struct lmdb_store *st, struct txn *t, struct pending_item *it)
{
	const struct node_stamp ours = {
		.size = UINT64_MAX}; /* no value has it: this is another's */
	const struct entry_id *id = &it->entry->id;
	MDB_val value;

	it->overtaken = true;
	if (it->state.removed || node_value(st, t, id, &value) == -ENOENT)
		return node_remove_record(st, t, id);
	if (it->state.rec_part == PENDING_OWN)
		return node_put_record(st, t, id, &ours, pending_record(&it->state));
	return it->state.rec_part == PENDING_NONE ? node_remove_record(st, t, id) : 0;
}

static int store_value(struct lmdb_store *st, struct txn *t, const struct pending_item *it)
{
	const struct entry_id *id = &it->entry->id;
	struct node_stamp stamp, old_stamp;
	struct record old;
	int rc = node_put_value(st, t, id, it->state.value, &stamp);

	if (rc)
		return rc;
	if (it->state.rec_part == PENDING_OWN)
		return node_put_record(st, t, id, &stamp, pending_record(&it->state));
	if (it->state.rec_part == PENDING_NONE)
		return node_remove_record(st, t, id);
	/* The record that is there holds for the new value too. */
	rc = node_record(st, t, id, &old_stamp, &old);
	if (rc == 0)
		rc = node_put_record(st, t, id, &stamp, &old);
	return rc == -ENOENT ? 0 : rc;
}

static int store_item(struct lmdb_store *st, struct txn *t, struct pending_item *it)
{
	const struct entry_id *id = &it->entry->id;
	struct ns *ns = ns_get(&st->namespaces, id->ns);

	if (!ns || !atomic_load(&ns->id))
		return 0; /* the namespace has been removed */
	if (id->kind == ENTRY_KEY) {
		MDB_dbi dbi;
		int rc = ns_write_handle(t, ns, &dbi);

		if (rc == -EOPNOTSUPP)
			return rc;
	}
	it->overtaken = false;
	if ((it->what & PENDING_VALUE) && bases_overtaken(st, t, id, it->base))
		return store_overtaken(st, t, it);
	if (it->state.removed)
		return node_remove(st, t, id);
	if (id->kind == ENTRY_KEY && (it->what & PENDING_VALUE))
		return store_value(st, t, it);
	if (it->state.rec_part == PENDING_OWN)
		return store_record(st, t, id, &it->state);
	return 0;
}

/* What goes into one transaction. */
struct work {
	struct pending_batch batch;
	struct job *job; /* NULL: none, or it has failed */
	bool handles, changes_alone, map_alone; /* held for the job */
	unsigned anew; /* attempts that were given up for one item */
	bool committed; /* a transaction has been; else there was nothing to write */
};

/* A rename removes the old name in the group that puts the new one: as long as the new one is left
 * out, what is in the store under the old one stays there. The groups of an item that has been changed
 * again are not known one by one, so it holds for all between its first and its last. True: there are
 * some. */
static bool leave_out_removals(struct work *w)
{
	uint64_t first = UINT64_MAX, last = 0;
	bool any = false;

	for (size_t i = 0; i < w->batch.n; i++) {
		const struct pending_item *it = &w->batch.items[i];

		if (!it->error || it->state.removed)
			continue;
		first = it->first < first ? it->first : first;
		last = it->last > last ? it->last : last;
	}
	for (size_t i = 0; i < w->batch.n; i++) {
		struct pending_item *it = &w->batch.items[i];

		if (it->error || !it->state.removed || it->entry->id.kind != ENTRY_KEY ||
			it->last < first || it->last > last)
			continue;
		it->error = -ECANCELED;
		any = true;
	}
	return any;
}

/* What cannot be stored alone, because of another program or of damage, is left out, and stays in
 * the table: it must not keep all others from being durable. */
static int write_all(struct lmdb_store *st, struct txn *t, struct work *w)
{
	int rc = 0;

	for (size_t i = 0; i < w->batch.n && rc == 0; i++) {
		struct pending_item *it = &w->batch.items[i];

		if (it->error == -EIO || it->error == -ECANCELED)
			continue;
		rc = store_item(st, t, it);
		it->error = rc == -EOPNOTSUPP || rc == -EIO ? rc : 0;
		if (rc == -EOPNOTSUPP)
			rc = 0; /* nothing of it has been written */
		else if (rc == -EIO && w->anew++ < ANEW_MAX)
			rc = BEGIN_ANEW;
	}
	return rc == 0 && leave_out_removals(w) ? BEGIN_ANEW : rc;
}

static void release(struct lmdb_store *st, struct work *w)
{
	if (w->map_alone)
		env_alone_end(&st->env);
	if (w->changes_alone)
		gate_open(&st->changes);
	if (w->handles)
		lock_drop(&st->env.handles);
	w->map_alone = w->changes_alone = w->handles = false;
}

/* Makes what an attempt has missed. */
static int provide(struct lmdb_store *st, struct txn *t, int rc)
{
	struct ns *ns = t->missing;
	char shown[128];

	if (rc == ENV_MAP_FULL) {
		rc = env_grow(&st->env);
	} else if (rc == -ESTALE && ns) {
		log_warning("%s: the database %s was dropped by another program while changes to "
			    "it were "
			    "waiting; it is made again for them",
			st->env.dir, log_bytes(ns->name, ns->len, shown, sizeof(shown)));
		rc = env_db_create(&st->env, ns->name, 0, &ns->dbi);
	}
	return rc ? rc : BEGIN_ANEW;
}

static int job_failed(struct work *w, int rc)
{
	w->job->result = rc;
	w->job = NULL;
	return BEGIN_ANEW;
}

/* Runs the job, and brings the table of changes to a halt for it. */
static int run_job(struct lmdb_store *st, struct txn *t, struct work *w)
{
	struct job *job = w->job;

	if (job->handles) {
		lock_take(&st->env.handles);
		w->handles = true;
	}
	int rc = job->run(st, t, job);
	if (rc)
		return rc;
	gate_close(&st->changes);
	w->changes_alone = true;
	if (job->alone) {
		env_alone_begin(&st->env);
		w->map_alone = true;
	}
	return job->seal ? job->seal(st, t, job) : 0;
}

/* After a commit that failed. When LMDB has given the environment up, it is opened anew; and then the
 * transaction may turn out to be there: its last page was written, and the error came after that. */
static int look_after(struct lmdb_store *st, const struct txn *t, struct work *w, int rc)
{
	uint64_t last;

	if (!env_is_broken(&st->env, w->map_alone) || env_revive(&st->env, w->map_alone, &last))
		return rc;
	log_warning("%s: the environment has been opened anew after an error", st->env.dir);
	if (!t->dirty || last != t->id)
		return rc;
	env_own_landed(&st->env, t->id);
	return 0;
}

static int commit_txn(struct lmdb_store *st, struct txn *t, struct work *w)
{
	int64_t old_expiry = atomic_load(&st->first_expiry), new_expiry = expiry_first(t);

	/* Until the views that can see the old state have ended, both hold. */
	atomic_store(&st->first_expiry, new_expiry < old_expiry ? new_expiry : old_expiry);
	uint64_t serial = t->serial;
	int rc = env_write_commit(t);
	if (rc)
		rc = look_after(st, t, w, rc);
	atomic_store(&st->first_expiry, rc ? old_expiry : new_expiry);
	if (rc)
		return rc;
	w->committed = true;
	meta_saved(st, serial);
	return 0;
}

static int attempt(struct lmdb_store *st, struct work *w)
{
	struct env *e = &st->env;
	struct txn t;
	bool job_ran = false;
	int rc = env_write_begin(e, &t);

	if (rc)
		return rc;
	if (!env_own_present(&t)) {
		env_write_abort(&t);
		rc = env_own_create(e);
		return rc ? rc : BEGIN_ANEW;
	}
	rc = write_all(st, &t, w);
	if (rc == 0 && w->job && w->anew) {
		rc = -EIO; /* it may be about what is left out */
		job_ran = true;
	} else if (rc == 0 && w->job) {
		rc = run_job(st, &t, w);
		job_ran = true;
	}
	if (rc == 0 && !t.dirty && !w->job)
		goto abort; /* nothing has come of it */
	if (rc == 0)
		rc = meta_save(st, &t);
	if (rc == 0)
		rc = commit_txn(st, &t, w);
	if (rc == 0)
		return 0;
abort:
	if (t.mdb)
		env_write_abort(&t);
	if (w->changes_alone && w->job->undone)
		w->job->undone(st, w->job);
	release(st, w);
	if (rc == ENV_MAP_FULL || rc == -ESTALE)
		return provide(st, &t, rc);
	return rc && job_ran ? job_failed(w, rc) : rc;
}

const char *commit_why(int error)
{
	if (error == -ECANCELED)
		return "what was done together with it, as its renaming, cannot be stored";
	return error == -EOPNOTSUPP
		? "another program has put a database with duplicates, or with keys in an order of "
		  "its own, in the place of its namespace"
		: "the environment is damaged where it belongs";
}

/* Says it once of each, of a few at a time. */
static void log_left_out(struct lmdb_store *st, const struct work *w)
{
	char shown[256], ns_shown[128];
	unsigned said = 0;

	for (size_t i = 0; i < w->batch.n; i++) {
		const struct pending_item *it = &w->batch.items[i];
		const struct entry_id *id = &it->entry->id;

		if (!it->error || it->entry->error || said++ >= LOG_MAX)
			continue;
		const struct ns *ns = ns_get(&st->namespaces, id->ns);
		log_error("%s: the change of %s in namespace %s cannot be stored: %s. It stays in "
			  "memory and is tried again",
			st->env.dir, log_bytes(id->bytes, id->len, shown, sizeof(shown)),
			log_bytes(ns->name, ns->len, ns_shown, sizeof(ns_shown)),
			commit_why(it->error));
	}
	if (said > LOG_MAX)
		log_error("%s: so it is with %u more", st->env.dir, said - LOG_MAX);
}

/* Whether there was any: then whoever has seen ours is to look again. */
static bool log_overtaken(struct lmdb_store *st, const struct work *w)
{
	char shown[256], ns_shown[128];
	unsigned said = 0;

	for (size_t i = 0; i < w->batch.n; i++) {
		const struct entry_id *id = &w->batch.items[i].entry->id;

		if (!w->batch.items[i].overtaken || said++ >= LOG_MAX)
			continue;
		const struct ns *ns = ns_get(&st->namespaces, id->ns);
		log_warning(
			"%s: another program has changed %s in namespace %s after it was "
			"changed here, before that was stored: the other program's change stays",
			st->env.dir, log_bytes(id->bytes, id->len, shown, sizeof(shown)),
			log_bytes(ns->name, ns->len, ns_shown, sizeof(ns_shown)));
	}
	if (said > LOG_MAX)
		log_warning("%s: so it is with %u more", st->env.dir, said - LOG_MAX);
	return said > 0;
}

static void finish(struct lmdb_store *st, struct work *w, int rc)
{
	bool overtaken = false;

	if (!w->changes_alone) {
		gate_close(&st->changes);
		w->changes_alone = true;
	}
	if (rc == 0) {
		log_left_out(st, w);
		overtaken = log_overtaken(st, w);
	}
	/* What is accepted from here on, or was during the commit, is later than those moments. Who has the
	 * map alone has made sure that there are none. */
	if (!w->map_alone)
		bases_release(&st->bases);
	pending_finish(st->pending, &w->batch, rc == 0);
	atomic_store(&st->left_out, pending_error(st->pending));
	if (w->job && rc == 0 && w->job->landed)
		w->job->landed(st, w->job);
	pending_publish(st);
	release(st, w);
	if (overtaken)
		watch_overtaken(st);
	if (w->job)
		w->job->result = rc;
}

/* The book of attempts, for those who wait: up to `stored` went well, up to `seq` came out so. */
static void note_attempt(
	struct lmdb_store *st, const struct job *job, uint64_t stored, uint64_t seq, int rc)
{
	struct committer *c = &st->committer;
	int before = atomic_exchange(&st->commit_error, rc);

	if (rc && rc != before)
		log_error("%s: changes cannot be made durable: %s; %s. They stay in memory and are "
			  "tried again "
			  "every second",
			st->env.dir, strerror(-rc),
			rc == -ENOSPC || rc == -EDQUOT ? "make room on the medium"
						       : "check the medium");
	else if (!rc && before)
		log_warning("%s: changes are made durable again", st->env.dir);
	lock_take(&c->lock);
	if (rc) {
		c->failures++;
		c->failed_seq = seq;
	} else {
		stored = seq;
	}
	if (stored > c->durable)
		c->durable = stored;
	if (!job)
		c->busy = false;
	pthread_cond_broadcast(&c->done);
	lock_drop(&c->lock);
}

/* A dead process may be what keeps LMDB from using pages again: before the file grows on for long,
 * its slot is looked for. With env.writer. */
static void look_for_dead_readers(struct lmdb_store *st)
{
	struct env_usage usage;

	env_usage(&st->env, false, &usage);
	if (usage.used < st->committer.readers_checked + READERS_CHECK_EVERY)
		return;
	st->committer.readers_checked = usage.used;
	env_check_readers(&st->env);
}

/* Commits what the groups up to *seq made; UINT64_MAX: all, and *seq says how far that was. Caller
 * holds env.writer. */
static int commit_upto(struct lmdb_store *st, struct job *job, uint64_t *seq)
{
	struct work w = {.job = job};

	gate_close(&st->changes);
	int rc = pending_collect(st->pending, *seq, &w.batch);
	if (*seq == UINT64_MAX)
		*seq = st->seq;
	gate_open(&st->changes);
	if (rc)
		return rc;
	bool any = w.batch.n || job;
	do
		rc = any ? attempt(st, &w) : 0;
	while (rc == BEGIN_ANEW);
	if (w.committed) {
		atomic_fetch_add(&st->commits, 1);
		space_committed(&st->space);
	}
	finish(st, &w, rc);
	return rc;
}

/* On a full medium a large commit may find no room although smaller ones would: removals need new
 * pages before they give old ones back. So the oldest groups first, as many as there is room for.
 */
static int commit_pieces(struct lmdb_store *st, uint64_t seq, uint64_t *stored)
{
	size_t max = atomic_load(&st->pending_count);
	uint64_t upto, tried = UINT64_MAX;
	int rc = -ENOSPC;

	while (rc == 0 || (rc == -ENOSPC && max > 1)) {
		max = rc ? max / 2 : 2 * max;
		gate_enter(&st->changes, false);
		int cut = pending_cut(st->pending, max, &upto);
		gate_leave(&st->changes);
		if (cut)
			return cut == -ENOENT ? 0 : cut;
		if (rc == 0 && upto > seq)
			return 0; /* the rest is newer than what was to be committed */
		if (rc && upto == tried)
			continue; /* it cannot be divided here */
		tried = upto;
		rc = commit_upto(st, NULL, &upto);
		if (rc == 0)
			*stored = upto;
	}
	return rc;
}

int commit_run(struct lmdb_store *st, struct job *job)
{
	uint64_t seq = UINT64_MAX, stored = 0;

	lock_take(&st->env.writer);
	uint64_t commits = atomic_load(&st->commits);
	int rc = commit_upto(st, job, &seq);
	if (rc && job) {
		/* Its caller is told. What is pending may be stored without it; and if nothing is,
		 * there is no error that new changes would have to wait for. */
		job->result = rc;
		seq = UINT64_MAX;
		rc = commit_upto(st, NULL, &seq);
	}
	if (rc == -ENOSPC)
		rc = commit_pieces(st, seq, &stored);
	if (rc == 0)
		look_for_dead_readers(st);
	bool committed = atomic_load(&st->commits) != commits;
	lock_drop(&st->env.writer);
	if (rc == 0 && committed)
		watch_committed(st);
	note_attempt(st, job, stored, seq, rc);
	return rc;
}

int commit_job(struct lmdb_store *st, struct job *job)
{
	job->result = -EIO;
	thread_waits();
	int rc = commit_run(st, job);

	return rc ? rc : job->result;
}
