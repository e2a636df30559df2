/*
 * jread.h - reads JSON (RFC 8259) step by step, from a text in memory, believing nothing.
 *
 * Why not a tree: a reply has parts that must come through exactly as they were written (metadata,
 * whose numbers no library keeps: 1.10, 12345678901234567890123, 1e400), parts that must be read
 * fast and without copies (25 MiB of values), and a server that is not trusted must not make us
 * build anything. So the reader walks over the text; strings are decoded where they stand (decoded
 * text is never longer), so a text can be read once; and any value can be had as it is written
 * instead.
 *
 * Errors stick: after the first, every function returns false, `error` says what and jread_line()
 * where. The text is UTF-8 as a whole, or its reading fails at the start. What is skipped is
 * checked as strictly as what is read, but for two things that are syntax all the same: names that
 * an object has twice, and \u escapes of half a surrogate pair.
 *
 * Pure; one owner.
 */
#ifndef KVFS_CLOUDFLARE_JREAD_H
#define KVFS_CLOUDFLARE_JREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JREAD_DEPTH_MAX = 1024 }; /* of what is skipped */

enum jread_kind {
	JREAD_BAD, /* no value begins here */
	JREAD_OBJECT,
	JREAD_ARRAY,
	JREAD_STRING,
	JREAD_NUMBER,
	JREAD_TRUE,
	JREAD_FALSE,
	JREAD_NULL
};

struct jread {
	char *start, *p, *end;
	bool relaxed; /* comments, trailing commas and a byte order mark are fine: .jsonc */
	bool first; /* right behind the bracket that opens */
	const char *error; /* NULL or what is wrong */
};

/* A piece of the text. */
struct jread_text {
	char *p;
	size_t len;
	bool replaced; /* decoded: U+FFFD is in it, or would be */
	bool broken; /* decoded: half a surrogate pair was in it, now U+FFFD */
};

/* The text is written to while it is read, and must outlive what comes from it. */
void jread_init(struct jread *j, char *text, size_t len, bool relaxed);

/* What comes next, without going on. */
enum jread_kind jread_kind(struct jread *j);

/* Into an object or array. */
bool jread_enter(struct jread *j, enum jread_kind kind);

/* The name of the object's next member, whose value is to be read next. False behind the last one,
 * and then the object is left. */
bool jread_member(struct jread *j, struct jread_text *name);

/* Whether the array has another element, which is to be read next. False: the array is left. */
bool jread_element(struct jread *j);

bool jread_string(struct jread *j, struct jread_text *out);
bool jread_int(struct jread *j, int64_t *out); /* no fraction, no exponent, within 64 bits */
bool jread_bool(struct jread *j, bool *out);
bool jread_null(struct jread *j); /* false, and no error, where it is another value */

/* Passes over any value; *raw (may be NULL) is its text as written. */
bool jread_skip(struct jread *j, struct jread_text *raw);

/* Whether nothing more comes. */
bool jread_end(struct jread *j);

/* Sets the error, unless there was one. Always false. */
bool jread_fail(struct jread *j, const char *error);

/* The line (from 1) that the reader has come to. */
size_t jread_line(const struct jread *j);

bool jread_is(const struct jread_text *t, const char *s);

/* Takes white space out of valid JSON, in place; the new length. */
size_t jread_compact(char *text, size_t len);

#endif
