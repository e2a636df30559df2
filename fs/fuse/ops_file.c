#include <errno.h>
#include <fcntl.h>

#include "fs/fuse/ops.h"

enum { OPEN_TRIES = 4 };

static struct handle *ops_handle(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static bool opens_for_writing(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY;
}

/* What the kernel has cached stays right until it is told otherwise; and who only reads has nothing
 * to say when it closes. */
static void open_hints(struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fi->noflush = !opens_for_writing(fi) && !(fi->flags & O_TRUNC);
}

void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct handle *h = NULL;
	struct fs_attr attr;
	struct node *n;
	int rc = fs_make_room(fs, 0);

	if (!rc)
		rc = fs_prepare_name(fs, ops_node(fs, parent), name);
	unsigned ticket = fs_answer_begin(fs);
	if (!rc)
		rc = fs_create(fs, ops_node(fs, parent), name, mode & 07777, ops_caller(req), &n,
			&h, &attr);
	/* It has come since the kernel last looked: now the kernel looks again, and opens it, as far as
	 * the caller may. */
	if (rc == -EEXIST && !(fi->flags & O_EXCL))
		rc = -ESTALE;
	fs_log_refused(fs, ops_node(fs, parent), name, rc);
	if (rc) {
		fuse_reply_err(req, -rc);
	} else {
		struct fuse_entry_param e = ops_entry(fs, n, &attr);

		fi->keep_cache = 1;
		fi->fh = (uintptr_t)h;
		rc = fuse_reply_create(req, &e, fi);
	}
	fs_answer_end(fs, ticket);
	if (h && rc) { /* nobody was told */
		fs_release_file(fs, h);
		fs_forget(fs, n, 1);
	}
}

/* The kernel clears set-id bits where it asks for a change of size, but not where opening a file
 * empties it. Only root may keep them. */
static int drop_setid(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = ops_fs(req);

	if (ops_caller(req).uid == 0)
		return 0;
	int rc = fs_drop_setid(fs, ops_node(fs, ino));
	if (rc > 0) /* which the kernel does not expect; its pages are of no concern */
		fuse_lowlevel_notify_inval_inode(ops_mounted(req)->session, ino, -1, 0);
	return rc < 0 ? rc : 0;
}

static int take_byte(void *arg, const void *data, size_t len)
{
	if (len)
		*(char *)arg = *(const char *)data;
	return 0;
}

/* Who appends does so where the kernel believes that the file ends, which it was not told when it
 * looked the name up, where that was not known yet. It learns it from bytes that are put into its
 * cache: the last one. */
static void tell_end(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = ops_fs(req);
	struct fuse_bufvec last = FUSE_BUFVEC_INIT(1);
	struct fs_attr attr;
	char byte = 0;

	if (fs_getattr(fs, ops_node(fs, ino), &attr) || !attr.st.st_size ||
		fs_read(fs, ops_node(fs, ino), (uint64_t)attr.st.st_size - 1, 1, take_byte, &byte))
		return;
	last.buf[0].mem = &byte;
	fuse_lowlevel_notify_store(ops_mounted(req)->session, ino, attr.st.st_size - 1, &last, 0);
}

/* What has been opened may be another version than what the kernel knows, before it has been told so. */
static void tell_what_is_new(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
	bool content, size;

	fs_is_new(ops_fs(req), n, &content, &size);
	if (content)
		fi->keep_cache = 0;
	if (size)
		fuse_lowlevel_notify_inval_inode(
			ops_mounted(req)->session, ops_ino(ops_fs(req), n), -1, 0);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct node *n = ops_node(fs, ino);
	struct handle *h;
	bool again = true;
	int rc;

	/* What was made ready may have had to go again before it was opened (ETIMEDOUT). */
	for (int tries = 0; again && tries < OPEN_TRIES; tries++) {
		rc = fs_prepare_node(fs, n, !(fi->flags & O_TRUNC));
		again = !rc;
		if (!rc)
			rc = fs_open_file(fs, n, opens_for_writing(fi), fi->flags & O_TRUNC,
				ops_caller(req).pid, &h);
		again = again && rc == -ETIMEDOUT;
	}
	if (!rc && (fi->flags & O_TRUNC)) {
		rc = drop_setid(req, ino);
		if (rc)
			fs_release_file(fs, h);
	}
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	open_hints(fi);
	tell_what_is_new(req, n, fi);
	if ((fi->flags & O_APPEND) && opens_for_writing(fi) && fs_sizes_come_late(fs))
		tell_end(req, ino);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi))
		fs_release_file(fs, h);
}

static int reply_data(void *arg, const void *data, size_t len)
{
	fuse_reply_buf(arg, data, len);
	return 0;
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	int rc = -ESTALE;

	fs_note_cached(fs, ops_node(fs, ino));
	for (int tries = 0; rc == -ESTALE && tries < 2; tries++) {
		if (tries)
			fs_await_watch(fs);
		unsigned ticket = fs_answer_begin(fs);
		rc = fs_read(fs, ops_node(fs, ino), (uint64_t)off, size, reply_data, req);
		fs_answer_end(fs, ticket);
	}
	if (rc)
		fuse_reply_err(req, -rc);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	int rc = fs_write(fs, ops_handle(fi), (uint64_t)off, buf, size, fi->writepage);

	if (!rc)
		rc = fs_settle_write(fs, ops_handle(fi));

	fs_log_refused(fs, ops_node(fs, ino), NULL, rc);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_write(req, size);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);

	fuse_reply_err(req, -fs_flush(fs, ops_handle(fi), ops_caller(req).pid));
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);

	fs_release_file(fs, ops_handle(fi));
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);

	struct given_up g = ops_given_up(req);

	fuse_reply_err(req, -fs_fsync(fs, ops_handle(fi), &g));
}

void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);

	int rc = fs_fallocate(fs, ops_handle(fi), mode, (uint64_t)off, (uint64_t)len);

	fs_log_refused(fs, ops_node(fs, ino), NULL, rc);
	fuse_reply_err(req, -rc);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	uint64_t out;
	int rc = fs_lseek(fs, ops_node(fs, ino), (uint64_t)off, whence, &out);

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_lseek(req, (off_t)out);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = ops_fs(req);
	int64_t n = fs_copy(
		fs, ops_node(fs, in), (uint64_t)off_in, ops_handle(fi_out), (uint64_t)off_out, len);

	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}
