#include "fs/cli/connection.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/cli/mountpoint.h"

static const char CONTROL[] = "/sys/fs/fuse/connections";

enum { NOT_FOUND = -1 };

/* The number of a descriptor's connection. */
static int number_of(int pid, const char *tid, const char *fd)
{
	char path[128], target[32], line[128];
	int number = NOT_FOUND;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/fd/%.16s", pid, tid, fd);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	if (strcmp(target, "/dev/fuse") != 0)
		return NOT_FOUND;
	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/fdinfo/%.16s", pid, tid, fd);
	FILE *f = fopen(path, "re");
	while (f && number == NOT_FOUND && fgets(line, sizeof(line), f))
		sscanf(line, "fuse_connection: %d", &number);
	if (f)
		fclose(f);
	return number;
}

static bool thread_has(int pid, const char *tid, int number)
{
	char path[64];
	const struct dirent *e;
	bool has = false;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/fd", pid, tid);
	DIR *fds = opendir(path);
	while (fds && !has && (e = readdir(fds)))
		has = e->d_name[0] != '.' && number_of(pid, tid, e->d_name) == number;
	if (fds)
		closedir(fds);
	return has;
}

/* What /proc says of a process: its name, and whether it has ended, but for threads that may not have. */
static bool look_at(int pid, bool *ended, bool *kvfs)
{
	char path[64], line[512] = "";

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	const char *name_end = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	const char *name = strchr(line, '(');
	fclose(f);
	*ended = name_end && strncmp(name_end, ") Z", 3) == 0;
	*kvfs = name && strncmp(name, "(kvfs", 5) == 0;
	return name_end != NULL;
}

/* Whether a process that has ended, or one that lives, holds this connection. A living one that may not be
 * looked at may hold any, if it is a kvfs. */
static bool holds(int pid, int number, bool dying)
{
	char path[64];
	const struct dirent *e;
	bool ended, kvfs, has = false;

	if (!look_at(pid, &ended, &kvfs) || ended != dying)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	if (!ended && access(path, R_OK | X_OK))
		return kvfs;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	while (tasks && !has && (e = readdir(tasks)))
		has = atoi(e->d_name) > 0 && thread_has(pid, e->d_name, number);
	if (tasks)
		closedir(tasks);
	return has;
}

static bool any_holds(int number, bool dying)
{
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	bool any = false;

	while (proc && !any && (e = readdir(proc))) {
		int pid = atoi(e->d_name);

		any = pid > 0 && holds(pid, number, dying);
	}
	if (proc)
		closedir(proc);
	return any;
}

/* The kernel gives a number anew when its mount has gone, although who is dying may hold the connection
 * that had it before. */
static bool is_left_to_the_dying(int number)
{
	return any_holds(number, true) && !any_holds(number, false);
}

static bool abort_it(int number)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%d/abort", CONTROL, number);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool done = write(fd, "1", 1) == 1;
	close(fd);
	return done;
}

/* Where the control filesystem is not mounted: it is, for a child that nobody else sees. */
static void abort_in_private(int number)
{
	pid_t pid = fork();

	if (pid == 0) {
		bool done = unshare(CLONE_NEWNS) == 0 &&
			mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
			mount("none", CONTROL, "fusectl", 0, NULL) == 0 && abort_it(number);

		_exit(!done);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

void connection_end_dying(const char *resolved)
{
	int number = mountpoint_number(resolved);

	if (number < 0 || !is_left_to_the_dying(number) || abort_it(number))
		return;
	if (geteuid() == 0)
		abort_in_private(number);
}
