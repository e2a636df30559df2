/*
 * pending.c - the table of pending changes: a red-black tree in the order of ids, and a second one,
 * of the same entries, in the order of expiry for those whose own record expires.
 *
 * Invariants. An entry in the table is dirty, held or in flight; due_dirty is zero unless it is
 * held. Whatever is in flight is also in `state` or `due` with the table's own copy, so that a
 * batch that failed needs nothing but its dirty flags back (or becomes `due` where a hold began
 * meanwhile).
 */
#include "backends/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/pending_table.h"

enum {
	PAGE = 4096,
	MEDIUM_VALUE = 400, /* from here on a page may hold but one, when it has been split */
	LARGE_VALUE = PAGE / 2 - 100, /* from here on a value has pages of its own */
	FILE_WEIGHT =
		4 << 20, /* a value in a file takes no memory, but its disk space while it waits */
};

struct pending_rec {
	unsigned refs;
	struct record rec;
	struct value_stamp seen;
	unsigned char xattrs[];
};

static int bytes_compare(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len)
{
	size_t common = a_len < b_len ? a_len : b_len;
	int order = common ? memcmp(a, b, common) : 0;

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int entry_compare(const struct pending_entry *a, const struct pending_entry *b)
{
	if (a->id.ns != b->id.ns)
		return a->id.ns < b->id.ns ? -1 : 1;
	if (a->id.kind != b->id.kind)
		return a->id.kind < b->id.kind ? -1 : 1;
	return bytes_compare(a->id.bytes, a->id.len, b->id.bytes, b->id.len);
}

static int expiry_compare(const struct pending_entry *a, const struct pending_entry *b)
{
	if (a->expiry != b->expiry)
		return a->expiry < b->expiry ? -1 : 1;
	return entry_compare(a, b);
}

RB_GENERATE_INTERNAL(id_tree, pending_entry, by_id, entry_compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(
	expiry_tree, pending_entry, by_expiry, expiry_compare, static __attribute__((unused)))

/* The tree macros are not written for const trees, and look-ups change nothing. */
static struct pending *writable(const struct pending *p)
{
	return (struct pending *)(uintptr_t)p;
}

static struct pending_entry *writable_entry(const struct pending_entry *e)
{
	return (struct pending_entry *)(uintptr_t)e;
}

static struct pending_rec *rec_new(const struct record *rec, const struct value_stamp *seen)
{
	struct pending_rec *r = malloc(sizeof(*r) + rec->xattrs_len);

	if (!r)
		return NULL;
	r->refs = 1;
	r->rec = *rec;
	r->seen = seen ? *seen : (struct value_stamp){0};
	if (rec->xattrs_len)
		memcpy(r->xattrs, rec->xattrs, rec->xattrs_len);
	r->rec.xattrs = r->xattrs;
	return r;
}

static void rec_unref(struct pending_rec *r)
{
	if (r && --r->refs == 0)
		free(r);
}

struct pending_state table_state_copy(const struct pending_state *s)
{
	if (s->rec_copy)
		s->rec_copy->refs++;
	if (s->value)
		blob_ref(s->value);
	return *s;
}

void table_state_release(struct pending_state *s)
{
	rec_unref(s->rec_copy);
	blob_unref(s->value);
	*s = (struct pending_state){0};
}

void table_set_record(struct pending_state *s, enum pending_part part, struct pending_rec *r)
{
	rec_unref(s->rec_copy);
	s->rec_part = part;
	s->rec_copy = r;
}

void table_set_value(struct pending_state *s, enum pending_part part, struct blob *value)
{
	blob_unref(s->value);
	s->value_part = part;
	s->value = value;
}

const struct record *pending_record(const struct pending_state *s)
{
	return &s->rec_copy->rec;
}

const struct value_stamp *pending_seen(const struct pending_state *s)
{
	return &s->rec_copy->seen;
}

struct pending_entry *table_entry_new(const struct entry_id *id)
{
	struct pending_entry *e = calloc(1, sizeof(*e) + id->len);

	if (!e)
		return NULL;
	e->id = *id;
	if (id->len)
		memcpy(e->bytes, id->bytes, id->len);
	e->id.bytes = e->bytes;
	e->expiry = INT64_MAX;
	return e;
}

void table_entry_free(struct pending_entry *e)
{
	table_state_release(&e->state);
	table_state_release(&e->due);
	free(e);
}

void pending_add_value(struct pending_totals *t, uint64_t size)
{
	uint64_t pages = (size + 2 * PAGE - 1) / PAGE * PAGE;

	if (size < MEDIUM_VALUE)
		t->small += size;
	else
		t->large += pages;
	if (size >= LARGE_VALUE)
		t->runs += pages;
}

static void add_state(struct pending_totals *t, const struct pending_state *s)
{
	if (s->rec_copy) {
		uint64_t size = record_encoded_size(&s->rec_copy->rec);

		t->bytes += size;
		t->weight += size;
		pending_add_value(t, size);
	}
	if (s->value) {
		uint64_t size = blob_size(s->value);
		bool in_file = blob_fd(s->value) >= 0;

		t->bytes += size;
		t->weight += in_file && size > FILE_WEIGHT ? FILE_WEIGHT : size;
		pending_add_value(t, size);
	}
}

/* What one entry adds to the sums. */
static struct pending_totals entry_cost(const struct pending_entry *e)
{
	struct pending_totals t = {
		.count = 1,
		.bytes = e->id.len,
		.weight = sizeof(*e) + e->id.len,
		.small = e->id.len,
	};

	add_state(&t, &e->state);
	add_state(&t, &e->due);
	return t;
}

void table_account(struct pending *p, struct pending_entry *e, bool in)
{
	struct pending_totals *t = &p->totals, *old = &e->cost, new = {0};
	int64_t expiry = INT64_MAX;

	if (in) {
		new = entry_cost(e);
		if (!e->state.removed && e->state.rec_copy)
			expiry = record_expiry_ns(&e->state.rec_copy->rec);
	}
	t->count += new.count - old->count;
	t->bytes += new.bytes - old->bytes;
	t->weight += new.weight - old->weight;
	t->small += new.small - old->small;
	t->large += new.large - old->large;
	t->runs += new.runs - old->runs;
	e->cost = new;
	if (expiry == e->expiry)
		return;
	if (e->expiry != INT64_MAX)
		RB_REMOVE(expiry_tree, &p->expiring, e);
	e->expiry = expiry;
	if (e->expiry != INT64_MAX)
		RB_INSERT(expiry_tree, &p->expiring, e);
}

void table_insert(struct pending *p, struct pending_entry *e)
{
	RB_INSERT(id_tree, &p->entries, e);
	table_account(p, e, true);
}

void table_remove(struct pending *p, struct pending_entry *e)
{
	RB_REMOVE(id_tree, &p->entries, e);
	table_account(p, e, false);
}

struct pending *pending_new(void)
{
	return calloc(1, sizeof(struct pending));
}

void pending_free(struct pending *p)
{
	struct pending_entry *e;

	if (!p)
		return;
	while ((e = RB_ROOT(&p->entries))) {
		table_remove(p, e);
		table_entry_free(e);
	}
	free(p);
}

const struct pending_totals *pending_totals(const struct pending *p)
{
	return &p->totals;
}

struct pending_entry *table_find(const struct pending *p, const struct entry_id *id)
{
	struct pending_entry wanted = {.id = *id};

	return RB_FIND(id_tree, &writable(p)->entries, &wanted);
}

struct pending_entry *table_seek(const struct pending *p, const struct entry_id *id)
{
	struct pending_entry wanted = {.id = *id};

	return RB_NFIND(id_tree, &writable(p)->entries, &wanted);
}

struct pending_entry *table_first(const struct pending *p)
{
	return RB_MIN(id_tree, &writable(p)->entries);
}

struct pending_entry *table_next(struct pending_entry *e)
{
	return RB_NEXT(id_tree, NULL, e);
}

const struct pending_entry *pending_find(const struct pending *p, const struct entry_id *id)
{
	return table_find(p, id);
}

const struct pending_entry *pending_seek(const struct pending *p, const struct entry_id *id)
{
	struct pending_entry *e = table_seek(p, id);

	return e && e->id.ns == id->ns && e->id.kind == id->kind ? e : NULL;
}

const struct pending_entry *pending_next(const struct pending_entry *e)
{
	struct pending_entry *next = table_next(writable_entry(e));

	return next && next->id.ns == e->id.ns && next->id.kind == e->id.kind ? next : NULL;
}

const struct pending_entry *pending_first_expiring(const struct pending *p)
{
	return RB_MIN(expiry_tree, &writable(p)->expiring);
}

const struct pending_entry *pending_next_expiring(const struct pending_entry *e)
{
	return RB_NEXT(expiry_tree, NULL, writable_entry(e));
}

/* What one change needs of memory, got before anything is changed. */
struct prepared {
	struct pending_entry *fresh; /* in case that there is no entry yet */
	struct pending_rec *rec;
};

static void prepared_free(struct prepared *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i].fresh)
			table_entry_free(list[i].fresh);
		rec_unref(list[i].rec);
	}
	free(list);
}

static int prepare(const struct pending *p, const struct change *c, struct prepared *out)
{
	const struct pending_entry *e = table_find(p, &c->id);

	if (!e) {
		out->fresh = table_entry_new(&c->id);
		if (!out->fresh)
			return -ENOMEM;
	}
	if (c->op == CHANGE_PUT && c->rec) {
		out->rec = rec_new(c->rec, c->seen);
		if (!out->rec)
			return -ENOMEM;
	}
	return 0;
}

static bool same_id(const struct entry_id *a, const struct entry_id *b)
{
	return a->ns == b->ns && a->kind == b->kind && a->len == b->len &&
		(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Whether change `i` of a group finds the entry removed, by the table or earlier in the group. */
static bool is_removed(const struct pending *p, const struct change *changes, size_t i)
{
	const struct pending_entry *e;

	for (size_t k = i; k-- > 0;) {
		if (same_id(&changes[k].id, &changes[i].id))
			return changes[k].op == CHANGE_REMOVE;
	}
	e = table_find(p, &changes[i].id);
	return e && e->state.removed;
}

/* A hold begins: what is complete and dirty stays due. */
static void begin_hold(struct pending_entry *e)
{
	if (!e->held && e->dirty) {
		e->due = table_state_copy(&e->state);
		e->due_dirty = e->dirty;
		e->due_first = e->first;
		e->due_last = e->last;
		e->due_base = e->base;
	}
	e->held = true;
}

void table_end_hold(struct pending_entry *e)
{
	e->held = false;
	e->due_dirty = 0;
	table_state_release(&e->due);
}

static void entry_put(struct pending_entry *e, const struct change *c, struct pending_rec *rec)
{
	struct pending_state *s = &e->state;

	if (c->hold)
		begin_hold(e);
	if (s->removed) {
		s->removed = false;
		table_set_record(s, PENDING_NONE, NULL);
		table_set_value(s, PENDING_NONE, NULL);
		e->dirty = PENDING_BOTH;
	}
	if (rec) {
		/* It has been made of that one, and for the same value. */
		if (!c->seen && s->rec_part == PENDING_OWN)
			rec->seen = s->rec_copy->seen;
		table_set_record(s, PENDING_OWN, rec);
		e->dirty |= PENDING_REC;
	}
	if (c->value) {
		table_set_value(s, PENDING_OWN, blob_ref(c->value));
		e->dirty |= PENDING_VALUE;
		if (!c->hold)
			table_end_hold(e);
	}
}

static void change_apply(struct pending *p, const struct change *c, struct prepared *with,
	uint64_t seq, uint64_t base)
{
	struct pending_entry *e = table_find(p, &c->id);

	if (!e) {
		e = with->fresh;
		with->fresh = NULL;
		table_insert(p, e);
	}
	unsigned before = e->dirty;
	if (c->op == CHANGE_REMOVE) {
		table_state_release(&e->state);
		e->state.removed = true;
		e->dirty = PENDING_BOTH;
		table_end_hold(e);
	} else {
		entry_put(e, c, with->rec);
		with->rec = NULL;
	}
	if (!before)
		e->first = seq;
	e->last = seq;
	/* What is in flight changes what is stored under it. */
	if (c->op == CHANGE_REMOVE || c->value)
		e->base = e->in_flight ? 0 : base;
	table_account(p, e, true);
}

int pending_apply(
	struct pending *p, const struct change *changes, size_t n, uint64_t seq, uint64_t base)
{
	struct prepared *list = calloc(n ? n : 1, sizeof(*list));
	int rc = list ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && rc == 0; i++) {
		const struct change *c = &changes[i];

		if (c->op == CHANGE_PUT && c->id.kind == ENTRY_KEY && !c->value && !c->hold &&
			is_removed(p, changes, i))
			rc = -ENOENT;
		else
			rc = prepare(p, c, &list[i]);
	}
	for (size_t i = 0; i < n && rc == 0; i++)
		change_apply(p, &changes[i], &list[i], seq, base);
	if (list)
		prepared_free(list, n);
	return rc;
}

bool pending_outlives_in(const struct pending *p, uint32_t ns)
{
	struct pending_entry *e = table_seek(p, &(struct entry_id){.ns = ns});

	for (; e && e->id.ns == ns && e->id.kind == ENTRY_KEY; e = table_next(e)) {
		if (!e->state.removed && (e->dirty || e->held))
			return true;
	}
	return false;
}

void pending_forget(struct pending *p, uint32_t ns)
{
	struct pending_entry *e = table_seek(p, &(struct entry_id){.ns = ns});

	while (e && e->id.ns == ns) {
		struct pending_entry *next = table_next(e);

		table_remove(p, e);
		table_entry_free(e);
		e = next;
	}
}
