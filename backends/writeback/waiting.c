/*
 * waiting.c - who waits for uploads: fsync with -o fsync=remote.
 *
 * Changes are numbered. Whoever waits for a key waits until the oldest change of it that has not
 * been uploaded is a later one than the last when he asked; so a key that others go on changing
 * does not keep him. Whoever waits for everything waits until a pass of the uploader has seen that
 * for every key.
 *
 * The uploader asks what is waited for (wb_batch_asks), sends it without delay, and says what
 * became of each attempt (wb_waiting_note). That the quota is used up, or that the server is busy
 * for a moment, is waited out; that nobody answers, or that the token is refused, is not.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/thread.h"
#include "backends/writeback/parcel.h"

static const int64_t LOOK_EVERY = CLOCK_SECOND / 10; /* whether the caller has given up */

struct waiter {
	struct waiter *next;
	struct entry_id id; /* bytes: the caller's; ns 0: everything */
	uint64_t upto;
	int error; /* of the last attempt, where it is one that is not waited out */
};

uint64_t wb_last_change(struct writeback *wb)
{
	lock_take(&wb->book);
	uint64_t seq = atomic_load(&wb->seq);
	lock_drop(&wb->book);
	return seq;
}

uint64_t wb_uploaded_upto(struct writeback *wb)
{
	lock_take(&wb->queue);
	uint64_t upto = wb->oldest <= wb->looked ? wb->oldest - 1 : wb->looked;
	lock_drop(&wb->queue);
	return upto;
}

int wb_batch_asks(struct writeback *wb, struct batch *b)
{
	size_t n = 0;
	int rc = 0;

	lock_take(&wb->queue);
	b->urgent = wb->urgent;
	b->again = wb->again;
	wb->again = false;
	for (const struct waiter *w = wb->waiters; w; w = w->next)
		n++;
	b->keys = n ? calloc(n, sizeof(*b->keys)) : NULL;
	if (n && !b->keys)
		rc = -ENOMEM;
	for (const struct waiter *w = wb->waiters; w && !rc; w = w->next) {
		struct urgent_key *key = &b->keys[b->keys_n++];

		key->ns = w->id.ns;
		key->len = w->id.len;
		key->upto = w->upto;
		if (w->id.len)
			memcpy(key->bytes, w->id.bytes, w->id.len);
	}
	lock_drop(&wb->queue);
	return rc;
}

static bool is_for(const struct waiter *w, const struct entry_id *id)
{
	return !id || !w->id.ns ||
		(w->id.ns == id->ns && w->id.len == id->len &&
			memcmp(w->id.bytes, id->bytes, id->len) == 0);
}

void wb_waiting_note(struct writeback *wb, const struct entry_id *id, int error)
{
	if (error != -ETIMEDOUT && error != -EACCES && error != -EDQUOT && error != -ENODEV &&
		error != -EIO)
		return;
	lock_take(&wb->queue);
	for (struct waiter *w = wb->waiters; w; w = w->next) {
		if (is_for(w, id))
			w->error = error;
	}
	pthread_cond_broadcast(&wb->sent);
	lock_drop(&wb->queue);
}

void wb_waiting_end(struct writeback *wb, bool ended)
{
	lock_take(&wb->queue);
	wb->ended = ended;
	pthread_cond_broadcast(&wb->sent);
	lock_drop(&wb->queue);
}

/* Whether something of what is waited for has failed for good. */
static bool any_failed(struct writeback *wb, const struct wb_ns *ns, uint64_t upto)
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1] = {0};
	bool failed = false;
	struct entry_id id;
	struct view *v;
	struct scan *s;
	size_t len = 1;

	if (local->ops->view_begin(local, NOW_NEVER, &v))
		return false;
	if (local->ops->scan_open(v, ns->journal, ENTRY_KEY, &s) == 0) {
		while (!failed && local->ops->scan_seek(s, at, len, &id) == 0) {
			struct journal j;

			memcpy(at, id.bytes, id.len);
			len = id.len;
			failed = journal_get(local, ns->journal, &id, &j) == 0 && j.failed &&
				j.first <= upto;
			at[len++] = '\0';
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return failed;
}

/* How far everything is: 1 when nothing is left to wait for. */
static int look_at_all(struct writeback *wb, const struct waiter *w)
{
	if (wb_uploaded_upto(wb) < w->upto)
		return 0;
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && atomic_load(&wb->failed); i++) {
		if (any_failed(wb, wb_namespace_at(wb, i), w->upto))
			return -EIO;
	}
	return 1;
}

static int look_at_key(struct writeback *wb, const struct waiter *w)
{
	const struct wb_ns *ns = wb_ns(wb, w->id.ns);
	struct journal j;
	int rc = journal_get(wb->local, ns->journal, &w->id, &j);

	if (rc)
		return rc == -ENOENT ? 1 : rc;
	if (j.first > w->upto)
		return 1;
	return j.failed ? -EIO : 0;
}

static void enlist(struct writeback *wb, struct waiter *w)
{
	lock_take(&wb->queue);
	w->next = wb->waiters;
	wb->waiters = w;
	if (!w->id.ns && w->upto > wb->urgent)
		wb->urgent = w->upto;
	wb->again = true;
	wb->next_due = 0;
	pthread_cond_broadcast(&wb->work);
	lock_drop(&wb->queue);
}

static void dismiss(struct writeback *wb, struct waiter *w)
{
	struct waiter **at = &wb->waiters;

	lock_take(&wb->queue);
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	lock_drop(&wb->queue);
}

/* Waits a little; -errno: it is in vain. */
static int wait_a_little(struct writeback *wb, struct waiter *w)
{
	lock_take(&wb->queue);
	int rc = wb->stop || wb->ended || !wb->uploading ? -EIO : w->error;
	if (!rc) {
		struct timespec until = clock_timespec(clock_monotonic() + LOOK_EVERY);

		lock_wait_until(&wb->queue, &wb->sent, &until);
	}
	lock_drop(&wb->queue);
	return rc;
}

static int wait_for(struct writeback *wb, struct waiter *w, const struct given_up *g)
{
	int rc, error = 0;

	thread_waits();
	enlist(wb, w);
	/* An attempt may have failed although a later one, or none, is needed: that is looked at
	 * once more. */
	while ((rc = w->id.ns ? look_at_key(wb, w) : look_at_all(wb, w)) == 0 && !error) {
		error = g && g->fn && g->fn(g->arg) ? -EINTR : wait_a_little(wb, w);
	}
	dismiss(wb, w);
	return rc > 0 ? 0 : rc ? rc : error;
}

int wb_sync(struct store *base, uint64_t seq)
{
	struct store *local = writeback(base)->local;

	return local->ops->sync(local, seq);
}

int wb_sync_entry(struct store *base, const struct entry_id *id, const struct given_up *g)
{
	struct writeback *wb = writeback(base);
	struct waiter w = {.upto = wb_last_change(wb)};
	int rc = wb->local->ops->sync(wb->local, UINT64_MAX);

	if (rc || !wb->opt.sync_remote || base->readonly)
		return rc;
	if (id && (id->kind != ENTRY_KEY || !wb_ns(wb, id->ns)))
		return 0;
	if (id)
		w.id = *id;
	return wait_for(wb, &w, g);
}
