/*
 * endpoint.h - where requests go: checked once, so that a token is only ever sent over TLS, or
 * within this machine.
 *
 * Pure.
 */
#ifndef KVFS_CLOUDFLARE_ENDPOINT_H
#define KVFS_CLOUDFLARE_ENDPOINT_H

#include <stdbool.h>

struct endpoint {
	char *base; /* the URL of the collection of namespaces, without a slash at its end */
	bool plain; /* http, to a loopback address */
	bool loopback;
	bool development; /* a server without accounts, and without much else (client.h) */
};

/* As in client_config. -EINVAL, with *why; -ENOMEM. */
int endpoint_init(struct endpoint *ep, const char *url, const char *account, const char **why);
void endpoint_release(struct endpoint *ep);

#endif
