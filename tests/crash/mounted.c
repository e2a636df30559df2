#include "tests/crash/mounted.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/crash/history.h"

static const int64_t START_LIMIT = INT64_C(30) * 1000000000;

enum { PATH_SIZE = MODEL_PATH + 64 };

static void exec_daemon(struct mounted *m, const char *dir, const char *options)
{
	char source[256];

	snprintf(source, sizeof(source), "lmdb:%s", dir);
	execl(m->kvfs, m->kvfs, "mount", "-f", "-o", options, source, m->root, NULL);
	_exit(127);
}

/* Whether the mount point is one, with a daemon behind it. */
static bool is_there(const struct mounted *m)
{
	struct stat root, up;
	char dots[80];

	snprintf(dots, sizeof(dots), "%s/..", m->root);
	return stat(m->root, &root) == 0 && stat(dots, &up) == 0 && root.st_dev != up.st_dev;
}

void mounted_detach(const struct mounted *m)
{
	pid_t pid;

	if (umount2(m->root, MNT_DETACH) == 0)
		return;
	pid = fork();
	if (pid == 0) {
		int sink = open("/dev/null", O_WRONLY);

		dup2(sink, STDERR_FILENO);
		execlp("fusermount3", "fusermount3", "-uz", m->root, NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

int mounted_start(struct mounted *m, const char *dir, const char *options)
{
	int mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	int64_t late = history_clock() + START_LIMIT;
	int rc = 0;

	m->daemon = fork();
	if (m->daemon == 0)
		exec_daemon(m, dir, options);
	while (!is_there(m)) {
		struct pollfd changed = {.fd = mounts, .events = POLLPRI};

		if (waitpid(m->daemon, NULL, WNOHANG) == m->daemon) {
			m->daemon = 0;
			rc = -ECHILD;
			break;
		}
		if (history_clock() > late) {
			rc = -ETIMEDOUT;
			break;
		}
		poll(&changed, 1, 20);
	}
	close(mounts);
	return rc;
}

void mounted_kill(struct mounted *m)
{
	if (!m->daemon)
		return;
	kill(m->daemon, SIGKILL);
	while (waitpid(m->daemon, NULL, 0) < 0 && errno == EINTR)
		;
	m->daemon = 0;
}

static int result(int rc)
{
	return rc < 0 ? -errno : 0;
}

static int write_all(int fd, const struct op *op, size_t off)
{
	struct content *data = content_new(op->seed, op->len);
	size_t done = 0;
	int rc = 0;

	while (done < op->len && !rc) {
		ssize_t n = pwrite(fd, data->bytes + done, op->len - done, (off_t)(off + done));

		rc = result((int)(n > 0 ? 0 : -1));
		done += n > 0 ? (size_t)n : 0;
	}
	content_unref(data);
	return rc;
}

static int write_file(const char *path, const struct op *op)
{
	bool put = op->kind == OP_PUT || op->kind == OP_PUT_SYNC;
	int fd = open(path, O_WRONLY | O_CLOEXEC | (put ? O_CREAT | O_TRUNC : 0), op->mode);
	int rc = result(fd);

	if (rc)
		return rc;
	if (op->kind != OP_FSYNC)
		rc = write_all(fd, op, op->off);
	if (!rc && (op->kind == OP_PUT_SYNC || op->kind == OP_FSYNC))
		rc = result(op->seed & 1 ? fsync(fd) : fdatasync(fd));
	int closed = result(close(fd));
	return rc ? rc : closed;
}

static int set_text(const char *path, const char *name, const char *text)
{
	return result(
		*text ? setxattr(path, name, text, strlen(text), 0) : removexattr(path, name));
}

static int set_expiration(const char *path, int64_t at)
{
	char text[32] = "";

	if (at)
		snprintf(text, sizeof(text), "%lld", (long long)at);
	return set_text(path, "user.kv.expiration", text);
}

int mounted_run(void *arg, const struct op *op)
{
	const struct mounted *m = arg;
	char a[PATH_SIZE], b[PATH_SIZE];

	snprintf(a, sizeof(a), "%s/%s", m->root, op->a);
	snprintf(b, sizeof(b), "%s/%s", m->root, op->b);
	switch (op->kind) {
	case OP_TRUNCATE:
		return result(truncate(a, (off_t)op->len));
	case OP_UNLINK:
		return result(unlink(a));
	case OP_MKDIR:
		return result(mkdir(a, op->mode));
	case OP_RMDIR:
		return result(rmdir(a));
	case OP_RENAME:
		return result(rename(a, b));
	case OP_EXCHANGE:
		return result(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE));
	case OP_CHMOD:
		return result(chmod(a, op->mode));
	case OP_NOTE:
		return set_text(a, "user.note", op->text);
	case OP_METADATA:
		return set_text(a, "user.kv.metadata", op->text);
	case OP_EXPIRE:
		return set_expiration(a, op->expiration);
	case OP_SYMLINK:
		return result(symlink(op->text, a));
	default:
		return write_file(a, op);
	}
}
