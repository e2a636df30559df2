/*
 * attr.h - attributes of nodes as stat(2) shows them, and changes to them.
 */
#ifndef KVFS_ATTR_H
#define KVFS_ATTR_H

#include "fs/core/entry.h"

/* What an answer says of entry `id`. `n` may be NULL (nothing of it is open). `dirs`: directories
 * in it, for a directory; UINT32_MAX: not counted. */
void attr_fill(struct fs *fs, const struct entry_id *id, struct node *n, const struct loaded *l,
	uint32_t dirs, struct fs_attr *out);

/* Loads (adopting what is fresh; `locked`: the caller holds fs.change) and fills. */
int attr_get(struct fs *fs, const struct entry_id *id, struct node *n, int64_t now, bool locked,
	struct fs_attr *out);

#endif
