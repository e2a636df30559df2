#include "backends/cloudflare/toml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/utf8.h"
#include "backends/cloudflare/text.h"

struct toml {
	const char *p, *end;
	const char *counted; /* lines have been counted up to here */
	size_t line;
	toml_listener listener;
	void *arg;
	struct toml_path path;
	struct text scratch; /* the string that was read last */
	const char *why;
	int error;
};

static bool fail(struct toml *t, const char *why)
{
	if (!t->error) {
		t->error = -EINVAL;
		t->why = why;
	}
	return false;
}

static size_t line_of(struct toml *t)
{
	for (; t->counted < t->p; t->counted++)
		t->line += *t->counted == '\n';
	return t->line;
}

static char peek(const struct toml *t)
{
	return t->p < t->end ? *t->p : '\0';
}

static bool at(const struct toml *t, const char *s)
{
	size_t len = strlen(s);

	return (size_t)(t->end - t->p) >= len && memcmp(t->p, s, len) == 0;
}

static bool take(struct toml *t, const char *s)
{
	if (!at(t, s))
		return false;
	t->p += strlen(s);
	return true;
}

static bool tell(struct toml *t, enum toml_event event, const char *value, size_t len)
{
	const char *why = t->listener(t->arg, event, &t->path, line_of(t), value, len);

	return why ? fail(t, why) : true;
}

static void blanks(struct toml *t)
{
	while (peek(t) == ' ' || peek(t) == '\t')
		t->p++;
}

static bool newline(struct toml *t)
{
	return take(t, "\n") || take(t, "\r\n");
}

static bool control(char c)
{
	return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

static void comment(struct toml *t)
{
	if (peek(t) != '#')
		return;
	while (t->p < t->end && !at(t, "\n") && !at(t, "\r\n")) {
		if (control(*t->p)) {
			fail(t, "a control character in a comment");
			return;
		}
		t->p++;
	}
}

/* Everything between two things in an array. */
static void gap(struct toml *t)
{
	do {
		blanks(t);
		comment(t);
	} while (!t->error && newline(t));
}

static bool line_end(struct toml *t)
{
	blanks(t);
	comment(t);
	if (t->error)
		return false;
	return t->p == t->end || newline(t) || fail(t, "more follows on the line");
}

static int digit_of(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;

	return found ? (int)(found - digits) : -1;
}

static bool unicode(struct toml *t, int width)
{
	unsigned code = 0;
	char out[4];

	for (int i = 0; i < width; i++) {
		int digit = digit_of(peek(t));

		if (digit < 0)
			return fail(t, "an escape that does not exist");
		code = code << 4 | (unsigned)digit;
		t->p++;
	}
	if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return fail(t, "an escape that is no character");
	text_add(&t->scratch, out, utf8_write(code, out));
	return true;
}

/* Behind a backslash. */
static bool escape(struct toml *t, bool lines)
{
	static const char letters[] = "btnfr\"\\", bytes[] = "\b\t\n\f\r\"\\";
	char c = peek(t);
	const char *found = c ? strchr(letters, c) : NULL;

	if (found) {
		text_add(&t->scratch, bytes + (found - letters), 1);
		t->p++;
		return true;
	}
	if (take(t, "u"))
		return unicode(t, 4);
	if (take(t, "U"))
		return unicode(t, 8);
	if (lines) {
		/* The rest of the line, and white space up to the next word, are not there. */
		blanks(t);
		if (newline(t)) {
			do
				blanks(t);
			while (newline(t));
			return true;
		}
	}
	return fail(t, "an escape that does not exist");
}

/* A string over several lines; the quote stands three times at its ends. */
static bool long_string(struct toml *t, char quote)
{
	const char three[] = {quote, quote, quote, '\0'};

	newline(t);
	while (!at(t, three)) {
		if (t->p == t->end)
			return fail(t, "a string does not end");
		char c = *t->p;
		if (c == '\\' && quote == '"') {
			t->p++;
			if (!escape(t, true))
				return false;
		} else if (newline(t)) {
			text_add(&t->scratch, "\n", 1);
		} else if (control(c)) {
			return fail(t, "a control character in a string");
		} else {
			text_add(&t->scratch, &c, 1);
			t->p++;
		}
	}
	t->p += 3;
	/* Up to two more quotes belong to it. */
	for (int i = 0; i < 2 && peek(t) == quote; i++, t->p++)
		text_add(&t->scratch, &quote, 1);
	return true;
}

/* Any string, into `scratch`. `key`: not over several lines. */
static bool string(struct toml *t, bool key)
{
	char quote = peek(t);

	text_release(&t->scratch);
	t->scratch.max = SIZE_MAX / 2;
	text_add(&t->scratch, "", 0);
	if (!key && (take(t, "\"\"\"") || take(t, "'''")))
		return long_string(t, quote);
	t->p++;
	while (peek(t) != quote) {
		if (t->p == t->end || at(t, "\n") || at(t, "\r\n"))
			return fail(t, "a string does not end");
		char c = *t->p++;
		if (c == '\\' && quote == '"') {
			if (!escape(t, false))
				return false;
		} else if (control(c)) {
			return fail(t, "a control character in a string");
		} else {
			text_add(&t->scratch, &c, 1);
		}
	}
	t->p++;
	return true;
}

static bool bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '_' || c == '-';
}

static bool push(struct toml *t, const char *key, size_t len, bool is_index)
{
	struct toml_path *path = &t->path;

	if (path->n == TOML_DEPTH_MAX)
		return fail(t, "it is nested too deeply");
	if (memchr(key, '\0', len))
		return fail(t, "a NUL in a key");
	char *copy = strndup(key, len);
	if (!copy) {
		t->error = -ENOMEM;
		return false;
	}
	path->keys[path->n] = copy;
	path->is_index[path->n++] = is_index;
	return true;
}

static void pop_to(struct toml *t, size_t n)
{
	while (t->path.n > n)
		free(t->path.keys[--t->path.n]);
}

/* One or several keys with dots between them. */
static bool keys(struct toml *t)
{
	do {
		blanks(t);
		if (peek(t) == '"' || peek(t) == '\'') {
			if (!string(t, true))
				return false;
			if (t->scratch.error) {
				t->error = t->scratch.error;
				return false;
			}
			if (!push(t, t->scratch.p, t->scratch.len, false))
				return false;
		} else {
			const char *begin = t->p;

			while (bare(peek(t)))
				t->p++;
			if (t->p == begin)
				return fail(t, "a key is missing");
			if (!push(t, begin, (size_t)(t->p - begin), false))
				return false;
		}
		blanks(t);
	} while (take(t, "."));
	return true;
}

/* A number, a date or a boolean: told by its look. */
static bool word(struct toml *t)
{
	const char *begin = t->p;

	while (bare(peek(t)) || (peek(t) && strchr("+.:", peek(t))))
		t->p++;
	/* A date and a time may have a space between them. */
	if (t->p - begin == 10 && begin[4] == '-' && begin[7] == '-' && peek(t) == ' ' &&
		t->end - t->p > 1 && t->p[1] >= '0' && t->p[1] <= '9') {
		t->p++;
		while (bare(peek(t)) || (peek(t) && strchr("+.:", peek(t))))
			t->p++;
	}
	size_t len = (size_t)(t->p - begin), sign = len > 0 && (*begin == '+' || *begin == '-');
	const char *rest = begin + sign;
	size_t left = len - sign;
	bool number = left > 0 && *rest >= '0' && *rest <= '9';
	bool special = left == 3 && (memcmp(rest, "inf", 3) == 0 || memcmp(rest, "nan", 3) == 0);
	bool boolean = !sign &&
		((len == 4 && memcmp(begin, "true", 4) == 0) ||
			(len == 5 && memcmp(begin, "false", 5) == 0));
	if (!number && !special && !boolean)
		return fail(t, len ? "a value is malformed" : "a value is missing");
	return tell(t, TOML_OTHER, NULL, 0);
}

static bool value(struct toml *t, int depth);

static bool pair(struct toml *t, int depth)
{
	size_t before = t->path.n;

	if (!keys(t))
		return false;
	if (!take(t, "="))
		return fail(t, "an equals sign is missing");
	blanks(t);
	if (!value(t, depth))
		return false;
	pop_to(t, before);
	return true;
}

/* Behind the brace that opens. */
static bool inline_table(struct toml *t, int depth)
{
	for (;;) {
		gap(t);
		if (t->error)
			return false;
		if (take(t, "}"))
			return true;
		if (!pair(t, depth + 1))
			return false;
		gap(t);
		if (!take(t, ",") && peek(t) != '}')
			return fail(t, "a comma is missing");
	}
}

static bool element(struct toml *t, int depth)
{
	size_t before = t->path.n;

	if (take(t, "{"))
		return tell(t, TOML_ELEMENT, NULL, 0) && inline_table(t, depth + 1);
	if (!push(t, "", 0, true) || !value(t, depth + 1))
		return false;
	pop_to(t, before);
	return true;
}

/* Behind the bracket that opens. */
static bool array(struct toml *t, int depth)
{
	for (;;) {
		gap(t);
		if (t->error)
			return false;
		if (take(t, "]"))
			return true;
		if (!element(t, depth))
			return false;
		gap(t);
		if (!take(t, ",") && peek(t) != ']')
			return fail(t, "a comma is missing");
	}
}

static bool value(struct toml *t, int depth)
{
	if (depth > TOML_DEPTH_MAX)
		return fail(t, "it is nested too deeply");
	if (take(t, "["))
		return tell(t, TOML_ARRAY, NULL, 0) && array(t, depth);
	if (take(t, "{"))
		return tell(t, TOML_TABLE, NULL, 0) && inline_table(t, depth);
	if (peek(t) != '"' && peek(t) != '\'')
		return word(t);
	if (!string(t, false))
		return false;
	if (t->scratch.error) {
		t->error = t->scratch.error;
		return false;
	}
	return tell(t, TOML_STRING, t->scratch.p, t->scratch.len);
}

/* Behind the bracket: [a.b] or [[a.b]]. What follows is below it. */
static bool header(struct toml *t)
{
	bool is_element = take(t, "[");

	pop_to(t, 0);
	if (!keys(t))
		return false;
	if (!take(t, is_element ? "]]" : "]"))
		return fail(t, "a header does not end");
	return tell(t, is_element ? TOML_ELEMENT : TOML_TABLE, NULL, 0);
}

static bool lines(struct toml *t)
{
	while (t->p < t->end) {
		blanks(t);
		if (take(t, "[")) {
			if (!header(t))
				return false;
		} else if (t->p < t->end && !strchr("#\r\n", *t->p)) {
			if (!pair(t, 0))
				return false;
		} else if (t->p < t->end && *t->p == '\0') {
			return fail(t, "a NUL");
		}
		if (!line_end(t))
			return false;
	}
	return true;
}

int toml_parse(const char *text, size_t len, toml_listener listener, void *arg, size_t *line,
	const char **why)
{
	struct toml t = {.p = text,
		.end = text + len,
		.counted = text,
		.line = 1,
		.listener = listener,
		.arg = arg};

	if (!utf8_is_valid(text, len)) {
		fail(&t, "it is not UTF-8");
	} else {
		take(&t, "\xef\xbb\xbf");
		lines(&t);
	}
	if (t.error) {
		*line = line_of(&t);
		*why = t.why;
	}
	pop_to(&t, 0);
	text_release(&t.scratch);
	return t.error;
}
