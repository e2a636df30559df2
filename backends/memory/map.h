/*
 * map.h - the ordered map in which the memory store keeps its entries.
 *
 * One tree for all namespaces, ordered by namespace, kind and bytes. It knows nothing of locks: its
 * owner does.
 */
#ifndef KVFS_MEMORY_MAP_H
#define KVFS_MEMORY_MAP_H

#include <bsd/sys/tree.h>

#include "backends/store.h"

struct node {
	RB_ENTRY(node) link;
	struct entry_id id; /* id.bytes is the node's own */
	bool recorded; /* rec holds something */
	bool held; /* its value is not complete yet */
	struct record rec; /* rec.xattrs is the node's own */
	struct blob *value; /* NULL: no bytes */
};

RB_HEAD(map, node);

/* The order of the map: by namespace, kind and bytes. */
int entry_id_compare(const struct entry_id *a, const struct entry_id *b);

/* A node outside of any map, with a copy of the id. NULL: out of memory. */
struct node *node_new(const struct entry_id *id);
void node_free(struct node *n); /* NULL is fine */

/* Replaces the node's record by a copy. -ENOMEM. */
int node_set_record(struct node *n, const struct record *rec);

bool node_expired(const struct node *n, int64_t now);

/* Whether a scan finds it: every live key, and live directories that were made. */
bool node_listed(const struct node *n, int64_t now);

struct node *map_find(struct map *m, const struct entry_id *id);

/* The first node at or after `id`; the one after `n`. NULL: none. */
struct node *map_seek(struct map *m, const struct entry_id *id);
struct node *map_next(struct node *n);
struct node *map_first(struct map *m);

/* Takes over a node whose id is not in the map; gives one back. */
void map_insert(struct map *m, struct node *n);
void map_remove(struct map *m, struct node *n);

/* Frees every node of one namespace, and of all. */
void map_clear_ns(struct map *m, uint32_t ns);
void map_clear(struct map *m);

/* store_ops.move_tree. -EINVAL: one prefix begins with the other, or a key would be empty. */
int map_move_tree(struct map *m, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now);

#endif
