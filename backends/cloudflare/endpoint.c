#include "backends/cloudflare/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char DEFAULT_URL[] = "https://api.cloudflare.com/client/v4";
static const char COLLECTION[] = "/storage/kv/namespaces";
static const char EXPLORER[] = "/explorer/api"; /* how a development server's API ends */

enum { HOST_MAX = 255, ACCOUNT_MAX = 64 };

static bool is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool only(const char *s, size_t len, const char *extra)
{
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    strchr(extra, c)))
			return false;
	}
	return len > 0;
}

/* The host at `s`, without brackets; *rest is what follows. NULL or what is wrong. */
static const char *take_host(const char *s, char host[HOST_MAX + 1], const char **rest)
{
	const char *end;
	bool v6 = *s == '[';

	s += v6;
	end = s + strcspn(s, v6 ? "]" : ":/");
	if ((size_t)(end - s) > HOST_MAX || !only(s, (size_t)(end - s), v6 ? ":." : "-._"))
		return "its host is malformed";
	if (v6 && *end != ']')
		return "its host is malformed";
	memcpy(host, s, (size_t)(end - s));
	host[end - s] = '\0';
	*rest = end + v6;
	return NULL;
}

static const char *check_port(const char **s)
{
	if (**s == ':') {
		size_t digits = strspn(++*s, "0123456789");

		if (digits == 0 || digits > 5)
			return "its port is malformed";
		*s += digits;
	}
	return **s && **s != '/' ? "its host is malformed" : NULL;
}

static const char *check_path(const char *path)
{
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("?#@\\\"", *p))
			return "its path is malformed";
	return NULL;
}

static bool ends(const char *path, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(path + len - n, with, n) == 0;
}

/* *len: how much of it counts. *whole: it names the collection itself. */
static const char *check_url(const char *url, struct endpoint *ep, size_t *len, bool *whole)
{
	char host[HOST_MAX + 1];
	const char *why, *rest;

	if (strncmp(url, "https://", 8) == 0)
		url += 8;
	else if (strncmp(url, "http://", 7) == 0)
		url += 7, ep->plain = true;
	else
		return "it must begin with https://";
	why = take_host(url, host, &rest);
	if (!why)
		why = check_port(&rest);
	if (!why)
		why = check_path(rest);
	if (why)
		return why;
	ep->loopback = is_loopback(host);
	if (ep->plain && !ep->loopback)
		return "plain http is for loopback addresses only";
	for (*len = strlen(rest); *len && rest[*len - 1] == '/'; --*len)
		;
	*whole = ends(rest, *len, COLLECTION);
	ep->development = *whole || ends(rest, *len, EXPLORER);
	*len += (size_t)(rest - url);
	return NULL;
}

int endpoint_init(struct endpoint *ep, const char *url, const char *account, const char **why)
{
	struct endpoint got = {0};
	bool whole = false;
	size_t len;
	int n;

	if (!url || !*url)
		url = DEFAULT_URL;
	*why = check_url(url, &got, &len, &whole);
	if (!*why && !account && url == DEFAULT_URL)
		*why = "it needs an account's id";
	if (!*why && account &&
		(strlen(account) > ACCOUNT_MAX || !only(account, strlen(account), "-_")))
		*why = "the account's id is malformed";
	if (*why)
		return -EINVAL;
	len += got.plain ? 7 : 8;
	if (whole) {
		n = asprintf(&got.base, "%.*s", (int)len, url);
	} else if (got.development || !account) {
		got.development = true;
		n = asprintf(&got.base, "%.*s%s", (int)len, url, COLLECTION);
	} else {
		n = asprintf(&got.base, "%.*s/accounts/%s%s", (int)len, url, account, COLLECTION);
	}
	if (n < 0)
		return -ENOMEM;
	*ep = got;
	return 0;
}

void endpoint_release(struct endpoint *ep)
{
	free(ep->base);
	*ep = (struct endpoint){0};
}
