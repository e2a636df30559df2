/*
 * journal.h - what has been changed here and not been taken to the remote store yet: one entry for
 * a key, whatever happened to it since. What is to be sent is what the local store has of the key
 * when its time comes.
 *
 * Entries are in the local store, in a namespace of their own beside that of the keys, and are
 * written in the same group as the change; so both are there after a crash, or neither.
 *
 * Pure, but for the calls that go to the local store.
 */
#ifndef KVFS_JOURNAL_H
#define KVFS_JOURNAL_H

#include "backends/store.h"

enum journal_op { JOURNAL_PUT = 1, JOURNAL_REMOVE = 2 };

struct journal {
	enum journal_op op;
	bool remote_has; /* there is, or may be, a value there */
	bool base_known; /* `base` is set */
	bool failed; /* it will never succeed as it is: `error` says why */
	uint64_t seq; /* counts changes: whether there was another one meanwhile */
	uint64_t first; /* of the oldest change that has not been uploaded */
	int64_t changed; /* when, by clock_steady() */
	int64_t not_before; /* when it may be sent; moved by failures */
	uint64_t base; /* hash of the remote value that the change began from; 0: none */
	uint32_t tries;
	int error; /* -errno of the last attempt; 0: none yet */
};

enum { JOURNAL_SIZE = 3 + 5 * 8 + 2 * 4 };

void journal_pack(const struct journal *j, unsigned char out[JOURNAL_SIZE]);
/* -EBADMSG */
int journal_unpack(const void *bytes, size_t len, struct journal *out);

/* The entry of a key in journal namespace `ns`. -ENOENT: the key is in step. */
int journal_get(struct store *local, uint32_t ns, const struct entry_id *key, struct journal *out);

/* The change that writes the entry down: *value is its own reference of it, to be released after
 * the change was applied. */
int journal_put(struct store *local, uint32_t ns, const struct entry_id *key,
	const struct journal *j, struct change *out);
void journal_drop(uint32_t ns, const struct entry_id *key, struct change *out);

/* What an errno says of an upload. */
const char *journal_reason(int error);

/* Whether a failure of this kind will not be mended by trying again. */
bool journal_is_final(int error);

#endif
