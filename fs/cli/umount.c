/*
 * umount.c - kvfs umount and kvfs sync.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"
#include "fs/cli/uploads.h"

static const char UMOUNT_USAGE[] =
	"usage: kvfs umount [--timeout SECONDS] MOUNTPOINT\n"
	"Unmounts, and returns when every change is stored. Where the store is a remote one, it\n"
	"waits up to 60 s (--timeout) until everything is uploaded; what is left then is said,\n"
	"stays in the journal, and the next mount goes on with it.\n";
static const char SYNC_USAGE[] =
	"usage: kvfs sync [--timeout SECONDS] MOUNTPOINT\n"
	"Returns when every change made so far is stored; where the store is a remote one, when\n"
	"it is uploaded. Fails when it is not after SECONDS, or cannot be.\n";

static const double UMOUNT_TIMEOUT = 60, NO_TIMEOUT = -1;

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

/* Takes [--timeout SECONDS] MOUNTPOINT. *timeout stays as it is where it is not given. Returns -1 to
 * go on with argv[optind], or an exit status. */
static int parse(int argc, char **argv, const char *usage, double *timeout)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'}, {"timeout", required_argument, NULL, 't'}, {0}};
	char *end;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(usage, NULL);
		if (c != 't')
			return cli_usage(usage, "%s: unknown option, or without its argument",
				argv[optind - 1]);
		*timeout = *optarg >= '0' && *optarg <= '9' ? strtod(optarg, &end) : -1;
		if (*timeout < 0 || *end || *timeout > 1e9)
			return cli_usage(usage, "%s: not a number of seconds", optarg);
	}
	if (argc - optind != 1)
		return cli_usage(
			usage, argc == optind ? "an argument is missing" : "too many arguments");
	return -1;
}

/* A fragment: what is left, and why. */
static const char *describe_left(const struct uploads *left, char *buf, size_t cap)
{
	char n[32], since[32];

	snprintf(buf, cap, "%s change%s not uploaded yet%s%s", uploads_number(left->pending, n),
		left->pending == 1 ? " is" : "s are",
		left->offline_since ? ", since the remote store has not answered since " : "",
		left->offline_since ? uploads_time(left->offline_since, since) : "");
	return buf;
}

/* Everything is durable on this machine: whether it also is where it belongs. */
static int sync_status(const char *path, const char *resolved, const struct uploads *left)
{
	char buf[256];

	if (left->failed)
		uploads_say_failed("sync", path, resolved);
	if (left->pending)
		return cli_fail("sync", path, "%s; the mount goes on with it",
			describe_left(left, buf, sizeof(buf)));
	return left->failed ? EXIT_FAILED : 0;
}

/* Whether the mount could not be asked because of who asks, or because it is read-only. */
static bool may_not_ask(int rc)
{
	return rc == -EROFS || rc == -EACCES || rc == -EPERM;
}

/* What waits is not for this mount, or this user, to upload, but to be known. */
static int sync_unasked(const char *path, const char *resolved, int why)
{
	char *status = mountpoint_status(resolved), buf[256];
	struct uploads left = {0};

	if (status)
		uploads_read(status, &left);
	free(status);
	if (!left.pending)
		return 0;
	return cli_fail("sync", path, "%s, and %s", describe_left(&left, buf, sizeof(buf)),
		why == -EROFS ? "this mount is read-only: mount it without ro"
			      : "only the user who mounted it can ask for that");
}

int cmd_sync(int argc, char **argv)
{
	double timeout = NO_TIMEOUT;
	int status = parse(argc, argv, SYNC_USAGE, &timeout);
	struct uploads left = {0};

	if (status >= 0)
		return status;
	const char *path = argv[optind];
	char *resolved = cli_mountpoint("sync", path);
	if (!resolved)
		return EXIT_FAILED;
	int rc = uploads_wait("sync", resolved, timeout, true, false, &left);
	int why = may_not_ask(rc) ? rc : 0;
	if (rc == -EOPNOTSUPP || why)
		rc = mountpoint_sync(resolved);
	if (rc)
		status = fail_sync("sync", path, rc);
	else
		status = why ? sync_unasked(path, resolved, why)
			     : sync_status(path, resolved, &left);
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

/* Waits for uploads, and says what is left: nothing of it is lost. */
static int wait_for_uploads(const char *path, const char *resolved, double timeout)
{
	bool given = timeout >= 0;
	struct uploads left = {0};
	char buf[256];
	int rc = uploads_wait(
		"umount", resolved, given ? timeout : UMOUNT_TIMEOUT, given, true, &left);

	if (rc)
		return rc;
	if (left.failed)
		uploads_say_failed("umount", path, resolved);
	if (left.pending)
		fprintf(stderr,
			"kvfs: umount: %s: %s; what is left is in the journal, and the next mount "
			"goes on with it\n",
			path, describe_left(&left, buf, sizeof(buf)));
	return 0;
}

/* Makes everything durable, and where it can be, uploads it. */
static int store_all(const char *path, const char *resolved, double timeout)
{
	int rc = wait_for_uploads(path, resolved, timeout);

	return rc == -EOPNOTSUPP || may_not_ask(rc) ? mountpoint_sync(resolved) : rc;
}

static int umount_live(const char *path, const char *resolved, double timeout)
{
	char why[512];
	int rc = store_all(path, resolved, timeout);

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
	double timeout = NO_TIMEOUT;
	int status = parse(argc, argv, UMOUNT_USAGE, &timeout);
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
		status = umount_live(path, resolved, timeout);
	else if (mountpoint_unmount(resolved, true, why, sizeof(why)))
		status = cli_fail("umount", path, "%s", why);
	free(resolved);
	return status;
}
