/*
 * pending.h - changes that a store has accepted and not yet made durable: an ordered table in
 * memory, laid over what is stored.
 *
 * Model. An entry of the table overrides the stored entry of the same id: it is removed, or it is
 * present with a record and a value, each of which is the table's own, none at all, or "as stored".
 * A reader looks here first and asks the store for what is as stored.
 *
 * What is new is dirty, by parts (PENDING_REC, PENDING_VALUE). A commit collects everything dirty
 * at one moment into a batch, which is then in flight: the table goes on showing it, and takes
 * newer changes to it meanwhile. When the batch is stored, entries that were not dirtied again
 * leave the table; when it could not be stored, all of it is dirty again.
 *
 * Groups are numbered. A batch may stop at a group: it then holds the state of that moment, which
 * is known only where no entry was changed both before and after it.
 *
 * A held entry shows a value that is not complete: it is never collected. What was complete and
 * dirty when the hold began is kept beside it (`due`) and is collected, so that what has been
 * promised to be durable does not wait for the hold to end.
 *
 * Nothing here locks: whoever owns the table lets either many readers in or one writer.
 */
#ifndef KVFS_PENDING_H
#define KVFS_PENDING_H

#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/store.h"

enum { PENDING_REC = 1, PENDING_VALUE = 2, PENDING_BOTH = 3 };

enum pending_part {
	PENDING_STORED, /* as it is in the store */
	PENDING_OWN, /* the table's */
	PENDING_NONE, /* no record; an empty value */
};

/* A counted copy of a record with its extended attributes. */
struct pending_rec;

struct pending_state {
	bool removed;
	enum pending_part rec_part, value_part;
	struct pending_rec *rec_copy; /* PENDING_OWN */
	struct blob *value; /* PENDING_OWN */
};

/* Sums over the table. */
struct pending_totals {
	uint64_t count; /* entries */
	uint64_t bytes; /* of values, records and ids */
	uint64_t weight; /* the memory that they stand for: of a value in a file only a part */
	/* What storing them takes at most, in bytes: in pages with others, in pages of their own,
	 * and of these in runs of adjacent pages. */
	uint64_t small, large, runs;
};

/* Read it through a const pointer; only pending.c writes. */
struct pending_entry {
	RB_ENTRY(pending_entry) by_id;
	RB_ENTRY(pending_entry) by_expiry;
	struct entry_id id; /* its bytes follow the struct */
	struct pending_state state; /* what readers see */
	struct pending_state due; /* held: the newest complete state, where due_dirty */
	unsigned dirty, due_dirty; /* PENDING_REC, PENDING_VALUE */
	uint64_t first, last; /* groups that made it dirty */
	uint64_t due_first, due_last;
	/* The store's own number of the moment when its value (or removal) came in; 0: not known. */
	uint64_t base, due_base;
	bool held, in_flight;
	int error; /* -errno: it was left out of the last commit for this; 0: it was not */
	int64_t expiry; /* of the own record, nanoseconds; INT64_MAX: in no order of expiry */
	struct pending_totals cost; /* what it adds to the table's */
	unsigned char bytes[];
};

struct pending;

/* What a batch says of one entry. Its parts stay as they are until pending_finish(). */
struct pending_item {
	struct pending_entry *entry;
	struct pending_state state;
	unsigned what; /* the parts to be stored */
	uint64_t first, last;
	uint64_t base;
	bool overtaken; /* the store's: somebody else's value, which is newer, stays */
	int error; /* to be set where it alone could not be stored: -errno */
};

struct pending_batch {
	struct pending_item *items; /* in the order of the table */
	size_t n;
};

/* Adds what storing a value of this size takes. */
void pending_add_value(struct pending_totals *t, uint64_t size);

struct pending *pending_new(void); /* NULL: out of memory */
void pending_free(struct pending *p);

/* Applies a group, all or nothing. `seq` numbers it, and is greater than that of the last one;
 * `base` becomes that of the entries of which it changes the value.
 * -ENOMEM; -ENOENT: a PUT without a value of an entry that is removed. */
int pending_apply(
	struct pending *p, const struct change *changes, size_t n, uint64_t seq, uint64_t base);

const struct pending_totals *pending_totals(const struct pending *p);

/* The record of a state with rec_part PENDING_OWN. */
const struct record *pending_record(const struct pending_state *s);

/* The stored value that this record was made for (change.seen); all zero: nobody has said. */
const struct value_stamp *pending_seen(const struct pending_state *s);

/* The entry of this id, NULL where there is none. */
const struct pending_entry *pending_find(const struct pending *p, const struct entry_id *id);

/* The first entry of id's namespace and kind at or after id's bytes; the one after `e` in the same
 * namespace and kind. Removed ones are entries too. NULL: none. */
const struct pending_entry *pending_seek(const struct pending *p, const struct entry_id *id);
const struct pending_entry *pending_next(const struct pending_entry *e);

/* Entries whose own record expires at some time, in the order of their expiry. */
const struct pending_entry *pending_first_expiring(const struct pending *p);
const struct pending_entry *pending_next_expiring(const struct pending_entry *e);

/* Takes everything that the groups up to `upto` made dirty into a batch, marks it in flight. At
 * most one batch at a time. `upto`: UINT64_MAX, or what pending_cut() gave. -ENOMEM. */
int pending_collect(struct pending *p, uint64_t upto, struct pending_batch *batch);

/* The last group of the longest batch of at most `max` entries that holds the state of one moment,
 * or of the shortest such batch if that has more. -ENOMEM; -ENOENT: nothing is dirty. */
int pending_cut(struct pending *p, size_t max, uint64_t *upto);

/* Ends the flight of a batch, and frees what the batch holds. Items with an error have not been
 * stored. */
void pending_finish(struct pending *p, struct pending_batch *batch, bool stored);

/* The first error of what was left out of the last commit; 0: nothing was. */
int pending_error(const struct pending *p);

/* Drops all that is held: what was complete before stays. No batch is in flight. */
void pending_drop_holds(struct pending *p);

/* Whether a namespace will not be empty once the batch in flight is stored: a key is held or newer
 * than that. */
bool pending_outlives_in(const struct pending *p, uint32_t ns);

/* Forgets every entry of a namespace. No batch is in flight. */
void pending_forget(struct pending *p, uint32_t ns);

/* Renames entries as store_ops.move_tree does, as far as they will outlive the batch in flight.
 * pending_move_check() says beforehand whether each name fits (-ENAMETOOLONG, -EINVAL) and whether
 * there is memory (-ENOMEM), and *plan holds what it found until pending_move(), which cannot fail,
 * or pending_move_cancel(). In between only pending_finish() changes the table. */
struct pending_move_plan;
int pending_move_check(struct pending *p, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now, struct pending_move_plan **plan);
void pending_move(struct pending *p, struct pending_move_plan *plan);
void pending_move_cancel(struct pending_move_plan *plan);

#endif
