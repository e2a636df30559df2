/*
 * test_lock.c - the checker of the order of locks: what it ends the process for, and what it lets pass.
 * Each violation is made in a child, of which the signal and the message are looked at.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/base/lock.h"
#include "backends/lmdb/gate.h"

#ifdef KVFS_CHECK_LOCKS

static struct lock outer, inner, leaf, other_leaf;
static struct gate gate;

static int setup(void **state)
{
	lock_init(&outer, LOCK_CHANGE);
	lock_init(&inner, LOCK_NODES);
	lock_init(&leaf, LOCK_SWEEP);
	lock_init(&other_leaf, LOCK_SPACE);
	gate_init(&gate, LOCK_CHANGES);
	return 0;
}

static int teardown(void **state)
{
	gate_destroy(&gate);
	lock_destroy(&other_leaf);
	lock_destroy(&leaf);
	lock_destroy(&inner);
	lock_destroy(&outer);
	return 0;
}

/* Calls `wrong` in a process of its own, which it is to end with this message. */
static void assert_violation(void (*wrong)(void), const char *message)
{
	char said[4096];
	size_t n = 0;
	ssize_t got;
	int ends[2], status;

	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		wrong();
		_exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	if (!strstr(said, message))
		fail_msg("\"%s\" is not in:\n%s", message, said);
}

static void out_of_order(void)
{
	lock_take(&inner);
	lock_take(&outer);
}

static void two_leaves(void)
{
	lock_take(&leaf);
	lock_take(&other_leaf);
}

static void twice(void)
{
	lock_take(&inner);
	lock_take(&inner);
}

static void not_held(void)
{
	lock_drop(&inner);
}

static void tried_and_taken(void)
{
	if (lock_try(&inner))
		lock_take(&outer);
}

static void waits_with_another(void)
{
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

	lock_take(&outer);
	lock_take(&inner);
	lock_wait(&inner, &cond);
}

static void held_where_none_may_be(void)
{
	lock_take(&outer);
	lock_none_held("the answer of a server");
}

static void shared_twice(void)
{
	gate_enter(&gate, false);
	gate_enter(&gate, false);
}

static void taken_under_a_gate(void)
{
	gate_enter(&gate, false);
	lock_take(&outer);
}

static void closed_out_of_order(void)
{
	lock_take(&inner);
	gate_close(&gate);
}

static void test_violations(void **state)
{
	assert_violation(out_of_order, "fs.change is taken by who holds nodes.lock");
	assert_violation(two_leaves, "space.lock is taken by who holds sweep.lock");
	assert_violation(twice, "nodes.lock is taken by who holds it");
	assert_violation(not_held, "nodes.lock is left by who does not hold it");
	assert_violation(tried_and_taken, "fs.change is taken by who holds nodes.lock");
	assert_violation(waits_with_another,
		"a condition of nodes.lock is waited for by who holds fs.change");
	assert_violation(held_where_none_may_be,
		"the answer of a server is waited for by who holds fs.change");
	assert_violation(shared_twice, "store.changes is taken by who holds it");
	assert_violation(taken_under_a_gate, "fs.change is taken by who holds store.changes");
	assert_violation(closed_out_of_order, "store.changes is taken by who holds nodes.lock");
}

static void test_what_is_in_order(void **state)
{
	struct timespec past = {0};
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

	lock_take(&outer);
	gate_enter(&gate, false);
	gate_enter(&gate, true);
	lock_take(&inner);
	lock_take(&leaf);
	lock_drop(&inner); /* in any order */
	lock_drop(&leaf);
	gate_leave(&gate);
	gate_leave(&gate);
	lock_drop(&outer);
	gate_enter(&gate, false);
	gate_hand_over(&gate);
	lock_none_held("nothing");
	lock_take(&outer); /* who handed it over does not hold it */
	lock_drop(&outer);
	gate_leave_handed(&gate);
	lock_take(&leaf);
	assert_int_equal(lock_wait_until(&leaf, &cond, &past), ETIMEDOUT);
	lock_drop(&leaf);
}

#endif

int main(void)
{
#ifdef KVFS_CHECK_LOCKS
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_violations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_in_order, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
#else
	puts("locks are not checked in this build");
	return 77;
#endif
}
