/*
 * fs.h - the filesystem, without FUSE: nodes, names, directories, files, extended attributes,
 * expiry.
 *
 * What the kernel calls an inode is a node here. A node names an entry of the store (store.h) by
 * namespace and bytes; everything else about it is in the store, or, while it is open and has
 * changes that are not closed yet, in its open file (file.h). Unlinked nodes live on without an
 * entry.
 *
 * Threads and locks. All functions may be called by any thread. The core's locks, which are taken in the
 * order that base/lock.h says:
 *
 *   fs.change          one change of the tree or of attributes at a time, from its checks to store->apply;
 *                      so changes are made in one order, and what was checked still holds. Node ids
 *                      change under it only.
 *   open_file.lock     the content of one open file (file.h)
 *   a view             (the store's own locks) short pictures of the store
 *   negatives.lock     the names that are known to be absent
 *   fs.nodes.lock      the node table, and in each node what node.h says
 *   sweep.lock         a leaf
 *
 * Nothing waits for memory in the store (fs_make_room), for what a store behind a cache must fetch first
 * (prepare.h), or for the kernel (notifications) under any of them. Moving whole directories and
 * namespaces, which are one durable transaction, holds fs.change while the store commits; renaming a
 * large file holds it while the value is copied.
 *
 * The kernel's locks. It sends most requests (WRITE, SETATTR, COPY_FILE_RANGE, CREATE, RENAME, ...) with
 * locks of its inodes held, and takes such locks when it is notified. So whoever notifies it waits for
 * answers to requests: he holds none of our locks (lock_none_held looks), and no request waits for him to
 * come back, but for a bounded time where it says so (fs_await_watch). Nor does a request wait for
 * another program, but for the one that holds the store's own lock for a change (LMDB has one writer); then
 * everything waits that needs fs.change while that is held by who waits for its durable transaction.
 *
 * Caching. The kernel may keep everything it is told until it is told otherwise. When something
 * changed that the kernel did not do itself (expiry, other programs), it is told through
 * fs_notify_ops, but only after every answer that could still carry the old state has been given:
 * such answers are prepared between fs_answer_begin() and fs_answer_end().
 *
 * Errors: 0 or -errno; outputs are untouched on failure.
 */
#ifndef KVFS_FS_H
#define KVFS_FS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "backends/store.h"

struct node;
struct fs;

struct fs_options {
	char separator;
	bool readonly;
	bool sync; /* every change is durable before it is answered */
	bool noinherit; /* a key replaced by rename starts anew */
	bool have_ttl;
	int64_t ttl; /* seconds new keys live; 0: for ever */
	uint32_t uid, gid, umask; /* of what other programs made */
};

/* How the kernel is told to forget. Called without locks, from threads of the core. */
struct fs_notify_ops {
	void (*entry)(void *arg, struct node *parent, const char *name, size_t len);
	void (*inode)(void *arg, struct node *node, bool data);
};

/* Attributes as an answer carries them. `valid`: seconds that the kernel may believe them; brief: it
 * is to ask for them by themselves when they matter. */
struct fs_attr {
	struct stat st;
	double valid;
	bool brief;
};

/* Who asks. `pid`: the thread; 0: not known. */
struct fs_caller {
	uint32_t uid, gid, pid;
};

enum { FS_NS_ALL = 0 }; /* the "namespace" of the root when it lists every namespace */

/* Seconds that the kernel may believe what nothing bounds: until it is told otherwise. */
#define FS_VALID_LONG 86400.0

/* Takes over `st` (closed by fs_close). `root_ns`: the one namespace to show, FS_NS_ALL for all. */
int fs_open(struct store *st, uint32_t root_ns, const struct fs_options *opt, struct fs **out);

/* Starts what runs by itself: the sweep of expired keys, the watch for other programs' changes. */
int fs_start(struct fs *fs, const struct fs_notify_ops *notify, void *arg);

/* Ends what fs_start() started: the kernel is not notified any more when it returns. Other calls
 * may go on. */
void fs_stop(struct fs *fs);

/* Stops, commits everything, closes the store. What is open and was not closed is not stored: it
 * would be half of it. The first error, if any. No other call is running. */
int fs_close(struct fs *fs);

struct node *fs_root(struct fs *fs);
struct store *fs_store(struct fs *fs);

/* An answer that lets the kernel cache something is prepared and sent between these two. */
unsigned fs_answer_begin(struct fs *fs);
void fs_answer_end(struct fs *fs, unsigned ticket);

/* Waits until there is room for another change of `bytes` of value. Without any lock, and
 * before an answer is begun, but for -o sync. */
int fs_make_room(struct fs *fs, uint64_t bytes);

/* Asks a store behind a cache to do something about a file or, with all that is below it, a directory
 * (store_ops.control). -EOPNOTSUPP: the store has no such thing. */
int fs_control(struct fs *fs, struct node *n, enum control what);

/* Waits until everything done so far is durable. */
int fs_sync(struct fs *fs);
/* The same for who asks for the whole mount by fsync: files that were closed, of which the kernel is
 * yet to say so, are stored first. `g`: see store_ops.sync_entry; NULL: nobody gives up. */
int fs_sync_all(struct fs *fs, const struct given_up *g);

/* Says in the log why `name` in a directory, or the node itself (NULL), got `rc`, where that is for its
 * name or its size. A few lines in some seconds at most. */
void fs_log_refused(struct fs *fs, struct node *n, const char *name, int rc);

/* --- nodes: each success of lookup, create, mkdir, ... counts one lookup ------------------------
 */

/* -ENOENT: *valid (seconds) tells how long absence may be believed. */
int fs_lookup(struct fs *fs, struct node *parent, const char *name, struct node **out,
	struct fs_attr *attr, double *valid);
void fs_forget(struct fs *fs, struct node *n, uint64_t lookups);
int fs_getattr(struct fs *fs, struct node *n, struct fs_attr *attr);
/* Differs between two nodes that have been at one address, one after the other. */
uint32_t fs_generation(const struct node *n);

enum {
	FS_SET_MODE = 1 << 0,
	FS_SET_UID = 1 << 1,
	FS_SET_GID = 1 << 2,
	FS_SET_SIZE = 1 << 3,
	FS_SET_ATIME = 1 << 4,
	FS_SET_MTIME = 1 << 5,
	FS_SET_ATIME_NOW = 1 << 6,
	FS_SET_MTIME_NOW = 1 << 7,
	FS_SET_CTIME = 1 << 8,
};

/* A way to an open file: see the files below. */
struct handle;

/* `h`: the handle through which the change of size comes (ftruncate), or NULL. */
int fs_setattr(struct fs *fs, struct node *n, const struct stat *to, unsigned what,
	struct handle *h, struct fs_attr *attr);

/* Takes the set-id bits away, as whoever has not the right to keep them does by changing a file. 1: it
 * had some; 0: none; -errno. */
int fs_drop_setid(struct fs *fs, struct node *n);

/* --- directories ---------------------------------------------------------------------------------
 */

int fs_mkdir(struct fs *fs, struct node *parent, const char *name, mode_t mode,
	struct fs_caller who, struct node **out, struct fs_attr *attr);
/* Any file but a directory, complete at once. `target`: of a symbolic link, else NULL. */
int fs_mknod(struct fs *fs, struct node *parent, const char *name, mode_t mode, dev_t rdev,
	const char *target, struct fs_caller who, struct node **out, struct fs_attr *attr);
/* A regular file, open for writing by *handle, which the store does not see before it is closed. */
int fs_create(struct fs *fs, struct node *parent, const char *name, mode_t mode,
	struct fs_caller who, struct node **out, struct handle **handle, struct fs_attr *attr);
int fs_unlink(struct fs *fs, struct node *parent, const char *name);
int fs_rmdir(struct fs *fs, struct node *parent, const char *name);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE. */
int fs_rename(struct fs *fs, struct node *parent, const char *name, struct node *newparent,
	const char *newname, unsigned flags);
/* The target into `buf` of `cap` bytes, terminated. */
int fs_readlink(struct fs *fs, struct node *n, char *buf, size_t cap);

/* A listing under way. Its thread is whoever reads it; calls on one listing do not overlap. */
struct listing;

struct fs_dirent {
	const char *name;
	uint64_t ino;
	uint32_t type; /* the type bits of a mode */
	uint64_t next; /* where the listing goes on after this one */
	struct node *node; /* with attributes: one lookup is counted; NULL: it has none */
	struct fs_attr attr;
};

/* Takes one entry; false: it does not fit, and the listing stops before it. */
typedef bool (*fs_dirent_fn)(void *arg, const struct fs_dirent *e);

int fs_opendir(struct fs *fs, struct node *n, struct listing **out);
void fs_closedir(struct fs *fs, struct listing *l);
/* Thread `pid` has found a name in a directory. A hint for listings. */
void fs_note_look(struct node *dir, uint32_t pid);
/* Thread `pid` is about to read the listing on. */
void fs_listing_by(struct listing *l, uint32_t pid);
/* From position `off` (0, or a dirent's `next`). With `plus` dirents have their node and attributes where
 * that is worth it: the first ones, unless the kernel knows them, and further ones while whoever reads
 * the listing looks at the files too (fs_note_look). `most`: how many may fit, so that no more are looked at. */
int fs_readdir(struct fs *fs, struct listing *l, uint64_t off, bool plus, unsigned most,
	fs_dirent_fn fn, void *arg);

/* --- files ---------------------------------------------------------------------------------------
 */

/* *h lives until fs_release_file(). `pid`: the thread that opens it, 0: not known. */
int fs_open_file(struct fs *fs, struct node *n, bool writing, bool truncate, uint32_t pid,
	struct handle **h);
/* The node has just been opened. *content: it may be another than what the kernel has cached, which is
 * not to be kept; *size: another than it was told. It may not have been told so yet. Only where the store
 * is a cache. */
void fs_is_new(struct fs *fs, struct node *n, bool *content, bool *size);
/* The kernel asks for content, so that it has dropped what it was told to when that was opened. */
void fs_note_cached(struct fs *fs, struct node *n);
/* Whether sizes may not be known before a file is opened. */
bool fs_sizes_come_late(const struct fs *fs);
/* Gives the bytes to `fn` once (fewer than `size` only at the end of the file) and returns what it
 * returns, or -errno without having called it. -ESTALE: another program may have removed the key a moment
 * ago; see fs_await_watch(). */
int fs_read(struct fs *fs, struct node *n, uint64_t off, size_t size,
	int (*fn)(void *arg, const void *data, size_t len), void *arg);
/* Waits until the watch has noticed what other programs did before the call, a second at most. Without an
 * answer begun: the watch waits for answers. */
void fs_await_watch(struct fs *fs);
/* `mapped`: from a mapping, for which the kernel picks any handle. */
int fs_write(
	struct fs *fs, struct handle *h, uint64_t off, const void *data, size_t len, bool mapped);
/* A descriptor was closed, by thread `pid`: what was written through the handle becomes the key's
 * value, unless the thread that opened it has it open still (handle.h). */
int fs_flush(struct fs *fs, struct handle *h, uint32_t pid);
/* fsync: what was written through the handle becomes the key's value, and is durable. `g`: as
 * above. */
int fs_fsync(struct fs *fs, struct handle *h, const struct given_up *g);
/* After a change of the content through the handle: with -o sync it is durable when this returns. */
int fs_settle_write(struct fs *fs, struct handle *h);
/* What could not be stored is not the file's content any more: the kernel is to forget what it has of
 * it. The first keeps the node; the second tells the kernel, without an answer begun and after the
 * request has been replied to, if the kernel holds the file's pages for it. */
void fs_recall_begin(struct fs *fs, struct node *n);
void fs_recall_end(struct fs *fs, struct node *n);
/* The last descriptor was closed. Without an answer begun. */
void fs_release_file(struct fs *fs, struct handle *h);
int fs_fallocate(struct fs *fs, struct handle *h, int mode, uint64_t off, uint64_t len);
int fs_lseek(struct fs *fs, struct node *n, uint64_t off, int whence, uint64_t *out);
/* How many bytes were copied, or -errno. */
int64_t fs_copy(struct fs *fs, struct node *from, uint64_t off, struct handle *to, uint64_t to_off,
	size_t len);

/* --- extended attributes
 * --------------------------------------------------------------------------- */

int fs_setxattr(
	struct fs *fs, struct node *n, const char *name, const void *value, size_t len, int flags);
/* The size of the value, which is copied when it fits into `cap` (-ERANGE when not; cap 0: size
 * only). */
int fs_getxattr(struct fs *fs, struct node *n, const char *name, void *value, size_t cap);
int fs_listxattr(struct fs *fs, struct node *n, char *list, size_t cap);
int fs_removexattr(struct fs *fs, struct node *n, const char *name);

/* Whether an extended attribute of this name can be there at all: others are answered without a
 * look. */
bool fs_xattr_known(const char *name);

#endif
