#include "fs/fuse/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/base/lock.h"
#include "backends/base/log.h"
#include "fs/fuse/loop.h"

/* --- notifications ------------------------------------------------------------------------------
 */

static void notify_entry(void *arg, struct node *parent, const char *name, size_t len)
{
	struct mounted *m = arg;

	lock_none_held("the kernel");
	fuse_lowlevel_notify_inval_entry(m->session, ops_ino(m->fs, parent), name, len);
}

static void notify_inode(void *arg, struct node *n, bool data)
{
	struct mounted *m = arg;

	lock_none_held("the kernel");
	/* From offset -1 only attributes are dropped. */
	fuse_lowlevel_notify_inval_inode(m->session, ops_ino(m->fs, n), data ? 0 : -1, 0);
}

static const struct fs_notify_ops notify_ops = {.entry = notify_entry, .inode = notify_inode};

/* --- what libfuse and fusermount3 say -----------------------------------------------------------
 */

__attribute__((format(printf, 2, 0))) static void log_from_fuse(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level == FUSE_LOG_DEBUG)
		log_debug("%s", line);
	else
		log_warning("%s", line);
}

/* Calls fuse_session_mount() with standard error going to a file in memory, since fusermount3
 * writes its reason there; the last line of it becomes `why`. */
static int mount_quietly(struct fuse_session *se, const char *mountpoint, char *why, size_t why_cap)
{
	char said[1024] = "";
	int saved = dup(STDERR_FILENO), file = memfd_create("kvfs-stderr", MFD_CLOEXEC);
	ssize_t n = 0;

	if (file >= 0)
		dup2(file, STDERR_FILENO);
	int rc = fuse_session_mount(se, mountpoint);
	int error = errno;
	if (file >= 0 && saved >= 0) {
		dup2(saved, STDERR_FILENO);
		n = pread(file, said, sizeof(said) - 1, 0);
	}
	if (file >= 0)
		close(file);
	if (saved >= 0)
		close(saved);
	if (!rc)
		return 0;
	while (n > 0 && said[n - 1] == '\n')
		said[--n] = '\0';
	const char *last = strrchr(said, '\n');
	snprintf(why, why_cap, "%s", n > 0 ? (last ? last + 1 : said) : strerror(error));
	return error ? -error : -EIO;
}

/* --- life ----------------------------------------------------------------------------------------
 */

static int add_options(
	struct fuse_args *args, const struct mounted *m, const struct session_options *opt)
{
	char *options = NULL, *fsname = NULL;
	int rc = fuse_opt_add_arg(args, "kvfs");

	if (asprintf(&fsname, "fsname=%s", m->source) < 0)
		fsname = NULL;
	if (!rc && fsname)
		rc = fuse_opt_add_opt_escaped(&options, fsname);
	if (!rc)
		rc = fuse_opt_add_opt(&options, "subtype=kvfs,default_permissions");
	if (!rc && opt->allow_other)
		rc = fuse_opt_add_opt(&options, "allow_other");
	if (!rc && opt->readonly)
		rc = fuse_opt_add_opt(&options, "ro");
	if (!rc && *opt->kernel)
		rc = fuse_opt_add_opt(&options, opt->kernel);
	if (!rc)
		rc = fuse_opt_add_arg(args, "-o");
	if (!rc)
		rc = fuse_opt_add_arg(args, options);
	if (!rc && opt->debug)
		rc = fuse_opt_add_arg(args, "-d");
	free(options);
	free(fsname);
	return rc ? -ENOMEM : 0;
}

/* --- signals
 * -------------------------------------------------------------------------------------- */

/* Waits for the signals that end the mount. The core is stopped first, while requests are still
 * answered: a notification that waits in the kernel for somebody's request would wait for ever. */
struct ender {
	struct mounted *m;
	struct loop *loop;
	pthread_t thread;
	sigset_t signals; /* blocked since before there was a mount; SIGUSR2 is for ender_stop() */
	atomic_bool stop;
};

static void interrupt(int sig)
{
}

static void *ender_thread(void *arg)
{
	struct ender *e = arg;
	int sig;

	while (sigwait(&e->signals, &sig) || (sig == SIGUSR2 && !atomic_load(&e->stop)))
		;
	if (atomic_load(&e->stop))
		return NULL;
	log_info("signal %d: unmounting", sig);
	fs_stop(e->m->fs);
	loop_stop(e->loop);
	return NULL;
}

/* From now on a signal waits for the ender, so that none leaves a dead mount behind. */
static void block_signals(sigset_t *signals)
{
	struct sigaction wake = {.sa_handler = interrupt}, ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGUSR1, &wake, NULL); /* by which the loop ends a worker's sleep in the kernel */
	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGHUP);
	sigaddset(signals, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
}

static int ender_start(
	struct ender *e, struct mounted *m, struct loop *loop, const sigset_t *signals)
{
	e->m = m;
	e->loop = loop;
	e->signals = *signals;
	atomic_init(&e->stop, false);
	return -pthread_create(&e->thread, NULL, ender_thread, e);
}

static void ender_stop(struct ender *e)
{
	atomic_store(&e->stop, true);
	pthread_kill(e->thread, SIGUSR2);
	pthread_join(e->thread, NULL);
}

/* The core's threads leave all signals to the ender's. */
static int start_core(struct mounted *m)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = fs_start(m->fs, &notify_ops, m);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static int serve(struct mounted *m, const sigset_t *signals, bool eager)
{
	struct loop *loop = loop_new(m->session, eager);
	struct ender ender;
	int rc = loop ? start_core(m) : -ENOMEM;

	if (!rc)
		rc = ender_start(&ender, m, loop, signals);
	if (!rc) {
		rc = loop_run(loop);
		ender_stop(&ender);
	}
	if (loop)
		loop_free(loop);
	return rc;
}

int session_run(struct mounted *m, const struct session_options *opt, char *why, size_t why_cap)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	sigset_t signals;
	int rc = add_options(&args, m, opt);

	block_signals(&signals);
	fuse_set_log_func(log_from_fuse);
	if (rc)
		goto out_args;
	m->session = fuse_session_new(&args, &kvfs_ops, sizeof(kvfs_ops), m);
	if (!m->session) {
		snprintf(why, why_cap, "libfuse refused the options");
		rc = -EINVAL;
		goto out_args;
	}
	rc = mount_quietly(m->session, m->mountpoint, why, why_cap);
	if (rc)
		goto out_session;
	rc = serve(m, &signals, !opt->nospin);
	if (rc)
		snprintf(why, why_cap, "%s", strerror(-rc));
	/* A notification must not be written to a descriptor that is closed, and may be another's by then.
	 * After an error it may wait for requests that nobody answers, until it is closed. */
	if (!rc)
		fs_stop(m->fs);
	fuse_session_unmount(m->session);
	fs_stop(m->fs);
out_session:
	fuse_session_destroy(m->session);
out_args:
	fuse_opt_free_args(&args);
	return rc;
}
