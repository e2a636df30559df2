/*
 * toml.h - reads TOML 1.0 and tells what it finds, in the order of the text.
 *
 * It keeps nothing: no tree is built, so a table that is opened twice, or a key that is given twice,
 * is for the listener to notice, where it matters. Line breaks and trailing commas in inline tables
 * (TOML 1.1) are fine. Numbers and dates are passed over with their look checked, not their value.
 *
 * Pure.
 */
#ifndef KVFS_CLOUDFLARE_TOML_H
#define KVFS_CLOUDFLARE_TOML_H

#include <stdbool.h>
#include <stddef.h>

enum { TOML_DEPTH_MAX = 64 };

/* Where something stands: the keys on the way to it, decoded, without NULs. An array within an array,
 * and a value in an array that is no table, add a component that is no key (is_index). */
struct toml_path {
	char *keys[TOML_DEPTH_MAX];
	bool is_index[TOML_DEPTH_MAX];
	size_t n;
};

enum toml_event {
	TOML_TABLE, /* a header [path], or an inline table */
	TOML_ELEMENT, /* a table begins that is the next element of the array at path */
	TOML_ARRAY, /* an inline array */
	TOML_STRING,
	TOML_OTHER /* a number, date or boolean */
};

/* `value` (TOML_STRING only) is valid during the call. NULL, or why the text is refused. */
typedef const char *(*toml_listener)(void *arg, enum toml_event event, const struct toml_path *path,
	size_t line, const char *value, size_t len);

/* 0; -EINVAL with *line and *why; -ENOMEM. */
int toml_parse(const char *text, size_t len, toml_listener listener, void *arg, size_t *line,
	const char **why);

#endif
