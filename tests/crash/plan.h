/*
 * plan.h - operations on a tree, chosen at random from what a model holds, each of which kvfs must
 * do as one step: it has happened as a whole or not at all.
 *
 * A plan is deterministic: the same seed and the same model give the same operations, so a history
 * is told by a number. Only operations that must succeed are chosen.
 */
#ifndef KVFS_TESTS_PLAN_H
#define KVFS_TESTS_PLAN_H

#include "tests/crash/model.h"

enum op_kind {
	OP_PUT, /* a whole value, into a new file or an existing one */
	OP_PUT_SYNC, /* the same with fsync before close */
	OP_PATCH, /* a write somewhere in an existing one */
	OP_TRUNCATE,
	OP_UNLINK,
	OP_MKDIR,
	OP_RMDIR,
	OP_RENAME,
	OP_EXCHANGE,
	OP_CHMOD,
	OP_NOTE, /* user.note; "" removes it */
	OP_METADATA,
	OP_EXPIRE, /* user.kv.expiration; 0 removes it */
	OP_SYMLINK,
	OP_FSYNC,
	OP_KINDS
};

struct op {
	enum op_kind kind;
	char a[MODEL_PATH], b[MODEL_PATH]; /* b: where a rename goes */
	uint64_t seed; /* of the content */
	size_t off, len;
	uint32_t mode;
	int64_t expiration;
	char text[MODEL_TEXT]; /* the attribute's value, the link's target */
};

struct plan {
	uint64_t random; /* not 0 */
	uint64_t number; /* operations so far */
	const char *top; /* what the names of this plan's namespaces begin with */
	int64_t now; /* seconds; it stands still while the plan runs */
	size_t large; /* bytes of the largest value */
};

uint64_t plan_random(uint64_t *state, uint64_t below);
void plan_next(struct plan *p, const struct model *m, struct op *op);

/* What the operation does. False: it is not one that must succeed, and nothing was done. */
bool plan_apply(struct model *m, const struct op *op);

const char *op_text(const struct op *op); /* for people; valid until the thread's next call */

#endif
