/*
 * results.c - the journal before something is sent, and after.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/parcel.h"

enum { RETRY_FIRST = 1, RETRY_LAST = 60 }; /* seconds */

/* Writes entries down, in groups. `fn` says what becomes of the entry of one parcel: whether it is to be
 * written, with what. */
static int rewrite(
	struct writeback *wb, struct batch *b, int (*fn)(struct writeback *wb, struct parcel *p))
{
	int rc = 0;

	lock_take(&wb->book);
	for (size_t i = 0; i < b->n && !rc; i++)
		rc = fn(wb, &b->parcels[i]);
	lock_drop(&wb->book);
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

	if (p->unsent)
		return 0;
	int rc = journal_get(wb->local, p->ns->journal, &id, &j);

	/* It has been removed since, and was never sent; or another kind of change has come, of which
	 * this one would only be in the way. */
	if (rc == -ENOENT ||
		(!rc && j.seq != p->j.seq && (j.op != p->j.op || p->j.op == JOURNAL_REMOVE))) {
		p->j.op = 0;
		return 0;
	}
	if (rc || j.remote_has || p->absent)
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
	return clock_steady() + (wait < RETRY_LAST ? wait : RETRY_LAST) * CLOCK_SECOND;
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
	struct entry_id id = parcel_id(p);
	bool fails = j->seq == p->j.seq && journal_is_final(p->result) && !j->failed;

	if (p->result ==
		-ECANCELED) /* the mount ends: the next one tries as if for the first time */
		return 0;
	j->error = p->result;
	j->tries++;
	j->failed |= fails;
	if (!j->failed)
		j->not_before = retry_time(j->tries);
	int rc = put_entry(wb, p, j);
	if (rc)
		return rc;
	if (fails) {
		say_failed(p);
		wb_count(wb, 0, 1);
	}
	wb_waiting_note(wb, &id, p->result);
	return 0;
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
	bool done = false;
	size_t n = 0;
	int rc = wb_entry_get(wb, &id, &e);

	if (rc)
		return rc;
	if (e.exists) { /* also what has expired, and is not swept yet */
		if (p->j.op == JOURNAL_PUT)
			e.info.seen = e.info.read = now;
		if (!p->absent)
			e.info.pinned = pinned;
		e.info.local |= p->local;
		e.info.confirmed = false;
		rc = wb_put_change(&id, &e.rec, &e.info, NULL, &changes[n++], &joined, &memory);
	} else if (!e.exists) {
		rc = wb_note_absent(wb, p->ns, &id, now, pinned);
	}
	if (j->seq == p->j.seq) {
		journal_drop(p->ns->journal, &id, &changes[n++]);
		done = true;
	} else {
		struct journal newer = *j;

		if (!p->absent) {
			newer.remote_has = true;
			newer.base_known = true;
			newer.base = p->j.op == JOURNAL_PUT ? p->hash : 0;
		}
		newer.first = p->j.seq + 1;
		if (!rc)
			rc = put_entry(wb, p, &newer);
	}
	if (!rc && n)
		rc = wb->local->ops->apply(wb->local, changes, n, NULL);
	if (!rc && done)
		wb_count(wb, -1, -(int64_t)j->failed);
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

int wb_mark_sent(struct writeback *wb, struct batch *b)
{
	return rewrite(wb, b, mark_sent);
}

int wb_note_results(struct writeback *wb, struct batch *b)
{
	return rewrite(wb, b, note_result);
}
