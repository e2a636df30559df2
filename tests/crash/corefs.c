#include "tests/crash/corefs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/lmdb/lmdb.h"

enum { NAMES_MAX = 256 };

static void nothing_entry(void *arg, struct node *parent, const char *name, size_t len)
{
}

static void nothing_inode(void *arg, struct node *node, bool data)
{
}

static const struct fs_notify_ops nothing = {nothing_entry, nothing_inode};

int corefs_open(struct corefs *c, const char *dir, bool started)
{
	struct lmdb_options lo = {.dir = dir, .create = true, .commit_interval_ms = 5};
	struct fs_options fo = {.separator = '/', .umask = 022};
	int rc = lmdb_store_open(&lo, &c->st, c->why, sizeof(c->why));

	if (rc)
		return rc;
	rc = fs_open(c->st, FS_NS_ALL, &fo, &c->fs);
	if (rc) {
		c->st->ops->close(c->st);
		return rc;
	}
	if (started)
		rc = fs_start(c->fs, &nothing, NULL);
	if (rc)
		fs_close(c->fs);
	return rc;
}

int corefs_close(struct corefs *c)
{
	return fs_close(c->fs);
}

int corefs_sync(struct corefs *c)
{
	return fs_sync(c->fs);
}

void corefs_forget(struct corefs *c, struct node *n)
{
	if (n != fs_root(c->fs))
		fs_forget(c->fs, n, 1);
}

int corefs_lookup(struct corefs *c, const char *path, struct node **out, struct fs_attr *attr)
{
	char copy[MODEL_PATH], *save, *name;
	struct node *n = fs_root(c->fs), *next;
	double valid;

	snprintf(copy, sizeof(copy), "%s", path);
	for (name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		int rc = fs_lookup(c->fs, n, name, &next, attr, &valid);

		corefs_forget(c, n);
		if (rc)
			return rc;
		n = next;
	}
	*out = n;
	return 0;
}

static int walk(struct corefs *c, const char *path, struct node **out)
{
	struct fs_attr attr;

	return corefs_lookup(c, path, out, &attr);
}

/* The directory of a path; *name is the rest. */
static int walk_dir(struct corefs *c, const char *path, struct node **dir, const char **name)
{
	char up[MODEL_PATH];
	const char *slash = strrchr(path, '/');

	snprintf(up, sizeof(up), "%.*s", slash ? (int)(slash - path) : 0, path);
	*name = slash ? slash + 1 : path;
	return walk(c, up, dir);
}

static const struct fs_caller who = {0};

static int make(struct corefs *c, const struct op *op)
{
	struct node *dir, *n;
	struct fs_attr attr;
	const char *name;
	int rc = walk_dir(c, op->a, &dir, &name);

	if (rc)
		return rc;
	if (op->kind == OP_MKDIR)
		rc = fs_mkdir(c->fs, dir, name, op->mode, who, &n, &attr);
	else
		rc = fs_mknod(c->fs, dir, name, S_IFLNK | 0777, 0, op->text, who, &n, &attr);
	if (!rc)
		fs_forget(c->fs, n, 1);
	corefs_forget(c, dir);
	return rc;
}

static _Thread_local size_t written;

size_t corefs_written(void)
{
	return written;
}

static int write_all(struct corefs *c, struct handle *h, const struct op *op, size_t off)
{
	enum { STEP = 128 << 10 };
	struct content *data = content_new(op->seed, op->len);
	int rc = 0;

	written = 0;
	while (written < op->len && !rc) {
		size_t len = op->len - written < STEP ? op->len - written : STEP;

		rc = fs_write(c->fs, h, off + written, data->bytes + written, len, false);
		if (!rc)
			written += len;
	}
	content_unref(data);
	return rc;
}

/* As a close does, after an fsync where that is wanted. */
static int close_handle(struct corefs *c, struct handle *h, bool sync)
{
	int rc = sync ? fs_fsync(c->fs, h, NULL) : 0;
	int flushed = fs_flush(c->fs, h, 0);

	fs_release_file(c->fs, h);
	return rc ? rc : flushed;
}

static int open_for_put(struct corefs *c, const struct op *op, struct node **out, struct handle **h)
{
	struct node *dir;
	struct fs_attr attr;
	const char *name;
	int rc = walk(c, op->a, out);

	if (!rc) {
		rc = fs_open_file(c->fs, *out, true, true, 0, h);
		if (rc)
			corefs_forget(c, *out);
		return rc;
	}
	if (rc != -ENOENT)
		return rc;
	rc = walk_dir(c, op->a, &dir, &name);
	if (rc)
		return rc;
	rc = fs_create(c->fs, dir, name, op->mode, who, out, h, &attr);
	corefs_forget(c, dir);
	return rc;
}

static int put(struct corefs *c, const struct op *op)
{
	struct handle *h;
	struct node *n;
	int rc = fs_make_room(c->fs, 0);

	if (!rc)
		rc = open_for_put(c, op, &n, &h);
	if (rc)
		return rc;
	rc = write_all(c, h, op, 0);
	int flushed = close_handle(c, h, op->kind == OP_PUT_SYNC);
	corefs_forget(c, n);
	return rc ? rc : flushed;
}

/* What is done to an open file that is there. */
static int edit(struct corefs *c, const struct op *op)
{
	struct handle *h;
	struct node *n;
	int rc = walk(c, op->a, &n);

	if (rc)
		return rc;
	rc = fs_open_file(c->fs, n, true, false, 0, &h);
	if (!rc) {
		if (op->kind == OP_PATCH)
			rc = write_all(c, h, op, op->off);
		int flushed = close_handle(c, h, op->kind == OP_FSYNC);
		rc = rc ? rc : flushed;
	}
	corefs_forget(c, n);
	return rc;
}

static int set_xattr(struct corefs *c, struct node *n, const struct op *op)
{
	const char *name = op->kind == OP_NOTE ? "user.note"
		: op->kind == OP_METADATA      ? "user.kv.metadata"
					       : "user.kv.expiration";
	char number[32];
	const char *text = op->text;

	if (op->kind == OP_EXPIRE) {
		snprintf(number, sizeof(number), "%lld", (long long)op->expiration);
		text = number;
	}
	if (op->kind == OP_EXPIRE ? !op->expiration : !*text)
		return fs_removexattr(c->fs, n, name);
	return fs_setxattr(c->fs, n, name, text, strlen(text), 0);
}

static int set_attribute(struct corefs *c, const struct op *op)
{
	struct stat to = {.st_mode = op->mode, .st_size = (off_t)op->len};
	struct fs_attr attr;
	struct node *n;
	int rc = walk(c, op->a, &n);

	if (rc)
		return rc;
	if (op->kind == OP_CHMOD)
		rc = fs_setattr(c->fs, n, &to, FS_SET_MODE, NULL, &attr);
	else if (op->kind == OP_TRUNCATE)
		rc = fs_setattr(c->fs, n, &to, FS_SET_SIZE, NULL, &attr);
	else
		rc = set_xattr(c, n, op);
	corefs_forget(c, n);
	return rc;
}

static int rename_or_remove(struct corefs *c, const struct op *op)
{
	struct node *dir, *to = NULL;
	const char *name, *newname;
	bool renames = op->kind == OP_RENAME || op->kind == OP_EXCHANGE;
	int rc = walk_dir(c, op->a, &dir, &name);

	if (rc)
		return rc;
	if (renames)
		rc = walk_dir(c, op->b, &to, &newname);
	if (!rc && renames) {
		rc = fs_rename(c->fs, dir, name, to, newname,
			op->kind == OP_EXCHANGE ? RENAME_EXCHANGE : 0);
		corefs_forget(c, to);
	} else if (!rc) {
		rc = op->kind == OP_RMDIR ? fs_rmdir(c->fs, dir, name)
					  : fs_unlink(c->fs, dir, name);
	}
	corefs_forget(c, dir);
	return rc;
}

int corefs_run(struct corefs *c, const struct op *op)
{
	written = SIZE_MAX;
	switch (op->kind) {
	case OP_PUT:
	case OP_PUT_SYNC:
		return put(c, op);
	case OP_PATCH:
	case OP_FSYNC:
		return edit(c, op);
	case OP_MKDIR:
	case OP_SYMLINK:
		return make(c, op);
	case OP_UNLINK:
	case OP_RMDIR:
	case OP_RENAME:
	case OP_EXCHANGE:
		return rename_or_remove(c, op);
	default:
		return set_attribute(c, op);
	}
}

/* A listing under way. */
struct names {
	char names[NAMES_MAX][256];
	size_t n;
	uint64_t next;
};

static bool take_name(void *arg, const struct fs_dirent *d)
{
	struct names *l = arg;

	if (l->n == NAMES_MAX)
		return false;
	l->next = d->next;
	if (strcmp(d->name, ".") != 0 && strcmp(d->name, "..") != 0)
		snprintf(l->names[l->n++], sizeof(l->names[0]), "%s", d->name);
	return true;
}

static int list(struct corefs *c, struct node *n, struct names *l)
{
	struct listing *dir;
	uint64_t before;
	int rc = fs_opendir(c->fs, n, &dir);

	if (rc)
		return rc;
	do {
		before = l->next;
		rc = fs_readdir(c->fs, dir, l->next, false, NAMES_MAX, take_name, l);
	} while (!rc && l->next != before);
	fs_closedir(c->fs, dir);
	return rc;
}

static int take_bytes(void *arg, const void *data, size_t len)
{
	struct content **out = arg;

	*out = content_of(data, len);
	return 0;
}

static int observe_value(struct corefs *c, struct node *n, const struct stat *st, struct thing *t)
{
	struct handle *h;
	char target[4096];
	int rc;

	if (S_ISLNK(st->st_mode)) {
		rc = fs_readlink(c->fs, n, target, sizeof(target));
		if (!rc)
			t->value = content_of(target, strlen(target));
		return rc;
	}
	rc = fs_open_file(c->fs, n, false, false, 0, &h);
	if (rc)
		return rc;
	rc = fs_read(c->fs, n, 0, (size_t)st->st_size, take_bytes, &t->value);
	fs_release_file(c->fs, h);
	if (!rc && t->value->len != (size_t)st->st_size)
		rc = -EBADMSG;
	return rc;
}

static int observe_text(struct corefs *c, struct node *n, const char *name, char *out)
{
	int len = fs_getxattr(c->fs, n, name, out, MODEL_TEXT - 1);

	if (len == -ENODATA || len == -ENOTSUP)
		len = 0;
	if (len < 0)
		return len;
	out[len] = '\0';
	return 0;
}

static int observe_thing(struct corefs *c, struct node *n, const struct stat *st, struct thing *t)
{
	char expiration[MODEL_TEXT];
	int rc = 0;

	t->mode = st->st_mode;
	if (!S_ISLNK(st->st_mode))
		rc = observe_text(c, n, "user.note", t->note);
	if (S_ISDIR(st->st_mode) || rc)
		return rc;
	if (S_ISREG(st->st_mode)) {
		rc = observe_text(c, n, "user.kv.metadata", t->metadata);
		if (!rc)
			rc = observe_text(c, n, "user.kv.expiration", expiration);
		if (!rc)
			t->expiration = atoll(expiration);
	}
	return rc ? rc : observe_value(c, n, st, t);
}

static int observe_dir(
	struct corefs *c, struct node *dir, const char *path, const char *top, struct model *out);

static int observe_name(struct corefs *c, struct node *dir, const char *path, const char *name,
	const char *top, struct model *out)
{
	struct thing t = {0};
	struct fs_attr attr;
	struct node *n;
	double valid;
	int rc;

	if (!*path && strncmp(name, top, strlen(top)) != 0)
		return 0;
	if ((size_t)snprintf(t.path, sizeof(t.path), "%s%s%s", path, *path ? "/" : "", name) >=
		sizeof(t.path))
		return -ENAMETOOLONG;
	rc = fs_lookup(c->fs, dir, name, &n, &attr, &valid);
	if (rc)
		return rc;
	rc = observe_thing(c, n, &attr.st, &t);
	if (!rc)
		model_add(out, &t);
	if (!rc && S_ISDIR(t.mode))
		rc = observe_dir(c, n, t.path, top, out);
	corefs_forget(c, n);
	if (rc)
		fprintf(stderr, "    looking at %s: %s\n", t.path, strerror(-rc));
	return rc;
}

static int observe_dir(
	struct corefs *c, struct node *dir, const char *path, const char *top, struct model *out)
{
	struct names *l = calloc(1, sizeof(*l));
	int rc = l ? list(c, dir, l) : -ENOMEM;

	for (size_t i = 0; !rc && i < l->n; i++)
		rc = observe_name(c, dir, path, l->names[i], top, out);
	free(l);
	return rc;
}

int corefs_observe(struct corefs *c, const char *top, struct model *out)
{
	return observe_dir(c, fs_root(c->fs), "", top, out);
}
