/* What answers say, and which are not believed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/cloudflare/head.h"
#include "backends/cloudflare/response.h"

#define OK(result) "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":" result "}"
#define PAGE(keys, info)                                                                           \
	"{\"result\":" keys                                                                        \
	",\"success\":true,\"errors\":[],\"messages\":[],\"result_info\":" info "}"

/* A text in memory of exactly its size, so that a reader that goes too far is found out. */
static char *exact(const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	return copy;
}

static void test_strings(void **state)
{
	static const struct {
		const char *json, *want;
		size_t len;
		bool replaced, broken;
	} cases[] = {
		{"\"\"", "", 0, false, false},
		{"\"a\\u0000b\"", "a\0b", 3, false, false},
		{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, false, false},
		{"\"\\u00e4\\u20AC\\ud834\\udd1e\"", "\xc3\xa4\xe2\x82\xac\xf0\x9d\x84\x9e", 9,
			false, false},
		{"\"\\ufffd\"", "\xef\xbf\xbd", 3, true, false},
		{"\"x\xef\xbf\xbd\"", "x\xef\xbf\xbd", 4, true, false},
		{"\"\\ud834x\"", "\xef\xbf\xbdx", 4, true, true},
		{"\"\\udd1e\"", "\xef\xbf\xbd", 3, true, true},
		{"\"\\ud834\\ud834\"", "\xef\xbf\xbd\xef\xbf\xbd", 6, true, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *text = exact(cases[i].json, strlen(cases[i].json));
		struct jread_text got;
		struct jread j;

		jread_init(&j, text, strlen(cases[i].json), false);
		assert_true(jread_string(&j, &got) && jread_end(&j));
		assert_int_equal(got.len, cases[i].len);
		assert_memory_equal(got.p, cases[i].want, got.len);
		assert_true(got.replaced == cases[i].replaced && got.broken == cases[i].broken);
		free(text);
	}
}

static bool reads(const char *json, size_t len, bool relaxed)
{
	char *text = exact(json, len);
	struct jread j;

	jread_init(&j, text, len, relaxed);
	bool good = jread_skip(&j, NULL) && jread_end(&j);
	assert_true(good == !j.error);
	free(text);
	return good;
}

static void test_grammar(void **state)
{
	static const char *const good[] = {"0", "-0", "1.5e-7", "1e400", "[]", "{}", " [ 1 , 2 ] ",
		"{\"a\":{\"b\":[null,true,false]}}", "\"\\ud800\"", "12345678901234567890123"};
	static const char *const bad[] = {"", " ", "01", "1.", ".5", "+1", "-", "1e", "[1,]",
		"{\"a\":1,}", "[,1]", "{a:1}", "{\"a\" 1}", "[1 2]", "nul", "truex", "\"\n\"", "\"",
		"\"\\x\"", "\"\\u12g4\"", "\"\\", "[", "{\"a\"", "{\"a\":", "1 1", "/**/1", "'a'",
		"\xff", "\"\xed\xa0\x80\"", "\xef\xbb\xbf{}", "]", "{\"a\":1]", "[1}"};
	static const char *const relaxed[] = {"// a\n1", "[1,/* b */]", "{\"a\":1,}//", "/**/ {} "};
	static const char *const never[] = {"/* 1", "[,]", "/ 1", "{,}", "[1,,]"};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(reads(good[i], strlen(good[i]), false));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(reads(bad[i], strlen(bad[i]), false));
	for (size_t i = 0; i < sizeof(relaxed) / sizeof(*relaxed); i++) {
		assert_true(reads(relaxed[i], strlen(relaxed[i]), true));
		assert_false(reads(relaxed[i], strlen(relaxed[i]), false));
	}
	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
		assert_false(reads(never[i], strlen(never[i]), true));
	assert_false(reads("1\0", 2, false));
	assert_false(reads("\"\\\0\"", 4, false));
}

static void test_depth(void **state)
{
	static char deep[2 * JREAD_DEPTH_MAX + 2];

	memset(deep, '[', JREAD_DEPTH_MAX);
	memset(deep + JREAD_DEPTH_MAX, ']', JREAD_DEPTH_MAX);
	assert_true(reads(deep, 2 * JREAD_DEPTH_MAX, false));
	memset(deep, '[', JREAD_DEPTH_MAX + 1);
	memset(deep + JREAD_DEPTH_MAX + 1, ']', JREAD_DEPTH_MAX + 1);
	assert_false(reads(deep, sizeof(deep), false));
}

/* One page, its memory, and what became of it. */
struct page {
	struct response r;
	char *body;
	struct client_key *keys;
	size_t n;
	char *cursor;
	int rc;
};

static struct page read_page(const char *json, struct client_query query)
{
	struct page p = {.body = exact(json, strlen(json)), .n = 77};

	p.rc = response_keys(&p.r, p.body, strlen(json), &query, &p.keys, &p.n, &p.cursor);
	if (p.rc)
		assert_true(p.n == 77 && !p.keys && !p.cursor);
	return p;
}

static void release(struct page *p)
{
	free(p->body);
	free(p->keys);
	free(p->cursor);
}

static void test_page(void **state)
{
	struct client_query query = {.prefix = "a", .prefix_len = 1};
	struct page p =
		read_page(PAGE("[{\"name\":\"a\",\"metadata\": { \"x y\" : 1.10 } },"
			       "{\"expiration\":1999999999,\"name\":\"a\\u0000\",\"new\":[{}]},"
			       "{\"name\":\"a\xc3\xa4\",\"metadata\":null}]",
				  "{\"count\":3,\"cursor\":\"+/=\"}"),
			query);

	assert_int_equal(p.rc, 0);
	assert_int_equal(p.n, 3);
	assert_string_equal(p.cursor, "+/=");
	assert_int_equal(p.keys[0].metadata_len, 12);
	assert_memory_equal(p.keys[0].metadata, "{\"x y\":1.10}", 12);
	assert_int_equal(p.keys[1].len, 2);
	assert_memory_equal(p.keys[1].key, "a", 2);
	assert_int_equal(p.keys[1].expiration, 1999999999);
	assert_null(p.keys[2].metadata);
	release(&p);
}

static void expect_end(const char *info)
{
	char json[256];

	snprintf(json, sizeof(json), PAGE("[]", "%s"), info);
	struct page p = read_page(json, (struct client_query){0});
	assert_int_equal(p.rc, 0);
	assert_true(p.n == 0 && !p.keys && !p.cursor);
	release(&p);
}

static void test_ends(void **state)
{
	expect_end("{}");
	expect_end("{\"cursor\":\"\"}");
	expect_end("{\"cursor\":null}");
	expect_end("null");
	struct page p = read_page(OK("[]"), (struct client_query){0});
	assert_int_equal(p.rc, 0);
	release(&p);
	p = read_page(PAGE("[]", "{\"cursor\":\"next\"}"), (struct client_query){.cursor = "this"});
	assert_string_equal(p.cursor, "next");
	release(&p);
}

static void expect_bad_page(const char *json)
{
	struct client_query query = {.prefix = "a",
		.prefix_len = 1,
		.cursor = "c",
		.after = "ab",
		.after_len = 2,
		.limit = 10};
	struct page p = read_page(json, query);

	assert_int_equal(p.rc, -EBADMSG);
	assert_non_null(p.r.why);
	release(&p);
}

static void test_bad_pages(void **state)
{
	static const char *const pages[] = {
		"",
		"[]",
		"null",
		"{}",
		"{\"result\":[]}",
		"{\"success\":1,\"result\":[]}",
		"{\"success\":true}",
		OK("null"),
		OK("{}"),
		OK("[1]"),
		OK("[{}]"),
		OK("[{\"name\":1}]"),
		OK("[{\"name\":\"\"}]"),
		OK("[{\"name\":\"a\\ud800\"}]"),
		OK("[{\"name\":\"ac\",\"name\":\"ac\"}]"),
		OK("[{\"name\":\"ac\"}]") " 1",
		OK("[{\"name\":\"ac\",\"expiration\":\"1\"}]"),
		OK("[{\"name\":\"ac\",\"expiration\":-1}]"),
		OK("[{\"name\":\"ac\",\"expiration\":1.5}]"),
		OK("[{\"name\":\"ac\",\"expiration\":99999999999999999999}]"),
		OK("[{\"name\":\"b\"}]"), /* not the prefix */
		OK("[{\"name\":\"aa\"}]"),
		OK("[{\"name\":\"ab\"}]"), /* not after the last page */
		OK("[{\"name\":\"ad\"},{\"name\":\"ac\"}]"),
		OK("[{\"name\":\"ac\"},{\"name\":\"ac\"}]"),
		PAGE("[]", "{\"cursor\":\"c\"}"), /* no progress */
		PAGE("[]", "{\"cursor\":7}"),
		PAGE("[]", "{\"cursor\":\"a\\u0000\"}"),
		PAGE("[]", "[]"),
		PAGE("[]", "{\"cursor\":\"d\",\"cursor\":\"e\"}"),
		"{\"success\":true,\"success\":true,\"result\":[]}",
		"{\"success\":true,\"result\":[],\"result\":[]}",
		OK("[{\"name\":\"ac\xff\"}]"),
	};
	char many[1024] = "[";

	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		expect_bad_page(pages[i]);
	for (int i = 0; i < 11; i++)
		sprintf(many + strlen(many), "%s{\"name\":\"ac%02d\"}", i ? "," : "", i);
	char json[2048];
	snprintf(json, sizeof(json), OK("%s]"), many);
	expect_bad_page(json);
	memset(many, 'x', sizeof(many) - 1);
	snprintf(json, sizeof(json), OK("[{\"name\":\"ac%.511s\"}]"), many);
	expect_bad_page(json);
}

static int bulk_get(const char *json, struct response_value values[2])
{
	static const struct client_name keys[] = {{"k", 1}, {"a\0b", 3}};
	static char *body;
	struct response r;

	free(body);
	body = exact(json, strlen(json));
	values[0].expiration = 77;
	int rc = response_bulk_get(&r, body, strlen(json), keys, 2, values);
	if (rc) {
		assert_int_equal(values[0].expiration, 77);
		free(body);
		body = NULL;
	}
	return rc;
}

static void test_bulk_get(void **state)
{
	struct response_value v[2];

	assert_int_equal(bulk_get(OK("{\"values\":{\"a\\u0000b\":null,\"k\":{\"metadata\":[1, 2],"
				     "\"value\":\"x\\u0000\",\"expiration\":5}}}"),
				 v),
		0);
	assert_true(v[0].state == RESPONSE_EXACT && v[0].value.len == 2 && v[0].detailed);
	assert_true(v[0].expiration == 5 && v[0].metadata.len == 5);
	assert_true(v[1].state == RESPONSE_ABSENT);
	assert_int_equal(bulk_get(OK("{\"values\":{\"k\":\"x\xef\xbf\xbd\"}}"), v), 0);
	assert_true(v[0].state == RESPONSE_INEXACT && !v[0].detailed);
	assert_true(v[1].state == RESPONSE_MISSING);
	assert_int_equal(
		bulk_get(OK("{\"values\":{\"k\":{\"value\":null,\"metadata\":null}}}"), v), 0);
	assert_true(v[0].state == RESPONSE_ABSENT);
	bulk_get("", v);
}

static void test_bad_bulk_gets(void **state)
{
	static const char *const bad[] = {OK("null"), OK("{}"), OK("[]"), OK("{\"values\":[]}"),
		OK("{\"values\":{\"other\":null}}"), OK("{\"values\":{\"k\":1}}"),
		OK("{\"values\":{\"k\":[]}}"), OK("{\"values\":{\"k\":null,\"k\":null}}"),
		OK("{\"values\":{\"k\":{}}}"), OK("{\"values\":{\"k\":{\"value\":{}}}}"),
		OK("{\"values\":{\"k\":{\"value\":\"\",\"value\":\"\"}}}"),
		OK("{\"values\":{},\"values\":{}}"),
		OK("{\"values\":{\"k\":{\"value\":\"\",\"expiration\":\"soon\"}}}")};
	struct response_value v[2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(bulk_get(bad[i], v), -EBADMSG);
}

static int bulk(const char *json, bool all_counted, size_t *n)
{
	struct jread_text failed[3];
	struct response r;
	char *body = exact(json, strlen(json));
	int rc = response_bulk(&r, body, strlen(json), 3, all_counted, failed, n);

	free(body);
	return rc;
}

static void test_bulk(void **state)
{
	size_t n = 77;

	assert_int_equal(
		bulk(OK("{\"successful_key_count\":2,\"unsuccessful_keys\":[\"a\"]}"), true, &n),
		0);
	assert_int_equal(n, 1);
	assert_int_equal(bulk(OK("null"), true, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(
		bulk(OK("{\"successful_key_count\":2,\"unsuccessful_keys\":[]}"), false, &n), 0);
	n = 77;
	assert_int_equal(
		bulk(OK("{\"successful_key_count\":2,\"unsuccessful_keys\":[]}"), true, &n),
		-EBADMSG);
	assert_int_equal(bulk(OK("{\"successful_key_count\":4}"), false, &n), -EBADMSG);
	assert_int_equal(
		bulk(OK("{\"unsuccessful_keys\":[\"\",\"\",\"\",\"\"]}"), false, &n), -EBADMSG);
	assert_int_equal(bulk(OK("{\"unsuccessful_keys\":[1]}"), false, &n), -EBADMSG);
	assert_int_equal(bulk(OK("7"), false, &n), -EBADMSG);
	assert_int_equal(bulk("{\"success\":false,\"errors\":[]}", false, &n), -EREMOTEIO);
	assert_int_equal(n, 77);
}

static void test_namespaces(void **state)
{
	static const char json[] =
		"{\"success\":true,\"result\":[{\"id\":\"0f\",\"title\":\"\xc3\xa4\"},"
		"{\"title\":\"b\",\"id\":\"1f\",\"x\":{}}],\"result_info\":{\"total_count\":2}}";
	static const char *const bad[] = {OK("[{\"id\":\"\",\"title\":\"a\"}]"),
		OK("[{\"id\":\"a\"}]"), OK("[{\"id\":\"a b\",\"title\":\"a\"}]"),
		OK("[{\"id\":\"a\",\"title\":\"\"}]"), OK("[{\"id\":7,\"title\":\"a\"}]"),
		OK("[{\"id\":\"a\",\"title\":\"a\"},{\"id\":\"b\",\"title\":\"b\"},{\"id\":\"c\","
		   "\"title\":\"c\"}]")};
	struct response_ns list[2];
	struct response r;
	size_t n = 77;
	int64_t total;
	char *body = exact(json, sizeof(json) - 1);

	assert_int_equal(response_ns_list(&r, body, sizeof(json) - 1, list, 2, &n, &total), 0);
	assert_true(n == 2 && total == 2 && jread_is(&list[0].title, "\xc3\xa4") &&
		jread_is(&list[1].id, "1f"));
	free(body);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		body = exact(bad[i], strlen(bad[i]));
		assert_int_equal(
			response_ns_list(&r, body, strlen(bad[i]), list, 2, &n, &total), -EBADMSG);
		free(body);
	}
}

static int error_of(enum client_call call, long status, const char *json)
{
	struct response r;
	char *body = exact(json, strlen(json));

	response_refusal(&r, body, strlen(json));
	free(body);
	return response_errno(call, status, &r);
}

#define REFUSED(code)                                                                              \
	"{\"success\":false,\"result\":null,\"errors\":[{\"code\":" #code ",\"message\":\"m\"}]}"

static void test_errors(void **state)
{
	assert_int_equal(error_of(CLIENT_GET, 403, ""), -EACCES);
	assert_int_equal(error_of(CLIENT_GET, 400, REFUSED(6003)), -EACCES);
	assert_int_equal(error_of(CLIENT_GET, 404, REFUSED(10009)), -ENOENT);
	assert_int_equal(error_of(CLIENT_GET, 404, REFUSED(10013)), -ENODEV);
	assert_int_equal(error_of(CLIENT_GET, 404, REFUSED(7003)), -ENODEV);
	assert_int_equal(error_of(CLIENT_GET, 400, REFUSED(10011)), -ENODEV);
	assert_int_equal(error_of(CLIENT_NS_CREATE, 400, REFUSED(10014)), -EEXIST);
	assert_int_equal(error_of(CLIENT_GET, 404, "<html>not found</html>"), -EIO);
	assert_int_equal(error_of(CLIENT_PUT, 404, REFUSED(10009)), -EIO);
	assert_int_equal(error_of(CLIENT_PUT, 400, REFUSED(10033)), -EINVAL);
	assert_int_equal(error_of(CLIENT_PUT, 413, ""), -EFBIG);
	assert_int_equal(error_of(CLIENT_PUT, 429, REFUSED(10048)), -EDQUOT);
	assert_int_equal(error_of(CLIENT_PUT, 429, REFUSED(971)), -ETIMEDOUT);
	assert_int_equal(error_of(CLIENT_PUT, 500, ""), -ETIMEDOUT);
	assert_int_equal(error_of(CLIENT_PUT, 302, ""), -EIO);
	assert_int_equal(error_of(CLIENT_PUT, 405, ""), -EOPNOTSUPP);
}

static struct head head_of(const char *text)
{
	struct head h;

	head_init(&h);
	for (const char *end; *text; text = end + 1) {
		end = strchr(text, '\n');
		head_line(&h, text, (size_t)(end - text));
	}
	return h;
}

static void test_headers(void **state)
{
	struct head h =
		head_of("HTTP/1.1 103 Early\r\nexpiration: 1\r\nHTTP/1.1 200 OK\r\n"
			"RATELIMIT: \"default\";r=50;t=30, \"other\"; r=7; t=9\r\n"
			"Ratelimit-Policy: \"default\";q=1200;w=300\r\nExpiration: 1999999999\r\n");

	assert_true(h.remaining == 7 && h.reset == 9 && h.quota == 1200 && h.window == 300);
	assert_true(h.expiration == 1999999999 && !h.bad && head_retry_after(&h, 0) == -1);
	h = head_of("Ratelimit: r=-1;t=x\nRatelimit-Policy: ;;q\nRetry-After: 2\nretry-after-ms: "
		    "1500.5\n");
	assert_true(h.remaining == -1 && h.quota == -1);
	assert_true(head_retry_after(&h, 0) == INT64_C(1500000000));
	h = head_of("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	assert_true(h.retry_date == 784111777);
	assert_true(head_retry_after(&h, 784111770) == INT64_C(7000000000));
	assert_true(head_retry_after(&h, 784111800) == 0);
	h = head_of("Retry-After: 99999999999\n");
	assert_true(head_retry_after(&h, 0) == INT64_C(86400000000000));
	for (const char *const *bad =
			(const char *const[]){"-1", "0", "1.5", "soon", "", "1 2", NULL};
		*bad; bad++) {
		char line[64];

		snprintf(line, sizeof(line), "expiration: %s\n", *bad);
		h = head_of(line);
		assert_true(h.bad);
	}
	h = head_of("expiration: 5\nexpiration: 6\n");
	assert_true(h.bad);
	assert_true(head_date("Sun, 06 Nov 1994 08:49:37 UTC", 29) == -1);
	assert_true(head_date("Sun, 06 Foo 1994 08:49:37 GMT", 29) == -1);
	assert_true(head_date("", 0) == -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_bulk_get),
		cmocka_unit_test(test_bad_bulk_gets),
		cmocka_unit_test(test_bulk),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
