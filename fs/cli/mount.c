/*
 * mount.c - kvfs mount.
 *
 * What can be checked before is checked before anything is touched. Unless -f is given the daemon
 * is a child, made before there are threads or an open store; it tells its parent through a pipe
 * that the mount is usable, or why it is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/base/lock.h"
#include "backends/base/log.h"
#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"
#include "fs/cli/options.h"
#include "fs/cli/source.h"
#include "fs/fuse/session.h"

static const char USAGE[] =
	"usage: kvfs mount [-f] [-r] [-o OPTIONS] SOURCE MOUNTPOINT\n"
	"Mounts a key-value store, and returns when the mount is usable.\n"
	"  SOURCE    lmdb:DIR[#NAMESPACE], or just DIR[#NAMESPACE]\n"
	"            cloudflare:ACCOUNT_ID[#NAMESPACE] or cf:...\n"
	"            wrangler:FILE[#BINDING]\n"
	"  -f        stay in the foreground and log to standard error\n"
	"  -r        read-only, as -o ro\n"
	"  -o        separator=C ro sync commit_interval=MS ttl=SECONDS noinherit umask=OCTAL "
	"uid=N gid=N\n"
	"            allow_other nonempty nospin log=FILE debug\n"
	"            for cloudflare: and wrangler: token_file=FILE cache=DIR cache_size=BYTES "
	"max_age=SECONDS\n"
	"            upload_delay=SECONDS fsync=remote|local local=GLOBS timeout=SECONDS\n"
	"            conflict=overwrite|keep endpoint=URL; for wrangler: env=NAME preview\n"
	"            kvfs(1) explains them\n"
	"The API token comes from CLOUDFLARE_API_TOKEN or token_file=.\n";

enum {
	DYING_MS = 1000, /* a killed daemon is no more after that */
	MOUNTPOINT_TRIES = 10,
};

struct mount {
	struct mount_options opt;
	bool foreground;
	struct source source;
	char *mountpoint; /* resolved */
	int parent; /* where the parent waits for word; -1: nobody does */
};

/* --- checks before anything happens -------------------------------------------------------------
 */

static int parse(struct mount *m, int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	char why[256];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "fhrno:", options, NULL)) != -1) {
		switch (c) {
		case 'h':
			return cli_usage(USAGE, NULL);
		case 'f':
			m->foreground = true;
			break;
		case 'r':
			m->opt.fs.readonly = true;
			break;
		case 'n': /* mount(8): not to be written to mtab, which there is none of */
			break;
		case 'o':
			if (options_parse(&m->opt, optarg, why, sizeof(why)))
				return cli_usage(USAGE, "%s", why);
			break;
		default:
			return cli_usage(USAGE, "%s: unknown option, or without its argument",
				argv[optind - 1]);
		}
	}
	if (argc - optind != 2)
		return cli_usage(USAGE,
			argc - optind < 2 ? "SOURCE or MOUNTPOINT is missing"
					  : "too many arguments");
	return -1;
}

/* An option that would do nothing is as wrong as one that there is not: whoever wrote it expects
 * something of it. */
static int check_options(const struct mount *m)
{
	const struct remote_source *remote = m->source.remote;

	if (m->opt.only_remote && !remote)
		return cli_usage(USAGE, "option %s is for cloudflare: and wrangler: sources only",
			m->opt.only_remote);
	if (m->opt.only_wrangler && !(remote && remote_source_is_wrangler(remote)))
		return cli_usage(
			USAGE, "option %s is for wrangler: sources only", m->opt.only_wrangler);
	return 0;
}

/* Clears away what a killed daemon left behind. */
static int clear_stale(const char *path)
{
	char why[512], *resolved = mountpoint_resolve(path);
	int rc = 0;

	if (resolved && mountpoint_is_stale(resolved) && mountpoint_is_kvfs(resolved) &&
		mountpoint_unmount(resolved, true, why, sizeof(why)))
		rc = cli_fail(
			"mount", path, "a dead mount is there and cannot be cleared: %s", why);
	free(resolved);
	return rc;
}

/* Whether the daemon of a mount ends now: it may have been killed just before. */
static bool daemon_ends(const char *resolved)
{
	int daemon = mountpoint_daemon(resolved);
	struct pollfd p = {.fd = daemon, .events = POLLIN};

	if (daemon < 0)
		return mountpoint_is_stale(resolved);
	bool ends = poll(&p, 1, DYING_MS) == 1;
	close(daemon);
	return ends;
}

/* Clears the mount point and looks at it. -EAGAIN: its daemon has ended between. */
static int find_mountpoint(struct mount *m, const char *path, struct stat *st)
{
	if (clear_stale(path))
		return EXIT_FAILED;
	free(m->mountpoint);
	m->mountpoint = realpath(path, NULL);
	if (!m->mountpoint || stat(m->mountpoint, st)) {
		int error = errno;

		if (error == ENOTCONN || error == ECONNABORTED)
			return -EAGAIN;
		return cli_fail("mount", path,
			error == ENOENT ? "the mount point does not exist: make "
					  "the directory first"
					: "%s",
			strerror(error));
	}
	if (!mountpoint_is_kvfs(m->mountpoint))
		return 0;
	return daemon_ends(m->mountpoint)
		? -EAGAIN
		: cli_fail("mount", path, "a kvfs is mounted there already");
}

static int check_mountpoint(struct mount *m, const char *path)
{
	struct stat st;
	int status = -EAGAIN;

	/* What is mounted there can die at any moment, also between two looks. */
	for (int i = 0; i < MOUNTPOINT_TRIES && status == -EAGAIN; i++)
		status = find_mountpoint(m, path, &st);
	if (status == -EAGAIN)
		return cli_fail("mount", path, "%s", strerror(ENOTCONN));
	if (status)
		return status;
	if (!S_ISDIR(st.st_mode))
		return cli_fail("mount", path, "the mount point is not a directory");
	if (geteuid() != 0 && access(m->mountpoint, W_OK))
		return cli_fail("mount", path,
			"you may not write to the mount point: mount on a "
			"directory of yours");
	if (!m->opt.nonempty && !directory_is_empty(m->mountpoint))
		return cli_fail("mount", path,
			"the mount point is not empty, and its files would be "
			"hidden: empty it, or use -o nonempty");
	return 0;
}

/* What fusermount3 would refuse after everything else is done. */
static int check_system(struct mount *m, const char *path)
{
	if (access("/dev/fuse", F_OK))
		return cli_fail(
			"mount", path, "there is no /dev/fuse: load the kernel module fuse");
	if (geteuid() == 0)
		return 0;
	if (access("/dev/fuse", R_OK | W_OK))
		return cli_fail(
			"mount", path, "you may not open /dev/fuse: as root, chmod 666 /dev/fuse");
	if (m->opt.allow_other && !file_has_line("/etc/fuse.conf", "user_allow_other"))
		return cli_fail("mount", path,
			"option allow_other is for root only, until "
			"/etc/fuse.conf has a line user_allow_other");
	return 0;
}

/* --- the daemon
 * ----------------------------------------------------------------------------------- */

/* Tells the parent: nothing went wrong, or what did. */
static void tell_parent(struct mount *m, const char *wrong)
{
	if (m->parent < 0)
		return;
	/* The parent may have been killed; the mount goes on without it. */
	ssize_t n = write(m->parent, wrong, strlen(wrong) + 1);
	(void)n;
	close(m->parent);
	m->parent = -1;
}

/* The line that says why, to whoever waits for it, and to the log: standard error is the caller's
 * until the mount is usable only, and a mount by fstab has nobody who reads it. */
static int fail(struct mount *m, const char *what, const char *why)
{
	char line[4096];

	if (m->foreground)
		return cli_fail("mount", what, "%s", why);
	log_error("%s: %s", what, why);
	if (m->parent < 0)
		return EXIT_FAILED;
	snprintf(line, sizeof(line), "%s: %s", what, why);
	tell_parent(m, line);
	return EXIT_FAILED;
}

static void detach_output(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(null);
}

static void usable(void *arg)
{
	struct mount *m = arg;

	log_info("%s is mounted at %s", m->source.text, m->mountpoint);
	if (m->foreground)
		return;
	detach_output();
	tell_parent(m, "");
}

static void raise_limits(void)
{
	struct rlimit files;

	/* Each large value that is being written has a file. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* Opens the store with every signal blocked, so that its threads leave them to the main thread. */
static int open_store(struct mount *m, struct fs **fs, char *why, size_t why_cap)
{
	sigset_t all, before;
	struct store *st;
	uint32_t ns = FS_NS_ALL;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = source_open(&m->source, &m->opt, &st, &ns, why, why_cap);
	if (!rc) {
		rc = fs_open(st, ns, &m->opt.fs, fs);
		if (rc) {
			snprintf(why, why_cap, "%s", strerror(-rc));
			st->ops->close(st);
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

/* Whoever mounts all that an environment has is told what will be missing. In the foreground the log
 * has said so. */
static void note_not_shown(const struct mount *m, struct store *st)
{
	struct store_stat s;

	st->ops->stat(st, &s);
	if (m->foreground || m->source.has_namespace)
		return;
	if (s.loose_records)
		fprintf(stderr,
			"kvfs: mount: %s: the records of its unnamed database are in no namespace, "
			"and are not shown\n",
			m->source.text);
	if (s.unfit)
		fprintf(stderr,
			"kvfs: mount: %s: %u of its databases are no plain maps (DUPSORT, "
			"INTEGERKEY, "
			"REVERSEKEY), and are not shown\n",
			m->source.text, (unsigned)s.unfit);
}

static int serve(struct mount *m)
{
	struct session_options opt = {
		.allow_other = m->opt.allow_other,
		.readonly = m->opt.fs.readonly,
		.debug = m->opt.debug && m->foreground,
		.nospin = m->opt.nospin,
		.kernel = m->opt.kernel,
	};
	struct mounted mounted = {
		.source = m->source.text,
		.mountpoint = m->mountpoint,
		.ready = usable,
		.ready_arg = m,
	};
	char why[1024] = "";

	lock_watch();
	int rc = open_store(m, &mounted.fs, why, sizeof(why));

	if (rc)
		return fail(m, m->source.text, why);
	note_not_shown(m, fs_store(mounted.fs));
	int status = session_run(&mounted, &opt, why, sizeof(why)) ? EXIT_FAILED : 0;
	if (status)
		fail(m, m->mountpoint, why);
	else if (m->parent >= 0)
		status = fail(m, m->mountpoint, "a signal ended it before it was usable");
	bool served = !status;
	rc = fs_close(mounted.fs);
	if (rc) {
		log_error("%s: closing: %s", m->source.text, strerror(-rc));
		status = EXIT_FAILED;
	}
	if (served)
		log_info("%s is unmounted from %s", m->source.text, m->mountpoint);
	return status;
}

/* Waits for the daemon's word. */
static int wait_for_daemon(int from, const char *what)
{
	char line[4096];
	size_t used = 0;
	ssize_t n;

	while (used < sizeof(line) - 1 &&
		(n = read(from, line + used, sizeof(line) - 1 - used)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	line[used] = '\0';
	if (!used)
		return cli_fail("mount", what, "the daemon ended unexpectedly; see its log");
	if (!*line)
		return 0;
	fprintf(stderr, "kvfs: mount: %s\n", line);
	return EXIT_FAILED;
}

static int run(struct mount *m)
{
	int ends[2];

	umask(077);
	raise_limits();
	m->parent = -1;
	if (m->foreground)
		return serve(m);
	if (pipe2(ends, O_CLOEXEC))
		return cli_fail("mount", m->mountpoint, "%s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return cli_fail("mount", m->mountpoint, "%s", strerror(errno));
	if (pid > 0) {
		close(ends[1]);
		return wait_for_daemon(ends[0], m->mountpoint);
	}
	close(ends[0]);
	m->parent = ends[1];
	setsid();
	if (chdir("/"))
		return fail(m, "/", strerror(errno));
	return serve(m);
}

/* Closes what the caller happened to have open: a daemon that kept it would hold locks, ports and the
 * other ends of pipes for as long as it lives. Before anything of our own is open. */
static void close_inherited(void)
{
	close_range(STDERR_FILENO + 1, ~0U, 0);
}

static int open_log(struct mount *m)
{
	const char *where = m->opt.log;
	int rc;

	if (!where)
		where = m->foreground ? "" : "syslog";
	rc = log_open(where, m->opt.debug);
	return rc ? cli_fail("mount", where, "the log cannot be opened: %s", strerror(-rc)) : 0;
}

int cmd_mount(int argc, char **argv)
{
	struct mount m = {.parent = -1};
	char why[512];

	options_init(&m.opt);
	int status = parse(&m, argc, argv);
	if (status >= 0)
		goto out;
	const char *source = argv[optind], *path = argv[optind + 1];
	status = source_parse(&m.source, source, why, sizeof(why))
		? cli_fail("mount", source, "%s", why)
		: 0;
	if (!status)
		status = check_options(&m);
	if (!status && m.source.remote &&
		remote_source_load(m.source.remote, &m.opt.remote, why, sizeof(why)))
		status = cli_fail("mount", source, "%s", why);
	if (!status)
		status = check_mountpoint(&m, path);
	if (!status)
		status = check_system(&m, path);
	if (!status && clock_init())
		status = cli_fail("mount", "KVFS_CLOCK", "the file it names holds no time");
	if (!status && !m.foreground)
		close_inherited();
	if (!status)
		status = open_log(&m);
	if (!status)
		status = run(&m);
out:
	source_release(&m.source);
	options_release(&m.opt);
	free(m.mountpoint);
	return status;
}
