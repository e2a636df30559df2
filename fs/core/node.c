#include "fs/core/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { CHAINS_MIN = 1024 };

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

static void gone_free(struct gone *g)
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
	return true;
}

int node_table_init(struct node_table *t)
{
	t->chains = calloc(CHAINS_MIN, sizeof(struct node *));
	if (!t->chains)
		return -ENOMEM;
	t->mask = CHAINS_MIN - 1;
	t->count = 0;
	pthread_mutex_init(&t->lock, NULL);
	return 0;
}

void node_table_release(struct node_table *t)
{
	for (size_t i = 0; i <= t->mask; i++) {
		for (struct node *n = t->chains[i], *next; n; n = next) {
			next = n->next;
			node_free(n);
		}
	}
	free(t->chains);
	pthread_mutex_destroy(&t->lock);
}

void node_table_close_files(struct node_table *t, void (*fn)(struct open_file *f))
{
	for (size_t i = 0; i <= t->mask; i++) {
		for (struct node *n = t->chains[i]; n; n = n->next) {
			if (n->file)
				fn(n->file);
			n->file = NULL;
		}
	}
}

static struct node *node_new(const struct entry_id *id)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->bytes = malloc(id->len ? id->len : 1);
	if (!n->bytes) {
		free(n);
		return NULL;
	}
	memcpy(n->bytes, id->bytes, id->len);
	n->len = id->len;
	n->ns = id->ns;
	n->kind = (uint8_t)id->kind;
	return n;
}

int node_lookup(struct node_table *t, const struct entry_id *id, struct node **out)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	struct node *n = table_find(t, id);
	if (!n) {
		n = node_new(id);
		if (!n) {
			rc = -ENOMEM;
			goto out;
		}
		table_insert(t, n);
		table_resize(t);
	}
	n->lookups++;
	*out = n;
out:
	pthread_mutex_unlock(&t->lock);
	return rc;
}

struct node *node_find(struct node_table *t, const struct entry_id *id)
{
	pthread_mutex_lock(&t->lock);
	struct node *n = table_find(t, id);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool node_is_known(struct node_table *t, const struct entry_id *id)
{
	pthread_mutex_lock(&t->lock);
	bool known = table_find(t, id) != NULL;
	pthread_mutex_unlock(&t->lock);
	return known;
}

void node_ref(struct node_table *t, struct node *n)
{
	pthread_mutex_lock(&t->lock);
	n->refs++;
	pthread_mutex_unlock(&t->lock);
}

void node_unref(struct node_table *t, struct node *n)
{
	pthread_mutex_lock(&t->lock);
	n->refs--;
	node_free_if_unused(t, n);
	pthread_mutex_unlock(&t->lock);
}

bool node_forget(struct node_table *t, struct node *n, uint64_t lookups)
{
	pthread_mutex_lock(&t->lock);
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	bool freed = node_free_if_unused(t, n);
	pthread_mutex_unlock(&t->lock);
	return freed;
}

int node_get_id(struct node_table *t, struct node *n, struct node_id *out)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (n->gone) {
		rc = -ENOENT;
	} else {
		memcpy(out->bytes, n->bytes, n->len);
		out->id = node_entry_id(n);
		out->id.bytes = out->bytes;
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

static struct gone *gone_new(const struct record *rec, uint64_t size, struct blob *content)
{
	struct gone *g = malloc(sizeof(*g));
	unsigned char *xattrs = NULL;

	if (g && rec->xattrs_len) {
		xattrs = malloc(rec->xattrs_len);
		if (!xattrs) {
			free(g);
			return NULL;
		}
		memcpy(xattrs, rec->xattrs, rec->xattrs_len);
	}
	if (g) {
		*g = (struct gone){.rec = *rec, .size = size};
		g->rec.xattrs = xattrs;
		g->blob = content ? blob_ref(content) : NULL;
	}
	return g;
}

int node_unlink(struct node_table *t, struct node *n, const struct record *rec, uint64_t size,
	struct blob *content)
{
	struct gone *gone = gone_new(rec, size, content);

	if (!gone)
		return -ENOMEM;
	pthread_mutex_lock(&t->lock);
	if (!n->gone) { /* else somebody was faster: what it left stays */
		n->gone = gone;
		gone = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	gone_free(gone);
	return 0;
}

static void node_set_id(
	struct node_table *t, struct node *n, uint32_t ns, unsigned char *bytes, size_t len)
{
	n->bytes = bytes;
	n->len = (uint16_t)len;
	n->ns = ns;
	table_insert(t, n);
}

int node_move(struct node_table *t, const struct entry_id *from, const struct entry_id *to)
{
	unsigned char *bytes = malloc(to->len ? to->len : 1);

	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, to->bytes, to->len);
	pthread_mutex_lock(&t->lock);
	struct node *n = table_find(t, from);
	if (n) {
		table_take_out(t, n);
		free(n->bytes);
		node_set_id(t, n, to->ns, bytes, to->len);
		bytes = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	free(bytes);
	return 0;
}

int node_exchange(struct node_table *t, const struct entry_id *a, const struct entry_id *b)
{
	unsigned char *a_bytes = malloc(a->len), *b_bytes = malloc(b->len);

	if (!a_bytes || !b_bytes) {
		free(a_bytes);
		free(b_bytes);
		return -ENOMEM;
	}
	memcpy(a_bytes, a->bytes, a->len);
	memcpy(b_bytes, b->bytes, b->len);
	pthread_mutex_lock(&t->lock);
	struct node *at_a = table_find(t, a), *at_b = table_find(t, b);
	if (at_a)
		table_take_out(t, at_a);
	if (at_b)
		table_take_out(t, at_b);
	if (at_a) {
		free(at_a->bytes);
		node_set_id(t, at_a, b->ns, b_bytes, b->len);
		b_bytes = NULL;
	}
	if (at_b) {
		free(at_b->bytes);
		node_set_id(t, at_b, a->ns, a_bytes, a->len);
		a_bytes = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	free(a_bytes);
	free(b_bytes);
	return 0;
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

/* A node on its way from one directory to another. */
struct moving {
	struct moving *next;
	struct node *node;
	uint32_t ns;
	size_t len;
	unsigned char *bytes;
};

static int moving_add(struct moving **list, struct node *n, size_t cut, const struct entry_id *from,
	const struct entry_id *to)
{
	size_t lead = cut == from->len ? to->len : to->len - 1u;
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
	return 0;
}

int node_move_tree(
	struct node_table *t, const struct entry_id *from, const struct entry_id *to, bool exchange)
{
	struct moving *list = NULL, *m;
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i <= t->mask && !rc; i++) {
		for (struct node *n = t->chains[i]; n && !rc; n = n->next) {
			size_t cut = node_moves_by(n, from);

			if (cut)
				rc = moving_add(&list, n, cut, from, to);
			else if (exchange && (cut = node_moves_by(n, to)))
				rc = moving_add(&list, n, cut, to, from);
		}
	}
	for (m = list; m && !rc; m = m->next)
		table_take_out(t, m->node);
	while ((m = list)) {
		list = m->next;
		if (rc) {
			free(m->bytes);
		} else {
			free(m->node->bytes);
			node_set_id(t, m->node, m->ns, m->bytes, m->len);
		}
		free(m);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int node_each(struct node_table *t, void (*fn)(void *arg, struct node *n), void *arg)
{
	pthread_mutex_lock(&t->lock);
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
	pthread_mutex_unlock(&t->lock);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		fn(arg, all[i]);
		node_unref(t, all[i]);
	}
	free(all);
	return 0;
}
