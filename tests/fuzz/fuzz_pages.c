/*
 * fuzz_pages.c - a data file in which something was changed: it is refused, or else it can be used to
 * any extent without an end of the process. (Other answers, errors and lost keys are all there can be.)
 *
 * Input: for each change the page, where in it (u16), what to do and a number (u16).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/environment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHANGE = 6, CHANGES_MAX = 64, PAGE = 4096 };

static void change(unsigned char *bytes, size_t pages, const uint8_t *p)
{
	size_t page = p[0] % pages, at = (p[1] | (size_t)p[2] << 8) % (PAGE - 8);
	uint16_t value = (uint16_t)(p[4] | p[5] << 8), old;
	unsigned char *to = bytes + page * PAGE + at;

	memcpy(&old, to, sizeof(old));
	switch (p[3] % 6) {
	case 0:
		*to = p[4];
		break;
	case 1:
		memcpy(to, &value, sizeof(value));
		break;
	case 2:
		value = (uint16_t)(value + old);
		memcpy(to, &value, sizeof(value));
		break;
	case 3:
		*to ^= (unsigned char)(1 << p[4] % 8);
		break;
	case 4:
		memcpy(bytes + page * PAGE, bytes + p[4] % pages * PAGE, PAGE);
		break;
	default:
		memset(to, p[4], p[5] % 8 + 1u);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len;
	const unsigned char *base = environment_bytes(&len);
	unsigned char *bytes = malloc(len);

	environment_demand(bytes != NULL, "memory");
	memcpy(bytes, base, len);
	for (size_t i = 0; i < CHANGES_MAX && size >= CHANGE; i++, data += CHANGE, size -= CHANGE)
		change(bytes, len / PAGE, data);
	environment_set(bytes, len);
	free(bytes);
	environment_use();
	return 0;
}
