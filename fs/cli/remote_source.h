/*
 * remote_source.h - sources on a network: cloudflare:ACCOUNT[#NAMESPACE], cf:..., and
 * wrangler:FILE[#BINDING].
 */
#ifndef KVFS_REMOTE_SOURCE_H
#define KVFS_REMOTE_SOURCE_H

#include "backends/store.h"
#include "fs/cli/options.h"

struct remote_source;

/* *out stays NULL where the text names another kind of source. -EINVAL with one clause in `why`;
 * -ENOMEM. */
int remote_source_parse(const char *text, struct remote_source **out, char *why, size_t why_cap);
bool remote_source_is_wrangler(const struct remote_source *s);
void remote_source_free(struct remote_source *s); /* NULL is fine */

/* Takes the token out of CLOUDFLARE_API_TOKEN, which is wiped, or of the file that the options
 * name, and reads a wrangler file. While there is one thread, and before the working folder is
 * left. */
int remote_source_load(
	struct remote_source *s, const struct remote_options *o, char *why, size_t why_cap);

/* Opens the cache and the client. *ns stays as it is where the source shows several. */
int remote_source_open(struct remote_source *s, const struct mount_options *o, struct store **out,
	uint32_t *ns, char *why, size_t why_cap);

#endif
