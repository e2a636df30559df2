#include "backends/cloudflare/wrangler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/cloudflare/jread.h"
#include "backends/cloudflare/toml.h"

enum { NAME_MAX_BYTES = 255 };

static const char NO_MEMORY[] = "out of memory";
static const char TOO_MANY_ENVS[] = "there are too many environments";
static const char NOT_TABLES[] = "kv_namespaces must be an array of tables";

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

void wrangler_release(struct wrangler *w)
{
	for (size_t i = 0; i < w->n; i++) {
		free(w->bindings[i].env);
		free(w->bindings[i].binding);
		free(w->bindings[i].id);
		free(w->bindings[i].preview_id);
	}
	for (size_t i = 0; i < w->n_envs; i++) {
		free(w->envs[i].name);
		free(w->envs[i].account_id);
	}
	free(w->bindings);
	free(w->envs);
	*w = (struct wrangler){0};
}

const char *wrangler_account(const struct wrangler *w, const char *env)
{
	for (size_t i = 0; env && i < w->n_envs; i++)
		if (same(w->envs[i].name, env) && w->envs[i].account_id)
			return w->envs[i].account_id;
	return w->n_envs ? w->envs[0].account_id : NULL;
}

/* The environment, made where it is not known yet; NULL: out of memory. */
static struct wrangler_env *env_of(struct wrangler *w, const char *name)
{
	for (size_t i = 0; i < w->n_envs; i++)
		if (same(w->envs[i].name, name))
			return w->envs + i;
	struct wrangler_env *envs = realloc(w->envs, (w->n_envs + 1) * sizeof(*envs));
	if (!envs)
		return NULL;
	w->envs = envs;
	char *copy = name ? strdup(name) : NULL;
	if (name && !copy)
		return NULL;
	envs[w->n_envs] = (struct wrangler_env){.name = copy};
	return envs + w->n_envs++;
}

static const char *add_binding(struct wrangler *w, const char *env, size_t line)
{
	if (w->n == WRANGLER_BINDINGS_MAX)
		return "there are too many namespaces";
	struct wrangler_binding *all = realloc(w->bindings, (w->n + 1) * sizeof(*all));
	char *copy = env ? strdup(env) : NULL;

	if (all)
		w->bindings = all;
	if (!all || (env && !copy)) {
		free(copy);
		return NO_MEMORY;
	}
	all[w->n++] = (struct wrangler_binding){.env = copy, .line = line};
	return NULL;
}

/* Takes a string that is given once. */
static const char *set(char **where, const char *value, size_t len)
{
	if (*where)
		return "it is given twice";
	if (len == 0 || len > NAME_MAX_BYTES)
		return "it is empty or too long";
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] <= ' ' || value[i] == 0x7f)
			return "it has a space or a control character in it";
	*where = strndup(value, len);
	return *where ? NULL : NO_MEMORY;
}

static char **field_of(struct wrangler_binding *b, const char *name)
{
	if (strcmp(name, "binding") == 0)
		return &b->binding;
	if (strcmp(name, "id") == 0)
		return &b->id;
	return strcmp(name, "preview_id") == 0 ? &b->preview_id : NULL;
}

/* The binding of this environment that is being read. */
static struct wrangler_binding *last_binding(struct wrangler *w, const char *env)
{
	for (size_t i = w->n; i-- > 0;)
		if (same(w->bindings[i].env, env))
			return w->bindings + i;
	return NULL;
}

/* What is said in TOML about kv_namespaces; `field` is NULL for themselves. */
static const char *on_namespaces(struct wrangler *w, enum toml_event event, const char *env,
	const char *field, size_t line, const char *value, size_t len)
{
	struct wrangler_binding *b = last_binding(w, env);

	if (!field) {
		if (event == TOML_ELEMENT)
			return add_binding(w, env, line);
		if (event != TOML_ARRAY)
			return NOT_TABLES;
		return b ? "kv_namespaces are given twice" : NULL;
	}
	if (!b)
		return NOT_TABLES;
	char **where = field_of(b, field);
	if (!where)
		return NULL;
	return event == TOML_STRING ? set(where, value, len) : "it must be a string";
}

static const char *on_toml(void *arg, enum toml_event event, const struct toml_path *path,
	size_t line, const char *value, size_t len)
{
	struct wrangler *w = arg;
	const char *env = NULL;
	size_t at = 0;

	for (size_t i = 0; i < path->n && i < 3; i++)
		if (path->is_index[i])
			return i == path->n - 1 &&
					strcmp(path->keys[i ? i - 1 : 0], "kv_namespaces") == 0
				? NOT_TABLES
				: NULL;
	if (path->n >= 2 && strcmp(path->keys[0], "env") == 0) {
		env = path->keys[1];
		at = 2;
		if (!env_of(w, env))
			return NO_MEMORY;
		if (w->n_envs > WRANGLER_ENVS_MAX)
			return TOO_MANY_ENVS;
	}
	if (path->n <= at)
		return NULL;
	if (path->n == at + 1 && strcmp(path->keys[at], "account_id") == 0) {
		struct wrangler_env *e = env_of(w, env);

		if (!e)
			return NO_MEMORY;
		return event == TOML_STRING ? set(&e->account_id, value, len)
					    : "it must be a string";
	}
	if (strcmp(path->keys[at], "kv_namespaces") != 0 || path->n > at + 2)
		return NULL;
	return on_namespaces(
		w, event, env, path->n > at + 1 ? path->keys[at + 1] : NULL, line, value, len);
}

static bool check(struct jread *j, const char *why)
{
	return why ? jread_fail(j, why) : true;
}

static bool json_string(struct jread *j, char **where)
{
	struct jread_text text;

	return jread_string(j, &text) && check(j, set(where, text.p, text.len));
}

static bool json_namespaces(struct jread *j, struct wrangler *w, const char *env)
{
	struct jread_text name;

	if (last_binding(w, env))
		return jread_fail(j, "kv_namespaces are given twice");
	if (jread_kind(j) != JREAD_ARRAY || !jread_enter(j, JREAD_ARRAY))
		return jread_fail(j, NOT_TABLES);
	while (jread_element(j)) {
		if (jread_kind(j) != JREAD_OBJECT)
			return jread_fail(j, NOT_TABLES);
		if (!check(j, add_binding(w, env, jread_line(j))))
			return false;
		jread_enter(j, JREAD_OBJECT);
		while (jread_member(j, &name)) {
			char copy[16];
			char **where;

			snprintf(copy, sizeof(copy), "%.*s", (int)name.len, name.p);
			where = name.len < sizeof(copy) ? field_of(w->bindings + w->n - 1, copy)
							: NULL;
			if (where)
				json_string(j, where);
			else
				jread_skip(j, NULL);
		}
	}
	return !j->error;
}

static bool json_env(struct jread *j, struct wrangler *w, const char *env);

static bool json_envs(struct jread *j, struct wrangler *w)
{
	struct jread_text name;

	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		char *env = memchr(name.p, '\0', name.len) ? NULL : strndup(name.p, name.len);

		if (!env)
			return jread_fail(j, "an environment's name is malformed");
		json_env(j, w, env);
		free(env);
	}
	return !j->error;
}

/* The top of the file, or what is below one environment. */
static bool json_env(struct jread *j, struct wrangler *w, const char *env)
{
	struct jread_text name;

	if (!env_of(w, env))
		return jread_fail(j, NO_MEMORY);
	if (w->n_envs > WRANGLER_ENVS_MAX)
		return jread_fail(j, TOO_MANY_ENVS);
	jread_enter(j, JREAD_OBJECT);
	while (jread_member(j, &name)) {
		if (jread_is(&name, "account_id"))
			json_string(j, &env_of(w, env)->account_id);
		else if (jread_is(&name, "kv_namespaces"))
			json_namespaces(j, w, env);
		else if (!env && jread_is(&name, "env"))
			json_envs(j, w);
		else
			jread_skip(j, NULL);
	}
	return !j->error;
}

static int parse_json(
	const char *text, size_t len, struct wrangler *w, size_t *line, const char **why)
{
	char *copy = malloc(len + 1);
	struct jread j;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len);
	jread_init(&j, copy, len, true);
	json_env(&j, w, NULL);
	jread_end(&j);
	*line = jread_line(&j);
	*why = j.error;
	free(copy);
	return j.error ? -EINVAL : 0;
}

/* What can only be said at the end. */
static int check_bindings(const struct wrangler *w, size_t *line, const char **why)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct wrangler_binding *b = w->bindings + i;

		*line = b->line;
		*why = "a namespace has no binding";
		if (!b->binding)
			return -EINVAL;
		*why = "a binding is given twice";
		for (size_t k = 0; k < i; k++)
			if (same(w->bindings[k].env, b->env) &&
				strcmp(w->bindings[k].binding, b->binding) == 0)
				return -EINVAL;
	}
	return 0;
}

int wrangler_parse(const char *text, size_t len, enum wrangler_form form, const char *file,
	struct wrangler *out, char error[WRANGLER_ERROR])
{
	struct wrangler w = {0};
	const char *why = NO_MEMORY;
	size_t line = 0;
	int rc = env_of(&w, NULL) ? 0 : -ENOMEM;

	if (rc == 0)
		rc = form == WRANGLER_TOML ? toml_parse(text, len, on_toml, &w, &line, &why)
					   : parse_json(text, len, &w, &line, &why);
	if (rc == 0)
		rc = check_bindings(&w, &line, &why);
	if (rc == 0) {
		*out = w;
		return 0;
	}
	if (rc == -ENOMEM || why == NO_MEMORY) {
		rc = -ENOMEM;
		snprintf(error, WRANGLER_ERROR, "%.400s: out of memory", file);
	} else {
		snprintf(error, WRANGLER_ERROR, "%.400s:%zu: %s", file, line, why);
	}
	wrangler_release(&w);
	return rc;
}

static int read_all(int fd, char **text, size_t *len)
{
	char *buf = malloc(WRANGLER_SIZE_MAX + 1);
	size_t have = 0;
	ssize_t n = 1;

	if (!buf)
		return -ENOMEM;
	while (n > 0 && have <= WRANGLER_SIZE_MAX) {
		n = read(fd, buf + have, WRANGLER_SIZE_MAX + 1 - have);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			have += (size_t)n;
	}
	int rc = n < 0 ? -errno : have > WRANGLER_SIZE_MAX ? -EFBIG : 0;
	if (rc) {
		free(buf);
		return rc;
	}
	*text = buf;
	*len = have;
	return 0;
}

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);

	return len >= n && strcmp(s + len - n, end) == 0;
}

int wrangler_read(const char *path, struct wrangler *out, char error[WRANGLER_ERROR])
{
	bool toml = ends_with(path, ".toml");
	char *text = NULL;
	size_t len = 0;

	if (!toml && !ends_with(path, ".json") && !ends_with(path, ".jsonc")) {
		snprintf(error, WRANGLER_ERROR,
			"%.400s: its name must end in .toml, .json or .jsonc", path);
		return -EINVAL;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : read_all(fd, &text, &len);
	if (fd >= 0)
		close(fd);
	if (rc) {
		snprintf(error, WRANGLER_ERROR, "%.400s: %s", path, strerror(-rc));
		return rc;
	}
	rc = wrangler_parse(text, len, toml ? WRANGLER_TOML : WRANGLER_JSON, path, out, error);
	free(text);
	return rc;
}
