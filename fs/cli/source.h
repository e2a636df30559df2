/*
 * source.h - what can be mounted: lmdb:DIR[#NAMESPACE], and what is on a network
 * (remote_source.h).
 */
#ifndef KVFS_SOURCE_H
#define KVFS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/store.h"
#include "fs/cli/remote_source.h"

struct source {
	char *text; /* lmdb:DIR[#NAMESPACE], with an absolute folder; NULL until parsed */
	char *dir; /* absolute */
	bool has_namespace;
	size_t ns_len;
	unsigned char ns[512];
	struct remote_source *remote; /* NULL: it is an LMDB environment */
};

/* -EINVAL with one clause in `why`; -ENOMEM. */
int source_parse(struct source *s, const char *text, char *why, size_t why_cap);
void source_release(struct source *s);

/* Opens the store, where need be after waiting up to 10 s for one who is about to let go of it, and
 * finds (or makes) the namespace; *ns stays as it is where the source names
 * none. */
int source_open(const struct source *s, const struct mount_options *o, struct store **out,
	uint32_t *ns, char *why, size_t why_cap);

#endif
