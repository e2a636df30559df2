/*
 * damaged.c - a short list, looked through from its beginning: damage is rare.
 */
#include "backends/lmdb/damaged.h"

#include <xxhash.h>

#include "backends/base/log.h"

/* Whether the id is new to the list, which holds it then. 0: it is not; DAMAGED_MAX: the list is full
 * now. */
static size_t damaged_add(struct damaged *d, uint64_t hash)
{
	size_t is_new = 0;

	lock_take(&d->lock);
	for (size_t i = 0; i < d->n; i++) {
		if (d->said[i] == hash)
			goto out;
	}
	if (d->n < DAMAGED_MAX) {
		d->said[d->n++] = hash;
		is_new = d->n;
	}
out:
	lock_drop(&d->lock);
	return is_new;
}

void damaged_say(struct damaged *d, const char *dir, const struct entry_id *id)
{
	uint64_t seed = (uint64_t)id->ns << 1 | (uint64_t)id->kind;
	size_t is_new = damaged_add(d, XXH3_64bits_withSeed(id->bytes, id->len, seed));
	char shown[128];

	if (is_new)
		log_error(
			"%s: the record of %s is damaged: its attributes, expiration and metadata "
			"are lost; the next change of it writes a new one",
			dir, log_bytes(id->bytes, id->len, shown, sizeof(shown)));
	if (is_new == DAMAGED_MAX)
		log_error("%s: more records are damaged, which are not named here", dir);
}
