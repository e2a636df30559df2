/*
 * nesting.h - what a thread holds of a store: views, and values that it reads from the map.
 *
 * A thread that holds one may begin to read again, although someone may be waiting to be alone
 * meanwhile; it must not wait for that one. A view or value may end in another thread than it began
 * in, even after that has gone.
 */
#ifndef KVFS_LMDB_NESTING_H
#define KVFS_LMDB_NESTING_H

#include <stdbool.h>

/* A view shares `changes` and the map; a value shares the map only. */
enum nesting_what { NESTING_VIEW, NESTING_VALUE, NESTING_COUNT };

struct nesting;

/* This thread's count for a store. NULL: out of memory. */
struct nesting *nesting_get(const void *store);

bool nesting_in_changes(const struct nesting *n);
bool nesting_in_map(const struct nesting *n);
void nesting_enter(struct nesting *n, enum nesting_what what);
void nesting_leave(struct nesting *n, enum nesting_what what);

#endif
