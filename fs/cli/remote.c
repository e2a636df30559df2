/*
 * remote.c - kvfs refresh, retry and drop: what a person asks of a mount that caches a remote store.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"
#include "fs/cli/uploads.h"

#define WHERE                                                                                      \
	"PATH, in the mount or below it, limits it to one key, or to all keys in a directory.\n"

static const char REFRESH_USAGE[] = "usage: kvfs refresh MOUNTPOINT [PATH]\n"
				    "What is cached of the remote store counts as old: the next "
				    "look asks for it again.\n" WHERE;
static const char RETRY_USAGE[] =
	"usage: kvfs retry MOUNTPOINT [PATH]\n"
	"Tries again to upload what the remote store has refused.\n" WHERE;
static const char DROP_USAGE[] =
	"usage: kvfs drop [--yes] MOUNTPOINT [PATH]\n"
	"Gives up changes that the remote store has refused: what it has itself is shown again.\n"
	"Says which, and asks first, unless --yes is given.\n" WHERE;

char *cli_mountpoint(const char *command, const char *path)
{
	char *resolved = mountpoint_resolve(path);

	if (!resolved) {
		cli_fail(command, path, "%s", strerror(errno));
		return NULL;
	}
	if (!mountpoint_is_kvfs(resolved))
		cli_fail(command, path, "no kvfs is mounted there");
	else if (mountpoint_is_stale(resolved))
		cli_fail(command, path,
			"its daemon is no more: kvfs umount clears it, kvfs mount mounts anew");
	else
		return resolved;
	free(resolved);
	return NULL;
}

/* The full path of PATH, which is in the mount: as seen from there, or from here. NULL, errno. */
static char *find_in(const char *resolved, const char *path)
{
	struct stat root, st;
	char *full = NULL;

	if (stat(resolved, &root))
		return NULL;
	if (*path != '/') {
		if (asprintf(&full, "%s/%s", resolved, path) < 0)
			return NULL;
		if (lstat(full, &st)) {
			if (errno != ENOENT && errno != ENOTDIR)
				goto fail;
			free(full);
			full = NULL;
		}
	}
	if (!full) {
		full = strdup(path);
		if (!full || lstat(full, &st))
			goto fail;
	}
	if (st.st_dev == root.st_dev)
		return full;
	errno = EXDEV;
fail:;
	int error = errno;
	free(full);
	errno = error;
	return NULL;
}

static int fail(const char *command, const char *what, int rc)
{
	switch (-rc) {
	case EOPNOTSUPP:
		return cli_fail(command, what,
			"its store is on this machine: nothing of it is cached or uploaded");
	case EACCES:
		return cli_fail(command, what,
			"you may not write to it, or not enter the mount: try without PATH");
	case EXDEV:
		return cli_fail(command, what, "it is not in this mount");
	case EROFS:
		return cli_fail(command, what, "it is mounted read-only");
	case EPERM:
		return cli_fail(command, what, "only the user who mounted it and root may do that");
	default:
		return cli_fail(command, what, "%s", strerror(-rc));
	}
}

static int control(const char *command, const char *mount, const char *resolved, const char *path)
{
	char *full = path ? find_in(resolved, path) : strdup(resolved);

	if (!full)
		return fail(command, path, -errno);
	int rc = mountpoint_control(full, command);
	free(full);
	return rc ? fail(command, path ? path : mount, rc) : 0;
}

/* MOUNTPOINT [PATH], no options. */
static int run(int argc, char **argv, const char *usage)
{
	int operands = argc > 2 ? 2 : 1;
	int status = cli_no_options(argc, argv, usage, operands);

	if (status >= 0)
		return status;
	const char *mount = argv[optind], *path = operands == 2 ? argv[optind + 1] : NULL;
	char *resolved = cli_mountpoint(argv[0], mount);
	if (!resolved)
		return EXIT_FAILED;
	status = control(argv[0], mount, resolved, path);
	free(resolved);
	return status;
}

int cmd_refresh(int argc, char **argv)
{
	return run(argc, argv, REFRESH_USAGE);
}

int cmd_retry(int argc, char **argv)
{
	return run(argc, argv, RETRY_USAGE);
}

/* --- drop -------------------------------------------------------------------------------------- */

/* Says what will be given up. The number of changes; -1: it is not known, but not none. */
static int say_given_up(const char *resolved, const char *path, const char *full)
{
	char *status = mountpoint_status(resolved), state[256];
	struct failed_upload f;
	struct uploads u = {0};
	struct stat st;
	char n[32];

	if (!status)
		return -1;
	uploads_read(status, &u);
	bool file = path && lstat(full, &st) == 0 && !S_ISDIR(st.st_mode);
	if (file) {
		ssize_t len = lgetxattr(full, "user.kv.state", state, sizeof(state) - 1);

		state[len > 0 ? len : 0] = '\0';
		u.failed = strncmp(state, "failed", 6) == 0;
		if (u.failed)
			printf("%s: %s\n", path, state);
	} else {
		for (unsigned i = 0; i < UPLOADS_FAILED_SHOWN && uploads_failed(status, i, &f); i++)
			printf("%s%s%s: %s\n", f.ns, *f.ns ? ": " : "", f.key, f.reason);
		if (u.failed > UPLOADS_FAILED_SHOWN)
			printf("and %s more\n", uploads_number(u.failed - UPLOADS_FAILED_SHOWN, n));
	}
	free(status);
	if (u.failed && path && !file)
		printf("Of these, what is in %s will be given up.\n", path);
	return u.failed ? -1 : 0;
}

static bool confirmed(void)
{
	char answer[16];

	printf("Give up these changes? What the remote store has is shown again. [y/N] ");
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

static int drop(const char *mount, const char *resolved, const char *path, bool yes)
{
	char *full = path ? find_in(resolved, path) : strdup(resolved);
	int status = 0;

	if (!full)
		return fail("drop", path, -errno);
	if (say_given_up(resolved, path, full) == 0)
		printf("Nothing has failed: nothing is given up.\n");
	else if (!yes && !isatty(STDIN_FILENO))
		status = cli_fail("drop", path ? path : mount,
			"nothing is given up without --yes, as there is nobody to ask");
	else if (!yes && !confirmed())
		status = cli_fail("drop", path ? path : mount, "nothing was given up");
	else
		status = control("drop", mount, resolved, path);
	free(full);
	return status;
}

int cmd_drop(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'}, {"yes", no_argument, NULL, 'y'}, {0}};
	bool yes = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "hy", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(DROP_USAGE, NULL);
		if (c != 'y')
			return cli_usage(DROP_USAGE, "%s: unknown option", argv[optind - 1]);
		yes = true;
	}
	int operands = argc - optind;
	if (operands < 1 || operands > 2)
		return cli_usage(
			DROP_USAGE, operands < 1 ? "an argument is missing" : "too many arguments");
	const char *mount = argv[optind];
	char *resolved = cli_mountpoint("drop", mount);
	if (!resolved)
		return EXIT_FAILED;
	int status = drop(mount, resolved, operands == 2 ? argv[optind + 1] : NULL, yes);
	free(resolved);
	return status;
}
