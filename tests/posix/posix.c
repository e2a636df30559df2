/*
 * posix.c - runs cases of system calls in a folder and prints what each step did.
 *
 *	posix FOLDER FILE.cases...
 *
 * It knows no right and wrong: run in a folder of the machine's own filesystem and in a mount, it
 * gives two transcripts, and whoever runs it compares them (tests/mount/test_posix.py). Each case
 * runs in a folder and a process of its own. Exit status 0 when every case ran to its end.
 *
 *	case NAME
 *	> STEP
 *	  = RESULT            a number, or the error's name, after what was read
 *	  ~ PATH CHANGE...    and + and - for what came and went, ! for what must not be (tree.h)
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/posix/script.h"
#include "tests/posix/step.h"
#include "tests/posix/tree.h"

enum { CASE_SECONDS = 20 };

struct running {
	const char *folder;
	bool coarse; /* two changes in a row may get the same time */
	int failed;
};

static int64_t clock_read(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until a change that is made now has another time than all before. */
static void next_tick(void)
{
	int64_t began = clock_read(CLOCK_REALTIME_COARSE);
	const struct timespec pause = {.tv_nsec = 200 * 1000};

	for (int i = 0; i < 1000 && clock_read(CLOCK_REALTIME_COARSE) == began; i++)
		nanosleep(&pause, NULL);
}

/* Whether the filesystem stamps by the tick of the kernel's clock. */
static bool stamps_coarsely(const char *folder)
{
	char path[4096];
	struct stat a, b;
	bool coarse = false;

	snprintf(path, sizeof(path), "%s/stamps", folder);
	if (mkdir(path, 0755))
		err(2, "%s", path);
	for (int i = 0; i < 50 && !coarse; i++) {
		if (stat(path, &a) || chmod(path, 0755) || stat(path, &b))
			err(2, "%s", path);
		coarse = a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
			a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
	}
	if (rmdir(path))
		err(2, "%s", path);
	return coarse;
}

/* --- a case --------------------------------------------------------------------------------- */

/* Looks at the case's folder, wherever the case has gone. */
static void look(
	struct tree *t, const struct tree *before, bool list, const struct run *run, int home)
{
	int here = open(".", O_PATH | O_CLOEXEC);

	if (here < 0 || fchdir(home))
		err(2, "the case's folder");
	tree_look(t, before, list, run->fds);
	if (fchdir(here))
		err(2, "back from the case's folder");
	close(here);
}

static void run_step(
	struct run *run, int home, const char *step, bool last, bool coarse, struct tree **before)
{
	static struct tree trees[2];
	struct tree *after = *before == &trees[0] ? &trees[1] : &trees[0];
	char *words[SCRIPT_WORDS];
	size_t n = script_words(step, words);

	/* Kernels stamp accesses by the tick, however they stamp changes. */
	if (coarse || strstr(step, "utimens"))
		next_tick();
	int64_t since = clock_read(CLOCK_REALTIME);
	printf("> %s\n", step);
	bool list = step_run(run, words, n) || last;
	look(after, *before, list, run, home);
	tree_print_changes(*before, after, since);
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	*before = after;
}

static void run_steps(const struct script_case *c, bool coarse)
{
	struct run run;
	static struct tree first;
	struct tree *before = &first;
	int home = open(".", O_PATH | O_CLOEXEC);

	for (int i = 0; i < TREE_FDS; i++)
		run.fds[i] = -1;
	look(&first, NULL, true, &run, home);
	for (size_t i = 0; i < c->n; i++)
		run_step(&run, home, c->steps[i], i + 1 == c->n, coarse, &before);
	fflush(stdout);
}

static bool needs_root(const struct script_case *c)
{
	size_t i = 0;

	while (i < c->n && !step_needs_root(c->steps[i]))
		i++;
	return i < c->n;
}

static void run_case(void *arg, const struct script_case *c)
{
	struct running *r = arg;
	char folder[4096];
	int status;

	snprintf(folder, sizeof(folder), "%s/c", r->folder);
	if (geteuid() != 0 && needs_root(c))
		return;
	printf("case %s\n", c->name);
	fflush(stdout);
	umask(022);
	if (mkdir(folder, 0755) || chdir(folder))
		err(2, "%s", folder);
	pid_t pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		alarm(CASE_SECONDS);
		run_steps(c, r->coarse);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status) {
		printf("failed: status %d\n", status);
		r->failed++;
	}
	tree_clear();
	if (chdir(r->folder) || rmdir(folder))
		err(2, "%s", folder);
}

int main(int argc, char **argv)
{
	struct running r = {0};

	if (argc < 3)
		errx(2, "usage: posix FOLDER FILE.cases...");
	r.folder = argv[1];
	r.coarse = stamps_coarsely(argv[1]);
	for (int i = 2; i < argc; i++)
		script_each(argv[i], run_case, &r);
	return r.failed ? 1 : 0;
}
