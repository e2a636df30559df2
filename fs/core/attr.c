#include "fs/core/attr.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "backends/base/clock.h"
#include "fs/core/children.h"
#include "fs/core/file.h"
#include "fs/core/version.h"

enum { BLOCK_SIZE = 4096, STAT_BLOCK = 512 };

/* That another program drops a namespace, and that it changes attributes (another kvfs beside a
 * read-only mount), is not noticed by the watch, which compares values. */
static const double VALID_UNWATCHED = 1.0;

/* Seconds that the kernel may believe what it is told of an entry. */
static double attr_valid(struct fs *fs, const struct entry_id *id, const struct loaded *l)
{
	int64_t expiry = record_expiry_ns(&l->rec);

	if (l->partial)
		return 0;
	if (l->fresh_until && l->fresh_until < expiry)
		expiry = l->fresh_until;
	if (fs->st->ops->prepare && id->kind == ENTRY_DIR)
		return VALID_UNWATCHED;
	/* With -o sync a change may be there although it was answered with the error of storing it:
	 * what the kernel believes of names then is not to last. */
	if (fs->opt.readonly || fs->opt.sync ||
		(id->kind == ENTRY_DIR && !id->len && fs->root_ns == FS_NS_ALL))
		return VALID_UNWATCHED;
	if (l->fresh_until && clock_is_set_by_test())
		return 0;
	/* A time that a test sets says nothing of how long the kernel will wait; the sweep will
	 * tell it. */
	if (expiry == INT64_MAX || clock_is_set_by_test())
		return FS_VALID_LONG;
	double left = (double)(expiry - clock_now()) / CLOCK_SECOND;
	if (left < 0)
		return 0;
	return left < FS_VALID_LONG ? left : FS_VALID_LONG;
}

void attr_fill(struct fs *fs, const struct entry_id *id, struct node *n, const struct loaded *l,
	uint32_t dirs, struct fs_attr *out)
{
	struct record rec = l->rec;
	uint64_t size = l->size, version = l->version;

	if (n && S_ISREG(rec.mode)) {
		file_overlay(fs, n, &rec, &size, &version);
		version_note_told(n, version);
	}
	out->brief = false;
	out->st = (struct stat){
		.st_ino = rec.ino,
		.st_mode = rec.mode,
		.st_nlink = 1,
		.st_uid = rec.uid,
		.st_gid = rec.gid,
		.st_rdev = rec.rdev,
		.st_size = (off_t)size,
		.st_blksize = BLOCK_SIZE,
		.st_blocks = (blkcnt_t)((size + STAT_BLOCK - 1) / STAT_BLOCK),
		.st_atim = rec.atime,
		.st_mtim = rec.mtime,
		.st_ctim = rec.ctime,
	};
	if (S_ISDIR(rec.mode)) {
		/* One link says "not counted", as other filesystems do in directories too large for
		 * it. */
		out->st.st_nlink = dirs == UINT32_MAX ? 1 : dirs + 2;
		out->st.st_size = BLOCK_SIZE;
		out->st.st_blocks = BLOCK_SIZE / STAT_BLOCK;
	} else if (!S_ISREG(rec.mode) && !S_ISLNK(rec.mode)) {
		out->st.st_size = 0;
		out->st.st_blocks = 0;
	}
	out->valid = attr_valid(fs, id, l);
}

/* What node `n` (NULL: none) remembers of how many directories are in it. Since that must be as new
 * as the view in which they are counted otherwise, it is looked at before the view begins. */
struct dirs_memory {
	uint32_t epoch, added, dirs;
	bool known;
};

static struct dirs_memory dirs_recall(struct fs *fs, struct node *n)
{
	struct dirs_memory m = {.epoch = atomic_load(&fs->dirs_epoch), .dirs = UINT32_MAX};

	if (!n)
		return m;
	lock_take(&fs->nodes.lock);
	m.added = n->added;
	/* With more in it than is counted, it would be another number when it is counted anew. */
	m.known = n->dirs_epoch == m.epoch && (int32_t)(n->added_max - n->added) >= 0;
	if (m.known)
		m.dirs = n->dirs;
	lock_drop(&fs->nodes.lock);
	return m;
}

static void dirs_count(struct fs *fs, struct view *v, const struct entry_id *id, struct node *n,
	struct dirs_memory *m)
{
	uint32_t room = 0;

	if (m->known)
		return;
	m->dirs = dir_count_dirs(fs, v, id, DIR_COUNT_MOST, &room);
	if (!n || m->dirs == UINT32_MAX)
		return;
	lock_take(&fs->nodes.lock);
	n->dirs = m->dirs;
	n->dirs_epoch = m->epoch;
	n->added_max = m->added + room;
	lock_drop(&fs->nodes.lock);
}

int attr_get(struct fs *fs, const struct entry_id *id, struct node *n, int64_t now, bool locked,
	struct fs_attr *out)
{
	const struct store_ops *ops = fs->st->ops;
	struct dirs_memory dirs = dirs_recall(fs, n);
	struct loaded l;
	struct view *v;
	int rc = ops->view_begin(fs->st, now, &v);

	if (rc)
		return rc;
	rc = entry_load_in(fs, v, id, true, &l);
	if (!rc && id->kind == ENTRY_DIR && !id_is_top(id))
		dirs_count(fs, v, id, n, &dirs);
	ops->view_end(v);
	if (!rc && id_is_top(id)) /* which nothing is remembered of */
		dirs.dirs = dir_count_dirs(fs, NULL, id, DIR_COUNT_MOST, NULL);
	if (!rc)
		rc = entry_adopt(fs, id, now, &l, locked);
	if (rc)
		return rc;
	attr_fill(fs, id, n, &l, dirs.dirs, out);
	loaded_release(&l);
	return 0;
}

/* Copies the last attributes of an unlinked node. -ENOENT: it is not unlinked. */
static int gone_record(struct fs *fs, struct node *n, struct loaded *l, bool *left)
{
	int rc = -ENOENT;

	lock_take(&fs->nodes.lock);
	if (n->gone) {
		*l = (struct loaded){.rec = n->gone->rec, .size = n->gone->size};
		*left = n->gone->left;
		rc = 0;
	}
	lock_drop(&fs->nodes.lock);
	return rc;
}

static void gone_attr(struct fs *fs, struct node *n, struct loaded *l, struct fs_attr *out)
{
	struct entry_id none = id_key(FS_NS_ALL, "", 0);

	l->rec.expiration = 0;
	attr_fill(fs, &none, n, l, UINT32_MAX, out);
	out->st.st_nlink = 0;
	out->valid = FS_VALID_LONG;
}

static int getattr_now(struct fs *fs, struct node *n, bool locked, struct fs_attr *attr)
{
	struct node_id id;
	struct loaded l;
	bool left;

	if (gone_record(fs, n, &l, &left) == 0) {
		gone_attr(fs, n, &l, attr);
		attr->st.st_nlink = left; /* the key is there */
		return 0;
	}
	int rc = node_get_id(&fs->nodes, n, &id);
	if (rc)
		return rc;
	/* What is open is there, whether it has expired or not, and although another program has
	 * removed it and the watch is yet to notice. */
	rc = attr_get(fs, &id.id, n, n->file ? NOW_NEVER : clock_now(), locked, attr);
	if (rc == -ENOENT && file_last_known(fs, n, &l.rec, &l.size) == 0) {
		gone_attr(fs, n, &l, attr);
		rc = 0;
	}
	return rc;
}

int fs_getattr(struct fs *fs, struct node *n, struct fs_attr *attr)
{
	struct rebind_check check = {0};
	int rc;

	do {
		rebind_look(fs, &check);
		rc = getattr_now(fs, n, check.locked, attr);
		rebind_check_stored(fs, &check, n);
	} while (rebind_disturbed(fs, &check));
	return rc;
}

static void record_set(struct record *rec, const struct stat *to, unsigned what)
{
	struct timespec now = clock_timespec(clock_now());

	if (what & FS_SET_MODE)
		rec->mode = (rec->mode & S_IFMT) | (to->st_mode & 07777);
	if (what & FS_SET_UID)
		rec->uid = to->st_uid;
	if (what & FS_SET_GID)
		rec->gid = to->st_gid;
	if (what & (FS_SET_ATIME | FS_SET_ATIME_NOW))
		rec->atime = what & FS_SET_ATIME_NOW ? now : to->st_atim;
	if (what & (FS_SET_MTIME | FS_SET_MTIME_NOW))
		rec->mtime = what & FS_SET_MTIME_NOW ? now : to->st_mtim;
	rec->ctime = what & FS_SET_CTIME ? to->st_ctim : now;
}

/* The caller holds fs.change. */
static int setattr_gone(struct fs *fs, struct node *n, const struct stat *to, unsigned what)
{
	struct loaded l;
	bool left;
	int rc = gone_record(fs, n, &l, &left);

	if (rc)
		return rc;
	file_overlay(fs, n, &l.rec, &l.size, NULL);
	record_set(&l.rec, to, what);
	lock_take(&fs->nodes.lock);
	n->gone->rec = l.rec;
	lock_drop(&fs->nodes.lock);
	file_set_times(fs, n, &l.rec);
	return 0;
}

/* Everything but the size. */
static int setattr_stored(struct fs *fs, struct node *n, const struct stat *to, unsigned what)
{
	struct node_id id;
	struct loaded l;

	lock_take(&fs->change);
	int rc = node_get_id(&fs->nodes, n, &id);
	if (rc) {
		rc = setattr_gone(fs, n, to, what);
		goto out;
	}
	rc = entry_load_node(fs, n, &id.id, &l);
	if (rc)
		goto out;
	struct timespec stored = l.rec.mtime;
	uint64_t size; /* of a file that is being written: its times are newer than the store's */
	file_overlay(fs, n, &l.rec, &size, NULL);
	record_set(&l.rec, to, what);
	entry_linger(&l.rec);
	struct record rec = l.rec;
	if (file_is_dirty(fs, n)) /* the new content's, which is not to be stored before it */
		rec.mtime = stored;
	struct change put = {.op = CHANGE_PUT, .id = id.id, .rec = &rec};
	rc = fs_apply(fs, &put, 1);
	if (!rc)
		file_set_times(fs, n, &l.rec);
	loaded_release(&l);
out:
	lock_drop(&fs->change);
	return rc;
}

int fs_setattr(struct fs *fs, struct node *n, const struct stat *to, unsigned what,
	struct handle *h, struct fs_attr *attr)
{
	bool resize = what & FS_SET_SIZE;
	int rc = 0;

	if (resize) {
		rc = file_resize(fs, n, (uint64_t)to->st_size, h);
		what &= ~(unsigned)(FS_SET_SIZE | FS_SET_CTIME);
		/* The change of size has set the times; the kernel asks for "now" beside. */
		if (what & FS_SET_MTIME_NOW)
			what &= ~(unsigned)(FS_SET_MTIME | FS_SET_MTIME_NOW);
	}
	/* Nothing to set: an owner was "changed" to what it was, which is a change too. */
	if (!rc && (what || !resize))
		rc = setattr_stored(fs, n, to, what);
	if (!rc && resize && h)
		rc = fs_settle_write(fs, h);
	rc = fs_settle(fs, rc);
	return rc ? rc : fs_getattr(fs, n, attr);
}

int fs_drop_setid(struct fs *fs, struct node *n)
{
	struct fs_attr attr;
	int rc = fs_getattr(fs, n, &attr);

	if (rc)
		return rc;
	mode_t drop = attr.st.st_mode & S_ISUID;
	/* Without the right to execute it is no set-group-id, but a mark of old. */
	if ((attr.st.st_mode & S_ISGID) && (attr.st.st_mode & S_IXGRP))
		drop |= S_ISGID;
	if (!drop)
		return 0;
	attr.st.st_mode &= ~drop;
	rc = fs_setattr(fs, n, &attr.st, FS_SET_MODE, NULL, &attr);
	return rc ? rc : 1;
}
