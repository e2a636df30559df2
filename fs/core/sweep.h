/*
 * sweep.h - removes keys when they expire, and tells the kernel.
 *
 * One thread sleeps until the next expiry that the store knows of. What it costs is in the number
 * of keys expired. Views hide expired keys by themselves: the sweep is for the kernel's caches and
 * for the space.
 */
#ifndef KVFS_SWEEP_H
#define KVFS_SWEEP_H

#include <stdint.h>

struct fs;
struct sweep;

int sweep_start(struct fs *fs, struct sweep **out);
/* Nobody is notified any more when it returns; requests may go on. May be called again. NULL is
 * fine. */
void sweep_stop(struct sweep *s);
void sweep_free(struct sweep *s); /* stopped, or NULL */

/* Something expires at this time, nanoseconds since the epoch. NULL is fine. A leaf lock. */
void sweep_expect(struct sweep *s, int64_t expiry);

#endif
