/* Which namespaces a project's configuration names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/cloudflare/wrangler.h"

static const char toml[] =
	"name = \"app\" # comment\n"
	"main = 'src/index.ts'\r\n"
	"account_id = \"acc\"\n"
	"compatibility_date = 2024-01-01\n"
	"when = 1979-05-27 07:32:00Z\n"
	"n = [1_000, 0xff, -1.5e3, +inf, nan, [true, [false]], {a.b = 1, c = \"}\"}, # ]\n ]\n"
	"text = \"\"\"\n[[kv_namespaces]]\nbinding = \\\"no\\\" \\\n   \"\"quoted\"\"\"\"\"\n"
	"raw = '''\n[env.x]\n\\ '' '''\n"
	"\n"
	"[vars]\n"
	"kv_namespaces = \"not these\"\n"
	"\"quoted . key\".'x' = {}\n"
	"\n"
	"[[kv_namespaces]]\n"
	"binding = \"SESSIONS\"\n"
	"id = \"0f\"\n"
	"preview_id = \"1f\"\n"
	"extra = {binding = \"no\"}\n"
	"[[ kv_namespaces ]]\n"
	"id = '2f'\n"
	"binding = 'FLAGS'\n"
	"[env.prod]\n"
	"account_id = \"other\"\n"
	"kv_namespaces = [\n"
	"  { binding = \"SESSIONS\", id = \"3f\" }, # comment\n"
	"  { binding = \"CACHE\", id = \"4f\", \"preview_id\" = \"5f\", },\n"
	"]\n"
	"[[env.\"st.aging\".kv_namespaces]]\n"
	"binding = \"\\u0053\\U00000045\"\n"
	"[[env.prod.routes]]\n"
	"id = \"no\"\n"
	"[other.kv_namespaces]\n"
	"id = \"no\"";

static const char json[] =
	"\xef\xbb\xbf// comment\n"
	"{ \"$schema\": \"x\", /* , */ \"account_id\": \"acc\",\n"
	"  \"kv_namespaces\": [\n"
	"    {\"binding\": \"SESSIONS\", \"id\": \"0f\", \"preview_id\": \"1f\", \"x\": [1,],},\n"
	"    {\"id\": \"2f\", \"binding\": \"FLAGS\"},\n"
	"  ],\n"
	"  \"vars\": {\"kv_namespaces\": 5, \"url\": \"http://x/*\"},\n"
	"  \"env\": {\"prod\": {\"account_id\": \"other\", \"kv_namespaces\": [\n"
	"      {\"binding\": \"SESSIONS\", \"id\": \"3f\"},\n"
	"      {\"binding\": \"CACHE\", \"id\": \"4f\", \"preview_id\": \"5f\"}]},\n"
	"    \"st.aging\": {\"kv_namespaces\": [{\"binding\": \"\\u0053E\"}]}},\n"
	"}\n";

static void expect_binding(const struct wrangler *w, size_t i, const char *env, const char *binding,
	const char *id, const char *preview_id)
{
	const struct wrangler_binding *b = w->bindings + i;

	assert_true(i < w->n);
	assert_string_equal(b->env ? b->env : "-", env);
	assert_string_equal(b->binding, binding);
	assert_string_equal(b->id ? b->id : "-", id);
	assert_string_equal(b->preview_id ? b->preview_id : "-", preview_id);
}

/* From memory of exactly its size. */
static int parse(const char *text, size_t len, enum wrangler_form form, struct wrangler *w,
	char error[WRANGLER_ERROR])
{
	char *copy = calloc(len ? len : 1, 1);

	memcpy(copy, text, len);
	int rc = wrangler_parse(copy, len, form, "file", w, error);
	free(copy);
	return rc;
}

static void expect_all(const char *text, size_t len, enum wrangler_form form)
{
	char error[WRANGLER_ERROR] = "";
	struct wrangler w;
	int rc = parse(text, len, form, &w, error);

	assert_string_equal(error, "");
	assert_int_equal(rc, 0);
	assert_int_equal(w.n, 5);
	expect_binding(&w, 0, "-", "SESSIONS", "0f", "1f");
	expect_binding(&w, 1, "-", "FLAGS", "2f", "-");
	expect_binding(&w, 2, "prod", "SESSIONS", "3f", "-");
	expect_binding(&w, 3, "prod", "CACHE", "4f", "5f");
	expect_binding(&w, 4, "st.aging", "SE", "-", "-");
	assert_string_equal(wrangler_account(&w, NULL), "acc");
	assert_string_equal(wrangler_account(&w, "prod"), "other");
	assert_string_equal(wrangler_account(&w, "st.aging"), "acc");
	wrangler_release(&w);
}

static void test_both_forms(void **state)
{
	expect_all(toml, sizeof(toml) - 1, WRANGLER_TOML);
	expect_all(json, sizeof(json) - 1, WRANGLER_JSON);
}

static void test_nothing(void **state)
{
	char error[WRANGLER_ERROR];
	struct wrangler w;

	assert_int_equal(parse("", 0, WRANGLER_TOML, &w, error), 0);
	assert_true(w.n == 0 && !wrangler_account(&w, NULL));
	wrangler_release(&w);
	assert_int_equal(parse("{\"kv_namespaces\": []}", 21, WRANGLER_JSON, &w, error), 0);
	assert_int_equal(w.n, 0);
	wrangler_release(&w);
}

static void expect_bad(const char *text, size_t len, enum wrangler_form form, int line)
{
	char error[WRANGLER_ERROR] = "", want[32];
	struct wrangler w;

	snprintf(want, sizeof(want), "file:%d: ", line);
	if (parse(text, len, form, &w, error) != -EINVAL)
		fail_msg("accepted: %s", text);
	if (strncmp(error, want, strlen(want)) != 0)
		fail_msg("not %s but %s", want, error);
}

static void test_what_toml_refuses(void **state)
{
	static const struct {
		const char *text;
		int line;
	} cases[] = {
		{"a", 1},
		{"a =", 1},
		{"a = \n", 1},
		{"= 1", 1},
		{"a = 1 2", 1},
		{"a = 1 b = 2", 1},
		{"\n\na = \"x\ny\"", 3},
		{"a = \"x", 1},
		{"a = 'x\n'", 1},
		{"a = \"\"\"x\n\"\"", 2},
		{"a = \"\\x\"", 1},
		{"a = \"\\ud800\"", 1},
		{"a = \"\\u12\"", 1},
		{"a = [1, 2", 1},
		{"a = [1 2]", 1},
		{"a = [,]", 1},
		{"a = {b = 1", 1},
		{"a = {b = 1 c = 2}", 1},
		{"a = yes", 1},
		{"a = True", 1},
		{"a = -", 1},
		{"[a", 1},
		{"[a]]", 1},
		{"[[a]", 1},
		{"[]", 1},
		{"[a.]", 1},
		{"[a] b", 1},
		{"a. = 1", 1},
		{"a = \"\\\n\"", 1},
		{"\"a\\u0000\" = 1", 1},
		{"# \x01", 1},
		{"a = '\x01'", 1},
		{"a\rb = 1", 1},
		{"x = \"\xff\"", 1},
		{"kv_namespaces = 5", 1},
		{"kv_namespaces = [5]", 1},
		{"[kv_namespaces]", 1},
		{"[[kv_namespaces]]\nid = 5", 2},
		{"[[kv_namespaces]]\nid = \"a\"\nid = \"b\"", 3},
		{"\n[[kv_namespaces]]\nid = \"a\"", 2},
		{"[[kv_namespaces]]\nbinding = \"\"", 2},
		{"[[kv_namespaces]]\nbinding = \"a\"\n[[kv_namespaces]]\nbinding = \"a\"", 3},
		{"kv_namespaces.binding = \"a\"", 1},
		{"account_id = 5", 1},
		{"account_id = \"a\"\naccount_id = \"b\"", 2},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		expect_bad(cases[i].text, strlen(cases[i].text), WRANGLER_TOML, cases[i].line);
	expect_bad("a = 1\n\0", 7, WRANGLER_TOML, 2);
}

static void test_what_json_refuses(void **state)
{
	static const struct {
		const char *text;
		int line;
	} cases[] = {
		{"", 1},
		{"[]", 1},
		{"{", 1},
		{"{}\n\n1", 3},
		{"{\"kv_namespaces\": 5}", 1},
		{"{\"kv_namespaces\": [\n5]}", 2},
		{"{\"kv_namespaces\": [{}]}", 1},
		{"{\"kv_namespaces\": [{\"binding\": 5}]}", 1},
		{"{\"kv_namespaces\": [{\"binding\": \"a\"},\n{\"binding\": \"a\"}]}", 2},
		{"{\"kv_namespaces\": [{\"binding\": \"a\",\n\"binding\": \"b\"}]}", 2},
		{"{\"kv_namespaces\": [{\"binding\": \"a\\u0000\"}]}", 1},
		{"{\"env\": []}", 1},
		{"{\"env\": {\"a\": 5}}", 1},
		{"{\"account_id\": 5}", 1},
		{"/*", 1},
		{"{\"a\": tru}", 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		expect_bad(cases[i].text, strlen(cases[i].text), WRANGLER_JSON, cases[i].line);
}

static void test_depth(void **state)
{
	char deep[2000];

	memset(deep, '[', sizeof(deep));
	memcpy(deep, "a = ", 4);
	expect_bad(deep, sizeof(deep), WRANGLER_TOML, 1);
	memset(deep, 'a', sizeof(deep));
	for (size_t i = 1; i < sizeof(deep); i += 2)
		deep[i] = '.';
	expect_bad(deep, sizeof(deep), WRANGLER_TOML, 1);
}

/* Time in proportion to the size, whatever it is full of. */
static void test_large(void **state)
{
	char *text = malloc(WRANGLER_SIZE_MAX), error[WRANGLER_ERROR];
	struct wrangler w;
	size_t n = 0;

	assert_non_null(text);
	while (n < WRANGLER_SIZE_MAX - 8)
		n += (size_t)sprintf(text + n, "a = 1\n");
	assert_int_equal(wrangler_parse(text, n, WRANGLER_TOML, "file", &w, error), 0);
	wrangler_release(&w);
	for (n = 0; n < WRANGLER_SIZE_MAX - 64;)
		n += (size_t)sprintf(text + n, "[[kv_namespaces]]\nbinding='%zx'\n", n);
	assert_int_equal(wrangler_parse(text, n, WRANGLER_TOML, "file", &w, error), -EINVAL);
	assert_string_equal(error, "file:2001: there are too many namespaces");
	for (n = 0; n < WRANGLER_SIZE_MAX - 64;)
		n += (size_t)sprintf(text + n, "[env.x%zx]\n", n);
	assert_int_equal(wrangler_parse(text, n, WRANGLER_TOML, "file", &w, error), -EINVAL);
	assert_string_equal(error, "file:1000: there are too many environments");
	free(text);
}

static void test_files(void **state)
{
	char folder[] = "/tmp/test-wrangler-XXXXXX", path[64], error[WRANGLER_ERROR];
	struct wrangler w;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/wrangler.jsonc", folder);
	assert_int_equal(wrangler_read(path, &w, error), -ENOENT);
	assert_non_null(strstr(error, path));
	FILE *f = fopen(path, "w");
	assert_true(f && fwrite(json, 1, sizeof(json) - 1, f) == sizeof(json) - 1);
	fclose(f);
	assert_int_equal(wrangler_read(path, &w, error), 0);
	assert_int_equal(w.n, 5);
	wrangler_release(&w);
	assert_int_equal(truncate(path, WRANGLER_SIZE_MAX + 1), 0);
	assert_int_equal(wrangler_read(path, &w, error), -EFBIG);
	unlink(path);
	rmdir(folder);
	assert_int_equal(wrangler_read("/x/wrangler.yaml", &w, error), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_forms),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_what_toml_refuses),
		cmocka_unit_test(test_what_json_refuses),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
