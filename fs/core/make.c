/*
 * make.c - new directories, files, links and special files.
 */
#include <errno.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/attr.h"
#include "fs/core/file.h"
#include "fs/core/handle.h"
#include "fs/core/negatives.h"
#include "fs/core/tree.h"

/* A thing to be made: where, and what it will be. */
struct making {
	struct node *parent_node;
	const char *name;
	struct parent parent;
	struct node_id id;
	struct record rec;
	struct node *spare; /* memory for the node, taken before anything is made */
};

/* The seconds that a key made in directory `dir` lives by default, from the nearest directory that
 * says so. -1: nobody says. */
static int64_t default_ttl(struct fs *fs, struct view *v, const struct entry_id *dir)
{
	unsigned char a[NAMES_DIR_MAX], b[NAMES_DIR_MAX];
	unsigned char *bytes = a, *up = b;
	size_t len = dir->len;
	struct entry e;

	memcpy(bytes, dir->bytes, len);
	for (;;) {
		struct entry_id id = id_dir(dir->ns, bytes, len);
		size_t up_len;

		if (fs->st->ops->view_get(v, &id, &e) == 0 && (e.rec.flags & RECORD_DEFAULT_TTL))
			return e.rec.default_ttl;
		if (!len || names_parent(fs->opt.separator, bytes, len, up, &up_len, NULL))
			break;
		unsigned char *swap = bytes;
		bytes = up;
		up = swap;
		len = up_len;
	}
	struct entry_id top = id_dir(FS_NS_ALL, "", 0);
	if (fs->st->ops->view_get(v, &top, &e) == 0 && (e.rec.flags & RECORD_DEFAULT_TTL))
		return e.rec.default_ttl;
	return fs->opt.have_ttl ? fs->opt.ttl : -1;
}

static int set_default_ttl(struct fs *fs, const struct entry_id *dir, struct record *rec)
{
	struct view *v;
	int rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);

	if (rc)
		return rc;
	int64_t ttl = default_ttl(fs, v, dir);
	fs->st->ops->view_end(v);
	if (ttl > 0) { /* from the first value on (file_store) */
		rec->flags |= RECORD_DEFAULT_TTL;
		rec->default_ttl = ttl;
	}
	return 0;
}

/* Checks that the name is free, and prepares. Under fs.change. */
static int making_begin(struct fs *fs, struct node *parent, const char *name, mode_t mode,
	struct fs_caller who, struct making *m)
{
	enum entry_kind kind = S_ISDIR(mode) ? ENTRY_DIR : ENTRY_KEY;
	struct resolved r = {0};
	int rc = parent_load(fs, parent, false, &m->parent);

	if (rc)
		return rc;
	rc = tree_resolve_now(fs, &m->parent.id.id, name, &r);
	if (!rc && r.exists)
		rc = -EEXIST;
	if (!rc)
		rc = resolved_new_id(&r, m->parent.id.id.ns, kind, &m->id);
	if (rc)
		goto fail;
	m->parent_node = parent;
	m->name = name;
	m->rec = entry_new_record(fs, mode, who.uid, who.gid);
	if (m->parent.l.rec.mode & S_ISGID) {
		m->rec.gid = m->parent.l.rec.gid;
		if (kind == ENTRY_DIR)
			m->rec.mode |= S_ISGID;
	}
	if (kind == ENTRY_KEY)
		rc = set_default_ttl(fs, &m->parent.id.id, &m->rec);
	if (!rc) {
		m->spare = node_spare(m->id.id.len);
		if (m->spare)
			return 0;
		rc = -ENOMEM;
	}
fail:
	parent_release(&m->parent);
	return rc;
}

/* What had this id has expired, or another program has removed it, and the sweep or the watch is
 * yet to come: it gives way to what is made. */
static int making_replace(struct fs *fs, struct making *m, struct change *changes, size_t n)
{
	struct last old = {0};

	rebind_begin(fs);
	int left = last_take(fs, &m->id.id, NOW_NEVER, &old);
	int rc = left && left != -ENOENT ? left : fs_apply(fs, changes, n);
	if (!rc)
		tree_unlink_node(fs, &m->id.id, &old);
	rebind_end(fs);
	last_release(&old);
	return rc;
}

static int making_apply(struct fs *fs, struct making *m, struct blob *value, bool hold)
{
	struct change changes[] = {
		{.op = CHANGE_PUT, .id = m->id.id, .rec = &m->rec, .value = value, .hold = hold},
		parent_change(&m->parent),
	};
	int rc = making_replace(fs, m, changes, 2);

	parent_release(&m->parent);
	if (rc) {
		node_spare_free(m->spare);
		return rc;
	}
	negatives_remove(fs->negatives, m->parent_node, m->name);
	node_note_added(&fs->nodes, m->parent_node);
	return 0;
}

/* The node of what was just made. Nothing here can fail: there is no way back. */
static struct node *making_answer(
	struct fs *fs, struct making *m, uint64_t size, struct fs_attr *attr)
{
	struct node *n = node_lookup_with(&fs->nodes, &m->id.id, m->spare);
	struct loaded l = {.rec = m->rec, .size = size};

	attr_fill(fs, &m->id.id, n, &l, 0, attr);
	return n;
}

/* mkdir in the root of all namespaces. Under fs.change. */
static int make_namespace(struct fs *fs, const char *name, struct making *m)
{
	struct resolved r = {0};
	struct entry_id top = id_dir(FS_NS_ALL, "", 0);
	uint32_t ns;
	int rc = tree_resolve_now(fs, &top, name, &r);

	if (!rc && r.exists)
		rc = -EEXIST;
	m->spare = node_spare(0);
	if (!rc && !m->spare)
		rc = -ENOMEM;
	if (!rc)
		rc = fs->st->ops->ns_create(fs->st, r.ns_name, r.ns_len, &m->rec, &ns);
	if (rc)
		node_spare_free(m->spare);
	else
		m->id.id = id_dir(ns, m->id.bytes, 0);
	return rc;
}

/* fs_settle() for what is new: where that fails, nobody is told of the node. */
static int settle_new(struct fs *fs, int rc, struct node **out)
{
	int settled = fs_settle(fs, rc);

	if (settled && !rc)
		fs_forget(fs, *out, 1);
	return settled;
}

int fs_mkdir(struct fs *fs, struct node *parent, const char *name, mode_t mode,
	struct fs_caller who, struct node **out, struct fs_attr *attr)
{
	struct making m;
	struct node_id dir;

	lock_take(&fs->change);
	int rc = node_get_id(&fs->nodes, parent, &dir);
	if (!rc && id_is_top(&dir.id)) {
		m.rec = entry_new_record(fs, S_IFDIR | mode, who.uid, who.gid);
		rc = make_namespace(fs, name, &m);
		if (!rc)
			negatives_remove(fs->negatives, parent, name);
	} else if (!rc) {
		rc = making_begin(fs, parent, name, S_IFDIR | mode, who, &m);
		if (!rc) {
			m.rec.flags |= RECORD_MADE;
			rc = making_apply(fs, &m, NULL, false);
		}
	}
	if (!rc)
		*out = making_answer(fs, &m, 0, attr);
	fs_dirs_changed(fs);
	lock_drop(&fs->change);
	return settle_new(fs, rc, out);
}

int fs_mknod(struct fs *fs, struct node *parent, const char *name, mode_t mode, dev_t rdev,
	const char *target, struct fs_caller who, struct node **out, struct fs_attr *attr)
{
	struct blob *value;
	struct making m;

	if (fs->st->plain && !S_ISREG(mode))
		return -EPERM; /* there are values only */
	int rc = blob_new_copy(fs->st->blobs, target, target ? strlen(target) : 0, &value);

	if (rc)
		return rc;
	lock_take(&fs->change);
	rc = making_begin(fs, parent, name, mode, who, &m);
	if (!rc) {
		m.rec.rdev = rdev;
		entry_begin_life(&m.rec);
		rc = making_apply(fs, &m, value, false);
	}
	if (!rc)
		*out = making_answer(fs, &m, blob_size(value), attr);
	lock_drop(&fs->change);
	blob_unref(value);
	return settle_new(fs, rc, out);
}

int fs_create(struct fs *fs, struct node *parent, const char *name, mode_t mode,
	struct fs_caller who, struct node **out, struct handle **handle, struct fs_attr *attr)
{
	struct open_file *spare;
	struct making m;
	struct node *n;
	int rc = file_spare(fs, &spare);

	if (rc)
		return rc;
	struct handle *h = handle_new(true, who.pid);
	if (!h) {
		file_free(spare);
		return -ENOMEM;
	}
	lock_take(&fs->change);
	rc = making_begin(fs, parent, name, S_IFREG | mode, who, &m);
	if (!rc)
		rc = making_apply(fs, &m, spare->blob, true);
	if (!rc) {
		n = making_answer(fs, &m, 0, attr);
		spare->mtime = spare->ctime = m.rec.mtime;
		file_created(fs, n, spare, h);
		file_know(fs, n, &m.rec, 0);
		*out = n;
		*handle = h;
	} else {
		file_free(spare);
		handle_free(fs, h);
	}
	lock_drop(&fs->change);
	return rc;
}
