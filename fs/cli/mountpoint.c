#include "fs/cli/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/cli/connection.h"
#include "fs/fuse/status.h"

enum { STATUS_MAX = 64 * 1024, ASK_SECONDS = 60 };

char *mountpoint_resolve(const char *path)
{
	char *resolved = realpath(path, NULL), *full = NULL;

	if (resolved ||
		(errno != ENOTCONN && errno != ECONNABORTED && errno != EACCES && errno != EIO))
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

/* --- the table of mounts ------------------------------------------------------------------------
 */

/* A line of it. */
struct table_line {
	char *source, *dir, *type, *options;
};

/* Undoes the kernel's octal escapes, in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* Calls `fn` with each mount in the order of mounting. (Not getmntent(3): it leaves '#' escaped, and
 * cuts long lines.) */
static void each_line(void (*fn)(void *arg, const struct table_line *e), void *arg)
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char *line = NULL;
	size_t cap = 0;

	while (mounts && getline(&line, &cap, mounts) > 0) {
		char *rest = line;
		struct table_line e = {.source = strsep(&rest, " "),
			.dir = strsep(&rest, " "),
			.type = strsep(&rest, " "),
			.options = strsep(&rest, " ")};

		if (!e.options)
			continue;
		unescape(e.source);
		unescape(e.dir);
		fn(arg, &e);
	}
	free(line);
	if (mounts)
		fclose(mounts);
}

/* The uppermost mount on a directory. */
struct uppermost {
	const char *dir;
	bool is_kvfs;
	unsigned uid, gid; /* who mounted it, as far as it is FUSE */
};

static void note_uppermost(void *arg, const struct table_line *e)
{
	struct uppermost *u = arg;

	if (strcmp(e->dir, u->dir) != 0) /* a later one lies over an earlier one */
		return;
	u->is_kvfs = strcmp(e->type, "fuse.kvfs") == 0;
	u->uid = u->gid = 0;
	const char *uid = strstr(e->options, ",user_id="), *gid = strstr(e->options, ",group_id=");
	if (uid && gid) {
		u->uid = (unsigned)strtoul(uid + 9, NULL, 10);
		u->gid = (unsigned)strtoul(gid + 10, NULL, 10);
	}
}

bool mountpoint_is_kvfs(const char *resolved)
{
	struct uppermost u = {.dir = resolved};

	each_line(note_uppermost, &u);
	return u.is_kvfs;
}

int mountpoint_number(const char *resolved)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	int number = -1;
	size_t cap = 0;

	while (mounts && getline(&line, &cap, mounts) > 0) {
		char *rest = line, *type = strstr(line, " - "), *device, *dir;

		strsep(&rest, " ");
		strsep(&rest, " ");
		device = strsep(&rest, " ");
		strsep(&rest, " ");
		dir = strsep(&rest, " ");
		if (!rest || !type)
			continue;
		unescape(dir);
		if (strcmp(dir, resolved) != 0) /* a later one lies over an earlier one */
			continue;
		number = strncmp(type, " - fuse.kvfs ", 13) == 0 && strncmp(device, "0:", 2) == 0
			? atoi(device + 2)
			: -1;
	}
	free(line);
	if (mounts)
		fclose(mounts);
	return number;
}

struct search {
	bool (*is)(void *arg, const char *source);
	void *arg;
	char *found;
};

static void note_found(void *arg, const struct table_line *e)
{
	struct search *s = arg;
	bool readonly = strncmp(e->options, "ro", 2) == 0 &&
		(e->options[2] == ',' || e->options[2] == '\0');

	if (!s->found && !readonly && strcmp(e->type, "fuse.kvfs") == 0 &&
		s->is(s->arg, e->source) && !mountpoint_is_stale(e->dir))
		s->found = strdup(e->dir);
}

char *mountpoint_find(bool (*is)(void *arg, const char *source), void *arg)
{
	struct search s = {.is = is, .arg = arg};

	each_line(note_found, &s);
	return s.found;
}

/* --- asking the daemon --------------------------------------------------------------------------
 */

/* What is asked: writes an answer to `out`. 0 or -errno. */
typedef int ask_fn(const char *resolved, const char *what, int out);

static int ask_status(const char *resolved, const char *what, int out)
{
	char text[STATUS_MAX];
	ssize_t n = getxattr(resolved, STATUS_XATTR, text, sizeof(text));

	if (n < 0)
		return -errno;
	return write(out, text, (size_t)n) == n ? 0 : -EIO;
}

/* fsync of the mount's root waits for the whole mount. */
static int ask_sync(const char *resolved, const char *what, int out)
{
	int fd = open(resolved, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

static int read_all(int fd, char *buf, size_t cap)
{
	size_t used = 0;
	ssize_t n;

	while (used < cap && (n = read(fd, buf + used, cap - used)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	return (int)used;
}

/* Asks in a child that is the user who mounted: without allow_other nobody else is answered, not even
 * root. The length of the answer, or -errno. */
static int ask_as_owner(ask_fn *ask, const char *resolved, const char *what, char *buf, size_t cap)
{
	struct uppermost u = {.dir = resolved};
	int ends[2], status;

	each_line(note_uppermost, &u);
	if (geteuid() != 0 || (!u.uid && !u.gid))
		return -EACCES;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) || setresgid(u.gid, u.gid, u.gid) ||
			setresuid(u.uid, u.uid, u.uid))
			_exit(EACCES);
		alarm(ASK_SECONDS); /* the daemon is somebody else's: it may never answer */
		_exit(-ask(resolved, what, ends[1]));
	}
	close(ends[1]);
	int n = read_all(ends[0], buf, cap);
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	if (!WIFEXITED(status))
		return WTERMSIG(status) == SIGALRM ? -ETIMEDOUT : -ECHILD;
	return WEXITSTATUS(status) ? -WEXITSTATUS(status) : n;
}

char *mountpoint_status(const char *resolved)
{
	char *text = malloc(STATUS_MAX + 1);

	if (!text)
		return NULL;
	ssize_t n = getxattr(resolved, STATUS_XATTR, text, STATUS_MAX);
	if (n < 0)
		n = errno == EACCES ? ask_as_owner(ask_status, resolved, NULL, text, STATUS_MAX)
				    : -errno;
	if (n < 0) {
		free(text);
		errno = (int)-n;
		return NULL;
	}
	text[n] = '\0';
	return text;
}

int mountpoint_sync(const char *resolved)
{
	int rc = ask_sync(resolved, NULL, -1);

	return rc == -EACCES ? ask_as_owner(ask_sync, resolved, NULL, NULL, 0) : rc;
}

static int ask_control(const char *path, const char *what, int out)
{
	char nothing[1];
	bool refresh = strcmp(what, "refresh") == 0;
	ssize_t rc = refresh ? lgetxattr(path, REFRESH_XATTR, nothing, sizeof(nothing))
			     : lsetxattr(path, CONTROL_XATTR, what, strlen(what), 0);

	return rc < 0 ? -errno : 0;
}

int mountpoint_control(const char *path, const char *what)
{
	int rc = ask_control(path, what, -1);

	return rc == -EACCES ? ask_as_owner(ask_control, path, what, NULL, 0) : rc;
}

bool mountpoint_is_stale(const char *resolved)
{
	connection_end_dying(resolved);
	/* The kernel may still know attributes of the root; this it has to ask for. A question that
	 * the daemon died over is aborted. */
	char *status = mountpoint_status(resolved);

	if (!status)
		return errno == ENOTCONN || errno == ECONNABORTED;
	free(status);
	return false;
}

int mountpoint_daemon(const char *resolved)
{
	char *text = mountpoint_status(resolved), pid[32];
	int fd = -1;

	if (text && status_value(text, "pid", 0, pid, sizeof(pid)))
		fd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	free(text);
	return fd;
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

/* --- taking a mount away ------------------------------------------------------------------------
 */

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

struct inner {
	const char *dir;
	char *found;
};

static void note_inner(void *arg, const struct table_line *l)
{
	struct inner *i = arg;

	if (!i->found && is_below(l->dir, i->dir) && strcmp(l->dir, i->dir) != 0)
		i->found = strdup(l->dir);
}

/* Whether a process has a file or its working directory there, as far as we may look. */
static bool is_user(pid_t pid, const char *dir)
{
	char path[64], target[PATH_MAX];
	const struct dirent *e;
	bool is = false;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *fds = opendir(path);
	while (fds && !is && (e = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), e->d_name[0] == '.' ? "../cwd" : e->d_name,
			target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		is = is_below(target, dir);
	}
	if (fds)
		closedir(fds);
	return is;
}

/* Says what keeps a mount. */
static void explain_busy(const char *resolved, char *why, size_t why_cap)
{
	struct inner inner = {.dir = resolved};
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	pid_t user = 0;

	each_line(note_inner, &inner);
	while (proc && !inner.found && !user && (e = readdir(proc))) {
		pid_t pid = (pid_t)atoi(e->d_name);

		if (pid > 0 && is_user(pid, resolved))
			user = pid;
	}
	if (inner.found)
		snprintf(why, why_cap, "it is in use: unmount %s in it first", inner.found);
	else if (user)
		snprintf(why, why_cap,
			"it is in use by process %d, and maybe others: close what is "
			"open in it",
			(int)user);
	else
		snprintf(why, why_cap,
			"it is in use: close what is open in it, and unmount what is mounted in "
			"it");
	if (proc)
		closedir(proc);
	free(inner.found);
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
	struct uppermost u = {.dir = path};
	each_line(note_uppermost, &u);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		snprintf(why, why_cap, "fusermount3 is missing: install the package fuse3");
	else if (u.uid != getuid())
		snprintf(why, why_cap, "it is another user's mount");
	else if (!used)
		explain_busy(path, why, why_cap);
	return -EBUSY;
}

int mountpoint_unmount(const char *resolved, bool lazy, char *why, size_t why_cap)
{
	if (geteuid() != 0)
		return run_fusermount(resolved, lazy, why, why_cap);
	if (umount2(resolved, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	int rc = -errno;
	snprintf(why, why_cap, "%s", strerror(-rc));
	if (rc == -EBUSY)
		explain_busy(resolved, why, why_cap);
	return rc;
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
