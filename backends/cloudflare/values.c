/*
 * values.c - getting values, one by one and in bulk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cloudflare/call.h"
#include "backends/cloudflare/report.h"

enum {
	GETS_AT_ONCE = 16,
	BULK_GETS_AT_ONCE = 4,
	/* Of one bulk get's answer, which holds up to 25 MiB of text that may be escaped. What is
	 * longer is asked for by halves, at last raw. */
	BULK_ANSWER_MAX = 48 * 1024 * 1024,
};

void client_value_release(struct client_value *v)
{
	blob_unref(v->value);
	free(v->metadata);
	*v = (struct client_value){0};
}

/* Values by a request each. */
struct gets {
	struct call_job job;
	struct client *c;
	const char *ns;
	const struct client_name *keys;
	struct client_value *out;
	size_t n, at;
	const bool *wanted; /* NULL: all */
	int hopeless;
};

static bool gets_next(struct call_job *job, struct call *call)
{
	struct gets *g = (struct gets *)job;

	for (; g->at < g->n; g->at++) {
		struct client_value *out = g->out + g->at;

		if (g->wanted && !g->wanted[g->at])
			continue;
		out->error = g->hopeless;
		if (!out->error)
			out->error = request_get(&call->req, &g->c->ep, g->ns, g->keys[g->at].key,
				g->keys[g->at].len);
		if (!out->error) {
			call->from = g->at++;
			return true;
		}
		if (!g->hopeless)
			report_unsent(g->c, CLIENT_GET, g->ns, g->keys[g->at].key,
				g->keys[g->at].len, out->error);
	}
	return false;
}

/* An empty value has no blob yet. */
static int take_blob(struct client *c, struct call *call, struct blob **out)
{
	if (!call->x.blob)
		return blob_new(c->blobs, out);
	*out = call->x.blob;
	call->x.blob = NULL;
	return 0;
}

static void gets_finish(struct call_job *job, struct call *call)
{
	struct gets *g = (struct gets *)job;
	struct client_value *out = g->out + call->from;
	struct blob *value = NULL;
	int rc = call->error;

	if (call_is_hopeless(rc))
		g->hopeless = rc;
	if (rc == 0)
		rc = take_blob(g->c, call, &value);
	if (rc) {
		client_value_release(out);
		out->error = rc;
		return;
	}
	out->error = 0;
	out->value = value;
	out->expiration = client_has_expiration(g->c) ? call->x.head.expiration : 0;
	out->via = out->metadata_known ? CLIENT_VIA_BOTH : CLIENT_VIA_RAW;
}

static int get_some(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	const bool *wanted, enum client_priority prio, struct client_value *out)
{
	struct gets g = {
		.job = {.prio = prio,
			.parallel = n < GETS_AT_ONCE ? n : GETS_AT_ONCE,
			.max = CLIENT_VALUE_MAX,
			.raw = true,
			.next = gets_next,
			.finish = gets_finish},
		.c = c,
		.ns = ns,
		.keys = keys,
		.out = out,
		.n = n,
		.wanted = wanted,
	};

	return n ? call_run(c, &g.job) : 0;
}

static int first_error(const struct client_value *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (out[i].error && out[i].error != -ENOENT)
			return out[i].error;
	return 0;
}

static int all_failed(struct client_value *out, size_t n, int error)
{
	for (size_t i = 0; i < n; i++) {
		client_value_release(out + i);
		out[i].error = error;
	}
	return error;
}

int client_get(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	enum client_priority prio, struct client_value *out)
{
	if (n)
		memset(out, 0, n * sizeof(*out));
	int rc = get_some(c, ns, keys, n, NULL, prio, out);
	return rc ? all_failed(out, n, rc) : first_error(out, n);
}

struct range {
	size_t from, n;
};

/* Values in bulk: a stack of ranges that are still to be asked for. */
struct bulk_gets {
	struct call_job job;
	struct client *c;
	const char *ns;
	const struct client_name *keys; /* those that can be asked for */
	const size_t *index; /* where keys[i] stands in `out` */
	struct client_value *out;
	bool ahead; /* some are only read ahead */
	int64_t began; /* by the client's clock */
	bool *raw; /* out[i] has to be fetched raw */
	struct range *todo; /* room for one range per key */
	size_t n_todo;
	int hopeless;
};

static void range_failed(struct bulk_gets *b, const struct range *range, int error)
{
	for (size_t i = range->from; i < range->from + range->n; i++)
		b->out[b->index[i]].error = error;
}

static bool bulk_gets_next(struct call_job *job, struct call *call)
{
	struct bulk_gets *b = (struct bulk_gets *)job;

	while (b->n_todo > 0) {
		struct range *range = b->todo + --b->n_todo;
		int rc = b->hopeless;

		if (!rc)
			rc = request_bulk_get(
				&call->req, &b->c->ep, b->ns, b->keys + range->from, range->n);
		if (!rc) {
			call->from = range->from;
			call->n = range->n;
			return true;
		}
		range_failed(b, range, rc);
	}
	return false;
}

static int keep_value(
	struct bulk_gets *b, const struct response_value *got, struct client_value *out)
{
	if (got->metadata.len) {
		out->metadata = malloc(got->metadata.len + 1);
		if (!out->metadata)
			return -ENOMEM;
		memcpy(out->metadata, got->metadata.p, got->metadata.len);
		out->metadata[got->metadata.len] = '\0';
		out->metadata_len = got->metadata.len;
	}
	out->metadata_known = got->detailed;
	out->expiration = client_has_expiration(b->c) ? got->expiration : 0;
	out->via = CLIENT_VIA_BULK;
	if (got->state == RESPONSE_INEXACT)
		return 0;
	return blob_new_copy(b->c->blobs, got->value.p, got->value.len, &out->value);
}

static void keep_one(struct bulk_gets *b, size_t i, const struct response_value *got)
{
	struct client_value *out = b->out + i;
	int rc;

	switch (got->state) {
	case RESPONSE_MISSING:
		b->raw[i] = true;
		break;
	case RESPONSE_ABSENT:
		out->error = -ENOENT;
		break;
	default:
		rc = got->value.len > CLIENT_VALUE_MAX ? -EFBIG : keep_value(b, got, out);
		if (rc) {
			client_value_release(out);
			out->error = rc;
		}
		b->raw[i] = rc == 0 && got->state == RESPONSE_INEXACT;
	}
}

static int read_bulk(struct bulk_gets *b, struct call *call)
{
	struct response_value got[CLIENT_BULK_GET_MAX];
	int rc = response_bulk_get(
		&call->resp, call->x.text.p, call->x.text.len, b->keys + call->from, call->n, got);

	if (rc == -EBADMSG || rc == -EREMOTEIO)
		return call_disbelieve(b->c, call, call->resp.why);
	for (size_t i = 0; rc == 0 && i < call->n; i++)
		keep_one(b, b->index[call->from + i], got + i);
	return rc;
}

/* Whether asking for the halves is worth it. An answer that was longer than any should be has cost
 * enough where all but the first are only read ahead, and so have many halves where somebody waits:
 * neither must make a read last longer than `timeout` promises, whatever a server answers. */
static bool is_worth_dividing(const struct bulk_gets *b, const struct call *call)
{
	struct client *c = b->c;
	bool late = b->job.prio == CLIENT_INTERACTIVE &&
		c->clock.now(c->clock.arg) - b->began >= c->timeout;

	return call->n > 1 && !late && !(b->ahead && call->x.error == -EFBIG);
}

static void bulk_gets_finish(struct call_job *job, struct call *call)
{
	struct bulk_gets *b = (struct bulk_gets *)job;
	struct range range = {call->from, call->n};
	int rc = call->error;

	if (call_is_hopeless(rc))
		b->hopeless = rc;
	if (rc == -EFBIG && is_worth_dividing(b, call)) {
		size_t half = range.n / 2;

		b->todo[b->n_todo++] = (struct range){range.from + half, range.n - half};
		b->todo[b->n_todo++] = (struct range){range.from, half};
		return;
	}
	if (rc == -EFBIG) {
		for (size_t i = range.from; i < range.from + range.n; i++)
			b->raw[b->index[i]] = true;
		return;
	}
	if (rc == 0)
		rc = read_bulk(b, call);
	if (rc)
		range_failed(b, &range, rc);
}

/* Leaves out what cannot be a key; how many are left. */
static size_t sift(const struct bulk_gets *b, const struct client_name *keys, size_t n,
	struct client_name *good, size_t *index)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		int rc = request_check_key(keys[i].key, keys[i].len);

		b->out[i].error = rc;
		if (rc) {
			report_unsent(b->c, CLIENT_BULK_GET, b->ns, keys[i].key, keys[i].len, rc);
			continue;
		}
		good[count] = keys[i];
		index[count++] = i;
	}
	return count;
}

static int run_bulk_gets(struct bulk_gets *b, size_t n)
{
	/* The first range is to be on top of the stack. */
	size_t ranges = (n + CLIENT_BULK_GET_MAX - 1) / CLIENT_BULK_GET_MAX;

	for (size_t i = ranges; i-- > 0;) {
		size_t from = i * CLIENT_BULK_GET_MAX, left = n - from;

		b->todo[b->n_todo++] = (struct range){
			from, left < CLIENT_BULK_GET_MAX ? left : CLIENT_BULK_GET_MAX};
	}
	b->job.parallel = ranges < BULK_GETS_AT_ONCE ? ranges : BULK_GETS_AT_ONCE;
	return ranges ? call_run(b->c, &b->job) : 0;
}

/* Gives up what would have to be got raw and is not worth it. */
static void give_up_ahead(const bool *ahead, size_t n, bool *raw, struct client_value *out)
{
	for (size_t i = 0; ahead && i < n; i++) {
		if (!ahead[i] || !raw[i])
			continue;
		raw[i] = false;
		client_value_release(out + i);
		out[i].error = -EAGAIN;
		out[i].given_up = true;
	}
}

static bool any(const bool *flags, size_t n)
{
	return n && memchr(flags, true, n);
}

static int get_in_bulk(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	const bool *ahead, enum client_priority prio, struct client_value *out)
{
	struct client_name *good = calloc(n + 1, sizeof(*good));
	size_t *index = calloc(n + 1, sizeof(*index));
	struct bulk_gets b = {
		.job = {.prio = prio,
			.max = BULK_ANSWER_MAX,
			.next = bulk_gets_next,
			.finish = bulk_gets_finish},
		.c = c,
		.ns = ns,
		.keys = good,
		.index = index,
		.out = out,
		.ahead = ahead && any(ahead, n),
		.began = c->clock.now(c->clock.arg),
		.raw = calloc(n + 1, sizeof(*b.raw)),
		.todo = calloc(n + 1, sizeof(*b.todo)),
	};
	int rc = good && index && b.raw && b.todo ? 0 : -ENOMEM;

	if (n)
		memset(out, 0, n * sizeof(*out));
	if (rc == 0)
		rc = run_bulk_gets(&b, sift(&b, keys, n, good, index));
	if (rc == 0)
		give_up_ahead(ahead, n, b.raw, out);
	if (rc == 0 && any(b.raw, n))
		rc = get_some(c, ns, keys, n, b.raw, prio, out);
	free(good);
	free(index);
	free(b.raw);
	free(b.todo);
	if (rc)
		return all_failed(out, n, rc);
	for (size_t i = 0; i < n && !rc; i++) {
		if (out[i].error != -ENOENT && !(ahead && ahead[i] && out[i].error == -EAGAIN))
			rc = out[i].error;
	}
	return rc;
}

int client_bulk_get(struct client *c, const char *ns, const struct client_name *keys, size_t n,
	const bool *ahead, enum client_priority prio, struct client_value *out)
{
	/* What a development server answers in bulk lacks empty values, and byte order marks; and
	 * nobody counts its requests. */
	if (c->ep.development)
		return client_get(c, ns, keys, n, prio, out);
	return get_in_bulk(c, ns, keys, n, ahead, prio, out);
}
