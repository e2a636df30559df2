#include "fs/core/trail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIL_BYTES_MAX = 4 << 20 };

void trail_release(struct trail *t)
{
	free(t->starts);
	free(t->bytes);
}

void trail_clear(struct trail *t)
{
	t->count = t->used = 0;
}

static size_t place_size(const struct place *p)
{
	return offsetof(struct place, bytes) + p->len;
}

/* Forgets the older half. */
static void trail_shorten(struct trail *t)
{
	size_t drop = t->count / 2, from = drop < t->count ? t->starts[drop] : t->used;

	memmove(t->bytes, t->bytes + from, t->used - from);
	memmove(t->starts, t->starts + drop, (t->count - drop) * sizeof(t->starts[0]));
	t->used -= from;
	t->count -= drop;
	t->first += drop;
	for (size_t i = 0; i < t->count; i++)
		t->starts[i] -= (uint32_t)from;
}

static int trail_grow(struct trail *t, size_t size)
{
	if (t->used + size > t->size) {
		size_t want = t->size ? t->size * 2 : 4096;
		unsigned char *bytes = realloc(t->bytes, want);

		if (!bytes)
			return -ENOMEM;
		t->bytes = bytes;
		t->size = want;
	}
	if (t->count == t->cap) {
		size_t want = t->cap ? t->cap * 2 : 64;
		uint32_t *starts = realloc(t->starts, want * sizeof(starts[0]));

		if (!starts)
			return -ENOMEM;
		t->starts = starts;
		t->cap = want;
	}
	return 0;
}

int trail_add(struct trail *t, uint64_t pos, const struct place *at)
{
	size_t size = place_size(at);

	if (t->used + size > TRAIL_BYTES_MAX)
		trail_shorten(t);
	int rc = trail_grow(t, size);
	if (rc)
		return rc;
	if (!t->count)
		t->first = pos;
	memcpy(t->bytes + t->used, at, size);
	t->starts[t->count++] = (uint32_t)t->used;
	t->used += size;
	return 0;
}

bool trail_back(struct trail *t, uint64_t pos, struct place *at)
{
	if (pos < t->first || pos - t->first >= t->count)
		return false;
	t->count = pos - t->first;
	t->used = t->starts[t->count];
	memcpy(at, t->bytes + t->used, offsetof(struct place, bytes));
	memcpy(at->bytes, t->bytes + t->used + offsetof(struct place, bytes), at->len);
	return true;
}
