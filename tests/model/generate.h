/*
 * generate.h - the next random step.
 */
#ifndef KVFS_MODEL_GENERATE_H
#define KVFS_MODEL_GENERATE_H

#include "tests/model/rng.h"
#include "tests/model/step.h"

enum { GENERATE_KNOWN = 24 };

/* What a slot holds. */
enum slot_kind { SLOT_FILE, SLOT_MAP, SLOT_LISTING, SLOT_KINDS };

struct generator {
	struct rng rng;
	int workers;
	const char *top; /* a folder that all paths begin with, "" or "NAME/" */
	bool nasty; /* names that kvfs has to escape or to cut */
	bool dirty_maps; /* mappings may stay dirty from step to step */
	bool driver; /* the driver's steps too */
	bool drop; /* caches may be dropped */
	bool kvfs; /* what it refuses, or has no holes in, is tried */
	/* What is likely to be there: */
	bool filled[SLOT_KINDS][STEP_WORKERS_MAX][STEP_SLOTS];
	char known[GENERATE_KNOWN][STEP_PATH_MAX];
	unsigned next_known;
};

void generate(struct generator *g, struct step *out);

/* Tells how the step went, so that later ones refer to what it made. */
void generate_learn(struct generator *g, const struct step *s, bool done);

#endif
