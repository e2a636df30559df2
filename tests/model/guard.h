/*
 * guard.h - steps that the two trees cannot agree upon by their nature, and are left out.
 */
#ifndef KVFS_MODEL_GUARD_H
#define KVFS_MODEL_GUARD_H

#include "tests/model/act.h"

/* Whether the step may be done, as the plain tree is now. */
bool guard_allows(const struct actor *a, const struct step *s);

#endif
