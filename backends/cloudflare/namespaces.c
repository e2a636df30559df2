/*
 * namespaces.c - listing and changing the namespaces of an account.
 *
 * A namespace may be made or renamed while pages are read, so that one comes twice or a total is
 * wrong: what has been seen is not taken again, and the end is where a page brings nothing new.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/call.h"

enum {
	ANSWER_MAX = 1024 * 1024,
	PAGE = 100,
	PAGE_ANSWER_MAX = 1000, /* a development server gives all at once */
	PAGES_MAX = 200,
};

/* What has been gathered. Titles follow each other in `titles`; an entry's is at an offset. */
struct gathered {
	struct client_ns *list;
	size_t *title_at;
	size_t n, cap;
	struct text titles;
};

static bool is_known(const struct gathered *g, const struct response_ns *ns)
{
	for (size_t i = 0; i < g->n; i++)
		if (jread_is(&ns->id, g->list[i].id))
			return true;
	return false;
}

static int grow(struct gathered *g)
{
	size_t cap = g->cap ? g->cap * 2 : PAGE;

	if (g->n < g->cap)
		return 0;
	struct client_ns *list = realloc(g->list, cap * sizeof(*list));
	if (!list)
		return -ENOMEM;
	g->list = list;
	size_t *at = realloc(g->title_at, cap * sizeof(*at));
	if (!at)
		return -ENOMEM;
	g->title_at = at;
	g->cap = cap;
	return 0;
}

static int gather(struct gathered *g, const struct response_ns *page, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (is_known(g, page + i))
			continue;
		int rc = grow(g);
		if (rc)
			return rc;
		struct client_ns *ns = g->list + g->n;
		*ns = (struct client_ns){.title_len = page[i].title.len};
		memcpy(ns->id, page[i].id.p, page[i].id.len);
		g->title_at[g->n] = g->titles.len;
		text_add(&g->titles, page[i].title.p, page[i].title.len);
		text_add(&g->titles, "", 1);
		if (g->titles.error)
			return g->titles.error;
		g->n++;
	}
	return 0;
}

/* One page; *more: there is another. */
static int read_page(struct client *c, unsigned number, enum client_priority prio,
	struct gathered *g, bool *more)
{
	struct call call = {0};
	size_t n, before = g->n;
	int64_t total;
	int rc = request_ns_list(&call.req, &c->ep, number);

	if (rc)
		return rc;
	struct response_ns *page = calloc(PAGE_ANSWER_MAX, sizeof(*page));
	if (!page) {
		request_release(&call.req);
		return -ENOMEM;
	}
	rc = call_one(c, &call, prio, ANSWER_MAX);
	if (rc == 0) {
		rc = response_ns_list(&call.resp, call.x.text.p, call.x.text.len, page,
			PAGE_ANSWER_MAX, &n, &total);
		if (rc == -EBADMSG || rc == -EREMOTEIO)
			rc = call_disbelieve(c, &call, call.resp.why);
	}
	if (rc == 0)
		rc = gather(g, page, n);
	if (rc == 0)
		*more = g->n > before && (total >= 0 ? (int64_t)g->n < total : n >= PAGE);
	free(page);
	call_release(&call);
	return rc;
}

/* Everything as one block: the list, then the titles. */
static int in_one_block(const struct gathered *g, struct client_ns **list)
{
	size_t bytes = g->n * sizeof(**list);
	char *block = malloc(bytes + g->titles.len + 1);

	if (!block)
		return -ENOMEM;
	if (g->n)
		memcpy(block, g->list, bytes);
	if (g->titles.len)
		memcpy(block + bytes, g->titles.p, g->titles.len);
	*list = (struct client_ns *)(void *)block;
	for (size_t i = 0; i < g->n; i++)
		(*list)[i].title = block + bytes + g->title_at[i];
	return 0;
}

int client_ns_list(struct client *c, enum client_priority prio, struct client_ns **list, size_t *n)
{
	struct gathered g = {.titles.max = 64 * 1024 * 1024};
	bool more = true;
	int rc = 0;

	for (unsigned page = 1; rc == 0 && more && page <= PAGES_MAX; page++)
		rc = read_page(c, page, prio, &g, &more);
	if (rc == 0)
		rc = in_one_block(&g, list);
	if (rc == 0)
		*n = g.n;
	free(g.list);
	free(g.title_at);
	text_release(&g.titles);
	return rc;
}

/* The id of the namespace with this title. */
static int find_title(struct client *c, const void *title, size_t len, enum client_priority prio,
	char id[CLIENT_NS_ID_MAX + 1])
{
	struct client_ns *list;
	size_t n;
	int rc = client_ns_list(c, prio, &list, &n);

	if (rc)
		return rc;
	rc = -EEXIST;
	for (size_t i = 0; i < n && rc; i++) {
		if (list[i].title_len == len && memcmp(list[i].title, title, len) == 0) {
			strcpy(id, list[i].id);
			rc = 0;
		}
	}
	free(list);
	return rc;
}

int client_ns_create(struct client *c, const void *title, size_t len, enum client_priority prio,
	char id[CLIENT_NS_ID_MAX + 1])
{
	struct call call = {0};
	int rc = c->ep.development ? -EOPNOTSUPP : request_ns_create(&call.req, &c->ep, title, len);

	if (rc)
		return rc;
	rc = call_one(c, &call, prio, ANSWER_MAX);
	if (rc == 0) {
		rc = response_ns_id(&call.resp, call.x.text.p, call.x.text.len, id);
		if (rc == -EBADMSG || rc == -EREMOTEIO)
			rc = call_disbelieve(c, &call, call.resp.why);
	} else if (rc == -EEXIST && call.lost) {
		/* It is ours: made by the attempt whose answer was lost. */
		rc = find_title(c, title, len, prio, id);
	}
	call_release(&call);
	return rc;
}

/* Sends a request whose answer only says that it was done. */
static int just_do(struct client *c, struct call *call, enum client_priority prio)
{
	int rc = call_one(c, call, prio, ANSWER_MAX);

	if (rc == 0) {
		rc = response_done(&call->resp, call->x.text.p, call->x.text.len);
		if (rc)
			rc = call_disbelieve(c, call, call->resp.why);
	}
	call_release(call);
	return rc;
}

int client_ns_rename(
	struct client *c, const char *id, const void *title, size_t len, enum client_priority prio)
{
	struct call call = {0};
	char holder[CLIENT_NS_ID_MAX + 1];
	int rc = c->ep.development ? -EOPNOTSUPP
				   : request_ns_rename(&call.req, &c->ep, id, title, len);

	if (rc)
		return rc;
	rc = just_do(c, &call, prio);
	/* The title may be taken by this very namespace, by the attempt whose answer was lost. */
	if (rc == -EEXIST && call.lost && find_title(c, title, len, prio, holder) == 0 &&
		strcmp(holder, id) == 0)
		rc = 0;
	return rc;
}

int client_ns_delete(struct client *c, const char *id, enum client_priority prio)
{
	struct call call = {0};
	int rc = c->ep.development ? -EOPNOTSUPP : request_ns_delete(&call.req, &c->ep, id);

	if (rc)
		return rc;
	rc = just_do(c, &call, prio);
	return rc == -ENODEV && call.lost ? 0 : rc;
}
