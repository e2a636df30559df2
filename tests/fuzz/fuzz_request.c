/*
 * fuzz_request.c - items of any bytes become a bulk request that another reader of JSON reads as
 * what they were, and keys become URLs that decode to them.
 *
 * Input: length of the key, length of the metadata, then key, metadata and value.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
	if (!holds)
		abort();
}

static int unhex(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

static void check_url(const struct endpoint *ep, const struct client_item *item)
{
	struct request r;
	unsigned char key[CLIENT_KEY_MAX];
	size_t n = 0;

	if (request_get(&r, ep, "ns", item->key, item->key_len) != 0)
		return;
	const char *p = r.url.p + strlen(ep->base) + strlen("/ns/values/");
	demand(!strpbrk(p, "/?#") && strcmp(p, ".") != 0 && strcmp(p, "..") != 0);
	for (; *p; p++) {
		demand(*p > ' ' && *p < 0x7f);
		key[n++] = (unsigned char)(*p == '%' ? unhex(p[1]) << 4 | unhex(p[2]) : *p);
		p += *p == '%' ? 2 : 0;
	}
	demand(n == item->key_len && memcmp(key, item->key, n) == 0);
	request_release(&r);
}

static size_t unbase64(const char *in, size_t len, unsigned char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = 0;

	demand(len % 4 == 0);
	for (size_t i = 0; i < len; i += 4) {
		unsigned bits = 0, pads = (in[i + 2] == '=') + (in[i + 3] == '=');

		for (int k = 0; k < 4; k++) {
			const char *at = strchr(digits, in[i + (size_t)k]);

			bits = bits << 6 | (at && *at ? (unsigned)(at - digits) : 0);
		}
		for (unsigned k = 0; k < 3 - pads; k++)
			out[n++] = (unsigned char)(bits >> (16 - 8 * k));
	}
	return n;
}

static void check_pair(json_t *pair, const struct client_item *item)
{
	json_t *key = json_object_get(pair, "key"), *value = json_object_get(pair, "value");
	size_t len = json_string_length(value), size = (size_t)blob_size(item->value);
	unsigned char *bytes = malloc(len + 1);

	demand(json_string_length(key) == item->key_len &&
		memcmp(json_string_value(key), item->key, item->key_len) == 0);
	if (json_is_true(json_object_get(pair, "base64")))
		len = unbase64(json_string_value(value), len, bytes);
	else
		memcpy(bytes, json_string_value(value), len);
	demand(len == size);
	demand(size == 0 || memcmp(bytes, blob_data(item->value), size) == 0);
	demand((json_object_get(pair, "metadata") != NULL) == (item->metadata != NULL));
	free(bytes);
}

static void check_bulk(const struct endpoint *ep, const struct client_item *item)
{
	struct client_item items[2] = {*item, *item};
	struct body_plan plans[2];
	struct request r;
	size_t at = 0;
	int64_t n;

	demand(body_measure(item, plans) == 0);
	plans[1] = plans[0];
	demand(request_bulk_put(&r, ep, "ns", items, plans, 2) == 0);
	char *text = malloc(r.body.size + 64);
	while ((n = body_read(&r.body, text + at, 61)) > 0)
		demand((at += (size_t)n) <= r.body.size);
	demand(n == 0 && at == r.body.size);
	json_t *json = json_loadb(text, at, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	/* It may not like metadata that is right (numbers it cannot hold, and the like). */
	demand(json || item->metadata);
	for (size_t i = 0; json && i < 2; i++)
		check_pair(json_array_get(json, i), item);
	json_decref(json);
	free(text);
	request_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct blob_pool *pool;
	static struct endpoint ep;
	const char *why;

	if (!pool) {
		pool = blob_pool_new("/tmp", 1 << 20, 64 << 20);
		demand(pool && endpoint_init(&ep, NULL, "a", &why) == 0);
	}
	if (size < 2 || size - 2 < (size_t)data[0] + data[1])
		return 0;
	struct client_item item = {.key = data + 2, .key_len = data[0]};
	item.metadata = data[1] ? (const char *)data + 2 + data[0] : NULL;
	item.metadata_len = data[1];
	size_t before = 2 + (size_t)data[0] + data[1];
	demand(blob_new_copy(pool, data + before, size - before, &item.value) == 0);
	check_url(&ep, &item);
	if (request_check_item(&item) == 0)
		check_bulk(&ep, &item);
	blob_unref(item.value);
	return 0;
}
