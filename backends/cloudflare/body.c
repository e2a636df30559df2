/*
 * body.c - every form is a sequence of items with a head, a value and a tail, each of which is
 * written into `piece` when the one before it has been read: the value in chunks.
 */
#include "backends/cloudflare/body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/utf8.h"

enum {
	CHUNK = 48 * 1024, /* a multiple of 3, so that base64 needs no padding in between */
	PIECE_MAX = 8 * CHUNK,
};

enum stage { STAGE_HEAD, STAGE_VALUE, STAGE_TAIL, STAGE_END };

static size_t base64(const unsigned char *in, size_t len, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *p = out;

	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		unsigned bits = (unsigned)in[i] << 16;

		if (have > 1)
			bits |= (unsigned)in[i + 1] << 8;
		if (have > 2)
			bits |= in[i + 2];
		*p++ = digits[bits >> 18];
		*p++ = digits[bits >> 12 & 63];
		*p++ = have > 1 ? digits[bits >> 6 & 63] : '=';
		*p++ = have > 2 ? digits[bits & 63] : '=';
	}
	return (size_t)(p - out);
}

static void item_head(const struct client_item *item, struct text *out)
{
	text_str(out, "{\"key\":");
	text_json(out, item->key, item->key_len);
	text_str(out, ",\"value\":\"");
}

static void item_tail(const struct client_item *item, enum body_coding coding, struct text *out)
{
	text_str(out, coding == BODY_BASE64 ? "\",\"base64\":true" : "\"");
	if (item->expiration) {
		text_str(out, ",\"expiration\":");
		text_number(out, item->expiration);
	}
	if (item->metadata) {
		text_str(out, ",\"metadata\":");
		text_add(out, item->metadata, item->metadata_len);
	}
	text_str(out, "}");
}

static void multipart_head(const struct body *b, struct text *out)
{
	const char *line = b->boundary;

	text_str(out, "--");
	text_str(out, line);
	text_str(out, "\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n");
	text_add(out, b->items->metadata, b->items->metadata_len);
	text_str(out, "\r\n--");
	text_str(out, line);
	/* With a file name the part is taken for bytes, without one for text. */
	text_str(out,
		"\r\nContent-Disposition: form-data; name=\"value\"; filename=\"blob\"\r\n"
		"Content-Type: application/octet-stream\r\n\r\n");
}

static void multipart_tail(const struct body *b, struct text *out)
{
	text_str(out, "\r\n--");
	text_str(out, b->boundary);
	text_str(out, "--\r\n");
}

/* Reads a value through, once: is it UTF-8, and how long would it be as a string? */
static int measure_value(struct blob *value, unsigned char *chunk, struct body_plan *plan)
{
	uint64_t size = blob_size(value), escaped = 0, coded = (size + 2) / 3 * 4;
	struct utf8 utf8 = {0};
	bool is_text = true;

	for (uint64_t off = 0; is_text && off < size;) {
		int64_t n = blob_read(value, off, chunk, CHUNK);

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		escaped += text_json_escape(chunk, (size_t)n, NULL);
		is_text = utf8_feed(&utf8, chunk, (size_t)n) && escaped <= coded + 64;
		off += (uint64_t)n;
	}
	is_text = is_text && utf8_whole(&utf8);
	plan->coding = is_text ? BODY_ESCAPED : BODY_BASE64;
	plan->bytes = is_text ? escaped : coded;
	return 0;
}

int body_measure(const struct client_item *item, struct body_plan *out)
{
	struct text around = {.max = PIECE_MAX};
	struct body_plan plan;
	unsigned char *chunk = malloc(CHUNK);
	int rc = chunk ? measure_value(item->value, chunk, &plan) : -ENOMEM;

	free(chunk);
	if (rc)
		return rc;
	item_head(item, &around);
	item_tail(item, plan.coding, &around);
	rc = around.error;
	plan.bytes += around.len;
	text_release(&around);
	if (rc == 0)
		*out = plan;
	return rc;
}

void body_text(struct body *b, struct text *text)
{
	*b = (struct body){.form = BODY_TEXT, .head = *text, .size = text->len};
	*text = (struct text){0};
	b->n = 1;
	body_rewind(b);
}

void body_value(struct body *b, const struct client_item *item)
{
	*b = (struct body){.form = BODY_VALUE, .size = blob_size(item->value), .items = item};
	b->n = 1;
	body_rewind(b);
}

void body_multipart(struct body *b, const struct client_item *item, const char *boundary)
{
	struct text around = {.max = PIECE_MAX};

	*b = (struct body){.form = BODY_MULTIPART, .items = item, .boundary = boundary, .n = 1};
	multipart_head(b, &around);
	multipart_tail(b, &around);
	b->size = blob_size(item->value) + around.len;
	text_release(&around);
	body_rewind(b);
}

void body_bulk(
	struct body *b, const struct client_item *items, const struct body_plan *plans, size_t n)
{
	*b = (struct body){.form = BODY_BULK, .items = items, .plans = plans, .n = n};
	b->size = 2;
	for (size_t i = 0; i < n; i++)
		b->size += plans[i].bytes + (i > 0);
	body_rewind(b);
}

void body_release(struct body *b)
{
	text_release(&b->head);
	text_release(&b->piece);
	*b = (struct body){0};
}

void body_rewind(struct body *b)
{
	b->item = 0;
	b->stage = b->form == BODY_NONE ? STAGE_END : STAGE_HEAD;
	b->offset = 0;
	b->piece.len = b->used = 0;
	b->piece.max = PIECE_MAX;
}

static void write_head(struct body *b)
{
	switch (b->form) {
	case BODY_MULTIPART:
		multipart_head(b, &b->piece);
		break;
	case BODY_BULK:
		text_str(&b->piece, b->item == 0 ? "[" : ",");
		if (b->n > 0)
			item_head(b->items + b->item, &b->piece);
		break;
	default:
		break;
	}
}

static void write_tail(struct body *b)
{
	if (b->form == BODY_MULTIPART) {
		multipart_tail(b, &b->piece);
	} else if (b->form == BODY_BULK) {
		if (b->n > 0)
			item_tail(b->items + b->item, b->plans[b->item].coding, &b->piece);
		if (b->item + 1 >= b->n)
			text_str(&b->piece, "]");
	}
}

static void write_coded(struct body *b, const unsigned char *chunk, size_t len)
{
	enum body_coding coding = b->form == BODY_BULK ? b->plans[b->item].coding : BODY_RAW;

	/* Room at once for the longest form; then it is written where it belongs. */
	if (coding == BODY_RAW) {
		text_add(&b->piece, chunk, len);
		return;
	}
	size_t coded =
		coding == BODY_BASE64 ? (len + 2) / 3 * 4 : text_json_escape(chunk, len, NULL);
	char *room = text_room(&b->piece, coded);
	if (!room)
		return;
	if (coding == BODY_BASE64)
		base64(chunk, len, room);
	else
		text_json_escape(chunk, len, room);
}

/* The next chunk of the value in hand. */
static int write_value(struct body *b)
{
	struct blob *value = b->items[b->item].value;
	uint64_t left = blob_size(value) - b->offset;
	unsigned char *chunk;
	int rc = 0;

	if (left == 0) {
		b->stage = STAGE_TAIL;
		return 0;
	}
	size_t want = left < CHUNK ? (size_t)left : CHUNK;
	chunk = malloc(want);
	if (!chunk)
		return -ENOMEM;
	int64_t n = blob_read(value, b->offset, chunk, want);
	if (n != (int64_t)want)
		rc = n < 0 ? (int)n : -EIO;
	else
		write_coded(b, chunk, want);
	free(chunk);
	b->offset += want;
	return rc;
}

/* Writes the next piece; there may be nothing in it. */
static int refill(struct body *b)
{
	int rc = 0;

	b->piece.len = b->used = 0;
	switch (b->stage) {
	case STAGE_HEAD:
		write_head(b);
		b->offset = 0;
		b->stage = b->n > 0 ? STAGE_VALUE : STAGE_TAIL;
		break;
	case STAGE_VALUE:
		rc = write_value(b);
		break;
	case STAGE_TAIL:
		write_tail(b);
		b->item++;
		b->stage = b->item < b->n ? STAGE_HEAD : STAGE_END;
		break;
	default:
		break;
	}
	return rc ? rc : b->piece.error;
}

int64_t body_read(struct body *b, void *buf, size_t cap)
{
	if (b->form == BODY_TEXT) {
		size_t n = b->head.len - b->used < cap ? b->head.len - b->used : cap;

		if (n)
			memcpy(buf, b->head.p + b->used, n);
		b->used += n;
		return (int64_t)n;
	}
	while (b->used == b->piece.len && b->stage != STAGE_END) {
		int rc = refill(b);

		if (rc)
			return rc;
	}
	size_t have = b->piece.len - b->used, n = have < cap ? have : cap;
	if (n)
		memcpy(buf, b->piece.p + b->used, n);
	b->used += n;
	return (int64_t)n;
}
