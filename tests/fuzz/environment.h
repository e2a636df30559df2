/*
 * environment.h - a small LMDB environment with something of everything in it, always the same, and
 * what a mount does with one, done to whatever has become of it.
 */
#ifndef KVFS_FUZZ_ENVIRONMENT_H
#define KVFS_FUZZ_ENVIRONMENT_H

#include <stddef.h>

#include <lmdb.h>

enum { ENVIRONMENT_DBS = 8 };

/* Names of the databases in it; the last one is the unnamed one (NULL). */
extern const char *const environment_dbs[ENVIRONMENT_DBS];
unsigned environment_flags(size_t db);

/* A folder for an environment, in memory where that can be; removed at the end. */
const char *environment_dir(void);

/* The bytes of the data file as it is made. */
const unsigned char *environment_bytes(size_t *size);

/* Makes these the bytes of the data file. */
void environment_set(const void *bytes, size_t size);

/* Opens it as another program does. */
MDB_env *environment_open(void);

/* Mounts it, as it were: looks at everything, changes something everywhere, and ends cleanly. What
 * cannot be opened is refused, and that is all. */
void environment_use(void);

void environment_demand(int holds, const char *what);

#endif
