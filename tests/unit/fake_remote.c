/*
 * fake_remote.c - see fake_remote.h.
 */
#include "tests/unit/fake_remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"

static struct fake *fake(struct remote *r)
{
	return (struct fake *)r;
}

static void item_clear(struct fake_item *i)
{
	free(i->value);
	free(i->metadata);
}

static void items_free(struct fake_items *items)
{
	for (size_t i = 0; i < items->n; i++)
		item_clear(&items->list[i]);
	free(items->list);
	*items = (struct fake_items){0};
}

static char *copy(const char *text, size_t len)
{
	char *c = malloc(len + 1);

	if (!c)
		abort();
	memcpy(c, text, len);
	c[len] = '\0';
	return c;
}

/* Where the key is, or would be. */
static size_t place(const struct fake_items *items, const char *ns, const char *key, bool *found)
{
	size_t low = 0, high = items->n;

	*found = false;
	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct fake_item *i = &items->list[mid];
		int order = strcmp(i->ns, ns);

		order = order ? order : strcmp(i->key, key);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void items_drop(struct fake_items *items, const char *ns, const char *key)
{
	bool found;
	size_t at = place(items, ns, key, &found);

	if (!found)
		return;
	item_clear(&items->list[at]);
	items->n--;
	memmove(&items->list[at], &items->list[at + 1], (items->n - at) * sizeof(items->list[0]));
}

static void items_put(struct fake_items *items, const char *ns, const char *key, char *value,
	size_t len, int64_t expiration, char *metadata)
{
	bool found;
	size_t at = place(items, ns, key, &found);

	if (found) {
		item_clear(&items->list[at]);
	} else {
		if (items->n == items->cap) {
			items->cap = items->cap ? 2 * items->cap : 64;
			items->list = realloc(items->list, items->cap * sizeof(items->list[0]));
		}
		if (!items->list)
			abort();
		memmove(&items->list[at + 1], &items->list[at],
			(items->n - at) * sizeof(items->list[0]));
		items->n++;
	}
	struct fake_item *i = &items->list[at];
	*i = (struct fake_item){
		.value = value, .len = len, .metadata = metadata, .expiration = expiration};
	strncpy(i->ns, ns, sizeof(i->ns) - 1);
	strncpy(i->key, key, sizeof(i->key) - 1);
}

void fake_put_with(struct fake *f, const char *key, const char *value, int64_t expiration,
	const char *metadata)
{
	pthread_mutex_lock(&f->lock);
	items_put(&f->now, "id0", key, copy(value, strlen(value)), strlen(value), expiration,
		metadata ? copy(metadata, strlen(metadata)) : NULL);
	pthread_mutex_unlock(&f->lock);
}

void fake_put(struct fake *f, const char *key, const char *value)
{
	fake_put_with(f, key, value, 0, NULL);
}

void fake_drop(struct fake *f, const char *key)
{
	pthread_mutex_lock(&f->lock);
	items_drop(&f->now, "id0", key);
	pthread_mutex_unlock(&f->lock);
}

const struct fake_item *fake_find(struct fake *f, const char *key)
{
	bool found;
	size_t at = place(&f->now, "id0", key, &found);

	return found ? &f->now.list[at] : NULL;
}

const char *fake_value(struct fake *f, const char *key)
{
	const struct fake_item *i = fake_find(f, key);

	return i ? i->value : "";
}

void fake_freeze(struct fake *f)
{
	pthread_mutex_lock(&f->lock);
	items_free(&f->old);
	for (size_t i = 0; i < f->now.n; i++) {
		const struct fake_item *k = &f->now.list[i];

		items_put(&f->old, k->ns, k->key, copy(k->value, k->len), k->len, k->expiration,
			k->metadata ? copy(k->metadata, strlen(k->metadata)) : NULL);
	}
	f->stale = true;
	pthread_mutex_unlock(&f->lock);
}

void fake_thaw(struct fake *f)
{
	f->stale = false;
}

/* --- what it was asked for ---------------------------------------------------------------------- */

static void log_text(struct fake *f, const void *text, size_t len)
{
	if (f->log_len + len + 1 < sizeof(f->log)) {
		memcpy(f->log + f->log_len, text, len);
		f->log_len += len;
		f->log[f->log_len] = '\0';
	}
}

/* Writes the request down; what it is to fail with. */
static int begin(struct fake *f, const char *op, const struct remote_name *keys, size_t n)
{
	if (f->before)
		f->before(f, op);
	atomic_fetch_add(&f->requests, 1);
	pthread_mutex_lock(&f->lock);
	if (f->log_len)
		log_text(f, "; ", 2);
	log_text(f, op, strlen(op));
	for (size_t i = 0; i < n; i++) {
		log_text(f, " ", 1);
		log_text(f, keys[i].bytes, keys[i].len);
	}
	int rc = atomic_load(&f->fail);
	if (rc)
		pthread_mutex_unlock(&f->lock);
	return rc;
}

static void end(struct fake *f, const char *op)
{
	pthread_mutex_unlock(&f->lock);
	if (f->after)
		f->after(f, op);
}

const char *fake_log(struct fake *f)
{
	static char text[FAKE_LOG];

	pthread_mutex_lock(&f->lock);
	memcpy(text, f->log, f->log_len);
	text[f->log_len] = '\0';
	f->log_len = 0;
	pthread_mutex_unlock(&f->lock);
	return text;
}

/* --- struct remote_ops -------------------------------------------------------------------------- */

static const struct fake_items *answers(const struct fake *f)
{
	return f->stale ? &f->old : &f->now;
}

static bool is_gone(const struct fake_item *i)
{
	return i->expiration && i->expiration <= clock_now() / CLOCK_SECOND;
}

struct page_memory {
	struct remote_key keys[64];
	struct fake_item items[64];
};

static void page_release(struct remote_page *page)
{
	struct page_memory *m = page->memory;

	for (size_t i = 0; i < page->n; i++)
		item_clear(&m->items[i]);
	free(m);
	free(page->cursor);
	*page = (struct remote_page){0};
}

static void page_add(struct remote_page *page, const struct fake_item *i)
{
	struct page_memory *m = page->memory;
	struct fake_item *c = &m->items[page->n];

	*c = *i;
	c->value = NULL;
	c->metadata = i->metadata ? copy(i->metadata, strlen(i->metadata)) : NULL;
	m->keys[page->n++] = (struct remote_key){(const unsigned char *)c->key, strlen(c->key),
		i->expiration, c->metadata, c->metadata ? strlen(c->metadata) : 0};
}

/* The cursor is what the next page begins with ("-": the first key, after an empty page). */
static int list(struct remote *r, const char *ns, const struct remote_name *prefix,
	const char *cursor, const struct remote_name *after, struct remote_page *out)
{
	struct fake *f = fake(r);
	const struct fake_items *items = answers(f);
	struct page_memory *m = calloc(1, sizeof(*m));
	bool found;
	int rc = begin(f, cursor ? "more" : "list", prefix, 1);

	if (rc) {
		free(m);
		return rc;
	}
	*out = (struct remote_page){.keys = m->keys, .memory = m};
	if (f->empty_pages && (!cursor || *cursor == '-')) {
		f->empty_pages--;
		out->cursor = copy("-", 1);
		end(f, "list");
		return 0;
	}
	char first[520] = "";
	memcpy(first, prefix->bytes, prefix->len);
	first[prefix->len] = '\0';
	if (cursor && *cursor != '-')
		strncpy(first, cursor, sizeof(first) - 1);
	for (size_t i = place(items, ns, first, &found); i < items->n; i++) {
		const struct fake_item *k = &items->list[i];

		if (strcmp(k->ns, ns) != 0 || memcmp(k->key, prefix->bytes, prefix->len) != 0)
			break;
		if (is_gone(k))
			continue;
		if (out->n == f->page_size) {
			out->cursor = copy(k->key, strlen(k->key));
			break;
		}
		page_add(out, k);
	}
	if (f->disorder && out->n > 1) {
		struct remote_key swap = m->keys[0];

		m->keys[0] = m->keys[1];
		m->keys[1] = swap;
	}
	end(f, "list");
	return 0;
}

static bool is_refused(const struct fake *f, const struct remote_name *key)
{
	return f->refused && strlen(f->refused) == key->len &&
		memcmp(f->refused, key->bytes, key->len) == 0;
}

static void name_text(const struct remote_name *name, char out[520])
{
	memcpy(out, name->bytes, name->len);
	out[name->len] = '\0';
}

static int get(struct remote *r, const char *ns, const struct remote_name *keys, size_t n,
	bool background, struct remote_value *out)
{
	struct fake *f = fake(r);
	int rc = begin(f, "get", keys, n);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		char key[520];
		bool found;

		name_text(&keys[i], key);
		size_t at = place(answers(f), ns, key, &found);
		const struct fake_item *k = found ? &answers(f)->list[at] : NULL;

		bool exact = out[i].exact, ahead = out[i].ahead;

		out[i] = (struct remote_value){.error = -ENOENT, .exact = exact, .ahead = ahead};
		if (is_refused(f, &keys[i]))
			out[i].error = f->refusal;
		if (is_refused(f, &keys[i]) || !k || is_gone(k))
			continue;
		bool binary = memchr(k->value, '\xff', k->len) != NULL;
		out[i].alone = binary || exact;
		if (binary && !exact && ahead) {
			out[i].error = -EAGAIN;
			continue;
		}
		f->raws += out[i].alone;
		out[i].error = blob_new_copy(f->arg, k->value, k->len, &out[i].value);
		out[i].expiration = k->expiration;
		out[i].metadata_known = !f->raw;
		if (k->metadata && !f->raw) {
			out[i].metadata = copy(k->metadata, strlen(k->metadata));
			out[i].metadata_len = strlen(k->metadata);
		}
	}
	end(f, "get");
	return 0;
}

static void put(
	struct remote *r, const char *ns, const struct remote_item *items, size_t n, int *results)
{
	struct fake *f = fake(r);
	struct remote_name *keys = calloc(n, sizeof(*keys));

	for (size_t i = 0; i < n; i++)
		keys[i] = items[i].key;
	int rc = begin(f, "put", keys, n);
	for (size_t i = 0; i < n; i++) {
		char key[520], *value;

		results[i] = rc ? rc : is_refused(f, &keys[i]) ? f->refusal : 0;
		if (results[i])
			continue;
		name_text(&keys[i], key);
		size_t len = (size_t)blob_size(items[i].value);
		value = calloc(1, len + 1);
		blob_read(items[i].value, 0, value, len);
		items_put(&f->now, ns, key, value, len, items[i].expiration,
			items[i].metadata ? copy(items[i].metadata, items[i].metadata_len) : NULL);
	}
	free(keys);
	if (!rc)
		end(f, "put");
}

static void drop(
	struct remote *r, const char *ns, const struct remote_name *keys, size_t n, int *results)
{
	struct fake *f = fake(r);
	int rc = begin(f, "remove", keys, n);

	for (size_t i = 0; i < n; i++) {
		char key[520];

		results[i] = rc ? rc : is_refused(f, &keys[i]) ? f->refusal : 0;
		name_text(&keys[i], key);
		if (!results[i])
			items_drop(&f->now, ns, key);
	}
	if (!rc)
		end(f, "remove");
}

static int namespaces(struct remote *r, struct remote_ns **out, size_t *n)
{
	struct fake *f = fake(r);
	int rc = begin(f, "namespaces", NULL, 0);

	if (rc)
		return rc;
	*out = calloc(FAKE_NAMESPACES, sizeof(**out));
	memcpy(*out, f->namespaces, sizeof(f->namespaces));
	*n = f->namespaces_n;
	end(f, "namespaces");
	return 0;
}

static int ns_create(struct remote *r, const void *title, size_t len, char id[REMOTE_ID_MAX + 1])
{
	struct fake *f = fake(r);
	struct remote_name name = {title, len};
	int rc = begin(f, "create", &name, 1);

	if (rc)
		return rc;
	struct remote_ns *ns = &f->namespaces[f->namespaces_n];
	*ns = (struct remote_ns){.title = copy(title, len), .title_len = len};
	/* Each has its own, for ever. */
	snprintf(ns->id, sizeof(ns->id), "id%u", f->ids++);
	f->namespaces_n++;
	strcpy(id, ns->id);
	end(f, "create");
	return 0;
}

static struct remote_ns *find_ns(struct fake *f, const char *id)
{
	for (size_t i = 0; i < f->namespaces_n; i++) {
		if (strcmp(f->namespaces[i].id, id) == 0)
			return &f->namespaces[i];
	}
	return NULL;
}

static int ns_rename(struct remote *r, const char *id, const void *title, size_t len)
{
	struct fake *f = fake(r);
	struct remote_name name = {title, len};
	int rc = begin(f, "rename", &name, 1);

	if (rc)
		return rc;
	struct remote_ns *ns = find_ns(f, id);
	if (ns) {
		free((void *)(uintptr_t)ns->title);
		ns->title = copy(title, len);
		ns->title_len = len;
	}
	end(f, "rename");
	return ns ? 0 : -ENODEV;
}

static int ns_remove(struct remote *r, const char *id)
{
	struct fake *f = fake(r);
	int rc = begin(f, "delete", NULL, 0);

	if (rc)
		return rc;
	struct remote_ns *ns = find_ns(f, id);
	if (ns) {
		free((void *)(uintptr_t)ns->title);
		*ns = f->namespaces[--f->namespaces_n];
	}
	end(f, "delete");
	return ns ? 0 : -ENODEV;
}

static void describe(struct remote *r, FILE *out)
{
	fprintf(out, "requests=%d\n", atomic_load(&fake(r)->requests));
}

static void cancel(struct remote *r)
{
}

static void close_remote(struct remote *r)
{
	atomic_fetch_add(&fake(r)->closed, 1);
}

static const struct remote_ops fake_ops = {
	.list = list,
	.page_release = page_release,
	.get = get,
	.put = put,
	.remove = drop,
	.namespaces = namespaces,
	.ns_create = ns_create,
	.ns_rename = ns_rename,
	.ns_remove = ns_remove,
	.describe = describe,
	.cancel = cancel,
	.close = close_remote,
};

void fake_init(struct fake *f)
{
	*f = (struct fake){.page_size = 50};
	f->base = (struct remote){&fake_ops, 1 << 20, 1024, 60, true};
	pthread_mutex_init(&f->lock, NULL);
}

void fake_free(struct fake *f)
{
	items_free(&f->now);
	items_free(&f->old);
	for (size_t i = 0; i < f->namespaces_n; i++)
		free((void *)(uintptr_t)f->namespaces[i].title);
	pthread_mutex_destroy(&f->lock);
}
