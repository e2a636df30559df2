/*
 * node.h - the node table: which entries the kernel knows, and what is open.
 *
 * A node is found by its id (namespace, kind, bytes) as long as its entry exists. An unlinked node
 * stays in the table, but is not found or walked any more; it lives until it is forgotten and
 * closed. Looking up and inserting is one critical section.
 *
 * A node is freed when lookups, opens and refs are all zero. All fields are guarded by
 * node_table.lock, but for `file`, which is set and cleared under it and read by whoever has the
 * node open. Ids change only under fs.change (rename), so a holder of that lock may read them
 * without the table's.
 */
#ifndef KVFS_NODE_H
#define KVFS_NODE_H

#include <string.h>

#include "backends/base/lock.h"
#include "backends/store.h"

struct open_file;

/* What is left of an entry that was removed or replaced while the kernel knew it: somebody may have
 * looked it up a moment ago and open it now, as on any filesystem. */
struct gone {
	struct record rec; /* owns its xattrs */
	uint64_t size;
	struct blob *blob; /* its content; NULL where it was large and nobody had it open */
	bool left; /* others have replaced its content (version.h) */
};

struct node {
	struct node *next; /* in its hash chain */
	unsigned char *bytes; /* `own`, or where that had no room for a new id, memory of its own */
	uint64_t lookups;
	struct open_file *_Atomic file; /* while somebody has it open */
	struct gone *gone; /* unlinked */
	uint64_t stored; /* fs.stores, when the store was last given its content */
	/* Behind a cache (version.h): of what the kernel caches, and of the size that it was told last. */
	_Atomic uint64_t cached, told;
	uint32_t ns;
	uint32_t refs; /* threads of the core that look at it */
	uint32_t generation; /* no other node at this address has had it; never changes */
	uint32_t dirs; /* of a directory: how many are in it, */
	uint32_t dirs_epoch; /* if it was counted in this epoch (core.h), */
	uint32_t added, added_max; /* and no more files than this have been put into it */
	_Atomic uint32_t looked_by; /* of a directory: the thread that last found a name in it */
	uint16_t len;
	uint8_t kind; /* enum entry_kind */
	bool negatives; /* the kernel may know of names that are absent here */
	bool moving; /* it is in a struct node_moves */
	unsigned char own[];
};

struct node_table {
	struct lock lock;
	struct node **chains;
	size_t mask, count;
	size_t freed; /* since memory was last given back to the system */
	uint32_t generation; /* of the newest node */
};

/* An id with its bytes: a plain value. */
struct node_id {
	struct entry_id id;
	unsigned char bytes[STORE_PREFIX_MAX];
};

static inline void node_id_set(struct node_id *to, const struct entry_id *from)
{
	memcpy(to->bytes, from->bytes, from->len);
	to->id = *from;
	to->id.bytes = to->bytes;
}

int node_table_init(struct node_table *t);
/* Frees every open file that is left, by `fn`; the nodes stay. No other thread is left. */
void node_table_close_files(struct node_table *t, void (*fn)(struct open_file *f));
/* Frees every node that is left in the table, which others may still search (node_test). */
void node_table_clear(struct node_table *t);
/* The same, and the table with them. */
void node_table_release(struct node_table *t);

/* The node of `id`, made if need be, with one lookup more. -ENOMEM. */
int node_lookup(struct node_table *t, const struct entry_id *id, struct node **out);

/* The same where it must not fail: what was set aside becomes the node where there is none yet, and
 * is freed otherwise. A spare has room for an id of this length; NULL: out of memory. */
struct node *node_spare(size_t id_len);
void node_spare_free(struct node *spare); /* NULL: nothing happens */
struct node *node_lookup_with(struct node_table *t, const struct entry_id *id, struct node *spare);

/* The node of `id` with one ref more, NULL where the kernel does not know it. */
struct node *node_find(struct node_table *t, const struct entry_id *id);
/* Whether the kernel knows a node of `id`, and `is` says so of it, under the lock. */
bool node_test(struct node_table *t, const struct entry_id *id, bool (*is)(const struct node *n));
bool node_is_known(struct node_table *t, const struct entry_id *id);
/* A file has been put into directory `n`. */
void node_note_added(struct node_table *t, struct node *n);
void node_ref(struct node_table *t, struct node *n);
void node_unref(struct node_table *t, struct node *n);
/* Whether the node has been freed. */
bool node_forget(struct node_table *t, struct node *n, uint64_t lookups);

/* Copies the node's id. -ENOENT: it has none any more (unlinked). */
int node_get_id(struct node_table *t, struct node *n, struct node_id *out);

/* Makes the node an unlinked one, with these last attributes and content, which it takes over. The
 * caller holds fs.change. */
void node_unlink(struct node_table *t, struct node *n, struct gone *gone);
void gone_free(struct gone *g);

/* Moving is in two steps, since the store is changed in between and there is no way back: first the
 * memory for the new ids (-ENOMEM), then the nodes. The caller holds fs.change throughout. */
struct node_moves;

/* The node of `from`, if there is one, is to become the node of `to`; with `exchange` and the other
 * way round. What is `to` otherwise must be unlinked before the move. */
int node_moves_one(struct node_table *t, const struct entry_id *from, const struct entry_id *to,
	bool exchange, struct node_moves **out);

/* Every node below directory `from`, and those of the directory and of the key of its name, are to
 * be moved in the same manner as store_ops.move_tree moves entries. */
int node_moves_tree(struct node_table *t, const struct entry_id *from, const struct entry_id *to,
	bool exchange, struct node_moves **out);

/* Moves them, with those that lookups have brought since; or nothing (NULL: likewise). Both free. */
void node_move(struct node_table *t, struct node_moves *moves);
void node_moves_cancel(struct node_table *t, struct node_moves *moves);

/* Calls `fn` for every node in the table, with a ref held and without the lock, in no order; nodes
 * that come while it runs may be missed. */
int node_each(struct node_table *t, void (*fn)(void *arg, struct node *n), void *arg);

#endif
