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
}

/* What lies further ahead than anything is ever put off was written before the clock went back. */
static int64_t due_time(
	const struct writeback *wb, const struct journal *j, bool hurry, int64_t now)
{
	int64_t due = hurry || j->changed > now ? 0 : j->changed + wb->opt.upload_delay;
	int64_t not_before = j->not_before > now + PUT_OFF_MAX ? 0 : j->not_before;

	return not_before > due ? not_before : due;
}

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
			int64_t due = b->again && j.tries ? 0 : due_time(wb, &j, hurry, now);

			++*pending;
			*failed += j.failed;
			if (j.changed > b->last)
				b->last = j.changed;
			if (!j.failed && due < b->first_due)
				b->first_due = due;
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

int wb_collect(struct writeback *wb, bool hurry, bool again, struct batch *b)
{
	uint64_t pending = 0, failed = 0;
	int rc = 0;

	*b = (struct batch){.next_due = INT64_MAX, .first_due = INT64_MAX, .again = again};
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++)
		rc = collect_ns(wb, wb_namespace_at(wb, i), hurry, b, &pending, &failed);
	atomic_store(&wb->pending, pending);
	atomic_store(&wb->failed, failed);
	return rc;
}

void wb_count_pending(struct writeback *wb)
{
	struct batch b;

	wb_collect(wb, false, false, &b);
	wb_batch_release(&b);
}

/* Takes the value and what belongs to it. -EBUSY: not now. */
static int load_value(struct writeback *wb, struct parcel *p)
{
	struct entry_id id = parcel_id(p);
	struct wb_entry e;
	struct value v;
	size_t len;

	/* In one step, or what belongs to one value would go with another. */
	lock_take(&wb->book);
	int rc = wb_entry_get(wb, &id, &e);
	int read = !rc && e.exists && e.info.cached ? wb_read(&wb->base, &id, NOW_NEVER, &v)
						    : -ENODATA;
	lock_drop(&wb->book);
	if (rc)
		return rc;
	/* What has expired is not to live again there, for as long as an expiry must be ahead. */
	if (!e.exists || (e.rec.expiration && e.rec.expiration <= clock_now() / CLOCK_SECOND)) {
		p->j.op = JOURNAL_REMOVE;
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

/* Loads the values, and leaves out what must wait. */
int wb_load_batch(struct writeback *wb, struct batch *b, bool hurry)
{
	int64_t now = clock_now();

	for (size_t i = 0; i < b->n;) {
		struct parcel *p = &b->parcels[i];
		int rc = 0;

		/* Who waits for what was published may be the one who has it open. */
		if (!atomic_load(&wb->syncing) && is_written(wb, p)) {
			if (b->next_due > now + OPEN_AGAIN)
				b->next_due = now + OPEN_AGAIN;
			b->held++;
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
				rc = fetch_missing(wb, p);
			if (!rc && p->j.op == JOURNAL_PUT && !p->value)
				rc = load_value(wb, p);
		}
		if (rc == -ENOENT || rc == -ENODATA) { /* there is nothing to send any more */
			batch_drop(b, i);
			continue;
		}
		if (rc) { /* this one; the others go */
			p->unsent = true;
			p->result = rc;
		}
		b->bytes += p->size;
		i++;
	}
	return 0;
}
