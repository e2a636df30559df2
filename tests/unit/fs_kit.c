#include "tests/unit/fs_kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/memory/memory.h"

static char clock_file[] = "/tmp/kvfs-clock-XXXXXX";

void set_clock(const char *seconds)
{
	FILE *f = fopen(clock_file, "w");

	assert_non_null(f);
	fputs(seconds, f);
	fclose(f);
}

void env_open(struct env *e, char sep, const struct fs_options *more)
{
	struct fs_options opt = more ? *more : (struct fs_options){0};

	opt.separator = sep;
	opt.umask = 022;
	set_clock("1000000000");
	assert_int_equal(memory_store_open(&e->st), 0);
	assert_int_equal(e->st->ops->ns_create(e->st, "n", 1, NULL, &e->ns), 0);
	assert_int_equal(fs_open(e->st, e->ns, &opt, &e->fs), 0);
}

void env_close(struct env *e)
{
	assert_int_equal(fs_close(e->fs), 0);
}

/* Another program's put or delete. */
void foreign_put(struct env *e, const char *key, const char *value)
{
	struct change put = {.op = CHANGE_PUT,
		.id = {.ns = e->ns,
			.kind = ENTRY_KEY,
			.len = (uint16_t)strlen(key),
			.bytes = (const unsigned char *)key}};

	assert_int_equal(blob_new_copy(e->st->blobs, value, strlen(value), &put.value), 0);
	assert_int_equal(e->st->ops->apply(e->st, &put, 1, NULL), 0);
	blob_unref(put.value);
}

void foreign_remove(struct env *e, const char *key)
{
	struct change remove = {.op = CHANGE_REMOVE,
		.id = {.ns = e->ns,
			.kind = ENTRY_KEY,
			.len = (uint16_t)strlen(key),
			.bytes = (const unsigned char *)key}};

	assert_int_equal(e->st->ops->apply(e->st, &remove, 1, NULL), 0);
}

/* Walks a path, as the kernel does: a lookup for each name. */
int walk(struct env *e, const char *path, struct node **out, struct fs_attr *attr)
{
	char copy[4096], *save, *name;
	struct node *n = fs_root(e->fs), *next;
	double valid;
	int rc = fs_getattr(e->fs, n, attr);

	snprintf(copy, sizeof(copy), "%s", path);
	for (name = strtok_r(copy, "/", &save); name && !rc; name = strtok_r(NULL, "/", &save)) {
		rc = S_ISDIR(attr->st.st_mode) ? fs_lookup(e->fs, n, name, &next, attr, &valid)
					       : -ENOTDIR;
		if (n != fs_root(e->fs))
			fs_forget(e->fs, n, 1);
		n = next;
	}
	if (!rc)
		*out = n;
	return rc;
}

void forget(struct env *e, struct node *n)
{
	if (n != fs_root(e->fs))
		fs_forget(e->fs, n, 1);
}

/* The mode of a path, or -errno. */
int mode_of(struct env *e, const char *path)
{
	struct fs_attr attr;
	struct node *n;
	int rc = walk(e, path, &n, &attr);

	if (rc)
		return rc;
	forget(e, n);
	return (int)attr.st.st_mode;
}

bool is_file(struct env *e, const char *path)
{
	int mode = mode_of(e, path);

	return mode > 0 && S_ISREG(mode);
}

bool is_dir(struct env *e, const char *path)
{
	int mode = mode_of(e, path);

	return mode > 0 && S_ISDIR(mode);
}

/* Splits a path into its directory's node and the name. */
static const char *split(struct env *e, const char *path, struct node **parent)
{
	char dir[4096];
	struct fs_attr attr;
	const char *slash = strrchr(path, '/');

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	assert_int_equal(walk(e, dir, parent, &attr), 0);
	return slash ? slash + 1 : path;
}

int take_all(void *arg, const void *data, size_t len)
{
	char *out = arg;

	memcpy(out, data, len);
	out[len] = '\0';
	return 0;
}

int write_file(struct env *e, const char *path, const char *text)
{
	struct handle *h;
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *dir, *n;
	const char *name = split(e, path, &dir);
	int rc = walk(e, path, &n, &attr);

	if (rc == -ENOENT)
		rc = fs_create(e->fs, dir, name, 0644, who, &n, &h, &attr);
	else if (!rc)
		rc = fs_open_file(e->fs, n, true, true, 0, &h);
	forget(e, dir);
	if (rc)
		return rc;
	rc = fs_write(e->fs, h, 0, text, strlen(text), false);
	if (!rc)
		rc = fs_flush(e->fs, h, 0);
	fs_release_file(e->fs, h);
	fs_forget(e->fs, n, 1);
	return rc;
}

const char *read_file(struct env *e, const char *path)
{
	struct handle *h;
	static char text[1024];
	struct fs_attr attr;
	struct node *n;
	int rc = walk(e, path, &n, &attr);

	if (!rc)
		rc = fs_open_file(e->fs, n, false, false, 0, &h);
	if (!rc) {
		rc = fs_read(e->fs, n, 0, sizeof(text) - 1, take_all, text);
		fs_release_file(e->fs, h);
		fs_forget(e->fs, n, 1);
	}
	return rc ? strerror(-rc) : text;
}

int make_dir(struct env *e, const char *path)
{
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *dir, *n;
	const char *name = split(e, path, &dir);
	int rc = fs_mkdir(e->fs, dir, name, 0755, who, &n, &attr);

	forget(e, dir);
	if (!rc)
		fs_forget(e->fs, n, 1);
	return rc;
}

int remove_path(struct env *e, const char *path, bool dir)
{
	struct node *parent;
	const char *name = split(e, path, &parent);
	int rc = dir ? fs_rmdir(e->fs, parent, name) : fs_unlink(e->fs, parent, name);

	forget(e, parent);
	return rc;
}

int move(struct env *e, const char *from, const char *to, unsigned flags)
{
	struct node *a, *b;
	const char *name = split(e, from, &a), *newname = split(e, to, &b);
	int rc = fs_rename(e->fs, a, name, b, newname, flags);

	forget(e, a);
	forget(e, b);
	return rc;
}

int set_xattr(struct env *e, const char *path, const char *name, const char *value)
{
	struct fs_attr attr;
	struct node *n;
	int rc = walk(e, path, &n, &attr);

	if (rc)
		return rc;
	rc = value ? fs_setxattr(e->fs, n, name, value, strlen(value), 0)
		   : fs_removexattr(e->fs, n, name);
	forget(e, n);
	return rc;
}

const char *get_xattr(struct env *e, const char *path, const char *name)
{
	static char text[1024];
	struct fs_attr attr;
	struct node *n;
	int rc = walk(e, path, &n, &attr);

	if (!rc) {
		rc = fs_getxattr(e->fs, n, name, text, sizeof(text) - 1);
		forget(e, n);
	}
	if (rc < 0)
		return strerror(-rc);
	text[rc] = '\0';
	return text;
}

bool list_one(void *arg, const struct fs_dirent *d)
{
	struct listed *l = arg;

	if (!l->left)
		return false;
	l->left--;
	l->next = d->next;
	if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
		return true;
	if (*l->text)
		strcat(l->text, " ");
	strcat(l->text, d->name);
	if (d->type == S_IFDIR)
		strcat(l->text, "/");
	return true;
}

const char *list(struct env *e, const char *path)
{
	static struct listed l;
	struct fs_attr attr;
	struct listing *dir;
	struct node *n;
	size_t before;

	l = (struct listed){0};
	assert_int_equal(walk(e, path, &n, &attr), 0);
	assert_int_equal(fs_opendir(e->fs, n, &dir), 0);
	do { /* in small portions, as the kernel does */
		before = strlen(l.text);
		l.left = 3;
		assert_int_equal(fs_readdir(e->fs, dir, l.next, false, 7, list_one, &l), 0);
	} while (l.left == 0 || strlen(l.text) > before);
	fs_closedir(e->fs, dir);
	forget(e, n);
	return l.text;
}

int fs_kit_run(const struct CMUnitTest *tests, size_t n)
{
	int fd = mkstemp(clock_file);

	if (fd < 0)
		return 1;
	close(fd);
	set_clock("1000000000");
	setenv("KVFS_CLOCK", clock_file, 1);
	if (clock_init())
		return 1;
	int failed = _cmocka_run_group_tests("fs", tests, n, NULL, NULL);
	unlink(clock_file);
	return failed;
}

void replace_file(struct env *e, const char *name, const char *text)
{
	assert_int_equal(write_file(e, "tmp", text), 0);
	assert_int_equal(move(e, "tmp", name, 0), 0);
}
