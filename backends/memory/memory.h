/*
 * memory.h - a store in memory: the reference that other stores are compared with.
 *
 * It keeps nothing beyond its life, and no other program can reach it.
 */
#ifndef KVFS_MEMORY_H
#define KVFS_MEMORY_H

#include "backends/store.h"

/* An empty store; store_ops.close frees it. -ENOMEM. */
int memory_store_open(struct store **out);

#endif
