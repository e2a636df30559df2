#include "fs/cli/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/fuse/status.h"

enum { STATUS_MAX = 64 * 1024 };

char *mountpoint_resolve(const char *path)
{
	char *resolved = realpath(path, NULL), *full = NULL;

	if (resolved || (errno != ENOTCONN && errno != EACCES && errno != EIO))
		return resolved;
	/* The last component cannot be looked into: resolve what is above it. */
	char *a = strdup(path), *b = strdup(path);
	if (a && b) {
		char *parent = realpath(dirname(a), NULL);
		const char *name = basename(b);

		if (parent &&
			asprintf(&full, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
			full = NULL;
		free(parent);
	}
	free(a);
	free(b);
	return full;
}

bool mountpoint_is_kvfs(const char *resolved)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *m;
	bool is = false;

	if (!mounts)
		return false;
	while ((m = getmntent(mounts))) {
		if (strcmp(m->mnt_dir, resolved) == 0) /* a later one lies over an earlier one */
			is = strcmp(m->mnt_type, "fuse.kvfs") == 0;
	}
	endmntent(mounts);
	return is;
}

bool mountpoint_is_stale(const char *resolved)
{
	/* The kernel may still know attributes of the root; this it has to ask for. */
	return getxattr(resolved, STATUS_XATTR, NULL, 0) < 0 && errno == ENOTCONN;
}

bool directory_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool empty = true;

	if (!dir)
		return true; /* what cannot be seen cannot be missed */
	while (empty && (e = readdir(dir)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(dir);
	return empty;
}

bool file_has_line(const char *path, const char *line)
{
	FILE *f = fopen(path, "r");
	char buf[512];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(buf, sizeof(buf), f)) {
		buf[strcspn(buf, " \t\r\n")] = '\0';
		found = strcmp(buf, line) == 0;
	}
	fclose(f);
	return found;
}

/* Runs fusermount3; its words become `why`. */
static int run_fusermount(const char *path, bool lazy, char *why, size_t why_cap)
{
	int out[2], status;
	size_t used = 0;
	ssize_t n;

	if (pipe2(out, 0)) {
		snprintf(why, why_cap, "%s", strerror(errno));
		return -EBUSY;
	}
	pid_t pid = fork();
	if (pid == 0) {
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		execlp("fusermount3", "fusermount3", "-u", lazy ? "-z" : "-q", "--", path,
			(char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while (used + 1 < why_cap && (n = read(out[0], why + used, why_cap - used - 1)) > 0)
		used += (size_t)n;
	close(out[0]);
	why[used] = '\0';
	why[strcspn(why, "\n")] = '\0';
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (!used)
		snprintf(why, why_cap,
			WIFEXITED(status) && WEXITSTATUS(status) == 127
				? "fusermount3 is missing: install the package fuse3"
				: "it is in use, or not yours");
	return -EBUSY;
}

int mountpoint_unmount(const char *resolved, bool lazy, char *why, size_t why_cap)
{
	if (geteuid() != 0)
		return run_fusermount(resolved, lazy, why, why_cap);
	if (umount2(resolved, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	int rc = -errno;
	snprintf(why, why_cap, "%s",
		rc == -EBUSY ? "it is in use: close what is open in it" : strerror(-rc));
	return rc;
}

char *mountpoint_status(const char *resolved)
{
	char *text = malloc(STATUS_MAX + 1);

	if (!text)
		return NULL;
	ssize_t n = getxattr(resolved, STATUS_XATTR, text, STATUS_MAX);
	if (n < 0) {
		int error = errno;
		free(text);
		errno = error;
		return NULL;
	}
	text[n] = '\0';
	return text;
}

bool status_value(const char *status, const char *name, unsigned skip, char *buf, size_t cap)
{
	size_t len = strlen(name);

	for (const char *line = status; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, name, len) == 0 && line[len] == '=' && skip-- == 0) {
			snprintf(buf, cap, "%.*s", (int)strcspn(line + len + 1, "\n"),
				line + len + 1);
			return true;
		}
	}
	return false;
}
