/*
 * record.c - the form of a record at rest, and the packed list of extended attributes.
 *
 * At rest, version 1, everything in little-endian order and without padding:
 *
 *   u8   version
 *   u32  flags, mode, uid, gid
 *   u64  rdev, ino
 *   4 x  { i64 seconds, u32 nanoseconds }   atime, mtime, ctime, btime
 *   i64  expiration, visible_ns, default_ttl
 *   u32  length of the extended attributes, which follow and end the record
 *
 * Invariant of a packed list: names are 1 to 255 bytes without a NUL, in strictly ascending byte
 * order, so that each list has one form and a search may stop early.
 */
#include "backends/record.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"

enum {
	RECORD_VERSION = 1,
	TIME_SIZE = 8 + 4,
	FIXED_SIZE = 1 + 4 * 4 + 2 * 8 + 4 * TIME_SIZE + 3 * 8 + 4,
	FLAGS_KNOWN =
		RECORD_MADE | RECORD_OWN_EXPIRATION | RECORD_OWN_METADATA | RECORD_DEFAULT_TTL,
	XATTR_NAME_BYTES_MAX = 255,
	XATTR_OVERHEAD = 1 + 4,
};

_Static_assert((int)FIXED_SIZE <= (int)RECORD_FIXED_MAX, "callers reserve RECORD_FIXED_MAX");

int64_t record_expiry_ns(const struct record *rec)
{
	int64_t ns;

	if (rec->expiration == 0)
		return INT64_MAX;
	/* Beyond the year 2262 nanoseconds overflow: as good as never. */
	if (rec->expiration > INT64_MAX / CLOCK_SECOND)
		return INT64_MAX;
	/* Never negative, so that stores can order expiries as unsigned numbers. */
	ns = rec->expiration < 0 ? 0 : rec->expiration * CLOCK_SECOND;
	return rec->visible_ns > ns ? rec->visible_ns : ns;
}

bool record_expired(const struct record *rec, int64_t now)
{
	int64_t expiry = record_expiry_ns(rec);

	return expiry != INT64_MAX && expiry <= now;
}

size_t record_encoded_size(const struct record *rec)
{
	return FIXED_SIZE + (size_t)rec->xattrs_len;
}

static unsigned char *put_le(unsigned char *p, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)(value >> (8 * i));
	return p + bytes;
}

static uint64_t get_le(const unsigned char **p, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, *p, bytes);
	*p += bytes;
	return le64toh(value);
}

static unsigned char *put_time(unsigned char *p, struct timespec ts)
{
	p = put_le(p, (uint64_t)ts.tv_sec, 8);
	return put_le(p, (uint64_t)ts.tv_nsec, 4);
}

static struct timespec get_time(const unsigned char **p)
{
	struct timespec ts;

	ts.tv_sec = (time_t)get_le(p, 8);
	ts.tv_nsec = (long)get_le(p, 4);
	return ts;
}

static bool time_valid(struct timespec ts)
{
	return ts.tv_nsec >= 0 && ts.tv_nsec < CLOCK_SECOND;
}

void record_encode(const struct record *rec, unsigned char *buf)
{
	unsigned char *p = put_le(buf, RECORD_VERSION, 1);

	p = put_le(p, rec->flags, 4);
	p = put_le(p, rec->mode, 4);
	p = put_le(p, rec->uid, 4);
	p = put_le(p, rec->gid, 4);
	p = put_le(p, rec->rdev, 8);
	p = put_le(p, rec->ino, 8);
	p = put_time(p, rec->atime);
	p = put_time(p, rec->mtime);
	p = put_time(p, rec->ctime);
	p = put_time(p, rec->btime);
	p = put_le(p, (uint64_t)rec->expiration, 8);
	p = put_le(p, (uint64_t)rec->visible_ns, 8);
	p = put_le(p, (uint64_t)rec->default_ttl, 8);
	p = put_le(p, rec->xattrs_len, 4);
	if (rec->xattrs_len)
		memcpy(p, rec->xattrs, rec->xattrs_len);
}

/* One extended attribute of a list. */
struct xattr {
	const unsigned char *start; /* its first byte in the list */
	const char *name;
	size_t name_len;
	const unsigned char *value;
	size_t value_len;
};

/* Reads the attribute at *p and moves *p past it: 1, 0 at the end, -EBADMSG. */
static int xattr_next(const unsigned char **p, const unsigned char *end, struct xattr *x)
{
	const unsigned char *q = *p;

	if (q == end)
		return 0;
	x->start = q;
	x->name_len = *q++;
	if (x->name_len == 0 || (size_t)(end - q) < x->name_len + 4)
		return -EBADMSG;
	x->name = (const char *)q;
	q += x->name_len;
	x->value_len = (size_t)get_le(&q, 4);
	if ((size_t)(end - q) < x->value_len)
		return -EBADMSG;
	x->value = q;
	*p = q + x->value_len;
	return 1;
}

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

static bool xattrs_valid(const unsigned char *xattrs, size_t len)
{
	const unsigned char *p = xattrs, *end = xattrs + len;
	struct xattr x, prev = {0};
	int rc;

	if (len > RECORD_XATTRS_MAX)
		return false;
	while ((rc = xattr_next(&p, end, &x)) > 0) {
		if (memchr(x.name, '\0', x.name_len))
			return false;
		if (prev.name && name_compare(prev.name, prev.name_len, x.name, x.name_len) >= 0)
			return false;
		prev = x;
	}
	return rc == 0;
}

int record_peek(const unsigned char *buf, size_t len, struct record *rec)
{
	const unsigned char *p = buf;

	if (len < FIXED_SIZE || get_le(&p, 1) != RECORD_VERSION)
		return -EBADMSG;
	rec->flags = (uint32_t)get_le(&p, 4);
	rec->mode = (uint32_t)get_le(&p, 4);
	p += 4 + 4 + 8;
	rec->ino = get_le(&p, 8);
	return 0;
}

int record_decode(const unsigned char *buf, size_t len, struct record *rec)
{
	const unsigned char *p = buf;
	struct record r = {0};

	if (len < FIXED_SIZE || get_le(&p, 1) != RECORD_VERSION)
		return -EBADMSG;
	r.flags = (uint32_t)get_le(&p, 4);
	r.mode = (uint32_t)get_le(&p, 4);
	r.uid = (uint32_t)get_le(&p, 4);
	r.gid = (uint32_t)get_le(&p, 4);
	r.rdev = get_le(&p, 8);
	r.ino = get_le(&p, 8);
	r.atime = get_time(&p);
	r.mtime = get_time(&p);
	r.ctime = get_time(&p);
	r.btime = get_time(&p);
	r.expiration = (int64_t)get_le(&p, 8);
	r.visible_ns = (int64_t)get_le(&p, 8);
	r.default_ttl = (int64_t)get_le(&p, 8);
	r.xattrs_len = (uint32_t)get_le(&p, 4);
	if (r.flags & ~(uint32_t)FLAGS_KNOWN)
		return -EBADMSG;
	if (!time_valid(r.atime) || !time_valid(r.mtime) || !time_valid(r.ctime) ||
		!time_valid(r.btime))
		return -EBADMSG;
	if (r.xattrs_len != len - FIXED_SIZE || !xattrs_valid(p, r.xattrs_len))
		return -EBADMSG;
	r.xattrs = r.xattrs_len ? p : NULL;
	*rec = r;
	return 0;
}

/* Looks for `name`: true and *x is it, or false and *x is the first one after it (x->start the
 * list's end where there is none). */
static bool xattrs_find(
	const unsigned char *xattrs, size_t len, const char *name, size_t name_len, struct xattr *x)
{
	const unsigned char *p = xattrs, *end = len ? xattrs + len : xattrs;

	while (xattr_next(&p, end, x) > 0) {
		int order = name_compare(x->name, x->name_len, name, name_len);

		if (order >= 0)
			return order == 0;
	}
	x->start = end;
	return false;
}

const unsigned char *xattrs_get(
	const unsigned char *xattrs, size_t len, const char *name, size_t *value_len)
{
	struct xattr x;

	if (!xattrs_find(xattrs, len, name, strlen(name), &x))
		return NULL;
	*value_len = x.value_len;
	return x.value;
}

static unsigned char *put_bytes(unsigned char *p, const void *bytes, size_t len)
{
	if (len)
		memcpy(p, bytes, len);
	return p + len;
}

int xattrs_set(const unsigned char *xattrs, size_t len, const char *name, const void *value,
	size_t value_len, unsigned char **out, size_t *out_len)
{
	size_t name_len = strlen(name);
	struct xattr x;

	if (name_len == 0 || name_len > XATTR_NAME_BYTES_MAX || value_len > RECORD_XATTRS_MAX)
		return -ERANGE;
	bool found = xattrs_find(xattrs, len, name, name_len, &x);
	if (!found && !value)
		return -ENODATA;

	size_t head = len ? (size_t)(x.start - xattrs) : 0;
	size_t old = found ? XATTR_OVERHEAD + x.name_len + x.value_len : 0;
	size_t added = value ? XATTR_OVERHEAD + name_len + value_len : 0;
	size_t total = len - old + added;
	if (total > RECORD_XATTRS_MAX)
		return -ERANGE;
	unsigned char *list = NULL;
	if (total) {
		list = malloc(total);
		if (!list)
			return -ENOMEM;
		unsigned char *p = put_bytes(list, xattrs, head);
		if (value) {
			p = put_le(p, name_len, 1);
			p = put_bytes(p, name, name_len);
			p = put_le(p, value_len, 4);
			p = put_bytes(p, value, value_len);
		}
		put_bytes(p, len ? xattrs + head + old : NULL, len - head - old);
	}
	*out = list;
	*out_len = total;
	return 0;
}

int xattrs_each(const unsigned char *xattrs, size_t len,
	int (*fn)(void *arg, const char *name, size_t name_len, const unsigned char *value,
		size_t value_len),
	void *arg)
{
	const unsigned char *p = xattrs, *end = len ? xattrs + len : xattrs;
	struct xattr x;

	while (xattr_next(&p, end, &x) > 0) {
		int rc = fn(arg, x.name, x.name_len, x.value, x.value_len);

		if (rc)
			return rc;
	}
	return 0;
}
