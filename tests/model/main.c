/*
 * main.c - the model checker: random steps on a kvfs mount and on a plain folder, which must agree.
 *
 *   model --kvfs FILE [OPTION...]
 *
 *   --dir DIR          where its folders are made (/tmp)
 *   --seeds FROM[-TO]  one run for each (1)
 *   --steps N          of each run (10000); with --concurrent, of each worker
 *   --workers N        processes (3)
 *   --options OPTIONS  of kvfs mount; without, they change with the seed
 *   --drop             the kernel's caches are dropped at times (root)
 *   --concurrent       workers do not wait for each other
 *   --minimise SECONDS that a failing list is made smaller for (120)
 *   --replay FILE      a list of steps as a failure prints it, instead of random ones
 *   --plain            no kvfs but a second plain folder, which tests the checker
 *   --tally            how often each operation was done, failed and was passed over
 *
 * A list of steps begins with lines "options OPTIONS" and "workers N". Exit status 0; 1: a
 * difference; 2: usage.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/model/concurrent.h"
#include "tests/model/minimise.h"

enum { LIST_SHOWN = 100 };

struct arguments {
	struct mount_options opt;
	bool plain, drop, concurrent, tally;
	unsigned long from, to, steps;
	int workers, seconds;
	const char *replay;
	char replay_options[256]; /* what the list to be replayed says */
};

static struct tally tally;

static void write_list(
	FILE *out, const struct mount_options *opt, int workers, const struct step *steps, size_t n)
{
	char text[STEP_TEXT_MAX];

	if (opt->options)
		fprintf(out, "options %s\n", opt->options);
	fprintf(out, "workers %d\n", workers);
	for (size_t i = 0; i < n; i++) {
		step_print(&steps[i], text);
		fprintf(out, "%s\n", text);
	}
}

/* A long list goes into a file, which stays. */
static void print_list(
	const struct mount_options *opt, int workers, const struct step *steps, size_t n)
{
	char name[PATH_MAX];
	FILE *out;

	if (n <= LIST_SHOWN) {
		write_list(stdout, opt, workers, steps, n);
		return;
	}
	snprintf(name, sizeof(name), "%s/model-%d.steps", opt->dir, (int)getpid());
	out = fopen(name, "w");
	if (!out)
		return;
	write_list(out, opt, workers, steps, n);
	fclose(out);
	printf("all %zu steps: %s\n", n, name);
}

static void print_tally(void)
{
	printf("%-12s %9s %9s %9s\n", "", "done", "failed", "passed");
	for (int op = 0; op < OP_COUNT; op++) {
		const unsigned long *words = tally.words[op];

		printf("%-12s %9lu %9lu %9lu\n", step_op_name((enum step_op)op), words[REPLY_DONE],
			words[REPLY_FAILED], words[REPLY_PASSED_OVER]);
	}
}

/* What differs from seed to seed beside the steps. */
static struct generator generator_for(const struct arguments *args, unsigned long seed)
{
	struct rng mix = {seed};

	return (struct generator){
		.rng = {rng_next(&mix)}, /* far from where the next seed begins */
		.workers = args->workers,
		.top = "",
		.nasty = seed % 2,
		.dirty_maps = seed % 4 == 2,
		.driver = true,
		.drop = args->drop,
		.kvfs = args->opt.kvfs != NULL,
	};
}

static struct mount_options options_for(const struct arguments *args, unsigned long seed)
{
	static const char *const variants[] = {
		NULL, "separator=:", "separator=:,noinherit", "separator=-"};
	struct mount_options opt = args->opt;

	if (!opt.options)
		opt.options = variants[seed % 4];
	return opt;
}

static void tell_failure(const struct arguments *args, const struct mount_options *opt,
	struct step *steps, size_t n, struct failure *f)
{
	char text[STEP_TEXT_MAX] = "the end";
	bool again;

	if (f->at < n)
		step_print(&steps[f->at], text);
	printf("step %zu: %s\n  %s\n", f->at, text, f->text);
	fflush(stdout);
	n = minimise(opt, args->workers, steps, n, args->seconds, f, &again);
	if (again)
		printf("%zu steps are enough; then: %s\n", n, f->text);
	else
		printf("it does not happen again\n");
	print_list(opt, args->workers, steps, n);
}

static bool lockstep(const struct arguments *args, unsigned long seed)
{
	struct mount_options opt = options_for(args, seed);
	struct generator g = generator_for(args, seed);
	struct step *steps = malloc((args->steps + 1) * sizeof(*steps));
	struct failure f;
	struct run r;
	bool good = true;
	size_t n = 0;

	if (!steps || run_begin(&r, &opt, args->workers, &tally)) {
		free(steps);
		printf("it cannot begin\n");
		return false;
	}
	while (good && n < args->steps) {
		generate(&g, &steps[n]);
		good = run_step(&r, &steps[n], n, &f);
		generate_learn(&g, &steps[n], r.last == REPLY_DONE);
		n++;
	}
	if (good)
		good = run_end(&r, n, &f);
	else
		run_abandon(&r);
	if (!good)
		tell_failure(args, &opt, steps, n, &f);
	free(steps);
	return good;
}

static bool concurrent(const struct arguments *args, unsigned long seed)
{
	struct mount_options opt = options_for(args, seed);
	struct generator g = generator_for(args, seed);
	struct failure f;

	if (concurrent_run(&opt, &g, args->steps, &f))
		return true;
	printf("%s\n", f.text);
	return false;
}

/* Reads a list of steps; its head into `args`. NULL: it is none. */
static struct step *read_list(struct arguments *args, size_t *n)
{
	FILE *in = fopen(args->replay, "r");
	struct step *steps = NULL;
	char *line = NULL;
	size_t cap = 0;
	bool good = in != NULL;

	*n = 0;
	while (good && getline(&line, &cap, in) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "options ", 8) == 0) {
			snprintf(
				args->replay_options, sizeof(args->replay_options), "%s", line + 8);
			args->opt.options = args->replay_options;
		} else if (strncmp(line, "workers ", 8) == 0) {
			args->workers = atoi(line + 8);
		} else if (*line && *line != '#') {
			struct step *more = realloc(steps, (*n + 1) * sizeof(*steps));

			if (more)
				steps = more;
			good = more && step_parse(line, &steps[(*n)++]);
			if (!good)
				printf("not a step: %s\n", line);
		}
	}
	free(line);
	if (in)
		fclose(in);
	return good ? steps : NULL;
}

static bool replay(struct arguments *args)
{
	struct failure f;
	size_t n;
	struct step *steps = read_list(args, &n);

	if (!steps) {
		printf("%s cannot be read\n", args->replay);
		return false;
	}
	bool good = run_list(&args->opt, args->workers, steps, n, &f);
	if (!good && args->seconds)
		tell_failure(args, &args->opt, steps, n, &f);
	else if (!good)
		printf("step %zu: %s\n", f.at, f.text);
	free(steps);
	return good;
}

static bool parse(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {{"kvfs", 1, NULL, 'k'}, {"dir", 1, NULL, 'd'},
		{"seeds", 1, NULL, 's'}, {"steps", 1, NULL, 'n'}, {"workers", 1, NULL, 'w'},
		{"options", 1, NULL, 'o'}, {"drop", 0, NULL, 'D'}, {"concurrent", 0, NULL, 'c'},
		{"minimise", 1, NULL, 'm'}, {"replay", 1, NULL, 'r'}, {"plain", 0, NULL, 'p'},
		{"tally", 0, NULL, 't'}, {0}};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			args->opt.kvfs = optarg;
			break;
		case 'd':
			args->opt.dir = optarg;
			break;
		case 's':
			args->from = args->to = strtoul(optarg, &end, 10);
			if (*end == '-')
				args->to = strtoul(end + 1, &end, 10);
			if (*end)
				return false;
			break;
		case 'n':
			args->steps = strtoul(optarg, NULL, 10);
			break;
		case 'w':
			args->workers = atoi(optarg);
			break;
		case 'o':
			args->opt.options = optarg;
			break;
		case 'D':
			args->drop = true;
			break;
		case 'c':
			args->concurrent = true;
			break;
		case 'm':
			args->seconds = atoi(optarg);
			break;
		case 'r':
			args->replay = optarg;
			break;
		case 'p':
			args->plain = true;
			break;
		case 't':
			args->tally = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc && args->workers > 0 && args->workers <= STEP_WORKERS_MAX &&
		(args->opt.kvfs || args->plain);
}

static bool run_seed(const struct arguments *args, unsigned long seed)
{
	time_t began = time(NULL);

	bool good = args->concurrent ? concurrent(args, seed) : lockstep(args, seed);
	printf("seed %lu: %s, %lu steps, %ld s\n", seed, good ? "agrees" : "DIFFERS", args->steps,
		(long)(time(NULL) - began));
	fflush(stdout);
	return good;
}

int main(int argc, char **argv)
{
	struct arguments args = {.opt.dir = "/tmp",
		.from = 1,
		.to = 1,
		.steps = 10000,
		.workers = 3,
		.seconds = 120};
	bool good = true;

	umask(022);
	if (!parse(argc, argv, &args)) {
		fputs("usage: model --kvfs FILE [OPTION...]; the options are in its source\n",
			stderr);
		return 2;
	}
	if (args.plain)
		args.opt.kvfs = NULL;
	if (args.replay)
		return replay(&args) ? 0 : 1;
	for (unsigned long seed = args.from; seed <= args.to; seed++)
		good = run_seed(&args, seed) && good;
	if (args.tally)
		print_tally();
	return good ? 0 : 1;
}
