/* What is JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backends/base/json.h"

static void test_values(void **state)
{
	static const char *const good[] = {"0", " {} ", "\"a\\u0000\"", "12345678901234567890123"};
	static const char *const bad[] = {"", "{", "{} {}", "nul", "01", "\"\xff\""};

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_a_nul_is_no_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
