/*
 * kill.c - kills kvfs with SIGKILL at random moments of a random load, again and again on one
 * environment, and checks after each kill what is left: see history.h and layout.h for what must
 * hold. The environment is opened as it was left, without any repair.
 *
 *   crash_kill [--seed N] [--rounds N] [--seconds N] [--kvfs FILE]
 *
 * With --kvfs the load is on a mount of that program; without, on the core and the store in a child
 * process, which makes for many more kills. A round that fails is told with its seed, and its
 * environment is kept.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "tests/crash/corefs.h"
#include "tests/crash/history.h"
#include "tests/crash/layout.h"
#include "tests/crash/mounted.h"

enum { THREADS = 3, OPS_MAX = 400, STEP = 100, HUNG_SECONDS = 60 };

struct run {
	char top[40], dir[64], clock[64];
	struct history h;
	struct mounted m;
	struct corefs core;
	unsigned long rounds, operations;
	uint64_t random;
	history_run run;
	void *arg;
};

struct worker {
	struct run *run;
	unsigned thread;
};

static int run_core(void *arg, const struct op *op)
{
	return corefs_run(arg, op);
}

static void *worker_main(void *arg)
{
	const struct worker *w = arg;

	history_thread(&w->run->h, w->thread, HISTORY_OPS, w->run->run, w->run->arg);
	return NULL;
}

/* The child: works until it is killed. */
static void child_main(struct run *r)
{
	pthread_t threads[THREADS];
	struct worker w[THREADS];

	alarm(HUNG_SECONDS);
	if (corefs_open(&r->core, r->dir, true)) {
		fprintf(stderr, "    it cannot be opened: %s\n", r->core.why);
		_exit(1);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){r, i};
		if (pthread_create(&threads[i], NULL, worker_main, &w[i]))
			_exit(1);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (;;) /* all of its plan is done, or an operation failed */
		pause();
}

/* Waits for so many operations, and a little more. False: they do not come. */
static bool wait_for(struct run *r, size_t operations, useconds_t more)
{
	int64_t late = history_clock() + (int64_t)HUNG_SECONDS * 1000000000;

	while (history_done(&r->h) < operations && !atomic_load(&r->h.log->failed)) {
		if (history_clock() > late)
			return false;
		usleep(100);
	}
	usleep(more);
	return true;
}

static bool kill_child(struct run *r, size_t operations, useconds_t more)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		child_main(r);
	bool ok = wait_for(r, operations, more);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return ok && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool kill_mount(struct run *r, size_t operations, useconds_t more)
{
	pthread_t threads[THREADS];
	struct worker w[THREADS];
	char options[128];
	int rc;

	snprintf(options, sizeof(options), "commit_interval=%d,log=%s/log",
		plan_random(&r->random, 2) ? 2 : 50, r->top);
	rc = mounted_start(&r->m, r->dir, options);
	if (rc) {
		fprintf(stderr, "    mounting: %s\n", strerror(-rc));
		mounted_kill(&r->m);
		mounted_detach(&r->m);
		return false;
	}
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){r, i};
		if (pthread_create(&threads[i], NULL, worker_main, &w[i]))
			abort();
	}
	bool ok = wait_for(r, operations, more);
	atomic_store(&r->h.log->killed, true);
	mounted_kill(&r->m);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	mounted_detach(&r->m);
	return ok;
}

static bool look(struct run *r)
{
	struct model found[HISTORY_THREADS] = {0};
	bool ok;
	int rc = corefs_open(&r->core, r->dir, false);

	if (rc) {
		fprintf(stderr, "    it cannot be opened: %s: %s\n", strerror(-rc), r->core.why);
		return false;
	}
	for (unsigned t = 0; t < THREADS && !rc; t++)
		rc = corefs_observe(&r->core, history_top(t), &found[t]);
	if (rc)
		fprintf(stderr, "    looking: %s\n", strerror(-rc));
	ok = !rc && history_match(&r->h, found, INT64_MAX, false);
	rc = corefs_close(&r->core);
	if (rc)
		fprintf(stderr, "    closing: %s\n", strerror(-rc));
	for (unsigned t = 0; t < THREADS; t++)
		model_release(&found[t]);
	return ok && !rc;
}

static void set_time(struct run *r, int64_t now)
{
	char new[80];
	FILE *f;

	snprintf(new, sizeof(new), "%s.new", r->clock);
	f = fopen(new, "w");
	if (!f || fprintf(f, "%lld\n", (long long)now) < 0 || fclose(f) || rename(new, r->clock))
		abort();
}

static bool round_once(struct run *r)
{
	size_t operations = plan_random(&r->random, OPS_MAX);
	useconds_t more = (useconds_t)plan_random(&r->random, 3000);
	bool ok;

	set_time(r, r->h.now + STEP);
	r->h.large = plan_random(&r->random, 8) ? 100 << 10 : 6 << 20;
	history_begin(&r->h, r->h.now + STEP);
	ok = r->m.kvfs ? kill_mount(r, operations, more) : kill_child(r, operations, more);
	r->operations += history_done(&r->h);
	if (!ok)
		fprintf(stderr, "    it hung, or ended before it was killed\n");
	if (atomic_load(&r->h.log->failed)) {
		fprintf(stderr, "    an operation failed: %s\n", r->h.log->failed_text);
		ok = false;
	}
	return ok && layout_check(r->dir) == 0 && look(r);
}

static void setup(struct run *r, uint64_t seed, const char *kvfs)
{
	*r = (struct run){.top = "/dev/shm/kvfs-kill-XXXXXX", .random = seed * 7919 + 1};
	if (!mkdtemp(r->top) || history_init(&r->h, THREADS, seed * 1000000))
		abort();
	snprintf(r->dir, sizeof(r->dir), "%s/env", r->top);
	snprintf(r->clock, sizeof(r->clock), "%s/clock", r->top);
	r->h.now = 1800000000;
	set_time(r, r->h.now);
	setenv("KVFS_CLOCK", r->clock, 1);
	if (clock_init())
		abort();
	r->run = run_core;
	r->arg = &r->core;
	if (!kvfs)
		return;
	r->m.kvfs = kvfs;
	snprintf(r->m.root, sizeof(r->m.root), "%s/mnt", r->top);
	if (mkdir(r->m.root, 0700))
		abort();
	r->run = mounted_run;
	r->arg = &r->m;
}

static void teardown(struct run *r, bool ok)
{
	char command[128];

	history_release(&r->h);
	if (!ok) {
		fprintf(stderr, "    its files are kept in %s\n", r->top);
		return;
	}
	snprintf(command, sizeof(command), "rm -rf %s", r->top);
	if (system(command))
		fprintf(stderr, "    %s is left\n", r->top);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'}, {"seconds", required_argument, NULL, 't'},
		{"kvfs", required_argument, NULL, 'k'}, {0}};
	unsigned long seed = 1, rounds = 40, seconds = 0;
	const char *kvfs = NULL;
	struct run r;
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			seed = strtoul(optarg, NULL, 10);
			break;
		case 'r':
			rounds = strtoul(optarg, NULL, 10);
			break;
		case 't':
			seconds = strtoul(optarg, NULL, 10);
			break;
		case 'k':
			kvfs = optarg;
			break;
		default:
			return 2;
		}
	}
	umask(0);
	setup(&r, seed, kvfs);
	int64_t end = history_clock() + (int64_t)seconds * 1000000000;
	while (ok && (seconds ? history_clock() < end : r.rounds < rounds)) {
		ok = round_once(&r);
		if (ok)
			r.rounds++;
	}
	printf("seed %lu: %lu kills, %lu operations%s\n", seed, r.rounds + !ok, r.operations,
		ok ? "" : "; the last one went wrong");
	teardown(&r, ok);
	return ok ? 0 : 1;
}
