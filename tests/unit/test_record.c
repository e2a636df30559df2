/*
 * test_record.c - records at rest, their expiry, and lists of extended attributes.
 */
#include "backends/record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int64_t SECOND = 1000000000;

static struct record sample(void)
{
	static const unsigned char xattrs[] = "\6user.a\3\0\0\0one\7user.bb\0\0\0";

	return (struct record){
		.flags = RECORD_MADE | RECORD_OWN_METADATA,
		.mode = 0100644,
		.uid = 0xfffffffe,
		.gid = 3,
		.rdev = 0x0123456789abcdef,
		.ino = UINT64_C(1) << 61,
		.atime = {.tv_sec = 1, .tv_nsec = 2},
		.mtime = {.tv_sec = -3, .tv_nsec = 999999999},
		.ctime = {.tv_sec = 5, .tv_nsec = 6},
		.btime = {.tv_sec = 7, .tv_nsec = 8},
		.expiration = 1764000000,
		.visible_ns = 123456789012345,
		.default_ttl = 60,
		.xattrs = xattrs,
		.xattrs_len = sizeof(xattrs),
	};
}

static void expect_same(const struct record *a, const struct record *b)
{
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_true(a->rdev == b->rdev);
	assert_true(a->ino == b->ino);
	assert_memory_equal(&a->atime, &b->atime, sizeof(a->atime));
	assert_memory_equal(&a->mtime, &b->mtime, sizeof(a->mtime));
	assert_memory_equal(&a->ctime, &b->ctime, sizeof(a->ctime));
	assert_memory_equal(&a->btime, &b->btime, sizeof(a->btime));
	assert_true(a->expiration == b->expiration);
	assert_true(a->visible_ns == b->visible_ns);
	assert_true(a->default_ttl == b->default_ttl);
	assert_int_equal(a->xattrs_len, b->xattrs_len);
	if (a->xattrs_len)
		assert_memory_equal(a->xattrs, b->xattrs, a->xattrs_len);
}

/* A copy of exactly `len` bytes, so that a sanitizer sees a read beyond them. */
static int decode_exact(const unsigned char *bytes, size_t len, struct record *rec)
{
	unsigned char *copy = malloc(len ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	rc = record_decode(copy, len, rec);
	free(copy);
	return rc;
}

static void test_round_trip(void **state)
{
	unsigned char buf[256];
	struct record rec = sample(), zero = {0}, got;

	memset(&got, 0x5a, sizeof(got));
	record_encode(&rec, buf);
	assert_int_equal(record_decode(buf, record_encoded_size(&rec), &got), 0);
	expect_same(&got, &rec);
	assert_true(got.xattrs > buf && got.xattrs < buf + sizeof(buf));
	record_encode(&zero, buf);
	assert_true(record_encoded_size(&zero) <= RECORD_FIXED_MAX);
	assert_int_equal(record_decode(buf, record_encoded_size(&zero), &got), 0);
	expect_same(&got, &zero);
}

/* The form is written down on disks: it stays. */
static void test_form(void **state)
{
	static const unsigned char want[] = "\1"
					    "\5\0\0\0\244\201\0\0\376\377\377\377\3\0\0\0"
					    "\357\315\253\211\147\105\043\1\0\0\0\0\0\0\0\040"
					    "\1\0\0\0\0\0\0\0\2\0\0\0"
					    "\375\377\377\377\377\377\377\377\377\311\232\073"
					    "\5\0\0\0\0\0\0\0\6\0\0\0"
					    "\7\0\0\0\0\0\0\0\10\0\0\0";
	struct record rec = sample();
	unsigned char buf[256];

	record_encode(&rec, buf);
	assert_memory_equal(buf, want, sizeof(want) - 1);
	assert_int_equal(record_encoded_size(&rec), 109 + rec.xattrs_len);
}

static void test_wrong_lengths(void **state)
{
	unsigned char buf[256] = {0};
	struct record rec = sample(), got = {.ino = 77};
	size_t size = record_encoded_size(&rec);

	record_encode(&rec, buf);
	for (size_t len = 0; len < size; len++)
		assert_int_equal(decode_exact(buf, len, &got), -EBADMSG);
	assert_int_equal(decode_exact(buf, size + 1, &got), -EBADMSG);
	assert_int_equal(got.ino, 77);
	assert_int_equal(decode_exact(buf, size, &got), 0);
}

static void expect_bad(size_t at, const void *bytes, size_t len)
{
	unsigned char buf[256];
	struct record rec = sample(), got;

	record_encode(&rec, buf);
	memcpy(buf + at, bytes, len);
	assert_int_equal(decode_exact(buf, record_encoded_size(&rec), &got), -EBADMSG);
}

static void test_inconsistent(void **state)
{
	expect_bad(0, "\0", 1); /* version */
	expect_bad(0, "\2", 1); /* a later version */
	expect_bad(4, "\200", 1); /* an unknown flag */
	expect_bad(41, "\0\312\232\073", 4); /* a whole second of nanoseconds */
	expect_bad(105, "\0\0\0\0", 4); /* length of the attributes */
	expect_bad(105, "\377\377\377\377", 4);
	expect_bad(109, "\0", 1); /* an empty name */
	expect_bad(109, "\377", 1); /* a name beyond the end */
	expect_bad(116, "\377\377", 2); /* a value beyond the end */
	expect_bad(115, "z", 1); /* out of order */
	expect_bad(112, "\0", 1); /* a NUL in a name */
	expect_bad(116, "\2\0\0\0", 4); /* a value that ends early */
}

static void test_duplicate_names(void **state)
{
	static const unsigned char xattrs[] = "\1a\0\0\0\0\1a\0\0\0";
	struct record rec = {.xattrs = xattrs, .xattrs_len = sizeof(xattrs)}, got;
	unsigned char buf[256];

	record_encode(&rec, buf);
	assert_int_equal(decode_exact(buf, record_encoded_size(&rec), &got), -EBADMSG);
	rec.xattrs_len = sizeof(xattrs) / 2;
	record_encode(&rec, buf);
	assert_int_equal(decode_exact(buf, record_encoded_size(&rec), &got), 0);
}

static void expect_expiry(int64_t expiration, int64_t visible_ns, int64_t want)
{
	struct record rec = {.expiration = expiration, .visible_ns = visible_ns};

	assert_true(record_expiry_ns(&rec) == want);
	if (want == INT64_MAX) {
		assert_false(record_expired(&rec, INT64_MAX));
	} else {
		assert_true(record_expired(&rec, want));
		assert_true(record_expired(&rec, INT64_MAX));
		assert_false(record_expired(&rec, want - 1));
	}
}

static void test_expiry(void **state)
{
	expect_expiry(0, 0, INT64_MAX);
	expect_expiry(0, 5, INT64_MAX);
	expect_expiry(1, 0, SECOND);
	expect_expiry(10, 5 * SECOND, 10 * SECOND);
	expect_expiry(10, 15 * SECOND, 15 * SECOND);
	expect_expiry(-1, 0, 0);
	expect_expiry(INT64_MIN, 5, 5);
	expect_expiry(INT64_MAX / SECOND, 0, INT64_MAX / SECOND * SECOND);
	expect_expiry(INT64_MAX / SECOND + 1, 0, INT64_MAX);
	expect_expiry(INT64_MAX, 0, INT64_MAX);
}

/* A list that is changed in place of the one before. */
struct list {
	unsigned char *bytes;
	size_t len;
};

static int set(struct list *l, const char *name, const char *value)
{
	unsigned char *out;
	size_t out_len;
	int rc = xattrs_set(
		l->bytes, l->len, name, value, value ? strlen(value) : 0, &out, &out_len);

	if (rc == 0) {
		free(l->bytes);
		*l = (struct list){.bytes = out, .len = out_len};
	}
	return rc;
}

static int join(
	void *arg, const char *name, size_t name_len, const unsigned char *value, size_t value_len)
{
	strncat(arg, name, name_len);
	strcat(arg, "=");
	strncat(arg, (const char *)value, value_len);
	strcat(arg, ";");
	return 0;
}

static void expect_list(const struct list *l, const char *want)
{
	struct record rec = {.xattrs = l->bytes, .xattrs_len = (uint32_t)l->len}, got;
	unsigned char buf[1024];
	char joined[512] = "";

	assert_int_equal(xattrs_each(l->bytes, l->len, join, joined), 0);
	assert_string_equal(joined, want);
	record_encode(&rec, buf);
	assert_int_equal(decode_exact(buf, record_encoded_size(&rec), &got), 0);
}

static void test_xattrs_set(void **state)
{
	struct list l = {0};

	assert_int_equal(set(&l, "user.b", NULL), -ENODATA);
	assert_int_equal(set(&l, "user.b", "2"), 0);
	assert_int_equal(set(&l, "user.a", "1"), 0);
	assert_int_equal(set(&l, "user.bb", ""), 0);
	assert_int_equal(set(&l, "user.", "0"), 0);
	expect_list(&l, "user.=0;user.a=1;user.b=2;user.bb=;");
	assert_int_equal(set(&l, "user.b", "twenty"), 0);
	assert_int_equal(set(&l, "user.", "o"), 0);
	assert_int_equal(set(&l, "user.bb", "end"), 0);
	expect_list(&l, "user.=o;user.a=1;user.b=twenty;user.bb=end;");
	assert_int_equal(set(&l, "user.ab", NULL), -ENODATA);
	assert_int_equal(set(&l, "user.a", NULL), 0);
	assert_int_equal(set(&l, "user.bb", NULL), 0);
	expect_list(&l, "user.=o;user.b=twenty;");
	assert_int_equal(set(&l, "user.", NULL), 0);
	assert_int_equal(set(&l, "user.b", NULL), 0);
	assert_null(l.bytes);
	assert_int_equal(l.len, 0);
}

static void test_xattrs_get(void **state)
{
	struct record rec = sample();
	size_t len = 77;

	assert_null(xattrs_get(rec.xattrs, rec.xattrs_len, "user.", &len));
	assert_null(xattrs_get(rec.xattrs, rec.xattrs_len, "user.c", &len));
	assert_null(xattrs_get(NULL, 0, "user.a", &len));
	assert_int_equal(len, 77);
	assert_memory_equal(xattrs_get(rec.xattrs, rec.xattrs_len, "user.a", &len), "one", 3);
	assert_int_equal(len, 3);
	assert_non_null(xattrs_get(rec.xattrs, rec.xattrs_len, "user.bb", &len));
	assert_int_equal(len, 0);
}

static void test_xattrs_limits(void **state)
{
	static char value[RECORD_XATTRS_MAX];
	unsigned char *out = NULL, *more = NULL;
	size_t len = 77, more_len;
	char name[257];

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(xattrs_set(NULL, 0, name, "v", 1, &out, &len), -ERANGE);
	assert_int_equal(xattrs_set(NULL, 0, "", "v", 1, &out, &len), -ERANGE);
	assert_int_equal(
		xattrs_set(NULL, 0, "n", value, RECORD_XATTRS_MAX - 5, &out, &len), -ERANGE);
	assert_null(out);
	assert_int_equal(len, 77);
	name[255] = '\0';
	assert_int_equal(xattrs_set(NULL, 0, name, "v", 1, &out, &len), 0);
	assert_int_equal(len, 1 + 255 + 4 + 1);
	free(out);
	assert_int_equal(xattrs_set(NULL, 0, "n", value, RECORD_XATTRS_MAX - 6, &out, &len), 0);
	assert_int_equal(len, RECORD_XATTRS_MAX);
	assert_int_equal(xattrs_set(out, len, "o", "", 0, &more, &more_len), -ERANGE);
	/* What takes the place of the old one may be as long. */
	assert_int_equal(xattrs_set(out, len, "n", value, 3, &more, &more_len), 0);
	assert_int_equal(more_len, 9);
	free(more);
	free(out);
}

static int stop_at_second(
	void *arg, const char *name, size_t name_len, const unsigned char *value, size_t value_len)
{
	return ++*(int *)arg == 2 ? 42 : 0;
}

static void test_xattrs_each_stops(void **state)
{
	static const unsigned char xattrs[] = "\1a\0\0\0\0\1b\0\0\0\0\1c\0\0\0";
	int calls = 0;

	assert_int_equal(xattrs_each(xattrs, sizeof(xattrs), stop_at_second, &calls), 42);
	assert_int_equal(calls, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_wrong_lengths),
		cmocka_unit_test(test_inconsistent),
		cmocka_unit_test(test_duplicate_names),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_xattrs_set),
		cmocka_unit_test(test_xattrs_get),
		cmocka_unit_test(test_xattrs_limits),
		cmocka_unit_test(test_xattrs_each_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
