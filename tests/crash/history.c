#include "tests/crash/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

int64_t history_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const char *history_top(unsigned thread)
{
	static const char *const tops[HISTORY_THREADS] = {"p-", "q-", "r-", "s-"};

	return tops[thread];
}

int history_init(struct history *h, unsigned threads, uint64_t seed)
{
	void *log = mmap(
		NULL, sizeof(*h->log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (log == MAP_FAILED)
		return -ENOMEM;
	*h = (struct history){.threads = threads, .seed = seed, .large = 1 << 20, .log = log};
	return 0;
}

void history_release(struct history *h)
{
	for (unsigned i = 0; i < h->threads; i++)
		model_release(&h->start[i]);
	munmap(h->log, sizeof(*h->log));
}

void history_begin(struct history *h, int64_t now)
{
	h->seed++;
	h->now = now;
	memset(h->log, 0, sizeof(*h->log));
	for (unsigned i = 0; i < h->threads; i++)
		model_expire(&h->start[i], now);
}

static struct plan plan_of(const struct history *h, unsigned thread)
{
	struct plan p = {.random = h->seed * UINT64_C(0x9E3779B97F4A7C15) + thread + 1,
		.number = h->seed * HISTORY_OPS,
		.top = history_top(thread),
		.now = h->now,
		.large = h->large};

	for (int i = 0; i < 8; i++) /* small seeds are alike at first */
		plan_random(&p.random, 0);
	return p;
}

static void report(struct history *h, const struct op *op, int rc)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&h->log->failed, &none, rc))
		snprintf(h->log->failed_text, sizeof(h->log->failed_text), "%s: %s", strerror(-rc),
			op_text(op));
}

void history_thread(struct history *h, unsigned thread, size_t most, history_run run, void *arg)
{
	struct plan p = plan_of(h, thread);
	struct model m = {0};
	struct op op;

	model_copy(&h->start[thread], &m);
	for (size_t i = 0; i < most && i < HISTORY_OPS; i++) {
		struct logged *l = &h->log->ops[thread][i];

		plan_next(&p, &m, &op);
		atomic_store(&l->begin, history_clock());
		int rc = run(arg, &op);
		if (rc) {
			if (!atomic_load(&h->log->killed))
				report(h, &op, rc);
			break;
		}
		atomic_store(&l->end, history_clock());
		plan_apply(&m, &op);
	}
	model_release(&m);
}

size_t history_done(const struct history *h)
{
	size_t done = 0;

	for (unsigned t = 0; t < h->threads; t++) {
		for (size_t i = 0; i < HISTORY_OPS && atomic_load(&h->log->ops[t][i].end); i++)
			done++;
	}
	return done;
}

/* What is known of one thread while its moment is looked for. */
struct side {
	size_t begun; /* operations */
	size_t least; /* that fsync has promised */
	bool *fits; /* [begun + 1]: whether the tree after so many is what was found */
	size_t k;
};

static int64_t ended(const struct history *h, unsigned thread, size_t op, int64_t cut)
{
	int64_t end = op < HISTORY_OPS ? atomic_load(&h->log->ops[thread][op].end) : 0;

	return end && end < cut ? end : INT64_MAX;
}

static int64_t began(const struct history *h, unsigned thread, size_t op)
{
	int64_t begin = op < HISTORY_OPS ? atomic_load(&h->log->ops[thread][op].begin) : 0;

	return begin ? begin : INT64_MAX;
}

/* Runs the plan again. Notes which trees fit, and at which operations fsync was acknowledged. */
static void replay(struct history *h, unsigned thread, const struct model *found, int64_t cut,
	struct side *s, int64_t *synced)
{
	struct plan p = plan_of(h, thread);
	struct digest want = model_digest(found);
	struct model m = {0};
	struct op op;

	while (began(h, thread, s->begun) < cut)
		s->begun++;
	s->fits = calloc(s->begun + 1, sizeof(*s->fits));
	if (!s->fits)
		abort();
	model_copy(&h->start[thread], &m);
	for (size_t i = 0;; i++) {
		s->fits[i] = digest_equal(want, model_digest(&m));
		if (i == s->begun)
			break;
		plan_next(&p, &m, &op);
		plan_apply(&m, &op);
		bool syncs = op.kind == OP_FSYNC || op.kind == OP_PUT_SYNC;
		if (syncs && ended(h, thread, i, cut) != INT64_MAX) {
			int64_t at = began(h, thread, i);

			*synced = at > *synced ? at : *synced;
			if (op.kind == OP_PUT_SYNC)
				s->least = i + 1; /* its own change too */
		}
	}
	model_release(&m);
}

static bool lower(struct side *s, size_t below)
{
	for (size_t k = below; k-- > 0;) {
		if (s->fits[k]) {
			s->k = k;
			return true;
		}
	}
	return false;
}

/* Lowers what began after an operation that is not there had ended. */
static bool one_moment(struct history *h, struct side *sides, int64_t cut)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (unsigned a = 0; a < h->threads; a++) {
			int64_t lost = ended(h, a, sides[a].k, cut);

			for (unsigned b = 0; b < h->threads; b++) {
				struct side *s = &sides[b];

				if (s->k == 0 || began(h, b, s->k - 1) <= lost)
					continue;
				changed = true;
				if (!lower(s, s->k)) {
					fprintf(stderr,
						"    thread %u has operation %zu, which "
						"began after operation %zu of thread %u, "
						"which is lost, had ended\n",
						b, s->k, sides[a].k + 1, a);
					return false;
				}
			}
		}
	}
	return true;
}

/* The tree after k operations, and the last of them. */
static void tree_after(
	struct history *h, unsigned thread, size_t k, struct model *out, struct op *last)
{
	struct plan p = plan_of(h, thread);

	*last = (struct op){0};
	model_copy(&h->start[thread], out);
	for (size_t i = 0; i < k; i++) {
		plan_next(&p, out, last);
		plan_apply(out, last);
	}
}

/* What was found instead of this moment. */
static void explain(struct history *h, unsigned thread, const struct model *found, size_t k)
{
	struct model m = {0};
	struct op op;

	tree_after(h, thread, k, &m, &op);
	fprintf(stderr, "    after operation %zu of thread %u (%s):\n", k, thread, op_text(&op));
	model_compare(&m, found);
	model_release(&m);
}

static bool match(struct history *h, struct model *found, int64_t cut, struct side *sides)
{
	int64_t synced = 0;

	for (unsigned t = 0; t < h->threads; t++)
		replay(h, t, &found[t], cut, &sides[t], &synced);
	for (unsigned t = 0; t < h->threads; t++) {
		struct side *s = &sides[t];

		while (ended(h, t, s->least, cut) < synced)
			s->least++;
		if (!lower(s, s->begun + 1)) {
			fprintf(stderr, "    thread %u: no moment of %zu operations fits\n", t,
				s->begun);
			explain(h, t, &found[t], s->least);
			explain(h, t, &found[t], s->begun);
			return false;
		}
	}
	if (!one_moment(h, sides, cut))
		return false;
	for (unsigned t = 0; t < h->threads; t++) {
		if (sides[t].k < sides[t].least) {
			fprintf(stderr,
				"    thread %u has %zu operations, and fsync promised %zu\n", t,
				sides[t].k, sides[t].least);
			return false;
		}
	}
	return true;
}

bool history_match(struct history *h, struct model *found, int64_t cut, bool keep)
{
	struct side sides[HISTORY_THREADS] = {0};
	bool ok = match(h, found, cut, sides);
	struct model m = {0};
	struct op op;

	for (unsigned t = 0; t < h->threads; t++) {
		if (ok && !keep) {
			tree_after(h, t, sides[t].k, &m, &op);
			model_copy(&m, &h->start[t]);
		}
		free(sides[t].fits);
	}
	model_release(&m);
	return ok;
}
