#include "backends/cloudflare/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "backends/base/thread.h"
#include "backends/cloudflare/call.h"
#include "backends/cloudflare/secret.h"

enum { TIMEOUT_DEFAULT = 30, TIMEOUT_MAX = 86400 };

const char *client_call_name(enum client_call call)
{
	static const char *const names[CLIENT_CALLS] = {
		[CLIENT_NS_LIST] = "listing namespaces",
		[CLIENT_NS_CREATE] = "creating a namespace",
		[CLIENT_NS_RENAME] = "renaming a namespace",
		[CLIENT_NS_DELETE] = "deleting a namespace",
		[CLIENT_KEYS] = "listing keys",
		[CLIENT_GET] = "get",
		[CLIENT_PUT] = "put",
		[CLIENT_DELETE] = "delete",
		[CLIENT_BULK_GET] = "bulk get",
		[CLIENT_BULK_PUT] = "bulk put",
		[CLIENT_BULK_DELETE] = "bulk delete",
	};

	return (unsigned)call < CLIENT_CALLS ? names[call] : "?";
}

static int64_t monotonic_now(void *arg)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_ns(ts);
}

static void monotonic_wait(
	void *arg, pthread_cond_t *cond, struct lock *lock, int64_t deadline, bool under_way)
{
	struct timespec ts = clock_timespec(deadline);

	thread_waits();
	if (deadline == INT64_MAX)
		lock_wait(lock, cond);
	else
		lock_wait_until(lock, cond, &ts);
}

static void plain_log(void *arg, enum log_level level, const char *line)
{
	log_line(level, "%s", line);
}

static void init_settings(struct client *c, const struct client_config *config)
{
	double timeout = config->timeout > 0 ? config->timeout : TIMEOUT_DEFAULT;

	if (timeout > TIMEOUT_MAX)
		timeout = TIMEOUT_MAX;
	c->timeout = (int64_t)(timeout * CLOCK_SECOND);
	c->blobs = config->blobs;
	c->log = config->log ? config->log : plain_log;
	c->log_arg = config->log_arg;
	if (config->clock)
		c->clock = *config->clock;
	else
		c->clock = (struct client_clock){monotonic_now, monotonic_wait, NULL};
}

static void say(const struct client *c, enum log_level level, const char *what, const char *why)
{
	char line[256];

	snprintf(line, sizeof(line), "cloudflare: %s: %s", what, why);
	c->log(c->log_arg, level, line);
}

static int open_parts(struct client *c, const struct client_config *config)
{
	const char *why;
	int rc = endpoint_init(&c->ep, config->endpoint, config->account, &why);

	if (rc) {
		if (rc == -EINVAL)
			say(c, LOG_LEVEL_ERROR, "the endpoint cannot be used", why);
		return rc;
	}
	if (config->token && *config->token && secret_shield_process())
		say(c, LOG_LEVEL_WARNING, "core dumps of this process may hold the token",
			"/proc/self/coredump_filter cannot be written");
	struct transport_config transport = {
		.token = config->token,
		.ca_file = config->ca_file,
		.plain = c->ep.plain,
		.loopback = c->ep.loopback,
	};
	rc = transport_open(&transport, &c->transport);
	if (rc == -EINVAL)
		say(c, LOG_LEVEL_ERROR, "the token cannot be used",
			"it is not one line of printable characters");
	else if (rc)
		say(c, LOG_LEVEL_ERROR, "HTTP transfers are not possible", strerror(-rc));
	if (rc)
		endpoint_release(&c->ep);
	return rc;
}

int client_open(const struct client_config *config, struct client **out)
{
	struct client *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return -ENOMEM;
	init_settings(c, config);
	int rc = open_parts(c, config);
	if (rc) {
		free(c);
		return rc;
	}
	lock_init(&c->lock, LOCK_CLIENT);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	pacer_init(&c->pacer);
	*out = c;
	return 0;
}

void client_cancel(struct client *c)
{
	lock_take(&c->lock);
	c->cancelled = true;
	pthread_cond_broadcast(&c->changed);
	lock_drop(&c->lock);
	transport_cancel(c->transport);
}

void client_close(struct client *c)
{
	if (!c)
		return;
	transport_close(c->transport);
	pthread_cond_destroy(&c->changed);
	lock_destroy(&c->lock);
	endpoint_release(&c->ep);
	free(c);
}

bool client_has_bulk(const struct client *c)
{
	return !c->ep.development;
}

bool client_has_expiration(const struct client *c)
{
	return !c->ep.development;
}

void client_stats(struct client *c, struct client_stats *out)
{
	int64_t now = c->clock.now(c->clock.arg);

	lock_take(&c->lock);
	const struct pacer *p = &c->pacer;
	*out = c->stats;
	out->remaining = pacer_left(p, now);
	out->quota = out->remaining < 0 ? -1 : p->quota;
	out->reset_in = p->reset_at > now ? p->reset_at - now : 0;
	out->blocked_for = p->blocked_until > now ? p->blocked_until - now : 0;
	lock_drop(&c->lock);
}
