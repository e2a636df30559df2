/*
 * fault.c - makes calls fail (inject.h) under operations on the core and the LMDB store, in this
 * process, one call in each operation, and checks what comes of it:
 *
 *   - an operation that says it failed has changed nothing, and one that says it went well has
 *     done all of it: what is seen is compared with the model after each;
 *   - its errno is that of the call that failed;
 *   - what was looked up before still is what its name leads to, by the inode number;
 *   - after the fault everything works: what was to be made durable is, and is there when the
 *     environment is opened anew, with nothing missing in its layout (layout.h);
 *   - nothing hangs (a watchdog shows all stacks, where gdb is at hand), nothing leaks (the leak
 *     sanitizer, at the end).
 *
 *   crash_fault [--seed N] [--rounds N] [--seconds N] [--kinds MASK]
 *
 * Opening comes first: every call of it fails once. A round is then some dozens of operations on a
 * new environment.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "tests/crash/corefs.h"
#include "tests/crash/history.h"
#include "tests/crash/inject.h"
#include "tests/crash/layout.h"

enum { OPS = 60, HELD_MAX = 256, LIMIT = 60, CALLS_MAX = 400, TRIES = 4 };

struct held {
	uint64_t ino;
	struct node *node;
};

struct run {
	char top[40], dir[64], clock[64];
	struct corefs core;
	struct model m;
	struct plan plan;
	struct held held[HELD_MAX];
	size_t held_n;
	unsigned kinds;
	unsigned long usual[OP_KINDS][INJECT_KINDS]; /* calls that it takes */
	unsigned long faults, refused, rounds;
	bool ok;
};

static void on_alarm(int number)
{
	char command[80];

	inject_quiet(true);
	snprintf(command, sizeof(command), "gdb -p %d -batch -ex 'thread apply all bt' >&2",
		getpid());
	fprintf(stderr, "    it hangs\n");
	inject_show();
	if (system(command))
		fprintf(stderr, "    (without gdb there are no stacks)\n");
	_exit(1);
}

__attribute__((format(printf, 3, 4))) static void wrong(
	struct run *r, const struct op *op, const char *format, ...)
{
	va_list args;

	r->ok = false;
	va_start(args, format);
	fprintf(stderr, "    %s: ", op ? op_text(op) : "opening");
	vfprintf(stderr, format, args);
	fputs("\n    the call that failed:\n", stderr);
	va_end(args);
	inject_show();
}

/* What a thing's name leads to now; it stays looked up. */
static void hold(struct run *r, const struct op *op, const char *path)
{
	struct fs_attr attr;
	struct node *n;
	int rc = corefs_lookup(&r->core, path, &n, &attr);

	if (rc) {
		wrong(r, op, "%s cannot be looked up afterwards: %s", path, strerror(-rc));
		return;
	}
	for (size_t i = 0; i < r->held_n; i++) {
		if (r->held[i].ino != attr.st.st_ino)
			continue;
		if (r->held[i].node != n)
			wrong(r, op, "%s is another node than before", path);
		corefs_forget(&r->core, n);
		return;
	}
	if (r->held_n == HELD_MAX)
		corefs_forget(&r->core, n);
	else
		r->held[r->held_n++] = (struct held){attr.st.st_ino, n};
}

static void drop_held(struct run *r)
{
	for (size_t i = 0; i < r->held_n; i++)
		corefs_forget(&r->core, r->held[i].node);
	r->held_n = 0;
}

static void compare(struct run *r, const struct op *op, const char *when)
{
	struct model found = {0};
	int rc = corefs_observe(&r->core, "", &found);

	if (rc) {
		wrong(r, op, "looking %s: %s", when, strerror(-rc));
	} else if (!digest_equal(model_digest(&found), model_digest(&r->m))) {
		wrong(r, op, "what is seen %s is not what it should be", when);
		model_compare(&r->m, &found);
	}
	model_release(&found);
	if (r->held_n > HELD_MAX / 2)
		drop_held(r);
	for (size_t i = 0; i < r->m.n && r->ok; i++)
		hold(r, op, r->m.things[i].path);
}

/* Everything becomes durable, is there in a new process' view, and nothing in the layout is amiss. */
static void reopen(struct run *r, const struct op *op)
{
	drop_held(r);
	int rc = corefs_close(&r->core);

	if (rc)
		wrong(r, op, "closing afterwards: %s", strerror(-rc));
	if (layout_check(r->dir))
		wrong(r, op, "the layout is damaged afterwards");
	rc = corefs_open(&r->core, r->dir, true);
	if (rc) {
		wrong(r, op, "opening afterwards: %s: %s", strerror(-rc), r->core.why);
		exit(1);
	}
	inject_store(r->core.st);
	compare(r, op, "after opening anew");
}

static bool errno_fits(int rc, int fired)
{
	/* A write that fails on a full medium may be told either way. */
	return rc == -fired || (fired == ENOSPC && rc == -EIO);
}

/* Whether an operation that may have been done although it failed has been: what was written until
 * then, or what fsync could not make durable. */
static bool is_done(struct run *r, const struct op *op)
{
	if (op->kind != OP_PUT && op->kind != OP_PUT_SYNC && op->kind != OP_PATCH)
		return false;
	struct model found = {0}, done = {0};

	model_copy(&r->m, &done);
	plan_apply(&done, op);
	bool is = corefs_observe(&r->core, "", &found) == 0 &&
		digest_equal(model_digest(&found), model_digest(&done));
	model_release(&found);
	model_release(&done);
	return is;
}

/* One operation with one call that fails. False: the operation was refused. */
static bool attempt(struct run *r, const struct op *op, enum inject_kind kind, bool sync)
{
	unsigned long usual = r->usual[op->kind][kind];
	unsigned long n = 1 + plan_random(&r->plan.random, usual ? usual + 1 : 4);
	bool sticky = plan_random(&r->plan.random, 4) == 0;
	int fired, synced = 0;

	alarm(LIMIT);
	inject_arm(1u << kind, n, sticky, n % 2 ? EIO : ENOSPC);
	int rc = corefs_run(&r->core, op);
	if (!rc && sync)
		synced = corefs_sync(&r->core);
	unsigned long calls = inject_disarm(&fired);
	if (!fired)
		r->usual[op->kind][kind] = calls < CALLS_MAX ? calls : CALLS_MAX;
	r->faults += fired != 0;
	r->refused += rc != 0;
	struct op done = *op;
	if (rc && corefs_written() != SIZE_MAX)
		done.len = corefs_written();
	if (!rc || (corefs_written() != SIZE_MAX && is_done(r, &done)))
		plan_apply(&r->m, &done);
	if ((rc && !fired) || (rc && !errno_fits(rc, fired)))
		wrong(r, op, "%s, when a call had failed with %s", strerror(-rc), strerror(fired));
	if (synced && !errno_fits(synced, fired))
		wrong(r, op, "fsync: %s, when a call had failed with %s", strerror(-synced),
			strerror(fired));
	if (!fired)
		return !rc;
	compare(r, op, rc ? "after it was refused" : "after it");
	synced = r->ok ? corefs_sync(&r->core) : 0;
	if (synced && errno_fits(synced, fired)) /* of an attempt that was under way still */
		synced = corefs_sync(&r->core);
	if (synced)
		wrong(r, op, "fsync afterwards: %s", strerror(-synced));
	return !rc;
}

static enum inject_kind pick_kind(struct run *r)
{
	enum inject_kind kind;

	do
		kind = (enum inject_kind)plan_random(&r->plan.random, INJECT_KINDS);
	while (!(r->kinds & 1u << kind));
	return kind;
}

static void one_op(struct run *r)
{
	struct op op;
	bool done = false;

	plan_next(&r->plan, &r->m, &op);
	for (int i = 0; i < TRIES && !done && r->ok; i++)
		done = attempt(r, &op, pick_kind(r), plan_random(&r->plan.random, 3) == 0);
	if (!done && r->ok) {
		int rc = corefs_run(&r->core, &op);

		if (rc)
			wrong(r, &op, "without a fault: %s", strerror(-rc));
		else
			plan_apply(&r->m, &op);
	}
	if (r->ok && plan_random(&r->plan.random, 20) == 0)
		reopen(r, &op);
}

static void remove_env(struct run *r)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	if (system(command))
		abort();
}

/* Opening, with each call of it failing in turn. */
static void open_with_faults(struct run *r)
{
	for (int kind = 0; kind < INJECT_KINDS && r->ok; kind++) {
		if (!(r->kinds & 1u << kind))
			continue;
		for (unsigned long n = 1;; n++) {
			int fired, rc;

			remove_env(r);
			alarm(LIMIT);
			inject_arm(1u << kind, n, false, EIO);
			rc = corefs_open(&r->core, r->dir, true);
			inject_disarm(&fired);
			r->faults += fired != 0;
			if (rc && !errno_fits(rc, fired))
				wrong(r, NULL, "%s, when a call had failed with %s: %s",
					strerror(-rc), strerror(fired), r->core.why);
			if (!rc && corefs_close(&r->core))
				wrong(r, NULL, "closing what was opened in spite of a fault");
			if (!fired || !r->ok)
				break;
			rc = corefs_open(&r->core, r->dir, true);
			if (rc)
				wrong(r, NULL, "again: %s: %s", strerror(-rc), r->core.why);
			else
				corefs_close(&r->core);
		}
	}
}

static void round_once(struct run *r, uint64_t seed)
{
	remove_env(r);
	r->plan = (struct plan){.random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1,
		.number = seed * OPS,
		.top = "t-",
		.now = 1800000000,
		.large = 3 << 20};
	if (corefs_open(&r->core, r->dir, true))
		abort();
	inject_store(r->core.st);
	for (int i = 0; i < OPS && r->ok; i++)
		one_op(r);
	if (r->ok)
		reopen(r, NULL);
	drop_held(r);
	corefs_close(&r->core);
	model_release(&r->m);
	alarm(0);
}

static void setup(struct run *r)
{
	FILE *f;

	*r = (struct run){.top = "/dev/shm/kvfs-fault-XXXXXX", .kinds = ~0u, .ok = true};
	if (!mkdtemp(r->top))
		abort();
	snprintf(r->dir, sizeof(r->dir), "%s/env", r->top);
	snprintf(r->clock, sizeof(r->clock), "%s/log", r->top);
	if (log_open(r->clock, false))
		abort();
	snprintf(r->clock, sizeof(r->clock), "%s/clock", r->top);
	f = fopen(r->clock, "w");
	if (!f || fputs("1800000000\n", f) < 0 || fclose(f))
		abort();
	setenv("KVFS_CLOCK", r->clock, 1);
	if (clock_init())
		abort();
	signal(SIGALRM, on_alarm);
}

static void teardown(struct run *r)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", r->top);
	if (!r->ok)
		fprintf(stderr, "    its files are kept in %s\n", r->top);
	else if (system(command))
		fprintf(stderr, "    %s is left\n", r->top);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'}, {"seconds", required_argument, NULL, 't'},
		{"kinds", required_argument, NULL, 'k'}, {0}};
	unsigned long seed = 1, rounds = 20, seconds = 0, kinds = ~0ul;
	static struct run r;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seed = strtoul(optarg, NULL, 10);
		else if (c == 'r')
			rounds = strtoul(optarg, NULL, 10);
		else if (c == 't')
			seconds = strtoul(optarg, NULL, 10);
		else if (c == 'k')
			kinds = strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	umask(0);
	setup(&r);
	r.kinds = (unsigned)kinds;
	open_with_faults(&r);
	int64_t end = history_clock() + (int64_t)seconds * 1000000000;
	while (r.ok && (seconds ? history_clock() < end : r.rounds < rounds))
		round_once(&r, seed * 100000 + r.rounds++);
	printf("seed %lu: %lu rounds, %lu faults in %zu places, %lu operations refused%s\n", seed,
		r.rounds, r.faults, inject_places(), r.refused,
		r.ok ? "" : "; the last one went wrong");
	teardown(&r);
	return r.ok ? 0 : 1;
}
