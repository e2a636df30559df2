/*
 * remote.h - the store at the other end, as the write-back cache needs it: calls that may take
 * long, may fail because nobody answers, and are counted by whoever runs the server.
 *
 * Threads: every function by any thread, several at once. Nothing is retried above: an
 * implementation tries again itself as long as that makes sense.
 *
 * Errors: of each function, and of each result of those that take many: -ENOENT (no such key),
 * -ENODEV (no such namespace), -ETIMEDOUT (nobody answered), -ECANCELED (remote_ops.cancel),
 * -EAGAIN (this one was not carried out; the same may succeed later), -EACCES, -EDQUOT, -EIO;
 * -EFBIG, -EINVAL, -ERANGE, -EILSEQ: it will never be accepted. An implementation logs them.
 */
#ifndef KVFS_REMOTE_H
#define KVFS_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "backends/blob.h"

enum { REMOTE_ID_MAX = 64, REMOTE_GET_MAX = 100 };

/* One key of a listing. Valid as long as its page. */
struct remote_key {
	const unsigned char *bytes;
	size_t len;
	int64_t expiration; /* Unix seconds; 0: never */
	const char *metadata; /* JSON text; NULL: none */
	size_t metadata_len;
};

struct remote_page {
	struct remote_key *keys; /* in byte order */
	size_t n;
	char *cursor; /* malloc'd; NULL: this page ends the listing */
	void *memory; /* the implementation's, freed by page_release */
};

struct remote_name {
	const unsigned char *bytes;
	size_t len;
};

struct remote_value {
	bool exact; /* set by the caller: it is wanted by a way that keeps every byte, which need not
		       know metadata and expiration */
	bool ahead; /* set by the caller: it is not worth a request of its own; -EAGAIN then */
	bool alone; /* it takes, or took, a request of its own */
	int error; /* 0, -ENOENT, ...; the rest is set where it is 0 */
	struct blob *value; /* a reference of the caller's */
	int64_t expiration;
	bool metadata_known;
	char *metadata; /* malloc'd; NULL: none */
	size_t metadata_len;
};

struct remote_item {
	struct remote_name key;
	struct blob *value; /* borrowed */
	int64_t expiration;
	const char *metadata;
	size_t metadata_len;
};

struct remote_ns {
	char id[REMOTE_ID_MAX + 1];
	const char *title;
	size_t title_len;
};

struct remote;

struct remote_ops {
	/* The key `after` (len 0: none) was the last of the page that gave the cursor. */
	int (*list)(struct remote *r, const char *ns, const struct remote_name *prefix,
		const char *cursor, const struct remote_name *after, struct remote_page *out);
	void (*page_release)(struct remote_page *page);

	/* Up to REMOTE_GET_MAX values, with metadata and expiration. 0 where out[] is filled. Before,
	 * all of it is zero but `exact` and `ahead`. */
	int (*get)(struct remote *r, const char *ns, const struct remote_name *keys, size_t n,
		bool background, struct remote_value *out);

	/* Each replaces value, expiration and metadata; each removes. results[i]: what became of
	 * the i-th. Always in the background. */
	void (*put)(struct remote *r, const char *ns, const struct remote_item *items, size_t n,
		int *results);
	void (*remove)(struct remote *r, const char *ns, const struct remote_name *keys, size_t n,
		int *results);

	/* Every namespace; *list is one block, to be freed. */
	int (*namespaces)(struct remote *r, struct remote_ns **list, size_t *n);
	int (*ns_create)(
		struct remote *r, const void *title, size_t len, char id[REMOTE_ID_MAX + 1]);
	int (*ns_rename)(struct remote *r, const char *id, const void *title, size_t len);
	int (*ns_remove)(struct remote *r, const char *id);

	/* Lines "name=value" about requests and quota. */
	void (*describe)(struct remote *r, FILE *out);

	/* Makes every call return soon, now and from now on. */
	void (*cancel)(struct remote *r);
	void (*close)(struct remote *r); /* no call is running */
};

struct remote {
	const struct remote_ops *ops;
	uint64_t value_max; /* bytes */
	size_t metadata_max;
	int64_t ttl_min; /* seconds */
	bool expiring; /* it can store expirations at all */
};

#endif
