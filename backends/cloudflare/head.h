/*
 * head.h - what the headers of an answer say: quota, when to come again, when a value expires.
 *
 * Pure. Fed line by line; what is malformed counts as absent, but a malformed expiration makes the
 * answer unusable.
 */
#ifndef KVFS_CLOUDFLARE_HEAD_H
#define KVFS_CLOUDFLARE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct head {
	int64_t remaining, reset; /* Ratelimit: requests left, seconds until the window ends; -1 */
	int64_t quota, window; /* Ratelimit-Policy: requests per window, its seconds; -1 */
	int64_t retry_ms; /* retry-after-ms; -1 */
	int64_t retry_s; /* Retry-After in seconds; -1 */
	int64_t retry_date; /* Retry-After as a date, Unix seconds; -1 */
	int64_t expiration; /* 0: none */
	bool bad; /* expiration is malformed, or given twice and differently */
};

void head_init(struct head *h);

/* One line, its end included or not. A status line begins anew. */
void head_line(struct head *h, const char *line, size_t len);

/* Nanoseconds to wait by the server's wish; -1: it has none. `now`: Unix seconds. */
int64_t head_retry_after(const struct head *h, int64_t now);

/* A date of HTTP ("Sun, 06 Nov 1994 08:49:37 GMT") in Unix seconds, or -1. */
int64_t head_date(const char *text, size_t len);

#endif
