#include "tests/model/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { END_LIMIT_MS = 60 * 1000 };

/* Runs a command to its end. 0, or -EIO. */
static int run(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EIO;
	return status ? -EIO : 0;
}

/* The daemon's number, which its mount tells. 0: no such mount. */
static pid_t daemon_of(const char *mountpoint)
{
	char text[65536];
	ssize_t n = getxattr(mountpoint, "kvfs.status", text, sizeof(text) - 1);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *pid = strstr(text, "\npid=");
	return pid ? atoi(pid + 5) : 0;
}

static int mount_kvfs(struct trees *t)
{
	char options[PATH_MAX], source[PATH_MAX];
	const char *const argv[] = {t->opt.kvfs, "mount", "-o", options, source, t->kvfs, NULL};

	if (!t->opt.kvfs)
		return 0;
	snprintf(options, sizeof(options), "log=%s/log%s%s", t->folder, t->opt.options ? "," : "",
		t->opt.options ? t->opt.options : "");
	snprintf(source, sizeof(source), "lmdb:%s/env#main", t->folder);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	int rc = run(argv);
	if (rc)
		return rc;
	t->daemon = daemon_of(t->kvfs);
	return t->daemon ? 0 : -EIO;
}

/* The daemon is our child, since who started it is gone. */
static int wait_for_daemon(struct trees *t)
{
	int fd = (int)syscall(SYS_pidfd_open, t->daemon, 0), status = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int rc = fd < 0 || poll(&p, 1, END_LIMIT_MS) == 1 ? 0 : -ETIMEDOUT;

	if (fd >= 0)
		close(fd);
	if (!rc && (waitpid(t->daemon, &status, 0) != t->daemon || status)) {
		fprintf(stderr, "model: the daemon ended with status 0x%x; its log: %s/log\n",
			(unsigned)status, t->folder);
		rc = -EIO;
	}
	if (rc != -ETIMEDOUT)
		t->daemon = 0;
	return rc;
}

static int umount_kvfs(struct trees *t)
{
	const char *const argv[] = {t->opt.kvfs, "umount", t->kvfs, NULL};

	if (!t->daemon)
		return 0;
	int rc = run(argv);
	return rc ? rc : wait_for_daemon(t);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	/* Removing needs permissions that a run may have taken away; FTW_DEPTH comes too late. */
	return remove(path) && errno != ENOENT ? -1 : 0;
}

static int open_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_D || type == FTW_DNR)
		chmod(path, 0700);
	return 0;
}

static void remove_folder(const char *folder)
{
	nftw(folder, open_up, 16, FTW_PHYS);
	nftw(folder, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

int trees_make(struct trees *t, const struct mount_options *opt)
{
	char parent[2][PATH_MAX + 8];

	memset(t, 0, sizeof(*t));
	t->opt = *opt;
	snprintf(t->folder, sizeof(t->folder), "%s/model-XXXXXX", opt->dir);
	if (!mkdtemp(t->folder))
		return -errno;
	/* Each in a folder of its own: what leaves a tree upwards must not meet the other. */
	for (int i = 0; i < 2; i++) {
		snprintf(parent[i], sizeof(parent[i]), "%s/%d", t->folder, i);
		char *root = i ? t->plain : t->kvfs;
		snprintf(root, PATH_MAX, "%s/%d/tree", t->folder, i);
		if (mkdir(parent[i], 0755) || mkdir(root, 0755)) {
			trees_abandon(t);
			return -EIO;
		}
	}
	int rc = mount_kvfs(t);
	if (rc)
		trees_abandon(t);
	return rc;
}

int trees_remount(struct trees *t)
{
	int rc = umount_kvfs(t);

	return rc ? rc : mount_kvfs(t);
}

int trees_remove(struct trees *t)
{
	int rc = umount_kvfs(t);

	if (t->daemon)
		trees_abandon(t);
	else if (!rc)
		remove_folder(t->folder);
	return rc;
}

void trees_abandon(struct trees *t)
{
	const char *const argv[] = {"fusermount3", "-quz", t->kvfs, NULL};

	if (t->daemon) {
		kill(t->daemon, SIGKILL);
		waitpid(t->daemon, NULL, 0);
		t->daemon = 0;
		run(argv);
	}
	remove_folder(t->folder);
}
