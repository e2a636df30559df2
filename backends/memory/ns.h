/*
 * ns.h - the memory store's table of namespaces: names and numbers.
 *
 * It knows nothing of locks and entries: its owner does.
 */
#ifndef KVFS_MEMORY_NS_H
#define KVFS_MEMORY_NS_H

#include <stddef.h>
#include <stdint.h>

struct ns {
	uint32_t number;
	size_t len;
	char *name;
};

struct ns_table {
	struct ns *list; /* in no order */
	size_t n;
	uint32_t last; /* numbers are not used twice */
};

void ns_table_release(struct ns_table *t);

/* NULL: there is none. Valid until the table changes. */
struct ns *ns_table_by_name(const struct ns_table *t, const void *name, size_t len);
struct ns *ns_table_by_number(const struct ns_table *t, uint32_t number);

/* The first whose name is greater. */
struct ns *ns_table_after(const struct ns_table *t, const void *name, size_t len);

/* -EINVAL (an empty name), -ENAMETOOLONG, -EEXIST, -ENOMEM. */
int ns_table_add(struct ns_table *t, const void *name, size_t len, uint32_t *number);
int ns_table_rename(struct ns_table *t, uint32_t number, const void *name, size_t len);

/* Its number exists. */
void ns_table_drop(struct ns_table *t, uint32_t number);

/* The order of names: by their bytes, a shorter one before what begins with it. */
int ns_name_compare(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
