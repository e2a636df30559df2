/*
 * pending_table.h - the inside of the table of pending changes, for pending*.c only.
 */
#ifndef KVFS_PENDING_TABLE_H
#define KVFS_PENDING_TABLE_H

#include "backends/pending.h"

RB_HEAD(id_tree, pending_entry);
RB_HEAD(expiry_tree, pending_entry);

struct pending {
	struct id_tree entries;
	struct expiry_tree expiring; /* those with `expiry` set */
	struct pending_totals totals;
};

struct pending_entry *table_find(const struct pending *p, const struct entry_id *id);
struct pending_entry *table_seek(const struct pending *p, const struct entry_id *id);
struct pending_entry *table_first(const struct pending *p);
struct pending_entry *table_next(struct pending_entry *e); /* in the whole table */

struct pending_entry *table_entry_new(const struct entry_id *id); /* NULL: out of memory */
void table_entry_free(struct pending_entry *e);
void table_insert(struct pending *p, struct pending_entry *e);
void table_remove(struct pending *p, struct pending_entry *e);

/* Brings the sums and the order of expiry in line with the entry, after it has changed. `in`: it
 * is in the table (false: it has just been taken out). */
void table_account(struct pending *p, struct pending_entry *e, bool in);

struct pending_state table_state_copy(const struct pending_state *s); /* counts references */
void table_state_release(struct pending_state *s);
void table_set_record(struct pending_state *s, enum pending_part part, struct pending_rec *r);
void table_set_value(struct pending_state *s, enum pending_part part, struct blob *value);

void table_end_hold(struct pending_entry *e);

#endif
