#include "fs/cli/remote_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/cloudflare/remote.h"
#include "backends/cloudflare/wrangler.h"
#include "backends/lmdb/lmdb.h"
#include "backends/writeback/writeback.h"
#include "fs/cli/cache_folder.h"
#include "fs/core/names.h"

enum { TOKEN_MAX = 4096, BLOB_THRESHOLD = 1 << 20, BLOB_BUDGET = 64 << 20 };

/* Names that editors and rsync give to what is not to last. */
static const char LOCAL_DEFAULT[] = "*~ #*# .#* .*.sw? .*.sw?? *.swp *.swx 4913 sed?????? "
				    ".*.?????? .goutputstream-* *.kate-swp *.tmp-kvfs";

struct remote_source {
	bool wrangler;
	char *account;
	char *what; /* after '#': a namespace's title or id, or a binding; NULL: all */
	char *file;
	char *token;
	struct remote_ns *fixed; /* of a wrangler file */
	size_t fixed_n;
	struct wrangler config; /* owns what `fixed` points to */
	int lock; /* of the cache folder; -1: none */
};

static bool begins(const char *text, const char *with, const char **rest)
{
	size_t len = strlen(with);

	if (strncmp(text, with, len) != 0)
		return false;
	*rest = text + len;
	return true;
}

int remote_source_parse(const char *text, struct remote_source **out, char *why, size_t why_cap)
{
	const char *rest;
	bool wrangler = begins(text, "wrangler:", &rest);

	*out = NULL;
	if (!wrangler && !begins(text, "cloudflare:", &rest) && !begins(text, "cf:", &rest))
		return 0;
	struct remote_source *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->lock = -1;
	s->wrangler = wrangler;
	const char *hash = strchr(rest, '#');
	size_t len = hash ? (size_t)(hash - rest) : strlen(rest);
	char **to = wrangler ? &s->file : &s->account;
	*to = strndup(rest, len);
	if (hash)
		s->what = strdup(hash + 1);
	int rc = *to && (!hash || s->what) ? 0 : -ENOMEM;
	if (!rc && wrangler && !**to) {
		snprintf(why, why_cap, "it names no file: wrangler:FILE, wrangler:FILE#BINDING");
		rc = -EINVAL;
	} else if (!rc && hash && !*s->what) {
		snprintf(why, why_cap, "nothing after '#'");
		rc = -EINVAL;
	}
	if (rc) {
		remote_source_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

bool remote_source_is_wrangler(const struct remote_source *s)
{
	return s->wrangler;
}

void remote_source_free(struct remote_source *s)
{
	if (!s)
		return;
	if (s->token)
		explicit_bzero(s->token, strlen(s->token));
	if (s->lock >= 0)
		close(s->lock);
	free(s->token);
	free(s->account);
	free(s->what);
	free(s->file);
	free(s->fixed);
	wrangler_release(&s->config);
	free(s);
}

/* --- the token -------------------------------------------------------------------------------- */

static int read_token(const char *path, char **out, char *why, size_t why_cap)
{
	char text[TOKEN_MAX + 1];
	struct stat st;
	int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		snprintf(why, why_cap, "token_file %s: %s", path, strerror(-rc));
	} else if (!S_ISREG(st.st_mode)) {
		rc = -EINVAL;
		snprintf(why, why_cap, "token_file %s: it is no file", path);
	} else if (st.st_mode & 077) {
		rc = -EACCES;
		snprintf(why, why_cap, "token_file %s: others can read it: chmod 600 it", path);
	} else {
		n = read(fd, text, TOKEN_MAX);
		if (n < 0)
			rc = -errno;
	}
	if (fd >= 0)
		close(fd);
	if (rc)
		return rc;
	text[n] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	*out = strdup(text);
	explicit_bzero(text, sizeof(text));
	return *out ? 0 : -ENOMEM;
}

static int load_token(
	struct remote_source *s, const struct remote_options *o, char *why, size_t why_cap)
{
	char *env = getenv("CLOUDFLARE_API_TOKEN");

	if (o->token_file) {
		int rc = read_token(o->token_file, &s->token, why, why_cap);

		if (rc)
			return rc;
	} else if (env && *env) {
		s->token = strdup(env);
		if (!s->token)
			return -ENOMEM;
	}
	if (env) { /* /proc shows the environment that a process began with */
		explicit_bzero(env, strlen(env));
		unsetenv("CLOUDFLARE_API_TOKEN");
	}
	if (!s->token && !o->endpoint) {
		snprintf(why, why_cap,
			"no API token: set CLOUDFLARE_API_TOKEN, or -o token_file=FILE");
		return -EINVAL;
	}
	return 0;
}

/* --- wrangler's file -------------------------------------------------------------------------- */

static bool in_env(const struct wrangler_binding *b, const char *env)
{
	return env ? b->env && strcmp(b->env, env) == 0 : !b->env;
}

static int take_binding(struct remote_source *s, const struct wrangler_binding *b, bool preview,
	char *why, size_t why_cap)
{
	const char *id = preview && b->preview_id ? b->preview_id : b->id;

	if (!id || strlen(id) > REMOTE_ID_MAX) {
		snprintf(
			why, why_cap, "%s:%zu: binding %s has no id", s->file, b->line, b->binding);
		return -EINVAL;
	}
	struct remote_ns *ns = &s->fixed[s->fixed_n++];
	snprintf(ns->id, sizeof(ns->id), "%s", id);
	ns->title = b->binding;
	ns->title_len = strlen(b->binding);
	return 0;
}

static int load_wrangler(
	struct remote_source *s, const struct remote_options *o, char *why, size_t why_cap)
{
	char error[WRANGLER_ERROR];
	int rc = wrangler_read(s->file, &s->config, error);

	if (rc) {
		snprintf(why, why_cap, "%s", error);
		return rc;
	}
	const char *account = wrangler_account(&s->config, o->env);
	if (!account)
		account = getenv("CLOUDFLARE_ACCOUNT_ID");
	if (!account && !o->endpoint) {
		snprintf(why, why_cap, "%s has no account_id: add it, or set CLOUDFLARE_ACCOUNT_ID",
			s->file);
		return -EINVAL;
	}
	s->account = strdup(account ? account : "");
	s->fixed = calloc(s->config.n ? s->config.n : 1, sizeof(*s->fixed));
	if (!s->account || !s->fixed)
		return -ENOMEM;
	for (size_t i = 0; i < s->config.n && !rc; i++) {
		const struct wrangler_binding *b = &s->config.bindings[i];

		if (in_env(b, o->env) && (!s->what || strcmp(b->binding, s->what) == 0))
			rc = take_binding(s, b, o->preview, why, why_cap);
	}
	if (rc || s->fixed_n)
		return rc;
	if (s->what)
		snprintf(why, why_cap, "%s binds no KV namespace as %s%s%s", s->file, s->what,
			o->env ? " in env." : "", o->env ? o->env : "");
	else
		snprintf(why, why_cap, "%s binds no KV namespace%s%s", s->file,
			o->env ? " in env." : "", o->env ? o->env : "");
	return -ENODEV;
}

int remote_source_load(
	struct remote_source *s, const struct remote_options *o, char *why, size_t why_cap)
{
	int rc = load_token(s, o, why, why_cap);

	if (rc)
		return rc;
	if (s->wrangler)
		return load_wrangler(s, o, why, why_cap);
	if (!*s->account && !o->endpoint) {
		const char *account = getenv("CLOUDFLARE_ACCOUNT_ID");

		free(s->account);
		s->account = strdup(account ? account : "");
		if (!s->account)
			return -ENOMEM;
		if (!*s->account) {
			snprintf(why, why_cap,
				"it names no account: cloudflare:ACCOUNT_ID[#NAMESPACE]");
			return -EINVAL;
		}
	}
	return 0;
}

/* --- the namespace ---------------------------------------------------------------------------- */

static bool is_title(const struct client_ns *ns, const unsigned char *title, size_t len)
{
	return ns->title_len == len && memcmp(ns->title, title, len) == 0;
}

/* The one namespace that is mounted. */
struct chosen {
	char id[REMOTE_ID_MAX + 1];
	char title[NAMES_NAME_MAX + 1]; /* as written; "": not known */
};

static void take(struct chosen *out, const struct client_ns *ns)
{
	snprintf(out->id, sizeof(out->id), "%s", ns->id);
	if (names_ns_encode(ns->title, ns->title_len, out->title) || strchr(out->title, '\n'))
		*out->title = '\0';
}

/* Finds the namespace of a title or id in the list. */
static int choose(const struct client_ns *list, size_t n, const char *what, struct chosen *out,
	char *why, size_t why_cap)
{
	unsigned char title[NAMES_NS_MAX];
	size_t len = 0, found = 0, used = 0;
	bool named = names_ns_decode(what, strlen(what), title, &len) == 0;
	char ids[256] = "";

	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].id, what) == 0) {
			take(out, &list[i]);
			return 0;
		}
		if (!named || !is_title(&list[i], title, len))
			continue;
		take(out, &list[i]);
		int more = snprintf(
			ids + used, sizeof(ids) - used, "%s%s", found ? ", " : "", list[i].id);
		used += more > 0 && (size_t)more < sizeof(ids) - used ? (size_t)more : 0;
		found++;
	}
	if (found == 1)
		return 0;
	if (found)
		snprintf(why, why_cap, "several namespaces have this title; name one by its id: %s",
			ids);
	else
		snprintf(why, why_cap, "the account has no namespace of this title or id");
	return found ? -EINVAL : -ENODEV;
}

static bool recall(const char *folder, const char *what, int64_t max_age, struct chosen *out)
{
	return cache_folder_recall(folder, what, max_age, out->id, sizeof(out->id), out->title,
		       sizeof(out->title)) == 0;
}

/* Writes why the namespaces cannot be listed. */
static void say_why(int rc, struct client *c, char *why, size_t why_cap)
{
	static const char before[] = "cloudflare: ";
	const char *said = NULL, *words;
	struct client_stats stats;

	switch (-rc) {
	case EACCES:
		said = "the token is refused: is it one for this account, with Workers KV Storage "
		       "permission?";
		break;
	case ENODEV:
		said = "there is no such account or namespace";
		break;
	case ETIMEDOUT:
		said = "nobody answers, and nothing of it is cached yet";
		break;
	default:
		/* Such as a certificate that does not verify. */
		client_stats(c, &stats);
		words = stats.last_error;
		if (strncmp(words, before, sizeof(before) - 1) == 0)
			words += sizeof(before) - 1;
		said = *words ? words : strerror(-rc);
	}
	snprintf(why, why_cap, "%s", said);
}

/* The namespace to show: as the server says, or, where it does not answer, as it said last. */
static int find_namespace(struct remote_source *s, struct client *c, const char *folder,
	int64_t max_age, struct chosen *out, char *why, size_t why_cap)
{
	struct client_ns *list;
	size_t n;

	if (s->wrangler) {
		snprintf(out->id, sizeof(out->id), "%s", s->fixed[0].id);
		if (names_ns_encode(s->what, strlen(s->what), out->title))
			*out->title = '\0';
		return 0;
	}
	if (recall(folder, s->what, max_age, out))
		return 0;
	int rc = client_ns_list(c, CLIENT_INTERACTIVE, &list, &n);
	if (rc) {
		if (rc == -ETIMEDOUT && recall(folder, s->what, INT64_MAX, out))
			return 0;
		say_why(rc, c, why, why_cap);
		return rc;
	}
	rc = choose(list, n, s->what, out, why, why_cap);
	free(list);
	if (!rc)
		cache_folder_note(folder, s->what, out->id, out->title);
	return rc;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* A clock that a test sets: the client waits in its time. */
static int64_t test_now(void *arg)
{
	return clock_now();
}

static void test_wait(
	void *arg, pthread_cond_t *cond, struct lock *lock, int64_t deadline, bool under_way)
{
	enum { STEP_MS = 20 };
	struct timespec until;

	/* The client's condition variables follow this clock; by another they would wait for ever. */
	clock_gettime(CLOCK_MONOTONIC, &until);
	until = clock_timespec(clock_ns(until) + STEP_MS * 1000000LL);
	lock_wait_until(lock, cond, &until);
}

static const struct client_clock test_clock = {.now = test_now, .wait = test_wait};

/* The authorities that curl(1) would trust. NULL: the system's. */
static const char *ca_file(void)
{
	const char *file = getenv("CURL_CA_BUNDLE");

	if (!file || !*file)
		file = getenv("SSL_CERT_FILE");
	return file && *file ? file : NULL;
}

static int open_client(struct remote_source *s, const struct remote_options *o,
	struct blob_pool *blobs, struct client **out, char *why, size_t why_cap)
{
	struct client_config config = {
		.endpoint = o->endpoint,
		.account = *s->account ? s->account : NULL,
		.token = s->token,
		.timeout = o->timeout,
		.blobs = blobs,
		.clock = clock_is_set_by_test() ? &test_clock : NULL,
		.ca_file = ca_file(),
	};
	int rc = client_open(&config, out);

	if (s->token) {
		explicit_bzero(s->token, strlen(s->token));
		free(s->token);
		s->token = NULL;
	}
	if (rc)
		snprintf(why, why_cap, "%s",
			rc == -EINVAL
				? "the endpoint, the account or the token is malformed, or the "
				  "endpoint is plain http elsewhere than on this machine"
				: strerror(-rc));
	return rc;
}

static struct writeback_options writeback_options(
	const struct remote_source *s, const struct mount_options *o)
{
	return (struct writeback_options){
		.separator = o->fs.separator,
		.readonly = o->fs.readonly,
		.uid = o->fs.uid,
		.gid = o->fs.gid,
		.umask = o->fs.umask,
		.max_age = o->remote.max_age,
		.upload_delay = o->remote.upload_delay,
		.sync_remote = o->remote.fsync_remote,
		.keep_conflicts = o->remote.keep_conflicts,
		.cache_size = o->remote.cache_size,
		.local_globs = o->remote.local ? o->remote.local : LOCAL_DEFAULT,
		.fixed = s->what ? NULL : s->fixed,
		.fixed_n = s->what ? 0 : s->fixed_n,
	};
}

static int open_local(const char *folder, const char *name, const struct mount_options *o,
	struct store **out, char *why, size_t why_cap)
{
	char *dir, reason[400] = "";

	if (asprintf(&dir, "%s/%s", folder, name) < 0)
		return -ENOMEM;
	struct lmdb_options lmdb = {
		.dir = dir, .create = true, .commit_interval_ms = o->commit_interval_ms};
	int rc = lmdb_store_open(&lmdb, out, reason, sizeof(reason));
	/* Only a person can say that what may wait in there to be uploaded is given up. */
	if (rc)
		snprintf(why, why_cap, "its cache %s: %s%s", dir,
			rc == -EBUSY ? "it is mounted by another kvfs already" : reason,
			rc == -EINVAL
				? ". Move it away to begin with an empty one: what has not been "
				  "uploaded is in it alone"
				: "");
	free(dir);
	return rc;
}

int remote_source_open(struct remote_source *s, const struct mount_options *o, struct store **out,
	uint32_t *ns, char *why, size_t why_cap)
{
	unsigned char title[NAMES_NS_MAX];
	struct chosen chosen = {0};
	char *folder = NULL;
	struct blob_pool *blobs = NULL;
	struct client *c = NULL;
	struct store *local;
	int rc = cache_folder_open(o->remote.cache, o->remote.endpoint, s->account, s->what == NULL,
		&folder, &s->lock, why, why_cap);

	if (rc)
		return rc;
	/* The local store's own pool is there only once the namespace, and so its folder, is known. */
	blobs = blob_pool_new(folder, BLOB_THRESHOLD, BLOB_BUDGET);
	rc = blobs ? open_client(s, &o->remote, blobs, &c, why, why_cap) : -ENOMEM;
	if (!rc && s->what)
		rc = find_namespace(s, c, folder, o->remote.max_age, &chosen, why, why_cap);
	if (!rc)
		rc = open_local(folder,
			s->what               ? chosen.id
				: s->wrangler ? "bindings"
					      : "all",
			o, &local, why, why_cap);
	free(folder);
	struct remote *remote = rc ? NULL : cloudflare_remote_new(c);
	if (!rc && !remote) {
		local->ops->close(local);
		rc = -ENOMEM;
	}
	if (rc) {
		client_close(c);
		blob_pool_free(blobs);
		return rc;
	}
	struct writeback_options w = writeback_options(s, o);
	w.client_blobs = blobs;
	w.title = title;
	if (names_ns_decode(chosen.title, strlen(chosen.title), title, &w.title_len))
		w.title_len = 0;
	return writeback_open(local, remote, &w, s->what ? chosen.id : NULL, out, ns, why, why_cap);
}
