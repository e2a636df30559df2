/*
 * suite_model.h - a store as naive as can be: an array of entries that is searched from end to end.
 *
 * The model test applies the same changes to it and to real stores, and compares what they say.
 */
#ifndef KVFS_SUITE_MODEL_H
#define KVFS_SUITE_MODEL_H

#include "backends/store.h"

enum { MODEL_NAMESPACES = 2, MODEL_ENTRIES_MAX = 8192 };

/* A value is told by its length and a seed. */
struct model_value {
	uint64_t len;
	uint32_t seed;
};

struct model_entry {
	uint32_t ns; /* 0 to MODEL_NAMESPACES - 1 */
	enum entry_kind kind;
	size_t len;
	unsigned char bytes[STORE_PREFIX_MAX];
	bool recorded, held;
	struct record rec; /* rec.xattrs is static */
	struct model_value value;
};

struct model {
	struct model_entry *entries; /* MODEL_ENTRIES_MAX of them */
	size_t n;
};

/* One change, before it becomes a struct change of some store. */
struct model_change {
	enum change_op op;
	struct entry_id id; /* id.ns is the model's */
	bool has_rec, has_value, hold;
	struct record rec;
	struct model_value value;
};

struct model_entry *model_find(const struct model *m, const struct entry_id *id);
struct model_entry *model_get(const struct model *m, const struct entry_id *id, int64_t now);

/* The first that a scan finds at or after `id`. */
struct model_entry *model_seek(const struct model *m, const struct entry_id *id, int64_t now);

struct entry_id model_id(const struct model_entry *e);
int64_t model_expiry(const struct model_entry *e);

/* False: the model is full. */
bool model_apply(struct model *m, const struct model_change *c);

/* Whether the entry is of the tree that move_tree moves. */
bool model_in_tree(const struct model_entry *e, const struct entry_id *prefix);

/* store_ops.move_tree. */
int model_move_tree(struct model *m, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now);

/* Writes the bytes of a value. */
void model_value_fill(const struct model_value *value, unsigned char *buf);

#endif
