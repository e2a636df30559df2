#include "backends/cloudflare/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backends/base/utf8.h"
#include "backends/cloudflare/jread.h"

enum {
	URL_MAX = 16 * 1024,
	TITLE_MAX = 512,
	NS_PAGE = 100,
	JSON_MAX = 64 * 1024 * 1024, /* 10,000 keys of 512 bytes, each byte escaped */
};

static const char TYPE_JSON[] = "application/json";
static const char TYPE_BYTES[] = "application/octet-stream";

void request_release(struct request *r)
{
	text_release(&r->url);
	body_release(&r->body);
}

int request_check_key(const void *key, size_t len)
{
	const char *p = key;

	if (len == 0 || len > CLIENT_KEY_MAX)
		return -EINVAL;
	if (p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.')))
		return -EINVAL;
	return utf8_is_valid(key, len) ? 0 : -EILSEQ;
}

/* A malformed one would take the whole bulk request down with it. */
static bool is_json(const char *text, size_t len)
{
	char copy[CLIENT_METADATA_MAX];
	struct jread j;

	memcpy(copy, text, len);
	jread_init(&j, copy, len, false);
	return jread_skip(&j, NULL) && jread_end(&j);
}

int request_check_item(const struct client_item *item)
{
	int rc = request_check_key(item->key, item->key_len);

	if (rc)
		return rc;
	if (item->expiration < 0)
		return -EINVAL;
	if (item->metadata && item->metadata_len > CLIENT_METADATA_MAX)
		return -ERANGE;
	if (item->metadata && !is_json(item->metadata, item->metadata_len))
		return -EINVAL;
	return blob_size(item->value) > CLIENT_VALUE_MAX ? -EFBIG : 0;
}

/* The URL up to the namespace and what is below it; `ns` may be NULL. */
static void begin(struct request *r, enum client_call call, const char *method,
	const struct endpoint *ep, const char *ns, const char *below)
{
	*r = (struct request){.call = call, .ns = ns, .method = method, .url.max = URL_MAX};
	text_str(&r->url, ep->base);
	if (ns) {
		text_str(&r->url, "/");
		text_percent(&r->url, ns, strlen(ns));
	}
	text_str(&r->url, below);
}

static void add_query(struct request *r, const char *name, const void *value, size_t len)
{
	text_str(&r->url, memchr(r->url.p, '?', r->url.len) ? "&" : "?");
	text_str(&r->url, name);
	text_str(&r->url, "=");
	text_percent(&r->url, value, len);
}

static void add_number(struct request *r, const char *name, int64_t value)
{
	char digits[24];

	add_query(r, name, digits,
		(size_t)snprintf(digits, sizeof(digits), "%lld", (long long)value));
}

/* Takes over the JSON, and checks that all went well. */
static int finish(struct request *r, struct text *json)
{
	int rc = r->url.error;

	if (json && rc == 0)
		rc = json->error;
	if (json && rc == 0) {
		body_text(&r->body, json);
		r->type = TYPE_JSON;
	} else if (json) {
		text_release(json);
	}
	if (rc)
		request_release(r);
	return rc;
}

int request_ns_list(struct request *r, const struct endpoint *ep, unsigned page)
{
	begin(r, CLIENT_NS_LIST, "GET", ep, NULL, "");
	add_number(r, "page", page);
	add_number(r, "per_page", NS_PAGE);
	return finish(r, NULL);
}

static int title_body(struct request *r, const void *title, size_t len)
{
	struct text json = {.max = JSON_MAX};

	text_str(&json, "{\"title\":");
	text_json(&json, title, len);
	text_str(&json, "}");
	return finish(r, &json);
}

static int check_title(const void *title, size_t len)
{
	if (len == 0 || len > TITLE_MAX)
		return -EINVAL;
	return utf8_is_valid(title, len) ? 0 : -EILSEQ;
}

int request_ns_create(struct request *r, const struct endpoint *ep, const void *title, size_t len)
{
	int rc = check_title(title, len);

	if (rc)
		return rc;
	begin(r, CLIENT_NS_CREATE, "POST", ep, NULL, "");
	return title_body(r, title, len);
}

int request_ns_rename(
	struct request *r, const struct endpoint *ep, const char *ns, const void *title, size_t len)
{
	int rc = check_title(title, len);

	if (rc)
		return rc;
	begin(r, CLIENT_NS_RENAME, "PUT", ep, ns, "");
	return title_body(r, title, len);
}

int request_ns_delete(struct request *r, const struct endpoint *ep, const char *ns)
{
	begin(r, CLIENT_NS_DELETE, "DELETE", ep, ns, "");
	return finish(r, NULL);
}

int request_keys(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_query *query)
{
	if (query->prefix_len > CLIENT_KEY_MAX)
		return -EINVAL;
	if (!utf8_is_valid(query->prefix, query->prefix_len))
		return -EILSEQ;
	begin(r, CLIENT_KEYS, "GET", ep, ns, "/keys");
	add_number(r, "limit", query->limit ? query->limit : CLIENT_PAGE_MAX);
	if (query->prefix_len)
		add_query(r, "prefix", query->prefix, query->prefix_len);
	if (query->cursor)
		add_query(r, "cursor", query->cursor, strlen(query->cursor));
	return finish(r, NULL);
}

static int about_key(struct request *r, enum client_call call, const char *method,
	const struct endpoint *ep, const char *ns, const void *key, size_t len)
{
	int rc = request_check_key(key, len);

	if (rc)
		return rc;
	begin(r, call, method, ep, ns, "/values/");
	r->key = key;
	r->key_len = len;
	text_percent(&r->url, key, len);
	return 0;
}

int request_get(
	struct request *r, const struct endpoint *ep, const char *ns, const void *key, size_t len)
{
	int rc = about_key(r, CLIENT_GET, "GET", ep, ns, key, len);

	return rc ? rc : finish(r, NULL);
}

int request_delete(
	struct request *r, const struct endpoint *ep, const char *ns, const void *key, size_t len)
{
	int rc = about_key(r, CLIENT_DELETE, "DELETE", ep, ns, key, len);

	return rc ? rc : finish(r, NULL);
}

static void write_boundary(struct request *r, const unsigned char random[16])
{
	char *p = r->boundary + sprintf(r->boundary, "kvfs----");

	for (int i = 0; i < 16; i++)
		p += sprintf(p, "%02x", random[i]);
	snprintf(r->multipart, sizeof(r->multipart), "multipart/form-data; boundary=%s",
		r->boundary);
	r->type = r->multipart;
}

int request_put(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_item *item, const unsigned char random[16])
{
	int rc = request_check_item(item);

	if (rc == 0)
		rc = about_key(r, CLIENT_PUT, "PUT", ep, ns, item->key, item->key_len);
	if (rc)
		return rc;
	if (item->expiration && !ep->development)
		add_number(r, "expiration", item->expiration);
	if (item->metadata) {
		write_boundary(r, random);
		body_multipart(&r->body, item, r->boundary);
	} else {
		r->type = TYPE_BYTES;
		body_value(&r->body, item);
	}
	return finish(r, NULL);
}

static void add_keys(struct text *json, const struct client_name *keys, size_t n)
{
	text_str(json, "[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			text_str(json, ",");
		text_json(json, keys[i].key, keys[i].len);
	}
	text_str(json, "]");
}

int request_bulk_get(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_name *keys, size_t n)
{
	struct text json = {.max = JSON_MAX};

	if (n == 0 || n > CLIENT_BULK_GET_MAX)
		return -EINVAL;
	begin(r, CLIENT_BULK_GET, "POST", ep, ns, "/bulk/get");
	r->count = n;
	text_str(&json, "{\"keys\":");
	add_keys(&json, keys, n);
	text_str(&json, ",\"type\":\"text\",\"withMetadata\":true}");
	return finish(r, &json);
}

int request_bulk_put(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_item *items, const struct body_plan *plans, size_t n)
{
	if (n == 0 || n > REQUEST_BULK_MAX)
		return -EINVAL;
	begin(r, CLIENT_BULK_PUT, "PUT", ep, ns, "/bulk");
	r->count = n;
	r->type = TYPE_JSON;
	body_bulk(&r->body, items, plans, n);
	return finish(r, NULL);
}

int request_bulk_delete(struct request *r, const struct endpoint *ep, const char *ns,
	const struct client_name *keys, size_t n)
{
	struct text json = {.max = JSON_MAX};

	if (n == 0 || n > REQUEST_BULK_MAX)
		return -EINVAL;
	begin(r, CLIENT_BULK_DELETE, "POST", ep, ns, "/bulk/delete");
	r->count = n;
	add_keys(&json, keys, n);
	return finish(r, &json);
}
