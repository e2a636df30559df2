#include "backends/cloudflare/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 256, ESCAPED_MAX = 6 };

void text_release(struct text *t)
{
	free(t->p);
	t->p = NULL;
	t->len = t->cap = 0;
	t->error = 0;
}

/* Room for `len` more and a NUL. */
static bool reserve(struct text *t, size_t len)
{
	if (t->error)
		return false;
	if (t->len > t->max || len > t->max - t->len) {
		t->error = -EFBIG;
		return false;
	}
	size_t need = t->len + len + 1, cap = t->cap ? t->cap : FIRST_CAP;
	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;
	if (cap == t->cap)
		return true;
	char *p = realloc(t->p, cap);
	if (!p) {
		t->error = -ENOMEM;
		return false;
	}
	t->p = p;
	t->cap = cap;
	return true;
}

char *text_room(struct text *t, size_t len)
{
	if (!reserve(t, len))
		return NULL;
	char *room = t->p + t->len;
	t->len += len;
	t->p[t->len] = '\0';
	return room;
}

void text_add(struct text *t, const void *bytes, size_t len)
{
	char *room = text_room(t, len);

	if (room && len)
		memcpy(room, bytes, len);
}

void text_str(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void text_number(struct text *t, int64_t n)
{
	char digits[24];

	text_add(t, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRId64, n));
}

static bool all_dots(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != '.')
			return false;
	return true;
}

static bool unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '-' || c == '_' || c == '~' || c == '.';
}

void text_percent(struct text *t, const void *bytes, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *p = bytes;
	bool dots = all_dots(p, len);

	for (size_t i = 0; i < len; i++) {
		char coded[3] = {'%', hex[p[i] >> 4], hex[p[i] & 15]};

		if (unreserved(p[i]) && !(dots && p[i] == '.'))
			text_add(t, p + i, 1);
		else
			text_add(t, coded, sizeof(coded));
	}
}

/* The letter that stands for a control character after a backslash, or 0. */
static char short_escape(unsigned char c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

size_t text_json_escape(const void *bytes, size_t len, char *out)
{
	const unsigned char *p = bytes;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = p[i];
		char coded[ESCAPED_MAX + 1] = {(char)c};
		size_t width = 1;

		if (c < 0x20 || c == '"' || c == '\\') {
			coded[0] = '\\';
			coded[1] = short_escape(c);
			width = 2;
			if (!coded[1])
				width = (size_t)snprintf(coded, sizeof(coded), "\\u%04x", c);
		}
		if (out)
			memcpy(out + n, coded, width);
		n += width;
	}
	return n;
}

void text_json(struct text *t, const void *bytes, size_t len)
{
	size_t escaped = text_json_escape(bytes, len, NULL);

	text_add(t, "\"", 1);
	char *room = text_room(t, escaped);
	if (room)
		text_json_escape(bytes, len, room);
	text_add(t, "\"", 1);
}
