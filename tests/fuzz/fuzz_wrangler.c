/*
 * fuzz_wrangler.c - configuration files of any bytes: the first one chooses TOML or JSON.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/wrangler.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[WRANGLER_ERROR] = "";
	struct wrangler w;

	if (size == 0)
		return 0;
	char *text = malloc(size);
	memcpy(text, data + 1, size - 1);
	if (wrangler_parse(text, size - 1, data[0] % 2 ? WRANGLER_JSON : WRANGLER_TOML, "f", &w,
		    error) != 0) {
		demand(strncmp(error, "f:", 2) == 0);
	} else {
		for (size_t i = 0; i < w.n; i++)
			demand(w.bindings[i].binding && *w.bindings[i].binding &&
				w.bindings[i].line > 0);
		demand(w.n_envs > 0 && !w.envs[0].name);
		wrangler_release(&w);
	}
	free(text);
	return 0;
}
