#include "fs/fuse/ops.h"

#include <errno.h>

enum { IO_MAX = 1 << 20 };

struct mounted *ops_mounted(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct fs *ops_fs(fuse_req_t req)
{
	return ops_mounted(req)->fs;
}

struct node *ops_node(struct fs *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? fs_root(fs) : (struct node *)ino;
}

fuse_ino_t ops_ino(struct fs *fs, const struct node *n)
{
	return n == fs_root(fs) ? FUSE_ROOT_ID : (fuse_ino_t)n;
}

struct fs_caller ops_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_caller){.uid = ctx->uid, .gid = ctx->gid, .pid = (uint32_t)ctx->pid};
}

static bool is_interrupted(void *arg)
{
	return fuse_req_interrupted(arg);
}

struct given_up ops_given_up(fuse_req_t req)
{
	return (struct given_up){is_interrupted, req};
}

struct fuse_entry_param ops_entry(struct fs *fs, struct node *n, const struct fs_attr *attr)
{
	return (struct fuse_entry_param){
		.ino = ops_ino(fs, n),
		.generation = fs_generation(n),
		.attr = attr->st,
		.attr_timeout = attr->brief ? 0 : attr->valid,
		.entry_timeout = attr->valid,
	};
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct mounted *m = userdata;
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_ASYNC_DIO |
		FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_EXPLICIT_INVAL_DATA;

	/* The kernel drops pages when it is told that they changed, not when a time stamp did.
	 * Clearing set-id bits is left to it too: who may keep them is for it to know. And it always lets
	 * a listing have attributes: whether they are given is decided there (fs_readdir). */
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV |
		FUSE_CAP_READDIRPLUS_AUTO);
	conn->want |= want & conn->capable;
	conn->max_write = IO_MAX;
	conn->max_readahead = IO_MAX;
	conn->time_gran = 1;
	m->ready(m->ready_arg);
}

const struct fuse_lowlevel_ops kvfs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};
