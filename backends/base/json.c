#include "backends/base/json.h"

#include <jansson.h>
#include <string.h>

bool json_is_valid(const void *text, size_t len)
{
	/* jansson takes a NUL byte for the end of the text. */
	if (len && memchr(text, '\0', len))
		return false;
	json_t *value = json_loadb(
		text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);

	json_decref(value);
	return value != NULL;
}
