/*
 * conflict.c - keeping what others have written meanwhile (-o conflict=keep).
 *
 * Before a batch is sent, the remote values of its keys are got, and compared with those that the
 * changes began from. One that is another, and not what is to be sent either, becomes a key of its
 * own beside: it is a change like any other, and is uploaded in its turn.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/parcel.h"

enum { SUFFIX_MAX = 32 };

static int keep(struct writeback *wb, const struct parcel *p, const struct remote_value *v)
{
	struct timespec now = clock_timespec(clock_now());
	char suffix[SUFFIX_MAX], shown[256];
	unsigned char key[STORE_KEY_MAX];
	struct tm tm;
	struct record rec = {
		.mode = (S_IFREG | 0644) & ~wb->opt.umask,
		.uid = wb->opt.uid,
		.gid = wb->opt.gid,
		.ino = wb->local->ops->new_ino(wb->local),
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.expiration = v->expiration,
	};
	unsigned char *xattrs = NULL;
	size_t xattrs_len = 0;
	int rc = 0;

	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(suffix, sizeof(suffix), ".conflict-%Y%m%dT%H%M%SZ", &tm);
	if (p->len + n > STORE_KEY_MAX)
		rc = -ENAMETOOLONG;
	if (!rc && v->metadata)
		rc = xattrs_set(NULL, 0, "user.kv.metadata", v->metadata, v->metadata_len, &xattrs,
			&xattrs_len);
	if (!rc) {
		memcpy(key, p->bytes, p->len);
		memcpy(key + p->len, suffix, n);
		rec.xattrs = xattrs;
		rec.xattrs_len = (uint32_t)xattrs_len;
		struct change put = {.op = CHANGE_PUT,
			.id = wb_key(p->ns->keys, key, p->len + n),
			.rec = &rec,
			.value = v->value};
		rc = wb_apply(&wb->base, &put, 1, NULL);
		if (!rc)
			wb_changed(wb, &put.id, false);
	}
	free(xattrs);
	if (rc)
		log_error("%s: what others have written cannot be kept beside: %s",
			log_bytes(p->bytes, p->len, shown, sizeof(shown)), strerror(-rc));
	else
		log_warning("%s: others have written it too; their value is kept as %s%s",
			log_bytes(p->bytes, p->len, shown, sizeof(shown)), "KEY", suffix);
	return rc;
}

/* The change begins from what was kept now: it is not kept again when this is tried again. */
static int note_kept(struct writeback *wb, struct parcel *p, const struct remote_value *v)
{
	struct entry_id id = parcel_id(p);
	struct journal j;
	struct change put;

	p->j.base_known = true;
	p->j.base = wb_hash_blob(v->value);
	lock_take(&wb->book);
	int rc = journal_get(wb->local, p->ns->journal, &id, &j);
	if (!rc) {
		j.base_known = true;
		j.base = p->j.base;
		rc = journal_put(wb->local, p->ns->journal, &id, &j, &put);
		if (!rc) {
			rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
			blob_unref(put.value);
		}
	}
	lock_drop(&wb->book);
	return rc == -ENOENT ? 0 : rc;
}

/* Whether the remote value is one that neither side of the change knows. */
static bool is_conflict(const struct parcel *p, const struct remote_value *v)
{
	if (v->error)
		return false;
	uint64_t hash = wb_hash_blob(v->value);
	bool base = p->j.base_known && p->j.base && hash == p->j.base;
	bool own = p->j.op == JOURNAL_PUT && hash == p->hash;

	return !base && !own;
}

static int keep_some(struct writeback *wb, struct parcel *const *parcels, size_t n)
{
	struct remote_name names[REMOTE_GET_MAX] = {0};
	struct remote_value values[REMOTE_GET_MAX] = {0};

	for (size_t i = 0; i < n; i++)
		names[i] = (struct remote_name){parcels[i]->bytes, parcels[i]->len};
	int rc = wb->remote->ops->get(wb->remote, parcels[0]->ns->id, names, n, true, values);
	wb_note_answer(wb, rc);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		struct parcel *p = parcels[i];
		int kept = values[i].error == -ENOENT ? 0 : values[i].error;

		if (!kept && is_conflict(p, &values[i])) {
			kept = keep(wb, p, &values[i]);
			if (!kept)
				kept = note_kept(wb, p, &values[i]);
		}
		if (kept) { /* what others wrote is not overwritten; the other keys go */
			p->unsent = true;
			p->result = kept;
		}
		blob_unref(values[i].value);
		free(values[i].metadata);
	}
	return rc;
}

int wb_keep_conflicts(struct writeback *wb, struct batch *b)
{
	struct parcel *some[REMOTE_GET_MAX];
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < b->n && !rc; i++) {
		struct parcel *p = &b->parcels[i];

		if (p->unsent)
			continue;
		if (n && (n == REMOTE_GET_MAX || some[0]->ns != p->ns)) {
			rc = keep_some(wb, some, n);
			n = 0;
		}
		some[n++] = p;
	}
	return rc || !n ? rc : keep_some(wb, some, n);
}
