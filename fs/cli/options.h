/*
 * options.h - what `kvfs mount -o ...` takes.
 */
#ifndef KVFS_OPTIONS_H
#define KVFS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/core/fs.h"

struct mount_options {
	struct fs_options fs;
	bool allow_other, nonempty, debug;
	unsigned commit_interval_ms;
	char *log; /* NULL: not given */
	char kernel[256]; /* what is for mount(2), comma-separated */
};

/* The defaults of a mount by this process. */
void options_init(struct mount_options *o);
void options_release(struct mount_options *o);

/* Parses one -o argument (changed in place). -EINVAL, with one fragment of a sentence in `why`;
 * -ENOMEM. */
int options_parse(struct mount_options *o, char *text, char *why, size_t why_cap);

#endif
