/*
 * act.h - does a step on one of the two trees.
 *
 * An actor is what a worker process has open, on both sides alike. One thread.
 */
#ifndef KVFS_MODEL_ACT_H
#define KVFS_MODEL_ACT_H

#include <dirent.h>
#include <stddef.h>

#include "tests/model/step.h"

enum { SIDES = 2, SIDE_KVFS = 0, SIDE_PLAIN = 1 };

struct handle {
	int fd[SIDES]; /* -1: none */
	unsigned char *map[SIDES]; /* NULL: none */
	size_t map_len;
	int64_t map_off;
	unsigned map_flags; /* enum step_map; 0 when the descriptor is another file's by now */
	DIR *dir[SIDES]; /* NULL: none */
};

struct actor {
	const char *root[SIDES];
	struct handle handles[STEP_SLOTS];
	unsigned char *fill; /* STEP_LEN_MAX bytes, what a write writes */
	unsigned char *data[SIDES]; /* ACT_DATA_MAX bytes each, what a step read */
	bool exact_times; /* every change of the plain tree has a time of its own */
};

enum { ACT_DATA_MAX = 4 << 20 };

/* What a step brought. */
struct outcome {
	long rc;
	int err; /* errno where rc is -1, else 0 */
	size_t len; /* bytes in the actor's data[side], to be compared */
	const char *wrong; /* what must never be, on either side; NULL: nothing */
};

/* -errno: no memory. */
int actor_init(struct actor *a, const char *kvfs, const char *plain);

/* Closes everything that is open; the actor can be used on. */
void actor_close_all(struct actor *a);

/* Whether the step has what it needs: a slot that it refers to is filled. */
bool act_possible(const struct actor *a, const struct step *s);

/* Before both sides are done: prepares what they share. */
void act_begin(struct actor *a, const struct step *s);
void act(struct actor *a, int side, const struct step *s, struct outcome *out);

/* After both. */
void act_end(struct actor *a, const struct step *s);

/* The path in the tree; PATH_MAX bytes. */
const char *act_path(const struct actor *a, int side, const char *path, char *buf);

/* The parts of act() that live in files of their own. */
long act_on_map(struct actor *a, int side, const struct step *s, struct outcome *out);
long act_on_names(struct actor *a, int side, const struct step *s, struct outcome *out);
long act_on_attributes(struct actor *a, int side, const struct step *s, struct outcome *out);
long act_on_listing(struct actor *a, int side, const struct step *s, struct outcome *out);

#endif
