/*
 * call.h - carries requests out: waits for the pacer, sends, tries again, until there is an answer
 * or none is to be had.
 *
 * A job is any number of requests, a few of them at a time. The thread that runs it builds
 * requests, reads answers and waits; the transport's thread only stores what came.
 */
#ifndef KVFS_CLOUDFLARE_CALL_H
#define KVFS_CLOUDFLARE_CALL_H

#include "backends/cloudflare/internal.h"
#include "backends/cloudflare/request.h"
#include "backends/cloudflare/response.h"

enum call_state { CALL_READY, CALL_UNDER_WAY, CALL_ANSWERED };

/* One request and what became of it. */
struct call {
	struct request req; /* built by `next` */
	size_t from, n; /* whatever the job means by them */
	int error; /* 0: x.status is 200, the answer is in x.text or x.blob; else -errno */
	bool lost; /* an attempt was sent whose answer did not come: it may have been carried out */
	struct response resp; /* of a refusal */
	struct exchange x;

	/* for call.c */
	struct client *c;
	bool in_use; /* the running thread's own */
	enum call_state state; /* while under way: under the client's lock */
	enum client_priority prio;
	unsigned attempt;
	int64_t not_before, deadline;
	int64_t started; /* the attempt under way */
	int64_t wanted_at; /* since when it waits for the pacer; 0: it does not */
};

struct call_job {
	enum client_priority prio;
	size_t parallel; /* requests at a time */
	size_t max; /* bytes of an answer */
	bool raw; /* answers are values, into blobs */

	/* Builds the next request into call->req. False: there is none (ask again after a finish).
	 */
	bool (*next)(struct call_job *job, struct call *call);

	/* Takes the outcome. The request is released afterwards, and text and blob unless they
	 * were taken out. */
	void (*finish)(struct call_job *job, struct call *call);
};

/* -ENOMEM, or 0 when all has been finished, well or not. */
int call_run(struct client *c, struct call_job *job);

/* One request that is built into call->req already, and its outcome: call->error. To be ended with
 * call_release() in any case. */
int call_one(struct client *c, struct call *call, enum client_priority prio, size_t max);
void call_release(struct call *call);

/* After this error of one request, others of the same kind need not be sent. */
bool call_is_hopeless(int error);

/* An answer that came well but cannot be believed: the error to return, logged. */
int call_disbelieve(struct client *c, struct call *call, const char *why);

#endif
