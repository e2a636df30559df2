/*
 * client.h - the calls of the Workers KV REST API, one function each, as a program wants them: they
 * wait for their answer, try again what is worth it, and say what is wrong.
 *
 * Model. A client speaks for one token to one collection of namespaces: those of an account, or
 * those of a development server that has no accounts. It owns one thread that does the transfers;
 * every function may be called by any thread at any time, and only the calling thread waits.
 *
 * Pace. Every request is paced by the quota that the server's answers tell (pacer.h): interactive
 * calls go before background ones, which leave a reserve to them. A request fails where it cannot
 * be answered: connection errors, 408, 409, 429 and 5xx are tried again, after 0.5 s, doubling to
 * 8 s, or when the server says. `timeout` bounds this, per request; what a background call waits
 * for quota is not counted.
 *
 * Belief. What the server sends is bounded and checked before anything of it is handed out: a reply
 * that breaks the protocol is -EIO as a whole. Bytes of values are exact.
 *
 * Errors, by meaning, the same from every function and for every item of those that take many:
 *
 *   -EACCES     the token is refused (401, 403)
 *   -ENODEV     no such namespace (or account)
 *   -ENOENT     no such key
 *   -EEXIST     a namespace has this title already
 *   -EFBIG      too large: a value over CLIENT_VALUE_MAX, or refused as too large (413)
 *   -ERANGE     metadata over CLIENT_METADATA_MAX
 *   -EINVAL     what no request can say (a key that is empty, too long, "." or ".."), or the server
 *               refuses as malformed (400), such as an expiration less than a minute ahead
 *   -EILSEQ     a key or a title that is not UTF-8
 *   -EDQUOT     the plan's quota of the day is used up
 *   -EAGAIN     this item of a bulk call was not carried out (unsuccessful_keys); the same call may
 *               succeed later
 *   -ETIMEDOUT  the server was not reached, or did not answer, within the timeout
 *   -ECANCELED  the client is being closed
 *   -EOPNOTSUPP a development server does not have the call
 *   -ENOMEM, -ENOSPC  here
 *   -EIO        anything else, and answers that are not to be believed
 *
 * Each but -ENOENT, -EAGAIN and -ECANCELED is logged here, in one line with call, key, status,
 * code, the server's words and what to do; repetitions are counted, not logged. The token is in
 * none of this.
 *
 * Bytes. Keys, titles and metadata are (pointer, length) and may hold NULs. Times are Unix seconds;
 * expiration 0 means never.
 */
#ifndef KVFS_CLOUDFLARE_CLIENT_H
#define KVFS_CLOUDFLARE_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/lock.h"
#include "backends/base/log.h"
#include "backends/blob.h"

enum {
	CLIENT_KEY_MAX = 512,
	CLIENT_VALUE_MAX = 25 * 1024 * 1024,
	CLIENT_METADATA_MAX = 1024,
	CLIENT_PAGE_MAX = 1000, /* keys of one page of a listing */
	CLIENT_BULK_GET_MAX = 100, /* keys of one bulk get */
	CLIENT_NS_ID_MAX = 64, /* bytes of a namespace's id */
};

/* Interactive: somebody waits for it, at a shell prompt. */
enum client_priority { CLIENT_INTERACTIVE, CLIENT_BACKGROUND };

/* Kinds of requests, for counting. */
enum client_call {
	CLIENT_NS_LIST,
	CLIENT_NS_CREATE,
	CLIENT_NS_RENAME,
	CLIENT_NS_DELETE,
	CLIENT_KEYS,
	CLIENT_GET,
	CLIENT_PUT,
	CLIENT_DELETE,
	CLIENT_BULK_GET,
	CLIENT_BULK_PUT,
	CLIENT_BULK_DELETE,
	CLIENT_CALLS
};

/* Where waiting gets its time, so that a test need not wait. now: nanoseconds that never go back.
 * wait: like pthread_cond_timedwait, until somebody signals or `deadline` has come (INT64_MAX: only
 * then); the lock is held before and after. `under_way`: requests are, so that a signal will come
 * in any case, and a test's clock should not jump to the deadline. */
struct client_clock {
	int64_t (*now)(void *arg);
	void (*wait)(void *arg, pthread_cond_t *cond, struct lock *lock, int64_t deadline,
		bool under_way);
	void *arg;
};

/* All strings are copied. */
struct client_config {
	/* NULL: https://api.cloudflare.com/client/v4. Else https://HOST[:PORT][/PATH]; plain http
	 * only where HOST is localhost or a loopback address. Without `account`, or where PATH ends
	 * in /explorer/api or in /storage/kv/namespaces (which is added where it does not), it is a
	 * development server, which has neither expiration nor bulk put and delete nor changes of
	 * namespaces. */
	const char *endpoint;
	const char *account; /* its id, or NULL */
	const char *token; /* NULL or "": none is sent */
	const char *ca_file; /* PEM file of the authorities to trust; NULL: the system's */
	double timeout; /* seconds; 0: 30 */
	struct blob_pool *blobs; /* where values that are read go; must outlive the client */
	void (*log)(void *arg, enum log_level level, const char *line); /* NULL: log_line() */
	void *log_arg;
	const struct client_clock *clock; /* NULL: CLOCK_MONOTONIC */
};

struct client;

/* Sends nothing yet. With a token, this process's core dumps hold no private memory from now on
 * (secret.h). -EINVAL (endpoint or account malformed, plain http elsewhere; logged),
 * -ENOMEM, -EIO (libcurl cannot do what is needed; logged). */
int client_open(const struct client_config *config, struct client **out);

/* Makes every call of every thread return soon, with -ECANCELED. For use before client_close(),
 * while other threads still have calls under way. Requests that were sent may take effect. */
void client_cancel(struct client *c);

/* No call is running. NULL is fine. */
void client_close(struct client *c);

bool client_has_bulk(const struct client *c); /* bulk put and delete; without: single requests */
bool client_has_expiration(const struct client *c); /* without: it is not sent, and never comes */

/* Namespaces. */

struct client_ns {
	char id[CLIENT_NS_ID_MAX + 1];
	const char *title; /* UTF-8, may hold NULs; lives as long as the list */
	size_t title_len;
};

/* All of them, every page, in the server's order. *list is one malloc'd block: free() it. */
int client_ns_list(struct client *c, enum client_priority prio, struct client_ns **list, size_t *n);

int client_ns_create(struct client *c, const void *title, size_t len, enum client_priority prio,
	char id[CLIENT_NS_ID_MAX + 1]);
int client_ns_rename(
	struct client *c, const char *id, const void *title, size_t len, enum client_priority prio);

/* Its keys go with it. */
int client_ns_delete(struct client *c, const char *id, enum client_priority prio);

/* Listings. */

struct client_key {
	const unsigned char *key;
	uint16_t len;
	int64_t expiration;
	const char *metadata; /* JSON without white space; NULL: none */
	size_t metadata_len;
};

struct client_page {
	struct client_key *keys; /* in byte order, each once */
	size_t n; /* 0 does not mean the end */
	char *cursor; /* where the next page begins; NULL: this was the last */
	void *memory; /* holds what `keys` points to */
};

/* What page is asked for. */
struct client_query {
	const void *prefix; /* every key begins with it */
	size_t prefix_len; /* 0 to CLIENT_KEY_MAX */
	const char *cursor; /* NULL: the first page */
	const void *after; /* with a cursor: the last key seen before it, which every key of the */
	size_t after_len; /* page must come after; length 0: none was seen */
	unsigned limit; /* 10 to CLIENT_PAGE_MAX; 0: the greatest */
};

int client_keys(struct client *c, const char *ns, const struct client_query *query,
	enum client_priority prio, struct client_page *out);
void client_page_release(struct client_page *page); /* *page is all zero afterwards */

/* Values. */

struct client_name {
	const void *key;
	size_t len;
};

/* How a result came. */
enum client_via {
	CLIENT_VIA_RAW, /* a request of its own: no metadata is known */
	CLIENT_VIA_BULK, /* bulk get */
	CLIENT_VIA_BOTH, /* metadata by bulk get; the value, which is not text, and the expiration by
			    a request of its own */
};

struct client_value {
	int error; /* 0 or -errno; all else is zero unless 0, but for `given_up` */
	bool given_up; /* -EAGAIN, since it would have to be asked for by itself */
	enum client_via via;
	struct blob *value; /* the caller's reference */
	int64_t expiration;
	bool metadata_known;
	char *metadata; /* malloc'd JSON without white space; NULL: none */
	size_t metadata_len;
};

void client_value_release(struct client_value *v); /* *v is all zero afterwards */

/* Gets `n` values by a request each, several at a time. out[i] is the result for keys[i]. 0 when
 * every result has error 0 or -ENOENT, else the first other error. */
int client_get(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	enum client_priority prio, struct client_value *out);

/* The same by bulk get with metadata (but with a development server, whose bulk get is not exact):
 * ceil(n / CLIENT_BULK_GET_MAX) requests, more where values are together too large, and one more for
 * each value that may not have survived as text. Keys that are given twice are asked for twice.
 * `ahead` (NULL: none): where it is set the value is not worth a request of its own; it ends with
 * -EAGAIN then, which is no error of the whole. So do all of these where an answer was longer than any
 * should be, or too large once `timeout` has passed. */
int client_bulk_get(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	const bool *ahead, enum client_priority prio, struct client_value *out);

/* Writing. */

struct client_item {
	const void *key;
	size_t key_len;
	struct blob *value; /* borrowed; nobody writes to it meanwhile */
	int64_t expiration;
	const char *metadata; /* valid JSON; NULL: none */
	size_t metadata_len;
};

/* Replaces value, expiration and metadata. */
int client_put(struct client *c, const char *ns, const struct client_item *item,
	enum client_priority prio);

/* Deleting an absent key is no error. */
int client_delete(
	struct client *c, const char *ns, const void *key, size_t len, enum client_priority prio);

/* Any number of items, no key twice, in as few requests as their number and size allow. results[i]
 * is what became of items[i]. Where the server refuses a whole request because of what it holds
 * (400, 413) it is divided until the culprits stand alone, or 32 more requests have been made. 0
 * when every result is 0, else the first other one. */
int client_bulk_put(struct client *c, const char *ns, const struct client_item *items, size_t n,
	enum client_priority prio, int *results);
int client_bulk_delete(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	enum client_priority prio, int *results);

/* What went on since the client was opened. */
struct client_stats {
	uint64_t requests[CLIENT_CALLS]; /* attempts that were sent, repeated ones included */
	uint64_t retries; /* of these, repeated ones */
	uint64_t sent, received; /* bytes of bodies */
	uint64_t rate_limited; /* 429s seen */
	uint64_t waits; /* requests that had to wait for quota */
	int64_t quota; /* requests per window; -1 while unknown */
	int64_t remaining; /* of these, left now, those under way taken off; -1 while unknown */
	int64_t reset_in; /* nanoseconds until the window ends; 0 while unknown */
	int64_t blocked_for; /* nanoseconds until the server wants to be asked again; 0: now */
	int64_t offline_since; /* when requests began to fail for want of an answer (clock.h,
				* nanoseconds since the epoch); 0: the last one was answered */
	char last_error[256]; /* the last log line about an error; "": none */
};

void client_stats(struct client *c, struct client_stats *out);

const char *client_call_name(enum client_call call); /* "bulk get" */

#endif
