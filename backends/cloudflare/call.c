/*
 * call.c - the life of a request: ready (waits for its time and the pacer), under way (belongs to
 * the transport), answered; then it is finished, or ready again.
 *
 * Its deadline is `timeout` after it was first ready. What a background request waits for quota, or
 * because the server sent it away with 429, moves its deadline.
 */
#include "backends/cloudflare/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "backends/cloudflare/report.h"
#include "backends/cloudflare/retry.h"

enum {
	SLOWEST = 32 * 1024, /* bytes per second that a large body is given time for */
	PATIENCE = 10, /* times that a background request is sent away and comes again */
	REFUSED_WAIT_S = 2, /* after a rate limit that does not say how long it holds */
	WRITE_WAIT_S = 1, /* between two writes of a key: the first may have been carried out */
};

/* Whether it writes keys, of which the server takes one write a second. */
static bool is_write(enum client_call call)
{
	return call == CLIENT_PUT || call == CLIENT_BULK_PUT || call == CLIENT_DELETE ||
		call == CLIENT_BULK_DELETE;
}

static int64_t now_of(const struct client *c)
{
	return c->clock.now(c->clock.arg);
}

static double seconds(int64_t ns)
{
	return (double)ns / CLOCK_SECOND;
}

bool call_is_hopeless(int error)
{
	return error == -EACCES || error == -ENODEV || error == -ETIMEDOUT || error == -ECANCELED ||
		error == -EDQUOT || error == -EOPNOTSUPP;
}

static bool is_success(const struct call *call)
{
	if (call->req.call == CLIENT_GET)
		return call->x.status == 200;
	return call->x.status >= 200 && call->x.status < 300;
}

/* What the transport's thread does with an answer. With the lock. */
static void take_stock(struct client *c, const struct call *call, int64_t now)
{
	const struct exchange *x = &call->x;
	bool answered = x->error == 0;

	c->stats.sent += x->sent;
	c->stats.received += x->received;
	pacer_done(&c->pacer, now, call->started, answered, x->head.remaining, x->head.reset,
		x->head.quota);
	if (answered)
		c->stats.offline_since = 0;
	else if ((x->error == -ECONNABORTED || x->error == -ETIMEDOUT) && !c->stats.offline_since)
		c->stats.offline_since = clock_now();
	if (answered && x->status == 429)
		c->stats.rate_limited++;
}

static void on_done(struct exchange *x)
{
	struct call *call = x->arg;
	struct client *c = call->c;

	lock_take(&c->lock);
	take_stock(c, call, now_of(c));
	call->state = CALL_ANSWERED;
	pthread_cond_broadcast(&c->changed);
	lock_drop(&c->lock);
}

static void drop_answer(struct call *call)
{
	text_release(&call->x.text);
	blob_unref(call->x.blob);
	call->x.blob = NULL;
}

void call_release(struct call *call)
{
	drop_answer(call);
	request_release(&call->req);
}

/* Sends it. Without the lock. */
static void send_call(struct call *call, const struct call_job *job, int64_t now)
{
	struct client *c = call->c;
	int64_t left = call->deadline - now;
	uint64_t bytes = call->req.body.size + (job->raw ? job->max : 0);

	drop_answer(call);
	memset(&call->x, 0, sizeof(call->x));
	call->x.method = call->req.method;
	call->x.url = call->req.url.p;
	call->x.type = call->req.type;
	call->x.body = &call->req.body;
	call->x.once = is_write(call->req.call);
	call->x.compressed = !job->raw;
	call->x.max = job->max;
	call->x.pool = job->raw ? c->blobs : NULL;
	call->x.stall = left > CLOCK_SECOND ? seconds(left) : 1;
	call->x.total = call->x.stall + (double)bytes / SLOWEST;
	call->x.done = on_done;
	call->x.arg = call;
	transport_submit(c->transport, &call->x);
}

/* Ends it with an error, or makes it ready for another attempt in `delay` nanoseconds. `paced`: it
 * is for the quota's sake. */
static void try_again(struct call *call, int error, int64_t delay, bool paced, int64_t now)
{
	if (is_write(call->req.call) && delay < (int64_t)WRITE_WAIT_S * CLOCK_SECOND)
		delay = (int64_t)WRITE_WAIT_S * CLOCK_SECOND;
	if (call->prio == CLIENT_BACKGROUND && paced && call->attempt < PATIENCE)
		call->deadline += delay;
	if (now + delay >= call->deadline) {
		call->error = error;
		return;
	}
	call->attempt++;
	call->not_before = now + delay;
	call->state = CALL_READY;
}

static void block_everyone(struct client *c, int64_t delay, int64_t now)
{
	int64_t until = now + delay;

	lock_take(&c->lock);
	if (delay < 0)
		until = pacer_block_end(&c->pacer, now) + (int64_t)REFUSED_WAIT_S * CLOCK_SECOND;
	pacer_block(&c->pacer, until);
	lock_drop(&c->lock);
}

/* The server answered, and not with success. */
static void judge_refusal(struct client *c, struct call *call, int64_t now)
{
	struct exchange *x = &call->x;
	char none[1] = "";

	response_refusal(&call->resp, x->text.p ? x->text.p : none, x->text.len);
	int error = response_errno(call->req.call, x->status, &call->resp);
	if (!response_retryable(x->status, &call->resp)) {
		call->error = error;
		return;
	}
	int64_t wish = head_retry_after(&x->head, clock_now() / CLOCK_SECOND);
	if (response_rate_limited(x->status, &call->resp))
		block_everyone(c, wish, now);
	/* Whatever the server wishes, it must not be asked without pause. */
	int64_t delay = retry_delay(call->attempt + 1, arc4random());
	if (wish > 0 || (wish == 0 && call->attempt < 2))
		delay = wish;
	call->lost |= x->status >= 500 || x->status == 408;
	try_again(call, error, delay, x->status == 429, now);
}

static void judge_loss(struct call *call, int64_t now)
{
	int64_t delay = retry_delay(call->attempt + 1, arc4random());

	call->lost = true;
	try_again(call, -ETIMEDOUT, delay, false, now);
}

/* What to do with what came: the call is ready again, or answered with its outcome in `error`. */
static void judge(struct client *c, struct call *call)
{
	struct exchange *x = &call->x;
	int64_t now = now_of(c);

	call->error = 0;
	call->resp = (struct response){0};
	if (x->error == -ECONNABORTED || x->error == -ETIMEDOUT)
		judge_loss(call, now);
	else if (x->error)
		call->error = x->error == -EPROTO ? -EIO : x->error;
	else if (!is_success(call))
		judge_refusal(c, call, now);
	else if (x->head.bad)
		call->error = -EIO;
}

static void report_call(struct client *c, struct call *call)
{
	const struct exchange *x = &call->x;
	const char *words = *call->resp.message ? call->resp.message : x->cause;

	if (call->error == -EFBIG && call->req.count > 1)
		return; /* it will be divided */
	if (x->status >= 300 && x->status < 400)
		words = "a redirect, which is not followed";
	report_failure(
		c, &call->req, call->error, x->error ? 0 : x->status, call->resp.code, words);
}

int call_disbelieve(struct client *c, struct call *call, const char *why)
{
	call->error = -EIO;
	report_failure(c, &call->req, -EIO, call->x.status, 0, why ? why : "a malformed answer");
	return -EIO;
}

/* Whoever runs a job. */
struct run {
	struct client *c;
	struct call_job *job;
	struct call *calls; /* job->parallel */
	size_t active;
	bool waiting; /* the pacer counts us among those who wait */
	int64_t wake; /* when to look again */
};

static void set_waiting(struct run *run, bool waiting)
{
	struct client *c = run->c;

	if (waiting == run->waiting)
		return;
	run->waiting = waiting;
	if (waiting) {
		pacer_wait_begin(&c->pacer, run->job->prio);
		c->stats.waits++;
	} else {
		pacer_wait_end(&c->pacer, run->job->prio);
		pthread_cond_broadcast(&c->changed);
	}
}

static void finish_call(struct run *run, struct call *call)
{
	if (call->error)
		report_call(run->c, call);
	run->job->finish(run->job, call);
	call_release(call);
	call->in_use = false;
	run->active--;
}

/* Gives free places to new requests. Without the lock: nobody else knows of these. */
static void fill(struct run *run)
{
	struct client *c = run->c;

	for (size_t i = 0; i < run->job->parallel; i++) {
		struct call *call = run->calls + i;

		if (call->in_use)
			continue;
		memset(call, 0, sizeof(*call));
		call->c = c;
		call->prio = run->job->prio;
		if (!run->job->next(run->job, call))
			return;
		call->not_before = now_of(c);
		call->deadline = call->not_before + c->timeout;
		call->state = CALL_READY;
		call->in_use = true;
		run->active++;
	}
}

/* Whether a call that is ready has run out of time. With the lock. */
static bool expired(struct call *call, int64_t now)
{
	if (call->c->cancelled)
		call->error = -ECANCELED;
	else if (call->prio == CLIENT_INTERACTIVE && now >= call->deadline)
		call->error = -ETIMEDOUT;
	if (call->error == -ETIMEDOUT && call->attempt == 0)
		snprintf(call->x.cause, sizeof(call->x.cause), "it had to wait for quota");
	return call->error != 0;
}

/* Whether a call that is ready may go now; else run->wake says when to ask. With the lock. */
static bool may_go(struct run *run, struct call *call, int64_t now)
{
	int64_t at = call->not_before;

	if (now >= at) {
		if (!call->wanted_at)
			call->wanted_at = now | 1;
		at = pacer_start(&run->c->pacer, now, call->prio);
		set_waiting(run, at != 0);
	}
	if (at) {
		if (call->prio == CLIENT_INTERACTIVE && call->deadline < at)
			at = call->deadline;
		if (at < run->wake)
			run->wake = at;
		return false;
	}
	if (call->prio == CLIENT_BACKGROUND)
		call->deadline += now - call->wanted_at > 0 ? now - call->wanted_at : 0;
	call->wanted_at = 0;
	call->started = now;
	call->state = CALL_UNDER_WAY;
	run->c->stats.requests[call->req.call]++;
	run->c->stats.retries += call->attempt > 0;
	return true;
}

/* The next thing to do for one call; true when something was done without the lock. */
static bool step(struct run *run, struct call *call)
{
	struct client *c = run->c;
	int64_t now = now_of(c);

	if (!call->in_use)
		return false;
	if (call->state == CALL_READY) {
		bool over = expired(call, now);

		if (over)
			set_waiting(run, false);
		else if (!may_go(run, call, now))
			return false;
		lock_drop(&c->lock);
		if (over)
			finish_call(run, call);
		else
			send_call(call, run->job, now);
	} else if (call->state == CALL_ANSWERED) {
		lock_drop(&c->lock);
		judge(c, call);
		if (call->state == CALL_ANSWERED)
			finish_call(run, call);
	} else {
		return false;
	}
	lock_take(&c->lock);
	return true;
}

static void run_all(struct run *run)
{
	struct client *c = run->c;

	for (;;) {
		bool busy = false;

		fill(run);
		if (run->active == 0)
			return;
		lock_take(&c->lock);
		run->wake = INT64_MAX;
		for (size_t i = 0; i < run->job->parallel; i++)
			busy |= step(run, run->calls + i);
		if (!busy)
			c->clock.wait(c->clock.arg, &c->changed, &c->lock, run->wake,
				c->pacer.under_way > 0);
		lock_drop(&c->lock);
	}
}

int call_run(struct client *c, struct call_job *job)
{
	struct run run = {.c = c, .job = job};

	run.calls = calloc(job->parallel, sizeof(*run.calls));
	if (!run.calls)
		return -ENOMEM;
	run_all(&run);
	lock_take(&c->lock);
	set_waiting(&run, false);
	lock_drop(&c->lock);
	free(run.calls);
	return 0;
}

/* A job of one request. */
struct single {
	struct call_job job;
	struct call *call;
	bool given;
};

static bool single_next(struct call_job *job, struct call *call)
{
	struct single *s = (struct single *)job;

	if (s->given)
		return false;
	s->given = true;
	/* Only requests that do not point into themselves are single ones' (request.h). */
	call->req = s->call->req;
	s->call->req = (struct request){0};
	return true;
}

static void single_finish(struct call_job *job, struct call *call)
{
	struct single *s = (struct single *)job;

	*s->call = *call;
	memset(&call->req, 0, sizeof(call->req));
	memset(&call->x, 0, sizeof(call->x));
}

int call_one(struct client *c, struct call *call, enum client_priority prio, size_t max)
{
	struct single s = {
		.job = {.prio = prio,
			.parallel = 1,
			.max = max,
			.next = single_next,
			.finish = single_finish},
		.call = call,
	};
	int rc = call_run(c, &s.job);

	if (rc)
		call->error = rc;
	return call->error;
}
