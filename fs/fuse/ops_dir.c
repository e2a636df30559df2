#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fuse/ops.h"

/* Replies with a new entry, or the error. */
static void reply_entry(fuse_req_t req, int rc, struct node *n, const struct fs_attr *attr)
{
	struct fs *fs = ops_fs(req);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	struct fuse_entry_param e = ops_entry(fs, n, attr);
	if (fuse_reply_entry(
		    req, &e)) /* the asker is gone, and the kernel has not counted this lookup */
		fs_forget(fs, n, 1);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = ops_fs(req);
	struct fs_attr attr;
	struct node *n;
	double valid = 0;
	int rc = fs_prepare_name(fs, ops_node(fs, parent), name);
	unsigned ticket = fs_answer_begin(fs);

	if (!rc)
		rc = fs_lookup(fs, ops_node(fs, parent), name, &n, &attr, &valid);

	fs_log_refused(fs, ops_node(fs, parent), name, rc == -EINVAL ? 0 : rc);
	if (rc == 0)
		fs_note_look(ops_node(fs, parent), ops_caller(req).pid);
	if (rc == -ENOENT && valid > 0) {
		struct fuse_entry_param absent = {.ino = 0, .entry_timeout = valid};

		fuse_reply_entry(req, &absent);
	} else {
		reply_entry(req, rc, n, &attr);
	}
	fs_answer_end(fs, ticket);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	struct fs *fs = ops_fs(req);

	if (ino != FUSE_ROOT_ID)
		fs_forget(fs, ops_node(fs, ino), lookups);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = ops_fs(req);

	for (size_t i = 0; i < count; i++) {
		if (forgets[i].ino != FUSE_ROOT_ID)
			fs_forget(fs, ops_node(fs, forgets[i].ino), forgets[i].nlookup);
	}
	fuse_reply_none(req);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = ops_fs(req);
	struct fs_attr attr;
	struct node *n = NULL;
	int rc = fs_make_room(fs, 0);

	if (!rc)
		rc = fs_prepare_name(fs, ops_node(fs, parent), name);
	unsigned ticket = fs_answer_begin(fs);
	if (!rc)
		rc = fs_mkdir(
			fs, ops_node(fs, parent), name, mode & 07777, ops_caller(req), &n, &attr);
	fs_log_refused(fs, ops_node(fs, parent), name, rc);
	reply_entry(req, rc, n, &attr);
	fs_answer_end(fs, ticket);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
	const char *target)
{
	struct fs *fs = ops_fs(req);
	struct fs_attr attr;
	struct node *n = NULL;
	int rc = fs_make_room(fs, target ? strlen(target) : 0);

	if (!rc)
		rc = fs_prepare_name(fs, ops_node(fs, parent), name);
	unsigned ticket = fs_answer_begin(fs);
	if (!rc)
		rc = fs_mknod(fs, ops_node(fs, parent), name, mode, rdev, target, ops_caller(req),
			&n, &attr);
	fs_log_refused(fs, ops_node(fs, parent), name, rc);
	reply_entry(req, rc, n, &attr);
	fs_answer_end(fs, ticket);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	/* A key has one name. */
	fuse_reply_err(req, EPERM);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = ops_fs(req);

	/* A full store must not keep anybody from removing. */
	fs_make_room(fs, 0);
	int rc = fs_prepare_name(fs, ops_node(fs, parent), name);
	fuse_reply_err(req, rc ? -rc : -fs_unlink(fs, ops_node(fs, parent), name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = ops_fs(req);

	fs_make_room(fs, 0);
	int rc = fs_prepare_rmdir(fs, ops_node(fs, parent), name);
	fuse_reply_err(req, rc ? -rc : -fs_rmdir(fs, ops_node(fs, parent), name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned flags)
{
	struct fs *fs = ops_fs(req);
	int rc = fs_make_room(fs, 0);

	if (!rc)
		rc = fs_prepare_rename(fs, ops_node(fs, parent), name, ops_node(fs, newparent),
			newname, flags & RENAME_EXCHANGE);
	if (!rc)
		rc = fs_rename(
			fs, ops_node(fs, parent), name, ops_node(fs, newparent), newname, flags);
	if (!(flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
		fs_log_refused(fs, ops_node(fs, newparent), newname, rc);
	fuse_reply_err(req, -rc);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct listing *l;
	int rc = fs_opendir(fs, ops_node(fs, ino), &l);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	fi->fh = (uintptr_t)l;
	if (fuse_reply_open(req, fi))
		fs_closedir(fs, l);
}

/* The buffer of a reply to readdir. */
struct dirents {
	fuse_req_t req;
	bool plus;
	char *buf;
	size_t size, used;
};

static bool add_dirent(void *arg, const struct fs_dirent *e)
{
	struct dirents *d = arg;
	struct fuse_entry_param p = {0};
	size_t n;

	if (e->node)
		p = ops_entry(ops_fs(d->req), e->node, &e->attr);
	p.attr.st_ino = e->ino;
	p.attr.st_mode = e->node ? e->attr.st.st_mode : e->type;
	if (d->plus)
		n = fuse_add_direntry_plus(
			d->req, d->buf + d->used, d->size - d->used, e->name, &p, (off_t)e->next);
	else
		n = fuse_add_direntry(d->req, d->buf + d->used, d->size - d->used, e->name, &p.attr,
			(off_t)e->next);
	if (n > d->size - d->used)
		return false;
	d->used += n;
	return true;
}

static void readdir_any(
	fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct fs *fs = ops_fs(req);
	struct dirents d = {.req = req, .plus = plus, .buf = malloc(size), .size = size};
	size_t least = plus ? fuse_add_direntry_plus(req, NULL, 0, "a", NULL, 0)
			    : fuse_add_direntry(req, NULL, 0, "a", NULL, 0);
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;
	int rc = d.buf ? fs_prepare_listing(fs, l, (uint64_t)off) : -ENOMEM;
	unsigned ticket = fs_answer_begin(fs);

	fs_listing_by(l, ops_caller(req).pid);
	if (!rc)
		rc = fs_readdir(
			fs, l, (uint64_t)off, plus, (unsigned)(size / least), add_dirent, &d);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, d.buf, d.used);
	fs_answer_end(fs, ticket);
	free(d.buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_any(req, size, off, fi, false);
}

void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_any(req, size, off, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fs_closedir(ops_fs(req), (struct listing *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct given_up g = ops_given_up(req);

	fuse_reply_err(req, -fs_sync_all(ops_fs(req), &g));
}
