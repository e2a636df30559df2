#include "backends/cloudflare/response.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The envelope that every answer comes in; its parts as they are written. */
struct envelope {
	bool success;
	struct jread_text result, info; /* length 0: absent */
};

static int bad(struct response *r, const char *why)
{
	r->why = why;
	return -EBADMSG;
}

/* True once: a member that comes twice is an error, for nobody knows which one counts. */
static bool once(struct jread *j, unsigned *seen, unsigned member)
{
	if (*seen & 1u << member)
		return jread_fail(j, "a member is there twice");
	*seen |= 1u << member;
	return true;
}

static void part(struct jread *j, const struct jread_text *raw)
{
	*j = (struct jread){.start = raw->p, .p = raw->p, .end = raw->p + raw->len};
}

static bool is_null(const struct jread_text *raw)
{
	return raw->len == 0 || jread_is(raw, "null");
}

static void keep_message(struct response *r, const struct jread_text *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->len && n < sizeof(r->message) - 1; i++) {
		unsigned char c = (unsigned char)t->p[i];

		r->message[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
	}
	r->message[n] = '\0';
}

/* The first of the errors is kept. */
static bool read_errors(struct jread *j, struct response *r)
{
	struct jread_text name, message = {0};
	int64_t code = 0;

	if (jread_null(j))
		return true;
	if (!jread_enter(j, JREAD_ARRAY))
		return false;
	for (bool first = true; jread_element(j); first = false) {
		if (!first) {
			jread_skip(j, NULL);
			continue;
		}
		jread_enter(j, JREAD_OBJECT);
		while (jread_member(j, &name)) {
			if (jread_is(&name, "code"))
				jread_int(j, &code);
			else if (jread_is(&name, "message"))
				jread_string(j, &message);
			else
				jread_skip(j, NULL);
		}
	}
	if (j->error)
		return false;
	r->code = code;
	keep_message(r, &message);
	return true;
}

static bool read_envelope(struct jread *j, struct response *r, struct envelope *e)
{
	struct jread_text name;
	unsigned seen = 0;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (jread_is(&name, "success"))
			(void)(once(j, &seen, 0) && jread_bool(j, &e->success));
		else if (jread_is(&name, "result"))
			(void)(once(j, &seen, 1) && jread_skip(j, &e->result));
		else if (jread_is(&name, "result_info"))
			(void)(once(j, &seen, 2) && jread_skip(j, &e->info));
		else if (jread_is(&name, "errors"))
			(void)(once(j, &seen, 3) && read_errors(j, r));
		else
			jread_skip(j, NULL);
	}
	if (!j->error && !(seen & 1))
		jread_fail(j, "it does not say whether it is a success");
	return jread_end(j);
}

/* 0, and the answer is a success. */
static int open_envelope(struct response *r, char *body, size_t len, struct envelope *e)
{
	struct jread j;

	*r = (struct response){0};
	*e = (struct envelope){0};
	jread_init(&j, body, len, false);
	if (!read_envelope(&j, r, e))
		return bad(r, j.error);
	return e->success ? 0 : -EREMOTEIO;
}

void response_refusal(struct response *r, char *body, size_t len)
{
	struct envelope e;

	if (open_envelope(r, body, len, &e) == -EBADMSG)
		r->code = 0, r->message[0] = '\0';
	r->why = NULL;
}

int response_done(struct response *r, char *body, size_t len)
{
	struct envelope e;

	return open_envelope(r, body, len, &e);
}

/* Ids become part of URLs and of log lines. */
static bool check_id(struct jread *j, const struct jread_text *id)
{
	for (size_t i = 0; i < id->len; i++)
		if (id->p[i] <= ' ' || id->p[i] >= 0x7f)
			return jread_fail(j, "a namespace's id is malformed");
	return (id->len > 0 && id->len <= CLIENT_NS_ID_MAX) ||
		jread_fail(j, "a namespace's id is malformed");
}

static bool read_ns(struct jread *j, struct response_ns *out)
{
	struct response_ns ns = {0};
	struct jread_text name;
	unsigned seen = 0;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (jread_is(&name, "id"))
			(void)(once(j, &seen, 0) && jread_string(j, &ns.id));
		else if (jread_is(&name, "title"))
			(void)(once(j, &seen, 1) && jread_string(j, &ns.title));
		else
			jread_skip(j, NULL);
	}
	if (j->error || !check_id(j, &ns.id))
		return false;
	if (ns.title.len == 0 || ns.title.len > RESPONSE_TITLE_MAX || ns.title.broken)
		return jread_fail(j, "a namespace's title is malformed");
	*out = ns;
	return true;
}

static bool read_total(struct jread *j, int64_t *total)
{
	struct jread_text name;
	unsigned seen = 0;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (!jread_is(&name, "total_count"))
			jread_skip(j, NULL);
		else if (once(j, &seen, 0) && jread_int(j, total) && *total < 0)
			jread_fail(j, "a count is negative");
	}
	return jread_end(j);
}

int response_ns_list(struct response *r, char *body, size_t len, struct response_ns *list,
	size_t max, size_t *n, int64_t *total)
{
	struct envelope e;
	struct jread j;
	size_t count = 0;
	int64_t all = -1;
	int rc = open_envelope(r, body, len, &e);

	if (rc)
		return rc;
	part(&j, &e.result);
	jread_enter(&j, JREAD_ARRAY);
	while (jread_element(&j)) {
		if (count == max)
			jread_fail(&j, "more namespaces than were asked for");
		else if (read_ns(&j, list + count))
			count++;
	}
	if (!jread_end(&j))
		return bad(r, j.error);
	if (!is_null(&e.info)) {
		part(&j, &e.info);
		if (!read_total(&j, &all))
			return bad(r, j.error);
	}
	*n = count;
	*total = all;
	return 0;
}

int response_ns_id(struct response *r, char *body, size_t len, char id[CLIENT_NS_ID_MAX + 1])
{
	struct response_ns ns;
	struct envelope e;
	struct jread j;
	int rc = open_envelope(r, body, len, &e);

	if (rc)
		return rc;
	part(&j, &e.result);
	if (!read_ns(&j, &ns) || !jread_end(&j))
		return bad(r, j.error);
	memcpy(id, ns.id.p, ns.id.len);
	id[ns.id.len] = '\0';
	return 0;
}

/* Metadata as it is written, or nothing where it is null. */
static bool read_metadata(struct jread *j, struct jread_text *out)
{
	struct jread_text raw;

	if (!jread_skip(j, &raw))
		return false;
	raw.len = jread_compact(raw.p, raw.len);
	*out = is_null(&raw) ? (struct jread_text){0} : raw;
	return true;
}

static bool read_expiration(struct jread *j, int64_t *out)
{
	if (jread_null(j))
		return true;
	return jread_int(j, out) && (*out >= 0 || jread_fail(j, "an expiration is negative"));
}

static bool read_key(struct jread *j, struct client_key *out)
{
	struct jread_text name, key = {0}, metadata = {0};
	int64_t expiration = 0;
	unsigned seen = 0;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (jread_is(&name, "name"))
			(void)(once(j, &seen, 0) && jread_string(j, &key));
		else if (jread_is(&name, "expiration"))
			(void)(once(j, &seen, 1) && read_expiration(j, &expiration));
		else if (jread_is(&name, "metadata"))
			(void)(once(j, &seen, 2) && read_metadata(j, &metadata));
		else
			jread_skip(j, NULL);
	}
	if (j->error)
		return false;
	if (key.len == 0 || key.len > CLIENT_KEY_MAX || key.broken)
		return jread_fail(j, "a key is malformed");
	*out = (struct client_key){.key = (unsigned char *)key.p,
		.len = (uint16_t)key.len,
		.expiration = expiration,
		.metadata = metadata.len ? metadata.p : NULL,
		.metadata_len = metadata.len};
	return true;
}

static bool is_after(const struct client_key *k, const void *before, size_t len)
{
	size_t common = k->len < len ? k->len : len;
	int order = common ? memcmp(k->key, before, common) : 0;

	return order > 0 || (order == 0 && k->len > len);
}

static bool check_key(
	struct jread *j, const struct client_query *query, const struct client_key *k, bool first)
{
	if (k->len < query->prefix_len ||
		(query->prefix_len && memcmp(k->key, query->prefix, query->prefix_len) != 0))
		return jread_fail(j, "a key does not begin with the prefix");
	if (!first && !is_after(k, k[-1].key, k[-1].len))
		return jread_fail(j, "keys are not in order");
	if (first && !is_after(k, query->after, query->after_len))
		return jread_fail(j, "a key does not come after those of the page before");
	return true;
}

static bool read_keys(struct jread *j, const struct client_query *query, struct client_key *keys,
	size_t max, size_t *n)
{
	jread_enter(j, JREAD_ARRAY);
	while (jread_element(j)) {
		if (*n == max)
			jread_fail(j, "more keys than were asked for");
		else if (read_key(j, keys + *n) && check_key(j, query, keys + *n, *n == 0))
			++*n;
	}
	return jread_end(j);
}

/* The cursor; its length is 0 at the end. */
static bool read_cursor(struct jread *j, struct jread_text *cursor)
{
	struct jread_text name;
	unsigned seen = 0;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (!jread_is(&name, "cursor"))
			jread_skip(j, NULL);
		else if (once(j, &seen, 0) && !jread_null(j))
			jread_string(j, cursor);
	}
	if (cursor->len > RESPONSE_CURSOR_MAX || (cursor->len && memchr(cursor->p, 0, cursor->len)))
		jread_fail(j, "the cursor is malformed");
	return jread_end(j);
}

/* The same empty page again and again would be a listing without end. */
static bool goes_on(const struct client_query *query, const struct jread_text *cursor, size_t n)
{
	return n > 0 || cursor->len == 0 || !query->cursor || !jread_is(cursor, query->cursor);
}

int response_keys(struct response *r, char *body, size_t len, const struct client_query *query,
	struct client_key **keys, size_t *n, char **cursor)
{
	size_t max = query->limit ? query->limit : CLIENT_PAGE_MAX, count = 0;
	struct jread_text next = {0};
	char *copy = NULL;
	struct envelope e;
	struct jread j;
	int rc = open_envelope(r, body, len, &e);

	if (rc)
		return rc;
	struct client_key *list = calloc(max, sizeof(*list));
	if (!list)
		return -ENOMEM;
	part(&j, &e.result);
	if (read_keys(&j, query, list, max, &count) && !is_null(&e.info)) {
		part(&j, &e.info);
		read_cursor(&j, &next);
	}
	if (!j.error && !goes_on(query, &next, count))
		jread_fail(&j, "the cursor does not go on");
	if (j.error) {
		rc = bad(r, j.error);
	} else if (next.len) {
		copy = strndup(next.p, next.len);
		rc = copy ? 0 : -ENOMEM;
	}
	if (rc || count == 0) {
		free(list);
		list = NULL;
	}
	if (rc)
		return rc;
	*keys = list;
	*n = count;
	*cursor = copy;
	return 0;
}

static bool read_plain_value(struct jread *j, struct response_value *v)
{
	if (jread_null(j)) {
		v->state = RESPONSE_ABSENT;
		return true;
	}
	if (!jread_string(j, &v->value))
		return false;
	/* Decoders that drop one byte order mark leave this one where there were two. Where there
	 * was one, nothing tells. */
	bool marked = v->value.len >= 3 && memcmp(v->value.p, "\xef\xbb\xbf", 3) == 0;
	v->state =
		v->value.replaced || v->value.broken || marked ? RESPONSE_INEXACT : RESPONSE_EXACT;
	return true;
}

static bool read_value(struct jread *j, struct response_value *out)
{
	struct response_value v = {0};
	struct jread_text name;
	unsigned seen = 0;

	if (jread_kind(j) != JREAD_OBJECT) {
		if (!read_plain_value(j, &v))
			return false;
		*out = v;
		return true;
	}
	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (jread_is(&name, "value"))
			(void)(once(j, &seen, 0) && read_plain_value(j, &v));
		else if (jread_is(&name, "metadata"))
			(void)(once(j, &seen, 1) && read_metadata(j, &v.metadata));
		else if (jread_is(&name, "expiration"))
			(void)(once(j, &seen, 2) && read_expiration(j, &v.expiration));
		else
			jread_skip(j, NULL);
	}
	if (!j->error && !(seen & 1))
		jread_fail(j, "a value is missing");
	v.detailed = seen >> 1 & 1;
	*out = v;
	return !j->error;
}

/* Stores what is said of one key wherever it was asked for. */
static bool give(struct jread *j, const struct jread_text *name, const struct client_name *keys,
	size_t n, const struct response_value *v, struct response_value *values)
{
	bool asked = false;

	for (size_t i = 0; i < n; i++) {
		if (keys[i].len != name->len || memcmp(keys[i].key, name->p, name->len) != 0)
			continue;
		if (values[i].state != RESPONSE_MISSING)
			return jread_fail(j, "a key is there twice");
		values[i] = *v;
		asked = true;
	}
	return asked || jread_fail(j, "a key that was not asked for");
}

static bool read_values(
	struct jread *j, const struct client_name *keys, size_t n, struct response_value *values)
{
	struct jread_text name;
	struct response_value v;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (name.broken)
			jread_fail(j, "a key is malformed");
		else if (read_value(j, &v))
			give(j, &name, keys, n, &v, values);
	}
	return !j->error;
}

int response_bulk_get(struct response *r, char *body, size_t len, const struct client_name *keys,
	size_t n, struct response_value *values)
{
	struct jread_text name;
	struct envelope e;
	struct jread j;
	unsigned seen = 0;
	int rc = open_envelope(r, body, len, &e);

	if (rc)
		return rc;
	struct response_value *got = calloc(n ? n : 1, sizeof(*got));
	if (!got)
		return -ENOMEM;
	part(&j, &e.result);
	jread_enter(&j, JREAD_OBJECT);
	while (jread_member(&j, &name)) {
		if (jread_is(&name, "values"))
			(void)(once(&j, &seen, 0) && read_values(&j, keys, n, got));
		else
			jread_skip(&j, NULL);
	}
	if (!j.error && !seen)
		jread_fail(&j, "the values are missing");
	if (!jread_end(&j))
		rc = bad(r, j.error);
	else
		memcpy(values, got, n * sizeof(*got));
	free(got);
	return rc;
}

static bool read_failed(struct jread *j, struct jread_text *failed, size_t max, size_t *n)
{
	if (jread_null(j))
		return true;
	jread_enter(j, JREAD_ARRAY);
	while (jread_element(j)) {
		if (*n == max)
			jread_fail(j, "more failed keys than keys");
		else if (jread_string(j, failed + *n))
			++*n;
	}
	return !j->error;
}

int response_bulk(struct response *r, char *body, size_t len, size_t n, bool all_counted,
	struct jread_text *failed, size_t *n_failed)
{
	int64_t successes = -1;
	struct jread_text name;
	struct envelope e;
	struct jread j;
	unsigned seen = 0;
	size_t count = 0;
	int rc = open_envelope(r, body, len, &e);

	if (rc)
		return rc;
	if (!is_null(&e.result)) {
		part(&j, &e.result);
		jread_enter(&j, JREAD_OBJECT);
		while (jread_member(&j, &name)) {
			if (jread_is(&name, "unsuccessful_keys"))
				(void)(once(&j, &seen, 0) && read_failed(&j, failed, n, &count));
			else if (jread_is(&name, "successful_key_count"))
				(void)(once(&j, &seen, 1) && jread_int(&j, &successes));
			else
				jread_skip(&j, NULL);
		}
		if (!jread_end(&j))
			return bad(r, j.error);
	}
	if (seen & 2 && (successes < 0 || successes > (int64_t)(n - count)))
		return bad(r, "more successes than keys");
	if (seen & 2 && all_counted && successes != (int64_t)(n - count))
		return bad(r, "successes and failures are not all");
	*n_failed = count;
	return 0;
}
