#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/core/names.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/status.h"

static void reply_attr(fuse_req_t req, int rc, const struct fs_attr *attr)
{
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_attr(req, &attr->st, attr->valid);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct fs_attr attr;
	int rc = fs_prepare_node(fs, ops_node(fs, ino), false);
	unsigned ticket = fs_answer_begin(fs);

	if (!rc)
		rc = fs_getattr(fs, ops_node(fs, ino), &attr);
	reply_attr(req, rc, &attr);
	fs_answer_end(fs, ticket);
}

static unsigned what_to_set(int to_set)
{
	static const struct {
		int fuse;
		unsigned fs;
	} map[] = {
		{FUSE_SET_ATTR_MODE, FS_SET_MODE},
		{FUSE_SET_ATTR_UID, FS_SET_UID},
		{FUSE_SET_ATTR_GID, FS_SET_GID},
		{FUSE_SET_ATTR_SIZE, FS_SET_SIZE},
		{FUSE_SET_ATTR_ATIME, FS_SET_ATIME},
		{FUSE_SET_ATTR_MTIME, FS_SET_MTIME},
		{FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW},
		{FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW},
		{FUSE_SET_ATTR_CTIME, FS_SET_CTIME},
	};
	unsigned what = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		if (to_set & map[i].fuse)
			what |= map[i].fs;
	}
	return what;
}

void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *to, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	unsigned what = what_to_set(to_set);
	struct handle *h = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
	struct fs_attr attr;
	bool grows = (what & FS_SET_SIZE) && to->st_size > 0;
	int rc = fs_make_room(fs, grows ? (uint64_t)to->st_size : 0);

	if (!grows && rc != -EROFS) /* a full store must not keep anybody from emptying a file */
		rc = 0;
	if (!rc)
		rc = fs_prepare_node(fs, ops_node(fs, ino), grows);
	unsigned ticket = fs_answer_begin(fs);
	if (!rc)
		rc = fs_setattr(fs, ops_node(fs, ino), to, what, h, &attr);
	bool recall = rc && (what & FS_SET_SIZE);
	if (recall) /* who looked meanwhile may have seen a size that has come to nothing */
		fs_recall_begin(fs, ops_node(fs, ino));
	fs_log_refused(fs, ops_node(fs, ino), NULL, rc);
	reply_attr(req, rc, &attr);
	fs_answer_end(fs, ticket);
	if (recall)
		fs_recall_end(fs, ops_node(fs, ino));
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = ops_fs(req);
	char target[PATH_MAX + 1];
	int rc = fs_readlink(fs, ops_node(fs, ino), target, sizeof(target));

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_readlink(req, target);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	enum { BLOCK = 4096 };
	struct store *st = fs_store(ops_fs(req));
	struct store_stat s;
	struct statvfs out = {.f_bsize = BLOCK, .f_frsize = BLOCK, .f_namemax = NAMES_NAME_MAX};

	st->ops->stat(st, &s);
	out.f_blocks = s.total_bytes / BLOCK;
	out.f_bfree = out.f_bavail = s.free_bytes / BLOCK;
	fuse_reply_statfs(req, &out);
}

/* What an attribute that cannot be there is answered with. */
static int unknown_xattr(const char *name)
{
	return strcmp(name, "user.") == 0 ? EINVAL : ENOTSUP;
}

static int control(fuse_req_t req, fuse_ino_t ino, enum control what)
{
	struct fs *fs = ops_fs(req);
	uid_t uid = fuse_req_ctx(req)->uid;

	if (uid != 0 && uid != getuid())
		return -EPERM;
	return fs_control(fs, ops_node(fs, ino), what);
}

static int set_control(fuse_req_t req, fuse_ino_t ino, const char *value, size_t size)
{
	static const struct {
		const char *word;
		enum control what;
	} words[] = {
		{"upload", CONTROL_UPLOAD},
		{"retry", CONTROL_RETRY},
		{"drop", CONTROL_DROP},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) == size && memcmp(words[i].word, value, size) == 0)
			return control(req, ino, words[i].what);
	}
	return -EINVAL;
}

void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fs *fs = ops_fs(req);

	if (strcmp(name, CONTROL_XATTR) == 0) {
		fuse_reply_err(req, -set_control(req, ino, value, size));
		return;
	}
	int rc = fs_xattr_known(name) ? fs_make_room(fs, 0) : -unknown_xattr(name);

	if (!rc)
		rc = fs_prepare_node(fs, ops_node(fs, ino), false);
	if (!rc)
		rc = fs_setxattr(fs, ops_node(fs, ino), name, value, size, flags);
	fuse_reply_err(req, -rc);
}

/* Replies with the size, or with the `n` bytes, of what was asked for with a buffer of `size`
 * bytes. */
static void reply_sized(fuse_req_t req, int n, const char *buf, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, -n);
	else if (!size)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

static int get_status(struct mounted *m, char *buf, size_t size)
{
	char *text = status_text(m);

	if (!text)
		return -ENOMEM;
	size_t len = strlen(text);
	int n = (int)len;
	if (size && len > size)
		n = -ERANGE;
	else if (size)
		memcpy(buf, text, len);
	free(text);
	return n;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = ops_fs(req);
	bool status = ino == FUSE_ROOT_ID && strcmp(name, STATUS_XATTR) == 0;

	if (strcmp(name, REFRESH_XATTR) == 0) {
		reply_sized(req, control(req, ino, CONTROL_REFRESH), "", size);
		return;
	}
	if (!status && !fs_xattr_known(name)) {
		fuse_reply_err(
			req, strncmp(name, "security.", 9) == 0 ? ENODATA : unknown_xattr(name));
		return;
	}
	char *buf = malloc(size ? size : 1);
	int n = -ENOMEM;
	if (buf && status)
		n = get_status(ops_mounted(req), buf, size);
	else if (buf && !(n = fs_prepare_node(fs, ops_node(fs, ino), false)))
		n = fs_getxattr(fs, ops_node(fs, ino), name, buf, size);
	reply_sized(req, n, buf, size);
	free(buf);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = ops_fs(req);
	char *buf = malloc(size ? size : 1);
	int n = buf ? fs_prepare_node(fs, ops_node(fs, ino), false) : -ENOMEM;

	reply_sized(req, n ? n : fs_listxattr(fs, ops_node(fs, ino), buf, size), buf, size);
	free(buf);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = ops_fs(req);
	int rc = fs_xattr_known(name) ? 0 : -unknown_xattr(name);

	if (!rc)
		rc = fs_prepare_node(fs, ops_node(fs, ino), false);
	if (!rc)
		rc = fs_removexattr(fs, ops_node(fs, ino), name);
	fuse_reply_err(req, -rc);
}
