/*
 * merge.c - what the remote store's answers change in the local one.
 *
 * Own changes win: what is in the journal is left alone, and what is pinned is left alone unless the
 * answer says the same. Everything is decided and applied under `book`.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/base/utf8.h"
#include "backends/writeback/internal.h"

static const char METADATA[] = "user.kv.metadata";

/* Changes that an answer makes, applied together. */
struct merging {
	struct writeback *wb;
	struct wb_ns *ns;
	int64_t asked; /* when the question was put */
	struct change *changes;
	struct record *records;
	void **memory;
	bool *told; /* the filesystem is to hear of this change, once it can be seen */
	size_t n, cap;
	struct blob *empty; /* stands for values that are not here */
	int64_t dropped, dropped_failed; /* entries of the journal */
};

static int merging_init(
	struct merging *m, struct writeback *wb, struct wb_ns *ns, size_t cap, int64_t asked)
{
	*m = (struct merging){.wb = wb, .ns = ns, .cap = cap, .asked = asked};
	m->changes = calloc(cap, sizeof(*m->changes));
	m->records = calloc(cap, sizeof(*m->records));
	m->memory = calloc(cap, sizeof(*m->memory));
	m->told = calloc(cap, sizeof(*m->told));
	return m->changes && m->records && m->memory && m->told
		? blob_new(wb->local->blobs, &m->empty)
		: -ENOMEM;
}

static void merging_release(struct merging *m)
{
	for (size_t i = 0; m->memory && i < m->n; i++)
		free(m->memory[i]);
	free(m->changes);
	free(m->records);
	free(m->memory);
	free(m->told);
	blob_unref(m->empty);
}

static int merging_apply(struct merging *m)
{
	struct store *local = m->wb->local;
	int rc = m->n ? local->ops->apply(local, m->changes, m->n, NULL) : 0;

	if (!rc)
		wb_count(m->wb, -m->dropped, -m->dropped_failed);
	m->dropped = m->dropped_failed = 0;
	for (size_t i = 0; i < m->n; i++) {
		if (!rc && m->told[i])
			wb_changed(m->wb, &m->changes[i].id, m->changes[i].op == CHANGE_REMOVE);
		free(m->memory[i]);
		m->memory[i] = NULL;
	}
	m->n = 0;
	return rc;
}

static int merging_put(struct merging *m, const struct entry_id *id, const struct record *rec,
	const struct info *info, struct blob *value, bool tell)
{
	int rc = wb_put_change(
		id, rec, info, value, &m->changes[m->n], &m->records[m->n], &m->memory[m->n]);

	if (!rc && value && info->cached) {
		wb_note_kept(m->wb, info->size);
		wb_note_use(m->wb, m->ns, id->bytes, id->len);
	}
	if (!rc)
		m->told[m->n++] = tell;
	return rc;
}

static void merging_remove(struct merging *m, const struct entry_id *id)
{
	m->changes[m->n] = (struct change){.op = CHANGE_REMOVE, .id = *id};
	m->told[m->n++] = true;
}

/* The attributes of a key that somebody else made. */
static struct record new_record(struct writeback *wb)
{
	struct timespec now = clock_timespec(clock_now());

	return (struct record){
		.mode = (S_IFREG | 0644) & ~wb->opt.umask,
		.uid = wb->opt.uid,
		.gid = wb->opt.gid,
		.ino = wb->local->ops->new_ino(wb->local),
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};
}

/* Gives the record other metadata: 1 where that changes it, 0, -errno. The list is copied. */
static int set_metadata(struct wb_entry *e, const char *metadata, size_t len)
{
	struct record *rec = &e->rec;
	unsigned char *list;
	size_t old_len = 0, list_len;
	const unsigned char *old = xattrs_get(rec->xattrs, rec->xattrs_len, METADATA, &old_len);

	if (!old == !metadata && old_len == len && (!old || memcmp(old, metadata, len) == 0))
		return 0;
	int rc =
		xattrs_set(rec->xattrs, rec->xattrs_len, METADATA, metadata, len, &list, &list_len);
	if (rc)
		return rc;
	free(e->memory);
	e->memory = list;
	rec->xattrs = list;
	rec->xattrs_len = (uint32_t)list_len;
	return 1;
}

static void set_flag(struct record *rec, uint32_t flag, bool on)
{
	rec->flags = on ? rec->flags | flag : rec->flags & ~flag;
}

/* Expiry and metadata as the answer has them: 1 where that changes something. They are the key's own:
 * it takes them along where it is renamed over another. */
static int set_attributes(
	struct wb_entry *e, int64_t expiration, const char *metadata, size_t metadata_len)
{
	int changed = set_metadata(e, metadata, metadata ? metadata_len : 0);

	if (changed < 0)
		return changed;
	if (changed)
		set_flag(&e->rec, RECORD_OWN_METADATA, metadata != NULL);
	if (e->rec.expiration != expiration) {
		e->rec.expiration = expiration;
		e->rec.visible_ns = 0;
		set_flag(&e->rec, RECORD_OWN_EXPIRATION, expiration != 0);
		changed = 1;
	}
	return changed;
}

/* Whether own changes of the key, or its being made here only, keep answers from counting. */
static bool is_ours(struct merging *m, const struct entry_id *id, const struct wb_entry *e)
{
	struct journal j;

	return (e->exists && (e->info.local || info_is_own(&e->info))) ||
		journal_get(m->wb->local, m->ns->journal, id, &j) != -ENOENT;
}

static bool is_pinned(const struct merging *m, const struct wb_entry *e)
{
	return e->exists && e->info.pinned > m->asked;
}

/* Whether what is known was asked for after this answer was. */
static bool is_overtaken(const struct merging *m, const struct wb_entry *e)
{
	int64_t known = e->info.seen > e->info.read ? e->info.seen : e->info.read;

	return e->exists && known > m->asked && known <= clock_now();
}

/* --- listings --------------------------------------------------------------------------------- */

static int merge_listed(struct merging *m, const struct remote_key *key)
{
	struct entry_id id = wb_key(m->ns->keys, key->bytes, key->len);
	struct wb_entry e;
	int changed = 0, rc = wb_entry_get(m->wb, &id, &e);

	if (rc)
		return rc;
	if (is_ours(m, &id, &e) || is_pinned(m, &e) || is_overtaken(m, &e) ||
		(!e.exists && wb_is_removed(m->wb, m->ns, &id, m->asked)))
		goto out;
	if (!e.exists) {
		e.rec = new_record(m->wb);
		changed = 1;
	}
	rc = set_attributes(&e, key->expiration, key->metadata, key->metadata_len);
	if (rc < 0)
		goto out;
	changed |= rc;
	rc = 0;
	if (changed || !e.info.seen) {
		if (e.exists && changed)
			e.rec.ctime = clock_timespec(clock_now());
		e.info.seen = m->asked;
		rc = merging_put(m, &id, &e.rec, &e.info, e.exists ? NULL : m->empty, e.exists);
	}
out:
	wb_entry_release(&e);
	return rc;
}

/* A key that is here, and that a listing has passed without naming it. */
static int merge_unlisted(struct merging *m, const struct entry_id *id)
{
	struct wb_entry e;
	int rc = wb_entry_get(m->wb, id, &e);

	if (rc)
		return rc;
	if (e.exists && !is_ours(m, id, &e) && !is_pinned(m, &e) && !is_overtaken(m, &e) &&
		!e.rec.visible_ns)
		merging_remove(m, id);
	wb_entry_release(&e);
	return 0;
}

/* The first local key at or after `at`, within `prefix`. Its bytes are copied. */
static int next_local(struct merging *m, const unsigned char *at, size_t len,
	const struct remote_name *prefix, struct entry_id *id, unsigned char bytes[STORE_KEY_MAX])
{
	struct store *local = m->wb->local;
	struct view *v;
	struct scan *s;
	int rc = local->ops->view_begin(local, NOW_NEVER, &v);

	if (rc)
		return rc;
	rc = local->ops->scan_open(v, m->ns->keys, ENTRY_KEY, &s);
	if (!rc) {
		rc = local->ops->scan_seek(s, at, len, id);
		if (!rc) {
			memcpy(bytes, id->bytes, id->len);
			id->bytes = bytes;
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	if (!rc &&
		(id->len < prefix->len ||
			(prefix->len && memcmp(bytes, prefix->bytes, prefix->len) != 0)))
		rc = -ENOENT;
	return rc;
}

static int compare(const struct entry_id *id, const struct remote_key *key)
{
	size_t both = id->len < key->len ? id->len : key->len;
	int order = memcmp(id->bytes, key->bytes, both);

	return order ? order : (id->len > key->len) - (id->len < key->len);
}

/* Removes what is here between the last key and this one (NULL: the end of the prefix). */
static int merge_gap(struct merging *m, unsigned char *at, size_t *len,
	const struct remote_name *prefix, const struct remote_key *key)
{
	unsigned char bytes[STORE_KEY_MAX];
	struct entry_id id;
	int rc;

	while (!(rc = next_local(m, at, *len, prefix, &id, bytes)) &&
		(!key || compare(&id, key) < 0)) {
		rc = merge_unlisted(m, &id);
		if (!rc)
			rc = merging_apply(m);
		if (rc)
			return rc;
		memcpy(at, id.bytes, id.len);
		at[id.len] = '\0';
		*len = id.len + 1u;
	}
	return rc == -ENOENT ? 0 : rc;
}

/* What is not in order would make others vanish. */
static bool is_sound(const struct remote_page *page, const struct remote_name *prefix)
{
	for (size_t i = 0; i < page->n; i++) {
		const struct remote_key *key = &page->keys[i];

		if (!key->len || key->len > STORE_KEY_MAX || key->len < prefix->len ||
			(prefix->len && memcmp(key->bytes, prefix->bytes, prefix->len) != 0))
			return false;
		struct entry_id last = i ? wb_key(0, key[-1].bytes, key[-1].len) : wb_key(0, "", 0);
		if (i && compare(&last, key) >= 0)
			return false;
	}
	return true;
}

int wb_merge_page(struct writeback *wb, struct wb_ns *ns, const struct remote_page *page,
	const struct remote_name *after, const struct remote_name *prefix, int64_t asked)
{
	unsigned char at[STORE_KEY_MAX + 1];
	const struct remote_name *begin = after->len ? after : prefix;
	size_t len = begin->len;
	struct merging m;

	if (!is_sound(page, prefix)) {
		log_error("the remote store lists keys that are not in order, or not asked for");
		return -EIO;
	}
	memcpy(at, begin->bytes, len);
	if (after->len)
		at[len++] = '\0';
	int rc = merging_init(&m, wb, ns, page->n + 1, asked);
	lock_take(&wb->book);
	for (size_t i = 0; i < page->n && !rc; i++) {
		rc = merge_gap(&m, at, &len, prefix, &page->keys[i]);
		if (!rc)
			rc = merge_listed(&m, &page->keys[i]);
		memcpy(at, page->keys[i].bytes, page->keys[i].len);
		len = page->keys[i].len;
		at[len++] = '\0';
	}
	if (!rc)
		rc = merging_apply(&m);
	if (!rc && !page->cursor)
		rc = merge_gap(&m, at, &len, prefix, NULL);
	lock_drop(&wb->book);
	merging_release(&m);
	return rc;
}

/* --- values ----------------------------------------------------------------------------------- */

static int merge_absent(struct merging *m, const struct entry_id *id, const struct wb_entry *e)
{
	if ((is_pinned(m, e) && !e->info.confirmed) || is_overtaken(m, e))
		return 0;
	if (e->exists)
		merging_remove(m, id);
	/* An own removal stays pinned: a listing may be older than what getting says. */
	int64_t pinned = wb_removed_until(m->wb, m->ns, id);
	return wb_note_absent(m->wb, m->ns, id, m->asked, pinned > m->asked ? pinned : 0);
}

/* Whether the answer is known to have the same expiry and metadata. */
static bool same_attributes(const struct wb_entry *e, const struct remote_value *v)
{
	const struct record *rec = &e->rec;
	size_t len = 0;
	const unsigned char *own = xattrs_get(rec->xattrs, rec->xattrs_len, METADATA, &len);

	return v->metadata_known && rec->expiration == v->expiration && !own == !v->metadata &&
		(!own || (len == v->metadata_len && memcmp(own, v->metadata, len) == 0));
}

/* Whether getting many at once may bring it. */
static bool is_text(struct blob *value)
{
	const unsigned char *bytes = blob_data(value);

	return !blob_size(value) || (bytes && utf8_is_valid(bytes, (size_t)blob_size(value)));
}

/* What a writer has found is what its change will begin from: where others' values are kept, it stays
 * until the writer has closed, or what others store meanwhile would count as known, and be lost. */
static int merge_written(struct merging *m, const struct entry_id *id, struct wb_entry *e)
{
	e->info.seen = e->info.read = m->asked;
	return merging_put(m, id, &e->rec, &e->info, NULL, false);
}

static int merge_found(struct merging *m, const struct entry_id *id, struct wb_entry *e,
	const struct remote_value *v, bool written)
{
	uint64_t hash = wb_hash_blob(v->value);
	bool same = e->exists && e->info.sized && e->info.hash == hash &&
		e->info.size == blob_size(v->value);

	if (is_overtaken(m, e) || (!e->exists && wb_is_removed(m->wb, m->ns, id, m->asked)))
		return 0;
	bool ours = same && same_attributes(e, v);
	if (is_pinned(m, e) && !e->info.confirmed && !ours)
		return 0;
	if (written && !same && e->exists && e->info.cached)
		return merge_written(m, id, e);
	if (!e->exists)
		e->rec = new_record(m->wb);
	bool keep = !v->metadata_known && e->exists;
	int changed = keep ? 0 : set_attributes(e, v->expiration, v->metadata, v->metadata_len);
	if (changed < 0)
		return changed;
	if (!same) {
		e->rec.ctime = clock_timespec(clock_now());
		/* The time when it was first listed is that of the first value. */
		if (e->info.sized)
			e->rec.mtime = e->rec.ctime;
	}
	bool have = same && e->info.cached;
	/* One that was got alone may be another than it was when others had to be. */
	bool alone = v->exact ? e->info.alone && (same || !is_text(v->value)) : v->alone;
	int64_t pinned = is_pinned(m, e) && ours ? e->info.pinned : 0;
	e->info = (struct info){
		.seen = m->asked, .read = m->asked, .pinned = pinned, .confirmed = pinned != 0};
	wb_info_value(&e->info, v->value);
	e->info.alone = alone;
	return merging_put(m, id, &e->rec, &e->info, have ? NULL : v->value, !same || changed);
}

/* It was not worth a request of its own. */
static int merge_alone(struct merging *m, const struct entry_id *id, struct wb_entry *e)
{
	if (!e->exists || e->info.alone)
		return 0;
	e->info.alone = true;
	return merging_put(m, id, &e->rec, &e->info, NULL, false);
}

/* Attributes were changed here of a value that is not here: it is what the answer says, and all that
 * the answer has to say. */
static int merge_below_journal(struct merging *m, const struct entry_id *id, struct wb_entry *e,
	const struct journal *j, const struct remote_value *v)
{
	if (!e->exists || e->info.cached || e->info.local || j->op != JOURNAL_PUT)
		return 0;
	if (v->error) { /* others removed it: there is nothing that could be changed */
		merging_remove(m, id);
		journal_drop(m->ns->journal, id, &m->changes[m->n]);
		m->told[m->n++] = false;
		m->dropped++;
		m->dropped_failed += j->failed;
		return wb_note_absent(m->wb, m->ns, id, m->asked, 0);
	}
	wb_info_value(&e->info, v->value);
	return merging_put(m, id, &e->rec, &e->info, v->value, false);
}

static int merge_value(struct merging *m, const struct remote_name *key,
	const struct remote_value *v, bool written)
{
	struct entry_id id = wb_key(m->ns->keys, key->bytes, key->len);
	struct wb_entry e;
	int rc = wb_entry_get(m->wb, &id, &e);

	if (rc)
		return rc;
	struct journal j;
	if (journal_get(m->wb->local, m->ns->journal, &id, &j) == 0)
		rc = v->error == -EAGAIN ? 0 : merge_below_journal(m, &id, &e, &j, v);
	else if (!is_ours(m, &id, &e) && v->error == -EAGAIN)
		rc = merge_alone(m, &id, &e);
	else if (!is_ours(m, &id, &e))
		rc = v->error ? merge_absent(m, &id, &e) : merge_found(m, &id, &e, v, written);
	wb_entry_release(&e);
	return rc;
}

static bool is_written(
	const struct writeback *wb, const struct wb_ns *ns, const struct remote_name *key)
{
	struct entry_id id = wb_key(ns->keys, key->bytes, key->len);

	return wb->opt.keep_conflicts && wb->base.is_written &&
		wb->base.is_written(wb->base.is_written_arg, &id);
}

int wb_merge_values(struct writeback *wb, struct wb_ns *ns, const struct remote_name *keys,
	const struct remote_value *values, size_t n, int64_t asked)
{
	bool written[REMOTE_GET_MAX] = {false};
	struct merging m;
	int rc = merging_init(&m, wb, ns, 2 * n, asked);

	for (size_t i = 0; i < n; i++) /* it takes the filesystem's locks, which come first */
		written[i] = is_written(wb, ns, &keys[i]);
	lock_take(&wb->book);
	for (size_t i = 0; i < n && !rc; i++) {
		bool answered = values[i].error == 0 || values[i].error == -ENOENT;

		if (answered || (values[i].error == -EAGAIN && values[i].alone))
			rc = merge_value(&m, &keys[i], &values[i], written[i]);
	}
	if (!rc)
		rc = merging_apply(&m);
	lock_drop(&wb->book);
	merging_release(&m);
	return rc;
}
