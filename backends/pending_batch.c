/*
 * pending_batch.c - what is collected for a commit, and what becomes of it. The invariants are in
 * pending.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/pending.h"
#include "backends/pending_table.h"

/* What of an entry a batch would take: NULL, or its state, with the groups that made it. */
static const struct pending_state *collectable(
	const struct pending_entry *e, uint64_t *first, uint64_t *last, unsigned *what)
{
	*what = e->held ? e->due_dirty : e->dirty;
	*first = e->held ? e->due_first : e->first;
	*last = e->held ? e->due_last : e->last;
	return !*what ? NULL : e->held ? &e->due : &e->state;
}

int pending_collect(struct pending *p, uint64_t upto, struct pending_batch *batch)
{
	struct pending_item *items = calloc(p->totals.count + 1, sizeof(*items));
	struct pending_entry *e;
	size_t n = 0;

	if (!items)
		return -ENOMEM;
	for (e = table_first(p); e; e = table_next(e)) {
		struct pending_item *it = &items[n];
		const struct pending_state *s = collectable(e, &it->first, &it->last, &it->what);

		if (!s || it->last > upto)
			continue;
		it->entry = e;
		it->base = e->held ? e->due_base : e->base;
		it->state = table_state_copy(s);
		e->in_flight = true;
		if (e->held)
			e->due_dirty = 0;
		else
			e->dirty = 0;
		n++;
	}
	*batch = (struct pending_batch){.items = items, .n = n};
	return 0;
}

struct span {
	uint64_t first, last;
};

static int span_compare(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

int pending_cut(struct pending *p, size_t max, uint64_t *upto)
{
	struct span *spans = calloc(p->totals.count + 1, sizeof(*spans));
	struct pending_entry *e;
	uint64_t last = 0;
	size_t n = 0;
	unsigned what;
	bool found = false;

	if (!spans)
		return -ENOMEM;
	for (e = table_first(p); e; e = table_next(e))
		n += collectable(e, &spans[n].first, &spans[n].last, &what) != NULL;
	qsort(spans, n, sizeof(*spans), span_compare);
	/* Between two groups there is a cut where all that began before has ended before. */
	for (size_t i = 0; i < n; i++) {
		last = spans[i].last > last ? spans[i].last : last;
		if (i + 1 < n && spans[i + 1].first <= last)
			continue;
		if (found && i + 1 > max)
			break;
		*upto = last;
		found = true;
	}
	free(spans);
	return found ? 0 : -ENOENT;
}

/* What was stored and is not dirty again need not be kept: it is as stored now. */
static void settle(struct pending_state *s, const struct pending_item *it, unsigned dirty)
{
	if (s->removed || it->state.removed)
		return;
	if (!(dirty & PENDING_REC) && (it->what & PENDING_REC))
		table_set_record(s, PENDING_STORED, NULL);
	if (!(dirty & PENDING_VALUE) && (it->what & PENDING_VALUE))
		table_set_value(s, PENDING_STORED, NULL);
}

static void finish_stored(struct pending_entry *e, struct pending_item *it)
{
	if (!e->held) {
		if (e->dirty)
			settle(&e->state, it, e->dirty);
	} else if (e->due_dirty) {
		settle(&e->due, it, e->due_dirty);
	} else {
		table_state_release(&e->due);
	}
}

static void finish_failed(struct pending_entry *e, struct pending_item *it)
{
	if (!e->held) {
		if (!e->dirty)
			e->last = it->last;
		e->dirty |= it->what;
		e->first = it->first;
		return;
	}
	if (!e->due_dirty) {
		table_state_release(&e->due);
		e->due = table_state_copy(&it->state);
		e->due_last = it->last;
		e->due_base = it->base;
	}
	e->due_dirty |= it->what;
	e->due_first = it->first;
}

void pending_finish(struct pending *p, struct pending_batch *batch, bool stored)
{
	for (size_t i = 0; i < batch->n; i++) {
		struct pending_item *it = &batch->items[i];
		struct pending_entry *e = it->entry;

		e->in_flight = false;
		e->error = stored ? it->error : e->error;
		if (stored && !it->error)
			finish_stored(e, it);
		else
			finish_failed(e, it);
		table_state_release(&it->state);
		if (e->dirty || e->held) {
			table_account(p, e, true);
		} else {
			table_remove(p, e);
			table_entry_free(e);
		}
	}
	free(batch->items);
	*batch = (struct pending_batch){0};
}

int pending_error(const struct pending *p)
{
	struct pending_entry *e;

	for (e = table_first(p); e; e = table_next(e)) {
		if (e->error)
			return e->error;
	}
	return 0;
}

/* What is due is all that there is. */
static void drop_hold(struct pending *p, struct pending_entry *e)
{
	if (!e->due_dirty) {
		table_remove(p, e);
		table_entry_free(e);
		return;
	}
	table_state_release(&e->state);
	e->state = table_state_copy(&e->due);
	e->dirty = e->due_dirty;
	e->first = e->due_first;
	e->last = e->due_last;
	e->base = e->due_base;
	table_end_hold(e);
	table_account(p, e, true);
}

void pending_drop_holds(struct pending *p)
{
	struct pending_entry *e = table_first(p);

	while (e) {
		struct pending_entry *next = table_next(e);

		if (e->held)
			drop_hold(p, e);
		e = next;
	}
}
