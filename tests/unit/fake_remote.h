/*
 * fake_remote.h - a remote store in memory, whose answers a test decides: old ones, failures, empty
 * pages. It writes down what it was asked for.
 *
 * Threads: as remote.h says; the fields below are set while nobody asks.
 */
#ifndef KVFS_FAKE_REMOTE_H
#define KVFS_FAKE_REMOTE_H

#include <pthread.h>
#include <stdatomic.h>

#include "backends/writeback/remote.h"

enum { FAKE_KEYS = 12000, FAKE_NAMESPACES = 16, FAKE_LOG = 1 << 16 };

struct fake_item {
	char ns[8], key[520];
	char *value, *metadata; /* NULL: no metadata */
	size_t len;
	int64_t expiration;
};

struct fake_items {
	struct fake_item *list; /* sorted */
	size_t n, cap;
};

struct fake {
	struct remote base; /* first: what writeback_open takes */
	pthread_mutex_t lock;
	struct fake_items now, old;
	bool stale; /* reads answer with what was there at fake_freeze() */
	struct remote_ns namespaces[FAKE_NAMESPACES];
	size_t namespaces_n;
	unsigned ids; /* given to namespaces so far */

	size_t page_size; /* keys of a page */
	unsigned empty_pages; /* so many pages before the first are empty */
	bool raw; /* get tells no metadata */
	unsigned raws; /* values that took a request each: with a byte 0xff, or wanted exactly */
	bool disorder; /* pages come in the wrong order */
	atomic_int fail; /* -errno of every call; set at any time */
	const char *refused; /* this key is refused ... */
	int refusal; /* ... with this by put, remove and get */
	/* Called before and after each request was worked at. */
	void (*before)(struct fake *f, const char *op), (*after)(struct fake *f, const char *op);
	void *arg;

	char log[FAKE_LOG]; /* "list p; get a b; put a" */
	size_t log_len;
	atomic_int requests, closed;
};

void fake_init(struct fake *f);
void fake_free(struct fake *f);

/* What other clients do. */
void fake_put(struct fake *f, const char *key, const char *value);
void fake_put_with(struct fake *f, const char *key, const char *value, int64_t expiration,
	const char *metadata);
void fake_drop(struct fake *f, const char *key);

/* "" where there is none. */
const char *fake_value(struct fake *f, const char *key);
const struct fake_item *fake_find(struct fake *f, const char *key);

/* From now on reads answer with what is there at this moment; until fake_thaw(). */
void fake_freeze(struct fake *f);
void fake_thaw(struct fake *f);

/* The requests since the last call. */
const char *fake_log(struct fake *f);

#endif
