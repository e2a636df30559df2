/*
 * writes.c - storing and deleting keys, one by one and in bulk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/call.h"
#include "backends/cloudflare/report.h"

enum {
	WRITES_AT_ONCE = 16,
	BULKS_AT_ONCE = 2,
	DIVISIONS_MAX = 32, /* further requests to find what the server does not like */
	/* Ten thousand keys, every byte of each escaped, and some. */
	ANSWER_MAX = 40 * 1024 * 1024,
	BULK_FRAME = 2, /* the brackets */
};

/* Writes of a request each: `items` or, for deleting, `names`. */
struct writes {
	struct call_job job;
	struct client *c;
	const char *ns;
	const struct client_item *items; /* or NULL */
	const struct client_name *names;
	size_t n, at;
	int *results;
	int hopeless;
};

static int build_write(struct writes *w, struct request *req, size_t i)
{
	unsigned char random[16];

	if (!w->items)
		return request_delete(req, &w->c->ep, w->ns, w->names[i].key, w->names[i].len);
	arc4random_buf(random, sizeof(random));
	return request_put(req, &w->c->ep, w->ns, w->items + i, random);
}

static void report_write(const struct writes *w, size_t i)
{
	if (w->items)
		report_unsent(w->c, CLIENT_PUT, w->ns, w->items[i].key, w->items[i].key_len,
			w->results[i]);
	else
		report_unsent(w->c, CLIENT_DELETE, w->ns, w->names[i].key, w->names[i].len,
			w->results[i]);
}

static bool writes_next(struct call_job *job, struct call *call)
{
	struct writes *w = (struct writes *)job;

	for (; w->at < w->n; w->at++) {
		size_t i = w->at;

		w->results[i] = w->hopeless;
		if (w->hopeless)
			continue;
		w->results[i] = build_write(w, &call->req, i);
		if (!w->results[i]) {
			call->from = i;
			w->at++;
			return true;
		}
		report_write(w, i);
	}
	return false;
}

static void writes_finish(struct call_job *job, struct call *call)
{
	struct writes *w = (struct writes *)job;
	int rc = call->error;

	if (call_is_hopeless(rc))
		w->hopeless = rc;
	if (rc == 0 && response_done(&call->resp, call->x.text.p, call->x.text.len))
		rc = call_disbelieve(w->c, call, call->resp.why);
	if (rc == -ENOENT && !w->items)
		rc = 0;
	w->results[call->from] = rc;
}

static int write_singly(struct client *c, const char *ns, const struct client_item *items,
	const struct client_name *names, size_t n, enum client_priority prio, int *results)
{
	struct writes w = {
		.job = {.prio = prio,
			.parallel = n < WRITES_AT_ONCE ? n : WRITES_AT_ONCE,
			.max = ANSWER_MAX,
			.next = writes_next,
			.finish = writes_finish},
		.c = c,
		.ns = ns,
		.items = items,
		.names = names,
		.n = n,
		.results = results,
	};

	return n ? call_run(c, &w.job) : 0;
}

int client_put(
	struct client *c, const char *ns, const struct client_item *item, enum client_priority prio)
{
	int result = 0, rc = write_singly(c, ns, item, NULL, 1, prio, &result);

	return rc ? rc : result;
}

int client_delete(
	struct client *c, const char *ns, const void *key, size_t len, enum client_priority prio)
{
	struct client_name name = {key, len};
	int result = 0, rc = write_singly(c, ns, NULL, &name, 1, prio, &result);

	return rc ? rc : result;
}

struct range {
	size_t from, n;
};

/* Bulk writes: a stack of ranges of the items that can be sent. */
struct bulk {
	struct call_job job;
	struct client *c;
	const char *ns;
	bool deleting;
	size_t n; /* those that can be sent */
	struct client_item *items; /* putting: they, one after the other, and how long they are */
	struct body_plan *plans;
	struct client_name *names; /* their keys */
	size_t *index; /* where they stand in `results` */
	int *results;
	struct range *todo;
	size_t n_todo;
	unsigned divisions;
	int hopeless;
};

static void range_result(struct bulk *b, const struct range *range, int result)
{
	for (size_t i = range->from; i < range->from + range->n; i++)
		b->results[b->index[i]] = result;
}

static int build_bulk(struct bulk *b, struct request *req, const struct range *range)
{
	const struct endpoint *ep = &b->c->ep;

	if (b->deleting)
		return request_bulk_delete(req, ep, b->ns, b->names + range->from, range->n);
	return request_bulk_put(
		req, ep, b->ns, b->items + range->from, b->plans + range->from, range->n);
}

static bool bulk_next(struct call_job *job, struct call *call)
{
	struct bulk *b = (struct bulk *)job;

	while (b->n_todo > 0) {
		struct range range = b->todo[--b->n_todo];
		int rc = b->hopeless ? b->hopeless : build_bulk(b, &call->req, &range);

		if (!rc) {
			call->from = range.from;
			call->n = range.n;
			return true;
		}
		range_result(b, &range, rc);
	}
	return false;
}

static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_texts(const void *a, const void *b)
{
	const struct jread_text *x = a, *y = b;

	return compare_bytes(x->p, x->len, y->p, y->len);
}

static int compare_name_text(const void *name, const void *text)
{
	const struct client_name *x = name;
	const struct jread_text *y = text;

	return compare_bytes(x->key, x->len, y->p, y->len);
}

/* Marks what was not carried out. Every failed key must be one of those sent, else the answer is
 * not about this request. */
static int mark_failed(
	struct bulk *b, const struct range *range, struct jread_text *failed, size_t n)
{
	size_t found = 0, different = n > 0;

	qsort(failed, n, sizeof(*failed), compare_texts);
	for (size_t i = 1; i < n; i++)
		different += compare_texts(failed + i - 1, failed + i) != 0;
	for (size_t i = range->from; n > 0 && i < range->from + range->n; i++) {
		if (!bsearch(b->names + i, failed, n, sizeof(*failed), compare_name_text))
			continue;
		b->results[b->index[i]] = -EAGAIN;
		found++;
	}
	return found >= different ? 0 : -EBADMSG;
}

static int read_results(struct bulk *b, struct call *call)
{
	struct range range = {call->from, call->n};
	struct jread_text *failed = calloc(range.n, sizeof(*failed));
	size_t n;

	if (!failed)
		return -ENOMEM;
	int rc = response_bulk(
		&call->resp, call->x.text.p, call->x.text.len, range.n, !b->deleting, failed, &n);
	if (rc == 0) {
		range_result(b, &range, 0);
		rc = mark_failed(b, &range, failed, n);
		if (rc)
			call->resp.why = "a key that was not sent is said to have failed";
	}
	if (rc == -EBADMSG || rc == -EREMOTEIO)
		rc = call_disbelieve(b->c, call, call->resp.why);
	free(failed);
	return rc;
}

static void bulk_finish(struct call_job *job, struct call *call)
{
	struct bulk *b = (struct bulk *)job;
	struct range range = {call->from, call->n};
	int rc = call->error;

	if (call_is_hopeless(rc))
		b->hopeless = rc;
	if ((rc == -EFBIG || rc == -EINVAL) && range.n > 1 && b->divisions < DIVISIONS_MAX) {
		size_t half = range.n / 2;

		b->divisions += 2;
		b->todo[b->n_todo++] = (struct range){range.from + half, range.n - half};
		b->todo[b->n_todo++] = (struct range){range.from, half};
		return;
	}
	if (rc == 0)
		rc = read_results(b, call);
	if (rc)
		range_result(b, &range, rc);
}

static void bulk_release(struct bulk *b)
{
	free(b->items);
	free(b->plans);
	free(b->names);
	free(b->index);
	free(b->todo);
}

static int bulk_init(struct bulk *b, size_t n)
{
	if (!b->deleting) {
		b->items = calloc(n, sizeof(*b->items));
		b->plans = calloc(n, sizeof(*b->plans));
	}
	b->names = calloc(n, sizeof(*b->names));
	b->index = calloc(n, sizeof(*b->index));
	b->todo = calloc(n, sizeof(*b->todo));
	if (!b->names || !b->index || !b->todo || (!b->deleting && (!b->items || !b->plans)))
		return -ENOMEM;
	return 0;
}

/* Pushes the ranges that fill one request each, so that the first is on top. */
static void split(struct bulk *b)
{
	size_t from = 0;

	while (from < b->n) {
		uint64_t bytes = BULK_FRAME;
		size_t n = 0;

		while (from + n < b->n && n < REQUEST_BULK_MAX) {
			uint64_t more = b->plans ? b->plans[from + n].bytes + 1 : 0;

			if (n > 0 && bytes + more > REQUEST_BULK_BYTES_MAX)
				break;
			bytes += more;
			n++;
		}
		b->todo[b->n_todo++] = (struct range){from, n};
		from += n;
	}
	for (size_t i = 0, j = b->n_todo; i + 1 < j; i++) {
		struct range swapped = b->todo[i];

		b->todo[i] = b->todo[--j];
		b->todo[j] = swapped;
	}
}

static int run_bulk(struct bulk *b, enum client_priority prio)
{
	split(b);
	b->job = (struct call_job){
		.prio = prio,
		.parallel = b->n_todo < BULKS_AT_ONCE ? b->n_todo : BULKS_AT_ONCE,
		.max = ANSWER_MAX,
		.next = bulk_next,
		.finish = bulk_finish,
	};
	return b->n_todo ? call_run(b->c, &b->job) : 0;
}

static int first_result(const int *results, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (results[i])
			return results[i];
	return 0;
}

static int all_results(int *results, size_t n, int error)
{
	for (size_t i = 0; i < n; i++)
		results[i] = error;
	return error;
}

/* Takes an item up if it can be sent. */
static int take_item(struct bulk *b, const struct client_item *item, size_t at)
{
	int rc = request_check_item(item);

	if (rc == 0)
		rc = body_measure(item, b->plans + b->n);
	if (rc == 0) {
		b->items[b->n] = *item;
		b->names[b->n] = (struct client_name){item->key, item->key_len};
		b->index[b->n++] = at;
	}
	return rc;
}

int client_bulk_put(struct client *c, const char *ns, const struct client_item *items, size_t n,
	enum client_priority prio, int *results)
{
	struct bulk b = {.c = c, .ns = ns, .results = results};
	int rc;

	if (n < 2 || !client_has_bulk(c)) {
		rc = write_singly(c, ns, items, NULL, n, prio, results);
		return rc ? all_results(results, n, rc) : first_result(results, n);
	}
	rc = bulk_init(&b, n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		results[i] = take_item(&b, items + i, i);
		if (results[i])
			report_unsent(
				c, CLIENT_BULK_PUT, ns, items[i].key, items[i].key_len, results[i]);
	}
	if (rc == 0)
		rc = run_bulk(&b, prio);
	bulk_release(&b);
	return rc ? all_results(results, n, rc) : first_result(results, n);
}

int client_bulk_delete(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	enum client_priority prio, int *results)
{
	struct bulk b = {.c = c, .ns = ns, .results = results, .deleting = true};
	int rc;

	if (n < 2 || !client_has_bulk(c)) {
		rc = write_singly(c, ns, NULL, keys, n, prio, results);
		return rc ? all_results(results, n, rc) : first_result(results, n);
	}
	rc = bulk_init(&b, n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		results[i] = request_check_key(keys[i].key, keys[i].len);
		if (results[i]) {
			report_unsent(
				c, CLIENT_BULK_DELETE, ns, keys[i].key, keys[i].len, results[i]);
			continue;
		}
		b.names[b.n] = keys[i];
		b.index[b.n++] = i;
	}
	if (rc == 0)
		rc = run_bulk(&b, prio);
	bulk_release(&b);
	return rc ? all_results(results, n, rc) : first_result(results, n);
}
