/*
 * recent.c - the keys that have been written within the last second: the remote store takes one
 * write a second of a key, whether it stores a value or removes one.
 *
 * Hashes are enough: one that two keys share makes the other wait for a second. It is in memory
 * only; after a restart the pace of what was under way is kept by `opened` (collect.c).
 */
#include <stdlib.h>
#include <xxhash.h>

#include "backends/base/clock.h"
#include "backends/writeback/parcel.h"

static const int64_t PACE = CLOCK_SECOND;

/* What was sent together. */
struct recent {
	struct recent *next;
	int64_t until;
	size_t n;
	uint64_t hashes[]; /* sorted */
};

static uint64_t hash_of(const struct parcel *p)
{
	return XXH3_64bits_withSeed(p->bytes, p->len, p->ns->keys);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* What lies further ahead was noted before a clock went back. */
static bool is_over(const struct recent *r, int64_t now)
{
	return r->until <= now || r->until > now + PACE;
}

int64_t wb_recent_until(const struct writeback *wb, const struct parcel *p, int64_t now)
{
	int64_t until = 0;

	if (!wb->recent)
		return 0;
	uint64_t hash = hash_of(p);
	for (const struct recent *r = wb->recent; r; r = r->next) {
		if (!is_over(r, now) && r->until > until &&
			bsearch(&hash, r->hashes, r->n, sizeof(hash), compare))
			until = r->until;
	}
	return until;
}

static void forget_old(struct writeback *wb, int64_t now)
{
	for (struct recent **at = &wb->recent; *at;) {
		struct recent *r = *at;

		if (!is_over(r, now)) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		free(r);
	}
}

void wb_recent_add(struct writeback *wb, const struct batch *b)
{
	int64_t now = clock_steady();
	struct recent *r = malloc(sizeof(*r) + b->n * sizeof(r->hashes[0]));

	forget_old(wb, now);
	if (!r) /* the server will say so */
		return;
	r->n = 0;
	for (size_t i = 0; i < b->n; i++) {
		if (!b->parcels[i].unsent && b->parcels[i].j.op)
			r->hashes[r->n++] = hash_of(&b->parcels[i]);
	}
	qsort(r->hashes, r->n, sizeof(r->hashes[0]), compare);
	r->until = now + PACE;
	r->next = wb->recent;
	wb->recent = r;
}

void wb_recent_free(struct writeback *wb)
{
	while (wb->recent) {
		struct recent *r = wb->recent;

		wb->recent = r->next;
		free(r);
	}
}
