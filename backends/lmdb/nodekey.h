/*
 * nodekey.h - what an entry is called in our own databases.
 *
 * Packed: u32 big-endian id of the namespace, a byte for the kind, the entry's bytes. LMDB's keys
 * have at most 511 bytes; where that is too little, the first 490 bytes of the entry (the head) are
 * given a number in kvfs:heads, and the packed form is: id, kind | 0x80, u64 big-endian number, the
 * rest (the tail). So entries of one namespace and kind stand in byte order, the long ones apart
 * from the others, in order within each head; the heads themselves are in byte order in kvfs:heads:
 *
 *   id, kind, head          -> u64 number
 *   0xffffffff, number      -> id, kind, head
 *
 * Values of keys that are too long for LMDB are in kvfs:long under the packed form.
 */
#ifndef KVFS_LMDB_NODEKEY_H
#define KVFS_LMDB_NODEKEY_H

#include "backends/lmdb/internal.h"

enum {
	NODEKEY_HEAD = 490,
	NODEKEY_PREFIX = 5, /* id and kind */
	NODEKEY_LONG_PREFIX = 13, /* and a head's number */
	NODEKEY_LONG = 0x80,
	NODEKEY_SHORT_MAX = ENV_KEY_MAX - NODEKEY_PREFIX,
};

struct nodekey {
	size_t len;
	unsigned char bytes[ENV_KEY_MAX];
};

/* -ENOENT: nothing of ours can be there (no id, no such head). `create`: make the head. */
int nodekey_make(struct txn *t, const struct ns *ns, const struct entry_id *id, bool create,
	struct nodekey *out);

/* id and kind, for walking. */
void nodekey_prefix(uint32_t ns_id, unsigned kind, unsigned char out[NODEKEY_PREFIX]);

/* The namespace's id of a packed key. */
uint32_t nodekey_ns(const unsigned char *key);

/* The namespace's id, the kind and the bytes of a packed key. -EIO (logged): it is none. */
int nodekey_parse(struct txn *t, const MDB_val *key, uint32_t *ns_id, enum entry_kind *kind,
	unsigned char bytes[STORE_PREFIX_MAX], size_t *len);

/* Removes the head of a long packed key when nothing is left below it. */
int nodekey_release_head(struct txn *t, const struct nodekey *key);

/* Walks the long entries of a namespace and kind, in byte order. */
struct longwalk {
	struct txn *txn;
	MDB_dbi dbi; /* kvfs:long for values of keys, kvfs:nodes for records */
	uint32_t ns_id;
	enum entry_kind kind;
	MDB_cursor *heads, *tails; /* NULL: there are none */
	size_t len;
	unsigned char bytes[STORE_PREFIX_MAX];
	MDB_val data; /* of the entry found */
};

int longwalk_open(struct longwalk *w, struct txn *t, const struct ns *ns, enum entry_kind kind);
int longwalk_seek(struct longwalk *w, const void *from, size_t len); /* -ENOENT: none */
void longwalk_close(struct longwalk *w);

#endif
