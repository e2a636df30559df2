/* When to look out for the next request, and when to keep processors awake for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/base/thread.h"
#include "fs/fuse/pace.h"
#include "fs/fuse/wakeful.h"

enum { SOON = PACE_NEAR_NS / 3, LATE = 3 * PACE_NEAR_NS };

static void note(struct pace *p, int64_t gap, int times)
{
	for (int i = 0; i < times; i++)
		pace_note(p, gap);
}

static void test_at_first_nothing_is_expected(void **state)
{
	struct pace p = {0};

	assert_false(pace_looks_out(&p));
	assert_false(pace_is_stream(&p));
}

static void test_one_after_the_other(void **state)
{
	struct pace p = {0};

	note(&p, SOON, 16);
	assert_true(pace_looks_out(&p));
	assert_false(pace_is_stream(&p));
	note(&p, SOON, 48);
	assert_true(pace_is_stream(&p));
}

static void test_a_pause_ends_it(void **state)
{
	struct pace p = {0};

	note(&p, SOON, 1000);
	note(&p, LATE, 3);
	assert_false(pace_looks_out(&p));
	assert_false(pace_is_stream(&p));
}

/* As when each eighth request waits for the disk: worth looking out for, not worth more. */
static void test_one_late_of_eight(void **state)
{
	struct pace p = {0};
	int looked = 0;

	for (int i = 0; i < 100; i++) {
		note(&p, SOON, 7);
		looked += pace_looks_out(&p);
		assert_false(pace_is_stream(&p));
		note(&p, LATE, 1);
	}
	assert_true(looked > 90);
}

/* The most time that can be spent in vain: one look for each four that came soon. */
static void test_lookouts_in_vain_are_few(void **state)
{
	for (int soon = 0; soon < 20; soon++) {
		struct pace p = {0};
		int in_vain = 0;

		for (int i = 0; i < 100; i++) {
			note(&p, SOON, soon);
			in_vain += pace_looks_out(&p);
			note(&p, LATE, 1);
		}
		assert_true(in_vain <= soon * 100 / 4);
	}
}

/* --- a folder that looks like /dev and /sys ------------------------------------------------------
 */

struct machine {
	char root[64], device[128];
};

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void machine_make(struct machine *m, const char *driver)
{
	const char *folders[] = {
		"devices", "devices/system", "devices/system/cpu", "devices/system/cpu/cpuidle"};
	char path[256];

	strcpy(m->root, "/tmp/kvfs-pace-XXXXXX");
	assert_non_null(mkdtemp(m->root));
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", m->root, folders[i]);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	snprintf(path, sizeof(path), "%s/devices/system/cpu/cpuidle/current_driver", m->root);
	put(path, driver);
	snprintf(m->device, sizeof(m->device), "%s/cpu_dma_latency", m->root);
	put(m->device, "");
}

static void machine_remove(const struct machine *m)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", m->root);
	assert_int_equal(system(command), 0);
}

/* What has been written to the device, in numbers. */
static size_t said(const struct machine *m, int32_t out[8])
{
	FILE *f = fopen(m->device, "r");

	assert_non_null(f);
	size_t n = fread(out, sizeof(*out), 8, f);
	fclose(f);
	return n;
}

static void test_hold_and_release(void **state)
{
	struct machine m;
	struct wakeful w;
	int32_t out[8];

	machine_make(&m, "haltpoll\n");
	wakeful_init(&w, m.root, m.root, 2);
	assert_false(wakeful_held(&w));
	wakeful_release(&w);
	assert_int_equal(said(&m, out), 0);
	wakeful_hold(&w);
	wakeful_hold(&w);
	assert_true(wakeful_held(&w));
	assert_int_equal(said(&m, out), 1);
	assert_int_equal(out[0], 0);
	wakeful_release(&w);
	wakeful_release(&w);
	assert_false(wakeful_held(&w));
	assert_int_equal(said(&m, out), 2);
	assert_int_equal(out[1], 2000000000);
	wakeful_destroy(&w);
	machine_remove(&m);
}

static void is_left_alone(const char *driver, long cpus, bool device)
{
	struct machine m;
	struct wakeful w;
	int32_t out[8];

	machine_make(&m, driver);
	if (!device)
		assert_int_equal(unlink(m.device), 0);
	wakeful_init(&w, m.root, m.root, cpus);
	wakeful_hold(&w);
	assert_false(wakeful_held(&w));
	if (device)
		assert_int_equal(said(&m, out), 0);
	else
		assert_int_not_equal(access(m.device, F_OK), 0);
	wakeful_destroy(&w);
	machine_remove(&m);
}

static void test_machines_that_are_left_alone(void **state)
{
	is_left_alone("haltpoll\n", WAKEFUL_CPUS_MAX + 1, true);
	is_left_alone("haltpoll\n", 1, true);
	is_left_alone("intel_idle\n", 2, true);
	is_left_alone("", 2, true);
	is_left_alone("haltpoll\n", 2, false);
}

static int waits;

static void count_wait(void)
{
	waits++;
}

static void test_word_of_those_that_wait(void **state)
{
	thread_waits();
	thread_on_wait(count_wait);
	thread_waits();
	thread_waits();
	thread_on_wait(NULL);
	thread_waits();
	assert_int_equal(waits, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_first_nothing_is_expected),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_a_pause_ends_it),
		cmocka_unit_test(test_one_late_of_eight),
		cmocka_unit_test(test_lookouts_in_vain_are_few),
		cmocka_unit_test(test_hold_and_release),
		cmocka_unit_test(test_machines_that_are_left_alone),
		cmocka_unit_test(test_word_of_those_that_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
