/*
 * request.h - what each call of the API sends: method, URL, content type and body.
 *
 * Pure: builds text, does no I/O. What a request is built from (items, plans, blobs) is borrowed
 * until request_release().
 *
 * Errors: -EINVAL (a key that no URL can say), -EILSEQ (not UTF-8), -ERANGE (metadata too long),
 * -EFBIG (value too large), -ENOMEM. The request needs no release then.
 */
#ifndef KVFS_CLOUDFLARE_REQUEST_H
#define KVFS_CLOUDFLARE_REQUEST_H

#include "backends/cloudflare/body.h"
#include "backends/cloudflare/client.h"
#include "backends/cloudflare/endpoint.h"

enum {
	REQUEST_BULK_MAX = 10000, /* items of a bulk put or delete */
	REQUEST_BULK_BYTES_MAX = 100 * 1000 * 1000, /* of its body */
	REQUEST_BOUNDARY = 40, /* bytes of a multipart boundary */
};

/* Points into itself: stays where it was built. */
struct request {
	enum client_call call;
	const char *ns; /* these three say in a log what it is about; borrowed, may be NULL */
	const void *key;
	size_t key_len;
	size_t count; /* keys of a bulk call */
	const char *method;
	struct text url;
	const char *type; /* content type of the body; NULL: there is none */
	char multipart[80]; /* what `type` points to for a multipart body */
	char boundary[REQUEST_BOUNDARY + 1];
	struct body body;
};

void request_release(struct request *r);

/* 0, or why nothing can be stored under it. */
int request_check_key(const void *key, size_t len);
int request_check_item(const struct client_item *item);

/* Pages are counted from 1, and have 100 namespaces. */
int request_ns_list(struct request *r, const struct endpoint *ep, unsigned page);
int request_ns_create(struct request *r, const struct endpoint *ep, const void *title, size_t len);
int request_ns_rename(struct request *r, const struct endpoint *ep, const char *ns,
	const void *title, size_t len);
int request_ns_delete(struct request *r, const struct endpoint *ep, const char *ns);

int request_keys(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_query *query);

int request_get(
	struct request *r, const struct endpoint *ep, const char *ns, const void *key, size_t len);
int request_delete(
	struct request *r, const struct endpoint *ep, const char *ns, const void *key, size_t len);

/* Without metadata the body is the value; with it, multipart, kept apart by 128 random bits that
 * nobody can have put into a value. Where the endpoint has no expiration it is left out. */
int request_put(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_item *item, const unsigned char random[16]);

int request_bulk_get(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_name *keys, size_t n);
int request_bulk_put(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_item *items, const struct body_plan *plans, size_t n);
int request_bulk_delete(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_name *keys, size_t n);

#endif
