/*
 * json.h - the one question about JSON that is asked outside the commands.
 */
#ifndef KVFS_JSON_H
#define KVFS_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 65536 }; /* arrays and objects in one another; more is not accepted */

/* Whether the text is one JSON value (RFC 8259, in UTF-8) and nothing after it but white space. Needs
 * about JSON_DEPTH_MAX / 8 bytes of stack. */
bool json_is_valid(const void *text, size_t len);

#endif
