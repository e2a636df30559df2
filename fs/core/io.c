/*
 * io.c - opening, reading, writing, closing: what happens through a descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "fs/core/entry.h"
#include "fs/core/file.h"
#include "fs/core/foreign.h"
#include "fs/core/handle.h"
#include "fs/core/tree.h"
#include "fs/core/vanish.h"
#include "fs/core/version.h"

/* How long after it was told so a thread may look a name up again. */
enum { SENT_BACK_MS = 5000 };

/* What is to be read, behind a cache (version.h). */
enum content { CONTENT_NONE, CONTENT_NEWEST, CONTENT_ANY };

/* What is left of an unlinked file. -ESTALE makes the kernel look its name up again. The name of one
 * that was left behind (version.h; *old) leads to another. */
static int open_gone(
	struct fs *fs, struct node *n, const struct handle *h, enum content what, bool *old)
{
	lock_take(&fs->nodes.lock);
	struct gone *g = n->gone;
	int rc = n->file || (g && g->blob) ? 0 : -ESTALE;
	*old = !rc && g && g->left;
	lock_drop(&fs->nodes.lock);
	return *old && (h->writing || what != CONTENT_ANY) ? -ESTALE : rc;
}

/* Whether `n` may be opened: it may have expired, or been removed, since the kernel looked it up.
 */
static int open_check(struct fs *fs, struct node *n, const struct handle *h, enum content what,
	struct entry *e, bool *known, bool *old)
{
	struct node_id id;
	struct view *v;

	*known = false;
	int rc = node_get_id(&fs->nodes, n, &id);

	if (rc)
		return open_gone(fs, n, h, what, old);
	rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);
	if (rc)
		return rc;
	rc = fs->st->ops->view_get(v, &id.id, e);
	fs->st->ops->view_end(v);
	*known = !rc && !e->unrecorded;
	return rc == -ENOENT ? -ESTALE : rc;
}

/* An open file of `n` with the caller as one user more. Who opens a file that is being removed gets
 * what it was: its content is taken while it is open. -ESTALE with *old: an older version is here, and
 * CONTENT_ANY gets it. */
static int open_node(struct fs *fs, struct node *n, const struct handle *h, enum content what,
	struct open_file **out, bool *old)
{
	bool writing = h->writing;
	struct rebind_check check = {0};
	struct open_file *f = NULL;
	struct entry e = {0};
	bool known;
	int rc;

	do {
		if (f)
			file_drop(fs, n, writing);
		f = NULL;
		rebind_look(fs, &check);
		*old = false;
		rc = open_check(fs, n, h, what, &e, &known, old);
		if (!rc)
			rc = file_acquire(fs, n, writing, &f);
	} while (rebind_disturbed(fs, &check));
	if (rc)
		return rc;
	if (what != CONTENT_NONE && S_ISREG(e.rec.mode))
		rc = version_take(fs, n, f, what == CONTENT_ANY);
	if (rc) {
		*old = rc == -ESTALE;
		file_drop(fs, n, writing);
		return rc;
	}
	if (known)
		file_know(fs, n, &e.rec, e.size);
	*out = f;
	return 0;
}

/* Thread `pid` has opened by its name what has gone, or an older version, and is to look the name up again:
 * true. Where it has been told so a moment ago, it is not: the kernel looks up once more only. */
static bool send_back(struct fs *fs, uint32_t pid)
{
	_Atomic uint64_t *place = &fs->sent_back[pid % FS_SENT_BACK];
	uint32_t now = (uint32_t)(clock_monotonic() / (CLOCK_SECOND / 1000));
	uint64_t was = atomic_exchange(place, (uint64_t)pid << 32 | now);

	if (!pid || was >> 32 != pid || now - (uint32_t)was > SENT_BACK_MS)
		return true;
	atomic_store(place, 0);
	return false;
}

/* It has opened something. */
static void came_back(struct fs *fs, uint32_t pid)
{
	_Atomic uint64_t *place = &fs->sent_back[pid % FS_SENT_BACK];
	uint64_t was = atomic_load_explicit(place, memory_order_relaxed);

	if (was && was >> 32 == pid)
		atomic_compare_exchange_strong(place, &was, 0);
}

/* Others change what the name leads to all the time. Where an older version cannot be left behind, it is
 * one file for all who have it open. */
static int open_changing(
	struct fs *fs, struct node *n, struct handle *h, bool old, struct open_file **f)
{
	bool again = send_back(fs, h->opener);

	if (again && (!old || version_is_left(fs, n) || version_leave(fs, n)))
		return -ESTALE;
	return old ? open_node(fs, n, h, CONTENT_ANY, f, &old) : -ENOENT;
}

int fs_open_file(struct fs *fs, struct node *n, bool writing, bool truncate, uint32_t pid,
	struct handle **out)
{
	struct blob *empty = NULL;
	struct open_file *f;
	bool old = false;
	int rc = truncate ? blob_new(fs->st->blobs, &empty) : 0;

	if (rc)
		return rc;
	struct handle *h = handle_new(writing || truncate, pid);
	rc = h ? open_node(fs, n, h, truncate ? CONTENT_NONE : CONTENT_NEWEST, &f, &old) : -ENOMEM;
	if (rc == -ESTALE)
		rc = open_changing(fs, n, h, old, &f);
	if (rc) {
		free(h);
		blob_unref(empty);
		return rc;
	}
	came_back(fs, pid);
	handle_attach(fs, h, n, f);
	if (truncate) {
		lock_take(&f->lock);
		blob_unref(f->blob);
		f->blob = empty;
		handle_touch(h, f, true);
		lock_drop(&f->lock);
	}
	*out = h;
	return 0;
}

static int read_blob(struct blob *b, uint64_t off, size_t size,
	int (*fn)(void *arg, const void *data, size_t len), void *arg)
{
	void *buf = malloc(size ? size : 1);
	int64_t n = buf ? blob_read(b, off, buf, size) : -ENOMEM;
	int rc = n < 0 ? (int)n : fn(arg, buf, (size_t)n);

	free(buf);
	return rc;
}

static int read_value(const struct value *v, uint64_t off, size_t size,
	int (*fn)(void *arg, const void *data, size_t len), void *arg)
{
	if (v->blob)
		return read_blob(v->blob, off, size, fn, arg);
	uint64_t left = off < v->len ? v->len - off : 0;
	return fn(arg, (const char *)v->data + (left ? off : 0), left < size ? left : size);
}

int fs_read(struct fs *fs, struct node *n, uint64_t off, size_t size,
	int (*fn)(void *arg, const void *data, size_t len), void *arg)
{
	struct open_file *f = n->file; /* the caller has it open */
	struct value v;
	int rc;

	/* The content moves from the store into the open file when its key goes away, so a key that
	 * is not found was moved meanwhile; or another program removed it a moment ago. */
	for (int tries = 0; tries < 2; tries++) {
		lock_take(&f->lock);
		if (f->blob) {
			rc = read_blob(f->blob, off, size, fn, arg);
			lock_drop(&f->lock);
			return rc;
		}
		lock_drop(&f->lock);
		rc = file_stored_value(fs, n, &v);
		if (!rc) {
			rc = read_value(&v, off, size, fn, arg);
			value_release(&v);
			return rc;
		}
		if (rc != -ESTALE)
			return rc;
	}
	return -ESTALE;
}

void fs_await_watch(struct fs *fs)
{
	foreign_wait(fs->foreign);
}

int fs_write(
	struct fs *fs, struct handle *h, uint64_t off, const void *data, size_t len, bool mapped)
{
	struct open_file *f = h->file;

	if (off + len > fs->st->value_max)
		return -EFBIG;
	int rc = file_lock_content(fs, h->node, f);
	if (rc)
		return rc;
	rc = file_make_writable(f);
	if (!rc)
		rc = blob_write(f->blob, off, data, len);
	if (!rc) {
		handle_touch(h, f, false);
		if (mapped)
			f->anyone = f->changes;
	}
	lock_drop(&f->lock);
	return rc;
}

static uint64_t file_pending_size(struct fs *fs, struct node *n)
{
	struct open_file *f = file_if_open(fs, n);
	uint64_t size = 0;

	if (!f)
		return 0;
	lock_take(&f->lock);
	if (f->dirty)
		size = blob_size(f->blob);
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return size;
}

/* Whether the file is durable, although something else is not. */
static bool is_durable(struct fs *fs, struct node *n)
{
	struct node_id id;
	struct loaded l;

	if (node_get_id(&fs->nodes, n, &id) || entry_load_node(fs, n, &id.id, &l))
		return false;
	loaded_release(&l);
	return !l.pending;
}

/* Stores what was changed through `h` (NULL: by anybody). */
static int publish(struct fs *fs, struct node *n, const struct handle *h)
{
	uint64_t size = file_pending_size(fs, n);
	int rc = size ? fs_make_room(fs, size) : 0;

	if (rc)
		return rc;
	lock_take(&fs->change);
	rc = file_store(fs, n, h);
	lock_drop(&fs->change);
	return rc;
}

static bool is_unpublished(struct handle *h)
{
	lock_take(&h->file->lock);
	bool unpublished = handle_is_unpublished(h);
	lock_drop(&h->file->lock);
	return unpublished;
}

int fs_flush(struct fs *fs, struct handle *h, uint32_t pid)
{
	return fs_settle(fs, handle_closed(fs, h, pid) ? publish(fs, h->node, h) : 0);
}

void fs_is_new(struct fs *fs, struct node *n, bool *content, bool *size)
{
	version_is_new(fs, n, content, size);
}

void fs_note_cached(struct fs *fs, struct node *n)
{
	version_note_cached(fs, n);
}

bool fs_sizes_come_late(const struct fs *fs)
{
	return fs->st->ops->prepare != NULL;
}

/* -EIO where a store behind a cache will never take the key's content. */
static int refused(struct fs *fs, struct node *n)
{
	struct node_id id;
	struct loaded l;

	if (!fs->st->ops->prepare || node_get_id(&fs->nodes, n, &id) ||
		entry_load(fs, &id.id, clock_now(), &l))
		return 0;
	loaded_release(&l);
	return l.failed ? -EIO : 0;
}

/* What has no key any more is nowhere to be stored. */
static int sync_node(struct fs *fs, struct node *n, const struct given_up *g)
{
	const struct store_ops *ops = fs->st->ops;
	struct node_id id;

	if (!ops->sync_entry || fs->opt.readonly || node_get_id(&fs->nodes, n, &id))
		return fs_sync(fs);
	return ops->sync_entry(fs->st, &id.id, g);
}

int fs_fsync(struct fs *fs, struct handle *h, const struct given_up *g)
{
	int rc = is_unpublished(h) ? publish(fs, h->node, h) : 0;

	if (rc)
		return rc;
	rc = sync_node(fs, h->node, g);
	if (rc)
		return is_durable(fs, h->node) ? 0 : rc;
	return refused(fs, h->node);
}

int fs_settle_write(struct fs *fs, struct handle *h)
{
	return fs->opt.sync ? fs_fsync(fs, h, NULL) : 0;
}

struct publishing {
	struct fs *fs;
	int rc; /* the first error */
};

/* What was closed is stored, whether the kernel has said so already or not. */
static void publish_closed(void *arg, struct node *n)
{
	struct publishing *p = arg;
	struct open_file *f = file_if_open(p->fs, n);

	if (!f)
		return;
	int rc = handle_any_closed(f) ? publish(p->fs, n, NULL) : 0;
	if (!p->rc)
		p->rc = rc;
	file_drop(p->fs, n, false);
}

int fs_sync_all(struct fs *fs, const struct given_up *g)
{
	const struct store_ops *ops = fs->st->ops;
	struct publishing p = {.fs = fs};
	int rc = atomic_load(&fs->writers) ? node_each(&fs->nodes, publish_closed, &p) : 0;

	if (!rc)
		rc = p.rc;
	int synced = ops->sync_entry && !fs->opt.readonly ? ops->sync_entry(fs->st, NULL, g)
							  : fs_sync(fs);
	return rc ? rc : synced;
}

/* What was only created must not stay behind as if it were there. Under fs.change. */
static void remove_created(struct fs *fs, const struct entry_id *id)
{
	struct change remove = {.op = CHANGE_REMOVE, .id = *id};
	struct last last = {0};

	rebind_begin(fs);
	int rc = last_take(fs, id, NOW_NEVER, &last);
	if (!rc)
		rc = fs_apply(fs, &remove, 1);
	if (!rc)
		tree_unlink_node(fs, id, &last);
	rebind_end(fs);
	last_release(&last);
}

/* A file that could not be stored when its last writer closed it, who was told by close(). The
 * caller holds fs.change, and tells the kernel after it has let go of that. True: *created has been
 * removed again. */
static bool close_failed(
	struct fs *fs, struct node *n, struct open_file *f, int error, struct node_id *created)
{
	char key[256];
	bool removed = false;

	if (node_get_id(&fs->nodes, n, created) == 0) {
		log_error("%s: its last changes are lost: %s; write it again",
			log_bytes(created->bytes, created->id.len, key, sizeof(key)),
			strerror(-error));
		removed = file_is_held(fs, n);
		if (removed)
			remove_created(fs, &created->id);
	}
	file_give_up(f);
	return removed;
}

void fs_recall_begin(struct fs *fs, struct node *n)
{
	node_ref(&fs->nodes, n);
}

void fs_recall_end(struct fs *fs, struct node *n)
{
	if (fs->notify) {
		fs_answers_drain(fs);
		fs->notify->inode(fs->notify_arg, n, true);
	}
	node_unref(&fs->nodes, n);
}

void fs_release_file(struct fs *fs, struct handle *h)
{
	struct node *n = h->node;
	struct open_file *f = h->file;
	bool writing = h->writing, removed = false;
	struct node_id id;

	/* Pages written through a mapping come after the close; they make the file dirty again. */
	if (is_unpublished(h))
		publish(fs, n, h);
	/* One step with other closers and truncate(2): whoever goes last stores what is left. */
	lock_take(&fs->change);
	lock_take(&fs->nodes.lock);
	bool last_writer = writing && f->writers == 1, last = f->users == 1;
	lock_drop(&fs->nodes.lock);
	int rc = file_store(fs, n, last_writer || last ? NULL : h);
	bool failed = rc && (last_writer || last);
	if (failed)
		removed = close_failed(fs, n, f, rc, &id);
	if (last_writer)
		file_let_go(fs, n, f);
	if (failed)
		fs_recall_begin(fs, n);
	handle_free(fs, h);
	file_drop(fs, n, writing);
	lock_drop(&fs->change);
	if (failed)
		fs_recall_end(fs, n);
	if (removed)
		vanish_key(fs, &id.id);
}

int fs_fallocate(struct fs *fs, struct handle *h, int mode, uint64_t off, uint64_t len)
{
	uint64_t size = off + len;

	if (mode & ~FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	if (size > fs->st->value_max)
		return -EFBIG;
	int rc = fs_make_room(fs, size);
	if (!rc)
		rc = file_allocate(fs, h, mode & FALLOC_FL_KEEP_SIZE ? 0 : size);
	return rc ? rc : fs_settle_write(fs, h);
}

int fs_lseek(struct fs *fs, struct node *n, uint64_t off, int whence, uint64_t *out)
{
	struct fs_attr attr;
	int rc = fs_getattr(fs, n, &attr);

	if (rc)
		return rc;
	if (off >= (uint64_t)attr.st.st_size)
		return -ENXIO;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	*out = whence == SEEK_DATA ? off : (uint64_t)attr.st.st_size;
	return 0;
}

struct copy {
	char *buf;
	size_t len;
};

static int copy_take(void *arg, const void *data, size_t len)
{
	struct copy *c = arg;

	if (len) /* nothing may be nowhere */
		memcpy(c->buf, data, len);
	c->len = len;
	return 0;
}

int64_t fs_copy(struct fs *fs, struct node *from, uint64_t off, struct handle *to, uint64_t to_off,
	size_t len)
{
	enum { COPY_STEP = 1 << 20 };
	struct copy c = {.buf = malloc(COPY_STEP)};
	int64_t done = 0;
	int rc = c.buf ? 0 : -ENOMEM;
	bool waited = false;

	while (!rc && len) {
		rc = fs_read(fs, from, off, len < COPY_STEP ? len : COPY_STEP, copy_take, &c);
		if (rc == -ESTALE && !waited) {
			waited = true;
			rc = 0;
			fs_await_watch(fs);
			continue;
		}
		if (rc || !c.len)
			break;
		rc = fs_write(fs, to, to_off, c.buf, c.len, false);
		if (rc)
			break;
		off += c.len;
		to_off += c.len;
		done += (int64_t)c.len;
		len -= c.len;
	}
	free(c.buf);
	if (!done)
		return rc;
	rc = fs_settle_write(fs, to);
	return rc ? rc : done;
}

int fs_readlink(struct fs *fs, struct node *n, char *buf, size_t cap)
{
	struct value v;
	int rc = file_stored_value(fs, n, &v);

	if (rc)
		return rc;
	int64_t len = value_read(&v, 0, buf, cap - 1);
	value_release(&v);
	if (len < 0)
		return (int)len;
	buf[len] = '\0';
	return 0;
}
