/*
 * suite_model.c - the naive store.
 */
#include "tests/unit/suite_model.h"

#include <errno.h>
#include <string.h>

static bool same_id(const struct model_entry *e, const struct entry_id *id)
{
	return e->ns == id->ns && e->kind == id->kind && e->len == id->len &&
		(id->len == 0 || memcmp(e->bytes, id->bytes, id->len) == 0);
}

struct entry_id model_id(const struct model_entry *e)
{
	return (struct entry_id){
		.ns = e->ns, .kind = e->kind, .len = (uint16_t)e->len, .bytes = e->bytes};
}

int64_t model_expiry(const struct model_entry *e)
{
	int64_t at = e->rec.expiration * 1000000000;

	if (!e->recorded || e->rec.expiration == 0)
		return INT64_MAX;
	return e->rec.visible_ns > at ? e->rec.visible_ns : at;
}

struct model_entry *model_find(const struct model *m, const struct entry_id *id)
{
	for (size_t i = 0; i < m->n; i++) {
		if (same_id(&m->entries[i], id))
			return &m->entries[i];
	}
	return NULL;
}

struct model_entry *model_get(const struct model *m, const struct entry_id *id, int64_t now)
{
	struct model_entry *e = model_find(m, id);

	return e && model_expiry(e) > now ? e : NULL;
}

static bool before(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len)
{
	for (size_t i = 0; i < a_len && i < b_len; i++) {
		if (a[i] != b[i])
			return a[i] < b[i];
	}
	return a_len < b_len;
}

struct model_entry *model_seek(const struct model *m, const struct entry_id *id, int64_t now)
{
	struct model_entry *best = NULL;

	for (size_t i = 0; i < m->n; i++) {
		struct model_entry *e = &m->entries[i];

		if (e->ns != id->ns || e->kind != id->kind || model_expiry(e) <= now)
			continue;
		if (e->kind == ENTRY_DIR && !(e->rec.flags & RECORD_MADE))
			continue;
		if (before(e->bytes, e->len, id->bytes, id->len))
			continue;
		if (!best || before(e->bytes, e->len, best->bytes, best->len))
			best = e;
	}
	return best;
}

bool model_apply(struct model *m, const struct model_change *c)
{
	struct model_entry *e = model_find(m, &c->id);

	if (c->op == CHANGE_REMOVE) {
		if (e)
			*e = m->entries[--m->n];
		return true;
	}
	if (!e) {
		if (m->n == MODEL_ENTRIES_MAX)
			return false;
		e = &m->entries[m->n++];
		*e = (struct model_entry){.ns = c->id.ns, .kind = c->id.kind, .len = c->id.len};
		if (c->id.len)
			memcpy(e->bytes, c->id.bytes, c->id.len);
	}
	if (c->has_rec) {
		e->recorded = true;
		e->rec = c->rec;
	}
	if (c->has_value)
		e->value = c->value;
	if (c->hold)
		e->held = true;
	else if (c->has_value)
		e->held = false;
	return true;
}

bool model_in_tree(const struct model_entry *e, const struct entry_id *prefix)
{
	if (e->ns != prefix->ns)
		return false;
	if (e->kind == ENTRY_KEY && e->len + 1 == prefix->len)
		return memcmp(e->bytes, prefix->bytes, e->len) == 0;
	return e->len >= prefix->len && memcmp(e->bytes, prefix->bytes, prefix->len) == 0;
}

static bool too_long(const struct model *m, const struct entry_id *from, size_t to_len, int64_t now)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct model_entry *e = &m->entries[i];
		size_t max = e->kind == ENTRY_KEY ? STORE_KEY_MAX : STORE_PREFIX_MAX;

		if (model_in_tree(e, from) && model_expiry(e) > now &&
			e->len - from->len + to_len > max)
			return true;
	}
	return false;
}

static void rename_entry(
	struct model_entry *e, const struct entry_id *from, const struct entry_id *to)
{
	unsigned char bytes[2 * STORE_PREFIX_MAX];
	size_t rest = e->len < from->len ? 0 : e->len - from->len;
	size_t head = e->len < from->len ? (size_t)to->len - 1 : to->len;

	memcpy(bytes, to->bytes, head);
	memcpy(bytes + head, e->bytes + e->len - rest, rest);
	memcpy(e->bytes, bytes, head + rest);
	e->len = head + rest;
	e->ns = to->ns;
}

int model_move_tree(struct model *m, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	size_t kept = 0;

	if (too_long(m, from, to->len, now) || (exchange && too_long(m, to, from->len, now)))
		return -ENAMETOOLONG;
	for (size_t i = 0; i < m->n; i++) {
		struct model_entry *e = &m->entries[i];
		bool source = model_in_tree(e, from), target = model_in_tree(e, to);

		if (((source || target) && model_expiry(e) <= now) || (target && !exchange))
			continue;
		if (source)
			rename_entry(e, from, to);
		else if (target)
			rename_entry(e, to, from);
		m->entries[kept++] = *e;
	}
	m->n = kept;
	return 0;
}

void model_value_fill(const struct model_value *value, unsigned char *buf)
{
	uint32_t x = value->seed;

	for (uint64_t i = 0; i < value->len; i++) {
		x = x * 1664525 + 1013904223;
		buf[i] = (unsigned char)(x >> 24);
	}
}
