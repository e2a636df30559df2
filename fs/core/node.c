#include "fs/core/node.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "backends/base/clock.h"

enum { CHAINS_MIN = 1024, TRIM_MIN = 32768 };

static size_t node_hash(uint32_t ns, unsigned kind, const void *bytes, size_t len)
{
	return (size_t)XXH3_64bits_withSeed(bytes, len, (uint64_t)ns << 1 | kind);
}

static bool node_is(const struct node *n, const struct entry_id *id)
{
	return n->ns == id->ns && n->kind == id->kind && n->len == id->len &&
		memcmp(n->bytes, id->bytes, id->len) == 0;
}

static struct node **table_chain(struct node_table *t, const struct entry_id *id)
{
	return &t->chains[node_hash(id->ns, id->kind, id->bytes, id->len) & t->mask];
}

static struct node *table_find(struct node_table *t, const struct entry_id *id)
{
	struct node *n = *table_chain(t, id);

	while (n && (n->gone || !node_is(n, id)))
		n = n->next;
	return n;
}

static struct entry_id node_entry_id(const struct node *n)
{
	return (struct entry_id){.ns = n->ns, .kind = n->kind, .len = n->len, .bytes = n->bytes};
}

static void table_insert(struct node_table *t, struct node *n)
{
	struct entry_id id = node_entry_id(n);
	struct node **chain = table_chain(t, &id);

	n->next = *chain;
	*chain = n;
	t->count++;
}

/* A node that has not been in the table before. */
static void table_insert_new(struct node_table *t, struct node *n)
{
	n->generation = ++t->generation;
	table_insert(t, n);
}

static void table_take_out(struct node_table *t, struct node *n)
{
	struct entry_id id = node_entry_id(n);
	struct node **at = table_chain(t, &id);

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	n->next = NULL;
	t->count--;
}

/* Keeps between a quarter of a node and two nodes to a chain. A failure to allocate only costs
 * speed. */
static void table_resize(struct node_table *t)
{
	size_t size = t->mask + 1, want = size;

	if (t->count > size * 2)
		want = size * 4;
	else if (t->count < size / 4 && size > CHAINS_MIN)
		want = size / 2;
	if (want == size)
		return;
	struct node **chains = calloc(want, sizeof(struct node *));
	if (!chains)
		return;
	struct node **old = t->chains;
	t->chains = chains;
	t->mask = want - 1;
	t->count = 0;
	for (size_t i = 0; i < size; i++) {
		for (struct node *n = old[i], *next; n; n = next) {
			next = n->next;
			table_insert(t, n);
		}
	}
	free(old);
}

void gone_free(struct gone *g)
{
	if (!g)
		return;
	blob_unref(g->blob);
	free((void *)(uintptr_t)g->rec.xattrs);
	free(g);
}

static void node_free(struct node *n)
{
	gone_free(n->gone);
	if (n->bytes != n->own)
		free(n->bytes);
	free(n);
}

static bool node_free_if_unused(struct node_table *t, struct node *n)
{
	if (n->lookups || n->refs || n->file)
		return false;
	table_take_out(t, n);
	table_resize(t);
	node_free(n);
	t->freed++;
	return true;
}

/* What was freed stays with the process, for the allocator finds something in use at the end of it. Once
 * the kernel has forgotten more than it still knows, and enough for it to be worth a look at all memory,
 * that is given back. Under the lock; then the caller lets go of it and calls malloc_trim(). */
static bool much_is_free(struct node_table *t)
{
	if (t->freed < TRIM_MIN || t->freed < t->count)
		return false;
	t->freed = 0;
	return true;
}

int node_table_init(struct node_table *t)
{
	t->chains = calloc(CHAINS_MIN, sizeof(struct node *));
	if (!t->chains)
		return -ENOMEM;
	t->mask = CHAINS_MIN - 1;
	t->count = 0;
	/* Not what an earlier mount began with, whose file handles somebody may still have. */
	t->generation = (uint32_t)clock_now();
	lock_init(&t->lock, LOCK_NODES);
	return 0;
}

void node_table_clear(struct node_table *t)
{
	lock_take(&t->lock);
	for (size_t i = 0; i <= t->mask; i++) {
		for (struct node *n = t->chains[i], *next; n; n = next) {
			next = n->next;
			node_free(n);
		}
		t->chains[i] = NULL;
	}
	t->count = 0;
	lock_drop(&t->lock);
}

void node_table_release(struct node_table *t)
{
	node_table_clear(t);
	free(t->chains);
	lock_destroy(&t->lock);
}

void node_table_close_files(struct node_table *t, void (*fn)(struct open_file *f))
{
	for (size_t i = 0; i <= t->mask; i++) {
		for (struct node *n = t->chains[i]; n; n = n->next) {
			lock_take(&t->lock); /* node_test() looks */
			struct open_file *f = n->file;
			n->file = NULL;
			lock_drop(&t->lock);
			if (f)
				fn(f);
		}
	}
}

static struct node *node_new(const struct entry_id *id)
{
	struct node *n = calloc(1, offsetof(struct node, own) + id->len);

	if (!n)
		return NULL;
	n->bytes = n->own;
	memcpy(n->bytes, id->bytes, id->len);
	n->len = id->len;
	n->ns = id->ns;
	n->kind = (uint8_t)id->kind;
	return n;
}

struct node *node_spare(size_t id_len)
{
	static const unsigned char none[STORE_PREFIX_MAX];

	return node_new(&(struct entry_id){.len = (uint16_t)id_len, .bytes = none});
}

void node_spare_free(struct node *spare)
{
	if (spare)
		node_free(spare);
}

struct node *node_lookup_with(struct node_table *t, const struct entry_id *id, struct node *spare)
{
	lock_take(&t->lock);
	struct node *n = table_find(t, id);
	if (!n) {
		n = spare;
		spare = NULL;
		memcpy(n->bytes, id->bytes, id->len);
		n->ns = id->ns;
		n->kind = (uint8_t)id->kind;
		table_insert_new(t, n);
		table_resize(t);
	}
	n->lookups++;
	lock_drop(&t->lock);
	node_spare_free(spare);
	return n;
}

int node_lookup(struct node_table *t, const struct entry_id *id, struct node **out)
{
	int rc = 0;

	lock_take(&t->lock);
	struct node *n = table_find(t, id);
	if (!n) {
		n = node_new(id);
		if (!n) {
			rc = -ENOMEM;
			goto out;
		}
		table_insert_new(t, n);
		table_resize(t);
	}
	n->lookups++;
	*out = n;
out:
	lock_drop(&t->lock);
	return rc;
}

struct node *node_find(struct node_table *t, const struct entry_id *id)
{
	lock_take(&t->lock);
	struct node *n = table_find(t, id);
	if (n)
		n->refs++;
	lock_drop(&t->lock);
	return n;
}

bool node_test(struct node_table *t, const struct entry_id *id, bool (*is)(const struct node *n))
{
	lock_take(&t->lock);
	const struct node *n = table_find(t, id);
	bool yes = n && is(n);
	lock_drop(&t->lock);
	return yes;
}

bool node_is_known(struct node_table *t, const struct entry_id *id)
{
	lock_take(&t->lock);
	bool known = table_find(t, id) != NULL;
	lock_drop(&t->lock);
	return known;
}

void node_note_added(struct node_table *t, struct node *n)
{
	lock_take(&t->lock);
	n->added++;
	lock_drop(&t->lock);
}

void node_ref(struct node_table *t, struct node *n)
{
	lock_take(&t->lock);
	n->refs++;
	lock_drop(&t->lock);
}

void node_unref(struct node_table *t, struct node *n)
{
	lock_take(&t->lock);
	n->refs--;
	node_free_if_unused(t, n);
	lock_drop(&t->lock);
}

bool node_forget(struct node_table *t, struct node *n, uint64_t lookups)
{
	lock_take(&t->lock);
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	bool freed = node_free_if_unused(t, n);
	bool trim = freed && much_is_free(t);
	lock_drop(&t->lock);
	if (trim)
		malloc_trim(0);
	return freed;
}

int node_get_id(struct node_table *t, struct node *n, struct node_id *out)
{
	int rc = 0;

	lock_take(&t->lock);
	if (n->gone) {
		rc = -ENOENT;
	} else {
		memcpy(out->bytes, n->bytes, n->len);
		out->id = node_entry_id(n);
		out->id.bytes = out->bytes;
	}
	lock_drop(&t->lock);
	return rc;
}

void node_unlink(struct node_table *t, struct node *n, struct gone *gone)
{
	lock_take(&t->lock);
	if (!n->gone) { /* else somebody was faster: what it left stays */
		n->gone = gone;
		gone = NULL;
	}
	lock_drop(&t->lock);
	gone_free(gone);
}

static void node_set_id(
	struct node_table *t, struct node *n, uint32_t ns, unsigned char *bytes, size_t len)
{
	n->bytes = bytes;
	n->len = (uint16_t)len;
	n->ns = ns;
	table_insert(t, n);
}

/* How many bytes of the node's id are to be replaced when directory `from` moves: all of the
 * prefix, or, for the key that the directory is named like, the prefix less its separator. 0: it
 * does not move. */
static size_t node_moves_by(const struct node *n, const struct entry_id *from)
{
	if (n->gone || n->ns != from->ns)
		return 0;
	if (n->len >= from->len && memcmp(n->bytes, from->bytes, from->len) == 0)
		return from->len;
	if (n->kind == ENTRY_KEY && from->len > 1 && n->len == from->len - 1 &&
		memcmp(n->bytes, from->bytes, n->len) == 0)
		return n->len;
	return 0;
}

/* A node on its way from one id to another. */
struct moving {
	struct moving *next;
	struct node *node; /* with a ref */
	uint32_t ns;
	size_t len;
	unsigned char *bytes;
};

struct node_moves {
	struct moving *list;
	bool tree, exchange;
	struct entry_id from, to; /* tree: their bytes follow */
	unsigned char bytes[2 * STORE_PREFIX_MAX];
};

/* The first `cut` bytes of the node's id become the first `lead` ones of `to`. Under t->lock. */
static int moving_add(
	struct moving **list, struct node *n, size_t cut, const struct entry_id *to, size_t lead)
{
	struct moving *m = malloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->len = lead + n->len - cut;
	m->bytes = malloc(m->len ? m->len : 1);
	if (!m->bytes) {
		free(m);
		return -ENOMEM;
	}
	memcpy(m->bytes, to->bytes, lead);
	memcpy(m->bytes + lead, n->bytes + cut, n->len - cut);
	m->node = n;
	m->ns = to->ns;
	m->next = *list;
	*list = m;
	n->refs++;
	n->moving = true;
	return 0;
}

static int moving_add_below(struct moving **list, struct node *n, const struct entry_id *from,
	const struct entry_id *to)
{
	size_t cut = n->moving ? 0 : node_moves_by(n, from);

	return cut ? moving_add(list, n, cut, to, cut == from->len ? to->len : to->len - 1u) : 0;
}

/* Under t->lock. */
static int moving_add_all(struct node_table *t, struct node_moves *moves)
{
	int rc = 0;

	for (size_t i = 0; i <= t->mask && !rc; i++) {
		for (struct node *n = t->chains[i]; n && !rc; n = n->next) {
			rc = moving_add_below(&moves->list, n, &moves->from, &moves->to);
			if (!rc && moves->exchange)
				rc = moving_add_below(&moves->list, n, &moves->to, &moves->from);
		}
	}
	return rc;
}

static struct node_moves *moves_new(
	const struct entry_id *from, const struct entry_id *to, bool exchange)
{
	struct node_moves *moves = calloc(1, sizeof(*moves));

	if (!moves)
		return NULL;
	moves->exchange = exchange;
	moves->from = *from;
	moves->to = *to;
	memcpy(moves->bytes, from->bytes, from->len);
	memcpy(moves->bytes + STORE_PREFIX_MAX, to->bytes, to->len);
	moves->from.bytes = moves->bytes;
	moves->to.bytes = moves->bytes + STORE_PREFIX_MAX;
	return moves;
}

static int moves_done(
	struct node_table *t, int rc, struct node_moves *moves, struct node_moves **out)
{
	if (rc)
		node_moves_cancel(t, moves);
	else
		*out = moves;
	return rc;
}

int node_moves_one(struct node_table *t, const struct entry_id *from, const struct entry_id *to,
	bool exchange, struct node_moves **out)
{
	struct node_moves *moves = moves_new(from, to, exchange);
	int rc = 0;

	if (!moves)
		return -ENOMEM;
	lock_take(&t->lock);
	struct node *a = table_find(t, from), *b = exchange ? table_find(t, to) : NULL;
	if (a)
		rc = moving_add(&moves->list, a, a->len, to, to->len);
	if (b && !rc)
		rc = moving_add(&moves->list, b, b->len, from, from->len);
	lock_drop(&t->lock);
	return moves_done(t, rc, moves, out);
}

int node_moves_tree(struct node_table *t, const struct entry_id *from, const struct entry_id *to,
	bool exchange, struct node_moves **out)
{
	struct node_moves *moves = moves_new(from, to, exchange);

	if (!moves)
		return -ENOMEM;
	moves->tree = true;
	lock_take(&t->lock);
	int rc = moving_add_all(t, moves);
	lock_drop(&t->lock);
	return moves_done(t, rc, moves, out);
}

/* Frees the list, and lets go of its nodes. Under t->lock. */
static void moving_end(struct node_table *t, struct moving *list)
{
	struct moving *m;

	while ((m = list)) {
		list = m->next;
		m->node->moving = false;
		m->node->refs--;
		node_free_if_unused(t, m->node);
		free(m->bytes);
		free(m);
	}
}

void node_move(struct node_table *t, struct node_moves *moves)
{
	lock_take(&t->lock);
	/* A node that has come since belongs to a lookup that is disturbed, and looks again; so it
	 * does no harm if there is no memory for it. */
	if (moves->tree)
		moving_add_all(t, moves);
	for (struct moving *m = moves->list; m; m = m->next) {
		if (!m->node->gone)
			table_take_out(t, m->node);
	}
	for (struct moving *m = moves->list; m; m = m->next) {
		if (m->node->gone)
			continue;
		if (m->node->bytes != m->node->own)
			free(m->node->bytes);
		node_set_id(t, m->node, m->ns, m->bytes, m->len);
		m->bytes = NULL;
	}
	moving_end(t, moves->list);
	lock_drop(&t->lock);
	free(moves);
}

void node_moves_cancel(struct node_table *t, struct node_moves *moves)
{
	if (!moves)
		return;
	lock_take(&t->lock);
	moving_end(t, moves->list);
	lock_drop(&t->lock);
	free(moves);
}

int node_each(struct node_table *t, void (*fn)(void *arg, struct node *n), void *arg)
{
	lock_take(&t->lock);
	size_t n = 0, cap = t->count;
	struct node **all = malloc((cap ? cap : 1) * sizeof(struct node *));
	for (size_t i = 0; all && i <= t->mask; i++) {
		for (struct node *at = t->chains[i]; at; at = at->next) {
			if (at->gone)
				continue;
			at->refs++;
			all[n++] = at;
		}
	}
	lock_drop(&t->lock);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		fn(arg, all[i]);
		node_unref(t, all[i]);
	}
	free(all);
	return 0;
}
