#include "backends/cloudflare/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct cloudflare_remote {
	struct remote base;
	struct client *client;
};

static struct client *client(struct remote *r)
{
	return ((struct cloudflare_remote *)r)->client;
}

static int remote_list(struct remote *r, const char *ns, const struct remote_name *prefix,
	const char *cursor, const struct remote_name *after, struct remote_page *out)
{
	struct client_query query = {
		.prefix = prefix->bytes,
		.prefix_len = prefix->len,
		.cursor = cursor,
		.after = after->bytes,
		.after_len = cursor ? after->len : 0,
	};
	struct client_page page;
	int rc = client_keys(client(r), ns, &query, CLIENT_INTERACTIVE, &page);

	if (rc)
		return rc;
	*out = (struct remote_page){.n = page.n, .cursor = page.cursor};
	page.cursor = NULL;
	out->keys = calloc(page.n ? page.n : 1, sizeof(*out->keys));
	struct client_page *memory = malloc(sizeof(*memory));
	if (!out->keys || !memory) {
		free(out->keys);
		free(memory);
		free(out->cursor);
		client_page_release(&page);
		return -ENOMEM;
	}
	for (size_t i = 0; i < page.n; i++) {
		const struct client_key *k = &page.keys[i];

		out->keys[i] = (struct remote_key){
			k->key, k->len, k->expiration, k->metadata, k->metadata_len};
	}
	*memory = page;
	out->memory = memory;
	return 0;
}

static void remote_page_release(struct remote_page *page)
{
	free(page->keys);
	free(page->cursor);
	client_page_release(page->memory);
	free(page->memory);
	*page = (struct remote_page){0};
}

/* Gets those keys that are, or are not, to be had exactly. Whether there was an answer for any. */
static int get_part(struct remote *r, const char *ns, const struct remote_name *keys, size_t n,
	bool exact, enum client_priority prio, struct remote_value *out, bool *any)
{
	struct client_name names[REMOTE_GET_MAX] = {0};
	size_t which[REMOTE_GET_MAX], count = 0;
	bool ahead[REMOTE_GET_MAX];

	for (size_t i = 0; i < n; i++) {
		if (out[i].exact != exact)
			continue;
		names[count] = (struct client_name){keys[i].bytes, keys[i].len};
		ahead[count] = out[i].ahead;
		which[count++] = i;
	}
	if (!count)
		return 0;
	struct client_value *values = calloc(count, sizeof(*values));
	if (!values)
		return -ENOMEM;
	int rc = exact ? client_get(client(r), ns, names, count, prio, values)
		       : client_bulk_get(client(r), ns, names, count, ahead, prio, values);
	for (size_t i = 0; i < count; i++) {
		struct client_value *v = &values[i];

		*any = *any || v->error == 0 || v->error == -ENOENT;
		out[which[i]] = (struct remote_value){
			.exact = exact,
			.ahead = ahead[i],
			.alone = v->given_up || (!v->error && v->via != CLIENT_VIA_BULK),
			.error = v->error,
			.value = v->value,
			.expiration = v->expiration,
			.metadata_known = v->metadata_known,
			.metadata = v->metadata,
			.metadata_len = v->metadata_len,
		};
	}
	free(values);
	return rc;
}

static int remote_get(struct remote *r, const char *ns, const struct remote_name *keys, size_t n,
	bool background, struct remote_value *out)
{
	enum client_priority prio = background ? CLIENT_BACKGROUND : CLIENT_INTERACTIVE;
	bool any = false;

	for (size_t i = 0; i < n; i++)
		out[i].error = -ENOMEM;
	int rc = get_part(r, ns, keys, n, true, prio, out, &any);
	int more = get_part(r, ns, keys, n, false, prio, out, &any);
	return any ? 0 : rc ? rc : more;
}

static struct client_item item_of(const struct remote_item *i)
{
	return (struct client_item){
		i->key.bytes, i->key.len, i->value, i->expiration, i->metadata, i->metadata_len};
}

/* Without bulk calls each goes by itself, until nobody answers any more. */
static void put_singly(
	struct client *c, const char *ns, const struct client_item *items, size_t n, int *results)
{
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		if (rc != -ETIMEDOUT && rc != -ECANCELED)
			rc = client_put(c, ns, &items[i], CLIENT_BACKGROUND);
		results[i] = rc;
	}
}

static void remote_put(
	struct remote *r, const char *ns, const struct remote_item *items, size_t n, int *results)
{
	struct client_item *list = calloc(n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		results[i] = -ENOMEM;
		if (list)
			list[i] = item_of(&items[i]);
	}
	if (list && client_has_bulk(client(r)))
		client_bulk_put(client(r), ns, list, n, CLIENT_BACKGROUND, results);
	else if (list)
		put_singly(client(r), ns, list, n, results);
	free(list);
}

static void remote_remove(
	struct remote *r, const char *ns, const struct remote_name *keys, size_t n, int *results)
{
	struct client_name *names = calloc(n, sizeof(*names));
	struct client *c = client(r);
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		results[i] = -ENOMEM;
		if (names)
			names[i] = (struct client_name){keys[i].bytes, keys[i].len};
	}
	if (names && client_has_bulk(c)) {
		client_bulk_delete(c, ns, names, n, CLIENT_BACKGROUND, results);
	} else if (names) {
		for (size_t i = 0; i < n; i++) {
			if (rc != -ETIMEDOUT && rc != -ECANCELED)
				rc = client_delete(
					c, ns, keys[i].bytes, keys[i].len, CLIENT_BACKGROUND);
			results[i] = rc;
		}
	}
	free(names);
}

/* The titles go with the list: both in one block. */
static int remote_namespaces(struct remote *r, struct remote_ns **out, size_t *n)
{
	struct client_ns *list;
	size_t bytes = 0;
	int rc = client_ns_list(client(r), CLIENT_INTERACTIVE, &list, n);

	if (rc)
		return rc;
	for (size_t i = 0; i < *n; i++)
		bytes += list[i].title_len;
	struct remote_ns *copy = malloc((*n ? *n : 1) * sizeof(*copy) + bytes);
	char *titles = copy ? (char *)(copy + *n) : NULL;
	for (size_t i = 0; copy && i < *n; i++) {
		memcpy(copy[i].id, list[i].id, sizeof(copy[i].id));
		memcpy(titles, list[i].title, list[i].title_len);
		copy[i].title = titles;
		copy[i].title_len = list[i].title_len;
		titles += list[i].title_len;
	}
	free(list);
	*out = copy;
	return copy ? 0 : -ENOMEM;
}

static int remote_ns_create(
	struct remote *r, const void *title, size_t len, char id[REMOTE_ID_MAX + 1])
{
	return client_ns_create(client(r), title, len, CLIENT_INTERACTIVE, id);
}

static int remote_ns_rename(struct remote *r, const char *id, const void *title, size_t len)
{
	return client_ns_rename(client(r), id, title, len, CLIENT_INTERACTIVE);
}

static int remote_ns_remove(struct remote *r, const char *id)
{
	return client_ns_delete(client(r), id, CLIENT_INTERACTIVE);
}

static void remote_describe(struct remote *r, FILE *out)
{
	struct client_stats s;
	uint64_t all = 0;

	client_stats(client(r), &s);
	for (enum client_call call = 0; call < CLIENT_CALLS; call++) {
		all += s.requests[call];
		if (s.requests[call])
			fprintf(out, "requests.%s=%" PRIu64 "\n", client_call_name(call),
				s.requests[call]);
	}
	fprintf(out, "requests=%" PRIu64 "\n", all);
	if (s.remaining >= 0)
		fprintf(out, "quota=%" PRId64 "\nquota_left=%" PRId64 "\n", s.quota, s.remaining);
	if (s.blocked_for)
		fprintf(out, "blocked_seconds=%" PRId64 "\n", s.blocked_for / 1000000000 + 1);
	if (s.offline_since)
		fprintf(out, "offline_since=%" PRId64 "\n", s.offline_since / 1000000000);
	if (*s.last_error)
		fprintf(out, "last_error=%s\n", s.last_error);
}

static void remote_cancel(struct remote *r)
{
	client_cancel(client(r));
}

static void remote_close(struct remote *r)
{
	client_close(client(r));
	free(r);
}

static const struct remote_ops ops = {
	.list = remote_list,
	.page_release = remote_page_release,
	.get = remote_get,
	.put = remote_put,
	.remove = remote_remove,
	.namespaces = remote_namespaces,
	.ns_create = remote_ns_create,
	.ns_rename = remote_ns_rename,
	.ns_remove = remote_ns_remove,
	.describe = remote_describe,
	.cancel = remote_cancel,
	.close = remote_close,
};

struct remote *cloudflare_remote_new(struct client *c)
{
	enum { TTL_MIN = 60 }; /* seconds: the API's least expiration_ttl */
	struct cloudflare_remote *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->base = (struct remote){
		.ops = &ops,
		.value_max = CLIENT_VALUE_MAX,
		.metadata_max = CLIENT_METADATA_MAX,
		.ttl_min = TTL_MIN,
		.expiring = client_has_expiration(c),
	};
	r->client = c;
	return &r->base;
}
