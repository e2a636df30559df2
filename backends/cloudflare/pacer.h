/*
 * pacer.h - when the next request may be sent, so that the quota is never overrun.
 *
 * Model. The server counts requests in windows and refuses all of them for the rest of a window
 * whose quota is used up. Its answers tell what is left and when the window ends. Until answers
 * have come, requests under way are taken as not counted yet, so what may be sent is what was left
 * less those under way, less a margin for those that are counted without our knowing. Other users
 * of the token show up in the answers.
 *
 * Background requests leave a reserve, and wait while interactive ones wait. What is little is
 * spread over the rest of the window instead of being gone at once: background requests from half
 * of the quota on, interactive ones from the reserve on.
 *
 * Nothing is known before the first answer: only a few requests go out until it has come. A server
 * whose answers say nothing of a quota has none.
 *
 * Pure: the clock is passed in (nanoseconds, never going back). Callers lock.
 */
#ifndef KVFS_CLOUDFLARE_PACER_H
#define KVFS_CLOUDFLARE_PACER_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/cloudflare/client.h"

enum { PACER_PRIORITIES = 2 };

struct pacer {
	int64_t quota; /* requests per window */
	int64_t left; /* of these, at the last answer; -1: not known */
	int64_t reset_at; /* when the window surely has ended; 0: not known */
	int64_t reset_from; /* when it may have at the earliest */
	int64_t blocked_until; /* by the server's wish */
	int64_t last_start[PACER_PRIORITIES];
	unsigned waiting[PACER_PRIORITIES];
	unsigned under_way;
	bool answered; /* by anything */
};

void pacer_init(struct pacer *p);

/* Says that someone waits to start, or no longer does. */
void pacer_wait_begin(struct pacer *p, enum client_priority prio);
void pacer_wait_end(struct pacer *p, enum client_priority prio);

/* 0: a request may go now, and counts as under way. Else when to ask again; it may be worth asking
 * earlier whenever another request starts waiting no longer, or is done. INT64_MAX: only then. */
int64_t pacer_start(struct pacer *p, int64_t now, enum client_priority prio);

/* One under way is over, that had started at `started`. remaining and reset (seconds) as its answer had
 * them, or -1; quota too. `answered`: there was an answer. */
void pacer_done(struct pacer *p, int64_t now, int64_t started, bool answered, int64_t remaining,
	int64_t reset_s, int64_t quota);

/* Nothing may go before `until`. */
void pacer_block(struct pacer *p, int64_t until);

/* Until when the rate limit holds, by all that is known: at least `now`. */
int64_t pacer_block_end(const struct pacer *p, int64_t now);

/* What is left now, those under way taken off; -1: not known. */
int64_t pacer_left(const struct pacer *p, int64_t now);

#endif
