#include "backends/base/utf8.h"

#include <stdint.h>
#include <string.h>

/* What may follow a first byte: RFC 3629, section 4. */
static void begin(struct utf8 *u, unsigned char c)
{
	u->low = 0x80;
	u->high = 0xbf;
	if (c < 0x80) {
		u->more = 0;
	} else if (c >= 0xc2 && c <= 0xdf) {
		u->more = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		u->more = 2;
		if (c == 0xe0)
			u->low = 0xa0;
		else if (c == 0xed)
			u->high = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		u->more = 3;
		if (c == 0xf0)
			u->low = 0x90;
		else if (c == 0xf4)
			u->high = 0x8f;
	} else {
		u->bad = true;
	}
}

/* How many bytes at `p` are surely ASCII: most text is, and goes by eight at once. */
static size_t ascii_run(const unsigned char *p, size_t len)
{
	size_t n = 0;
	uint64_t eight;

	while (len - n >= sizeof(eight)) {
		memcpy(&eight, p + n, sizeof(eight));
		if (eight & UINT64_C(0x8080808080808080))
			break;
		n += sizeof(eight);
	}
	return n;
}

bool utf8_feed(struct utf8 *u, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len && !u->bad; i++) {
		if (u->more == 0) {
			i += ascii_run(p + i, len - i);
			if (i == len)
				break;
			begin(u, p[i]);
		} else if (p[i] < u->low || p[i] > u->high) {
			u->bad = true;
		} else {
			u->more--;
			u->low = 0x80;
			u->high = 0xbf;
		}
	}
	return !u->bad;
}

bool utf8_whole(const struct utf8 *u)
{
	return !u->bad && u->more == 0;
}

bool utf8_is_valid(const void *bytes, size_t len)
{
	struct utf8 u = {0};

	return utf8_feed(&u, bytes, len) && utf8_whole(&u);
}

size_t utf8_write(unsigned code, char *out)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}
