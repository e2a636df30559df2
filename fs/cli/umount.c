/*
 * umount.c - kvfs umount and kvfs sync.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"

static const char UMOUNT_USAGE[] = "usage: kvfs umount MOUNTPOINT\n"
				   "Unmounts, and returns when every change is stored.\n";
static const char SYNC_USAGE[] = "usage: kvfs sync MOUNTPOINT\n"
				 "Returns when every change made so far is stored.\n";

/* The daemon ends when everything is stored, which a full disk may keep it from. */
enum { END_TIMEOUT_MS = 600000, NOTICE_MS = 2000 };

/* fsync of the mount's root waits for the whole mount. */
static int sync_mount(const char *resolved)
{
	int fd = open(resolved, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

static int fail_sync(const char *command, const char *path, int rc)
{
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
		int rc = sync_mount(resolved);
		if (rc)
			status = fail_sync("sync", path, rc);
	}
	free(resolved);
	return status;
}

/* A descriptor that becomes readable when the daemon ends; -1: unknown. */
static int watch_daemon(const char *resolved)
{
	char *text = mountpoint_status(resolved), pid[32];
	int fd = -1;

	if (text && status_value(text, "pid", 0, pid, sizeof(pid)))
		fd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	free(text);
	return fd;
}

static int wait_for_end(int daemon)
{
	struct pollfd p = {.fd = daemon, .events = POLLIN};

	if (poll(&p, 1, NOTICE_MS) == 1)
		return 0;
	fprintf(stderr,
		"kvfs: umount: it is unmounted here; waiting for the daemon, which stores the last "
		"changes, or serves another mount namespace still ...\n");
	int rc;
	do
		rc = poll(&p, 1, END_TIMEOUT_MS);
	while (rc < 0 && errno == EINTR);
	return rc == 1 ? 0 : -ETIMEDOUT;
}

static int umount_live(const char *path, const char *resolved)
{
	char why[512];
	int rc = sync_mount(resolved);

	/* Another user's mount cannot be opened; whether it can be unmounted is said below. */
	if (rc && rc != -EACCES && rc != -EROFS)
		return fail_sync("umount", path, rc);
	int daemon = watch_daemon(resolved), status = 0;
	if (mountpoint_unmount(resolved, false, why, sizeof(why)))
		status = cli_fail("umount", path, "%s", why);
	else if (daemon >= 0 && wait_for_end(daemon))
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
