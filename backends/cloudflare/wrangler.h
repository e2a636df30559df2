/*
 * wrangler.h - which namespaces a project's configuration names: wrangler.toml, wrangler.json or
 * wrangler.jsonc.
 *
 *     account_id = "0123..."
 *     [[kv_namespaces]]
 *     binding = "SESSIONS"
 *     id = "0f2a..."
 *     preview_id = "1f2a..."
 *
 * and the same below [env.NAME], where kv_namespaces stand for themselves (an environment does not
 * inherit them) and account_id, where it is missing, is that of the top.
 *
 * wrangler_parse() is pure. Everything else in the file is passed over, but must be well-formed.
 */
#ifndef KVFS_CLOUDFLARE_WRANGLER_H
#define KVFS_CLOUDFLARE_WRANGLER_H

#include <stddef.h>

enum {
	WRANGLER_SIZE_MAX = 1024 * 1024,
	WRANGLER_BINDINGS_MAX = 1000,
	WRANGLER_ENVS_MAX = 1000,
	WRANGLER_ERROR = 512
};

enum wrangler_form { WRANGLER_TOML, WRANGLER_JSON };

struct wrangler_binding {
	char *env; /* NULL: the top of the file */
	char *binding;
	char *id; /* NULL: it has none yet */
	char *preview_id; /* or NULL */
	size_t line;
};

struct wrangler_env {
	char *name; /* NULL: the top of the file */
	char *account_id; /* NULL: none of its own */
};

struct wrangler {
	struct wrangler_binding *bindings; /* in the file's order; no binding twice in one env */
	size_t n;
	struct wrangler_env *envs; /* the first is the top of the file */
	size_t n_envs;
};

/* 0; -EINVAL with "FILE:LINE: what is wrong" in `error`; -ENOMEM. `file` is for the message. */
int wrangler_parse(const char *text, size_t len, enum wrangler_form form, const char *file,
	struct wrangler *out, char error[WRANGLER_ERROR]);

/* Reads and parses a file, whose name tells its form (.toml, .json, .jsonc). As above, and -errno of
 * reading, -EFBIG, with "FILE: what is wrong". */
int wrangler_read(const char *path, struct wrangler *out, char error[WRANGLER_ERROR]);

void wrangler_release(struct wrangler *w); /* all zero afterwards */

/* The account of an environment (NULL: the top), or NULL. */
const char *wrangler_account(const struct wrangler *w, const char *env);

#endif
