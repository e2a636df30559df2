/*
 * json.h - the one question about JSON that is asked outside the commands.
 */
#ifndef KVFS_JSON_H
#define KVFS_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the text is one JSON value (RFC 8259) and nothing after it. */
bool json_is_valid(const void *text, size_t len);

#endif
