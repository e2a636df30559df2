/*
 * apply.c - accepting changes: each goes into the local store, and in the same group into the
 * journal what it means for the remote one.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <xxhash.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/base/utf8.h"
#include "backends/writeback/internal.h"

/* What there is of a key: before a change, or after it. */
struct state {
	bool exists, journaled;
	struct record rec;
	struct info info;
	struct journal j;
	void *memory; /* of rec.xattrs; NULL: borrowed */
};

/* What an earlier change of the same group has made of a key. */
struct made {
	struct entry_id id;
	struct state state;
	size_t next; /* of the same slot, from 1 on; 0: none */
};

/* A group for the local store, as it grows. */
struct group {
	struct change *changes;
	size_t n, cap;
	struct record *records; /* as many as `cap`, so that changes can point to them */
	void **memory; /* what is to be freed after */
	size_t memory_n;
	struct blob **entries; /* of the journal: something is to be uploaded */
	size_t entries_n;
	struct made *made;
	size_t *slots; /* as many as `cap`: into `made`, from 1 on */
	size_t made_n;
	int64_t pending, failed; /* entries of the journal that come, or go */
};

/* For so many changes. */
static int group_init(struct group *g, size_t n)
{
	size_t cap = n ? 2 * n : 2; /* each may bring one of the journal along */

	*g = (struct group){.cap = cap};
	g->made = calloc(cap, sizeof(*g->made));
	g->slots = calloc(cap, sizeof(*g->slots));
	g->changes = calloc(cap, sizeof(*g->changes));
	g->records = calloc(cap, sizeof(*g->records));
	g->memory = calloc(cap, sizeof(*g->memory));
	g->entries = calloc(cap, sizeof(*g->entries));
	return g->changes && g->records && g->memory && g->entries && g->made && g->slots ? 0
											  : -ENOMEM;
}

static void group_release(struct group *g)
{
	for (size_t i = 0; i < g->memory_n; i++)
		free(g->memory[i]);
	for (size_t i = 0; i < g->entries_n; i++)
		blob_unref(g->entries[i]);
	free(g->changes);
	free(g->records);
	free(g->memory);
	free(g->entries);
	free(g->made);
	free(g->slots);
}

static size_t *group_slot(const struct group *g, const struct entry_id *id)
{
	return &g->slots[XXH3_64bits_withSeed(id->bytes, id->len, id->ns) % g->cap];
}

static struct made *group_find(const struct group *g, const struct entry_id *id)
{
	for (size_t i = *group_slot(g, id); i; i = g->made[i - 1].next) {
		struct made *m = &g->made[i - 1];

		if (m->id.ns == id->ns && m->id.len == id->len &&
			memcmp(m->id.bytes, id->bytes, id->len) == 0)
			return m;
	}
	return NULL;
}

static void group_remember(struct group *g, const struct entry_id *id, const struct state *after)
{
	struct made *m = group_find(g, id);

	if (!m) {
		size_t *slot = group_slot(g, id);

		m = &g->made[g->made_n++];
		m->id = *id;
		m->next = *slot;
		*slot = g->made_n;
	}
	m->state = *after;
	m->state.memory = NULL;
}

uint64_t wb_hash_blob(struct blob *b)
{
	enum { STEP = 1 << 16 };
	const void *data = b ? blob_data(b) : NULL;
	XXH3_state_t *state;
	unsigned char *buf;
	uint64_t hash = 0;

	if (data || !b || !blob_size(b))
		return XXH3_64bits(data ? data : "", b ? (size_t)blob_size(b) : 0);
	state = XXH3_createState();
	buf = malloc(STEP);
	if (state && buf) {
		int64_t n = 0;

		XXH3_64bits_reset(state);
		for (uint64_t at = 0; (n = blob_read(b, at, buf, STEP)) > 0; at += (uint64_t)n)
			XXH3_64bits_update(state, buf, (size_t)n);
		hash = XXH3_64bits_digest(state);
	}
	XXH3_freeState(state);
	free(buf);
	return hash;
}

void wb_info_value(struct info *i, struct blob *value)
{
	static const unsigned char MARK[] = {0xef, 0xbb, 0xbf};
	unsigned char begin[sizeof(MARK)];

	i->cached = i->sized = true;
	i->size = blob_size(value);
	i->hash = wb_hash_blob(value);
	i->marked = i->size >= sizeof(MARK) &&
		blob_read(value, 0, begin, sizeof(begin)) == (int64_t)sizeof(begin) &&
		memcmp(begin, MARK, sizeof(MARK)) == 0;
}

/* What names a file in its directory. */
bool wb_name_is_local(struct writeback *wb, const struct entry_id *id)
{
	char name[STORE_KEY_MAX + 1], *globs, *glob, *save;
	const unsigned char *start = id->bytes;
	bool matches = false;

	if (!wb->globs || !*wb->globs)
		return false;
	for (size_t i = 0; i < id->len; i++) {
		if (id->bytes[i] == (unsigned char)wb->opt.separator)
			start = id->bytes + i + 1;
	}
	size_t len = (size_t)(id->bytes + id->len - start);
	if (memchr(start, '\0', len))
		return false;
	memcpy(name, start, len);
	name[len] = '\0';
	globs = strdup(wb->globs);
	for (glob = globs ? strtok_r(globs, " ", &save) : NULL; glob && !matches;
		glob = strtok_r(NULL, " ", &save))
		matches = fnmatch(glob, name, 0) == 0;
	free(globs);
	return matches;
}

int wb_put_change(const struct entry_id *id, const struct record *rec, const struct info *info,
	struct blob *value, struct change *out, struct record *joined, void **memory)
{
	unsigned char *xattrs;

	*joined = *rec;
	int rc = info_join(rec, info, &xattrs, &joined->xattrs_len);
	if (rc)
		return rc;
	joined->xattrs = xattrs;
	*memory = xattrs;
	*out = (struct change){.op = CHANGE_PUT, .id = *id, .rec = joined, .value = value};
	return 0;
}

static int group_put(
	struct group *g, const struct change *c, const struct record *rec, const struct info *info)
{
	int rc = wb_put_change(&c->id, rec, info, c->value, &g->changes[g->n], &g->records[g->n],
		&g->memory[g->memory_n]);

	if (rc)
		return rc;
	g->changes[g->n].hold = c->hold;
	g->n++;
	g->memory_n++;
	return 0;
}

/* What has been there before the change. To be released. */
static int state_load(struct writeback *wb, const struct group *g, const struct wb_ns *ns,
	const struct entry_id *id, struct state *out)
{
	const struct made *m = group_find(g, id);
	struct wb_entry e;

	if (m) {
		*out = m->state;
		return 0;
	}
	int rc = wb_entry_get(wb, id, &e);
	if (rc)
		return rc;
	*out = (struct state){.exists = e.exists, .rec = e.rec, .info = e.info, .memory = e.memory};
	rc = journal_get(wb->local, ns->journal, id, &out->j);
	out->journaled = rc == 0;
	if (rc && rc != -ENOENT) {
		free(out->memory);
		return rc;
	}
	return 0;
}

/* What there is after the change is in `s` when these return; before it, when they are called. */

static int group_journal(struct writeback *wb, struct group *g, const struct wb_ns *ns,
	const struct entry_id *id, enum journal_op op, const struct state *b, struct state *s)
{
	const struct info *i = &b->info;
	struct journal j = {
		.op = op,
		.seq = atomic_fetch_add(&wb->seq, 1) + 1,
		.changed = clock_steady(),
		.remote_has = b->exists && !info_is_own(i),
		.base_known = !b->exists || i->sized,
		.base = b->exists && i->sized ? i->hash : 0,
	};

	j.first = j.seq;
	if (b->journaled) {
		j.first = b->j.first;
		j.remote_has = b->j.remote_has;
		j.base_known = b->j.base_known;
		j.base = b->j.base;
	}
	int rc = journal_put(wb->local, ns->journal, id, &j, &g->changes[g->n]);
	if (rc)
		return rc;
	g->entries[g->entries_n++] = g->changes[g->n++].value;
	s->journaled = true;
	s->j = j;
	return 0;
}

static bool same_metadata(const struct record *a, const struct record *b)
{
	size_t a_len = 0, b_len = 0;
	const unsigned char *x = xattrs_get(a->xattrs, a->xattrs_len, "user.kv.metadata", &a_len);
	const unsigned char *y = xattrs_get(b->xattrs, b->xattrs_len, "user.kv.metadata", &b_len);

	return !x == !y && a_len == b_len && (!x || memcmp(x, y, a_len) == 0);
}

static int add_put(struct writeback *wb, struct group *g, const struct wb_ns *ns,
	const struct change *c, struct state *s)
{
	const struct state b = *s;
	const struct record rec = c->rec ? *c->rec : b.rec;
	struct info *info = &s->info;

	if (!b.exists) {
		*info = (struct info){0};
		/* A key that is only announced is empty. */
		info->cached = info->sized = c->hold;
		info->hash = c->hold ? wb_hash_blob(NULL) : 0;
	}
	/* Which names are local may be another thing than when the key was made. */
	if (!b.exists || c->value)
		info->local = wb_name_is_local(wb, &c->id);
	if (c->value) {
		wb_info_value(info, c->value);
		wb_note_kept(wb, info->size);
		wb_note_use(wb, ns, c->id.bytes, c->id.len);
	}
	int rc = group_put(g, c, &rec, info);
	if (rc)
		return rc;
	s->exists = true;
	s->rec = g->records[g->n - 1];
	info_split(&s->rec, &(struct info){0});
	if (info->local || c->hold)
		return 0;
	bool other =
		b.exists && (b.rec.expiration != rec.expiration || !same_metadata(&b.rec, &rec));
	if (!c->value && (!other || (info_is_own(info) && !b.journaled)))
		return 0;
	return group_journal(wb, g, ns, &c->id, JOURNAL_PUT, &b, s);
}

static int add_remove(struct writeback *wb, struct group *g, const struct wb_ns *ns,
	const struct change *c, struct state *s)
{
	const struct state b = *s;
	bool expired = record_expired(&b.rec, clock_now());

	if (c->if_expired && b.exists && !expired) /* others have given it more time meanwhile */
		return -EAGAIN;
	g->changes[g->n++] = *c;
	s->exists = false;
	s->rec = (struct record){0};
	s->info = (struct info){0};
	if (!b.exists || b.info.local)
		return 0;
	if (b.journaled && !b.j.remote_has) { /* nobody there has heard of it */
		journal_drop(ns->journal, &c->id, &g->changes[g->n++]);
		s->journaled = false;
		return 0;
	}
	/* What expires here expires there, unless that has another expiry: the remote store may have
	 * got one that is a little later (sendable_expiration), and must not bring it back. */
	if (!b.journaled && expired && b.info.pinned > clock_now())
		return wb_note_absent(
			wb, (struct wb_ns *)(uintptr_t)ns, &c->id, clock_now(), b.info.pinned);
	if (!b.journaled && (expired || info_is_own(&b.info)))
		return 0;
	return group_journal(wb, g, ns, &c->id, JOURNAL_REMOVE, &b, s);
}

static int check(struct writeback *wb, const struct change *c)
{
	const struct entry_id *id = &c->id;

	if (c->op != CHANGE_PUT || !wb->base.text_keys)
		return 0;
	if (!utf8_is_valid(id->bytes, id->len))
		return -EILSEQ;
	if ((id->len == 1 && id->bytes[0] == '.') ||
		(id->len == 2 && memcmp(id->bytes, "..", 2) == 0))
		return -EINVAL;
	return c->value && blob_size(c->value) > wb->base.value_max ? -EFBIG : 0;
}

/* Under `book`. */
static int add_change(struct writeback *wb, struct group *g, const struct change *c)
{
	struct wb_ns *ns = wb_ns(wb, c->id.ns);
	struct state s;

	if (!ns || c->id.kind == ENTRY_DIR) {
		g->changes[g->n++] = *c;
		return 0;
	}
	int rc = check(wb, c);
	if (!rc)
		rc = state_load(wb, g, ns, &c->id, &s);
	if (rc)
		return rc;
	const struct state was = s;
	void *memory = s.memory;
	rc = c->op == CHANGE_PUT ? add_put(wb, g, ns, c, &s) : add_remove(wb, g, ns, c, &s);
	if (!rc) {
		g->pending += s.journaled - was.journaled;
		g->failed += (s.journaled && s.j.failed) - (was.journaled && was.j.failed);
		group_remember(g, &c->id, &s);
	}
	/* What the record borrows is in the joined copy; nothing of it is needed any more. */
	free(memory);
	return rc;
}

/* Under `book`. `journals`: something is to be uploaded. */
static int apply(
	struct writeback *wb, const struct change *changes, size_t n, uint64_t *seq, bool *journals)
{
	struct group g;
	int rc = group_init(&g, n);

	for (size_t i = 0; i < n && !rc; i++)
		rc = add_change(wb, &g, &changes[i]);
	if (!rc)
		rc = wb->local->ops->apply(wb->local, g.changes, g.n, seq);
	if (!rc)
		wb_count(wb, g.pending, g.failed);
	*journals = !rc && g.entries_n > 0;
	group_release(&g);
	return rc;
}

int wb_apply_group(struct writeback *wb, const struct change *changes, size_t n, bool *journals)
{
	return apply(wb, changes, n, NULL, journals);
}

static void expect_upload(struct writeback *wb, bool journals)
{
	if (journals)
		wb_upload_expect(wb, wb->opt.upload_delay);
}

int wb_apply(struct store *base, const struct change *changes, size_t n, uint64_t *seq)
{
	struct writeback *wb = writeback(base);
	bool journals;

	if (base->readonly)
		return -EROFS;
	lock_take(&wb->book);
	int rc = apply(wb, changes, n, seq, &journals);
	lock_drop(&wb->book);
	expect_upload(wb, journals);
	return rc;
}
