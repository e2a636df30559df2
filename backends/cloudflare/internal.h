/*
 * internal.h - what the parts of the client share.
 *
 * One lock, `lock`, guards what changes; it is held for moments, never while a request is built, an
 * answer is read or a line is logged. `changed` is broadcast whenever somebody who waits might go
 * on.
 */
#ifndef KVFS_CLOUDFLARE_INTERNAL_H
#define KVFS_CLOUDFLARE_INTERNAL_H

#include "backends/base/lock.h"
#include "backends/cloudflare/client.h"
#include "backends/cloudflare/endpoint.h"
#include "backends/cloudflare/pacer.h"
#include "backends/cloudflare/transport.h"

enum { REPORT_KINDS = 32 };

/* Log lines of one kind, for counting repetitions. */
struct report_kind {
	int call, error;
	long status;
	int64_t code;
	int64_t logged_at; /* by the client's clock; 0: the place is free */
	uint64_t suppressed;
};

struct client {
	/* constant */
	struct endpoint ep;
	struct transport *transport;
	struct blob_pool *blobs;
	int64_t timeout; /* nanoseconds */
	struct client_clock clock;
	void (*log)(void *arg, enum log_level level, const char *line);
	void *log_arg;

	struct lock lock;
	pthread_cond_t changed;
	/* under `lock` */
	struct pacer pacer;
	struct client_stats stats; /* its counters, and offline_since and last_error */
	struct report_kind kinds[REPORT_KINDS];
	bool cancelled;
};

#endif
