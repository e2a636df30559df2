/*
 * fuzz_response.c - answers of any bytes.
 *
 * Input: a byte that chooses how it is read, then the answer. Whether a text is JSON at all is
 * compared with another reader of JSON.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/utf8.h"
#include "backends/cloudflare/head.h"
#include "backends/cloudflare/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KEYS = 3, NAMESPACES = 5 };

static void demand(bool holds)
{
	if (!holds)
		abort();
}

/* The other reader refuses halves of surrogate pairs, numbers that it cannot hold, and depth; and it
 * takes a NUL for the end. */
static bool comparable(const char *text, size_t len)
{
	return !memmem(text, len, "\\ud", 3) && !memmem(text, len, "\\uD", 3) &&
		!memchr(text, 'e', len) && !memchr(text, 'E', len) && !memchr(text, '\0', len) &&
		len < 300;
}

static void try_json(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct jread j;

	memcpy(text, data, size);
	jread_init(&j, text, size, false);
	bool good = jread_skip(&j, NULL) && jread_end(&j);
	demand(memcmp(text, data, size) == 0);
	demand(jread_line(&j) >= 1);
	if (comparable(text, size)) {
		json_t *other = json_loadb(text, size,
			JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);

		demand(good == (other != NULL));
		json_decref(other);
	}
	if (good) {
		size_t len = jread_compact(text, size);

		jread_init(&j, text, len, false);
		demand(jread_skip(&j, NULL) && jread_end(&j));
		demand(jread_compact(text, len) == len);
	}
	jread_init(&j, text, size, true);
	(void)(jread_skip(&j, NULL) && jread_end(&j));
	free(text);
}

/* A string is decoded as the other reader does it. */
static void try_string(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct jread_text got;
	struct jread j;

	memcpy(text, data, size);
	json_t *other = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	jread_init(&j, text, size, false);
	if (jread_kind(&j) == JREAD_STRING && jread_string(&j, &got) && jread_end(&j)) {
		demand(utf8_is_valid(got.p, got.len));
		demand(got.broken || other);
		if (!got.broken)
			demand(json_string_length(other) == got.len &&
				memcmp(json_string_value(other), got.p, got.len) == 0);
	}
	json_decref(other);
	free(text);
}

static void check_key(const struct client_key *k, const struct client_query *query)
{
	demand(k->len > 0 && k->len <= CLIENT_KEY_MAX && utf8_is_valid(k->key, k->len));
	demand(k->len >= query->prefix_len &&
		memcmp(k->key, query->prefix, query->prefix_len) == 0);
	demand(k->expiration >= 0);
	if (!k->metadata)
		return;
	char *copy = malloc(k->metadata_len);
	struct jread j;
	memcpy(copy, k->metadata, k->metadata_len);
	jread_init(&j, copy, k->metadata_len, false);
	demand(jread_skip(&j, NULL) && jread_end(&j));
	free(copy);
}

static void try_keys(char *body, size_t size)
{
	struct client_query query = {.prefix = "a",
		.prefix_len = 1,
		.cursor = "c",
		.after = "ab",
		.after_len = 2,
		.limit = 10};
	struct client_key *keys = NULL;
	struct response r;
	char *cursor = NULL;
	size_t n = 0;

	if (response_keys(&r, body, size, &query, &keys, &n, &cursor) != 0)
		demand(!keys && !cursor);
	demand(n <= 10);
	for (size_t i = 0; i < n; i++) {
		check_key(keys + i, &query);
		demand(i == 0 ||
			memcmp(keys[i - 1].key, keys[i].key,
				keys[i - 1].len < keys[i].len ? keys[i - 1].len : keys[i].len) <=
				0);
	}
	demand(n > 0 || !cursor || strcmp(cursor, "c") != 0);
	free(keys);
	free(cursor);
}

static void try_bulk_get(char *body, size_t size)
{
	static const struct client_name names[KEYS] = {{"k", 1}, {"a\0", 2}, {"k", 1}};
	struct response_value values[KEYS];
	struct response r;

	if (response_bulk_get(&r, body, size, names, KEYS, values) != 0)
		return;
	for (int i = 0; i < KEYS; i++) {
		demand(values[i].value.len <= size && values[i].metadata.len <= size);
		demand(utf8_is_valid(values[i].value.p, values[i].value.len));
		demand(values[i].state != RESPONSE_EXACT ||
			!(values[i].value.replaced || values[i].value.broken));
	}
	demand(values[0].state == values[2].state);
}

static void try_others(uint8_t what, char *body, size_t size)
{
	struct response_ns list[NAMESPACES];
	struct jread_text failed[KEYS];
	char id[CLIENT_NS_ID_MAX + 1];
	struct response r;
	int64_t total;
	size_t n;

	if (what == 0 && response_ns_list(&r, body, size, list, NAMESPACES, &n, &total) == 0) {
		demand(n <= NAMESPACES && total >= -1);
		for (size_t i = 0; i < n; i++)
			demand(list[i].id.len > 0 && list[i].id.len <= CLIENT_NS_ID_MAX &&
				utf8_is_valid(list[i].title.p, list[i].title.len));
	} else if (what == 1 && response_ns_id(&r, body, size, id) == 0) {
		demand(strlen(id) > 0);
	} else if (what == 2 && response_bulk(&r, body, size, KEYS, size & 1, failed, &n) == 0) {
		demand(n <= KEYS);
	} else if (what == 3) {
		response_refusal(&r, body, size);
		demand(memchr(r.message, 0, sizeof(r.message)) != NULL);
		demand(response_errno(CLIENT_GET, 404, &r) < 0);
	}
}

static void try_head(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct head h;

	head_init(&h);
	for (size_t at = 0; at < size;) {
		const char *end = memchr(text + at, '\n', size - at);
		size_t len = end ? (size_t)(end - text) - at : size - at;

		head_line(&h, text + at, len);
		at += len + 1;
	}
	demand(h.expiration >= 0 && h.remaining >= -1 && h.quota >= -1);
	demand(head_retry_after(&h, 1700000000) >= -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	uint8_t what = data[0] % 9;
	data++;
	size--;
	char *body = malloc(size + 1);
	memcpy(body, data, size);
	if (what < 4)
		try_others(what, body, size);
	else if (what == 4)
		try_keys(body, size);
	else if (what == 5)
		try_bulk_get(body, size);
	else if (what == 6)
		try_json(data, size);
	else if (what == 7)
		try_string(data, size);
	else
		try_head(data, size);
	free(body);
	return 0;
}
