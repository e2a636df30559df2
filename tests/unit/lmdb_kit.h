/*
 * lmdb_kit.h - what the tests of the LMDB store share: a store in a temporary folder, short ways to
 * use it, and "another program", a child process that uses LMDB alone.
 */
#ifndef KVFS_TESTS_LMDB_KIT_H
#define KVFS_TESTS_LMDB_KIT_H

#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/lmdb/lmdb.h"

enum { KIT_PATH = 128, NOW = 1000 };

struct kit {
	char top[KIT_PATH], dir[KIT_PATH], data[KIT_PATH], lock[KIT_PATH];
	struct lmdb_options opts;
	struct store *st; /* NULL: closed */
	const struct store_ops *ops;
	uint32_t ns; /* "main" */
	char why[256];
};

int kit_setup(void **state);
int kit_teardown(void **state);

int kit_try(struct kit *k); /* opens, or says in k->why why not */
void kit_open(struct kit *k); /* with the namespace "main" */
void kit_close(struct kit *k);
void kit_reopen(struct kit *k);

struct entry_id kit_id(struct kit *k, enum entry_kind kind, const char *bytes);
int kit_try_put(struct kit *k, const char *key, const void *value, size_t len, int64_t expiration);
void kit_put(struct kit *k, const char *key, const char *value);
int kit_drop(struct kit *k, const char *key);
void kit_sync(struct kit *k);
int kit_get(struct kit *k, const char *key, struct entry *e);
void kit_expect(struct kit *k, const char *key, const char *value); /* NULL: absent */

/* Lets another program work on the environment, in one transaction. The raw_ functions are for it.
 */
void kit_foreign(struct kit *k, void (*work)(MDB_txn *txn));
/* The same again and again, until the work does not end with an _exit() of its own: at most 20 s. */
void kit_await(struct kit *k, void (*work)(MDB_txn *txn));
MDB_dbi raw_open(MDB_txn *txn, const char *db, unsigned flags);
void raw_put(MDB_txn *txn, const char *db, unsigned flags, const char *key, const char *value);
size_t raw_count(MDB_txn *txn, const char *db);

/* lmdb_foreign.c, lmdb_hostile.c, lmdb_shared.c */
int lmdb_foreign_tests(void);
int lmdb_hostile_tests(void);
int lmdb_shared_tests(void);

#endif
