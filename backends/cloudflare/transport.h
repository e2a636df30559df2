/*
 * transport.h - HTTP: sends a request, receives the answer. The only user of libcurl.
 *
 * One thread carries all transfers of a transport, over connections that are kept: HTTP/2 with many
 * streams where the server offers it (TLS), else several HTTP/1.1 connections.
 *
 * The token goes into the Authorization header and nowhere else. TLS is verified. Redirects are not
 * followed: they are answers like others. To a loopback address nothing goes through a proxy; for
 * others https_proxy and no_proxy in the environment count, and the proxy carries TLS that ends at
 * the server. No other file or variable (.netrc, cookies, HSTS lists) has a part in it.
 *
 * An answer is taken only whole: cut off before its end, with an end that nothing marks, encoded
 * without having been asked for, or longer than allowed, it is an error.
 */
#ifndef KVFS_CLOUDFLARE_TRANSPORT_H
#define KVFS_CLOUDFLARE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/blob.h"
#include "backends/cloudflare/body.h"
#include "backends/cloudflare/head.h"
#include "backends/cloudflare/text.h"

enum { EXCHANGE_CAUSE = 256, EXCHANGE_REFUSAL_MAX = 64 * 1024 };

struct exchange {
	/* What to send, set by the caller and left alone until `done`. */
	const char *method, *url;
	const char *type; /* Content-Type; NULL: no body */
	struct body *body; /* with `type` */
	bool once; /* it is not sent again by itself when a kept connection breaks: -ECONNABORTED */
	bool compressed; /* the answer may come compressed on the way */
	size_t max; /* bytes of an answer with status 200 (others: EXCHANGE_REFUSAL_MAX) */
	struct blob_pool *pool; /* an answer with status 200 goes into `blob`; NULL: into `text` */
	double stall, total; /* seconds without progress, and in all, before giving up */
	void (*done)(struct exchange *x); /* called by the transport's thread, as its last act */
	void *arg;

	/* What came back, valid once `done` was called. */
	int error; /* 0: there is a status; -ECONNABORTED (no connection, or lost),
		    * -ETIMEDOUT, -EFBIG (over max), -EPROTO (not to be believed, or TLS does not
		    * verify), -ECANCELED, -ENOMEM, -errno of blobs */
	char cause[EXCHANGE_CAUSE]; /* of an error, in words */
	long status;
	struct head head;
	struct text text; /* to be released by the caller */
	struct blob *blob; /* the caller's; NULL for an empty body */
	uint64_t sent, received; /* bytes of bodies */
};

struct transport;

struct transport_config {
	const char *token; /* NULL or "": none is sent */
	const char *ca_file; /* NULL: the system's */
	bool plain; /* http only; else https only */
	bool loopback;
};

/* -EINVAL (token malformed), -ENOMEM, -EAGAIN (no thread), -EIO (libcurl). */
int transport_open(const struct transport_config *config, struct transport **out);

/* Ends every exchange with -ECANCELED, also those still to come. */
void transport_cancel(struct transport *t);

/* Cancels; when it returns no `done` is running any more. NULL is fine. */
void transport_close(struct transport *t);

/* x->done will be called, perhaps before this returns, and whatever happens. */
void transport_submit(struct transport *t, struct exchange *x);

/* Overwrites the token where it stands in a text. */
void transport_mask(const struct transport *t, char *text);

#endif
