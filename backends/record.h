/*
 * record.h - what kvfs remembers of an entry beside its value, and its form at rest.
 *
 * Pure: no I/O, no locks, no clock. A record is a plain value; its extended attributes are a
 * packed list (below) that it borrows.
 *
 * At rest (record_encode): a version byte, fixed fields in little-endian order, the packed
 * extended attributes. record_decode() believes nothing: a record of an unknown version, a
 * wrong length or an inconsistent list is -EBADMSG.
 *
 * Packed extended attributes: for each, in the order of their names, u8 length of the name, the
 * name (whole, with "user."), u32 little-endian length of the value, the value.
 */
#ifndef KVFS_RECORD_H
#define KVFS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
	RECORD_MADE = 1 << 0, /* DIR: it exists although no key lies below it */
	RECORD_OWN_EXPIRATION = 1 << 1, /* KEY: someone set or removed its expiration by hand */
	RECORD_OWN_METADATA = 1 << 2, /* KEY: someone set or removed its metadata by hand */
	RECORD_DEFAULT_TTL = 1 << 3, /* default_ttl is set */
};

struct record {
	uint32_t flags;
	uint32_t mode; /* type and permission bits, as in st_mode */
	uint32_t uid, gid;
	uint64_t rdev;
	uint64_t ino;
	struct timespec atime, mtime, ctime, btime;
	int64_t expiration; /* seconds since the epoch; 0: never */
	int64_t visible_ns; /* an expiration that had passed when it was set takes effect only at
			       this time (nanoseconds since the epoch), so that tools can finish a
			       restore */
	int64_t default_ttl; /* DIR: seconds that keys created below it live; 0: for ever. KEY: that
			      * it will live from its first value on */
	const unsigned char *xattrs;
	uint32_t xattrs_len;
};

enum { RECORD_XATTRS_MAX = 256 * 1024, RECORD_FIXED_MAX = 160 };

/* When the entry ceases to be there: nanoseconds since the epoch (not negative), INT64_MAX for
 * never. */
int64_t record_expiry_ns(const struct record *rec);

/* Whether it has ceased to be there at `now`, nanoseconds since the epoch. */
bool record_expired(const struct record *rec, int64_t now);

/* Bytes that record_encode() writes. */
size_t record_encoded_size(const struct record *rec);

/* Writes the form at rest into `buf` of record_encoded_size() bytes. */
void record_encode(const struct record *rec, unsigned char *buf);

/* Reads the form at rest. rec->xattrs points into `buf`. -EBADMSG. */
int record_decode(const unsigned char *buf, size_t len, struct record *rec);

/* Reads flags, mode and ino alone, which stand at the beginning; the rest of *rec stays as it is. What
 * comes after them is not believed to be right either. -EBADMSG. */
int record_peek(const unsigned char *buf, size_t len, struct record *rec);

/* The value of extended attribute `name`, NULL where absent. */
const unsigned char *xattrs_get(
	const unsigned char *xattrs, size_t len, const char *name, size_t *value_len);

/* A copy of the list with `name` set to the value, or removed (value NULL), into *out (malloc'd,
 * the caller frees; may be NULL when the list becomes empty). -ENOMEM, -ENODATA (to be removed, but
 * absent), -ERANGE (over RECORD_XATTRS_MAX, or a name that is empty or over 255 bytes). */
int xattrs_set(const unsigned char *xattrs, size_t len, const char *name, const void *value,
	size_t value_len, unsigned char **out, size_t *out_len);

/* Calls `fn` for each, in order, until it returns non-zero; that value, or 0. `name` is not
 * terminated. */
int xattrs_each(const unsigned char *xattrs, size_t len,
	int (*fn)(void *arg, const char *name, size_t name_len, const unsigned char *value,
		size_t value_len),
	void *arg);

#endif
