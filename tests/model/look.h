/*
 * look.h - what a step left behind: the attributes of all that it named, on both sides.
 */
#ifndef KVFS_MODEL_LOOK_H
#define KVFS_MODEL_LOOK_H

#include <sys/stat.h>

#include "tests/model/act.h"

/* The path, the second path, their directories, what the two slots have open. */
enum { LOOK_PLACES = 6, LOOK_TEXT_MAX = 200 };

struct look {
	bool used;
	int err;
	struct stat st;
};

/* The places of one moment, on both sides. */
struct looks {
	struct look at[LOOK_PLACES][SIDES];
};

void look_take(const struct actor *a, const struct step *s, struct looks *out);

/* Compares the sides after a step; `before` (NULL: nobody looked) tells which times changed.
 * False: they differ, as `text` (LOOK_TEXT_MAX * 4 bytes) says. `worked`: the step's calls did. */
bool look_agree(const struct actor *a, const struct step *s, const struct looks *before,
	const struct looks *after, bool worked, char *text);

/* The attributes that both sides must agree upon, as text of LOOK_TEXT_MAX bytes. */
void look_print(const struct stat *st, char *text);

void look_sort_names(char **names, size_t n);

#endif
