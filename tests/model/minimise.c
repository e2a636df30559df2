/*
 * minimise.c - delta debugging: leave out one part of many after the other, with ever smaller parts.
 */
#include "tests/model/minimise.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct minimising {
	const struct mount_options *opt;
	int workers;
	time_t until;
	struct failure *last;
	struct step *part;
	int op; /* of the step that failed first; OP_COUNT: the end */
};

static int op_at(const struct step *steps, size_t n, size_t at)
{
	return at < n ? (int)steps[at].op : OP_COUNT;
}

static bool fails(struct minimising *m, size_t n)
{
	struct failure f;

	/* Another step's failure is another failure. */
	if (run_list(m->opt, m->workers, m->part, n, &f) || op_at(m->part, n, f.at) != m->op)
		return false;
	*m->last = f;
	return true;
}

/* The list without the steps from `from` to `to`. */
static size_t without(
	const struct minimising *m, const struct step *steps, size_t n, size_t from, size_t to)
{
	memcpy(m->part, steps, from * sizeof(*steps));
	memcpy(m->part + from, steps + to, (n - to) * sizeof(*steps));
	return n - (to - from);
}

/* Steps behind the one that failed have not been done. */
static size_t cut(const struct minimising *m, size_t n)
{
	return m->last->at < n ? m->last->at + 1 : n;
}

/* Leaves out what can be left out in pieces of `size`. */
static size_t pass(struct minimising *m, struct step *steps, size_t n, size_t size)
{
	for (size_t end = n; end > 0 && time(NULL) < m->until;) {
		size_t from = end > size ? end - size : 0;
		size_t left = without(m, steps, n, from, end);

		if (left < n && fails(m, left)) {
			n = cut(m, left);
			memcpy(steps, m->part, n * sizeof(*steps));
		}
		end = from < n ? from : n;
	}
	return n;
}

size_t minimise(const struct mount_options *opt, int workers, struct step *steps, size_t n,
	int seconds, struct failure *f, bool *again)
{
	struct minimising m = {.opt = opt,
		.workers = workers,
		.until = time(NULL) + seconds,
		.last = f,
		.op = op_at(steps, n, f->at),
		.part = malloc((n + 1) * sizeof(*steps))};

	*again = false;
	if (!m.part)
		return n;
	memcpy(m.part, steps, n * sizeof(*steps));
	*again = fails(&m, n);
	if (*again) {
		n = cut(&m, n);
		for (size_t size = n / 2; size > 0 && time(NULL) < m.until; size /= 2)
			n = pass(&m, steps, n, size);
		for (size_t was = n + 1; n < was && time(NULL) < m.until;) {
			was = n;
			n = pass(&m, steps, n, 1);
		}
	}
	free(m.part);
	return n;
}
