/*
 * map.c - entries in order, and the move of a subtree.
 *
 * A move first gathers the nodes that take part and makes their new names, which is all that can
 * fail; then it takes them out of the tree and puts them back renamed.
 */
#include "backends/memory/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int entry_id_compare(const struct entry_id *a, const struct entry_id *b)
{
	size_t common = a->len < b->len ? a->len : b->len;
	int order;

	if (a->ns != b->ns)
		return a->ns < b->ns ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	order = common ? memcmp(a->bytes, b->bytes, common) : 0;
	return order ? order : (a->len > b->len) - (a->len < b->len);
}

static int node_compare(const struct node *a, const struct node *b)
{
	return entry_id_compare(&a->id, &b->id);
}

RB_GENERATE_INTERNAL(map, node, link, node_compare, static __attribute__((unused)))

static const unsigned char *bytes_copy(const unsigned char *bytes, size_t len)
{
	unsigned char *copy = malloc(len ? len : 1);

	if (copy && len)
		memcpy(copy, bytes, len);
	return copy;
}

/* For bytes that are constant to everyone but their owner. */
static void bytes_free(const unsigned char *bytes)
{
	free((void *)(uintptr_t)bytes);
}

struct node *node_new(const struct entry_id *id)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->id = *id;
	n->id.bytes = bytes_copy(id->bytes, id->len);
	if (!n->id.bytes) {
		free(n);
		return NULL;
	}
	return n;
}

void node_free(struct node *n)
{
	if (!n)
		return;
	blob_unref(n->value);
	bytes_free(n->rec.xattrs);
	bytes_free(n->id.bytes);
	free(n);
}

int node_set_record(struct node *n, const struct record *rec)
{
	const unsigned char *xattrs = NULL;

	if (rec->xattrs_len) {
		xattrs = bytes_copy(rec->xattrs, rec->xattrs_len);
		if (!xattrs)
			return -ENOMEM;
	}
	bytes_free(n->rec.xattrs);
	n->rec = *rec;
	n->rec.xattrs = xattrs;
	n->recorded = true;
	return 0;
}

bool node_expired(const struct node *n, int64_t now)
{
	return n->recorded && record_expired(&n->rec, now);
}

bool node_listed(const struct node *n, int64_t now)
{
	if (node_expired(n, now))
		return false;
	return n->id.kind == ENTRY_KEY || (n->rec.flags & RECORD_MADE);
}

struct node *map_find(struct map *m, const struct entry_id *id)
{
	struct node wanted = {.id = *id};

	return RB_FIND(map, m, &wanted);
}

struct node *map_seek(struct map *m, const struct entry_id *id)
{
	struct node wanted = {.id = *id};

	return RB_NFIND(map, m, &wanted);
}

struct node *map_next(struct node *n)
{
	return RB_NEXT(map, NULL, n);
}

struct node *map_first(struct map *m)
{
	return RB_MIN(map, m);
}

void map_insert(struct map *m, struct node *n)
{
	RB_INSERT(map, m, n);
}

void map_remove(struct map *m, struct node *n)
{
	RB_REMOVE(map, m, n);
}

void map_clear_ns(struct map *m, uint32_t ns)
{
	struct node *n = map_seek(m, &(struct entry_id){.ns = ns, .kind = ENTRY_KEY});

	while (n && n->id.ns == ns) {
		struct node *next = map_next(n);

		map_remove(m, n);
		node_free(n);
		n = next;
	}
}

void map_clear(struct map *m)
{
	struct node *n;

	while ((n = map_first(m))) {
		map_remove(m, n);
		node_free(n);
	}
}

static bool begins_with(const struct entry_id *id, const struct entry_id *prefix)
{
	return id->len >= prefix->len && memcmp(id->bytes, prefix->bytes, prefix->len) == 0;
}

/* The nodes of a subtree, and what they will be called. */
struct subtree {
	const struct entry_id *prefix;
	size_t n, cap;
	struct node **nodes;
	const unsigned char **bytes; /* NULL: it is dropped, not renamed */
	uint16_t *lens;
};

static void subtree_release(struct subtree *t)
{
	for (size_t i = 0; i < t->n; i++)
		bytes_free(t->bytes[i]);
	free(t->nodes);
	free(t->bytes);
	free(t->lens);
}

static int subtree_add(struct subtree *t, struct node *n)
{
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 16;
		void *p;

		p = realloc(t->nodes, cap * sizeof(*t->nodes));
		if (!p)
			return -ENOMEM;
		t->nodes = p;
		p = realloc(t->bytes, cap * sizeof(*t->bytes));
		if (!p)
			return -ENOMEM;
		t->bytes = p;
		p = realloc(t->lens, cap * sizeof(*t->lens));
		if (!p)
			return -ENOMEM;
		t->lens = p;
		t->cap = cap;
	}
	t->nodes[t->n] = n;
	t->bytes[t->n] = NULL;
	t->n++;
	return 0;
}

/* The key that is the prefix less its last byte, and everything that begins with the prefix. */
static int subtree_gather(struct subtree *t, struct map *m)
{
	struct entry_id id = *t->prefix;
	struct node *n;
	int rc = 0;

	if (id.len) {
		id.kind = ENTRY_KEY;
		id.len--;
		n = map_find(m, &id);
		if (n)
			rc = subtree_add(t, n);
		id.len++;
	}
	for (int kind = ENTRY_KEY; kind <= ENTRY_DIR && rc == 0; kind++) {
		id.kind = (enum entry_kind)kind;
		for (n = map_seek(m, &id); n && rc == 0; n = map_next(n)) {
			if (n->id.ns != id.ns || n->id.kind != id.kind || !begins_with(&n->id, &id))
				break;
			rc = subtree_add(t, n);
		}
	}
	return rc;
}

/* What one node is called below `to` instead of `from`. */
static int node_new_name(const struct node *n, const struct entry_id *from,
	const struct entry_id *to, const unsigned char **bytes, uint16_t *len)
{
	bool is_dir = n->id.kind == ENTRY_DIR;
	/* The key that bears the directory's name is one byte shorter than the prefix. */
	size_t cut = n->id.len < from->len ? 1 : 0;
	size_t rest = n->id.len + cut - from->len;
	size_t total = to->len + rest - cut;
	unsigned char name[2 * STORE_PREFIX_MAX];

	if ((cut && to->len == 0) || (!is_dir && total == 0))
		return -EINVAL;
	if (total > (is_dir ? (size_t)STORE_PREFIX_MAX : (size_t)STORE_KEY_MAX))
		return -ENAMETOOLONG;
	memcpy(name, to->bytes, to->len - cut);
	memcpy(name + to->len - cut, n->id.bytes + from->len - cut, rest);
	*bytes = bytes_copy(name, total);
	*len = (uint16_t)total;
	return *bytes ? 0 : -ENOMEM;
}

/* Names for everything that lives on. */
static int subtree_rename(struct subtree *t, const struct entry_id *to, int64_t now)
{
	for (size_t i = 0; i < t->n; i++) {
		int rc;

		if (node_expired(t->nodes[i], now))
			continue;
		rc = node_new_name(t->nodes[i], t->prefix, to, &t->bytes[i], &t->lens[i]);
		/* Only remembered of a directory: what could be below it would be too long itself. */
		if (rc == -ENAMETOOLONG && t->nodes[i]->id.kind == ENTRY_DIR &&
			!(t->nodes[i]->rec.flags & RECORD_MADE))
			continue;
		if (rc)
			return rc;
	}
	return 0;
}

static void subtree_take_out(struct subtree *t, struct map *m)
{
	for (size_t i = 0; i < t->n; i++)
		map_remove(m, t->nodes[i]);
}

static void subtree_put_back(struct subtree *t, struct map *m, uint32_t ns)
{
	for (size_t i = 0; i < t->n; i++) {
		struct node *n = t->nodes[i];

		if (!t->bytes[i]) {
			node_free(n);
			continue;
		}
		bytes_free(n->id.bytes);
		n->id.ns = ns;
		n->id.bytes = t->bytes[i];
		n->id.len = t->lens[i];
		t->bytes[i] = NULL;
		map_insert(m, n);
	}
}

int map_move_tree(struct map *m, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	struct subtree source = {.prefix = from}, target = {.prefix = to};
	int rc;

	if (from->ns == to->ns && (begins_with(from, to) || begins_with(to, from)))
		return -EINVAL;
	rc = subtree_gather(&source, m);
	if (rc == 0)
		rc = subtree_gather(&target, m);
	if (rc == 0)
		rc = subtree_rename(&source, to, now);
	/* What has no new name is dropped: without an exchange that is all of the target. */
	if (rc == 0 && exchange)
		rc = subtree_rename(&target, from, now);
	if (rc == 0) {
		subtree_take_out(&source, m);
		subtree_take_out(&target, m);
		subtree_put_back(&source, m, to->ns);
		subtree_put_back(&target, m, from->ns);
	}
	subtree_release(&target);
	subtree_release(&source);
	return rc;
}
