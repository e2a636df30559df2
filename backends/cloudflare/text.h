/*
 * text.h - a buffer of text that grows up to a limit: URLs, JSON and bodies are written into it.
 *
 * Errors stick: after the first one (-ENOMEM, -EFBIG at the limit) nothing more is written, and
 * `error` says so once at the end. One owner; text_release() frees.
 */
#ifndef KVFS_CLOUDFLARE_TEXT_H
#define KVFS_CLOUDFLARE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* All zero but `max` at the start. */
struct text {
	char *p; /* terminated by a NUL that is not counted, once anything was written */
	size_t len, cap;
	size_t max; /* bytes it may hold */
	int error; /* 0 or -errno */
};

void text_release(struct text *t); /* it is empty afterwards, and its error forgotten */

void text_add(struct text *t, const void *bytes, size_t len);
void text_str(struct text *t, const char *s);
void text_number(struct text *t, int64_t n);

/* Room for `len` bytes, which count as written; NULL after an error. */
char *text_room(struct text *t, size_t len);

/* Percent-encoded but for letters, digits and "-_~": one segment of a path, or one value of a
 * query, whatever the bytes are. A segment that is all dots would be taken for a step upwards by
 * some on the way, so dots are encoded where they are all there is. */
void text_percent(struct text *t, const void *bytes, size_t len);

/* A JSON string in its quotes; the bytes are UTF-8. */
void text_json(struct text *t, const void *bytes, size_t len);

/* What stands between the quotes for some bytes of UTF-8, at `out` (6 bytes of room for each);
 * returns its length. Without `out`, the length alone. */
size_t text_json_escape(const void *bytes, size_t len, char *out);

#endif
