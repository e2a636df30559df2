#include "fs/core/negatives.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { NEGATIVES_MAX = 65536, CHAINS = 16384 };

struct negative {
	struct negative *next;
	struct node *parent;
	char name[];
};

struct negatives {
	struct fs *fs;
	struct lock lock;
	size_t count;
	struct negative *chains[CHAINS];
};

struct negatives *negatives_new(struct fs *fs)
{
	struct negatives *t = calloc(1, sizeof(*t));

	if (t) {
		t->fs = fs;
		lock_init(&t->lock, LOCK_NEGATIVES);
	}
	return t;
}

void negatives_free(struct negatives *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct negative *n = t->chains[i], *next; n; n = next) {
			next = n->next;
			free(n);
		}
	}
	lock_destroy(&t->lock);
	free(t);
}

static struct negative **chain_of(struct negatives *t, const struct node *parent, const char *name)
{
	return &t->chains[XXH3_64bits_withSeed(name, strlen(name), (uintptr_t)parent) % CHAINS];
}

static struct negative **negative_at(
	struct negatives *t, const struct node *parent, const char *name)
{
	struct negative **at = chain_of(t, parent, name);

	while (*at && ((*at)->parent != parent || strcmp((*at)->name, name) != 0))
		at = &(*at)->next;
	return at;
}

static void negative_remove(struct negatives *t, struct negative **at)
{
	struct negative *n = *at;

	*at = n->next;
	t->count--;
	free(n);
}

int negatives_add(struct negatives *t, struct node *parent, const char *name)
{
	size_t size = strlen(name) + 1;
	int rc = 0;

	lock_take(&t->lock);
	struct negative **at = negative_at(t, parent, name);
	if (*at)
		goto out;
	struct negative *n = t->count < NEGATIVES_MAX ? malloc(sizeof(*n) + size) : NULL;
	if (!n) {
		rc = -ENOSPC;
		goto out;
	}
	n->next = NULL;
	n->parent = parent;
	memcpy(n->name, name, size);
	*at = n;
	t->count++;
	lock_take(&t->fs->nodes.lock);
	parent->negatives = true;
	lock_drop(&t->fs->nodes.lock);
out:
	lock_drop(&t->lock);
	return rc;
}

void negatives_remove(struct negatives *t, struct node *parent, const char *name)
{
	lock_take(&t->lock);
	struct negative **at = negative_at(t, parent, name);
	if (*at)
		negative_remove(t, at);
	lock_drop(&t->lock);
}

void negatives_drop(struct negatives *t, struct node *parent)
{
	lock_take(&t->lock);
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct negative **at = &t->chains[i]; *at;) {
			if ((*at)->parent == parent)
				negative_remove(t, at);
			else
				at = &(*at)->next;
		}
	}
	lock_take(&t->fs->nodes.lock);
	parent->negatives = false;
	lock_drop(&t->fs->nodes.lock);
	lock_drop(&t->lock);
}

struct pair {
	struct node *parent;
	char *name;
};

/* A copy of the table, with refs. Fewer pairs than there are names when memory runs out. */
static struct pair *copy_all(struct negatives *t, size_t *count)
{
	size_t n = 0;

	lock_take(&t->lock);
	struct pair *all = malloc((t->count + 1) * sizeof(*all));
	for (size_t i = 0; all && i < CHAINS; i++) {
		for (struct negative *at = t->chains[i]; at; at = at->next) {
			all[n].name = strdup(at->name);
			if (!all[n].name)
				continue;
			all[n].parent = at->parent;
			node_ref(&t->fs->nodes, at->parent);
			n++;
		}
	}
	lock_drop(&t->lock);
	*count = n;
	return all;
}

void negatives_each(struct negatives *t,
	bool (*fn)(void *arg, struct node *parent, const char *name), void *arg)
{
	size_t count;
	struct pair *all = copy_all(t, &count);

	for (size_t i = 0; all && i < count; i++) {
		if (fn(arg, all[i].parent, all[i].name))
			negatives_remove(t, all[i].parent, all[i].name);
		node_unref(&t->fs->nodes, all[i].parent);
		free(all[i].name);
	}
	free(all);
}
