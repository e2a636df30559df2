/*
 * secret.h - the header line that carries the token, in memory of its own: not written to core
 * dumps, not swapped where the limits allow that, not inherited by a child, wiped at the end.
 *
 * What a library copies on its way to the network is beyond this; the transport wipes libcurl's
 * copies. A program that must rule out the rest too (nghttp2's) makes itself undumpable
 * (PR_SET_DUMPABLE).
 */
#ifndef KVFS_CLOUDFLARE_SECRET_H
#define KVFS_CLOUDFLARE_SECRET_H

struct secret;

/* -EINVAL: the token is not one to four thousand printable characters. */
int secret_new(const char *token, struct secret **out);
void secret_free(struct secret *s); /* NULL is fine */

/* "Authorization: Bearer TOKEN" */
char *secret_header(struct secret *s);

/* Overwrites the token, and what could be its beginning, wherever it stands in the text. */
void secret_mask(const struct secret *s, char *text);

#endif
