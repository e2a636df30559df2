#include "backends/cloudflare/jread.h"

#include <string.h>

#include "backends/base/utf8.h"

bool jread_fail(struct jread *j, const char *error)
{
	if (!j->error)
		j->error = error;
	return false;
}

void jread_init(struct jread *j, char *text, size_t len, bool relaxed)
{
	*j = (struct jread){.start = text, .p = text, .end = text + len, .relaxed = relaxed};
	if (!utf8_is_valid(text, len))
		jread_fail(j, "it is not UTF-8");
	else if (relaxed && len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		j->p += 3;
}

size_t jread_line(const struct jread *j)
{
	size_t line = 1;

	for (const char *p = j->start; p < j->p; p++)
		line += *p == '\n';
	return line;
}

bool jread_is(const struct jread_text *t, const char *s)
{
	return t->len == strlen(s) && memcmp(t->p, s, t->len) == 0;
}

/* Passes over a comment that begins here, if one does. */
static bool comment(struct jread *j)
{
	if (!j->relaxed || j->end - j->p < 2 || j->p[0] != '/')
		return false;
	if (j->p[1] == '/') {
		char *line_end = memchr(j->p, '\n', (size_t)(j->end - j->p));

		j->p = line_end ? line_end : j->end;
		return true;
	}
	if (j->p[1] == '*') {
		char *close = memmem(j->p + 2, (size_t)(j->end - j->p) - 2, "*/", 2);

		if (!close)
			return jread_fail(j, "a comment does not end");
		j->p = close + 2;
		return true;
	}
	return false;
}

/* The next byte that is no space; 0 at the end, or after an error. */
static char peek(struct jread *j)
{
	if (j->error)
		return 0;
	do {
		while (j->p < j->end &&
			(*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
			j->p++;
	} while (comment(j));
	return j->p < j->end && !j->error ? *j->p : 0;
}

enum jread_kind jread_kind(struct jread *j)
{
	char c = peek(j);

	switch (c) {
	case '{':
		return JREAD_OBJECT;
	case '[':
		return JREAD_ARRAY;
	case '"':
		return JREAD_STRING;
	case 't':
		return JREAD_TRUE;
	case 'f':
		return JREAD_FALSE;
	case 'n':
		return JREAD_NULL;
	default:
		return c == '-' || (c >= '0' && c <= '9') ? JREAD_NUMBER : JREAD_BAD;
	}
}

bool jread_enter(struct jread *j, enum jread_kind kind)
{
	if (jread_kind(j) != kind)
		return jread_fail(
			j, kind == JREAD_OBJECT ? "an object is missing" : "an array is missing");
	j->p++;
	j->first = true;
	return true;
}

/* Goes on to the next member or element: false at the bracket that closes, which is passed over. */
static bool advance(struct jread *j, char close)
{
	char c = peek(j);
	bool comma = false;

	if (!j->first && c == ',') {
		comma = true;
		j->p++;
		c = peek(j);
	}
	if (c == close && (!comma || j->relaxed)) {
		j->p++;
		j->first = false;
		return false;
	}
	if (!j->first && !comma)
		return jread_fail(j, "a comma is missing");
	j->first = false;
	return !j->error;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The four digits at `p`, or -1. */
static int hex4(const char *p, const char *end)
{
	int code = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(p[i]);

		if (digit < 0)
			return -1;
		code = code << 4 | digit;
	}
	return code;
}

/* Passes over a string; what stands between its quotes is `raw`. */
static bool scan_string(struct jread *j, struct jread_text *raw)
{
	if (peek(j) != '"')
		return jread_fail(j, "a string is missing");
	char *begin = ++j->p;
	for (; j->p < j->end && *j->p != '"'; j->p++) {
		if ((unsigned char)*j->p < 0x20)
			return jread_fail(j, "a control character in a string");
		if (*j->p != '\\')
			continue;
		j->p++;
		if (j->p == j->end)
			break;
		if (*j->p == 'u' ? hex4(j->p + 1, j->end) < 0 : !strchr("\"\\/bfnrt", *j->p))
			return jread_fail(j, "an escape that does not exist");
		if (*j->p == '\0')
			return jread_fail(j, "an escape that does not exist");
	}
	if (j->p == j->end)
		return jread_fail(j, "a string does not end");
	*raw = (struct jread_text){.p = begin, .len = (size_t)(j->p - begin)};
	j->p++;
	return true;
}

/* Decodes \uXXXX at *p (behind the u), with its other half. */
static void decode_unicode(const char **p, const char *end, char **out, struct jread_text *t)
{
	int code = hex4(*p, end);

	*p += 4;
	if (code >= 0xd800 && code <= 0xdfff) {
		int low = code < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u'
			? hex4(*p + 2, end)
			: -1;

		if (low >= 0xdc00 && low <= 0xdfff) {
			code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
			*p += 6;
		} else {
			code = 0xfffd;
			t->broken = true;
		}
	}
	*out += utf8_write((unsigned)code, *out);
}

/* Decodes what scan_string() found, where it stands. */
static void decode(struct jread_text *t)
{
	static const char letters[] = "bfnrt", bytes[] = "\b\f\n\r\t";
	const char *p = t->p, *end = t->p + t->len;
	char *out = memchr(t->p, '\\', t->len);

	if (out) {
		for (p = out; p < end;) {
			if (*p != '\\') {
				*out++ = *p++;
			} else if (p[1] == 'u') {
				p += 2;
				decode_unicode(&p, end, &out, t);
			} else {
				const char *at = strchr(letters, p[1]);

				*out++ = at ? bytes[at - letters] : p[1];
				p += 2;
			}
		}
		t->len = (size_t)(out - t->p);
	}
	t->replaced = memmem(t->p, t->len, "\xef\xbf\xbd", 3) != NULL;
}

bool jread_string(struct jread *j, struct jread_text *out)
{
	if (!scan_string(j, out))
		return false;
	decode(out);
	return true;
}

static bool raw_member(struct jread *j, struct jread_text *name)
{
	if (!advance(j, '}') || !scan_string(j, name))
		return false;
	if (peek(j) != ':')
		return jread_fail(j, "a colon is missing");
	j->p++;
	return true;
}

bool jread_member(struct jread *j, struct jread_text *name)
{
	if (!raw_member(j, name))
		return false;
	decode(name);
	return true;
}

bool jread_element(struct jread *j)
{
	return advance(j, ']');
}

static size_t digits(struct jread *j)
{
	const char *begin = j->p;

	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
	return (size_t)(j->p - begin);
}

static bool scan_number(struct jread *j)
{
	bool good;

	if (*j->p == '-')
		j->p++;
	const char *begin = j->p;
	size_t n = digits(j);
	good = n == 1 || (n > 1 && *begin != '0');
	if (good && j->p < j->end && *j->p == '.') {
		j->p++;
		good = digits(j) > 0;
	}
	if (good && j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
		j->p++;
		if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
			j->p++;
		good = digits(j) > 0;
	}
	return good || jread_fail(j, "a number is malformed");
}

static bool scan_word(struct jread *j, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(j->end - j->p) < len || memcmp(j->p, word, len) != 0)
		return jread_fail(j, "a value is malformed");
	j->p += len;
	return true;
}

static bool scan_scalar(struct jread *j, enum jread_kind kind)
{
	struct jread_text ignored;

	switch (kind) {
	case JREAD_STRING:
		return scan_string(j, &ignored);
	case JREAD_NUMBER:
		return scan_number(j);
	case JREAD_TRUE:
		return scan_word(j, "true");
	case JREAD_FALSE:
		return scan_word(j, "false");
	case JREAD_NULL:
		return scan_word(j, "null");
	default:
		return jread_fail(j, "a value is missing");
	}
}

bool jread_skip(struct jread *j, struct jread_text *raw)
{
	bool in_object[JREAD_DEPTH_MAX];
	struct jread_text ignored;
	size_t depth = 0;

	peek(j);
	char *begin = j->p;
	do {
		enum jread_kind kind = jread_kind(j);

		if (kind == JREAD_OBJECT || kind == JREAD_ARRAY) {
			if (depth == JREAD_DEPTH_MAX)
				return jread_fail(j, "it is nested too deeply");
			jread_enter(j, kind);
			in_object[depth++] = kind == JREAD_OBJECT;
		} else if (!scan_scalar(j, kind)) {
			return false;
		}
		while (depth > 0 &&
			!(in_object[depth - 1] ? raw_member(j, &ignored) : jread_element(j))) {
			if (j->error)
				return false;
			depth--;
		}
	} while (depth > 0);
	if (raw)
		*raw = (struct jread_text){.p = begin, .len = (size_t)(j->p - begin)};
	return true;
}

bool jread_int(struct jread *j, int64_t *out)
{
	int64_t n = 0;

	if (jread_kind(j) != JREAD_NUMBER)
		return jread_fail(j, "a number is missing");
	char *p = j->p;
	if (!scan_number(j))
		return false;
	bool negative = *p == '-';
	for (p += negative; p < j->p; p++) {
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, *p - '0', &n))
			return jread_fail(j, "a number is out of range");
	}
	*out = negative ? -n : n;
	return true;
}

bool jread_bool(struct jread *j, bool *out)
{
	enum jread_kind kind = jread_kind(j);

	if (kind != JREAD_TRUE && kind != JREAD_FALSE)
		return jread_fail(j, "true or false is missing");
	*out = kind == JREAD_TRUE;
	return scan_scalar(j, kind);
}

bool jread_null(struct jread *j)
{
	return jread_kind(j) == JREAD_NULL && scan_scalar(j, JREAD_NULL);
}

bool jread_end(struct jread *j)
{
	peek(j);
	if (!j->error && j->p != j->end)
		jread_fail(j, "more follows");
	return !j->error;
}

size_t jread_compact(char *text, size_t len)
{
	bool quoted = false;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
			continue;
		text[n++] = c;
		if (quoted && c == '\\' && i + 1 < len)
			text[n++] = text[++i];
		else if (c == '"')
			quoted = !quoted;
	}
	return n;
}
