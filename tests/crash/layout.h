/*
 * layout.h - whether an LMDB environment is what kvfs leaves there (backends/lmdb/lmdb.h), looked
 * at with LMDB alone.
 */
#ifndef KVFS_TESTS_LAYOUT_H
#define KVFS_TESTS_LAYOUT_H

/* Checks, for an environment that nobody has open and to which only kvfs has ever written:
 *
 *   - each key of a namespace has a record, each record of a key its value, whose size and hash
 *     are those in the record's stamp;
 *   - kvfs:expiry has an entry for each record that expires, and no other;
 *   - each head of long keys is there in both directions, and something needs it;
 *   - each id that occurs has a name in kvfs:meta.
 *
 * Returns how many of these do not hold, each with a line on standard error; -1: LMDB refuses. */
int layout_check(const char *dir);

#endif
