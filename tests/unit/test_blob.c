/*
 * test_blob.c - values in memory and in files, and the way between.
 */
#include "backends/blob.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { THRESHOLD = 1000, BUDGET = 4000 };

struct folder {
	char dir[64];
	struct blob_pool *pool;
};

static int setup(void **state)
{
	static struct folder f;

	strcpy(f.dir, "/tmp/kvfs-blob-XXXXXX");
	if (!mkdtemp(f.dir))
		return -1;
	f.pool = blob_pool_new(f.dir, THRESHOLD, BUDGET);
	*state = &f;
	return f.pool ? 0 : -1;
}

/* The folder can be removed only if nothing was left in it. */
static int teardown(void **state)
{
	struct folder *f = *state;

	blob_pool_free(f->pool);
	return rmdir(f->dir);
}

static struct blob *new_blob(struct folder *f)
{
	struct blob *b;

	assert_int_equal(blob_new(f->pool, &b), 0);
	return b;
}

static void fill(unsigned char *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (unsigned char)(seed + i * 31 + (i >> 8));
}

static void expect_bytes(const struct blob *b, const void *want, size_t len)
{
	unsigned char *got = malloc(len + 1);

	assert_non_null(got);
	assert_int_equal(blob_size(b), len);
	assert_int_equal(blob_read(b, 0, got, len + 1), len);
	if (len)
		assert_memory_equal(got, want, len);
	free(got);
}

static uint64_t allocated(const struct blob *b)
{
	struct stat st;

	assert_int_equal(fstat(blob_fd(b), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void test_empty(void **state)
{
	struct blob *b = new_blob(*state);
	char byte;

	assert_int_equal(blob_size(b), 0);
	assert_null(blob_data(b));
	assert_int_equal(blob_fd(b), -1);
	assert_int_equal(blob_read(b, 0, &byte, 1), 0);
	assert_int_equal(blob_write(b, 100, "x", 0), 0);
	assert_int_equal(blob_size(b), 0);
	blob_unref(b);
	blob_unref(NULL);
}

static void test_in_memory(void **state)
{
	struct blob *b = new_blob(*state);
	char got[8];

	assert_int_equal(blob_write(b, 0, "hello", 5), 0);
	assert_int_equal(blob_write(b, 3, "p me", 4), 0);
	expect_bytes(b, "help me", 7);
	assert_memory_equal(blob_data(b), "help me", 7);
	assert_int_equal(blob_read(b, 5, got, 8), 2);
	assert_memory_equal(got, "me", 2);
	assert_int_equal(blob_read(b, 7, got, 8), 0);
	assert_int_equal(blob_read(b, UINT64_MAX, got, 8), 0);
	assert_int_equal(blob_write(b, 9, "x", 1), 0);
	expect_bytes(b, "help me\0\0x", 10);
	/* What was cut off does not come back. */
	assert_int_equal(blob_resize(b, 2), 0);
	assert_int_equal(blob_resize(b, 5), 0);
	expect_bytes(b, "he\0\0\0", 5);
	blob_unref(b);
}

static void test_threshold(void **state)
{
	unsigned char bytes[THRESHOLD + 1], head[8];
	struct blob *b = new_blob(*state);

	fill(bytes, sizeof(bytes), 1);
	for (size_t i = 0; i < THRESHOLD; i += 100)
		assert_int_equal(blob_write(b, i, bytes + i, 100), 0);
	assert_non_null(blob_data(b));
	assert_int_equal(blob_write(b, THRESHOLD, bytes + THRESHOLD, 1), 0);
	assert_null(blob_data(b));
	assert_true(blob_fd(b) >= 0);
	expect_bytes(b, bytes, sizeof(bytes));
	assert_int_equal(pread(blob_fd(b), head, 8, BLOB_FILE_BASE), 8);
	assert_memory_equal(head, bytes, 8);
	blob_unref(b);
}

/* The file has no name, and nobody else may read it. */
static void test_file_is_hidden(void **state)
{
	struct folder *f = *state;
	struct blob *b = new_blob(f);
	struct stat st;
	DIR *dir;
	int n = 0;

	assert_int_equal(blob_resize(b, 2 * THRESHOLD), 0);
	assert_int_equal(fstat(blob_fd(b), &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	dir = opendir(f->dir);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	assert_int_equal(n, 2);
	blob_unref(b);
}

static void test_in_file(void **state)
{
	static unsigned char bytes[300000];
	struct blob *b = new_blob(*state);

	fill(bytes, sizeof(bytes), 2);
	assert_int_equal(blob_write(b, 0, bytes, sizeof(bytes)), 0);
	assert_int_equal(blob_write(b, 100, "changed", 7), 0);
	memcpy(bytes + 100, "changed", 7);
	expect_bytes(b, bytes, sizeof(bytes));
	assert_int_equal(blob_resize(b, 1000), 0);
	expect_bytes(b, bytes, 1000);
	assert_int_equal(blob_resize(b, 3000), 0);
	memset(bytes + 1000, 0, 2000);
	expect_bytes(b, bytes, 3000);
	assert_int_equal(blob_write(b, 4000, "end", 3), 0);
	memset(bytes + 3000, 0, 1000);
	memcpy(bytes + 4000, "end", 3);
	expect_bytes(b, bytes, 4003);
	/* Emptied it is as good as new. */
	assert_int_equal(blob_resize(b, 0), 0);
	assert_int_equal(blob_fd(b), -1);
	assert_int_equal(blob_write(b, 2, "x", 1), 0);
	expect_bytes(b, "\0\0x", 3);
	assert_non_null(blob_data(b));
	blob_unref(b);
}

static void test_sparse(void **state)
{
	static const uint64_t far = UINT64_C(3) << 30;
	struct blob *b = new_blob(*state), *copy;
	char got[16];

	assert_int_equal(blob_write(b, 0, "head", 4), 0);
	assert_int_equal(blob_write(b, far, "tail", 4), 0);
	assert_int_equal(blob_resize(b, far + 1000000), 0);
	assert_true(allocated(b) < 1 << 20);
	assert_int_equal(blob_clone(b, &copy), 0);
	blob_unref(b);
	assert_int_equal(blob_size(copy), far + 1000000);
	assert_true(allocated(copy) < 1 << 20);
	assert_int_equal(blob_read(copy, 0, got, 8), 8);
	assert_memory_equal(got, "head\0\0\0\0", 8);
	assert_int_equal(blob_read(copy, far - 2, got, 8), 8);
	assert_memory_equal(got, "\0\0tail\0\0", 8);
	assert_int_equal(blob_read(copy, far + 999999, got, 8), 1);
	blob_unref(copy);
}

/* The budget is for all blobs of a pool together, and comes back. */
static void test_budget(void **state)
{
	struct folder *f = *state;
	struct blob *blobs[BUDGET / THRESHOLD], *b;
	unsigned char bytes[THRESHOLD];

	fill(bytes, sizeof(bytes), 3);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < BUDGET / THRESHOLD; i++) {
			assert_int_equal(blob_new_copy(f->pool, bytes, THRESHOLD, &blobs[i]), 0);
			assert_int_equal(blob_fd(blobs[i]), -1);
		}
		assert_int_equal(blob_new_copy(f->pool, bytes, 10, &b), 0);
		assert_true(blob_fd(b) >= 0);
		expect_bytes(b, bytes, 10);
		blob_unref(b);
		assert_int_equal(blob_resize(blobs[0], 0), 0);
		assert_int_equal(blob_new_copy(f->pool, bytes, THRESHOLD, &b), 0);
		assert_int_equal(blob_fd(b), -1);
		/* One that has no room to grow where it is moves. */
		assert_int_equal(blob_write(blobs[0], 0, bytes, 500), 0);
		assert_true(blob_fd(blobs[0]) >= 0);
		expect_bytes(blobs[0], bytes, 500);
		blob_unref(b);
		for (int i = 0; i < BUDGET / THRESHOLD; i++)
			blob_unref(blobs[i]);
	}
}

static void test_references(void **state)
{
	struct blob *b = new_blob(*state);

	assert_true(blob_writable(b));
	assert_ptr_equal(blob_ref(b), b);
	assert_false(blob_writable(b));
	blob_unref(b);
	assert_true(blob_writable(b));
	blob_unref(b);
}

static void test_clone(void **state)
{
	static unsigned char bytes[3000000];
	static const size_t sizes[] = {0, 1, THRESHOLD, THRESHOLD + 1, 65536, sizeof(bytes)};
	struct folder *f = *state;

	fill(bytes, sizeof(bytes), 4);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct blob *b, *copy;

		assert_int_equal(blob_new_copy(f->pool, bytes, sizes[i], &b), 0);
		assert_int_equal(blob_clone(b, &copy), 0);
		assert_true(blob_writable(copy) && blob_writable(b));
		assert_int_equal(blob_write(copy, 0, "!", 1), 0);
		expect_bytes(b, bytes, sizes[i]);
		blob_unref(b);
		assert_int_equal(blob_size(copy), sizes[i] ? sizes[i] : 1);
		blob_unref(copy);
	}
}

static void test_too_large(void **state)
{
	struct blob *b = new_blob(*state);

	assert_int_equal(blob_write(b, 0, "abc", 3), 0);
	assert_int_equal(blob_write(b, INT64_MAX, "x", 1), -EFBIG);
	assert_int_equal(blob_write(b, UINT64_MAX, "xyz", 3), -EFBIG);
	assert_int_equal(blob_resize(b, UINT64_MAX), -EFBIG);
	expect_bytes(b, "abc", 3);
	blob_unref(b);
}

/* A write that fails half way leaves no trace past the end; RLIMIT_FSIZE is the full disk. */
static void test_failed_write(void **state)
{
	struct rlimit old, limit;
	struct blob *b = new_blob(*state);
	static unsigned char bytes[20000], want[30000];

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	fill(bytes, sizeof(bytes), 5);
	assert_int_equal(blob_write(b, 0, bytes, 2000), 0);
	assert_true(blob_fd(b) >= 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = (struct rlimit){.rlim_cur = 10000, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int failed_write = blob_write(b, 5000, bytes, sizeof(bytes));
	int failed_resize = blob_resize(b, 50000);
	struct blob *other = new_blob(*state);
	assert_int_equal(blob_write(other, 0, "abc", 3), 0);
	int failed_move = blob_write(other, 9990, bytes, 2000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(failed_write, -EFBIG);
	assert_int_equal(failed_resize, -EFBIG);
	assert_int_equal(failed_move, -EFBIG);
	expect_bytes(other, "abc", 3);
	blob_unref(other);
	expect_bytes(b, bytes, 2000);
	assert_int_equal(blob_resize(b, sizeof(want)), 0);
	memcpy(want, bytes, 2000);
	expect_bytes(b, want, sizeof(want));
	blob_unref(b);
}

static void test_no_folder(void **state)
{
	struct blob_pool *pool = blob_pool_new("/nonexistent", 10, 100);
	struct blob *b = NULL;

	assert_non_null(pool);
	assert_int_equal(blob_new_copy(pool, "more than ten bytes", 19, &b), -ENOENT);
	assert_null(b);
	assert_int_equal(blob_new_copy(pool, "ten bytes!", 10, &b), 0);
	assert_int_equal(blob_write(b, 10, "x", 1), -ENOENT);
	expect_bytes(b, "ten bytes!", 10);
	blob_unref(b);
	blob_pool_free(pool);
}

static void expect_value_of(struct folder *f, const unsigned char *bytes, size_t len)
{
	struct blob *b, *again;
	struct value v;
	char got[8];

	assert_int_equal(blob_new_copy(f->pool, bytes, len, &b), 0);
	value_from_blob(b, &v);
	blob_unref(b); /* the value has its own reference */
	assert_int_equal(v.len, len);
	assert_true(len == 0 || !v.data == !!v.blob);
	assert_int_equal(value_read(&v, len / 2, got, 8), len / 2 > 8 ? 8 : len - len / 2);
	assert_int_equal(value_read(&v, len, got, 8), 0);
	assert_int_equal(value_to_blob(&v, f->pool, &again), 0);
	value_release(&v);
	assert_null(v.blob);
	expect_bytes(again, bytes, len);
	blob_unref(again);
}

static void test_values(void **state)
{
	static unsigned char bytes[100000];

	fill(bytes, sizeof(bytes), 6);
	expect_value_of(*state, bytes, 0);
	expect_value_of(*state, bytes, 1);
	expect_value_of(*state, bytes, THRESHOLD);
	expect_value_of(*state, bytes, sizeof(bytes));
}

/* Random writes, cuts and extensions against a plain buffer. */
static void test_against_a_buffer(void **state)
{
	enum { MAX = 6000 };
	static unsigned char want[2 * MAX], bytes[MAX];
	struct blob *b = new_blob(*state);
	uint32_t seed = 1;
	size_t size = 0;

	fill(bytes, sizeof(bytes), 7);
	for (int i = 0; i < 3000; i++) {
		seed = seed * 1664525 + 1013904223;
		size_t off = (seed >> 8) % (i % 300 < 150 ? 900 : MAX), len = (seed >> 20) % 90;
		bool cut = (seed >> 29) == 0;
		size_t end = cut ? off : off + len;

		if (cut && i % 7 == 0)
			end = off = 0;
		if (cut) {
			assert_int_equal(blob_resize(b, end), 0);
		} else {
			assert_int_equal(blob_write(b, off, bytes + i, len), 0);
			end = len == 0 || end < size ? size : end;
		}
		if (end > size)
			memset(want + size, 0, end - size);
		if (!cut)
			memcpy(want + off, bytes + i, len);
		size = end;
		expect_bytes(b, want, size);
	}
	blob_unref(b);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_in_memory),
		TEST(test_threshold),
		TEST(test_file_is_hidden),
		TEST(test_in_file),
		TEST(test_sparse),
		TEST(test_budget),
		TEST(test_references),
		TEST(test_clone),
		TEST(test_too_large),
		TEST(test_failed_write),
		TEST(test_no_folder),
		TEST(test_values),
		TEST(test_against_a_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
