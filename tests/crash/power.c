/*
 * power.c - what a disk may hold after the power went away in the middle of a random load, opened
 * with kvfs and checked as after a kill (history.h, layout.h).
 *
 * The load runs once, on the core and the LMDB store in this process, while every write, change of
 * size and barrier of the data file is written down. Then moments are chosen, and for each the file
 * is built as a disk may have left it:
 *
 *   - all that was written before a barrier (fsync, fdatasync) began that had ended by then, and
 *     what was written through a descriptor with O_DSYNC when that write had ended;
 *   - of every later write that had begun: all, nothing, or a part of its sectors of 512 bytes, or
 *     of its pages of 4096, each by chance. Nothing else is assumed of their order;
 *   - the file is as long as some write in it, or as any that had begun (the rest is zeros).
 *
 * What is assumed of disk and filesystem: a sector is written as a whole or not at all, and a write
 * to one sector never harms another; a barrier that has ended keeps its word, the file's size
 * included; the folder's entry is durable (the store syncs the folder when it makes the file, which
 * is not looked at here). LMDB's lock file may be lost or hold anything.
 *
 *   crash_power [--seed N] [--moments N] [--seconds N]
 *
 * With --seconds it goes on with the next seed until they are over.
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
#include "tests/crash/journal.h"
#include "tests/crash/layout.h"

enum { THREADS = 3, OPS = 150, HUNG_SECONDS = 60, SECTOR = 512, PAGE = 4096 };

struct image {
	unsigned char *bytes;
	size_t size, cap;
};

struct run {
	char top[40], dir[64], data[80], making[96], lock[80], clock[64];
	struct history h;
	struct corefs core;
	uint64_t random;
	struct image base; /* what is durable: the events before `durable`, and WRITTEN ones */
	size_t durable;
	unsigned long moments;
};

static void image_reserve(struct image *i, size_t size)
{
	if (size > i->cap) {
		size_t cap = 2 * size;

		i->bytes = realloc(i->bytes, cap);
		if (!i->bytes)
			abort();
		memset(i->bytes + i->cap, 0, cap - i->cap);
		i->cap = cap;
	}
}

static void image_resize(struct image *i, size_t size)
{
	image_reserve(i, size);
	if (size < i->size)
		memset(i->bytes + size, 0, i->size - size);
	i->size = size;
}

static void image_write(struct image *i, uint64_t off, const void *bytes, size_t len)
{
	if (off + len > i->size)
		image_resize(i, off + len);
	memcpy(i->bytes + off, bytes, len);
}

static void image_apply(struct image *i, const struct journal_event *e)
{
	if (e->kind == JOURNAL_WRITE)
		image_write(i, e->off, e->bytes, e->len);
	else if (e->kind == JOURNAL_SIZE)
		image_resize(i, e->off);
}

/* Some of the units that a write covers. */
static void image_tear(
	struct image *i, const struct journal_event *e, size_t unit, uint64_t *random)
{
	size_t done = 0;

	while (done < e->len) {
		size_t len = unit - (e->off + done) % unit;

		if (len > e->len - done)
			len = e->len - done;
		if (plan_random(random, 2))
			image_write(i, e->off + done, e->bytes + done, len);
		done += len;
	}
}

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

	history_thread(&w->run->h, w->thread, OPS, run_core, &w->run->core);
	return NULL;
}

static bool load(struct run *r)
{
	pthread_t threads[THREADS];
	struct worker w[THREADS];

	journal_begin(r->data);
	if (corefs_open(&r->core, r->dir, true)) {
		fprintf(stderr, "    it cannot be opened: %s\n", r->core.why);
		return false;
	}
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){r, i};
		if (pthread_create(&threads[i], NULL, worker_main, &w[i]))
			abort();
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	int rc = corefs_close(&r->core);
	journal_begin(NULL);
	if (atomic_load(&r->h.log->failed))
		fprintf(stderr, "    an operation failed: %s\n", r->h.log->failed_text);
	return !rc && !atomic_load(&r->h.log->failed);
}

/* Makes durable what is so when the events before `moment` have happened. */
static void advance(struct run *r, const struct journal_event *events, size_t moment)
{
	size_t barrier = r->durable;

	for (size_t i = r->durable; i < moment; i++) {
		if (events[i].kind == JOURNAL_DURABLE && events[i].of > barrier)
			barrier = events[i].of;
	}
	for (; r->durable < barrier; r->durable++)
		image_apply(&r->base, &events[r->durable]);
}

/* Whether a write that is not behind a barrier has ended by `moment`, with O_DSYNC. */
static bool is_written(const struct journal_event *events, size_t at, size_t moment)
{
	for (size_t i = at + 1; i < moment; i++) {
		if (events[i].kind == JOURNAL_WRITTEN && events[i].of == at)
			return true;
	}
	return false;
}

/* What the disk may hold. */
static void build(
	struct run *r, const struct journal_event *events, size_t moment, struct image *out)
{
	uint64_t style = plan_random(&r->random, 4);
	size_t longest = 0;

	out->size = 0;
	image_resize(out, r->base.size);
	if (r->base.size)
		memcpy(out->bytes, r->base.bytes, r->base.size);
	if (out->cap)
		memset(out->bytes + out->size, 0, out->cap - out->size);
	for (size_t i = r->durable; i < moment; i++) {
		const struct journal_event *e = &events[i];
		uint64_t fate = plan_random(&r->random, 4);

		if (e->kind == JOURNAL_WRITE && e->off + e->len > longest)
			longest = e->off + e->len;
		if (style == 0) /* all or nothing of everything */
			fate = 0;
		else if (style == 1) /* all but a few */
			fate = plan_random(&r->random, 10) != 0;
		if (is_written(events, i, moment))
			fate = 1;
		if (fate == 1)
			image_apply(out, e);
		else if (fate > 1 && e->kind == JOURNAL_WRITE)
			image_tear(out, e, fate == 2 ? SECTOR : PAGE, &r->random);
	}
	if (longest > out->size && plan_random(&r->random, 2))
		image_resize(out, longest);
}

static void write_file(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	if (!f || (len && fwrite(bytes, len, 1, f) != 1) || fclose(f))
		abort();
}

static void lay_out(struct run *r, const struct image *image)
{
	struct content *garbage = content_new(r->random, 8192);

	unlink(r->lock);
	write_file(r->data, image->bytes, image->size);
	/* The mark of a file that is being made: there until the first barrier has ended, and perhaps
	 * after it. */
	if (!r->durable || plan_random(&r->random, 2))
		write_file(r->making, "", 0);
	else
		unlink(r->making);
	if (plan_random(&r->random, 2))
		write_file(r->lock, garbage->bytes, garbage->len);
	content_unref(garbage);
}

/* In a child, which a damaged file may end. */
static int look(struct run *r, int64_t cut)
{
	struct model found[HISTORY_THREADS] = {0};
	bool ok = false;
	int rc;

	alarm(HUNG_SECONDS);
	rc = corefs_open(&r->core, r->dir, false);
	if (rc) {
		fprintf(stderr, "    it cannot be opened: %s: %s\n", strerror(-rc), r->core.why);
		return 1;
	}
	for (unsigned t = 0; t < THREADS && !rc; t++)
		rc = corefs_observe(&r->core, history_top(t), &found[t]);
	if (!rc)
		ok = history_match(&r->h, found, cut, true);
	rc = corefs_close(&r->core);
	if (rc)
		fprintf(stderr, "    closing: %s\n", strerror(-rc));
	return !ok || rc || layout_check(r->dir);
}

static bool check(struct run *r, const struct journal_event *events, size_t n, size_t moment)
{
	struct image image = {0};
	int status;

	advance(r, events, moment);
	build(r, events, moment, &image);
	lay_out(r, &image);
	free(image.bytes);
	pid_t pid = fork();
	if (pid == 0)
		_exit(look(r, moment < n ? events[moment].when : INT64_MAX));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	fprintf(stderr, "    the power went away before event %zu of %zu (%s)\n", moment, n,
		WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "see above");
	return false;
}

static void setup(struct run *r, unsigned long seed)
{
	char text[32];

	*r = (struct run){.top = "/dev/shm/kvfs-power-XXXXXX", .random = seed * 7919 + 1};
	if (!mkdtemp(r->top) || history_init(&r->h, THREADS, seed * 1000000))
		abort();
	snprintf(r->dir, sizeof(r->dir), "%s/env", r->top);
	snprintf(r->data, sizeof(r->data), "%s/data.mdb", r->dir);
	snprintf(r->making, sizeof(r->making), "%s.making", r->data);
	snprintf(r->lock, sizeof(r->lock), "%s/lock.mdb", r->dir);
	snprintf(r->clock, sizeof(r->clock), "%s/clock", r->top);
	snprintf(text, sizeof(text), "1800000000\n");
	write_file(r->clock, text, strlen(text));
	/* The time stands still; later seeds go on with what the first one's file said. */
	if (!clock_is_set_by_test() && (setenv("KVFS_CLOCK", r->clock, 1) || clock_init()))
		abort();
	r->h.large = 2 << 20;
	history_begin(&r->h, 1800000000);
}

static void teardown(struct run *r, bool ok)
{
	char command[128];

	history_release(&r->h);
	free(r->base.bytes);
	snprintf(command, sizeof(command), "rm -rf %s", r->top);
	if (!ok)
		fprintf(stderr, "    its files are kept in %s\n", r->top);
	else if (system(command))
		fprintf(stderr, "    %s is left\n", r->top);
}

/* So many moments, spread over the whole load; the first ones, where the file is made, all. */
static bool run(struct run *r, unsigned long moments)
{
	enum { FIRST = 12 };
	const struct journal_event *events;
	size_t n, at = 0;
	bool ok = load(r);

	events = journal_events(&n);
	size_t step = 2 * n / moments + 1;
	while (ok && at <= n) {
		ok = check(r, events, n, at);
		r->moments++;
		at += at < FIRST ? 1 : 1 + plan_random(&r->random, step);
	}
	printf("%lu moments of %zu events%s\n", r->moments, n,
		ok ? "" : "; the last one went wrong");
	return ok;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'},
		{"moments", required_argument, NULL, 'm'},
		{"seconds", required_argument, NULL, 't'}, {0}};
	unsigned long seed = 1, moments = 200, seconds = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seed = strtoul(optarg, NULL, 10);
		else if (c == 'm')
			moments = strtoul(optarg, NULL, 10);
		else if (c == 't')
			seconds = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	umask(0);
	int64_t end = history_clock() + (int64_t)seconds * 1000000000;
	do {
		struct run r;

		setup(&r, seed);
		printf("seed %lu: ", seed++);
		fflush(stdout);
		bool ok = run(&r, moments);
		teardown(&r, ok);
		if (!ok)
			return 1;
	} while (history_clock() < end);
	return 0;
}
