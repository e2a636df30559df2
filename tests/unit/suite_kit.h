/*
 * suite_kit.h - short verbs for the tests of the store suite. Every verb asserts that it went well.
 */
#ifndef KVFS_SUITE_KIT_H
#define KVFS_SUITE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_suite.h"

/* What a test gets as its state: an empty store with one namespace, "main". */
struct kit {
	struct store_fixture *f;
	struct store *st;
	uint32_t ns;
	int views; /* open ones: a test that fails leaves some */
};

#define SECOND INT64_C(1000000000)
#define NOW_S INT64_C(1764000000)
#define NOW (NOW_S * SECOND)

/* Ids in "main"; the bytes are borrowed. */
struct entry_id kit_key(const struct kit *k, const char *key);
struct entry_id kit_dir(const struct kit *k, const char *prefix);
struct entry_id kit_id(uint32_t ns, enum entry_kind kind, const void *bytes, size_t len);

/* A record in which no two fields are alike, with a new inode number. */
struct record kit_record(struct kit *k);

/* A record with that expiration. */
struct record kit_expiring(struct kit *k, int64_t expiration);

struct blob *kit_blob(struct kit *k, const void *data, size_t len);

/* A group of one. `text` and `rec` may be NULL. */
void kit_put(struct kit *k, struct entry_id id, const struct record *rec, const char *text);
void kit_hold(struct kit *k, struct entry_id id, const struct record *rec, const char *text);
void kit_remove(struct kit *k, struct entry_id id);
void kit_sync(struct kit *k);

/* store_ops.apply, unasserted. */
int kit_apply(struct kit *k, const struct change *changes, size_t n);

struct view *kit_view(struct kit *k, int64_t now);
void kit_view_end(struct kit *k, struct view *v);

/* store_ops.view_get in a view of its own; the extended attributes are not given. */
int kit_get(struct kit *k, struct entry_id id, int64_t now, struct entry *out);

bool kit_exists(struct kit *k, struct entry_id id, int64_t now);
void kit_expect_value(struct kit *k, struct entry_id id, const char *text);
void kit_expect_bytes(struct kit *k, struct entry_id id, const void *data, size_t len);
void kit_expect_record(struct kit *k, struct entry_id id, const struct record *rec);
void kit_expect_absent(struct kit *k, struct entry_id id);

/* What a scan of "main" finds: the entries joined by blanks. */
void kit_expect_list(struct kit *k, enum entry_kind kind, int64_t now, const char *joined);
void kit_expect_list_of(struct kit *k, uint32_t ns, enum entry_kind kind, const char *joined);

/* Closes and opens the store, where it keeps anything; false where not. */
bool kit_reopen(struct kit *k);

/* The tests of each part. */
extern const struct CMUnitTest suite_entries[], suite_values[], suite_expiry[], suite_scans[],
	suite_namespaces[], suite_moves[], suite_random[], suite_threads[];
extern const size_t suite_entries_count, suite_values_count, suite_expiry_count, suite_scans_count,
	suite_namespaces_count, suite_moves_count, suite_random_count, suite_threads_count;

#define SUITE_PART(part, ...)                                                                      \
	const struct CMUnitTest suite_##part[] = {__VA_ARGS__};                                    \
	const size_t suite_##part##_count = sizeof(suite_##part) / sizeof(suite_##part[0])

#endif
