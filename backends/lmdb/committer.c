/*
 * committer.c - the thread that makes changes durable, and those who wait for it.
 *
 * It sleeps until there is something, lets changes gather for the commit interval, and commits. It
 * does not let them gather when someone waits, or when they are many. What cannot be committed is
 * tried again every second, or as soon as someone asks.
 *
 * Who waits for durability (lmdb_sync) commits itself, when nobody does: the thread would have to be
 * woken for it, and would have to wake it again. What others do meanwhile gathers for the next one of
 * them.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "backends/base/log.h"
#include "backends/lmdb/commit.h"

enum { RETRY_MS = 1000, LEFT_OUT_RETRY_MS = 10000, CLOSE_TRIES = 3 };

static struct timespec deadline(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* Waits, with c->lock, until nothing may be put off any longer. */
static void gather(struct committer *c, unsigned ms)
{
	struct timespec until = deadline(ms);

	while (!c->stop && !c->urgent && !c->waiting) {
		if (lock_wait_until(&c->lock, &c->work, &until))
			break;
	}
}

/* Waits, with c->lock, for something to do. False: for so long that what was left out of the last
 * commit is to be tried again. */
static bool rest(struct lmdb_store *st)
{
	struct committer *c = &st->committer;
	struct timespec until = deadline(LEFT_OUT_RETRY_MS);

	c->idle = true;
	if (!atomic_load(&st->left_out))
		return lock_wait(&c->lock, &c->work) == 0;
	return lock_wait_until(&c->lock, &c->work, &until) != ETIMEDOUT;
}

static void *committer_main(void *arg)
{
	struct lmdb_store *st = arg;
	struct committer *c = &st->committer;

	lock_take(&c->lock);
	while (!c->stop) {
		bool again = c->applied == c->durable;

		if (again && rest(st)) {
			c->idle = false;
			continue;
		}
		gather(c, st->commit_interval_ms);
		while (c->busy)
			lock_wait(&c->lock, &c->done);
		if (c->stop)
			break;
		c->urgent = false;
		if (c->applied == c->durable && !again)
			continue; /* those who waited have done it */
		c->busy = true;
		lock_drop(&c->lock);
		int rc = commit_run(st, NULL);
		lock_take(&c->lock);
		/* Whoever waited has been told; who comes now does not wait for the second to pass.
		 */
		if (rc) {
			c->urgent = false;
			gather(c, RETRY_MS);
		}
	}
	lock_drop(&c->lock);
	return NULL;
}

int committer_start(struct lmdb_store *st)
{
	struct committer *c = &st->committer;
	pthread_condattr_t attr;

	lock_init(&c->lock, LOCK_COMMITTER);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, &attr);
	pthread_cond_init(&c->done, &attr);
	pthread_condattr_destroy(&attr);
	if (st->base.readonly)
		return 0;
	int rc = thread_start(&c->thread, committer_main, st);
	c->running = rc == 0;
	return rc;
}

/* Names everything that could not be made durable. */
static void log_lost(struct lmdb_store *st, int error)
{
	struct pending_batch batch;
	char shown[256];

	if (pending_collect(st->pending, UINT64_MAX, &batch)) {
		log_error("%s: %llu changes are lost: %s", st->env.dir,
			(unsigned long long)pending_totals(st->pending)->count, strerror(-error));
		return;
	}
	for (size_t i = 0; i < batch.n; i++) {
		const struct entry_id *id = &batch.items[i].entry->id;
		struct ns *ns = ns_get(&st->namespaces, id->ns);
		char ns_shown[128];
		int why = batch.items[i].entry->error;

		log_error("%s: the %s of %s in namespace %s is lost: %s", st->env.dir,
			batch.items[i].state.removed    ? "removal"
				: id->kind == ENTRY_KEY ? "new value or attributes"
							: "directory attributes",
			log_bytes(id->bytes, id->len, shown, sizeof(shown)),
			log_bytes(ns->name, ns->len, ns_shown, sizeof(ns_shown)),
			why ? commit_why(why) : strerror(-error));
	}
	pending_finish(st->pending, &batch, false);
}

int committer_stop(struct lmdb_store *st)
{
	struct committer *c = &st->committer;
	int rc = 0;

	if (c->running) {
		lock_take(&c->lock);
		c->stop = true;
		pthread_cond_signal(&c->work);
		lock_drop(&c->lock);
		pthread_join(c->thread, NULL);
		pending_drop_holds(st->pending); /* nobody is left to complete it */
		for (int i = 0; i < CLOSE_TRIES; i++) {
			rc = commit_run(st, NULL);
			if (rc == 0)
				break;
		}
		if (rc == 0 && atomic_load(&st->left_out))
			rc = -EIO;
		if (rc)
			log_lost(st, rc);
	}
	pthread_cond_destroy(&c->done);
	pthread_cond_destroy(&c->work);
	lock_destroy(&c->lock);
	return rc;
}

void committer_notify(struct lmdb_store *st, uint64_t seq)
{
	struct committer *c = &st->committer;
	bool many = atomic_load(&st->pending_weight) > st->pending_max / 4;

	lock_take(&c->lock);
	if (seq > c->applied)
		c->applied = seq;
	if (c->idle || (many && !c->urgent)) {
		c->urgent |= many;
		c->idle = false;
		pthread_cond_signal(&c->work);
	}
	lock_drop(&c->lock);
}

int lmdb_sync(struct store *base, uint64_t seq)
{
	struct lmdb_store *st = lmdb_store(base);
	struct committer *c = &st->committer;
	int rc = 0;

	lock_take(&c->lock);
	uint64_t failures = c->failures;
	if (seq > c->applied)
		seq = c->applied;
	if (c->durable < seq)
		thread_waits();
	while (c->durable < seq) {
		if (c->failures > failures && c->failed_seq >= seq) {
			rc = atomic_load(&st->commit_error);
			rc = rc ? rc : -EIO;
			break;
		}
		if (!c->busy && !c->stop) {
			c->busy = true;
			lock_drop(&c->lock);
			commit_run(st, NULL);
			lock_take(&c->lock);
			continue;
		}
		c->waiting++;
		lock_wait(&c->lock, &c->done);
		c->waiting--;
	}
	lock_drop(&c->lock);
	return rc ? rc : atomic_load(&st->left_out) ? -EIO : 0;
}

/* Waits until the changes in memory weigh no more than that; the error that keeps them there. */
int committer_drain(struct lmdb_store *st, uint64_t max_weight)
{
	struct committer *c = &st->committer;
	int rc = 0;

	lock_take(&c->lock);
	uint64_t failures = c->failures;
	if (atomic_load(&st->pending_weight) > max_weight)
		thread_waits();
	while (atomic_load(&st->pending_weight) > max_weight) {
		if (c->failures > failures) {
			rc = atomic_load(&st->commit_error);
			break;
		}
		if (c->applied == c->durable)
			break; /* what is left is held */
		c->waiting++;
		pthread_cond_signal(&c->work);
		lock_wait(&c->lock, &c->done);
		c->waiting--;
	}
	lock_drop(&c->lock);
	return rc;
}
