/* What is JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/base/json.h"

static void test_values(void **state)
{
	static const char *const good[] = {"0", " {} ", "\"a\\u0000\"", "12345678901234567890123",
		"-0", "-0.0e-0", "1E+400", "1e999999", "[ ]", "[[],{},[0]]", "\t\n\r true\t",
		"\"\x7f\"", "{\"\":{\"a\":[null , false]},\"a\":1,\"a\":2}",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\uD800\"",
		("\"\xc2\x80 \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 "
		 "\xf4\x8f\xbf\xbf\"")};
	static const char *const bad[] = {"", " ", "{", "{} {}", "nul", "nulll", "True", "01", "-",
		"+1", ".5", "1.", "1.e1", "1e", "1e+", "0x1", "--1", "NaN", "\"", "\"\\\"",
		"\"\\x\"", "\"\\u12g4\"", "\"\\u123\"", "\"\n\"", "'a'", "[1,]", "[,1]", "[1 2]",
		"[}", "{]", "[1}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}", "{\"a\" 1}",
		"{\"a\":1 \"b\":2}", "]", "}", ",", ":", "//\n1",
		"\xef\xbb\xbf"
		"1",
		"\xc2\xa0"
		"1",
		"\"\xff\"", "\"\x80\"", "\"\xc1\xbf\"", "\"\xc2\"", "\"\xe0\x9f\xbf\"",
		"\"\xed\xa0\x80\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
		"\"\xf5\x80\x80\x80\""};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(json_is_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(json_is_valid(bad[i], strlen(bad[i])));
}

static void test_a_nul_is_no_end(void **state)
{
	assert_false(json_is_valid("5\0", 2));
	assert_false(json_is_valid("{}\0{}", 5));
	assert_false(json_is_valid("\0", 1));
}

/* `n` arrays and objects in one another, each with a neighbour before it; every container must be
 * closed as what it was opened. */
static bool nested(size_t n, size_t mistaken)
{
	size_t cap = 16 * n + 16, len = 0;
	char *text = malloc(cap);

	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		len += (size_t)sprintf(text + len, "%s", i * i % 3 ? "[0," : "{\"a\":");
	text[len++] = '1';
	for (size_t i = n; i-- > 0;)
		text[len++] = (i * i % 3 != 0) != (i == mistaken) ? ']' : '}';
	bool valid = json_is_valid(text, len);
	assert_false(json_is_valid(text, len - 1));
	free(text);
	return valid;
}

static void test_depth(void **state)
{
	assert_true(nested(100, SIZE_MAX));
	for (size_t i = 0; i < 100; i++)
		assert_false(nested(100, i));
	assert_true(nested(JSON_DEPTH_MAX, SIZE_MAX));
	assert_false(nested(JSON_DEPTH_MAX + 1, SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_a_nul_is_no_end),
		cmocka_unit_test(test_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
