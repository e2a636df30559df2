/*
 * fuzz_record.c - record_decode() on arbitrary bytes: it must not read beyond them, and what it
 * accepts must be written back as it was; changing its extended attributes must keep it acceptable.
 * And the other way: a record made of arbitrary fields and attributes must be read back as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "backends/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static int count(
	void *arg, const char *name, size_t name_len, const unsigned char *value, size_t value_len)
{
	++*(size_t *)arg;
	return 0;
}

static void expect_encodes_to(const struct record *rec, const uint8_t *data, size_t size)
{
	unsigned char *buf = malloc(record_encoded_size(rec));

	require(buf != NULL);
	require(record_encoded_size(rec) == size);
	record_encode(rec, buf);
	require(memcmp(buf, data, size) == 0);
	free(buf);
}

/* Sets and removes an attribute that was not there: the list is the same again. */
static void expect_set_and_removed(const struct record *rec)
{
	unsigned char *more, *less;
	size_t more_len, less_len, value_len, before = 0, after = 0;

	require(xattrs_each(rec->xattrs, rec->xattrs_len, count, &before) == 0);
	if (xattrs_get(rec->xattrs, rec->xattrs_len, "user.fuzz", &value_len))
		return;
	if (xattrs_set(rec->xattrs, rec->xattrs_len, "user.fuzz", "v", 1, &more, &more_len))
		return;
	require(xattrs_each(more, more_len, count, &after) == 0 && after == before + 1);
	require(xattrs_get(more, more_len, "user.fuzz", &value_len) != NULL && value_len == 1);
	require(xattrs_set(more, more_len, "user.fuzz", NULL, 0, &less, &less_len) == 0);
	require(less_len == rec->xattrs_len);
	require(less_len == 0 || memcmp(less, rec->xattrs, less_len) == 0);
	free(more);
	free(less);
}

static void decode_bytes(const uint8_t *data, size_t size)
{
	struct record rec;

	if (record_decode(data, size, &rec))
		return;
	expect_encodes_to(&rec, data, size);
	expect_set_and_removed(&rec);
	require(record_expired(&rec, INT64_MAX) == (record_expiry_ns(&rec) != INT64_MAX));
}

/* An attribute per eight bytes: six for the name, one for the value's length, one to remove some.
 */
static void make_xattrs(struct record *rec, const uint8_t *data, size_t size)
{
	for (; size >= 8; data += 8, size -= 8) {
		char name[7] = {0};
		unsigned char *list;
		size_t len;
		const void *value = data[7] % 4 ? data : NULL;

		memcpy(name, data, 6);
		if (xattrs_set(rec->xattrs, rec->xattrs_len, name, value, data[6] % 8, &list, &len))
			continue;
		free((void *)(uintptr_t)rec->xattrs);
		rec->xattrs = list;
		rec->xattrs_len = (uint32_t)len;
	}
}

static void encode_fields(const uint8_t *data, size_t size)
{
	struct record rec = {0}, got;
	uint64_t fields[8];
	unsigned char *buf;

	if (size < sizeof(fields))
		return;
	memcpy(fields, data, sizeof(fields));
	rec.flags = (uint32_t)fields[0] & 15;
	rec.mode = (uint32_t)(fields[0] >> 32);
	rec.uid = (uint32_t)fields[1];
	rec.ino = fields[2];
	rec.mtime = (struct timespec){
		.tv_sec = (time_t)fields[3], .tv_nsec = (long)(fields[4] % 1000000000)};
	rec.expiration = (int64_t)fields[5];
	rec.visible_ns = (int64_t)fields[6];
	rec.default_ttl = (int64_t)fields[7];
	make_xattrs(&rec, data + sizeof(fields), size - sizeof(fields));
	buf = malloc(record_encoded_size(&rec));
	require(buf != NULL);
	record_encode(&rec, buf);
	require(record_decode(buf, record_encoded_size(&rec), &got) == 0);
	require(got.ino == rec.ino && got.mtime.tv_sec == rec.mtime.tv_sec);
	require(record_expiry_ns(&got) == record_expiry_ns(&rec));
	expect_encodes_to(&got, buf, record_encoded_size(&rec));
	expect_set_and_removed(&got);
	free(buf);
	free((void *)(uintptr_t)rec.xattrs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	decode_bytes(data, size);
	encode_fields(data, size);
	return 0;
}
