#include "fs/cli/cache_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "backends/base/clock.h"

/* One component: made, or found to be a folder of ours that nobody else can enter (`private`), or else
 * one in which nobody else can put another in its place. */
static int make_folder(const char *path, bool private, char *why, size_t why_cap)
{
	struct stat st;
	int rc;

	if (mkdir(path, 0700) && errno != EEXIST) {
		rc = -errno;
		snprintf(why, why_cap, "the cache folder %s cannot be made: %s", path,
			strerror(-rc));
		return rc;
	}
	rc = private ? lstat(path, &st) : stat(path, &st);
	if (rc)
		return -errno;
	bool theirs = st.st_uid != geteuid() && st.st_uid != 0;
	if (!private && (theirs || ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX)))) {
		snprintf(why, why_cap,
			"others can replace what is in the cache folder %s: chmod 700 it, or use "
			"another "
			"with -o cache=",
			path);
		return -EPERM;
	}
	if (!private)
		return 0;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077)) {
		snprintf(why, why_cap,
			"the cache folder %s is not a folder of yours alone: chmod 700 it, or use "
			"another with -o cache=",
			path);
		return -EPERM;
	}
	return 0;
}

/* The folder that the user's caches are in, and its parent, which is made too (XDG Base Directory
 * Specification). */
static char *base_folder(const char *given)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *parent = NULL, *path = NULL;

	if (given)
		return strdup(given);
	if (cache && *cache == '/')
		parent = strdup(cache);
	else if (asprintf(&parent, "%s/.cache", home && *home == '/' ? home : "/var") < 0)
		parent = NULL;
	if (!parent)
		return NULL;
	mkdir(parent, 0700);
	if (asprintf(&path, "%s/kvfs", parent) < 0)
		path = NULL;
	free(parent);
	return path;
}

static int lock_folder(const char *folder, bool all, int *lock, char *why, size_t why_cap)
{
	char *path;

	if (asprintf(&path, "%s/lock", folder) < 0)
		return -ENOMEM;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		int rc = -errno;

		snprintf(why, why_cap, "%s cannot be opened: %s", path, strerror(-rc));
		free(path);
		return rc;
	}
	free(path);
	if (flock(fd, (all ? LOCK_EX : LOCK_SH) | LOCK_NB)) {
		close(fd);
		snprintf(why, why_cap, "%s",
			all ? "one of its namespaces is mounted by itself already: unmount that, "
			      "or "
			      "use another cache with -o cache="
			    : "all its namespaces are mounted together already: unmount that, or "
			      "use "
			      "another cache with -o cache=");
		return -EBUSY;
	}
	*lock = fd;
	return 0;
}

int cache_folder_open(const char *base, const char *endpoint, const char *account, bool all,
	char **folder, int *lock, char *why, size_t why_cap)
{
	char *top = base_folder(base), *kind = NULL, *own = NULL;
	char tail[32] = "";
	int rc = -ENOMEM;

	if (!top)
		return rc;
	if (strchr(account, '/') || *account == '.') {
		snprintf(why, why_cap, "%s is no account's id", account);
		free(top);
		return -EINVAL;
	}
	if (endpoint)
		snprintf(tail, sizeof(tail), "%s%016llx", *account ? "@" : "",
			(unsigned long long)XXH3_64bits(endpoint, strlen(endpoint)));
	if (asprintf(&kind, "%s/cloudflare", top) < 0)
		kind = NULL;
	if (kind && asprintf(&own, "%s/%s%s", kind, account, tail) < 0)
		own = NULL;
	if (own) {
		rc = make_folder(top, false, why, why_cap);
		if (!rc)
			rc = make_folder(kind, true, why, why_cap);
		if (!rc)
			rc = make_folder(own, true, why, why_cap);
		if (!rc)
			rc = lock_folder(own, all, lock, why, why_cap);
	}
	free(top);
	free(kind);
	if (rc)
		free(own);
	else
		*folder = own;
	return rc;
}

/* Each has a file of its own, named by its hash; in it are lines: when, the id, `what`, the title. */
static char *note_path(const char *folder, const char *what)
{
	char *path;

	if (asprintf(&path, "%s/title-%016llx", folder,
		    (unsigned long long)XXH3_64bits(what, strlen(what))) < 0)
		return NULL;
	return path;
}

void cache_folder_note(const char *folder, const char *what, const char *id, const char *title)
{
	char *path = note_path(folder, what), *new = NULL;
	FILE *f = NULL;
	int fd = -1;

	if (path && asprintf(&new, "%s.new", path) < 0)
		new = NULL;
	if (new)
		fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		f = fdopen(fd, "w");
	if (f) {
		fprintf(f, "%lld\n%s\n%s\n%s\n", (long long)clock_now(), id, what, title);
		if (fclose(f) == 0)
			rename(new, path);
	} else if (fd >= 0) {
		close(fd);
	}
	free(new);
	free(path);
}

static bool get_line(FILE *f, char *line, size_t cap)
{
	if (!fgets(line, (int)cap, f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

int cache_folder_recall(const char *folder, const char *what, int64_t max_age, char *id,
	size_t id_cap, char *title, size_t title_cap)
{
	char *path = note_path(folder, what), line[1024];
	long long when = 0;
	int rc = -ENOENT;
	FILE *f = path ? fopen(path, "re") : NULL;

	free(path);
	if (!f)
		return rc;
	if (get_line(f, line, sizeof(line)))
		when = atoll(line);
	int64_t now = clock_now();
	if (when > 0 && when <= now && now - when <= max_age && get_line(f, id, id_cap) && *id &&
		get_line(f, line, sizeof(line)) && strcmp(line, what) == 0)
		rc = 0;
	if (rc || !get_line(f, title, title_cap))
		*title = '\0';
	fclose(f);
	return rc;
}
