/*
 * value.h - a value on its way from a blob into a write transaction.
 */
#ifndef KVFS_LMDB_VALUE_H
#define KVFS_LMDB_VALUE_H

#include "backends/blob.h"

/* Fills `len` bytes that LMDB has reserved (MDB_RESERVE) with a blob's. */
int value_fill(void *reserved, size_t len, const struct blob *b);

#endif
