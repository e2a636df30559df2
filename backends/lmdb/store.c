/*
 * store.c - opening, closing, and the table of operations.
 *
 * Opening looks before it touches: the data file is checked, and locked against a second kvfs,
 * before LMDB sees it. The lock is on a descriptor of our own of the data file. (Never open LMDB's
 * lock file: to close it again would drop the record locks that LMDB has on it.)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backends/lmdb/check.h"
#include "backends/lmdb/internal.h"
#include "backends/lmdb/lmdb.h"
#include "backends/lmdb/meta.h"

enum {
	PENDING_MAX = 32 << 20,
	MAP_SIZE = 1 << 30,
	BLOB_THRESHOLD = 1 << 20,
	BLOB_BUDGET = 64 << 20,
};

static int lmdb_ns_find(struct store *base, const void *name, size_t len, uint32_t *number)
{
	struct lmdb_store *st = lmdb_store(base);
	struct ns *ns;
	int rc = ns_open(&st->namespaces, &st->env, name, len, &ns);

	if (rc == 0)
		*number = ns->number;
	return rc;
}

static int lmdb_ns_next(struct store *base, const void *after, size_t after_len, void *name,
	size_t cap, size_t *len)
{
	struct lmdb_store *st = lmdb_store(base);

	return ns_next_name(&st->namespaces, &st->env, after, after_len, name, cap, len);
}

static uint64_t lmdb_new_ino(struct store *base)
{
	return atomic_fetch_add(&lmdb_store(base)->next_ino, 1);
}

static void lmdb_stat(struct store *base, struct store_stat *out)
{
	struct lmdb_store *st = lmdb_store(base);
	struct nesting *nesting = nesting_get(st);
	struct env_usage usage;
	struct statvfs fs = {0};

	env_usage(&st->env, nesting && nesting_in_map(nesting), &usage);
	fstatvfs(st->env.fd, &fs);
	*out = (struct store_stat){
		.pending = atomic_load(&st->pending_count),
		.pending_bytes = atomic_load(&st->pending_bytes),
		.commits = atomic_load(&st->commits),
		.reads = atomic_load(&st->reads),
		.writes = atomic_load(&st->writes),
		.bytes = usage.used,
		.free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize,
		.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize,
		.error = atomic_load(&st->commit_error),
		.loose_records = atomic_load(&st->namespaces.warned_plain),
		.unfit = atomic_load(&st->namespaces.unfit),
		.left_out = atomic_load(&st->left_out),
	};
}

static void store_free(struct lmdb_store *st)
{
	env_close(&st->env);
	namespaces_release(&st->namespaces);
	pending_free(st->pending);
	if (st->base.blobs)
		blob_pool_free(st->base.blobs);
	lock_destroy(&st->verified.lock);
	lock_destroy(&st->damaged.lock);
	gate_destroy(&st->changes);
	free(st);
}

static int lmdb_close(struct store *base)
{
	struct lmdb_store *st = lmdb_store(base);

	watch_stop(st);
	int rc = committer_stop(st);
	watch_destroy(st);
	if (!st->base.readonly)
		space_trim(&st->space, &st->env);
	store_free(st);
	return rc;
}

static const struct store_ops lmdb_ops = {
	.name = "lmdb",
	.close = lmdb_close,
	.ns_find = lmdb_ns_find,
	.ns_next = lmdb_ns_next,
	.ns_create = lmdb_ns_create,
	.ns_remove = lmdb_ns_remove,
	.ns_rename = lmdb_ns_rename,
	.view_begin = lmdb_view_begin,
	.view_end = lmdb_view_end,
	.view_get = lmdb_view_get,
	.view_expired = lmdb_view_expired,
	.view_next_expiry = lmdb_view_next_expiry,
	.scan_open = lmdb_scan_open,
	.scan_seek = lmdb_scan_seek,
	.scan_get = lmdb_scan_get,
	.scan_close = lmdb_scan_close,
	.read = lmdb_read,
	.stamp = lmdb_stamp,
	.apply = lmdb_apply,
	.throttle = lmdb_throttle,
	.sync = lmdb_sync,
	.move_tree = lmdb_move_tree,
	.watch = lmdb_watch,
	.foreign_compare = lmdb_foreign_compare,
	.foreign_old_value = lmdb_foreign_old_value,
	.new_ino = lmdb_new_ino,
	.stat = lmdb_stat,
};

/* The folder, made where it is missing and may be made. */
static int open_dir(const struct lmdb_options *o, char *why, size_t why_cap)
{
	struct stat st;
	bool create = o->create && !o->readonly;

	if (create && mkdir(o->dir, 0700) < 0 && errno != EEXIST) {
		int rc = -errno;

		snprintf(why, why_cap, "it cannot be made: %s",
			rc == -ENOENT ? "the folder that it would be in does not exist"
				      : strerror(-rc));
		return rc;
	}
	if (stat(o->dir, &st) < 0) {
		int rc = -errno;

		snprintf(why, why_cap, "%s", rc == -ENOENT ? "it does not exist" : strerror(-rc));
		return rc;
	}
	if (!S_ISDIR(st.st_mode)) {
		snprintf(why, why_cap, "it is no folder");
		return -ENOTDIR;
	}
	return 0;
}

/* The data file, locked where we are to write. */
static int open_data(const struct lmdb_options *o, struct stat *st, char *why, size_t why_cap)
{
	char *path = NULL;
	int fd = -1, rc = 0;

	if (asprintf(&path, "%s/data.mdb", o->dir) < 0)
		return -ENOMEM;
	int flags = (o->readonly ? O_RDONLY : O_RDWR) | (o->create && !o->readonly ? O_CREAT : 0);
	fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_cap, "its data.mdb cannot be opened: %s",
			rc == -ENOENT ? "there is none, so it is no LMDB environment"
				      : strerror(-rc));
	} else if (fstat(fd, st) < 0) {
		rc = -errno;
	} else if (!S_ISREG(st->st_mode)) {
		rc = S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
		snprintf(why, why_cap, "its data.mdb is no file");
	} else if (!o->readonly && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		snprintf(why, why_cap, "%s",
			rc == -EBUSY ? "another kvfs has it mounted"
				     : "its data.mdb cannot be locked");
	}
	free(path);
	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

pid_t lmdb_holder(const char *dir)
{
	char path[PATH_MAX], line[256];
	unsigned long long ino;
	pid_t pid, holder = 0;
	struct stat st;
	FILE *locks;

	if (snprintf(path, sizeof(path), "%s/data.mdb", dir) >= (int)sizeof(path) ||
		stat(path, &st))
		return 0;
	locks = fopen("/proc/locks", "re");
	/* The number of the device is not compared: on some filesystems stat() gives another one. */
	while (locks && !holder && fgets(line, sizeof(line), locks)) {
		if (sscanf(line, "%*s FLOCK %*s WRITE %d %*x:%*x:%llu", &pid, &ino) == 2 &&
			ino == st.st_ino && pid > 0)
			holder = pid;
	}
	if (locks)
		fclose(locks);
	return holder;
}

static size_t first_map_size(const struct lmdb_options *o, const struct check_info *info)
{
	uint64_t size = o->map_size ? o->map_size : MAP_SIZE;

	if (!o->map_size && 2 * info->used > size)
		size = 2 * info->used;
	return info->map_size > size ? info->map_size : size;
}

/* Makes the names of new files durable, where the filesystem can sync a folder at all. */
static void sync_folder(const char *dir, const char *name)
{
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = at < 0 ? -1 : openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	if (at >= 0)
		close(at);
}

/* While a data file is being made, a file of this name stands beside it: without it a file that
 * holds nothing but the beginning of an environment is a damaged one, and not ours to touch. */
static const char MAKING[] = "data.mdb.making";

static char *making_path(const char *dir)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, MAKING) < 0 ? NULL : path;
}

static int making_begin(const char *dir)
{
	char *path = making_path(dir);
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	int rc = path ? fd < 0 ? -errno : 0 : -ENOMEM;

	if (fd >= 0)
		close(fd);
	free(path);
	sync_folder(dir, ".");
	return rc;
}

static bool making_was_cut_short(const char *dir)
{
	char *path = making_path(dir);
	bool was = path && access(path, F_OK) == 0;

	free(path);
	return was;
}

static void making_end(const char *dir)
{
	char *path = making_path(dir);

	if (path && unlink(path) == 0)
		sync_folder(dir, ".");
	free(path);
}

/* Looks at the environment, and opens it. */
static int open_env(struct lmdb_store *st, const struct lmdb_options *o, char *why, size_t why_cap)
{
	struct check_info info = {0};
	struct stat file;
	int rc = open_dir(o, why, why_cap);

	if (rc)
		return rc;
	int fd = open_data(o, &file, why, why_cap);
	if (fd < 0)
		return fd;
	bool cut_short = !o->readonly && o->create && making_was_cut_short(o->dir);
	if (file.st_size > 0 && cut_short && check_unborn(fd, (uint64_t)file.st_size)) {
		rc = ftruncate(fd, 0) < 0 ? -errno : 0; /* as if it were made now */
		file.st_size = 0;
	} else if (file.st_size > 0) {
		rc = check_environment(fd, &info, why, why_cap);
	} else if (o->readonly || !o->create) {
		snprintf(why, why_cap, "its data.mdb is empty");
		rc = -EINVAL;
	}
	if (!rc && !file.st_size)
		rc = making_begin(o->dir);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = env_open(&st->env, o->dir, fd, o->readonly, first_map_size(o, &info), why, why_cap);
	if (!rc && file.st_size && cut_short)
		making_end(o->dir);
	if (rc || file.st_size)
		return rc;
	/* LMDB does not see to it that its first two pages are on the disk before any other. */
	if (fsync(fd) < 0) {
		rc = -errno;
		env_close(&st->env);
		return rc;
	}
	sync_folder(o->dir, ".");
	sync_folder(o->dir, "..");
	making_end(o->dir);
	return 0;
}

static int start(struct lmdb_store *st, char *why, size_t why_cap)
{
	int rc = meta_load(st, why, why_cap);

	if (rc)
		return rc;
	ns_survey(&st->namespaces, &st->env);
	if (!st->base.readonly)
		space_init(&st->space, &st->env);
	watch_init(st);
	rc = committer_start(st);
	if (rc == 0)
		rc = watch_start(st);
	if (rc) {
		committer_stop(st);
		watch_destroy(st);
	}
	if (rc)
		snprintf(why, why_cap, "its threads cannot be started: %s", strerror(-rc));
	return rc;
}

int lmdb_store_open(const struct lmdb_options *o, struct store **out, char *why, size_t why_cap)
{
	struct lmdb_store *st = calloc(1, sizeof(*st));
	const char *tmp = getenv("TMPDIR");
	int rc;

	snprintf(why, why_cap, "%s", "");
	if (!st)
		return -ENOMEM;
	st->base.ops = &lmdb_ops;
	st->base.value_max = VALUE_MAX;
	st->base.readonly = o->readonly;
	st->env.fd = -1;
	st->commit_interval_ms = o->commit_interval_ms;
	st->pending_max = o->pending_max ? o->pending_max : PENDING_MAX;
	lock_init(&st->verified.lock, LOCK_VERIFIED);
	lock_init(&st->damaged.lock, LOCK_DAMAGED);
	gate_init(&st->changes, LOCK_CHANGES);
	rc = open_env(st, o, why, why_cap);
	if (rc) {
		lock_destroy(&st->verified.lock);
		lock_destroy(&st->damaged.lock);
		gate_destroy(&st->changes);
		free(st);
		return rc;
	}
	/* Beside the environment, so that large values wait on the medium that they will be on. */
	const char *blobs = !o->readonly ? o->dir : tmp && *tmp ? tmp : "/tmp";
	st->base.blobs = blob_pool_new(blobs, BLOB_THRESHOLD, BLOB_BUDGET);
	st->pending = pending_new();
	rc = namespaces_init(&st->namespaces);
	st->env.reopen_handles = ns_reopen_handles;
	st->env.handles_arg = &st->namespaces;
	if (rc == 0)
		rc = st->base.blobs && st->pending ? start(st, why, why_cap) : -ENOMEM;
	if (rc) {
		if (!*why)
			snprintf(why, why_cap, "%s", strerror(-rc));
		store_free(st);
		return rc;
	}
	*out = &st->base;
	return 0;
}
