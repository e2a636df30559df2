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

struct timespec clock_timespec(int64_t ns);
int64_t clock_ns(struct timespec ts);

#endif
