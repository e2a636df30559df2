/*
 * prepare.c - what an operation is about to look at, brought up to date with as few questions as
 * possible.
 *
 * A name. What begins like it is asked for, which is the key and what is below a directory of that
 * name, a thousand keys at once; where it has a number, what begins like it up to there, in the hope
 * that its neighbours are among them, who will be asked for next. Where other names in its directory
 * were asked for before, the directory's own listing is moved on instead, so that it is whole in the
 * end and answers for all.
 *
 * While the remote store does not answer, what is here is shown however old it is, and nobody waits
 * for it: the uploader looks now and then whether it answers again.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/writeback/walk.h"

enum {
	ROUNDS_MAX = 64, /* of looking again, for others may answer meanwhile */
	PATIENCE = 1, /* names asked for one by one before a directory's listing is moved on */
	PATIENCE_LARGE = 4, /* ... where its first page will hardly have the name */
};

static bool has_below(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len)
{
	struct store *local = wb->local;
	struct entry_id id;
	struct view *v;
	struct scan *s;
	bool has = false;

	if (local->ops->view_begin(local, clock_now(), &v))
		return false;
	if (local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s) == 0) {
		has = local->ops->scan_seek(s, prefix, len, &id) == 0 && id.len >= len &&
			memcmp(id.bytes, prefix, len) == 0;
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return has;
}

/* Whether something below `prefix` is known to be there, by a listing that has passed it. */
static bool is_dir(
	struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, int64_t now)
{
	struct store *local = wb->local;
	unsigned char bytes[STORE_KEY_MAX];
	struct entry_id id;
	struct journal j;
	struct view *v;
	struct scan *s;
	bool found = false;

	if (local->ops->view_begin(local, now, &v))
		return false;
	if (local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s) == 0) {
		found = local->ops->scan_seek(s, prefix, len, &id) == 0 && id.len >= len &&
			memcmp(id.bytes, prefix, len) == 0;
		if (found)
			memcpy(bytes, id.bytes, id.len);
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	id.bytes = bytes;
	return found &&
		(wb_covers(wb, ns, bytes, id.len, false, now) ||
			journal_get(local, ns->journal, &id, &j) == 0);
}

/* Whether it is known if the key is there. */
static bool knows_key(struct writeback *wb, struct wb_ns *ns, const struct want *want, int64_t now)
{
	struct entry_id id = wb_key(ns->keys, want->key, want->key_len);
	struct journal j;
	struct wb_entry e;

	if (!want->key_len || wb_covers(wb, ns, want->key, want->key_len, false, now) ||
		journal_get(wb->local, ns->journal, &id, &j) == 0)
		return true;
	if (wb_entry_get(wb, &id, &e))
		return false;
	bool fresh = e.exists && wb_is_fresh(wb, &e.info, false, now);
	wb_entry_release(&e);
	return fresh || (!e.exists && wb_is_absent(wb, ns, &id, now));
}

static bool knows_dir(struct writeback *wb, struct wb_ns *ns, const struct want *want, int64_t now)
{
	return !want->prefix_len || wb_covers(wb, ns, want->prefix, want->prefix_len, true, now) ||
		is_dir(wb, ns, want->prefix, want->prefix_len, now);
}

/* Whether there is something to show, which may be that there was nothing, although it is old. */
static bool has_any(struct writeback *wb, struct wb_ns *ns, const struct want *want)
{
	struct entry_id id = wb_key(ns->keys, want->key, want->key_len);
	struct wb_entry e;

	if (want->prefix_len && has_below(wb, ns, want->prefix, want->prefix_len))
		return true;
	if (want->key_len ? wb_was_whole(wb, ns, want->key, want->key_len)
			  : wb_was_whole(wb, ns, want->prefix, want->prefix_len))
		return true;
	if (!want->key_len)
		return false;
	if (wb_entry_get(wb, &id, &e))
		return false;
	wb_entry_release(&e);
	return e.exists ||
		(knows_key(wb, ns, want, NOW_NEVER) && knows_dir(wb, ns, want, NOW_NEVER));
}

static bool is_offline(struct writeback *wb)
{
	return atomic_load(&wb->offline_since) != 0;
}

/* One question that helps with a name. */
static int ask_for_name(struct writeback *wb, struct wb_ns *ns, const struct want *want)
{
	const unsigned char *name = want->key_len ? want->key : want->prefix;
	size_t len = want->key_len ? want->key_len : want->prefix_len, dir = len;

	if (!want->key_len && dir)
		dir--;
	while (dir && name[dir - 1] != (unsigned char)wb->opt.separator)
		dir--;
	size_t stem = dir + wb_stem(wb, name + dir, len - dir);
	unsigned misses = wb_note_miss(wb, ns, name, dir);
	bool large = misses <= PATIENCE_LARGE && wb_walks_know_large(wb, ns, name, dir);
	if ((misses > PATIENCE && !large) ||
		(misses == 1 && stem > dir && !wb_walk_has_begun(wb, ns, name, stem))) {
		int64_t now = clock_now();
		int rc = wb_fetch_page(wb, ns, name, misses > PATIENCE ? dir : stem, NULL);

		if (rc || (knows_key(wb, ns, want, now) && knows_dir(wb, ns, want, now)))
			return rc;
	}
	/* Its own prefix brings the key first, and then what is below it, unless many other names
	 * begin like it. */
	if (!knows_key(wb, ns, want, clock_now()))
		return wb_fetch_page(wb, ns, name, len, NULL);
	return wb_fetch_page(wb, ns, want->prefix, want->prefix_len, NULL);
}

/* The size, and with `bytes` the value, of a key that is there. */
static int prepare_value(
	struct writeback *wb, struct wb_ns *ns, const struct want *want, bool bytes)
{
	struct entry_id id = wb_key(ns->keys, want->key, want->key_len);

	for (int round = 0; round < ROUNDS_MAX; round++) {
		int64_t now = clock_now();
		struct journal j;
		struct wb_entry e;
		int rc = wb_entry_get(wb, &id, &e);

		if (rc)
			return rc;
		wb_entry_release(&e);
		if (!e.exists || record_expired(&e.rec, now))
			return 0;
		bool journaled = journal_get(wb->local, ns->journal, &id, &j) == 0;
		wb_note_use(wb, ns, id.bytes, id.len);
		if ((!bytes || e.info.cached) && wb_is_fresh(wb, &e.info, journaled, now))
			return 0;
		bool old = e.info.sized && (!bytes || e.info.cached);
		if (old && is_offline(wb))
			return 0;
		rc = wb_fetch_values(wb, ns, &id);
		if (rc) /* what is old is better than nothing */
			return old ? 0 : rc;
	}
	return -ETIMEDOUT;
}

static int prepare_name(struct writeback *wb, struct wb_ns *ns, const struct want *want)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int64_t now = clock_now();
		bool dir = knows_dir(wb, ns, want, now);

		/* What is a directory is no file of this name. */
		if (dir && want->prefix_len && has_below(wb, ns, want->prefix, want->prefix_len))
			return 0;
		if (dir && knows_key(wb, ns, want, now))
			return 0;
		if (is_offline(wb) && has_any(wb, ns, want))
			return 0;
		int rc = ask_for_name(wb, ns, want);
		if (rc)
			return has_any(wb, ns, want) ? 0 : rc;
	}
	return -ETIMEDOUT;
}

/* Names after `key`, at least one page of them. */
static int prepare_list(struct writeback *wb, struct wb_ns *ns, struct want *want)
{
	want->complete = false;
	want->upto_len = 0;
	wb_note_listed(wb, ns, want->prefix, want->prefix_len);
	for (int round = 0; round < ROUNDS_MAX * 64; round++) {
		int64_t now = clock_now();

		if (wb_covers(wb, ns, want->prefix, want->prefix_len, true, now)) {
			want->complete = true;
			return 0;
		}
		bool past = want->upto_len && want->key_len;
		if (past) {
			size_t both =
				want->key_len < want->upto_len ? want->key_len : want->upto_len;
			int order = memcmp(want->upto, want->key, both);

			past = order > 0 || (order == 0 && want->upto_len > want->key_len);
		}
		if (want->upto_len && (past || !want->key_len))
			return 0;
		bool old = wb_was_whole(wb, ns, want->prefix, want->prefix_len);
		int rc = old && is_offline(wb)
			? -ETIMEDOUT
			: wb_fetch_page(wb, ns, want->prefix, want->prefix_len, want);
		if (rc) { /* what is here, then, unless a part of it has never been seen */
			want->complete = true;
			return old ? 0 : rc;
		}
		if (want->complete)
			return 0;
	}
	return -ETIMEDOUT;
}

/* The keys below `prefix` whose values are not here, up to a batch. */
static size_t missing_values(struct writeback *wb, struct wb_ns *ns, const struct want *want,
	struct remote_name *names, unsigned char (*bytes)[STORE_KEY_MAX])
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1];
	size_t n = 0, len = want->prefix_len;
	struct view *v;
	struct scan *s;

	if (local->ops->view_begin(local, clock_now(), &v))
		return 0;
	memcpy(at, want->prefix, len);
	if (local->ops->scan_open(v, ns->keys, ENTRY_KEY, &s) == 0) {
		struct entry_id id;

		while (n < REMOTE_GET_MAX && local->ops->scan_seek(s, at, len, &id) == 0 &&
			id.len >= want->prefix_len &&
			memcmp(id.bytes, want->prefix, want->prefix_len) == 0) {
			struct entry e;
			struct info info;

			memcpy(at, id.bytes, id.len);
			len = id.len;
			if (local->ops->view_get(v, &id, &e) == 0) {
				info_split(&e.rec, &info);
				if (!info.cached) {
					memcpy(bytes[n], at, len);
					names[n] = (struct remote_name){bytes[n], len};
					n++;
				}
			}
			at[len++] = '\0';
		}
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return n;
}

static int prepare_tree(struct writeback *wb, struct wb_ns *ns, struct want *want)
{
	struct remote_name names[REMOTE_GET_MAX];
	unsigned char(*bytes)[STORE_KEY_MAX] = calloc(REMOTE_GET_MAX, sizeof(*bytes));
	struct want list = *want, value = *want;
	size_t n;
	int rc = bytes ? 0 : -ENOMEM;

	list.key_len = 0;
	do {
		if (!rc)
			rc = prepare_list(wb, ns, &list);
		list.key = list.upto;
		list.key_len = list.upto_len;
	} while (!rc && !list.complete);
	wb_note_tree(wb, true);
	while (!rc && (n = missing_values(wb, ns, want, names, bytes)) > 0) {
		rc = wb_fetch_exactly(wb, ns, names, n, false);
		wb_note_tree(wb, true);
	}
	if (!rc && value.key_len)
		rc = prepare_value(wb, ns, &value, true);
	free(bytes);
	return rc;
}

int wb_prepare(struct store *base, struct want *want)
{
	struct writeback *wb = writeback(base);
	struct wb_ns *ns = wb_ns(wb, want->ns);

	lock_none_held("the remote store");
	want->complete = true;
	if (!ns)
		return want->kind == WANT_LIST || want->kind == WANT_NAME
			? wb_namespaces_refresh(wb)
			: 0;
	if (want->prefix_len > STORE_KEY_MAX) { /* nothing can be below */
		if (want->kind == WANT_LIST)
			return 0;
		want->prefix_len = 0;
	}
	switch (want->kind) {
	case WANT_NAME:
		return prepare_name(wb, ns, want);
	case WANT_LIST:
		return prepare_list(wb, ns, want);
	case WANT_SIZE:
		return prepare_value(wb, ns, want, false);
	case WANT_VALUE:
		return prepare_value(wb, ns, want, true);
	case WANT_TREE:
		return want->prefix_len ? prepare_tree(wb, ns, want)
					: prepare_value(wb, ns, want, true);
	}
	return -EINVAL;
}
