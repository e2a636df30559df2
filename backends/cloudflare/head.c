#include "backends/cloudflare/head.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const int64_t NUMBER_MAX = INT64_C(1000000000000);
static const int64_t WAIT_MAX_S = 86400; /* nobody is believed who sends us away for longer */

void head_init(struct head *h)
{
	*h = (struct head){-1, -1, -1, -1, -1, -1, -1, 0, false};
}

/* A decimal number that fills the text, rounded down; -1. */
static int64_t number(const char *p, size_t len)
{
	int64_t n = 0;
	size_t i = 0;

	while (i < len && p[i] >= '0' && p[i] <= '9' && n < NUMBER_MAX)
		n = n * 10 + (p[i++] - '0');
	if (i == 0)
		return -1;
	if (i < len && p[i] == '.')
		for (i++; i < len && p[i] >= '0' && p[i] <= '9'; i++)
			;
	return i == len && n < NUMBER_MAX ? n : -1;
}

int64_t head_date(const char *text, size_t len)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char buf[40], month[4], zone[4];
	struct tm tm = {0};
	int used = 0;

	if (len >= sizeof(buf) || memchr(text, '\0', len))
		return -1;
	memcpy(buf, text, len);
	buf[len] = '\0';
	if (sscanf(buf, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3[A-Z]%n", &tm.tm_mday, month,
		    &tm.tm_year, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, zone, &used) != 7 ||
		(size_t)used != len || strcmp(zone, "GMT") != 0)
		return -1;
	const char *at = strstr(months, month);
	if (!at || (at - months) % 3 || strlen(month) != 3 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
		tm.tm_year < 1970 || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 ||
		tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return -1;
	tm.tm_mon = (int)(at - months) / 3;
	tm.tm_year -= 1900;
	return timegm(&tm);
}

/* The number after `name`= among the parameters of one item of a structured list; -1. */
static int64_t parameter(const char *item, size_t len, char name)
{
	const char *p = item, *end = item + len;

	while ((p = memchr(p, ';', (size_t)(end - p)))) {
		for (p++; p < end && *p == ' '; p++)
			;
		if (end - p < 2 || p[0] != name || p[1] != '=')
			continue;
		p += 2;
		const char *stop = p;
		while (stop < end && *stop != ';' && *stop != ' ')
			stop++;
		return number(p, (size_t)(stop - p));
	}
	return -1;
}

/* Of several limits the one with the least left (or, of policies, the least quota) counts. */
static void least(const char *list, size_t len, char count, char time, int64_t *n, int64_t *s)
{
	const char *p = list, *end = list + len;

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;
		int64_t items = parameter(p, (size_t)(stop - p), count);
		int64_t seconds = parameter(p, (size_t)(stop - p), time);

		if (items >= 0 && seconds >= 0 && (*n < 0 || items < *n)) {
			*n = items;
			*s = seconds;
		}
		p = stop + 1;
	}
}

static void expiration(struct head *h, const char *value, size_t len)
{
	int64_t n = number(value, len);

	if (n <= 0 || memchr(value, '.', len) || (h->expiration && h->expiration != n))
		h->bad = true;
	else
		h->expiration = n;
}

static void known_header(
	struct head *h, const char *name, size_t name_len, const char *value, size_t len)
{
#define IS(s) (name_len == sizeof(s) - 1 && strncasecmp(name, s, sizeof(s) - 1) == 0)
	if (IS("ratelimit")) {
		least(value, len, 'r', 't', &h->remaining, &h->reset);
	} else if (IS("ratelimit-policy")) {
		least(value, len, 'q', 'w', &h->quota, &h->window);
	} else if (IS("retry-after-ms")) {
		h->retry_ms = number(value, len);
	} else if (IS("retry-after")) {
		h->retry_s = number(value, len);
		h->retry_date = h->retry_s < 0 ? head_date(value, len) : -1;
	} else if (IS("expiration")) {
		expiration(h, value, len);
	}
#undef IS
}

void head_line(struct head *h, const char *line, size_t len)
{
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		head_init(h);
		return;
	}
	const char *colon = memchr(line, ':', len);
	if (!colon)
		return;
	const char *value = colon + 1, *end = line + len;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value &&
		(end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
		end--;
	known_header(h, line, (size_t)(colon - line), value, (size_t)(end - value));
}

int64_t head_retry_after(const struct head *h, int64_t now)
{
	int64_t ms = -1;

	if (h->retry_ms >= 0)
		ms = h->retry_ms;
	else if (h->retry_s >= 0)
		ms = h->retry_s < WAIT_MAX_S ? h->retry_s * 1000 : WAIT_MAX_S * 1000;
	else if (h->retry_date >= 0)
		ms = h->retry_date > now ? (h->retry_date - now) * 1000 : 0;
	if (ms > WAIT_MAX_S * 1000)
		ms = WAIT_MAX_S * 1000;
	return ms < 0 ? -1 : ms * 1000000;
}
