/*
 * node.h - one stored entry, in one transaction: its value, its record, its place in the order of
 * expiry.
 *
 * A record in kvfs:nodes begins with a stamp: the size and hash of the value that it was written
 * for, and the transaction in which the two were last known to belong together. As long as no other
 * program has committed since then, they still do; afterwards size and hash tell.
 */
#ifndef KVFS_LMDB_NODE_H
#define KVFS_LMDB_NODE_H

#include "backends/lmdb/internal.h"
#include "backends/lmdb/nodekey.h"

struct node_stamp {
	uint64_t size, hash; /* of the value; 0 for ENTRY_DIR */
	uint64_t txn;
};

/* -ENOENT: there is none, or it is damaged (logged once). `rec->xattrs` points into the map. */
int node_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	struct node_stamp *stamp, struct record *rec);

/* The same where records are taken in the order of their names: a cursor that moves along. Begins as
 * all zero; closed before the transaction ends. `stamp` NULL: only rec->flags, mode and ino are set. */
struct recordwalk {
	MDB_cursor *cursor;
	bool at; /* it stands at `key` */
	MDB_val key, data;
};

int recordwalk_get(struct recordwalk *w, struct lmdb_store *st, struct txn *t, const struct ns *ns,
	const struct entry_id *id, struct node_stamp *stamp, struct record *rec);
void recordwalk_close(struct recordwalk *w);

/* The value of a key; valid as long as the transaction, and until it writes. */
int node_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id, MDB_val *value);

/* Whether the value is another one than the record was written for. */
bool node_touched(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp, const MDB_val *value);

/* Whether a record that has expired says nothing of the value that is there now: another program
 * has written it, and nobody has looked since. It may well have come after the expiry, as a new
 * key; so it is one. */
bool node_outlived(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp);

/* In write transactions. put_value fills in the stamp; a NULL blob is an empty value. */
int node_put_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct blob *blob, struct node_stamp *stamp);
int node_put_bytes(
	struct lmdb_store *st, struct txn *t, const struct entry_id *id, const MDB_val *value);
int node_put_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id,
	const struct node_stamp *stamp, const struct record *rec);
int node_remove_value(struct lmdb_store *st, struct txn *t, const struct entry_id *id);
int node_remove_record(struct lmdb_store *st, struct txn *t, const struct entry_id *id);
int node_remove(struct lmdb_store *st, struct txn *t, const struct entry_id *id);

/* The stamp of a value as it is in the transaction. */
struct node_stamp node_stamp_of(struct txn *t, const MDB_val *value);

/* The place of an entry in kvfs:expiry: when, and by what name. */
void expiry_key(int64_t expiry, unsigned char out[8]);
int64_t expiry_from_key(const MDB_val *key);

/* The first entry of kvfs:expiry; INT64_MAX: none. */
int64_t expiry_first(struct txn *t);

#endif
