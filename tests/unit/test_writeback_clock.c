/*
 * test_writeback_clock.c - the system's clock is set while changes wait to be uploaded. The clock is
 * this program's own clock_gettime(), since the real one is not a test's to set.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

static _Atomic int64_t set_by; /* seconds */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_REALTIME)
		ts->tv_sec += atomic_load(&set_by);
	return rc;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static bool is_uploaded(struct wbk *k, const char *key)
{
	return strcmp(wbk_state(k, key), "synced") == 0;
}

/* Within ten seconds. */
static void wait_for_upload(struct wbk *k, const char *key)
{
	for (int i = 0; i < 1000 && !is_uploaded(k, key); i++)
		pause_ms(10);
	assert_true(is_uploaded(k, key));
}

static int setup_clock(void **state)
{
	atomic_store(&set_by, 0);
	return wbk_setup(state);
}

/* An hour forwards: what has just been changed still waits for its delay. */
static void test_forwards(void **state)
{
	struct wbk *k = *state;

	k->opt.upload_delay = 5LL * CLOCK_SECOND;
	wbk_reopen(k);
	wbk_watch(k);
	wbk_put(k, "a", "1");
	atomic_store(&set_by, 3600);
	wbk_put(k, "b", "1"); /* wakes the uploader */
	wb_upload_expect(k->wb, 0);
	pause_ms(1000);
	assert_false(is_uploaded(k, "a") || is_uploaded(k, "b"));
	wait_for_upload(k, "a");
}

/* An hour back: nobody waits for it to pass again. */
static void test_back(void **state)
{
	struct wbk *k = *state;

	atomic_store(&set_by, 3600);
	wbk_watch(k);
	wbk_put(k, "a", "1");
	pause_ms(300); /* the uploader waits for its delay */
	atomic_store(&set_by, 0);
	wait_for_upload(k, "a");
	wbk_put(k, "b", "1");
	wait_for_upload(k, "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_forwards, setup_clock, wbk_teardown),
		cmocka_unit_test_setup_teardown(test_back, setup_clock, wbk_teardown),
	};

	return cmocka_run_group_tests_name("write-back clock", tests, NULL, NULL);
}
