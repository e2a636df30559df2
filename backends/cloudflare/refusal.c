/*
 * refusal.c - what it means when the API refuses a request: by the status, and by the code in the
 * answer, which says more.
 */
#include <errno.h>
#include <string.h>

#include "backends/cloudflare/response.h"

enum {
	CODE_RATE_LIMITED = 971,
	CODE_BAD_AUTHORIZATION = 6003,
	CODE_NO_ACCOUNT = 7003,
	CODE_NO_AUTHORIZATION = 9106,
	CODE_AUTHENTICATION = 10000,
	CODE_NO_KEY = 10009,
	CODE_BAD_NAMESPACE = 10011,
	CODE_NO_NAMESPACE = 10013,
	CODE_TITLE_EXISTS = 10014,
	CODE_DAY_LIMIT = 10048,
};

static bool says(const struct response *r, const char *words)
{
	return strcasestr(r->message, words) != NULL;
}

static bool day_limit(long status, const struct response *r)
{
	return status == 429 && r->code != CODE_RATE_LIMITED &&
		(r->code == CODE_DAY_LIMIT || says(r, "for the day") || says(r, "for today") ||
			says(r, "per day") || says(r, "daily"));
}

static int client_error(enum client_call call, long status, const struct response *r)
{
	bool collection = call == CLIENT_NS_LIST || call == CLIENT_NS_CREATE;

	switch (r->code) {
	case CODE_BAD_AUTHORIZATION:
	case CODE_NO_AUTHORIZATION:
	case CODE_AUTHENTICATION:
		return -EACCES;
	case CODE_NO_ACCOUNT:
	case CODE_NO_NAMESPACE:
		return -ENODEV;
	case CODE_BAD_NAMESPACE:
		return collection ? -EIO : -ENODEV;
	case CODE_TITLE_EXISTS:
		return -EEXIST;
	case CODE_NO_KEY:
		return call == CLIENT_GET || call == CLIENT_DELETE ? -ENOENT : -EIO;
	default:
		/* Only the code tells that a key is absent: a 404 from whoever else answers here
		 * must not make keys disappear. */
		return status == 400 || status == 414 || status == 422 ? -EINVAL : -EIO;
	}
}

int response_errno(enum client_call call, long status, const struct response *r)
{
	switch (status) {
	case 401:
	case 403:
		return -EACCES;
	case 405:
	case 501:
		return -EOPNOTSUPP;
	case 413:
		return -EFBIG;
	case 429:
		return day_limit(status, r) ? -EDQUOT : -ETIMEDOUT;
	case 408:
		return -ETIMEDOUT;
	default:
		if (status >= 500)
			return -ETIMEDOUT;
		return status >= 400 ? client_error(call, status, r) : -EIO;
	}
}

bool response_retryable(long status, const struct response *r)
{
	if (status == 429)
		return !day_limit(status, r);
	return status == 408 || status == 409 || (status >= 500 && status != 501);
}

bool response_rate_limited(long status, const struct response *r)
{
	return status == 429 && !day_limit(status, r) &&
		(r->code == CODE_RATE_LIMITED || r->code == 0);
}
