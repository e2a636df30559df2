/*
 * body.h - the body of a request, produced piece by piece while it is sent: a hundred megabytes of
 * values become JSON without being in memory, once as they are and once as JSON.
 *
 * Its size is known before it is sent. It can be read again from the start, for another attempt;
 * what it is made of must not change meanwhile.
 *
 * Pure but for reading blobs. One owner.
 */
#ifndef KVFS_CLOUDFLARE_BODY_H
#define KVFS_CLOUDFLARE_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "backends/cloudflare/client.h"
#include "backends/cloudflare/text.h"

enum body_form {
	BODY_NONE,
	BODY_TEXT, /* `head` */
	BODY_VALUE, /* the bytes of a value */
	BODY_MULTIPART, /* a value and its metadata */
	BODY_BULK, /* a JSON array of items */
};

/* How a value's bytes go into the body. */
enum body_coding { BODY_RAW, BODY_ESCAPED, BODY_BASE64 };

/* What one item of a bulk put takes. */
struct body_plan {
	enum body_coding coding;
	uint64_t bytes; /* the item's JSON, without the comma between items */
};

struct body {
	enum body_form form;
	uint64_t size;
	struct text head; /* TEXT: all of it; MULTIPART: what precedes the value */
	const struct client_item *items;
	const struct body_plan *plans;
	size_t n;
	const char *boundary;
	/* how far it has been read */
	size_t item;
	int stage;
	uint64_t offset; /* of the value */
	struct text piece; /* what is in hand, from `used` on */
	size_t used;
};

/* Chooses the coding (a string where the value is UTF-8 and that is shorter, else base64) and
 * measures. -errno of reading the blob. */
int body_measure(const struct client_item *item, struct body_plan *out);

/* `text` is taken over. */
void body_text(struct body *b, struct text *text);

/* These borrow all they are given. */
void body_value(struct body *b, const struct client_item *item);
void body_multipart(struct body *b, const struct client_item *item, const char *boundary);
void body_bulk(
	struct body *b, const struct client_item *items, const struct body_plan *plans, size_t n);

void body_release(struct body *b);

void body_rewind(struct body *b);

/* The next up to `cap` bytes: how many, 0 at the end, or -errno. */
int64_t body_read(struct body *b, void *buf, size_t cap);

#endif
