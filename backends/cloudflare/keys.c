/*
 * keys.c - one page of a listing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/call.h"

/* A thousand keys of 512 bytes with metadata of 1,024, every byte of both escaped, and some. */
enum { PAGE_BYTES_MAX = 16 * 1024 * 1024, LIMIT_MIN = 10 };

int client_keys(struct client *c, const char *ns, const struct client_query *query,
	enum client_priority prio, struct client_page *out)
{
	struct client_page page = {0};
	struct call call = {0};

	if (query->limit && (query->limit < LIMIT_MIN || query->limit > CLIENT_PAGE_MAX))
		return -EINVAL;
	int rc = request_keys(&call.req, &c->ep, ns, query);
	if (rc)
		return rc;
	rc = call_one(c, &call, prio, PAGE_BYTES_MAX);
	if (rc == 0) {
		rc = response_keys(&call.resp, call.x.text.p, call.x.text.len, query, &page.keys,
			&page.n, &page.cursor);
		if (rc == -EBADMSG || rc == -EREMOTEIO)
			rc = call_disbelieve(c, &call, call.resp.why);
	}
	if (rc == 0) {
		page.memory = call.x.text.p;
		call.x.text = (struct text){0};
		*out = page;
	}
	call_release(&call);
	return rc;
}

void client_page_release(struct client_page *page)
{
	free(page->keys);
	free(page->cursor);
	free(page->memory);
	*page = (struct client_page){0};
}
