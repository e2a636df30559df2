/*
 * pace.h - how soon after an answer the next request comes, and what waiting for it is worth.
 *
 * A program that waits for each answer sends its next request within tens of microseconds, most of
 * which are the waking of a processor that halted meanwhile. To look out for it instead of sleeping
 * is worth it only as long as it does come: each that was late takes several that were not to make
 * up for. Each request costs PACE_LOOK_OUT_NS at most: where they come at intervals just longer than
 * that, it may be up to about half of a processor; nothing at all while no requests come.
 *
 * Plain values, no lock: a pace belongs to one thread.
 */
#ifndef KVFS_PACE_H
#define KVFS_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PACE_NEAR_NS = 150 * 1000, /* sooner than that is soon */
	PACE_LOOK_OUT_NS = 40 * 1000, /* how long to look out: most have come then */
	PACE_LINGER_US = 200, /* how long processors are kept awake after the last request */
};

struct pace {
	int near, stream; /* more of the soon, fewer after each late one */
};

/* A request has come so long after the answer to the one before. */
void pace_note(struct pace *p, int64_t gap_ns);

/* Whether to look out for the next one. */
bool pace_looks_out(const struct pace *p);

/* Whether they have come without a pause for so long that processors are worth being kept awake. */
bool pace_is_stream(const struct pace *p);

#endif
