#include "backends/cloudflare/pacer.h"

static const int64_t SECOND_NS = INT64_C(1000000000);
static const int64_t QUOTA_DEFAULT = 1200; /* per five minutes: Cloudflare's, whatever it says */

enum {
	FIRST_UNDER_WAY = 8, /* before anything is known */
	MARGIN_MAX = 5,
	MARGIN_PART = 20, /* of the quota, where that is less */
	RESERVE_PART = 10, /* of the quota, for interactive requests */
};

void pacer_init(struct pacer *p)
{
	*p = (struct pacer){.quota = QUOTA_DEFAULT, .left = -1};
}

void pacer_wait_begin(struct pacer *p, enum client_priority prio)
{
	p->waiting[prio]++;
}

void pacer_wait_end(struct pacer *p, enum client_priority prio)
{
	p->waiting[prio]--;
}

static int64_t left_now(const struct pacer *p, int64_t now)
{
	int64_t left = p->reset_at && now >= p->reset_at ? p->quota : p->left;

	return left < 0 ? -1 : left - p->under_way;
}

int64_t pacer_left(const struct pacer *p, int64_t now)
{
	int64_t left = left_now(p, now);

	return p->left < 0 ? -1 : left < 0 ? 0 : left;
}

/* What a priority must leave. */
static int64_t floor_of(const struct pacer *p, enum client_priority prio)
{
	int64_t margin = p->quota / MARGIN_PART < MARGIN_MAX ? p->quota / MARGIN_PART : MARGIN_MAX;

	return prio == CLIENT_INTERACTIVE ? margin : margin + p->quota / RESERVE_PART;
}

/* When the next one may go so that `usable` requests last until the window ends. */
static int64_t spread(const struct pacer *p, int64_t now, enum client_priority prio, int64_t usable)
{
	if (!p->reset_at || p->reset_at <= now || !p->last_start[prio])
		return now;
	return p->last_start[prio] + (p->reset_at - now) / usable;
}

/* 0 or when to ask again. */
static int64_t by_quota(struct pacer *p, int64_t now, enum client_priority prio)
{
	if (p->reset_at && now >= p->reset_at) {
		p->left = p->quota;
		p->reset_at = 0;
	}
	if (p->left < 0)
		return p->answered || p->under_way < FIRST_UNDER_WAY ? 0 : INT64_MAX;
	int64_t left = left_now(p, now), usable = left - floor_of(p, prio);
	if (usable <= 0)
		return p->reset_at ? p->reset_at : p->under_way ? INT64_MAX : now + SECOND_NS;
	int64_t plenty = prio == CLIENT_INTERACTIVE ? p->quota / RESERVE_PART : p->quota / 2;
	if (left >= plenty)
		return 0;
	int64_t next = spread(p, now, prio, usable);
	return next > now ? next : 0;
}

int64_t pacer_start(struct pacer *p, int64_t now, enum client_priority prio)
{
	if (now < p->blocked_until)
		return p->blocked_until;
	if (prio != CLIENT_INTERACTIVE && p->waiting[CLIENT_INTERACTIVE] > 0)
		return INT64_MAX;
	int64_t at = by_quota(p, now, prio);
	if (at)
		return at;
	p->under_way++;
	p->last_start[prio] = now;
	return 0;
}

/* An answer counts for the window that it was given in, which ends at some time between two bounds: it
 * was given between the request and its arrival, and its seconds are whole, rounded we do not know how.
 * Answers overtake each other: those of one window narrow the bounds, and the least of them counts. One
 * whose window began after the known one is over begins anew; that of an older window says nothing. */
static void learn(struct pacer *p, int64_t now, int64_t started, int64_t remaining, int64_t reset_s)
{
	int64_t from = started + (reset_s - 1) * SECOND_NS, upto = now + (reset_s + 1) * SECOND_NS;

	if (p->left < 0 || !p->reset_at || from > p->reset_at) {
		p->left = remaining;
		p->reset_from = from;
		p->reset_at = upto;
	} else if (upto >= p->reset_from) {
		if (remaining < p->left)
			p->left = remaining;
		if (from > p->reset_from)
			p->reset_from = from;
		if (upto < p->reset_at)
			p->reset_at = upto;
	}
}

void pacer_done(struct pacer *p, int64_t now, int64_t started, bool answered, int64_t remaining,
	int64_t reset_s, int64_t quota)
{
	p->under_way--;
	p->answered |= answered;
	if (quota > 0)
		p->quota = quota;
	if (answered && remaining >= 0 && reset_s >= 0) {
		if (remaining > p->quota)
			p->quota = remaining;
		learn(p, now, started, remaining, reset_s);
	} else if (p->left > 0) {
		/* Whether it was counted nobody tells. */
		p->left--;
	}
}

void pacer_block(struct pacer *p, int64_t until)
{
	if (until > p->blocked_until)
		p->blocked_until = until;
}

int64_t pacer_block_end(const struct pacer *p, int64_t now)
{
	return p->reset_at > now ? p->reset_at : now;
}
