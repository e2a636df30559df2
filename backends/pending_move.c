/*
 * pending_move.c - renaming a subtree of the table: first a plan, which is all that can fail, then
 * its execution.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/pending.h"
#include "backends/pending_table.h"

struct move {
	struct pending_entry *old;
	struct pending_entry *fresh; /* NULL: the entry is dropped */
};

struct pending_move_plan {
	int64_t now;
	struct move *moves;
	size_t n, cap;
};

void pending_move_cancel(struct pending_move_plan *plan)
{
	if (!plan)
		return;
	for (size_t i = 0; i < plan->n; i++) {
		if (plan->moves[i].fresh)
			table_entry_free(plan->moves[i].fresh);
	}
	free(plan->moves);
	free(plan);
}

/* Whether somebody sees it, whose name would be too long then. */
static bool is_seen(const struct pending_entry *e)
{
	const struct pending_state *s = &e->state;

	if (s->removed)
		return false;
	return e->id.kind == ENTRY_KEY || s->rec_part != PENDING_OWN ||
		pending_record(s)->flags & RECORD_MADE;
}

/* The entry's name below `to` instead of `from`; `to` NULL: it is to be dropped, as everything is
 * that has expired. */
static int plan_add(struct pending_move_plan *plan, struct pending_entry *e,
	const struct entry_id *from, const struct entry_id *to)
{
	struct move *m;

	if (!e->dirty && !e->held)
		return 0; /* it leaves with the batch */
	if (plan->n == plan->cap) {
		size_t cap = plan->cap ? 2 * plan->cap : 16;
		void *grown = realloc(plan->moves, cap * sizeof(*plan->moves));

		if (!grown)
			return -ENOMEM;
		plan->moves = grown;
		plan->cap = cap;
	}
	m = &plan->moves[plan->n++];
	*m = (struct move){.old = e};
	if (!to || e->expiry <= plan->now)
		return 0;
	unsigned char bytes[2 * STORE_PREFIX_MAX];
	bool is_base = e->id.len < from->len; /* the key that is the prefix less its last byte */
	if (to->len == 0 && e->id.kind == ENTRY_KEY && e->id.len <= from->len)
		return -EINVAL; /* no key is empty */
	if (is_base && to->len < 2)
		return -EINVAL;
	size_t head = is_base ? to->len - 1u : to->len;
	size_t tail = is_base ? 0 : (size_t)(e->id.len - from->len);
	size_t max = e->id.kind == ENTRY_KEY ? (size_t)STORE_KEY_MAX : (size_t)STORE_PREFIX_MAX;
	if (head + tail > max)
		return is_seen(e) ? -ENAMETOOLONG : 0;
	memcpy(bytes, to->bytes, head);
	memcpy(bytes + head, e->id.bytes + e->id.len - tail, tail);
	m->fresh = table_entry_new(&(struct entry_id){
		.ns = to->ns, .kind = e->id.kind, .len = (uint16_t)(head + tail), .bytes = bytes});
	return m->fresh ? 0 : -ENOMEM;
}

static int plan_subtree(struct pending *p, struct pending_move_plan *plan,
	const struct entry_id *from, const struct entry_id *to)
{
	struct entry_id id = *from;
	struct pending_entry *e;
	int rc = 0;

	id.kind = ENTRY_KEY;
	if (from->len > 1) {
		id.len = (uint16_t)(from->len - 1);
		e = table_find(p, &id);
		if (e)
			rc = plan_add(plan, e, from, to);
		id.len = from->len;
	}
	for (int kind = ENTRY_KEY; kind <= ENTRY_DIR && rc == 0; kind++) {
		id.kind = (enum entry_kind)kind;
		for (e = table_seek(p, &id); e && rc == 0; e = table_next(e)) {
			if (e->id.ns != id.ns || e->id.kind != id.kind || e->id.len < id.len ||
				memcmp(e->id.bytes, id.bytes, id.len) != 0)
				break;
			rc = plan_add(plan, e, from, to);
		}
	}
	return rc;
}

int pending_move_check(struct pending *p, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now, struct pending_move_plan **out)
{
	struct pending_move_plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return -ENOMEM;
	plan->now = now < INT64_MAX ? now : INT64_MAX - 1;
	int rc = plan_subtree(p, plan, from, to);
	if (rc == 0)
		rc = plan_subtree(p, plan, to, exchange ? from : NULL);
	if (rc) {
		pending_move_cancel(plan);
		return rc;
	}
	*out = plan;
	return 0;
}

void pending_move(struct pending *p, struct pending_move_plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		table_remove(p, plan->moves[i].old);
	for (size_t i = 0; i < plan->n; i++) {
		struct pending_entry *old = plan->moves[i].old, *e = plan->moves[i].fresh;

		plan->moves[i].fresh = NULL;
		if (e) {
			e->state = old->state;
			e->due = old->due;
			e->dirty = old->dirty;
			e->due_dirty = old->due_dirty;
			e->first = old->first;
			e->last = old->last;
			e->due_first = old->due_first;
			e->due_last = old->due_last;
			e->held = old->held;
			old->state = old->due = (struct pending_state){0};
			table_insert(p, e);
		}
		table_entry_free(old);
	}
	pending_move_cancel(plan);
}
