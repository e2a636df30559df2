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
#include <time.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/base/thread.h"
#include "backends/writeback/parcel.h"

enum {
	BATCH_MAX = 10000,
	TEST_CLOCK_STEP = CLOCK_SECOND / 50, /* how often a clock that a test sets is looked at */
	RETRY_FIRST = 1, /* seconds */
	RETRY_LAST = 60,
};
static const uint64_t BATCH_BYTES = 90ULL << 20;
static const int64_t OPEN_AGAIN = CLOCK_SECOND / 5; /* when to look again at what is open */

static void batch_release(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		blob_unref(b->parcels[i].value);
		free(b->parcels[i].metadata);
	}
	free(b->parcels);
}

void wb_upload_expect(struct writeback *wb, int64_t due)
{
	pthread_mutex_lock(&wb->queue);
	if (due < wb->next_due) {
		wb->next_due = due;
		pthread_cond_broadcast(&wb->work);
	}
	pthread_mutex_unlock(&wb->queue);
}

void wb_hurry(struct writeback *wb)
{
	pthread_mutex_lock(&wb->queue);
	wb->hurry = true;
	wb->next_due = 0;
	pthread_cond_broadcast(&wb->work);
	pthread_mutex_unlock(&wb->queue);
}

static int64_t due_time(const struct writeback *wb, const struct journal *j, bool hurry)
{
	int64_t due = hurry ? 0 : j->changed + wb->opt.upload_delay;

	return j->not_before > due ? j->not_before : due;
}

/* --- collecting ------------------------------------------------------------------------------- */

static int batch_add(
	struct batch *b, struct wb_ns *ns, const struct entry_id *id, const struct journal *j)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct parcel *list = realloc(b->parcels, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		b->parcels = list;
		b->cap = cap;
	}
	struct parcel *p = &b->parcels[b->n++];
	*p = (struct parcel){.j = *j, .ns = ns, .len = id->len};
	memcpy(p->bytes, id->bytes, id->len);
	return 0;
}

/* What is due of one namespace; counts all of it. */
static int collect_ns(struct writeback *wb, struct wb_ns *ns, bool hurry, struct batch *b,
	uint64_t *pending, uint64_t *failed)
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1] = {0};
	size_t len = 1;
	int64_t now = clock_now();
	struct view *v;
	struct scan *s;
	struct entry_id id;
	int rc = local->ops->view_begin(local, NOW_NEVER, &v);

	if (rc)
		return rc;
	rc = local->ops->scan_open(v, ns->journal, ENTRY_KEY, &s);
	if (rc) {
		local->ops->view_end(v);
		return rc;
	}
	while ((rc = local->ops->scan_seek(s, at, len, &id)) == 0) {
		struct journal j;

		memcpy(at, id.bytes, id.len);
		len = id.len;
		rc = journal_get(local, ns->journal, &id, &j);
		if (!rc) {
			int64_t due = due_time(wb, &j, hurry);

			++*pending;
			*failed += j.failed;
			if (j.failed)
				;
			else if (due > now || b->n >= BATCH_MAX)
				b->next_due = due < b->next_due ? due : b->next_due;
			else
				rc = batch_add(b, ns, &id, &j);
		}
		if (rc && rc != -ENOENT)
			break;
		at[len++] = '\0';
	}
	local->ops->scan_close(s);
	local->ops->view_end(v);
	return rc == -ENOENT ? 0 : rc;
}

static size_t namespaces_count(struct writeback *wb)
{
	pthread_mutex_lock(&wb->book);
	size_t n = wb->namespaces_n;
	pthread_mutex_unlock(&wb->book);
	return n;
}

static struct wb_ns *namespace_at(struct writeback *wb, size_t i)
{
	pthread_mutex_lock(&wb->book);
	struct wb_ns *ns = wb->namespaces[i];
	pthread_mutex_unlock(&wb->book);
	return ns;
}

static int collect(struct writeback *wb, bool hurry, struct batch *b)
{
	uint64_t pending = 0, failed = 0;
	int rc = 0;

	*b = (struct batch){.next_due = INT64_MAX};
	for (size_t i = 0, n = namespaces_count(wb); i < n && !rc; i++)
		rc = collect_ns(wb, namespace_at(wb, i), hurry, b, &pending, &failed);
	atomic_store(&wb->pending, pending);
	atomic_store(&wb->failed, failed);
	return rc;
}

void wb_count_pending(struct writeback *wb)
{
	struct batch b;

	collect(wb, false, &b);
	batch_release(&b);
}

/* Takes the value and what belongs to it. -EBUSY: not now. */
static int load_value(struct writeback *wb, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct wb_entry e;
	struct value v;
	size_t len;
	int rc = wb_entry_get(wb, &id, &e);

	if (rc)
		return rc;
	if (!e.exists) { /* it has expired and was swept */
		p->j.op = JOURNAL_REMOVE;
		return 0;
	}
	if (!e.info.cached) {
		rc = -ENODATA; /* attributes of a value that is not here */
		goto out;
	}
	rc = wb_read(&wb->base, &id, NOW_NEVER, &v);
	if (rc)
		goto out;
	rc = value_to_blob(&v, wb->local->blobs, &p->value);
	value_release(&v);
	p->expiration = e.rec.expiration;
	p->hash = e.info.hash;
	p->size = e.info.size;
	const unsigned char *metadata =
		xattrs_get(e.rec.xattrs, e.rec.xattrs_len, "user.kv.metadata", &len);
	if (!rc && metadata) {
		p->metadata = malloc(len + 1);
		if (!p->metadata) {
			rc = -ENOMEM;
			goto out;
		}
		memcpy(p->metadata, metadata, len);
		p->metadata_len = len;
	}
out:
	wb_entry_release(&e);
	return rc;
}

/* The expiration that the remote store will take: one that has come too near is put off by the
 * seconds that are missing, since it is the journey that they were lost on. */
static int64_t sendable_expiration(const struct writeback *wb, int64_t expiration)
{
	int64_t least = clock_now() / CLOCK_SECOND + wb->remote->ttl_min + 1;

	return expiration && expiration < least ? least : expiration;
}

static bool is_written(struct writeback *wb, const struct parcel *p)
{
	struct entry_id id = parcel_id(p);

	return wb->base.is_written && wb->base.is_written(wb->base.is_written_arg, &id);
}

static void batch_drop(struct batch *b, size_t i)
{
	blob_unref(b->parcels[i].value);
	free(b->parcels[i].metadata);
	b->parcels[i] = b->parcels[--b->n];
}

/* Attributes were changed of values that are not here: they are sent with their values, which are
 * got first. */
static int fetch_missing(struct writeback *wb, const struct parcel *p)
{
	struct remote_value v = {0};
	struct remote_name name = {p->bytes, p->len};
	struct entry_id id = parcel_id(p);
	struct record joined;
	struct change put;
	void *memory = NULL;
	struct wb_entry e;
	int rc = wb->remote->ops->get(wb->remote, p->ns->id, &name, 1, true, &v);

	wb_note_answer(wb, rc);
	if (!rc)
		rc = v.error;
	if (rc)
		return rc;
	pthread_mutex_lock(&wb->book);
	rc = wb_entry_get(wb, &id, &e);
	if (!rc && e.exists && !e.info.cached) {
		e.info.cached = e.info.sized = true;
		e.info.size = blob_size(v.value);
		e.info.hash = wb_hash_blob(v.value);
		rc = wb_put_change(&id, &e.rec, &e.info, v.value, &put, &joined, &memory);
		if (!rc)
			rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	}
	if (!rc || e.memory)
		wb_entry_release(&e);
	pthread_mutex_unlock(&wb->book);
	free(memory);
	free(v.metadata);
	blob_unref(v.value);
	return rc;
}

/* Loads the values, and leaves out what must wait. */
static int load_batch(struct writeback *wb, struct batch *b, bool hurry)
{
	int64_t now = clock_now();

	for (size_t i = 0; i < b->n;) {
		struct parcel *p = &b->parcels[i];
		int rc = 0;

		if (is_written(wb, p)) {
			if (b->next_due > now + OPEN_AGAIN)
				b->next_due = now + OPEN_AGAIN;
			batch_drop(b, i);
			continue;
		}
		if (b->bytes > BATCH_BYTES) { /* the next one's */
			b->next_due = 0;
			batch_drop(b, i);
			continue;
		}
		if (p->j.op == JOURNAL_PUT) {
			rc = load_value(wb, p);
			if (rc == -ENODATA)
				rc = fetch_missing(wb, p) ? -EAGAIN : load_value(wb, p);
		}
		if (rc == -EAGAIN || rc == -ENODATA) { /* later, with the others that fail */
			b->next_due = now + (int64_t)RETRY_FIRST * CLOCK_SECOND;
			batch_drop(b, i);
			continue;
		}
		if (rc)
			return rc;
		b->bytes += p->size;
		i++;
	}
	return 0;
}

/* --- the journal before and after -------------------------------------------------------------- */

/* Writes entries down, in groups. `fn` says what becomes of the entry of one parcel: whether it is to be
 * written, with what. */
static int rewrite(
	struct writeback *wb, struct batch *b, int (*fn)(struct writeback *wb, struct parcel *p))
{
	int rc = 0;

	pthread_mutex_lock(&wb->book);
	for (size_t i = 0; i < b->n && !rc; i++)
		rc = fn(wb, &b->parcels[i]);
	pthread_mutex_unlock(&wb->book);
	return rc;
}

static int put_entry(struct writeback *wb, const struct parcel *p, const struct journal *j)
{
	struct entry_id id = parcel_id(p);
	struct change put;
	int rc = journal_put(wb->local, p->ns->journal, &id, j, &put);

	if (rc)
		return rc;
	rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	blob_unref(put.value);
	return rc;
}

/* From now on the remote store may have it. */
static int mark_sent(struct writeback *wb, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct journal j;

	if (p->j.remote_has)
		return 0;
	int rc = journal_get(wb->local, p->ns->journal, &id, &j);
	if (rc == -ENOENT) { /* it has been removed since, and was never sent */
		p->j.op = 0;
		return 0;
	}
	if (rc)
		return rc;
	j.remote_has = true;
	return put_entry(wb, p, &j);
}

/* Later and later, with the number of tries. */
static int64_t retry_time(uint32_t tries)
{
	int64_t wait = RETRY_FIRST;

	for (uint32_t i = 1; i < tries && wait < RETRY_LAST; i++)
		wait *= 2;
	return clock_now() + (wait < RETRY_LAST ? wait : RETRY_LAST) * CLOCK_SECOND;
}

static void say_failed(const struct parcel *p)
{
	char key[256];

	log_error("%s: it cannot be uploaded: %s; the change is kept: mend it, `kvfs retry` or "
		  "`kvfs drop` it",
		log_bytes(p->bytes, p->len, key, sizeof(key)), journal_reason(p->result));
}

static int note_failure(struct writeback *wb, struct parcel *p, struct journal *j)
{
	j->error = p->result;
	j->tries++;
	if (j->seq == p->j.seq && journal_is_final(p->result)) {
		if (!j->failed)
			say_failed(p);
		j->failed = true;
	} else {
		j->not_before = retry_time(j->tries);
	}
	return put_entry(wb, p, j);
}

/* The entry is done: it is dropped, in one group with what the key knows of the remote store now. */
static int note_success(struct writeback *wb, struct parcel *p, const struct journal *j)
{
	struct entry_id id = parcel_id(p);
	int64_t now = clock_now(), pinned = now + 2 * wb->opt.max_age;
	struct change changes[2];
	struct record joined;
	void *memory = NULL;
	struct wb_entry e;
	size_t n = 0;
	int rc = wb_entry_get(wb, &id, &e);

	if (rc)
		return rc;
	if (e.exists && p->j.op == JOURNAL_PUT) {
		e.info.seen = e.info.read = now;
		e.info.pinned = pinned;
		rc = wb_put_change(&id, &e.rec, &e.info, NULL, &changes[n++], &joined, &memory);
	} else if (!e.exists) {
		rc = wb_note_absent(wb, p->ns, &id, now, pinned);
	}
	if (j->seq == p->j.seq) {
		journal_drop(p->ns->journal, &id, &changes[n++]);
	} else {
		struct journal newer = *j;

		newer.remote_has = true;
		newer.base_known = true;
		newer.base = p->j.op == JOURNAL_PUT ? p->hash : 0;
		newer.not_before = now + CLOCK_SECOND;
		if (!rc)
			rc = put_entry(wb, p, &newer);
	}
	if (!rc && n)
		rc = wb->local->ops->apply(wb->local, changes, n, NULL);
	free(memory);
	wb_entry_release(&e);
	return rc;
}

static int note_result(struct writeback *wb, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct journal j;

	if (!p->j.op)
		return 0;
	int rc = journal_get(wb->local, p->ns->journal, &id, &j);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	return p->result ? note_failure(wb, p, &j) : note_success(wb, p, &j);
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

/* Sends the parcels of one namespace and kind. */
static void send_some(struct writeback *wb, struct batch *b, struct sending *s, struct wb_ns *ns,
	enum journal_op op)
{
	struct remote *remote = wb->remote;
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct parcel *p = &b->parcels[i];

		if (p->ns != ns || p->j.op != op)
			continue;
		s->names[n] = (struct remote_name){p->bytes, p->len};
		s->items[n] = (struct remote_item){
			.key = s->names[n],
			.value = p->value,
			.expiration = sendable_expiration(wb, p->expiration),
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
		/* What is to be removed and is not there is done. */
		bool gone = op == JOURNAL_REMOVE && s->results[i] == -ENOENT;

		b->parcels[s->which[i]].result = gone ? 0 : s->results[i];
	}
	wb_note_answer(wb, s->results[0]);
}

static int send_batch(struct writeback *wb, struct batch *b)
{
	struct sending s;
	int rc = sending_init(&s, b->n);

	for (size_t i = 0, n = namespaces_count(wb); i < n && !rc; i++)
		send_some(wb, b, &s, namespace_at(wb, i), JOURNAL_PUT);
	for (size_t i = 0, n = namespaces_count(wb); i < n && !rc; i++)
		send_some(wb, b, &s, namespace_at(wb, i), JOURNAL_REMOVE);
	sending_release(&s);
	return rc;
}

/* One pass over the journals. When the next is due. */
static int64_t pass(struct writeback *wb, bool hurry)
{
	struct batch b;
	int rc = collect(wb, hurry, &b);

	if (!rc)
		rc = load_batch(wb, &b, hurry);
	if (!rc && b.n && wb->opt.keep_conflicts)
		rc = wb_keep_conflicts(wb, &b);
	if (!rc && b.n)
		rc = rewrite(wb, &b, mark_sent);
	if (!rc && b.n)
		rc = wb->local->ops->sync(wb->local, UINT64_MAX);
	if (!rc && b.n)
		rc = send_batch(wb, &b);
	if (!rc && b.n)
		rc = rewrite(wb, &b, note_result);
	int64_t next = b.n ? 0 : b.next_due; /* what came back, and what is new, counts again */
	if (rc) {
		log_warning("uploading: %s; trying again", strerror(-rc));
		next = clock_now() + CLOCK_SECOND;
	}
	batch_release(&b);
	return next;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Waits, with `queue`, until something is due. */
static void wait_due(struct writeback *wb)
{
	while (!wb->stop) {
		int64_t now = clock_now();
		struct timespec until;

		if (now >= wb->next_due)
			return;
		if (wb->next_due == INT64_MAX) {
			pthread_cond_wait(&wb->work, &wb->queue);
			continue;
		}
		clock_gettime(CLOCK_REALTIME, &until);
		int64_t wait = wb->next_due - now;
		if (clock_is_set_by_test() && wait > TEST_CLOCK_STEP)
			wait = TEST_CLOCK_STEP;
		until = clock_timespec(clock_ns(until) + wait);
		pthread_cond_timedwait(&wb->work, &wb->queue, &until);
	}
}

static void *upload_main(void *arg)
{
	struct writeback *wb = arg;

	pthread_mutex_lock(&wb->queue);
	while (!wb->stop) {
		wait_due(wb);
		if (wb->stop)
			break;
		bool hurry = wb->hurry;
		wb->next_due = INT64_MAX;
		pthread_mutex_unlock(&wb->queue);
		int64_t next = pass(wb, hurry);
		wb_evict(wb);
		pthread_mutex_lock(&wb->queue);
		if (next < wb->next_due)
			wb->next_due = next;
		if (next == INT64_MAX) /* nothing is left that could go */
			wb->hurry = false;
		wb->passes++;
		pthread_cond_broadcast(&wb->sent);
	}
	pthread_mutex_unlock(&wb->queue);
	return NULL;
}

int wb_upload_start(struct writeback *wb)
{
	if (wb->base.readonly || wb->uploading)
		return 0;
	wb->next_due = 0;
	int rc = thread_start(&wb->uploader, upload_main, wb);
	wb->uploading = rc == 0;
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
	if (!wb->uploading)
		return;
	pthread_mutex_lock(&wb->queue);
	wb->stop = true;
	pthread_cond_broadcast(&wb->work);
	pthread_cond_broadcast(&wb->sent);
	pthread_mutex_unlock(&wb->queue);
	pthread_join(wb->uploader, NULL);
	wb->uploading = false;
}

int wb_sync(struct store *base, uint64_t seq)
{
	struct writeback *wb = writeback(base);
	int rc = wb->local->ops->sync(wb->local, seq);

	if (rc || !wb->opt.sync_remote || base->readonly)
		return rc;
	wb_hurry(wb);
	pthread_mutex_lock(&wb->queue);
	/* The pass under way may have begun before the change. */
	uint64_t passes = wb->passes + 2;
	while (!wb->stop &&
		(wb->passes < passes || atomic_load(&wb->pending) > atomic_load(&wb->failed))) {
		wb->hurry = true;
		if (atomic_load(&wb->offline_since)) {
			rc = -ETIMEDOUT;
			break;
		}
		if (wb->next_due == INT64_MAX && wb->passes < passes) {
			wb->next_due = 0;
			pthread_cond_broadcast(&wb->work);
		}
		pthread_cond_wait(&wb->sent, &wb->queue);
	}
	pthread_mutex_unlock(&wb->queue);
	if (!rc && atomic_load(&wb->failed))
		rc = -EIO;
	return rc;
}
