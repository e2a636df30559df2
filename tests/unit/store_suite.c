/*
 * store_suite.c - puts the parts of the suite together. Each test gets an empty store of its own.
 */
#include "tests/unit/store_suite.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

enum { TESTS_MAX = 128 };

static struct store_fixture *fixture; /* cmocka has no argument for setups */

static int test_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	if (!k)
		return -1;
	k->f = fixture;
	if (fixture->open(fixture, &k->st)) {
		free(k);
		return -1;
	}
	*state = k;
	return k->st->ops->ns_create(k->st, "main", 4, NULL, &k->ns);
}

static int test_teardown(void **state)
{
	struct kit *k = *state;
	/* A store with an open view cannot be closed; the test that left it has failed. */
	int rc = k->views ? -1 : k->f->close(k->f, k->st);

	free(k);
	return rc;
}

static bool is_skipped(const char *name)
{
	for (const char *const *s = fixture->skipped; s && *s; s++) {
		if (strcmp(*s, name) == 0)
			return true;
	}
	return false;
}

static size_t add_part(
	struct CMUnitTest *tests, size_t n, const struct CMUnitTest *part, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (is_skipped(part[i].name))
			continue;
		if (n == TESTS_MAX)
			abort();
		tests[n] = part[i];
		tests[n].setup_func = test_setup;
		tests[n].teardown_func = test_teardown;
		n++;
	}
	return n;
}

int store_suite_run(struct store_fixture *f)
{
	static struct CMUnitTest tests[TESTS_MAX];
	size_t n = 0;

	fixture = f;
	memset(tests, 0, sizeof(tests));
	n = add_part(tests, n, suite_entries, suite_entries_count);
	n = add_part(tests, n, suite_values, suite_values_count);
	n = add_part(tests, n, suite_expiry, suite_expiry_count);
	n = add_part(tests, n, suite_scans, suite_scans_count);
	n = add_part(tests, n, suite_namespaces, suite_namespaces_count);
	n = add_part(tests, n, suite_moves, suite_moves_count);
	n = add_part(tests, n, suite_random, suite_random_count);
	n = add_part(tests, n, suite_threads, suite_threads_count);
	return _cmocka_run_group_tests(f->name, tests, n, NULL, NULL);
}
