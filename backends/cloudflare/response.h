/*
 * response.h - what the API's answers say, or that they are not to be believed.
 *
 * Pure. Every function reads the body of one answer with status 200, decoding it where it stands:
 * what it gives out points into `body`, and the body cannot be read again. 0, -EBADMSG (the answer
 * breaks the protocol; response.why says how), -EREMOTEIO (a well-formed "success": false; code and
 * message are the server's), or -ENOMEM; outputs are untouched then.
 *
 * What is interpreted is checked: a member given twice, a wrong type, a key that does not belong
 * there, one too many. Members that are not known are skipped. Metadata is handed on as it is
 * written, white space aside: JSON from others that is no business of ours.
 */
#ifndef KVFS_CLOUDFLARE_RESPONSE_H
#define KVFS_CLOUDFLARE_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/cloudflare/client.h"
#include "backends/cloudflare/jread.h"

enum { RESPONSE_MESSAGE = 160, RESPONSE_TITLE_MAX = 2048, RESPONSE_CURSOR_MAX = 4096 };

/* What went wrong. */
struct response {
	const char *why; /* of -EBADMSG */
	int64_t code; /* the first of the answer's errors; 0: none */
	char message[RESPONSE_MESSAGE]; /* its words, printable; "": none */
};

struct response_ns {
	struct jread_text id, title;
};

/* A page of namespaces, at most `max` into `list`. *total: how many there are in all; -1 where the
 * answer does not say. */
int response_ns_list(struct response *r, char *body, size_t len, struct response_ns *list,
	size_t max, size_t *n, int64_t *total);

/* The id of a namespace that was made. */
int response_ns_id(struct response *r, char *body, size_t len, char id[CLIENT_NS_ID_MAX + 1]);

/* Success, whatever the result. */
int response_done(struct response *r, char *body, size_t len);

/* A page of keys: in order, each after query->after and with the prefix, no more than the limit.
 * *keys is malloc'd (NULL for an empty page), *cursor as well (NULL: the end). */
int response_keys(struct response *r, char *body, size_t len, const struct client_query *query,
	struct client_key **keys, size_t *n, char **cursor);

enum response_state {
	RESPONSE_MISSING, /* the answer does not mention the key: nothing is known */
	RESPONSE_ABSENT,
	RESPONSE_EXACT,
	RESPONSE_INEXACT, /* U+FFFD is in it, or U+FEFF at its start: it may have been something
			   * else */
};

struct response_value {
	enum response_state state;
	struct jread_text value;
	bool detailed; /* metadata and expiration are known */
	int64_t expiration;
	struct jread_text metadata; /* length 0: none */
};

/* values[i] is for keys[i]. */
int response_bulk_get(struct response *r, char *body, size_t len, const struct client_name *keys,
	size_t n, struct response_value *values);

/* The keys of a bulk put or delete of `n` items that were not carried out: at most n into `failed`.
 * `all_counted`: successes and failures must add up to n. */
int response_bulk(struct response *r, char *body, size_t len, size_t n, bool all_counted,
	struct jread_text *failed, size_t *n_failed);

/* Reads code and message of an answer that is no success, if they can be found: it may come from
 * anyone on the way, in any form. */
void response_refusal(struct response *r, char *body, size_t len);

/* What a refusal means: -errno as in client.h. */
int response_errno(enum client_call call, long status, const struct response *r);

/* Whether asking again may help. */
bool response_retryable(long status, const struct response *r);

/* Whether the token's rate limit has been passed, not only that of a key or a day. */
bool response_rate_limited(long status, const struct response *r);

#endif
