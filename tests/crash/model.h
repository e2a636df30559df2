/*
 * model.h - what a tree of files should hold, as naive as can be: an array of things with their
 * paths.
 *
 * The tests of crashes and faults apply the same operations (plan.h) to it and to kvfs, and compare
 * what is found with it. Two models are equal when their digests are: sums of hashes of the things,
 * so that the digest of each moment of a history costs one pass over what is there.
 *
 * Threads: none of this locks, and contents are counted without atomics: a model, with its copies,
 * belongs to one thread at a time.
 */
#ifndef KVFS_TESTS_MODEL_H
#define KVFS_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { MODEL_PATH = 640, MODEL_TEXT = 48 };

/* Bytes that are counted, and never change. */
struct content {
	unsigned refs;
	size_t len;
	uint64_t hash;
	unsigned char bytes[];
};

struct thing {
	char path[MODEL_PATH]; /* without a slash at the beginning */
	uint32_t mode; /* type and permissions */
	struct content *value; /* of files, and a symbolic link's target; NULL: empty */
	int64_t expiration; /* 0: never */
	bool own_expiration, own_metadata; /* set by hand: a rename does not inherit over it */
	char metadata[MODEL_TEXT], note[MODEL_TEXT]; /* user.kv.metadata, user.note; "": none */
};

struct model {
	struct thing *things;
	size_t n, cap;
};

struct digest {
	uint64_t lo, hi;
};

/* `len` bytes that only this seed gives. */
struct content *content_new(uint64_t seed, size_t len);
struct content *content_of(const void *bytes, size_t len);
/* The same with `len` bytes at `off` replaced by those of the seed. */
struct content *content_patch(const struct content *c, uint64_t seed, size_t off, size_t len);
struct content *content_cut(const struct content *c, size_t len);
struct content *content_ref(struct content *c);
void content_unref(struct content *c);

void model_release(struct model *m);
void model_copy(const struct model *from, struct model *to); /* `to` is released first */

struct thing *model_find(const struct model *m, const char *path);
/* Takes the value's reference over. The pointer is good until the next thing is added. */
struct thing *model_add(struct model *m, const struct thing *t);
void model_remove(struct model *m, const char *path);
void model_expire(struct model *m, int64_t now);

bool path_below(const char *path, const char *dir); /* in it, at any depth */
bool model_has_below(const struct model *m, const char *dir);

struct digest model_digest(const struct model *m);
bool digest_equal(struct digest a, struct digest b);

/* Writes what differs, a few lines, to standard error. */
void model_compare(const struct model *want, const struct model *found);

#endif
