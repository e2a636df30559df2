/*
 * json.c - a recogniser of RFC 8259, without recursion: of each value that is open it remembers one
 * bit, whether it is an object. It makes nothing of what it reads: numbers of any size are good, and
 * so are escapes of any UTF-16 unit. A byte order mark is not.
 */
#include "backends/base/json.h"

#include <stdint.h>
#include <string.h>

struct reader {
	const unsigned char *p, *end;
	size_t depth;
	unsigned char is_object[JSON_DEPTH_MAX / 8]; /* a bit for each depth */
};

enum outcome { WRONG, DONE, OPENED };

/* The next byte; 0, which no text may have outside of strings, at the end. */
static unsigned char peek(const struct reader *r)
{
	return r->p < r->end ? *r->p : 0;
}

static bool take(struct reader *r, char c)
{
	if (peek(r) != (unsigned char)c)
		return false;
	r->p++;
	return true;
}

static void skip_space(struct reader *r)
{
	while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r')
		r->p++;
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

/* Digits, at least one. */
static bool read_digits(struct reader *r)
{
	const unsigned char *begin = r->p;

	while (is_digit(peek(r)))
		r->p++;
	return r->p > begin;
}

static bool read_number(struct reader *r)
{
	take(r, '-');
	if (!take(r, '0') && !read_digits(r))
		return false;
	if (take(r, '.') && !read_digits(r))
		return false;
	if (!take(r, 'e') && !take(r, 'E'))
		return true;
	if (!take(r, '+'))
		take(r, '-');
	return read_digits(r);
}

static bool read_escape(struct reader *r)
{
	unsigned char c = peek(r);

	if (!c || !strchr("\"\\/bfnrtu", c))
		return false;
	r->p++;
	for (int i = 0; c == 'u' && i < 4; i++) {
		unsigned char digit = peek(r);

		if (!is_digit(digit) && !(digit >= 'a' && digit <= 'f') &&
			!(digit >= 'A' && digit <= 'F'))
			return false;
		r->p++;
	}
	return true;
}

/* A character of more than one byte: the shortest form, no surrogate, none above U+10FFFF. */
static bool read_wide(struct reader *r)
{
	unsigned char first = *r->p++, low = 0x80, high = 0xbf;
	int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;

	if (first < 0xc2 || first > 0xf4)
		return false;
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	for (; more; more--, low = 0x80, high = 0xbf) {
		if (r->p == r->end || *r->p < low || *r->p > high)
			return false;
		r->p++;
	}
	return true;
}

static bool read_string(struct reader *r)
{
	if (!take(r, '"'))
		return false;
	while (!take(r, '"')) {
		bool good = true;

		if (take(r, '\\'))
			good = read_escape(r);
		else if (peek(r) >= 0x80)
			good = read_wide(r);
		else if (peek(r) >= 0x20)
			r->p++;
		else
			good = false; /* a control character, or the end */
		if (!good)
			return false;
	}
	return true;
}

/* A member's name, and what comes before its value. */
static bool read_name(struct reader *r)
{
	skip_space(r);
	if (!read_string(r))
		return false;
	skip_space(r);
	return take(r, ':');
}

static bool read_word(struct reader *r, const char *word)
{
	for (; *word; word++) {
		if (!take(r, *word))
			return false;
	}
	return true;
}

static enum outcome open_container(struct reader *r, bool object)
{
	unsigned char bit = (unsigned char)(1 << r->depth % 8);

	r->p++;
	skip_space(r);
	if (take(r, object ? '}' : ']'))
		return DONE;
	if (r->depth == JSON_DEPTH_MAX || (object && !read_name(r)))
		return WRONG;
	if (object)
		r->is_object[r->depth / 8] |= bit;
	else
		r->is_object[r->depth / 8] &= (unsigned char)~bit;
	r->depth++;
	return OPENED;
}

/* A value without what is in it: OPENED, the first value in it comes next. */
static enum outcome read_value(struct reader *r)
{
	skip_space(r);
	switch (peek(r)) {
	case '{':
		return open_container(r, true);
	case '[':
		return open_container(r, false);
	case '"':
		return read_string(r) ? DONE : WRONG;
	case 't':
		return read_word(r, "true") ? DONE : WRONG;
	case 'f':
		return read_word(r, "false") ? DONE : WRONG;
	case 'n':
		return read_word(r, "null") ? DONE : WRONG;
	default:
		return read_number(r) ? DONE : WRONG;
	}
}

/* What follows a value, until another one comes (OPENED) or the outermost has ended (DONE). */
static enum outcome read_rest(struct reader *r)
{
	for (;;) {
		skip_space(r);
		if (r->depth == 0)
			return DONE;
		size_t at = r->depth - 1;
		bool object = r->is_object[at / 8] >> at % 8 & 1;

		if (take(r, ','))
			return !object || read_name(r) ? OPENED : WRONG;
		if (!take(r, object ? '}' : ']'))
			return WRONG;
		r->depth--;
	}
}

bool json_is_valid(const void *text, size_t len)
{
	struct reader r;
	enum outcome outcome;

	r.p = text;
	r.end = r.p + len;
	r.depth = 0;
	do {
		outcome = read_value(&r);
		if (outcome == DONE)
			outcome = read_rest(&r);
	} while (outcome == OPENED);
	return outcome == DONE && r.p == r.end;
}
