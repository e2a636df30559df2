/*
 * remote.h - Workers KV as the remote store of the write-back cache.
 */
#ifndef KVFS_CLOUDFLARE_REMOTE_H
#define KVFS_CLOUDFLARE_REMOTE_H

#include "backends/cloudflare/client.h"
#include "backends/writeback/remote.h"

/* Takes over the client. NULL: out of memory (the client is left to the caller). */
struct remote *cloudflare_remote_new(struct client *c);

#endif
