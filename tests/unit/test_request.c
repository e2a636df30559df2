/* What each call sends, to the byte. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/cloudflare/request.h"
#include "backends/cloudflare/secret.h"

#define NS "0f2ac74b498b48028cb68387c421e279"
#define BASE "https://api.cloudflare.com/client/v4/accounts/acc/storage/kv/namespaces"

static struct endpoint ep;
static struct blob_pool *pool;

static int set_up(void **state)
{
	const char *why;

	pool = blob_pool_new("/tmp", 1 << 20, 64 << 20);
	return endpoint_init(&ep, NULL, "acc", &why);
}

static int tear_down(void **state)
{
	endpoint_release(&ep);
	blob_pool_free(pool);
	return 0;
}

static struct blob *blob_of(const void *bytes, size_t len)
{
	struct blob *b;

	assert_int_equal(blob_new_copy(pool, bytes, len, &b), 0);
	return b;
}

/* The whole body, read in pieces of `step`; twice, for it can be rewound. */
static char *body_of(struct request *r, size_t step, size_t *len)
{
	char *out = malloc(r->body.size + 1 + step);

	for (int round = 0; round < 2; round++) {
		int64_t n;

		body_rewind(&r->body);
		for (*len = 0; (n = body_read(&r->body, out + *len, step)) > 0; *len += (size_t)n)
			assert_true(*len <= r->body.size);
		assert_int_equal(n, 0);
		assert_int_equal(*len, r->body.size);
	}
	out[*len] = '\0';
	return out;
}

/* Checks and releases. */
static void expect(struct request *r, const char *method, const char *url, const char *body)
{
	assert_string_equal(r->method, method);
	assert_memory_equal(r->url.p, BASE, sizeof(BASE) - 1);
	assert_string_equal(r->url.p + sizeof(BASE) - 1, url);
	assert_true((body != NULL) == (r->type != NULL));
	for (size_t step = 1; body && step < 100; step += 49) {
		size_t len;
		char *got = body_of(r, step, &len);

		assert_string_equal(got, body);
		free(got);
	}
	request_release(r);
}

static void test_namespaces(void **state)
{
	struct request r;

	assert_int_equal(request_ns_list(&r, &ep, 3), 0);
	expect(&r, "GET", "?page=3&per_page=100", NULL);
	assert_int_equal(request_ns_create(&r, &ep, "a\"\xc3\xa4\n", 5), 0);
	expect(&r, "POST", "", "{\"title\":\"a\\\"\xc3\xa4\\n\"}");
	assert_int_equal(request_ns_rename(&r, &ep, "x/y", "b", 1), 0);
	expect(&r, "PUT", "/x%2Fy", "{\"title\":\"b\"}");
	assert_int_equal(request_ns_delete(&r, &ep, NS), 0);
	expect(&r, "DELETE", "/" NS, NULL);
	assert_int_equal(request_ns_create(&r, &ep, "\xff", 1), -EILSEQ);
	assert_int_equal(request_ns_create(&r, &ep, "", 0), -EINVAL);
}

static void test_keys(void **state)
{
	struct client_query query = {
		.prefix = "a/\0&", .prefix_len = 4, .cursor = "+/=", .limit = 10};
	struct request r;

	assert_int_equal(request_keys(&r, &ep, NS, &query), 0);
	expect(&r, "GET", "/" NS "/keys?limit=10&prefix=a%2F%00%26&cursor=%2B%2F%3D", NULL);
	query = (struct client_query){0};
	assert_int_equal(request_keys(&r, &ep, NS, &query), 0);
	expect(&r, "GET", "/" NS "/keys?limit=1000", NULL);
	query = (struct client_query){.prefix = "\xc3", .prefix_len = 1};
	assert_int_equal(request_keys(&r, &ep, NS, &query), -EILSEQ);
}

static void expect_key(const char *key, size_t len, const char *url)
{
	char whole[2048];
	struct request r;

	snprintf(whole, sizeof(whole), "/" NS "/values/%s", url);
	assert_int_equal(request_get(&r, &ep, NS, key, len), 0);
	expect(&r, "GET", whole, NULL);
	assert_int_equal(request_delete(&r, &ep, NS, key, len), 0);
	expect(&r, "DELETE", whole, NULL);
}

static void test_a_key_is_one_segment(void **state)
{
	char longest[CLIENT_KEY_MAX + 1];
	struct request r;

	expect_key("a/b:c", 5, "a%2Fb%3Ac");
	expect_key("100%25", 6, "100%2525");
	expect_key("a/../b", 6, "a%2F..%2Fb");
	expect_key("...", 3, "%2E%2E%2E");
	expect_key(".a", 2, ".a");
	expect_key("a\0?#+ ~", 7, "a%00%3F%23%2B%20~");
	expect_key("\xc3\xa4", 2, "%C3%A4");
	memset(longest, 'x', sizeof(longest));
	assert_int_equal(request_get(&r, &ep, NS, longest, CLIENT_KEY_MAX), 0);
	request_release(&r);
	assert_int_equal(request_get(&r, &ep, NS, longest, CLIENT_KEY_MAX + 1), -EINVAL);
	assert_int_equal(request_get(&r, &ep, NS, "", 0), -EINVAL);
	assert_int_equal(request_get(&r, &ep, NS, ".", 1), -EINVAL);
	assert_int_equal(request_get(&r, &ep, NS, "..", 2), -EINVAL);
	assert_int_equal(request_get(&r, &ep, NS, "\xff", 1), -EILSEQ);
}

static void test_put(void **state)
{
	static const unsigned char random[16] = {0xab};
	struct client_item item = {.key = "k", .key_len = 1, .value = blob_of("v\r\n", 3)};
	struct request r;

	assert_int_equal(request_put(&r, &ep, NS, &item, random), 0);
	assert_string_equal(r.type, "application/octet-stream");
	expect(&r, "PUT", "/" NS "/values/k", "v\r\n");
	item.expiration = 1999999999;
	item.metadata = "{\"a\":1}";
	item.metadata_len = 7;
	assert_int_equal(request_put(&r, &ep, NS, &item, random), 0);
	assert_string_equal(
		r.type, "multipart/form-data; boundary=kvfs----ab000000000000000000000000000000");
	expect(&r, "PUT", "/" NS "/values/k?expiration=1999999999",
		"--kvfs----ab000000000000000000000000000000\r\n"
		"Content-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"a\":1}\r\n"
		"--kvfs----ab000000000000000000000000000000\r\n"
		"Content-Disposition: form-data; name=\"value\"; filename=\"blob\"\r\n"
		"Content-Type: application/octet-stream\r\n\r\nv\r\n\r\n"
		"--kvfs----ab000000000000000000000000000000--\r\n");
	item.metadata = "{]";
	item.metadata_len = 2;
	assert_int_equal(request_put(&r, &ep, NS, &item, random), -EINVAL);
	item.metadata_len = CLIENT_METADATA_MAX + 1;
	assert_int_equal(request_put(&r, &ep, NS, &item, random), -ERANGE);
	blob_unref(item.value);
}

static void test_bulk_put(void **state)
{
	struct client_item items[] = {
		{.key = "a\0", .key_len = 2, .value = blob_of("\"\\\n\x01\xc3\xa4", 6)},
		{.key = "b",
			.key_len = 1,
			.value = blob_of("\xff\xfe\xfd\xfc", 4),
			.expiration = 1999999999,
			.metadata = "[1.10]",
			.metadata_len = 6},
		{.key = "c", .key_len = 1, .value = blob_of("", 0)},
	};
	struct body_plan plans[3];
	struct request r;

	for (int i = 0; i < 3; i++)
		assert_int_equal(body_measure(items + i, plans + i), 0);
	assert_int_equal(request_bulk_put(&r, &ep, NS, items, plans, 3), 0);
	expect(&r, "PUT", "/" NS "/bulk",
		"[{\"key\":\"a\\u0000\",\"value\":\"\\\"\\\\\\n\\u0001\xc3\xa4\"},"
		"{\"key\":\"b\",\"value\":\"//79/A==\",\"base64\":true,\"expiration\":1999999999,"
		"\"metadata\":[1.10]},{\"key\":\"c\",\"value\":\"\"}]");
	for (int i = 0; i < 3; i++)
		blob_unref(items[i].value);
}

/* Longer than a chunk, with a character across the border between two. */
static void test_long_values(void **state)
{
	enum { SIZE = 200 * 1024 + 1 };
	char *bytes = malloc(SIZE);
	struct client_item item = {.key = "k", .key_len = 1};
	struct body_plan plan;
	struct request r;
	size_t len;

	memset(bytes, 'x', SIZE);
	memcpy(bytes + 48 * 1024 - 1, "\xe2\x82\xac", 3);
	item.value = blob_of(bytes, SIZE);
	assert_int_equal(body_measure(&item, &plan), 0);
	assert_true(plan.coding == BODY_ESCAPED);
	assert_int_equal(request_bulk_put(&r, &ep, NS, &item, &plan, 1), 0);
	char *body = body_of(&r, 10007, &len);
	assert_int_equal(len, SIZE + strlen("[{\"key\":\"k\",\"value\":\"\"}]"));
	assert_memory_equal(body + strlen("[{\"key\":\"k\",\"value\":\""), bytes, SIZE);
	free(body);
	request_release(&r);
	blob_unref(item.value);

	bytes[SIZE - 1] = '\xff';
	item.value = blob_of(bytes, SIZE);
	assert_int_equal(body_measure(&item, &plan), 0);
	assert_true(plan.coding == BODY_BASE64);
	assert_int_equal(request_bulk_put(&r, &ep, NS, &item, &plan, 1), 0);
	free(body_of(&r, 10007, &len));
	request_release(&r);
	blob_unref(item.value);

	/* Control characters would be six times as long. */
	memset(bytes, 1, SIZE);
	item.value = blob_of(bytes, SIZE);
	assert_int_equal(body_measure(&item, &plan), 0);
	assert_true(plan.coding == BODY_BASE64);
	blob_unref(item.value);
	free(bytes);
}

static void test_names(void **state)
{
	static const struct client_name names[] = {{"a\0", 2}, {"\xc3\xa4\"", 3}};
	struct request r;

	assert_int_equal(request_bulk_get(&r, &ep, NS, names, 2), 0);
	expect(&r, "POST", "/" NS "/bulk/get",
		"{\"keys\":[\"a\\u0000\",\"\xc3\xa4\\\"\"],\"type\":\"text\",\"withMetadata\":"
		"true}");
	assert_int_equal(request_bulk_delete(&r, &ep, NS, names, 2), 0);
	expect(&r, "POST", "/" NS "/bulk/delete", "[\"a\\u0000\",\"\xc3\xa4\\\"\"]");
	assert_int_equal(request_bulk_get(&r, &ep, NS, names, 101), -EINVAL);
}

static void expect_endpoint(
	const char *url, const char *account, const char *base, bool development)
{
	struct endpoint got;
	const char *why;
	int rc = endpoint_init(&got, url, account, &why);

	if (!base) {
		assert_int_equal(rc, -EINVAL);
		assert_non_null(why);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(got.base, base);
	assert_true(got.development == development);
	endpoint_release(&got);
}

static void test_endpoints(void **state)
{
#define KV "/storage/kv/namespaces"
	expect_endpoint(
		"https://x.example/v4/", "a-1", "https://x.example/v4/accounts/a-1" KV, false);
	expect_endpoint("http://127.0.0.1:8787/x" KV "/", NULL, "http://127.0.0.1:8787/x" KV, true);
	expect_endpoint("http://[::1]:1/api", NULL, "http://[::1]:1/api" KV, true);
	expect_endpoint("http://localhost", "a", "http://localhost/accounts/a" KV, false);
	expect_endpoint("http://[::1]:1/cdn-cgi/local/explorer/api/", "a-1",
		"http://[::1]:1/cdn-cgi/local/explorer/api" KV, true);
	static const char *const bad[] = {"", "http://example.com", "http://127.0.0.1.example.com",
		"http://localhost.example.com", "https://", "https:///x", "https://u:p@localhost",
		"https://x:99999999", "https://x:1y", "https://x/?q", "https://x/#f",
		"https://x/ y", "ftp://localhost", "http://[::2]", "http://[::1",
		"http://128.0.0.1", "https://x/a\r\nb"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		expect_endpoint(bad[i], NULL, NULL, false);
	expect_endpoint(NULL, "../x", NULL, false);
	expect_endpoint(NULL, "", NULL, false);
}

static void test_secret(void **state)
{
	char text[] = "a token-of-mine, b token-of-x token-o token-of-mine";
	struct secret *s;

	assert_int_equal(secret_new("with space", &s), -EINVAL);
	assert_int_equal(secret_new("", &s), -EINVAL);
	assert_int_equal(secret_new("line\nbreak", &s), -EINVAL);
	assert_int_equal(secret_new("token-of-mine", &s), 0);
	assert_string_equal(secret_header(s), "Authorization: Bearer token-of-mine");
	secret_mask(s, text);
	assert_string_equal(text, "a *************, b *********x token-o *************");
	secret_free(s);
}

/* What the kernel says of the memory that holds `at`. */
static bool has_flag(const void *at, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false, found = false;
	unsigned long from, to;
	char line[512];

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (uintptr_t)at >= from && (uintptr_t)at < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(f);
	return found;
}

static void test_no_secret_in_core_dumps(void **state)
{
	char filter[32] = "";
	struct secret *s;

	assert_int_equal(secret_new("token-of-mine", &s), 0);
	assert_true(has_flag(secret_header(s), " dd"));
	assert_false(has_flag(&s, " dd"));
	secret_free(s);
	assert_int_equal(secret_shield_process(), 0);
	FILE *f = fopen("/proc/self/coredump_filter", "r");
	assert_true(f && fgets(filter, sizeof(filter), f));
	fclose(f);
	assert_int_equal(strtoul(filter, NULL, 16) & 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_a_key_is_one_segment),
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_bulk_put),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_secret),
		cmocka_unit_test(test_no_secret_in_core_dumps),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
