/*
 * report.h - says what went wrong, in one line, once.
 */
#ifndef KVFS_CLOUDFLARE_REPORT_H
#define KVFS_CLOUDFLARE_REPORT_H

#include "backends/cloudflare/internal.h"
#include "backends/cloudflare/request.h"

/* Logs that a request failed with -errno `error`. status, code: 0 where there is none; words: the
 * server's or the network's. Lines of one kind come once a minute, with the number of those
 * between. Called without the lock. */
void report_failure(struct client *c, const struct request *req, int error, long status,
	int64_t code, const char *words);

/* Logs that nobody was asked, because no request can say this key (or item). */
void report_unsent(struct client *c, enum client_call call, const char *ns, const void *key,
	size_t len, int error);

#endif
