/*
 * session.h - a mounted filesystem, from mount(2) to its end.
 */
#ifndef KVFS_SESSION_H
#define KVFS_SESSION_H

#include "fs/fuse/ops.h"

struct session_options {
	bool allow_other, readonly, debug;
	bool nospin; /* loop.h: not eager */
	const char *kernel; /* further options for mount(2), comma-separated; may be empty */
};

/* Mounts m->fs at m->mountpoint and answers requests until it is unmounted or SIGTERM, SIGINT or
 * SIGHUP arrives; then it is unmounted. m->ready is called when the mount is usable. To be called
 * by the main thread, of which those signals are blocked from then on. -errno, with a fragment of a
 * sentence in `why`, when it could not be mounted. */
int session_run(struct mounted *m, const struct session_options *opt, char *why, size_t why_cap);

#endif
