/*
 * collect.c - what is to be sent next: the journals' entries that are due, and their values.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/parcel.h"

static const uint64_t BATCH_BYTES = 90ULL << 20;
static const int64_t PUT_OFF_MAX = 60LL * CLOCK_SECOND; /* results.c */
static const int64_t OPEN_AGAIN = CLOCK_SECOND / 5; /* when to look again at what is open */

void wb_batch_release(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		blob_unref(b->parcels[i].value);
		free(b->parcels[i].metadata);
	}
	free(b->parcels);
	free(b->keys);
}

/* Whether somebody waits for what this entry begins with. */
static bool is_urgent(const struct batch *b, const struct parcel *p)
{
	for (size_t i = 0; i < b->keys_n; i++) {
		const struct urgent_key *k = &b->keys[i];

		if (p->j.first <= k->upto &&
			(!k->ns ||
				(k->ns == p->ns->keys && k->len == p->len &&
					memcmp(k->bytes, p->bytes, p->len) == 0)))
			return true;
	}
	return false;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* When the entry is due. What lies further ahead than anything is ever put off was written before
 * the clock went back. */
static int64_t due_time(const struct writeback *wb, const struct batch *b, const struct parcel *p)
{
	const struct journal *j = &p->j;
	int64_t now = b->now;
	bool hurry = p->urgent || j->first <= b->urgent;
	bool before = j->changed > now + PUT_OFF_MAX; /* a little ahead: since we began to look */
	int64_t due = hurry || before ? 0 : j->changed + wb->opt.upload_delay;

	if (!(hurry && b->again) && j->not_before <= now + PUT_OFF_MAX)
		due = later(due, j->not_before);
	/* What an earlier process may have sent just before it ended. */
	if (j->remote_has && j->seq <= atomic_load(&wb->opened_seq) && wb->opened <= now)
		due = later(due, wb->opened + CLOCK_SECOND);
	return later(due, wb_recent_until(wb, p, now));
}

static int batch_add(struct batch *b, const struct parcel *p)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct parcel *list = realloc(b->parcels, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		b->parcels = list;
		b->cap = cap;
	}
	b->parcels[b->n++] = *p;
	return 0;
}

static void note_left_put(struct batch *b, const struct parcel *p)
{
	if (p->j.op == JOURNAL_PUT && p->j.first < b->left_put)
		b->left_put = p->j.first;
}

/* Takes the entry into the batch, if it is its time and there is room. */
static int consider(const struct writeback *wb, struct batch *b, struct parcel *p)
{
	const struct journal *j = &p->j;
	int64_t now = b->now;
	size_t *room = j->op == JOURNAL_PUT ? &b->puts : &b->removes;

	if (j->failed)
		return 0;
	p->urgent = is_urgent(b, p);
	int64_t due = due_time(wb, b, p);
	b->live++;
	b->last = later(b->last, j->changed);
	if (j->first < b->oldest)
		b->oldest = j->first;
	if (due < b->first_due)
		b->first_due = due;
	if (due <= now && *room < BATCH_MAX) {
		++*room;
		b->hurried += p->urgent || j->first <= b->urgent;
		return batch_add(b, p);
	}
	b->waiting += due > now && !j->tries;
	if (due <= now || j->tries)
		note_left_put(b, p);
	b->next_due = due < b->next_due ? due : b->next_due;
	return 0;
}

/* Calls `fn` for each entry of a namespace's journal, until it fails. */
static int each_entry(struct writeback *wb, struct wb_ns *ns,
	int (*fn)(struct writeback *wb, struct parcel *p, void *arg), void *arg)
{
	struct store *local = wb->local;
	struct parcel p = {.ns = ns, .len = 1}; /* from the first of all on */
	unsigned char at[STORE_KEY_MAX + 1] = {0};
	size_t len = 1;
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
		memcpy(at, id.bytes, id.len);
		memcpy(p.bytes, id.bytes, id.len);
		len = p.len = id.len;
		rc = journal_get(local, ns->journal, &id, &p.j);
		if (!rc)
			rc = fn(wb, &p, arg);
		if (rc && rc != -ENOENT)
			break;
		at[len++] = '\0';
	}
	local->ops->scan_close(s);
	local->ops->view_end(v);
	return rc == -ENOENT ? 0 : rc;
}

static int consider_entry(struct writeback *wb, struct parcel *p, void *arg)
{
	return consider(wb, arg, p);
}

int wb_collect(struct writeback *wb, struct batch *b)
{
	*b = (struct batch){
		.next_due = INT64_MAX,
		.first_due = INT64_MAX,
		.oldest = UINT64_MAX,
		.left_put = UINT64_MAX,
		.now = clock_steady(),
	};
	int rc = wb_batch_asks(wb, b);

	b->looked = wb_last_change(wb);
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++)
		rc = each_entry(wb, wb_namespace_at(wb, i), consider_entry, b);
	return rc;
}

static int count_entry(struct writeback *wb, struct parcel *p, void *arg)
{
	wb_count(wb, 1, p->j.failed);
	/* The clock may have gone back since then. */
	if (p->j.seq > atomic_load(&wb->seq))
		atomic_store(&wb->seq, p->j.seq);
	if (p->j.seq > atomic_load(&wb->opened_seq))
		atomic_store(&wb->opened_seq, p->j.seq);
	return 0;
}

int wb_count_journal(struct writeback *wb, const struct wb_ns *ns)
{
	return each_entry(wb, (struct wb_ns *)(uintptr_t)ns, count_entry, NULL);
}

bool wb_batch_is_full(struct writeback *wb, const struct batch *b)
{
	uint64_t bytes = 0;

	if (b->puts >= BATCH_MAX || b->removes >= BATCH_MAX)
		return true;
	for (size_t i = 0; i < b->n && bytes <= BATCH_BYTES; i++) {
		struct entry_id id = parcel_id(&b->parcels[i]);
		struct wb_entry e;

		if (b->parcels[i].j.op != JOURNAL_PUT || wb_entry_get(wb, &id, &e))
			continue;
		bytes += e.info.size;
		wb_entry_release(&e);
	}
	return bytes > BATCH_BYTES;
}

/* It may have been changed since it was collected: what is taken now belongs to that change. -EBUSY:
 * the change has its own turn; -ENOENT: nothing is to be sent. Under `book`. */
static int take_newer(struct writeback *wb, const struct batch *b, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct journal j;
	int rc = journal_get(wb->local, p->ns->journal, &id, &j);

	if (rc || j.seq == p->j.seq)
		return rc;
	if (j.op != p->j.op || !(p->urgent || j.first <= b->urgent))
		return -EBUSY;
	p->j = j;
	return 0;
}

/* Takes the value and what belongs to it. -EBUSY: not now. */
static int load_value(struct writeback *wb, const struct batch *b, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct wb_entry e;
	struct value v;
	size_t len;

	/* In one step, or what belongs to one value would go with another. */
	lock_take(&wb->book);
	int rc = take_newer(wb, b, p);
	if (!rc)
		rc = wb_entry_get(wb, &id, &e);
	int read = !rc && e.exists && e.info.cached ? wb_read(&wb->base, &id, NOW_NEVER, &v)
						    : -ENODATA;
	lock_drop(&wb->book);
	if (rc)
		return rc;
	/* What has expired is not to live again there, for as long as an expiry must be ahead; nor
	 * is what has got a local name since. */
	bool over = e.rec.expiration && e.rec.expiration <= clock_now() / CLOCK_SECOND;
	p->local = e.exists && wb_name_is_local(wb, &id);
	if (!e.exists || over || p->local) {
		p->j.op = JOURNAL_REMOVE;
		p->absent = p->local || !p->j.remote_has;
		goto out;
	}
	rc = read; /* -ENODATA: attributes of a value that is not here */
	if (rc)
		goto out;
	rc = value_to_blob(&v, wb->local->blobs, &p->value);
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
	if (!read)
		value_release(&v);
	wb_entry_release(&e);
	return rc;
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

/* The value whose attributes were changed is gone: so is the key. Under `book`. */
static int give_up(struct writeback *wb, const struct parcel *p, const struct entry_id *id)
{
	struct change changes[2] = {{.op = CHANGE_REMOVE, .id = *id}};
	char shown[256];

	journal_drop(p->ns->journal, id, &changes[1]);
	int rc = wb->local->ops->apply(wb->local, changes, 2, NULL);
	if (!rc) {
		wb_count(wb, -1, 0);
		log_warning("%s: others have removed it before its attributes were uploaded",
			log_bytes(p->bytes, p->len, shown, sizeof(shown)));
		wb_changed(wb, id, true);
	}
	return rc;
}

static int take_missing(struct writeback *wb, const struct parcel *p, const struct remote_value *v)
{
	struct entry_id id = parcel_id(p);
	struct record joined;
	struct change put;
	struct journal j;
	void *memory = NULL;
	struct wb_entry e;
	int rc = wb_entry_get(wb, &id, &e);

	if (rc)
		return rc;
	if (!e.exists || e.info.cached || journal_get(wb->local, p->ns->journal, &id, &j) ||
		j.seq != p->j.seq) {
		rc = v->error; /* it has changed since: its next turn will tell */
	} else if (v->error) {
		rc = give_up(wb, p, &id);
		rc = rc ? rc : -ENOENT;
	} else {
		wb_info_value(&e.info, v->value);
		rc = wb_put_change(&id, &e.rec, &e.info, v->value, &put, &joined, &memory);
		if (!rc)
			rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	}
	free(memory);
	wb_entry_release(&e);
	return rc;
}

/* Attributes were changed of values that are not here: they are sent with their values, which are
 * got first. */
static int fetch_missing(struct writeback *wb, const struct parcel *p)
{
	struct remote_value v = {0};
	struct remote_name name = {p->bytes, p->len};
	int rc = wb->remote->ops->get(wb->remote, p->ns->id, &name, 1, true, &v);

	wb_note_answer(wb, rc);
	if (!rc && v.error && v.error != -ENOENT)
		rc = v.error;
	if (rc)
		return rc;
	lock_take(&wb->book);
	rc = take_missing(wb, p, &v);
	lock_drop(&wb->book);
	free(v.metadata);
	blob_unref(v.value);
	return rc;
}

/* Loads one. -EAGAIN: it is left out, and has its turn another time. */
static int load_parcel(struct writeback *wb, struct batch *b, struct parcel *p)
{
	int rc = 0;

	/* Who waits for what was published may be the one who has it open. */
	if (!p->urgent && is_written(wb, p)) {
		int64_t again = clock_steady() + OPEN_AGAIN;

		if (again < b->next_due)
			b->next_due = again;
		b->held++;
		return -EAGAIN;
	}
	if (p->j.op != JOURNAL_PUT)
		return 0;
	rc = b->full ? 0 : load_value(wb, b, p);
	if (rc == -ENODATA)
		rc = fetch_missing(wb, p);
	if (!rc && !b->full && p->j.op == JOURNAL_PUT && !p->value)
		rc = load_value(wb, b, p);
	if (rc == -ENOENT || rc == -ENODATA) /* there is nothing to send any more */
		return -EAGAIN;
	b->full |= !rc && b->bytes && b->bytes + p->size > BATCH_BYTES;
	if (rc == -EBUSY || (!rc && b->full)) { /* the next one's */
		b->next_due = 0;
		note_left_put(b, p);
		return -EAGAIN;
	}
	if (rc) { /* this one; the others go */
		p->unsent = true;
		p->result = rc;
		note_left_put(b, p);
	}
	b->bytes += p->size;
	return 0;
}

/* Loads the values, and leaves out what must wait. A removal is not sent before the values that
 * were written before it: what was renamed would be nowhere meanwhile. */
int wb_load_batch(struct writeback *wb, struct batch *b)
{
	for (size_t i = 0; i < b->n;) {
		if (load_parcel(wb, b, &b->parcels[i]))
			batch_drop(b, i);
		else
			i++;
	}
	for (size_t i = 0; i < b->n;) {
		const struct parcel *p = &b->parcels[i];

		if (p->j.op == JOURNAL_REMOVE && p->j.seq > b->left_put)
			batch_drop(b, i);
		else
			i++;
	}
	return 0;
}
