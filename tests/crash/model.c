#include "tests/crash/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SHOWN_MAX = 8 };

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* Where calls are made to fail, those for the model itself are not. */
extern void inject_quiet(bool on) __attribute__((weak));

static struct content *content_alloc(size_t len)
{
	if (inject_quiet)
		inject_quiet(true);
	struct content *c = must(malloc(sizeof(*c) + len));
	if (inject_quiet)
		inject_quiet(false);

	c->refs = 1;
	c->len = len;
	return c;
}

static void fill(unsigned char *to, uint64_t seed, size_t len)
{
	uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		to[i] = (unsigned char)(x >> i % 8 * 8);
	}
}

static struct content *content_done(struct content *c)
{
	c->hash = XXH3_64bits(c->bytes, c->len);
	return c;
}

struct content *content_new(uint64_t seed, size_t len)
{
	struct content *c = content_alloc(len);

	fill(c->bytes, seed, len);
	return content_done(c);
}

struct content *content_of(const void *bytes, size_t len)
{
	struct content *c = content_alloc(len);

	if (len)
		memcpy(c->bytes, bytes, len);
	return content_done(c);
}

struct content *content_cut(const struct content *c, size_t len)
{
	struct content *new = content_alloc(len);
	size_t kept = c ? (c->len < len ? c->len : len) : 0;

	if (kept)
		memcpy(new->bytes, c->bytes, kept);
	memset(new->bytes + kept, 0, len - kept);
	return content_done(new);
}

struct content *content_patch(const struct content *c, uint64_t seed, size_t off, size_t len)
{
	size_t old = c ? c->len : 0;
	struct content *new = content_cut(c, off + len > old ? off + len : old);

	fill(new->bytes + off, seed, len);
	return content_done(new);
}

struct content *content_ref(struct content *c)
{
	if (c)
		c->refs++;
	return c;
}

void content_unref(struct content *c)
{
	if (c && --c->refs == 0)
		free(c);
}

void model_release(struct model *m)
{
	for (size_t i = 0; i < m->n; i++)
		content_unref(m->things[i].value);
	free(m->things);
	*m = (struct model){0};
}

void model_copy(const struct model *from, struct model *to)
{
	model_release(to);
	for (size_t i = 0; i < from->n; i++) {
		struct thing t = from->things[i];

		content_ref(t.value);
		model_add(to, &t);
	}
}

struct thing *model_find(const struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->things[i].path, path) == 0)
			return &m->things[i];
	}
	return NULL;
}

struct thing *model_add(struct model *m, const struct thing *t)
{
	if (m->n == m->cap) {
		m->cap = m->cap ? 2 * m->cap : 16;
		m->things = must(realloc(m->things, m->cap * sizeof(*m->things)));
	}
	m->things[m->n] = *t;
	return &m->things[m->n++];
}

static void remove_at(struct model *m, size_t i)
{
	content_unref(m->things[i].value);
	m->things[i] = m->things[--m->n];
}

void model_remove(struct model *m, const char *path)
{
	struct thing *t = model_find(m, path);

	if (t)
		remove_at(m, (size_t)(t - m->things));
}

void model_expire(struct model *m, int64_t now)
{
	for (size_t i = m->n; i-- > 0;) {
		if (m->things[i].expiration && m->things[i].expiration <= now)
			remove_at(m, i);
	}
}

bool path_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return len == 0 || (strncmp(path, dir, len) == 0 && path[len] == '/');
}

bool model_has_below(const struct model *m, const char *dir)
{
	for (size_t i = 0; i < m->n; i++) {
		if (path_below(m->things[i].path, dir))
			return true;
	}
	return false;
}

/* All that can be seen of a thing, as text. */
static int describe(const struct thing *t, char *out, size_t cap)
{
	return snprintf(out, cap,
		"%s mode %o value %zu:%016llx expires %lld metadata \"%s\" note \"%s\"", t->path,
		t->mode, t->value ? t->value->len : 0,
		(unsigned long long)(t->value && t->value->len ? t->value->hash : 0),
		(long long)t->expiration, t->metadata, t->note);
}

struct digest model_digest(const struct model *m)
{
	struct digest sum = {0};

	for (size_t i = 0; i < m->n; i++) {
		char text[MODEL_PATH + 256];
		int len = describe(&m->things[i], text, sizeof(text));
		XXH128_hash_t h = XXH3_128bits(text, (size_t)len);

		sum.lo += h.low64;
		sum.hi += h.high64;
	}
	return sum;
}

bool digest_equal(struct digest a, struct digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* What is in one and not, or otherwise, in the other. */
static void compare_one_way(const struct model *a, const struct model *b, const char *label)
{
	char in_a[MODEL_PATH + 256], in_b[MODEL_PATH + 256];
	int shown = 0;

	for (size_t i = 0; i < a->n; i++) {
		const struct thing *t = model_find(b, a->things[i].path);

		describe(&a->things[i], in_a, sizeof(in_a));
		if (t)
			describe(t, in_b, sizeof(in_b));
		if (t && strcmp(in_a, in_b) == 0)
			continue;
		if (++shown > SHOWN_MAX)
			break;
		fprintf(stderr, "    %s: %s\n", label, in_a);
	}
}

void model_compare(const struct model *want, const struct model *found)
{
	compare_one_way(want, found, "expected");
	compare_one_way(found, want, "found   ");
}
