#include "fs/core/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "fs/core/entry.h"
#include "fs/core/file.h"
#include "fs/core/tree.h"
#include "fs/core/vanish.h"

enum {
	BATCH = 64,
	TEST_CLOCK_STEP = CLOCK_SECOND / 50, /* how often a clock that a test sets is looked at */
};

/* How long before its expiry a key is looked at. */
static const int64_t AHEAD = CLOCK_SECOND;

/* How long to wait before another attempt after an error. */
static const int64_t RETRY = CLOCK_SECOND;

struct sweep {
	struct fs *fs;
	pthread_t thread;
	struct lock lock;
	pthread_cond_t wake;
	int64_t next; /* under `lock`: when there is something to be done */
	bool stop; /* under `lock` */
};

static void sweep_at(struct sweep *s, int64_t when)
{
	lock_take(&s->lock);
	if (when < s->next) {
		s->next = when;
		pthread_cond_signal(&s->wake);
	}
	lock_drop(&s->lock);
}

void sweep_expect(struct sweep *s, int64_t expiry)
{
	if (s && expiry != INT64_MAX)
		sweep_at(s, expiry - AHEAD);
}

/* A key that was written by another program while its old record expired is a new one. */
static int renew(struct fs *fs, const struct entry_id *id)
{
	struct record rec =
		entry_new_record(fs, entry_default_mode(fs, ENTRY_KEY), fs->opt.uid, fs->opt.gid);
	struct change put = {.op = CHANGE_PUT, .id = *id, .rec = &rec};

	return fs_apply(fs, &put, 1);
}

/* Removes the entry if it has expired indeed. -EAGAIN: it has not, or another program has removed
 * the key; then its record is the store's to remove, since a new key of that name may come any
 * time. */
static int expire(struct fs *fs, const struct entry_id *id, int64_t now)
{
	struct last last = {0};

	file_prefetch(fs, id);
	lock_take(&fs->change);
	rebind_begin(fs);
	int rc = last_take(fs, id, NOW_NEVER, &last);
	if (rc) {
		rc = rc == -ENOENT ? -EAGAIN : rc;
		goto out;
	}
	/* What is being restored lives until it is closed (entry_linger). */
	bool restored = last.l.rec.visible_ns && file_is_written(fs, id);
	if (restored || !record_expired(&last.l.rec, now)) {
		rc = -EAGAIN;
	} else if (last.l.fresh) { /* another program has written it since, and nobody has looked */
		rc = renew(fs, id);
	} else {
		struct change remove = {.op = CHANGE_REMOVE, .id = *id, .if_expired = true};

		rc = fs_apply(fs, &remove, 1);
		if (!rc)
			tree_unlink_node(fs, id, &last);
	}
out:
	last_release(&last);
	rebind_end(fs);
	lock_drop(&fs->change);
	return rc;
}

/* Copies the ids of keys that have expired, but for the first `skip`. How many, or -errno. */
static int expired_ids(struct fs *fs, int64_t now, size_t skip, struct node_id *ids)
{
	const struct store_ops *ops = fs->st->ops;
	struct view *v;
	int n = 0, rc = ops->view_begin(fs->st, now, &v);

	if (rc)
		return rc;
	while (n < BATCH) {
		struct entry_id id;

		rc = ops->view_expired(v, skip + (size_t)n, &id);
		if (rc)
			break;
		memcpy(ids[n].bytes, id.bytes, id.len);
		ids[n].id = id;
		ids[n].id.bytes = ids[n].bytes;
		n++;
	}
	ops->view_end(v);
	return rc && rc != -ENOENT ? rc : n;
}

/* Removes what has expired. What cannot be removed stands in nobody's way. */
static int sweep_run(struct fs *fs, struct node_id *ids)
{
	int64_t now = clock_now();
	bool removed[BATCH];
	size_t failed = 0;
	int rc = 0;

	for (;;) {
		int n = expired_ids(fs, now, failed, ids);

		if (n <= 0)
			return n ? n : rc;
		for (int i = 0; i < n; i++) {
			int one = expire(fs, &ids[i].id, now);

			removed[i] = !one;
			failed += one != 0;
			if (one && (!rc || rc == -EAGAIN))
				rc = one;
		}
		fs_answers_drain(fs);
		for (int i = 0; i < n; i++) {
			if (removed[i])
				vanish_key(fs, &ids[i].id);
		}
	}
}

/* Looks at the keys that are about to expire, as anybody might. What another program has rewritten
 * since the last look keeps its expiration, and that must not depend on whether somebody looked: at
 * the expiry it would be taken for a key that was made after it. */
static void look_ahead(struct fs *fs, struct node_id *ids)
{
	int64_t now = clock_now();
	size_t seen = 0;
	int n;

	while ((n = expired_ids(fs, now + AHEAD, seen, ids)) > 0) {
		for (int i = 0; i < n; i++) {
			struct loaded l;

			if (entry_load(fs, &ids[i].id, now, &l))
				continue;
			if (l.fresh)
				entry_adopt(fs, &ids[i].id, now, &l, false);
			loaded_release(&l);
		}
		seen += (size_t)n;
	}
}

/* When there is something to be done next, after what is expired has been swept, and what is about
 * to has been looked at. */
static int64_t next_time(struct fs *fs)
{
	int64_t next, now = clock_now();
	struct view *v;

	if (fs->st->ops->view_begin(fs->st, now, &v))
		return now + RETRY;
	next = fs->st->ops->view_next_expiry(v);
	fs->st->ops->view_end(v);
	if (next != INT64_MAX && next - AHEAD > now)
		next -= AHEAD;
	return next;
}

/* Waits until something expires. False: the sweep is to end. */
static bool sweep_wait(struct sweep *s)
{
	lock_take(&s->lock);
	while (!s->stop) {
		int64_t now = clock_now();

		if (now >= s->next)
			break;
		if (clock_is_set_by_test()) {
			struct timespec until;

			clock_gettime(CLOCK_REALTIME, &until);
			until = clock_timespec(clock_ns(until) + TEST_CLOCK_STEP);
			lock_wait_until(&s->lock, &s->wake, &until);
		} else if (s->next == INT64_MAX) {
			lock_wait(&s->lock, &s->wake);
		} else {
			struct timespec until = clock_timespec(s->next);

			lock_wait_until(&s->lock, &s->wake, &until);
		}
	}
	bool go_on = !s->stop;
	s->next = INT64_MAX;
	lock_drop(&s->lock);
	return go_on;
}

static void *sweep_thread(void *arg)
{
	struct sweep *s = arg;
	struct node_id *ids = calloc(BATCH, sizeof(*ids));

	if (!ids) {
		log_error("sweep: out of memory: expired keys are hidden, but stay in the store");
		return NULL;
	}
	while (sweep_wait(s)) {
		int rc = sweep_run(s->fs, ids);

		if (rc && rc != -EAGAIN)
			log_warning(
				"sweep: removing expired keys: %s; trying again", strerror(-rc));
		look_ahead(s->fs, ids);
		sweep_at(s, rc ? clock_now() + RETRY : next_time(s->fs));
	}
	free(ids);
	return NULL;
}

int sweep_start(struct fs *fs, struct sweep **out)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	s->next = next_time(fs);
	lock_init(&s->lock, LOCK_SWEEP);
	pthread_cond_init(&s->wake, NULL);
	*out = s;
	int rc = -pthread_create(&s->thread, NULL, sweep_thread, s);
	if (rc) {
		*out = NULL;
		sweep_free(s);
	}
	return rc;
}

void sweep_stop(struct sweep *s)
{
	if (!s)
		return;
	lock_take(&s->lock);
	bool running = !s->stop;
	s->stop = true;
	pthread_cond_signal(&s->wake);
	lock_drop(&s->lock);
	if (running)
		pthread_join(s->thread, NULL);
}

void sweep_free(struct sweep *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->wake);
	lock_destroy(&s->lock);
	free(s);
}
