/*
 * clock.h - the one clock that expiry and time stamps are read from.
 *
 * It is CLOCK_REALTIME, or, where the environment variable KVFS_CLOCK names a file when the process
 * starts, the time written in that file: seconds since the epoch as decimal text, with a fraction
 * if one likes ("1764000000.25"). Tests set the time by replacing the file (rename) or rewriting
 * it.
 *
 * Threads: clock_init() before there are any; the rest from everywhere.
 */
#ifndef KVFS_CLOCK_H
#define KVFS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { CLOCK_SECOND = 1000000000 };

/* Looks for KVFS_CLOCK. 0 or -errno (the file is missing or holds no time). */
int clock_init(void);

/* Whether a test sets the time, so that it may jump, and stands still in between. */
bool clock_is_set_by_test(void);

/* Nanoseconds since the epoch. */
int64_t clock_now(void);

/* The same when the process began to ask for it, and from then on at a steady pace: what the
 * system's clock is set to meanwhile does not change it. For how long something waits. Where a
 * test sets the time, that. */
int64_t clock_steady(void);

/* Nanoseconds of CLOCK_MONOTONIC, whatever a test sets. */
int64_t clock_monotonic(void);

/* Until `ns` by clock_steady(), for a condition variable whose clock is CLOCK_MONOTONIC. */
struct timespec clock_steady_until(int64_t ns);

struct timespec clock_timespec(int64_t ns);
int64_t clock_ns(struct timespec ts);

#endif
