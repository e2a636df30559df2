/*
 * secret.h - the header line that carries the token, in memory of its own: not written to core
 * dumps, not swapped where the limits allow that, not inherited by a child, wiped at the end.
 *
 * Libraries copy the line on its way to the network: libcurl, whose memory the transport wipes, and
 * nghttp2 and OpenSSL, whose memory and stacks nobody can. Against core dumps only the process as a
 * whole can be shielded from these (secret_shield_process).
 */
#ifndef KVFS_CLOUDFLARE_SECRET_H
#define KVFS_CLOUDFLARE_SECRET_H

struct secret;

/* -EINVAL: the token is not one to four thousand printable characters. */
int secret_new(const char *token, struct secret **out);
void secret_free(struct secret *s); /* NULL is fine */

/* From now on core dumps of this process, and of those it starts, hold no private memory: no heap,
 * no stacks. -errno where the system does not let it. */
int secret_shield_process(void);

/* "Authorization: Bearer TOKEN" */
char *secret_header(struct secret *s);

/* Overwrites the token, and what could be its beginning, wherever it stands in the text. */
void secret_mask(const struct secret *s, char *text);

#endif
