/*
 * upload.c - the thread that takes changes to the remote store.
 *
 * It walks the journals, takes what is due (upload_delay after the key's last change, while nobody
 * has it open for writing), marks those entries as "may be there", waits until that is durable, and
 * sends values first, then removals. An entry that was not changed meanwhile is done; otherwise the
 * newer change waits its own turn.
 *
 * Failures. Nobody answers, or the server is busy: all of it is tried again, later and later. One
 * key is refused: its entry stays as failed, until it is changed or dropped.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/base/thread.h"
#include "backends/writeback/parcel.h"

static const int64_t TEST_CLOCK_STEP =
	CLOCK_SECOND / 50; /* how often a clock that a test sets is looked at */
static const int64_t GATHER_MAX =
	30LL * CLOCK_SECOND; /* how long what is due may be held for more */
enum {
	STREAM_LEAST = 64, /* changes that make a stream of them, whose end is waited for */
	STREAM_GOES_ON = 8, /* of these, how many are so new that they are not due yet */
	JOURNEYS = 6, /* attempts for what expires soon, each with twice the time for the journey */
	CREDIT_MAX = 16, /* requests that go at once; more of them are upload_delay apart */
};

static void expect(struct writeback *wb, int64_t due)
{
	lock_take(&wb->queue);
	if (due < wb->next_due) {
		wb->next_due = due;
		pthread_cond_broadcast(&wb->work);
	}
	lock_drop(&wb->queue);
}

void wb_upload_expect(struct writeback *wb, int64_t delay)
{
	expect(wb, clock_steady() + delay);
}

void wb_upload_now(struct writeback *wb)
{
	uint64_t last = wb_last_change(wb);

	lock_take(&wb->queue);
	if (last > wb->urgent)
		wb->urgent = last;
	wb->again = true;
	wb->next_due = 0;
	pthread_cond_broadcast(&wb->work);
	lock_drop(&wb->queue);
}

/* --- sending ---------------------------------------------------------------------------------- */

struct sending {
	struct remote_item *items;
	struct remote_name *names;
	size_t *which;
	int *results;
};

static int sending_init(struct sending *s, size_t n)
{
	s->items = calloc(n, sizeof(*s->items));
	s->names = calloc(n, sizeof(*s->names));
	s->which = calloc(n, sizeof(*s->which));
	s->results = calloc(n, sizeof(*s->results));
	return s->items && s->names && s->which && s->results ? 0 : -ENOMEM;
}

static void sending_release(struct sending *s)
{
	free(s->items);
	free(s->names);
	free(s->which);
	free(s->results);
}

/* How many seconds the journey may take, and clocks may differ: more with every attempt. */
static int64_t journey(const struct parcel *p)
{
	return p->j.tries < JOURNEYS ? INT64_C(1) << p->j.tries : INT64_C(1) << JOURNEYS;
}

/* The expiration that the remote store will take: one that has come too near is put off by the
 * seconds that are missing, since it is the journey that they were lost on. */
static int64_t sendable_expiration(const struct writeback *wb, const struct parcel *p)
{
	int64_t least = clock_now() / CLOCK_SECOND + wb->remote->ttl_min + journey(p);

	return p->expiration && p->expiration < least ? least : p->expiration;
}

/* Whether it may have been refused only because its expiration was too near when it arrived. */
static bool came_too_near(
	const struct writeback *wb, const struct parcel *p, const struct remote_item *item)
{
	int64_t ahead = item->expiration - clock_now() / CLOCK_SECOND;

	return item->expiration && p->j.tries < JOURNEYS &&
		ahead <= wb->remote->ttl_min + (INT64_C(1) << JOURNEYS);
}

/* Sends the parcels of one namespace and kind. */
static void send_some(struct writeback *wb, struct batch *b, struct sending *s, struct wb_ns *ns,
	enum journal_op op)
{
	struct remote *remote = wb->remote;
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct parcel *p = &b->parcels[i];

		if (p->unsent || p->absent || p->ns != ns || p->j.op != op)
			continue;
		s->names[n] = (struct remote_name){p->bytes, p->len};
		s->items[n] = (struct remote_item){
			.key = s->names[n],
			.value = p->value,
			.expiration = sendable_expiration(wb, p),
			.metadata = p->metadata,
			.metadata_len = p->metadata_len,
		};
		s->results[n] = -EIO;
		s->which[n++] = i;
	}
	if (!n)
		return;
	if (op == JOURNAL_PUT)
		remote->ops->put(remote, ns->id, s->items, n, s->results);
	else
		remote->ops->remove(remote, ns->id, s->names, n, s->results);
	for (size_t i = 0; i < n; i++) {
		struct parcel *p = &b->parcels[s->which[i]];

		p->result = s->results[i];
		/* What is to be removed and is not there is done. */
		if (op == JOURNAL_REMOVE && p->result == -ENOENT)
			p->result = 0;
		if (op == JOURNAL_PUT && p->result == -EINVAL && came_too_near(wb, p, &s->items[i]))
			p->result = -EAGAIN;
	}
	wb_note_answer(wb, s->results[0]);
}

/* A value did not arrive: what was removed after it was written stays for now (wb_load_batch). */
static void hold_removals(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct parcel *p = &b->parcels[i];

		if (p->j.op == JOURNAL_PUT && p->result && !journal_is_final(p->result) &&
			p->j.first < b->left_put)
			b->left_put = p->j.first;
	}
	for (size_t i = 0; i < b->n; i++) {
		struct parcel *p = &b->parcels[i];

		if (p->j.op == JOURNAL_REMOVE && p->j.seq > b->left_put)
			p->j.op = 0;
	}
}

static int send_batch(struct writeback *wb, struct batch *b)
{
	struct sending s;
	int rc = sending_init(&s, b->n);

	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++)
		send_some(wb, b, &s, wb_namespace_at(wb, i), JOURNAL_PUT);
	hold_removals(b);
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++)
		send_some(wb, b, &s, wb_namespace_at(wb, i), JOURNAL_REMOVE);
	sending_release(&s);
	wb_recent_add(wb, b);
	return rc;
}

/* Requests that may go at once, one more for every upload_delay. */
static bool has_credit(struct writeback *wb, int64_t now)
{
	int64_t delay = wb->opt.upload_delay;

	if (!delay)
		return true;
	int64_t more = (now - wb->credited) / delay;
	if (more < 0 || more >= CREDIT_MAX - wb->credit) {
		wb->credit = CREDIT_MAX;
		wb->credited = now;
	} else {
		wb->credit += more;
		wb->credited += more * delay;
	}
	return wb->credit > 0;
}

/* Whether what is due is better held, since more is coming that goes with the same request: while
 * one key after the other is changed, for GATHER_MAX at most. When to look again; 0: it is time. */
static int64_t gather_until(struct writeback *wb, const struct batch *b)
{
	int64_t now = clock_steady(), quiet = b->last + wb->opt.upload_delay;
	int64_t end = b->first_due + GATHER_MAX;

	if (!b->n || b->hurried || !b->waiting || b->first_due > now || end <= now)
		return 0;
	if (b->live < STREAM_LEAST || b->waiting < STREAM_GOES_ON || quiet <= now)
		return has_credit(wb, now) ? 0 : wb->credited + wb->opt.upload_delay;
	if (wb_batch_is_full(wb, b))
		return 0;
	return quiet < end ? quiet : end;
}

/* Whether the remote store answers again; nothing else says so. */
static void probe(struct writeback *wb)
{
	struct wb_ns *ns = wb_namespaces_count(wb) ? wb_namespace_at(wb, 0) : NULL;
	struct remote_name name = {(const unsigned char *)"?", 1};
	struct remote_value v = {0};

	if (!ns)
		return;
	int rc = wb->remote->ops->get(wb->remote, ns->id, &name, 1, true, &v);
	wb_note_answer(wb, rc);
	if (!rc) {
		blob_unref(v.value);
		free(v.metadata);
	}
}

static void note_seen(struct writeback *wb, const struct batch *b)
{
	lock_take(&wb->queue);
	wb->looked = b->looked;
	wb->oldest = b->oldest;
	pthread_cond_broadcast(&wb->sent);
	lock_drop(&wb->queue);
}

/* Takes the batch to the remote store. */
static int upload(struct writeback *wb, struct batch *b)
{
	int rc = wb->opt.keep_conflicts ? wb_keep_conflicts(wb, b) : 0;

	if (!rc)
		rc = wb_mark_sent(wb, b);
	if (!rc)
		rc = wb->local->ops->sync(wb->local, UINT64_MAX);
	if (!rc)
		rc = send_batch(wb, b);
	if (!rc)
		rc = wb_note_results(wb, b);
	if (wb->credit)
		wb->credit--;
	return rc;
}

int64_t wb_upload_pass(struct writeback *wb)
{
	struct batch b = {.next_due = INT64_MAX};
	int rc = wb->base.readonly ? 0 : wb_collect(wb, &b);

	if (!rc && !wb->base.readonly)
		note_seen(wb, &b);
	int64_t gather = rc ? 0 : gather_until(wb, &b);
	if (gather) {
		wb_batch_release(&b);
		return gather;
	}
	if (!rc)
		rc = wb_load_batch(wb, &b);
	atomic_store(&wb->held, b.held);
	if (!rc && b.n)
		rc = upload(wb, &b);
	if (!rc && !b.n && atomic_load(&wb->offline_since)) {
		probe(wb);
		int64_t probe_at = clock_steady() + WB_PROBE_AFTER;

		if (atomic_load(&wb->offline_since) && probe_at < b.next_due)
			b.next_due = probe_at;
	}
	int64_t next = b.n ? 0 : b.next_due; /* what came back, and what is new, counts again */
	if (rc) {
		log_warning("uploading: %s; trying again", strerror(-rc));
		wb_waiting_note(wb, NULL, rc);
		next = clock_steady() + CLOCK_SECOND;
	}
	wb_batch_release(&b);
	return next;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Waits, with `queue`, until something is due. */
static void wait_due(struct writeback *wb)
{
	while (!wb->stop) {
		int64_t now = clock_steady(), wait = wb->next_due - now;

		if (now >= wb->next_due)
			return;
		if (wb->next_due == INT64_MAX) {
			lock_wait(&wb->queue, &wb->work);
			continue;
		}
		if (clock_is_set_by_test() && wait > TEST_CLOCK_STEP)
			wait = TEST_CLOCK_STEP;
		struct timespec until = clock_timespec(clock_monotonic() + wait);
		lock_wait_until(&wb->queue, &wb->work, &until);
	}
}

static void *upload_main(void *arg)
{
	struct writeback *wb = arg;

	lock_take(&wb->queue);
	while (!wb->stop) {
		wait_due(wb);
		if (wb->stop)
			break;
		wb->next_due = INT64_MAX;
		lock_drop(&wb->queue);
		int64_t next = wb_upload_pass(wb);
		wb_evict(wb);
		lock_take(&wb->queue);
		if (next < wb->next_due)
			wb->next_due = next;
	}
	lock_drop(&wb->queue);
	return NULL;
}

int wb_upload_start(struct writeback *wb)
{
	lock_take(&wb->queue);
	bool runs = wb->uploading;
	wb->ended = false;
	wb->next_due = 0;
	int rc = runs ? 0 : thread_start(&wb->uploader, upload_main, wb);
	wb->uploading = rc == 0;
	lock_drop(&wb->queue);
	if (rc)
		log_error(
			"uploading: its thread cannot be started: %s; changes stay in the journal "
			"for the next mount",
			strerror(-rc));
	return rc;
}

void wb_upload_stop(struct writeback *wb)
{
	wb->remote->ops->cancel(wb->remote);
	lock_take(&wb->queue);
	bool runs = wb->uploading;
	wb->stop = true;
	pthread_cond_broadcast(&wb->work);
	pthread_cond_broadcast(&wb->sent);
	lock_drop(&wb->queue);
	if (runs)
		pthread_join(wb->uploader, NULL);
	wb->uploading = false;
	wb_recent_free(wb);
}
