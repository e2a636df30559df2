/*
 * watch.c - a thread that looks for other programs' commits, and keeps the snapshot before them to
 * compare with.
 *
 * It looks five times a second. The snapshot is renewed after each commit of our own, and whenever
 * others have committed, so that it never keeps LMDB from using pages again for longer than that;
 * and it is given up when somebody needs to be alone (to let the map grow). Then what comes next
 * counts as changed.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "backends/lmdb/node.h"

enum {
	LOOK_MS = 200,
	READERS_EVERY = 25, /* looks between two searches for slots that dead processes left */
};

struct foreign_change {
	struct lmdb_store *st;
};

static void unpin(bool *have, struct txn *t)
{
	if (*have)
		env_read_end(t);
	*have = false;
}

void watch_release_pins(void *arg)
{
	struct lmdb_store *st = arg;
	struct watch *w = &st->watch;

	lock_take(&w->lock);
	unpin(&w->have_before, &w->before);
	unpin(&w->have_after, &w->after);
	lock_drop(&w->lock);
	bases_release(&st->bases);
}

/* A snapshot that whoever wants to be alone may end. */
static bool pin(struct lmdb_store *st, struct txn *t)
{
	if (env_read_begin(&st->env, false, t))
		return false;
	env_read_pin(t);
	return true;
}

/* All counts as changed at the next look: this is rare, and the kernel may have been told of the
 * change already when views still showed our value. */
void watch_overtaken(struct lmdb_store *st)
{
	struct watch *w = &st->watch;

	lock_take(&w->lock);
	w->overtaken = true;
	lock_drop(&w->lock);
}

/* Tells the watcher; w->after is the new state. With w->lock, which is released meanwhile. */
static void tell(struct lmdb_store *st)
{
	struct watch *w = &st->watch;
	struct foreign_change what = {st};
	store_watcher fn = w->fn;
	void *arg = w->arg;

	w->calling = true;
	lock_drop(&w->lock);
	fn(arg, &what);
	lock_take(&w->lock);
	w->calling = false;
	pthread_cond_broadcast(&w->changed);
}

/* With w->lock. */
static void look(struct lmdb_store *st)
{
	struct watch *w = &st->watch;

	if (atomic_load(&st->env.alone_wanted)) {
		unpin(&w->have_before, &w->before);
		return;
	}
	int rc = env_read_begin(&st->env, false, &w->after);
	if (rc == ENV_REMAP) {
		unpin(&w->have_before, &w->before);
		lock_drop(&w->lock);
		env_adopt_size(&st->env);
		lock_take(&w->lock);
	}
	if (rc)
		return;
	env_read_pin(&w->after);
	w->have_after = true;
	if (w->overtaken) {
		w->overtaken = false;
		w->reported = 0;
		unpin(&w->have_before, &w->before);
	}
	if (w->have_before && w->before.id == w->after.id) {
		unpin(&w->have_after, &w->after);
		return;
	}
	uint64_t foreign = env_foreign(&st->env, w->after.id);
	if (foreign > w->reported) {
		w->reported = foreign;
		tell(st);
	}
	unpin(&w->have_before, &w->before);
	if (w->have_after) {
		w->before = w->after;
		w->have_before = true;
		w->have_after = false;
	}
}

static void *watch_main(void *arg)
{
	struct lmdb_store *st = arg;
	struct watch *w = &st->watch;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	lock_take(&w->lock);
	for (unsigned round = 1; !w->stop; round++) {
		next.tv_nsec += LOOK_MS * 1000000L;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		while (!w->stop && lock_wait_until(&w->lock, &w->changed, &next) != ETIMEDOUT)
			;
		if (w->stop)
			break;
		if (w->fn)
			look(st);
		lock_drop(&w->lock);
		orphans_step(st);
		lock_take(&w->lock);
		if (round % READERS_EVERY == 0)
			env_check_readers(&st->env);
		/* After a long call of the watcher, do not make up for the looks that were missed.
		 */
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > next.tv_sec)
			next = now;
	}
	unpin(&w->have_before, &w->before);
	lock_drop(&w->lock);
	return NULL;
}

void watch_committed(struct lmdb_store *st)
{
	struct watch *w = &st->watch;

	lock_take(&w->lock);
	if (w->have_before && !w->calling && env_newest_foreign(&st->env) <= w->reported) {
		unpin(&w->have_before, &w->before);
		w->have_before = !atomic_load(&st->env.alone_wanted) && pin(st, &w->before);
		/* Should others have committed in this very moment, what they changed is unknown.
		 */
		if (w->have_before && env_foreign(&st->env, w->before.id) > w->reported)
			unpin(&w->have_before, &w->before);
	}
	lock_drop(&w->lock);
}

void watch_init(struct lmdb_store *st)
{
	struct watch *w = &st->watch;
	pthread_condattr_t attr;

	lock_init(&w->lock, LOCK_WATCH);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	lock_init(&st->bases.lock, LOCK_BASES);
	st->env.pins_arg = st;
	st->env.release_pins = watch_release_pins;
}

void watch_destroy(struct lmdb_store *st)
{
	struct watch *w = &st->watch;

	st->env.release_pins = NULL;
	bases_release(&st->bases);
	lock_destroy(&st->bases.lock);
	pthread_cond_destroy(&w->changed);
	lock_destroy(&w->lock);
}

int watch_start(struct lmdb_store *st)
{
	struct watch *w = &st->watch;
	int rc = thread_start(&w->thread, watch_main, st);

	w->running = rc == 0;
	return rc;
}

void watch_stop(struct lmdb_store *st)
{
	struct watch *w = &st->watch;

	if (!w->running)
		return;
	lock_take(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->changed);
	lock_drop(&w->lock);
	pthread_join(w->thread, NULL);
	w->running = false;
}

void lmdb_watch(struct store *base, store_watcher fn, void *arg)
{
	struct lmdb_store *st = lmdb_store(base);
	struct watch *w = &st->watch;

	lock_take(&w->lock);
	w->fn = fn;
	w->arg = arg;
	unpin(&w->have_before, &w->before);
	if (fn && pin(st, &w->before)) {
		w->have_before = true;
		w->reported = env_foreign(&st->env, w->before.id);
	}
	while (w->calling && !pthread_equal(pthread_self(), w->thread))
		lock_wait(&w->lock, &w->changed);
	lock_drop(&w->lock);
}

/* What cannot be read may have changed, and is not taken for removed. */
static enum foreign_verdict verdict(
	struct lmdb_store *st, struct txn *before, struct txn *after, const struct entry_id *id)
{
	MDB_val old, new;
	int is_old = before ? node_value(st, before, id, &old) : -ENODATA;
	int is_new = node_value(st, after, id, &new);

	if (is_new == -ENOENT)
		return is_old == -ENOENT ? FOREIGN_SAME : FOREIGN_GONE;
	if (is_new || is_old || old.mv_size != new.mv_size)
		return FOREIGN_CHANGED;
	return old.mv_data == new.mv_data || memcmp(old.mv_data, new.mv_data, old.mv_size) == 0
		? FOREIGN_SAME
		: FOREIGN_CHANGED;
}

enum foreign_verdict lmdb_foreign_compare(struct foreign_change *what, const struct entry_id *id)
{
	struct lmdb_store *st = what->st;
	struct watch *w = &st->watch;
	struct nesting *nesting = nesting_get(st);
	enum foreign_verdict v = FOREIGN_CHANGED;
	struct txn now;

	if (id->kind != ENTRY_KEY)
		return FOREIGN_SAME;
	lock_take(&w->lock);
	struct txn *before = w->have_before ? &w->before : NULL;
	if (w->have_after) {
		v = verdict(st, before, &w->after, id);
	} else if (nesting && !atomic_load(&st->env.alone_wanted) &&
		env_read_begin(&st->env, nesting_in_map(nesting), &now) == 0) {
		v = verdict(st, before, &now, id);
		env_read_end(&now);
	}
	lock_drop(&w->lock);
	return v;
}

int lmdb_foreign_old_value(
	struct foreign_change *what, const struct entry_id *id, struct blob **out)
{
	struct lmdb_store *st = what->st;
	struct watch *w = &st->watch;
	MDB_val value;
	int rc = -ENOENT;

	if (id->kind != ENTRY_KEY)
		return rc;
	lock_take(&w->lock);
	if (w->have_before)
		rc = node_value(st, &w->before, id, &value);
	if (rc == 0)
		rc = blob_new_copy(st->base.blobs, value.mv_data, value.mv_size, out);
	lock_drop(&w->lock);
	return rc;
}
