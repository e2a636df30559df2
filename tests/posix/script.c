#include "tests/posix/script.h"

#include <ctype.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 6, REPETITIONS = 1 << 20 };

/* `each`: a letter and what it stands for in turn. */
struct variable {
	char name;
	char words[SCRIPT_LINE];
	const char *now;
};

/* A case as the file has it. */
struct raw_case {
	struct script_case c;
	struct variable vars[VARIABLES];
	size_t n_vars;
	const char *file;
};

static void replace_variables(const struct raw_case *raw, const char *from, char *to)
{
	size_t n = 0;

	for (; *from; from++) {
		const struct variable *v = raw->vars, *end = v + raw->n_vars;

		if (*from == '$')
			while (v < end && v->name != from[1])
				v++;
		else
			v = end;
		if (*from == '$' && v == end)
			errx(2, "%s: case %s: no variable %.2s", raw->file, raw->c.name, from);
		size_t len = v < end ? strlen(v->now) : 1;
		if (n + len + 1 > SCRIPT_LINE)
			errx(2, "%s: case %s: a line too long", raw->file, raw->c.name);
		memcpy(to + n, v < end ? v->now : from, len);
		n += len;
		from += v < end;
	}
	to[n] = '\0';
}

static void give_case(
	const struct raw_case *raw, void (*fn)(void *arg, const struct script_case *c), void *arg)
{
	static struct script_case out;

	replace_variables(raw, raw->c.name, out.name);
	out.n = raw->c.n;
	for (size_t i = 0; i < out.n; i++)
		replace_variables(raw, raw->c.steps[i], out.steps[i]);
	fn(arg, &out);
}

/* Gives the case for every combination of the variables from `depth` on. */
static void combine(struct raw_case *raw, size_t depth,
	void (*fn)(void *arg, const struct script_case *c), void *arg)
{
	char *words, *rest;

	if (depth == raw->n_vars) {
		give_case(raw, fn, arg);
		return;
	}
	words = strdup(raw->vars[depth].words);
	if (!words)
		err(2, "strdup");
	for (char *w = strtok_r(words, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest)) {
		raw->vars[depth].now = w;
		combine(raw, depth + 1, fn, arg);
	}
	free(words);
}

static void add_variable(struct raw_case *raw, const char *text)
{
	struct variable *v = &raw->vars[raw->n_vars++];

	if (raw->n_vars > VARIABLES || !isalpha((unsigned char)*text) || text[1] != ' ')
		errx(2, "%s: case %s: each %s", raw->file, raw->c.name, text);
	v->name = *text;
	snprintf(v->words, sizeof(v->words), "%s", text + 2);
}

static void add_step(struct raw_case *raw, const char *text)
{
	if (raw->c.n == SCRIPT_STEPS || !*raw->c.name)
		errx(2, "%s: %s: out of place", raw->file, text);
	snprintf(raw->c.steps[raw->c.n++], SCRIPT_LINE, "%s", text);
}

void script_each(const char *file, void (*fn)(void *arg, const struct script_case *c), void *arg)
{
	static struct raw_case raw;
	char line[SCRIPT_LINE];
	FILE *in = fopen(file, "r");

	if (!in)
		err(2, "%s", file);
	raw = (struct raw_case){.file = file};
	while (fgets(line, sizeof(line), in)) {
		char *text = line + strspn(line, " \t");

		text[strcspn(text, "\n")] = '\0';
		if (!*text || *text == '#')
			continue;
		if (strncmp(line, "case ", 5) == 0) {
			if (raw.c.n)
				combine(&raw, 0, fn, arg);
			raw = (struct raw_case){.file = file};
			snprintf(raw.c.name, sizeof(raw.c.name), "%s", text + 5);
		} else if (strncmp(line, "each ", 5) == 0) {
			add_variable(&raw, text + 5);
		} else {
			add_step(&raw, text);
		}
	}
	if (raw.c.n)
		combine(&raw, 0, fn, arg);
	fclose(in);
}

/* One word, up to the next blank. */
static char *take_word(const char **at)
{
	size_t len = strcspn(*at, " \t"), n = 0;
	const char *p = *at, *end = p + len;
	char *out = malloc(len + 1);

	while (out && p < end) {
		const char *star = *p == '{' ? memchr(p, '*', (size_t)(end - p)) : NULL;

		if (!star) {
			out[n++] = *p++;
			continue;
		}
		char *after;
		size_t piece = (size_t)(star - p - 1), times = strtoul(star + 1, &after, 10);
		if (*after != '}' || times > REPETITIONS)
			errx(2, "%s: a bad repetition", *at);
		out = realloc(out, n + piece * times + len + 1);
		for (; out && times; times--, n += piece)
			memcpy(out + n, p + 1, piece);
		p = after + 1;
	}
	if (!out)
		err(2, "malloc");
	out[n] = '\0';
	*at = end + strspn(end, " \t");
	return out;
}

size_t script_words(const char *step, char *words[SCRIPT_WORDS])
{
	size_t n = 0;

	while (*step && n < SCRIPT_WORDS)
		words[n++] = take_word(&step);
	if (*step)
		errx(2, "%s: too many words", step);
	return n;
}
