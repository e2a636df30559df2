/*
 * umount.c - kvfs umount and kvfs sync.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"

static const char UMOUNT_USAGE[] = "usage: kvfs umount MOUNTPOINT\n"
				   "Unmounts, and returns when every change is stored.\n";
static const char SYNC_USAGE[] = "usage: kvfs sync MOUNTPOINT\n"
				 "Returns when every change made so far is stored.\n";

/* The daemon ends when everything is stored, which a full disk may keep it from. */
enum { END_TIMEOUT_MS = 600000, NOTICE_MS = 2000 };

static int fail_sync(const char *command, const char *path, int rc)
{
	if (rc == -EACCES)
		return cli_fail(command, path, "it may not be opened: it is another user's mount");
	return cli_fail(command, path,
		"not everything could be stored: %s; nothing is lost, the "
		"mount stays and tries again",
		strerror(-rc));
}

int cmd_sync(int argc, char **argv)
{
	int status = cli_no_options(argc, argv, SYNC_USAGE, 1);

	if (status >= 0)
		return status;
	const char *path = argv[optind];
	char *resolved = mountpoint_resolve(path);
	if (!resolved)
		return cli_fail("sync", path, "%s", strerror(errno));
	status = 0;
	if (!mountpoint_is_kvfs(resolved)) {
		status = cli_fail("sync", path, "no kvfs is mounted there");
	} else if (mountpoint_is_stale(resolved)) {
		status = cli_fail("sync", path, "its daemon is no more: kvfs umount clears it");
	} else {
		int rc = mountpoint_sync(resolved);
		if (rc)
			status = fail_sync("sync", path, rc);
	}
	free(resolved);
	return status;
}

/* A process that still sees the filesystem: in a mount namespace of its own, which got a copy of
 * the mount. 0: none that we may look at. */
static pid_t find_holder(dev_t dev)
{
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	char path[64], needle[32], line[4096];
	pid_t holder = 0;

	snprintf(needle, sizeof(needle), " %u:%u ", major(dev), minor(dev));
	while (proc && !holder && (e = readdir(proc))) {
		pid_t pid = (pid_t)atoi(e->d_name);

		snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
		FILE *mounts = pid > 0 ? fopen(path, "r") : NULL;
		while (mounts && !holder && fgets(line, sizeof(line), mounts)) {
			if (strstr(line, needle))
				holder = pid;
		}
		if (mounts)
			fclose(mounts);
	}
	if (proc)
		closedir(proc);
	return holder;
}

/* Waits for the daemon to end. It does not as long as another mount namespace has the filesystem
 * too: then that is said, and is no failure, since everything was stored before the unmounting. */
static int wait_for_end(int daemon, dev_t dev)
{
	struct pollfd p = {.fd = daemon, .events = POLLIN};

	for (int waited = 0; waited < END_TIMEOUT_MS; waited += NOTICE_MS) {
		if (poll(&p, 1, NOTICE_MS) == 1)
			return 0;
		pid_t holder = find_holder(dev);
		if (holder) {
			fprintf(stderr,
				"kvfs: umount: it is unmounted here; process %d still has it in a "
				"mount namespace of its own, so its daemon goes on until that "
				"ends\n",
				(int)holder);
			return 0;
		}
		if (!waited)
			fprintf(stderr,
				"kvfs: umount: it is unmounted; waiting for the daemon, which "
				"stores the last changes ...\n");
	}
	return -ETIMEDOUT;
}

/* The device of a mount that may be another user's, of which the kernel tells no more than that. */
static dev_t device_of(const char *resolved)
{
	struct statx st;

	if (statx(AT_FDCWD, resolved, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &st))
		return 0;
	return makedev(st.stx_dev_major, st.stx_dev_minor);
}

static int umount_live(const char *path, const char *resolved)
{
	char why[512];
	int rc = mountpoint_sync(resolved);

	/* Who may not open the root may still unmount, if the mount is his. */
	if (rc && rc != -EACCES && rc != -EROFS)
		return fail_sync("umount", path, rc);
	int daemon = mountpoint_daemon(resolved), status = 0;
	dev_t dev = device_of(resolved);
	if (mountpoint_unmount(resolved, false, why, sizeof(why)))
		status = rc == -EACCES ? fail_sync("umount", path, rc)
				       : cli_fail("umount", path, "%s", why);
	else if (daemon >= 0 && wait_for_end(daemon, dev))
		status = cli_fail("umount", path,
			"it is unmounted, but the daemon has not ended; see its log");
	if (daemon >= 0)
		close(daemon);
	return status;
}

int cmd_umount(int argc, char **argv)
{
	int status = cli_no_options(argc, argv, UMOUNT_USAGE, 1);
	char why[512];

	if (status >= 0)
		return status;
	const char *path = argv[optind];
	char *resolved = mountpoint_resolve(path);
	if (!resolved)
		return cli_fail("umount", path, "%s", strerror(errno));
	status = 0;
	if (!mountpoint_is_kvfs(resolved))
		status = cli_fail("umount", path, "no kvfs is mounted there");
	else if (!mountpoint_is_stale(resolved))
		status = umount_live(path, resolved);
	else if (mountpoint_unmount(resolved, true, why, sizeof(why)))
		status = cli_fail("umount", path, "%s", why);
	free(resolved);
	return status;
}
