/*
 * fuzz_json.c - json_is_valid() on arbitrary bytes: it must not read beyond them, must accept what
 * another parser accepts, and accept only what stays valid as a member of something greater.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* jansson takes a NUL byte for the end of the text. */
static bool other_accepts(const void *text, size_t len)
{
	json_t *value = NULL;

	if (len && !memchr(text, '\0', len))
		value = json_loadb(text, len,
			JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	json_decref(value);
	return value != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char before[] = "{\"a\":[0, ", after[] = "], \"b\":{}}";
	bool valid = json_is_valid(data, size);
	size_t n = sizeof(before) - 1, m = sizeof(after) - 1;
	char *text = malloc(n + size + m);

	require(text != NULL);
	if (other_accepts(data, size))
		require(valid);
	memcpy(text, before, n);
	if (size)
		memcpy(text + n, data, size);
	memcpy(text + n + size, after, m);
	if (valid)
		require(json_is_valid(text, n + size + m));
	if (other_accepts(text, n + size + m))
		require(json_is_valid(text, n + size + m));
	free(text);
	return 0;
}
