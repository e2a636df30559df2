/*
 * memory.c - the store in memory. Simple before fast: it is what the others are compared with.
 *
 * Model. One ordered map of entries (map.h) and a table of namespaces (ns.h), under one lock. A
 * view is nothing but the lock held shared, so that nothing can change while it is open.
 *
 * There is no medium: what is applied is as durable as it will get. Only entries whose value is
 * held (struct change) count as pending.
 *
 * Locks. `lock` is the only one. It prefers readers, because a thread that holds a view may call
 * read(), which takes it again.
 */
#include "backends/memory/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/lock.h"
#include "backends/memory/map.h"
#include "backends/memory/ns.h"

enum {
	BLOB_THRESHOLD = 1 << 20,
	BLOB_BUDGET = 256 << 20,
};

struct memory_store {
	struct store base;
	pthread_rwlock_t lock;

	struct map map; /* lock */
	struct ns_table namespaces; /* lock */
	uint64_t last_seq; /* lock */

	_Atomic uint64_t last_ino, reads, writes;
};

struct view {
	struct memory_store *ms;
	int64_t now;
};

struct scan {
	struct view *view;
	uint32_t ns;
	enum entry_kind kind;
};

static struct memory_store *memory(struct store *st)
{
	return (struct memory_store *)st;
}

static void lock_shared(struct memory_store *ms)
{
	lock_note_wanted(LOCK_MEMORY, ms, LOCK_SHARED_AGAIN);
	pthread_rwlock_rdlock(&ms->lock);
	lock_note_held(LOCK_MEMORY, ms);
}

static void lock_alone(struct memory_store *ms)
{
	lock_note_wanted(LOCK_MEMORY, ms, LOCK_ALONE);
	pthread_rwlock_wrlock(&ms->lock);
	lock_note_held(LOCK_MEMORY, ms);
}

static void unlock(struct memory_store *ms)
{
	lock_note_left(LOCK_MEMORY, ms);
	pthread_rwlock_unlock(&ms->lock);
}

/* Whether no live key is in it. */
static bool ns_is_empty(struct memory_store *ms, uint32_t ns, int64_t now)
{
	struct entry_id first = {.ns = ns, .kind = ENTRY_KEY};

	for (struct node *n = map_seek(&ms->map, &first);
		n && n->id.ns == ns && n->id.kind == ENTRY_KEY; n = map_next(n)) {
		if (node_listed(n, now))
			return false;
	}
	return true;
}

static void ns_drop(struct memory_store *ms, uint32_t ns)
{
	map_clear_ns(&ms->map, ns);
	ns_table_drop(&ms->namespaces, ns);
}

static int memory_ns_find(struct store *st, const void *name, size_t len, uint32_t *ns)
{
	struct memory_store *ms = memory(st);
	struct ns *found;

	lock_shared(ms);
	found = ns_table_by_name(&ms->namespaces, name, len);
	if (found)
		*ns = found->number;
	unlock(ms);
	return found ? 0 : -ENOENT;
}

static int memory_ns_next(
	struct store *st, const void *after, size_t after_len, void *name, size_t cap, size_t *len)
{
	struct memory_store *ms = memory(st);
	struct ns *next;
	int rc = 0;

	lock_shared(ms);
	next = ns_table_after(&ms->namespaces, after, after_len);
	if (!next) {
		rc = -ENOENT;
	} else if (next->len > cap) {
		rc = -ENAMETOOLONG;
	} else {
		memcpy(name, next->name, next->len);
		*len = next->len;
	}
	unlock(ms);
	return rc;
}

static int memory_ns_remove(struct store *st, uint32_t ns, int64_t now)
{
	struct memory_store *ms = memory(st);
	int rc = 0;

	lock_alone(ms);
	if (!ns_table_by_number(&ms->namespaces, ns))
		rc = -ENOENT;
	else if (!ns_is_empty(ms, ns, now))
		rc = -ENOTEMPTY;
	else
		ns_drop(ms, ns);
	unlock(ms);
	return rc;
}

static int ns_rename_locked(
	struct memory_store *ms, uint32_t ns, const void *name, size_t len, int64_t now)
{
	struct ns *target = ns_table_by_name(&ms->namespaces, name, len);

	if (!ns_table_by_number(&ms->namespaces, ns))
		return -ENOENT;
	if (target && target->number == ns)
		return 0;
	if (target && !ns_is_empty(ms, target->number, now))
		return -ENOTEMPTY;
	if (target)
		ns_drop(ms, target->number);
	return ns_table_rename(&ms->namespaces, ns, name, len);
}

static int memory_ns_rename(
	struct store *st, uint32_t ns, const void *name, size_t len, int64_t now)
{
	struct memory_store *ms = memory(st);
	int rc;

	lock_alone(ms);
	rc = ns_rename_locked(ms, ns, name, len, now);
	unlock(ms);
	return rc;
}

static int memory_view_begin(struct store *st, int64_t now, struct view **out)
{
	struct view *v = malloc(sizeof(*v));

	if (!v)
		return -ENOMEM;
	*v = (struct view){.ms = memory(st), .now = now};
	lock_shared(v->ms);
	*out = v;
	return 0;
}

static void memory_view_end(struct view *v)
{
	unlock(v->ms);
	free(v);
}

static struct node *find_live(struct memory_store *ms, const struct entry_id *id, int64_t now)
{
	struct node *n = map_find(&ms->map, id);

	return n && !node_expired(n, now) ? n : NULL;
}

static int memory_view_get(struct view *v, const struct entry_id *id, struct entry *out)
{
	struct node *n = find_live(v->ms, id, v->now);

	if (!n)
		return -ENOENT;
	atomic_fetch_add(&v->ms->reads, 1);
	*out = (struct entry){
		.rec = n->rec,
		.size = n->value ? blob_size(n->value) : 0,
		.unrecorded = !n->recorded,
		.pending = n->held,
	};
	return 0;
}

/* How many come before `n` in the order of expiry. */
static size_t expiry_rank(struct view *v, struct node *n)
{
	int64_t expiry = record_expiry_ns(&n->rec);
	bool before =
		true; /* whether `other` comes before `n` in the map, which decides among equals */
	size_t rank = 0;

	for (struct node *other = map_first(&v->ms->map); other; other = map_next(other)) {
		int64_t at = other->recorded ? record_expiry_ns(&other->rec) : INT64_MAX;

		if (other == n)
			before = false;
		else if (at < expiry || (at == expiry && before))
			rank++;
	}
	return rank;
}

static int memory_view_expired(struct view *v, size_t skip, struct entry_id *id)
{
	for (struct node *n = map_first(&v->ms->map); n; n = map_next(n)) {
		if (node_expired(n, v->now) && expiry_rank(v, n) == skip) {
			*id = n->id;
			return 0;
		}
	}
	return -ENOENT;
}

static int64_t memory_view_next_expiry(struct view *v)
{
	int64_t next = INT64_MAX;

	for (struct node *n = map_first(&v->ms->map); n; n = map_next(n)) {
		int64_t at = n->recorded ? record_expiry_ns(&n->rec) : INT64_MAX;

		if (at < next)
			next = at;
	}
	return next;
}

static int memory_scan_open(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out)
{
	struct scan *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	*s = (struct scan){.view = v, .ns = ns, .kind = kind};
	*out = s;
	return 0;
}

static int memory_scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found)
{
	struct entry_id id = {.ns = s->ns, .kind = s->kind, .len = (uint16_t)len, .bytes = from};
	struct node *n;

	/* Nothing is longer than a prefix, so that cutting there leaves the answer what it is, but
	 * for the prefix that is all of what is left. */
	if (len > STORE_PREFIX_MAX)
		id.len = STORE_PREFIX_MAX;
	n = map_seek(&s->view->ms->map, &id);
	if (n && len > STORE_PREFIX_MAX && n->id.len == STORE_PREFIX_MAX &&
		memcmp(n->id.bytes, from, STORE_PREFIX_MAX) == 0)
		n = map_next(n);
	while (n && n->id.ns == s->ns && n->id.kind == s->kind && !node_listed(n, s->view->now))
		n = map_next(n);
	if (!n || n->id.ns != s->ns || n->id.kind != s->kind)
		return -ENOENT;
	*found = n->id;
	return 0;
}

static int memory_scan_get(
	struct scan *s, const struct entry_id *found, bool brief, struct entry *out)
{
	return memory_view_get(s->view, found, out);
}

static void memory_scan_close(struct scan *s)
{
	free(s);
}

static int memory_read(struct store *st, const struct entry_id *id, int64_t now, struct value *out)
{
	struct memory_store *ms = memory(st);
	struct node *n;

	lock_shared(ms);
	n = id->kind == ENTRY_KEY ? find_live(ms, id, now) : NULL;
	if (n && n->value)
		value_from_blob(n->value, out);
	else if (n)
		*out = (struct value){0};
	unlock(ms);
	if (!n)
		return -ENOENT;
	atomic_fetch_add(&ms->reads, 1);
	return 0;
}

static int id_check(const struct entry_id *id)
{
	if (id->kind == ENTRY_KEY && id->len == 0)
		return -EINVAL;
	if (id->len > (id->kind == ENTRY_KEY ? (int)STORE_KEY_MAX : (int)STORE_PREFIX_MAX))
		return -ENAMETOOLONG;
	return 0;
}

/* A node for a PUT, with what it brings, in case that the entry is not there yet. */
static int change_prepare(const struct change *c, struct node **out)
{
	struct node *n;
	int rc = id_check(&c->id);

	if (rc || c->op == CHANGE_REMOVE)
		return rc;
	if (c->id.kind == ENTRY_DIR && (c->value || c->hold))
		return -EINVAL;
	n = node_new(&c->id);
	if (!n)
		return -ENOMEM;
	rc = c->rec ? node_set_record(n, c->rec) : 0;
	if (rc) {
		node_free(n);
		return rc;
	}
	n->value = c->value ? blob_ref(c->value) : NULL;
	n->held = c->hold;
	*out = n;
	return 0;
}

/* Whether a PUT that brings no value of its own has something to keep: an entry in the store, or
 * one that an earlier change of the group makes. */
static bool change_has_base(struct memory_store *ms, const struct change *changes, size_t i)
{
	const struct change *c = &changes[i];

	if (c->op == CHANGE_REMOVE || c->value || c->hold || (c->id.kind == ENTRY_DIR && c->rec))
		return true;
	for (size_t k = i; k-- > 0;) {
		const struct entry_id *id = &changes[k].id;

		if (entry_id_compare(id, &c->id) == 0)
			return changes[k].op == CHANGE_PUT;
	}
	return map_find(&ms->map, &c->id) != NULL;
}

/* Moves what a prepared node brings into the one that is in the map. */
static void node_update(struct node *n, struct node *fresh, const struct change *c)
{
	if (c->rec) {
		struct record old = n->rec;

		n->rec = fresh->rec;
		n->recorded = true;
		fresh->rec = old;
	}
	if (c->value) {
		struct blob *old = n->value;

		n->value = fresh->value;
		fresh->value = old;
	}
	if (c->hold)
		n->held = true;
	else if (c->value)
		n->held = false;
	node_free(fresh);
}

static void change_apply(struct memory_store *ms, const struct change *c, struct node *fresh)
{
	struct node *n = map_find(&ms->map, &c->id);

	if (c->op == CHANGE_REMOVE && n) {
		map_remove(&ms->map, n);
		node_free(n);
	} else if (c->op == CHANGE_PUT && n) {
		node_update(n, fresh, c);
	} else if (c->op == CHANGE_PUT) {
		map_insert(&ms->map, fresh);
	}
}

/* Number 0 holds the directory above all namespaces. */
static bool has_place(struct memory_store *ms, const struct entry_id *id)
{
	return (id->ns == 0 && id->kind == ENTRY_DIR) ||
		ns_table_by_number(&ms->namespaces, id->ns);
}

static int memory_apply(struct store *st, const struct change *changes, size_t n, uint64_t *seq)
{
	struct memory_store *ms = memory(st);
	struct node **fresh = calloc(n ? n : 1, sizeof(*fresh));
	int rc = fresh ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = change_prepare(&changes[i], &fresh[i]);
	if (rc)
		goto out;
	lock_alone(ms);
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!has_place(ms, &changes[i].id) || !change_has_base(ms, changes, i))
			rc = -ENOENT;
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		change_apply(ms, &changes[i], fresh[i]);
		fresh[i] = NULL;
	}
	if (rc == 0) {
		ms->last_seq++;
		if (seq)
			*seq = ms->last_seq;
		atomic_fetch_add(&ms->writes, n);
	}
	unlock(ms);
out:
	for (size_t i = 0; fresh && i < n; i++)
		node_free(fresh[i]);
	free(fresh);
	return rc;
}

static int memory_ns_create(
	struct store *st, const void *name, size_t len, const struct record *rec, uint32_t *ns)
{
	struct memory_store *ms = memory(st);
	uint32_t number;

	lock_alone(ms);
	int rc = ns_table_add(&ms->namespaces, name, len, &number);
	unlock(ms);
	if (rc == 0 && rec) {
		struct change put = {
			.op = CHANGE_PUT, .id = {.ns = number, .kind = ENTRY_DIR}, .rec = rec};

		rc = memory_apply(st, &put, 1, NULL);
		if (rc) {
			lock_alone(ms);
			ns_drop(ms, number);
			unlock(ms);
		}
	}
	if (rc == 0)
		*ns = number;
	return rc;
}

static void memory_size(uint64_t *free_bytes, uint64_t *total_bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	*free_bytes = page * (uint64_t)sysconf(_SC_AVPHYS_PAGES);
	*total_bytes = page * (uint64_t)sysconf(_SC_PHYS_PAGES);
}

static int memory_throttle(struct store *st, uint64_t bytes)
{
	uint64_t free_bytes, total_bytes;

	memory_size(&free_bytes, &total_bytes);
	return bytes > total_bytes ? -ENOSPC : 0;
}

static int memory_sync(struct store *st, uint64_t seq)
{
	return 0;
}

static int memory_move_tree(struct store *st, const struct entry_id *from,
	const struct entry_id *to, bool exchange, int64_t now)
{
	struct memory_store *ms = memory(st);
	int rc;

	lock_alone(ms);
	if (ns_table_by_number(&ms->namespaces, from->ns) &&
		ns_table_by_number(&ms->namespaces, to->ns))
		rc = map_move_tree(&ms->map, from, to, exchange, now);
	else
		rc = -ENOENT;
	unlock(ms);
	return rc;
}

/* No other program reaches this memory: there is nothing to watch, and nothing to compare. */
static void memory_watch(struct store *st, store_watcher fn, void *arg)
{
}

static enum foreign_verdict memory_foreign_compare(
	struct foreign_change *what, const struct entry_id *id)
{
	return FOREIGN_SAME;
}

static int memory_foreign_old_value(
	struct foreign_change *what, const struct entry_id *id, struct blob **out)
{
	return -ENOENT;
}

static uint64_t memory_new_ino(struct store *st)
{
	return atomic_fetch_add(&memory(st)->last_ino, 1) + 1;
}

static void memory_stat(struct store *st, struct store_stat *out)
{
	struct memory_store *ms = memory(st);
	struct store_stat stat = {0};

	lock_shared(ms);
	for (struct node *n = map_first(&ms->map); n; n = map_next(n)) {
		uint64_t bytes = n->rec.xattrs_len + (n->value ? blob_size(n->value) : 0);

		stat.bytes += n->id.len + bytes;
		stat.pending += n->held;
		stat.pending_bytes += n->held ? bytes : 0;
	}
	stat.commits = ms->last_seq;
	unlock(ms);
	stat.reads = atomic_load(&ms->reads);
	stat.writes = atomic_load(&ms->writes);
	memory_size(&stat.free_bytes, &stat.total_bytes);
	*out = stat;
}

static int memory_close(struct store *st)
{
	struct memory_store *ms = memory(st);

	map_clear(&ms->map);
	ns_table_release(&ms->namespaces);
	pthread_rwlock_destroy(&ms->lock);
	blob_pool_free(ms->base.blobs);
	free(ms);
	return 0;
}

static const struct store_ops memory_ops = {
	.name = "memory",
	.close = memory_close,
	.ns_find = memory_ns_find,
	.ns_next = memory_ns_next,
	.ns_create = memory_ns_create,
	.ns_remove = memory_ns_remove,
	.ns_rename = memory_ns_rename,
	.view_begin = memory_view_begin,
	.view_end = memory_view_end,
	.view_get = memory_view_get,
	.view_expired = memory_view_expired,
	.view_next_expiry = memory_view_next_expiry,
	.scan_open = memory_scan_open,
	.scan_seek = memory_scan_seek,
	.scan_get = memory_scan_get,
	.scan_close = memory_scan_close,
	.read = memory_read,
	.apply = memory_apply,
	.throttle = memory_throttle,
	.sync = memory_sync,
	.move_tree = memory_move_tree,
	.watch = memory_watch,
	.foreign_compare = memory_foreign_compare,
	.foreign_old_value = memory_foreign_old_value,
	.new_ino = memory_new_ino,
	.stat = memory_stat,
};

int memory_store_open(struct store **out)
{
	struct memory_store *ms = calloc(1, sizeof(*ms));
	const char *dir = getenv("TMPDIR");

	if (!ms)
		return -ENOMEM;
	ms->base.ops = &memory_ops;
	ms->base.value_max = INT32_MAX;
	ms->base.blobs = blob_pool_new(dir && *dir ? dir : "/tmp", BLOB_THRESHOLD, BLOB_BUDGET);
	if (!ms->base.blobs) {
		free(ms);
		return -ENOMEM;
	}
	RB_INIT(&ms->map);
	pthread_rwlock_init(&ms->lock, NULL);
	*out = &ms->base;
	return 0;
}
