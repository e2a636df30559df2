/*
 * utf8.h - whether bytes are UTF-8 (RFC 3629: no surrogates, nothing overlong, up to U+10FFFF).
 *
 * Pure. The check can be fed piece by piece.
 */
#ifndef KVFS_UTF8_H
#define KVFS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* All zero at the start. */
struct utf8 {
	unsigned more; /* bytes of this character that are still to come */
	unsigned char low, high; /* what the next one may be */
	bool bad;
};

/* Goes on with `len` more bytes. False as soon as it cannot become UTF-8 any more. */
bool utf8_feed(struct utf8 *u, const void *bytes, size_t len);

/* Whether everything up to here was whole characters. */
bool utf8_whole(const struct utf8 *u);

bool utf8_is_valid(const void *bytes, size_t len);

/* Writes a code point that is no surrogate; how many bytes, up to 4. */
size_t utf8_write(unsigned code, char *out);

#endif
