#include "fs/cli/source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/lmdb/lmdb.h"
#include "fs/cli/mountpoint.h"
#include "fs/core/names.h"

enum { HOLDER_MS = 10000, HOLDER_STEP_MS = 50 };

static char *absolute(const char *path)
{
	char *cwd, *full = NULL;

	if (*path == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (cwd && asprintf(&full, "%s/%s", cwd, path) < 0)
		full = NULL;
	free(cwd);
	return full;
}

/* Where the name of the namespace begins. Folders and namespaces may have '#' in their names, but no
 * name of a namespace has a '/': the first '#' counts before which there is a folder; the first at all
 * where the environment is yet to be made. NULL: none is named. */
static char *find_hash(char *path)
{
	char *slash = strrchr(path, '/'), *first = strchr(slash ? slash : path, '#');
	struct stat st;

	for (char *hash = first; hash; hash = strchr(hash + 1, '#')) {
		*hash = '\0';
		bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
		*hash = '#';
		if (is_folder)
			return hash;
	}
	return first;
}

static int parse_namespace(struct source *s, const char *name, char *why, size_t why_cap)
{
	size_t len = strlen(name);

	if (len > NAMES_NAME_MAX && len <= NAMES_NS_MAX) { /* no directory could be called so */
		memcpy(s->ns, name, len);
		s->ns_len = len;
	} else if (names_ns_decode(name, len, s->ns, &s->ns_len)) {
		snprintf(why, why_cap, "%s is no name of a namespace",
			*name ? name : "nothing after '#'");
		return -EINVAL;
	}
	s->has_namespace = true;
	return 0;
}

int source_parse(struct source *s, const char *text, char *why, size_t why_cap)
{
	static const char scheme[] = "lmdb:";
	int rc = remote_source_parse(text, &s->remote, why, why_cap);

	if (rc || s->remote) {
		s->text = strdup(text);
		return rc ? rc : s->text ? 0 : -ENOMEM;
	}
	rc = -ENOMEM;
	size_t letters = strspn(text, "abcdefghijklmnopqrstuvwxyz");
	if (letters && text[letters] == ':' && strncmp(text, scheme, sizeof(scheme) - 1) != 0) {
		snprintf(why, why_cap,
			"no kind of source is called so: lmdb:DIR, cloudflare:ACCOUNT_ID, "
			"wrangler:FILE, or ./%s for a folder",
			text);
		return -EINVAL;
	}
	size_t skip = strncmp(text, scheme, sizeof(scheme) - 1) == 0 ? sizeof(scheme) - 1 : 0;
	char *path = strndup(text + skip, strlen(text) - skip);
	if (!path)
		goto out;
	char *hash = find_hash(path);
	if (hash)
		*hash = '\0';
	if (!*path) {
		snprintf(why, why_cap, "it names no folder: lmdb:DIR, lmdb:DIR#NAMESPACE");
		rc = -EINVAL;
		goto out;
	}
	rc = hash ? parse_namespace(s, hash + 1, why, why_cap) : 0;
	if (rc)
		goto out;
	s->dir = absolute(path);
	/* In the table of mounts it is to mean the same for everybody. */
	if (!s->dir ||
		asprintf(&s->text, "%s%s%s%s", scheme, s->dir, hash ? "#" : "",
			hash ? hash + 1 : "") < 0) {
		s->text = NULL;
		rc = -ENOMEM;
	}
out:
	if (rc == -ENOMEM)
		snprintf(why, why_cap, "out of memory");
	free(path);
	return rc;
}

void source_release(struct source *s)
{
	free(s->text);
	free(s->dir);
	remote_source_free(s->remote);
}

static int open_namespace(
	const struct source *s, struct store *st, uint32_t *ns, char *why, size_t why_cap)
{
	int rc = st->ops->ns_find(st, s->ns, s->ns_len, ns);

	if (rc == -ENOENT && !st->readonly)
		rc = st->ops->ns_create(st, s->ns, s->ns_len, NULL, ns);
	if (rc == -ENOENT)
		snprintf(why, why_cap, "there is no such namespace, and ro does not make one");
	else if (rc == -EOPNOTSUPP)
		snprintf(why, why_cap,
			"this database is no plain key-value map (DUPSORT, INTEGERKEY or "
			"REVERSEKEY), so it cannot be mounted");
	else if (rc == -EEXIST)
		snprintf(why, why_cap,
			"this is the name of a record of the unnamed database, not of a "
			"namespace");
	else if (rc == -EPERM)
		snprintf(why, why_cap, "kvfs keeps its own records in the database of this name");
	else if (rc)
		snprintf(why, why_cap, "%s", strerror(-rc));
	return rc;
}

/* Whether a source, as the table of mounts has it, is the same environment. */
static bool is_same(void *arg, const char *text)
{
	const struct source *s = arg;
	struct source other = {0};
	struct stat a, b;
	char why[256];

	bool same = source_parse(&other, text, why, sizeof(why)) == 0 && other.dir &&
		(strcmp(s->dir, other.dir) == 0 ||
			(stat(s->dir, &a) == 0 && stat(other.dir, &b) == 0 &&
				a.st_dev == b.st_dev && a.st_ino == b.st_ino));
	source_release(&other);
	return same;
}

/* Waits a moment, or for a process to end. */
static void wait_for(pid_t pid)
{
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd p = {.fd = fd, .events = POLLIN}; /* -1: only the time counts */

	poll(&p, 1, HOLDER_STEP_MS);
	if (fd >= 0)
		close(fd);
}

/* Opens the environment. One who has it, but is mounted nowhere, stores its last changes, or has been
 * killed, or has just begun: wait for it. */
static int open_when_free(const struct source *s, const struct lmdb_options *opt, struct store **st,
	char *why, size_t why_cap)
{
	char *where = NULL;
	int rc = lmdb_store_open(opt, st, why, why_cap);
	pid_t holder = 0;

	for (int waited = 0; rc == -EBUSY && waited < HOLDER_MS; waited += HOLDER_STEP_MS) {
		holder = lmdb_holder(s->dir);
		where = mountpoint_find(is_same, (void *)(uintptr_t)s);
		if (where)
			break;
		wait_for(holder);
		rc = lmdb_store_open(opt, st, why, why_cap);
	}
	if (rc == -EBUSY && where)
		snprintf(why, why_cap,
			"another kvfs (process %d) writes to this environment, mounted at %s: "
			"umount "
			"that, or mount with -o ro; one mount without #NAMESPACE has all "
			"namespaces",
			(int)holder, where);
	else if (rc == -EBUSY)
		snprintf(why, why_cap,
			"another kvfs (process %d) has this environment, but is mounted nowhere "
			"here; "
			"when it has ended, try again",
			(int)holder);
	free(where);
	return rc;
}

int source_open(const struct source *s, const struct mount_options *o, struct store **out,
	uint32_t *ns, char *why, size_t why_cap)
{
	struct lmdb_options opt = {
		.dir = s->dir,
		.readonly = o->fs.readonly,
		.create = !o->fs.readonly,
		.commit_interval_ms = o->commit_interval_ms,
	};
	struct store *st;

	if (s->remote)
		return remote_source_open(s->remote, o, out, ns, why, why_cap);
	int rc = open_when_free(s, &opt, &st, why, why_cap);

	if (rc)
		return rc;
	if (s->has_namespace)
		rc = open_namespace(s, st, ns, why, why_cap);
	if (rc) {
		st->ops->close(st);
		return rc;
	}
	*out = st;
	return 0;
}
