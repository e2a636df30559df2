/*
 * store.c - opening and closing, and what is passed on to the local store.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/internal.h"

enum { FAILED_SHOWN = 50 };

static int wb_close(struct store *base)
{
	struct writeback *wb = writeback(base);

	wb_upload_stop(wb);
	wb_notify_stop(wb);
	int rc = wb->local->ops->close(wb->local);
	wb->remote->ops->close(wb->remote);
	blob_pool_free(wb->opt.client_blobs);
	wb_namespaces_free(wb);
	lock_destroy(&wb->book);
	lock_destroy(&wb->traffic);
	pthread_cond_destroy(&wb->landed);
	lock_destroy(&wb->queue);
	pthread_cond_destroy(&wb->work);
	pthread_cond_destroy(&wb->sent);
	free(wb->globs);
	free(wb);
	return rc;
}

static int wb_throttle(struct store *base, uint64_t bytes)
{
	struct store *local = writeback(base)->local;

	return base->readonly ? -EROFS : local->ops->throttle(local, bytes);
}

static uint64_t wb_new_ino(struct store *base)
{
	struct store *local = writeback(base)->local;

	return local->ops->new_ino(local);
}

static void wb_stat(struct store *base, struct store_stat *out)
{
	struct writeback *wb = writeback(base);

	wb->local->ops->stat(wb->local, out);
	out->pending += atomic_load(&wb->pending);
}

/* --- what a person asks for --------------------------------------------------------------------- */

/* Whether a key is one that `asked` means. */
static bool is_meant(const struct entry_id *key, const struct entry_id *asked)
{
	return key->len >= asked->len && memcmp(key->bytes, asked->bytes, asked->len) == 0 &&
		(asked->kind == ENTRY_DIR || key->len == asked->len);
}

/* Calls `fn` for each key of local namespace `number` that `asked` means, until it fails. */
static int each_key(struct writeback *wb, struct wb_ns *ns, uint32_t number,
	const struct entry_id *asked,
	int (*fn)(struct writeback *, struct wb_ns *, const struct entry_id *))
{
	struct store *local = wb->local;
	unsigned char at[STORE_PREFIX_MAX + 1] = {0};
	size_t len = asked->len;
	int rc = 0;

	if (len > STORE_KEY_MAX) /* no key is so long */
		return 0;
	memcpy(at, asked->bytes, len);
	while (!rc) {
		struct entry_id id;
		struct view *v;
		struct scan *s;

		rc = local->ops->view_begin(local, NOW_NEVER, &v);
		if (rc)
			break;
		rc = local->ops->scan_open(v, number, ENTRY_KEY, &s);
		if (!rc) {
			rc = local->ops->scan_seek(s, at, len, &id);
			if (!rc && !is_meant(&id, asked))
				rc = -ENOENT;
			if (!rc) {
				memcpy(at, id.bytes, id.len);
				len = id.len;
			}
			local->ops->scan_close(s);
		}
		local->ops->view_end(v);
		if (rc)
			break;
		id.bytes = at;
		rc = fn(wb, ns, &id);
		at[len++] = '\0';
	}
	return rc == -ENOENT ? 0 : rc;
}

/* What is known of the value counts as old. */
static int make_old(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key)
{
	struct entry_id id = wb_key(ns->keys, key->bytes, key->len);
	struct record joined;
	struct change put;
	void *memory = NULL;
	struct wb_entry e;

	lock_take(&wb->book);
	int rc = wb_entry_get(wb, &id, &e);
	if (!rc && e.exists && e.info.read > 1) {
		e.info.read = 1;
		rc = wb_put_change(&id, &e.rec, &e.info, NULL, &put, &joined, &memory);
		if (!rc)
			rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	}
	if (!rc)
		wb_entry_release(&e);
	lock_drop(&wb->book);
	free(memory);
	if (!rc)
		wb_changed(wb, &id, false);
	return rc;
}

static int retry_entry(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key)
{
	struct journal j;
	struct change put;

	lock_take(&wb->book);
	int rc = journal_get(wb->local, ns->journal, key, &j);
	if (!rc && (j.failed || j.tries)) {
		bool failed = j.failed;

		j.failed = false;
		j.tries = 0;
		j.not_before = 0;
		rc = journal_put(wb->local, ns->journal, key, &j, &put);
		if (!rc) {
			rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
			blob_unref(put.value);
		}
		if (!rc)
			wb_count(wb, 0, -(int64_t)failed);
	}
	lock_drop(&wb->book);
	return rc == -ENOENT ? 0 : rc;
}

/* Gives up a failed change: what the remote store has counts again. */
static int drop_entry(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key)
{
	struct entry_id id = wb_key(ns->keys, key->bytes, key->len);
	struct change changes[2] = {{.op = CHANGE_REMOVE, .id = id}};
	struct journal j;

	lock_take(&wb->book);
	int rc = journal_get(wb->local, ns->journal, key, &j);
	bool drop = !rc && j.failed;
	if (drop) {
		journal_drop(ns->journal, key, &changes[1]);
		rc = wb->local->ops->apply(wb->local, changes, 2, NULL);
		if (!rc)
			wb_count(wb, -1, -1);
	}
	lock_drop(&wb->book);
	if (drop && !rc) {
		rc = wb_uncover(wb, ns, key->bytes, key->len);
		wb_changed(wb, &id, true);
	}
	return rc == -ENOENT ? 0 : rc;
}

static int control_ns(
	struct writeback *wb, struct wb_ns *ns, enum control what, const struct entry_id *asked)
{
	int rc = 0;

	switch (what) {
	case CONTROL_UPLOAD:
		break;
	case CONTROL_REFRESH:
		rc = wb_uncover(wb, ns, asked->bytes, asked->len);
		if (!rc)
			rc = each_key(wb, ns, ns->keys, asked, make_old);
		break;
	case CONTROL_RETRY:
		rc = each_key(wb, ns, ns->journal, asked, retry_entry);
		break;
	case CONTROL_DROP:
		rc = each_key(wb, ns, ns->journal, asked, drop_entry);
		break;
	}
	return rc;
}

static int wb_control(struct store *base, enum control what, const struct entry_id *asked)
{
	static const struct entry_id everything = {.kind = ENTRY_DIR, .bytes = (const void *)""};
	struct writeback *wb = writeback(base);
	const struct wb_ns *only = wb_ns(wb, asked->ns);
	int rc = 0;

	if (what != CONTROL_REFRESH && base->readonly)
		return -EROFS;
	if (what == CONTROL_UPLOAD)
		rc = wb->local->ops->sync(wb->local, UINT64_MAX);
	if (what == CONTROL_REFRESH && !only) {
		lock_take(&wb->book);
		wb->titles_read = 1;
		lock_drop(&wb->book);
	}
	for (size_t i = 0, n = wb_namespaces_count(wb); i < n && !rc; i++) {
		struct wb_ns *ns = wb_namespace_at(wb, i);

		if (!only || ns == only)
			rc = control_ns(wb, ns, what, only ? asked : &everything);
	}
	if (what != CONTROL_REFRESH)
		wb_upload_now(wb);
	return rc;
}

/* --- what a person is told ----------------------------------------------------------------------- */

struct telling {
	FILE *out;
	unsigned shown;
};

/* The title of a namespace, where there are others: to be asked for without a view (`book`). */
static void title_of(struct writeback *wb, const struct wb_ns *ns, char *buf, size_t cap)
{
	*buf = '\0';
	if (wb->one && !wb->opt.fixed_n)
		return;
	lock_take(&wb->book);
	if (ns->title)
		log_bytes(ns->title, ns->title_len, buf, cap);
	lock_drop(&wb->book);
}

/* "failed=REASON<tab>NAMESPACE<tab>KEY" */
static void tell_failed(struct writeback *wb, const struct wb_ns *ns, struct telling *t)
{
	struct store *local = wb->local;
	char title[256], shown[256];
	unsigned char at[STORE_KEY_MAX + 1] = {0};
	size_t len = 1;
	struct view *v;
	struct scan *s;
	struct entry_id id;

	title_of(wb, ns, title, sizeof(title));
	if (local->ops->view_begin(local, NOW_NEVER, &v))
		return;
	if (local->ops->scan_open(v, ns->journal, ENTRY_KEY, &s) == 0) {
		while (t->shown < FAILED_SHOWN && local->ops->scan_seek(s, at, len, &id) == 0) {
			struct journal j;

			memcpy(at, id.bytes, id.len);
			len = id.len;
			if (journal_get(local, ns->journal, &id, &j) == 0 && j.failed) {
				fprintf(t->out, "failed=%s\t%s\t%s\n", journal_reason(j.error),
					title, log_bytes(at, len, shown, sizeof(shown)));
				t->shown++;
			}
			at[len++] = '\0';
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
}

static void wb_describe(struct store *base, FILE *out)
{
	struct writeback *wb = writeback(base);
	struct telling t = {out, 0};
	int64_t since = atomic_load(&wb->offline_since);
	struct store_stat s;

	wb->local->ops->stat(wb->local, &s);
	fprintf(out, "cache_bytes=%" PRIu64 "\ncache_size=%" PRIu64 "\n", s.bytes,
		wb->opt.cache_size);
	lock_take(&wb->book);
	uint64_t failed = atomic_load(&wb->failed), pending = atomic_load(&wb->pending);
	lock_drop(&wb->book);
	fprintf(out, "uploads_pending=%" PRIu64 "\nuploads_failed=%" PRIu64 "\n", pending - failed,
		failed);
	/* Changes are numbered: whoever waits for those up to now may go by that. */
	fprintf(out, "uploads_last=%" PRIu64 "\nuploads_done=%" PRIu64 "\n", wb_last_change(wb),
		wb_uploaded_upto(wb));
	fprintf(out, "uploads_open=%" PRIu64 "\n", atomic_load(&wb->held));
	wb->remote->ops->describe(wb->remote, out);
	if (since) /* the remote store may have said so itself, and sooner */
		fprintf(out, "offline_since=%" PRId64 "\n", since / CLOCK_SECOND);
	for (size_t i = 0, n = wb_namespaces_count(wb); failed && i < n; i++)
		tell_failed(wb, wb_namespace_at(wb, i), &t);
}

static const struct store_ops writeback_ops = {
	.name = "writeback",
	.close = wb_close,
	.ns_find = wb_ns_find,
	.ns_next = wb_ns_next,
	.ns_create = wb_ns_create,
	.ns_remove = wb_ns_remove,
	.ns_rename = wb_ns_rename,
	.view_begin = wb_view_begin,
	.view_end = wb_view_end,
	.view_get = wb_view_get,
	.view_expired = wb_view_expired,
	.view_next_expiry = wb_view_next_expiry,
	.scan_open = wb_scan_open,
	.scan_seek = wb_scan_seek,
	.scan_get = wb_scan_get,
	.scan_close = wb_scan_close,
	.read = wb_read,
	.apply = wb_apply,
	.throttle = wb_throttle,
	.sync = wb_sync,
	.sync_entry = wb_sync_entry,
	.move_tree = wb_move_tree,
	.watch = wb_watch,
	.foreign_compare = wb_foreign_compare,
	.foreign_old_value = wb_foreign_old_value,
	.prepare = wb_prepare,
	.control = wb_control,
	.describe = wb_describe,
	.new_ino = wb_new_ino,
	.stat = wb_stat,
};

static void init_base(struct writeback *wb)
{
	struct store *base = &wb->base;
	pthread_condattr_t steady;

	base->ops = &writeback_ops;
	base->blobs = wb->local->blobs;
	base->readonly = wb->opt.readonly;
	base->value_max = wb->remote->value_max;
	base->plain = base->text_keys = true;
	base->metadata_max = wb->remote->metadata_max;
	base->ttl_min = wb->remote->ttl_min;
	base->no_expiry = !wb->remote->expiring;
	lock_init(&wb->book, LOCK_BOOK);
	lock_init(&wb->traffic, LOCK_TRAFFIC);
	pthread_cond_init(&wb->landed, NULL);
	lock_init(&wb->queue, LOCK_QUEUE);
	/* Setting the system's clock makes nobody wait for longer, or not at all. */
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&wb->work, &steady);
	pthread_cond_init(&wb->sent, &steady);
	pthread_condattr_destroy(&steady);
	wb->next_due = INT64_MAX;
	wb->oldest = UINT64_MAX;
}

int writeback_open(struct store *local, struct remote *remote, const struct writeback_options *o,
	const char *only, struct store **out, uint32_t *ns, char *why, size_t why_cap)
{
	struct writeback *wb = calloc(1, sizeof(*wb));

	if (!wb) {
		local->ops->close(local);
		remote->ops->close(remote);
		return -ENOMEM;
	}
	wb->local = local;
	wb->remote = remote;
	wb->opt = *o;
	/* Changes of the next process are newer than those in the journal. */
	atomic_store(&wb->seq, (uint64_t)clock_now());
	atomic_store(&wb->opened_seq, atomic_load(&wb->seq));
	wb->opened = clock_steady();
	init_base(wb);
	wb->globs = o->local_globs ? strdup(o->local_globs) : NULL;
	int rc = o->local_globs && !wb->globs ? -ENOMEM : wb_notify_start(wb);
	if (!rc)
		rc = wb_namespaces_open(wb, only, ns, why, why_cap);
	if (!rc)
		rc = wb_moves_resume(wb);
	if (rc) {
		if (!*why)
			snprintf(why, why_cap, "%s", strerror(-rc));
		wb_close(&wb->base);
		return rc;
	}
	*out = &wb->base;
	return 0;
}
