#include "backends/cloudflare/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SUBJECT_MAX = 1024, LINE_BYTES = 1536 };

static const int64_t REPEAT_NS = INT64_C(60000000000);

static const char *advice(int error, const struct client *c)
{
	switch (error) {
	case -EACCES:
		return "the token is refused: it must be valid and may edit Workers KV Storage";
	case -ENODEV:
		return "there is no such namespace or account: check their ids";
	case -EEXIST:
		return "a namespace has this title already: choose another";
	case -EFBIG:
		return "it is too large for Workers KV";
	case -ERANGE:
		return "metadata may have 1,024 bytes as JSON";
	case -EINVAL:
		return "it cannot be stored so: change its name, metadata or expiration";
	case -EILSEQ:
		return "names must be UTF-8";
	case -EDQUOT:
		return "the plan's quota of the day is used up: wait until 00:00 UTC, or change "
		       "the plan";
	case -ETIMEDOUT:
		return "no answer within the timeout: it can be tried again";
	case -EOPNOTSUPP:
		return "this server does not have the call";
	case -ENOMEM:
	case -ENOSPC:
		return "free some memory or disk space";
	default:
		return c->ep.development
			? "check that the endpoint is a Workers KV API"
			: "see whether the service has trouble (cloudflarestatus.com)";
	}
}

/* "key a/b in namespace 0f2..." */
static void subject(const struct request *req, char *buf, size_t cap)
{
	char key[SUBJECT_MAX / 2];
	int n = 0;

	buf[0] = '\0';
	if (req->key)
		n = snprintf(buf, cap, " of key %s",
			log_bytes(req->key, req->key_len, key, sizeof(key)));
	else if (req->count)
		n = snprintf(buf, cap, " of %zu keys", req->count);
	if (req->ns && n >= 0 && (size_t)n < cap)
		snprintf(buf + n, cap - (size_t)n, " in namespace %s", req->ns);
}

/* Whether to log it, and how many like it were not. With the lock. */
static bool admit(struct client *c, const struct report_kind *kind, uint64_t *suppressed)
{
	struct report_kind *oldest = c->kinds;

	for (struct report_kind *k = c->kinds; k < c->kinds + REPORT_KINDS; k++) {
		if (k->logged_at && k->call == kind->call && k->error == kind->error &&
			k->status == kind->status && k->code == kind->code) {
			if (kind->logged_at - k->logged_at < REPEAT_NS) {
				k->suppressed++;
				return false;
			}
			oldest = k;
			break;
		}
		if (k->logged_at < oldest->logged_at)
			oldest = k;
	}
	bool same = oldest->logged_at && oldest->call == kind->call &&
		oldest->error == kind->error && oldest->status == kind->status &&
		oldest->code == kind->code;
	*suppressed = same ? oldest->suppressed : 0;
	*oldest = *kind;
	return true;
}

static void add(char *line, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add(char *line, size_t cap, const char *fmt, ...)
{
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, cap - n, fmt, ap);
	va_end(ap);
}

void report_failure(struct client *c, const struct request *req, int error, long status,
	int64_t code, const char *words)
{
	char line[LINE_BYTES], about[SUBJECT_MAX];
	struct report_kind kind = {req->call, error, status, code, c->clock.now(c->clock.arg), 0};
	uint64_t suppressed;

	if (error == -ENOENT || error == -EAGAIN || error == -ECANCELED)
		return;
	kind.logged_at |= 1;
	subject(req, about, sizeof(about));
	snprintf(
		line, sizeof(line), "cloudflare: %s%s failed:", client_call_name(req->call), about);
	if (status)
		add(line, sizeof(line), " status %ld,", status);
	if (code)
		add(line, sizeof(line), " code %" PRId64 ",", code);
	if (words && *words)
		add(line, sizeof(line), " \"%s\":", words);
	add(line, sizeof(line), " %s", advice(error, c));
	transport_mask(c->transport, line);
	lock_take(&c->lock);
	bool first = admit(c, &kind, &suppressed);
	snprintf(c->stats.last_error, sizeof(c->stats.last_error), "%.*s",
		(int)sizeof(c->stats.last_error) - 1, line);
	lock_drop(&c->lock);
	if (!first)
		return;
	if (suppressed)
		add(line, sizeof(line), " (%" PRIu64 " more like this)", suppressed);
	c->log(c->log_arg, LOG_LEVEL_ERROR, line);
}

void report_unsent(struct client *c, enum client_call call, const char *ns, const void *key,
	size_t len, int error)
{
	struct request req = {.call = call, .ns = ns, .key = key, .key_len = len};

	report_failure(c, &req, error, 0, 0, NULL);
}
