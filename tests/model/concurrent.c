#include "tests/model/concurrent.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/shared.h"
#include "tests/model/tree.h"

enum { SHARED_PERMILLE = 60, LAST_STEPS = 40 };

/* In memory that all processes share. */
struct board {
	struct shared_counts counts;
	char wrong[STEP_WORKERS_MAX][REPLY_TEXT_MAX + 200];
};

static void print_last(const struct step *ring, unsigned long n)
{
	char text[STEP_TEXT_MAX];
	unsigned long first = n > LAST_STEPS ? n - LAST_STEPS : 0;

	for (unsigned long i = first; i < n; i++) {
		step_print(&ring[i % LAST_STEPS], text);
		puts(text);
	}
	fflush(stdout);
}

static void work(const struct trees *t, struct generator g, int number, unsigned long steps,
	struct board *board)
{
	static struct step ring[LAST_STEPS];
	char top[16], *wrong = board->wrong[number];
	struct reply reply;
	struct actor a;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	sprintf(top, "w%d/", number);
	g.top = top;
	g.workers = 1;
	g.driver = false;
	g.rng.state ^= rng_next(&(struct rng){(uint64_t)number});
	if (actor_init(&a, t->kvfs, t->plain))
		_exit(1);
	for (unsigned long i = 0; i < steps && !*wrong; i++) {
		struct step *s = &ring[i % LAST_STEPS];

		generate(&g, s);
		worker_step(&a, s, &reply);
		generate_learn(&g, s, reply.word == REPLY_DONE);
		if (reply.word == REPLY_DIFFERENT) {
			snprintf(wrong, sizeof(board->wrong[0]), "%s", reply.text);
			print_last(ring, i + 1);
		} else if (rng_chance(&g.rng, SHARED_PERMILLE)) {
			const char *text = shared_act(t->kvfs, number, &g.rng, &board->counts);

			if (text)
				strcpy(wrong, text);
		}
	}
	_exit(*wrong ? 1 : 0);
}

static bool prepare(const struct trees *t, int workers)
{
	char buf[PATH_MAX + 16];

	for (int i = 0; i < workers; i++) {
		for (int side = 0; side < SIDES; side++) {
			snprintf(buf, sizeof(buf), "%s/w%d", side ? t->plain : t->kvfs, i);
			if (mkdir(buf, 0755))
				return false;
		}
	}
	return shared_prepare(t->kvfs);
}

static void work_together(
	const struct trees *t, const struct generator *g, unsigned long steps, struct board *board)
{
	pid_t pids[STEP_WORKERS_MAX];
	int status;

	for (int i = 0; i < g->workers; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			work(t, *g, i, steps, board);
	}
	for (int i = 0; i < g->workers; i++) {
		bool ended = pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i];

		if (!ended || (status && !board->wrong[i][0]))
			strcpy(board->wrong[i], "the worker is gone");
	}
}

static bool folders_agree(const struct trees *t, const struct generator *g, struct failure *f)
{
	enum tree_times times = g->dirty_maps ? TREE_TIMES_NONE : TREE_TIMES_SET;
	char path[SIDES][PATH_MAX + 16];

	for (int i = 0; i < g->workers; i++) {
		snprintf(path[0], sizeof(path[0]), "%s/w%d", t->kvfs, i);
		snprintf(path[1], sizeof(path[1]), "%s/w%d", t->plain, i);
		char *a = tree_print(path[0], times), *b = tree_print(path[1], times);
		char text[REPLY_TEXT_MAX];
		bool differs = !a || !b || tree_differs(a, b, text, sizeof(text));

		free(a);
		free(b);
		if (differs) {
			snprintf(f->text, sizeof(f->text), "w%d differs: %s", i, text);
			return false;
		}
	}
	return true;
}

/* Twice: as it is, and after a remount. */
static bool judge(
	struct trees *t, const struct generator *g, const struct board *board, struct failure *f)
{
	for (int i = 0; i < g->workers; i++) {
		if (board->wrong[i][0]) {
			strcpy(f->text, board->wrong[i]);
			return false;
		}
	}
	for (int round = 0; round < 2; round++) {
		const char *wrong = shared_check(t->kvfs, g->workers, &board->counts);

		if (wrong) {
			strcpy(f->text, wrong);
			return false;
		}
		if (!folders_agree(t, g, f))
			return false;
		if (round == 0 && trees_remount(t)) {
			strcpy(f->text, "it cannot be mounted again");
			return false;
		}
	}
	return true;
}

bool concurrent_run(const struct mount_options *opt, const struct generator *g, unsigned long steps,
	struct failure *f)
{
	struct board *board = mmap(
		NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct trees t;

	strcpy(f->text, "it cannot begin");
	f->at = 0;
	if (board == MAP_FAILED || trees_make(&t, opt))
		return false;
	bool good = prepare(&t, g->workers);
	if (good) {
		work_together(&t, g, steps, board);
		good = judge(&t, g, board, f);
	}
	if (!good)
		trees_abandon(&t);
	else if (trees_remove(&t)) {
		strcpy(f->text, "the daemon did not end well");
		good = false;
	}
	munmap(board, sizeof(*board));
	return good;
}
