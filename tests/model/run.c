#include "tests/model/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/model/tree.h"

int run_begin(struct run *r, const struct mount_options *opt, int workers, struct tally *tally)
{
	memset(r, 0, sizeof(*r));
	r->opt = *opt;
	r->tally = tally;
	int rc = trees_make(&r->trees, opt);

	for (int i = 0; !rc && i < workers; i++) {
		rc = worker_start(&r->workers[i], r->trees.kvfs, r->trees.plain);
		if (!rc)
			r->n_workers++;
		else
			run_abandon(r);
	}
	return rc;
}

static void end_workers(struct run *r)
{
	for (int i = 0; i < r->n_workers; i++)
		worker_end(&r->workers[i]);
	r->n_workers = 0;
}

void run_abandon(struct run *r)
{
	end_workers(r);
	trees_abandon(&r->trees);
}

static bool same_text(char *a, char *b, const char *what, struct failure *f)
{
	char text[REPLY_TEXT_MAX];
	bool differs = !a || !b || tree_differs(a, b, text, sizeof(text));

	if (differs)
		snprintf(f->text, sizeof(f->text), "%s: %s", what, a && b ? text : "no memory");
	return !differs;
}

static bool compare(struct run *r, struct failure *f)
{
	enum tree_times times = r->loose ? TREE_TIMES_NONE : TREE_TIMES_SET;
	char *kvfs = tree_print(r->trees.kvfs, times), *plain = tree_print(r->trees.plain, times);
	bool same = same_text(kvfs, plain, "the trees differ", f);

	free(kvfs);
	free(plain);
	return same;
}

/* kvfs says after a remount what it said before, times and inode numbers too. */
static bool remount(struct run *r, struct failure *f)
{
	bool good = true;

	for (int i = 0; i < r->n_workers; i++) {
		if (worker_close_all(&r->workers[i])) {
			strcpy(f->text, "a worker is gone");
			return false;
		}
	}
	char *before = tree_print(r->trees.kvfs, TREE_TIMES_ALL);
	int rc = trees_remount(&r->trees);
	if (rc) {
		snprintf(f->text, sizeof(f->text), "remount: %s", strerror(-rc));
		good = false;
	}
	char *after = good ? tree_print(r->trees.kvfs, TREE_TIMES_ALL) : NULL;
	good = good && same_text(after, before, "kvfs after a remount", f) && compare(r, f);
	free(before);
	free(after);
	return good;
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "2", 1) != 1)
		perror("drop_caches");
	close(fd);
}

static bool driver_step(struct run *r, const struct step *s, struct failure *f)
{
	if (s->op == OP_remount)
		return remount(r, f);
	if (s->op == OP_compare)
		return compare(r, f);
	drop_caches();
	return true;
}

bool run_step(struct run *r, const struct step *s, size_t at, struct failure *f)
{
	struct reply reply = {.word = REPLY_DONE};
	int rc = 0;

	f->at = at;
	r->loose |= (s->look & LOOK_LOOSE) != 0;
	if (step_is_driver(s)) {
		if (!driver_step(r, s, f))
			reply.word = REPLY_DIFFERENT;
	} else {
		rc = worker_do(&r->workers[s->worker % r->n_workers], s, &reply);
		snprintf(f->text, sizeof(f->text), "%s",
			rc == -ETIMEDOUT ? "the step hangs"
				: rc     ? "the worker is gone"
					 : reply.text);
	}
	if (rc)
		reply.word = REPLY_DIFFERENT;
	r->last = reply.word;
	if (r->tally)
		r->tally->words[s->op][reply.word]++;
	return reply.word != REPLY_DIFFERENT;
}

bool run_end(struct run *r, size_t at, struct failure *f)
{
	f->at = at;
	bool good = remount(r, f);
	end_workers(r);
	int rc = trees_remove(&r->trees);
	if (rc && good)
		snprintf(f->text, sizeof(f->text), "unmounting: %s", strerror(-rc));
	return good && !rc;
}

bool run_list(const struct mount_options *opt, int workers, const struct step *steps, size_t n,
	struct failure *f)
{
	struct run r;
	int rc = run_begin(&r, opt, workers, NULL);

	if (rc) {
		snprintf(f->text, sizeof(f->text), "mounting: %s", strerror(-rc));
		f->at = 0;
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!run_step(&r, &steps[i], i, f)) {
			run_abandon(&r);
			return false;
		}
	}
	return run_end(&r, n, f);
}
