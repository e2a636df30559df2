/*
 * wb_kit.h - a write-back store over a fake remote one, and short verbs for its tests. Every verb
 * asserts that it went well, unless it says otherwise.
 *
 * Time stands still but for wbk_advance(). The uploader's thread runs only after wbk_watch();
 * without it a test calls wbk_pass() itself.
 */
#ifndef KVFS_WB_KIT_H
#define KVFS_WB_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/writeback/internal.h"
#include "tests/unit/fake_remote.h"

struct wbk {
	struct store *local, *st;
	struct writeback *wb;
	struct wb_ns *ns; /* "main" */
	struct fake remote;
	struct writeback_options opt;
	struct store_ops keeping; /* the local store's, without its close */
	struct blob_pool *pool;
	char folder[64]; /* of an LMDB store; empty: the local store is in memory */
};

/* cmocka's setup and teardown; the local store is in memory. */
int wbk_setup(void **state);
int wbk_teardown(void **state);
/* On LMDB. */
int wbk_setup_durable(void **state);

/* Closes and opens with k->opt on what the local store keeps. */
void wbk_reopen(struct wbk *k);
void wbk_close(struct wbk *k);
void wbk_open(struct wbk *k);

void wbk_advance(double seconds);

struct entry_id wbk_key(const struct wbk *k, const char *key);
void wbk_put(struct wbk *k, const char *key, const char *value);
void wbk_put_with(struct wbk *k, const char *key, const char *value, int64_t expiration,
	const char *metadata);
/* Attributes alone. */
void wbk_set(struct wbk *k, const char *key, int64_t expiration, const char *metadata);
void wbk_hold(struct wbk *k, const char *key);
void wbk_remove(struct wbk *k, const char *key);

/* store_ops.prepare, unasserted. */
int wbk_name(struct wbk *k, const char *key, const char *prefix);
int wbk_value(struct wbk *k, const char *key);
int wbk_tree(struct wbk *k, const char *prefix);
int wbk_list_from(struct wbk *k, const char *prefix, const char *from, struct want *want);
int wbk_list(struct wbk *k, const char *prefix);

/* What is shown now: the value ("-": no such key, "?": it is not here), the keys joined by blanks.
 */
const char *wbk_shown(struct wbk *k, const char *key);
const char *wbk_keys(struct wbk *k);
int64_t wbk_expiration(struct wbk *k, const char *key);
const char *wbk_metadata(struct wbk *k, const char *key);
const char *wbk_state(struct wbk *k, const char *key); /* "synced", "pending" or a reason */

/* Uploads what is due. */
int64_t wbk_pass(struct wbk *k);
/* Lets so much time pass that everything is due, and uploads it. */
void wbk_upload(struct wbk *k);
bool wbk_journal(struct wbk *k, const char *key, struct journal *j);

/* The uploader's thread runs, and the filesystem is told of changes: wbk_told() waits until it was
 * told of this key. */
void wbk_watch(struct wbk *k);

int wbk_run(const char *name, const struct CMUnitTest *tests, size_t n);

#define wbk_test(f) cmocka_unit_test_setup_teardown(f, wbk_setup, wbk_teardown)
#define wbk_test_durable(f) cmocka_unit_test_setup_teardown(f, wbk_setup_durable, wbk_teardown)

#endif
