/*
 * fuzz_options.c - what stands after -o, and SOURCE: any text is refused, with a reason, or understood,
 * and then what came of it is in bounds and understood again.
 *
 * Input: options, a newline, the source.
 */
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cli/options.h"
#include "fs/cli/source.h"
#include "fs/core/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t SIZE_LIMIT = UINT64_C(1) << 60;
static const int64_t DURATION_LIMIT = INT64_C(1000000) * 1000000000;

static void demand(bool holds)
{
	if (!holds)
		abort();
}

static void check_options(const struct mount_options *o)
{
	const struct remote_options *r = &o->remote;

	demand(names_sep_valid(o->fs.separator));
	demand(o->fs.umask <= 0777 && o->fs.ttl >= 0 && o->fs.ttl <= INT_MAX);
	demand(o->fs.uid != UINT32_MAX && o->fs.gid != UINT32_MAX);
	demand(o->commit_interval_ms <= 60000);
	demand(r->cache_size <= SIZE_LIMIT);
	demand(r->max_age >= 1000000000 && r->max_age <= DURATION_LIMIT);
	demand(r->upload_delay >= 0 && r->upload_delay <= DURATION_LIMIT);
	demand(isfinite(r->timeout) && r->timeout > 0 && r->timeout <= 1e6);
	demand(memchr(o->kernel, '\0', sizeof(o->kernel)) != NULL);
}

static void try_options(char *text)
{
	struct mount_options o;
	char why[256] = "";

	options_init(&o);
	if (options_parse(&o, text, why, sizeof(why)) == 0)
		check_options(&o);
	else
		demand(*why);
	options_release(&o);
}

/* A source is shown as it was understood; that means the same. */
static void try_source(const char *text)
{
	struct source s = {0}, again = {0};
	char why[512] = "";

	if (source_parse(&s, text, why, sizeof(why))) {
		demand(*why);
	} else if (!s.remote) {
		demand(*s.dir == '/' && s.ns_len <= sizeof(s.ns));
		demand(source_parse(&again, s.text, why, sizeof(why)) == 0);
		demand(strcmp(again.dir, s.dir) == 0 && again.has_namespace == s.has_namespace);
		demand(again.ns_len == s.ns_len && memcmp(again.ns, s.ns, s.ns_len) == 0);
	}
	source_release(&s);
	source_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t len = end ? (size_t)(end - data) : size;
	char *options = strndup((const char *)data, len);
	char *source = strndup(end ? (const char *)end + 1 : "", end ? size - len - 1 : 0);

	demand(options && source);
	try_options(options);
	try_source(source);
	free(options);
	free(source);
	return 0;
}
