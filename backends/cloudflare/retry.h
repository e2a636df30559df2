/*
 * retry.h - how long to wait before a request is tried again. Pure.
 */
#ifndef KVFS_CLOUDFLARE_RETRY_H
#define KVFS_CLOUDFLARE_RETRY_H

#include <stdint.h>

/* Nanoseconds before attempt number `attempt` (the first repetition is 1): 0.5 s, doubling to 8 s,
 * less up to a quarter, by the random number. */
int64_t retry_delay(unsigned attempt, uint32_t random);

#endif
