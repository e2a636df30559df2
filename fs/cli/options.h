/*
 * options.h - what `kvfs mount -o ...` takes.
 */
#ifndef KVFS_OPTIONS_H
#define KVFS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/core/fs.h"

/* What concerns sources on a network only. */
struct remote_options {
	char *cache; /* the folder of caches; NULL: the user's */
	uint64_t cache_size; /* bytes */
	int64_t max_age, upload_delay; /* nanoseconds */
	double timeout; /* seconds */
	bool fsync_remote, keep_conflicts, preview;
	char *local; /* globs, separated by spaces; NULL: the default ones */
	char *endpoint, *token_file, *env;
};

struct mount_options {
	struct fs_options fs;
	struct remote_options remote;
	bool allow_other, nonempty, nospin, debug;
	unsigned commit_interval_ms;
	char *log; /* NULL: not given */
	const char *only_remote,
		*only_wrangler; /* the last one given that concerns such sources only */
	char kernel[256]; /* what is for mount(2), comma-separated */
};

/* The defaults of a mount by this process. */
void options_init(struct mount_options *o);
void options_release(struct mount_options *o);

/* Parses one -o argument (changed in place). -EINVAL, with one fragment of a sentence in `why`;
 * -ENOMEM. */
int options_parse(struct mount_options *o, char *text, char *why, size_t why_cap);

#endif
