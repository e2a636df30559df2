/*
 * ns.c - an array of namespaces, searched from end to end: there are never many.
 */
#include "backends/memory/ns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NS_NAME_MAX = 511 };

int ns_name_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t common = a_len < b_len ? a_len : b_len;
	int order = common ? memcmp(a, b, common) : 0;

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

void ns_table_release(struct ns_table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->list[i].name);
	free(t->list);
	*t = (struct ns_table){0};
}

struct ns *ns_table_by_name(const struct ns_table *t, const void *name, size_t len)
{
	for (size_t i = 0; i < t->n; i++) {
		if (ns_name_compare(t->list[i].name, t->list[i].len, name, len) == 0)
			return &t->list[i];
	}
	return NULL;
}

struct ns *ns_table_by_number(const struct ns_table *t, uint32_t number)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->list[i].number == number)
			return &t->list[i];
	}
	return NULL;
}

struct ns *ns_table_after(const struct ns_table *t, const void *name, size_t len)
{
	struct ns *next = NULL;

	for (size_t i = 0; i < t->n; i++) {
		struct ns *ns = &t->list[i];

		if (ns_name_compare(ns->name, ns->len, name, len) <= 0)
			continue;
		if (!next || ns_name_compare(ns->name, ns->len, next->name, next->len) < 0)
			next = ns;
	}
	return next;
}

/* A copy of a name that may be given. */
static int name_copy(const struct ns_table *t, const void *name, size_t len, char **out)
{
	if (len == 0)
		return -EINVAL;
	if (len > NS_NAME_MAX)
		return -ENAMETOOLONG;
	if (ns_table_by_name(t, name, len))
		return -EEXIST;
	*out = malloc(len);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, name, len);
	return 0;
}

int ns_table_add(struct ns_table *t, const void *name, size_t len, uint32_t *number)
{
	struct ns *grown = realloc(t->list, (t->n + 1) * sizeof(*grown));
	char *copy;
	int rc;

	if (!grown)
		return -ENOMEM;
	t->list = grown;
	rc = name_copy(t, name, len, &copy);
	if (rc)
		return rc;
	grown[t->n++] = (struct ns){.number = ++t->last, .len = len, .name = copy};
	*number = t->last;
	return 0;
}

int ns_table_rename(struct ns_table *t, uint32_t number, const void *name, size_t len)
{
	struct ns *ns = ns_table_by_number(t, number);
	char *copy;
	int rc = ns ? name_copy(t, name, len, &copy) : -ENOENT;

	if (rc)
		return rc;
	free(ns->name);
	ns->name = copy;
	ns->len = len;
	return 0;
}

void ns_table_drop(struct ns_table *t, uint32_t number)
{
	struct ns *ns = ns_table_by_number(t, number);

	free(ns->name);
	*ns = t->list[--t->n];
}
