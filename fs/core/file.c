#include "fs/core/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/entry.h"
#include "fs/core/handle.h"
#include "fs/core/version.h"

/* Values up to here are kept for those who looked a file up before it was removed, and open it
 * after. */
enum { KEEP_MAX = 64 << 10 };

static struct open_file *file_new(void)
{
	struct open_file *f = calloc(1, sizeof(*f));

	if (f)
		lock_init(&f->lock, LOCK_FILE);
	return f;
}

/* Whether the spare has become the node's. */
static bool acquire_with(struct fs *fs, struct node *n, bool writing, struct open_file *spare)
{
	lock_take(&fs->nodes.lock);
	bool used = !n->file;
	if (used)
		n->file = spare;
	n->file->users++;
	n->file->writers += writing;
	atomic_fetch_add(&fs->open_files, used);
	if (used && !spare->blob && n->gone && n->gone->blob)
		spare->blob = blob_ref(n->gone->blob);
	lock_drop(&fs->nodes.lock);
	return used;
}

int file_acquire(struct fs *fs, struct node *n, bool writing, struct open_file **out)
{
	struct open_file *spare = file_new();

	if (!spare)
		return -ENOMEM;
	bool used = acquire_with(fs, n, writing, spare);
	*out = n->file;
	if (!used)
		file_free(spare);
	return 0;
}

struct open_file *file_if_open(struct fs *fs, struct node *n)
{
	lock_take(&fs->nodes.lock);
	struct open_file *f = n->file;
	if (f)
		f->users++;
	lock_drop(&fs->nodes.lock);
	return f;
}

void file_free(struct open_file *f)
{
	while (f->handles) { /* at the end, of files that were never closed */
		struct handle *h = f->handles;

		f->handles = h->next;
		free(h);
	}
	blob_unref(f->blob);
	lock_destroy(&f->lock);
	free(f);
}

void file_drop(struct fs *fs, struct node *n, bool writing)
{
	struct open_file *last = NULL;

	lock_take(&fs->nodes.lock);
	n->file->writers -= writing;
	if (--n->file->users == 0) {
		last = n->file;
		n->file = NULL;
		atomic_fetch_sub(&fs->open_files, 1);
		n->refs++; /* until node_unref() below, which may free it */
	}
	lock_drop(&fs->nodes.lock);
	if (last) {
		file_free(last);
		node_unref(&fs->nodes, n);
	}
}

int file_spare(struct fs *fs, struct open_file **out)
{
	struct open_file *f = file_new();
	int rc = f ? blob_new(fs->st->blobs, &f->blob) : -ENOMEM;

	if (rc) {
		free(f);
		return rc;
	}
	file_touch(f);
	f->held = true;
	*out = f;
	return 0;
}

void file_created(struct fs *fs, struct node *n, struct open_file *spare, struct handle *h)
{
	bool used = acquire_with(fs, n, true, spare);
	struct open_file *f = n->file;

	handle_attach(fs, h, n, f);
	lock_take(&f->lock);
	if (!used) { /* somebody was faster to open it */
		blob_unref(f->blob);
		f->blob = spare->blob;
		spare->blob = NULL;
		file_touch(f);
		f->held = true;
	}
	h->changed = f->emptied = f->changes;
	lock_drop(&f->lock);
	if (!used)
		file_free(spare);
}

/* Attributes that change while the content is dirty have their own, later time. */
static struct timespec later(struct timespec a, struct timespec b)
{
	return clock_ns(a) > clock_ns(b) ? a : b;
}

void file_overlay(
	struct fs *fs, struct node *n, struct record *rec, uint64_t *size, uint64_t *version)
{
	struct open_file *f = file_if_open(fs, n);

	if (!f)
		return;
	lock_take(&f->lock);
	if (f->blob)
		*size = blob_size(f->blob);
	if (f->blob && version)
		*version = f->version;
	if (f->dirty) {
		rec->mtime = f->mtime;
		rec->ctime = later(rec->ctime, f->ctime);
	}
	lock_drop(&f->lock);
	file_drop(fs, n, false);
}

void file_set_times(struct fs *fs, struct node *n, const struct record *rec)
{
	struct open_file *f = file_if_open(fs, n);

	if (!f)
		return;
	lock_take(&f->lock);
	f->mtime = rec->mtime;
	f->ctime = rec->ctime;
	lock_drop(&f->lock);
	file_drop(fs, n, false);
}

void file_know(struct fs *fs, struct node *n, const struct record *rec, uint64_t size)
{
	struct open_file *f = file_if_open(fs, n);

	if (!f)
		return;
	lock_take(&f->lock);
	f->known = true;
	f->last = *rec;
	f->last.xattrs = NULL;
	f->last.xattrs_len = 0;
	f->last_size = size;
	lock_drop(&f->lock);
	file_drop(fs, n, false);
}

int file_last_known(struct fs *fs, struct node *n, struct record *rec, uint64_t *size)
{
	struct open_file *f = file_if_open(fs, n);
	int rc = -ENOENT;

	if (!f)
		return rc;
	lock_take(&f->lock);
	if (f->known) {
		*rec = f->last;
		*size = f->last_size;
		rc = 0;
	}
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return rc;
}

bool file_is_dirty(struct fs *fs, struct node *n)
{
	struct open_file *f = file_if_open(fs, n);

	if (!f)
		return false;
	lock_take(&f->lock);
	bool dirty = f->dirty;
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return dirty;
}

bool file_is_held(struct fs *fs, struct node *n)
{
	struct open_file *f = file_if_open(fs, n);
	bool held = false;

	if (!f)
		return false;
	lock_take(&f->lock);
	held = f->held;
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return held;
}

static bool has_writers(const struct node *n)
{
	return n->file && n->file->writers > 0;
}

/* The store may ask until it is closed, which is after the last node has gone. */
bool file_is_written(void *arg, const struct entry_id *id)
{
	struct fs *fs = arg;

	return node_test(&fs->nodes, id, has_writers);
}

/* The store's value as a blob. Node ids stand still: the caller holds fs.change. */
static int stored_blob(struct fs *fs, struct node *n, struct blob **out)
{
	struct node_id id;
	struct value v;
	int rc = node_get_id(&fs->nodes, n, &id);

	if (rc)
		return rc;
	rc = fs->st->ops->read(fs->st, &id.id, NOW_NEVER, &v);
	if (rc)
		return rc;
	rc = value_to_blob(&v, fs->st->blobs, out);
	value_release(&v);
	return rc;
}

int file_stored_value(struct fs *fs, struct node *n, struct value *v)
{
	struct rebind_check check = {0};
	bool have = false;
	int rc;

	do {
		struct node_id id;

		if (have)
			value_release(v);
		rebind_look(fs, &check);
		rc = node_get_id(&fs->nodes, n, &id);
		if (!rc)
			rc = fs->st->ops->read(fs->st, &id.id, NOW_NEVER, v);
		have = !rc;
	} while (rebind_disturbed(fs, &check));
	return rc == -ENOENT ? -ESTALE : rc;
}

/* Takes f->lock, with the file's content in it. What is read from the store meanwhile is good as
 * long as nobody else took, stored and dropped content in between (f->drops). The lock is held on
 * success only. */
int file_lock_content(struct fs *fs, struct node *n, struct open_file *f)
{
	for (;;) {
		struct blob *b;
		struct value v;

		lock_take(&f->lock);
		if (f->blob)
			return 0;
		unsigned drops = f->drops;
		lock_drop(&f->lock);
		int rc = file_stored_value(fs, n, &v);
		if (rc)
			return rc;
		rc = value_to_blob(&v, fs->st->blobs, &b);
		value_release(&v);
		if (rc)
			return rc;
		lock_take(&f->lock);
		if (!f->blob && f->drops == drops) {
			f->blob = b;
			return 0;
		}
		lock_drop(&f->lock);
		blob_unref(b);
	}
}

void file_prefetch(struct fs *fs, const struct entry_id *id)
{
	if (id->kind != ENTRY_KEY || !atomic_load(&fs->open_files))
		return;
	struct node *n = node_find(&fs->nodes, id);
	struct open_file *f = n ? file_if_open(fs, n) : NULL;
	if (f) {
		if (file_lock_content(fs, n, f) == 0)
			lock_drop(&f->lock);
		file_drop(fs, n, false);
	}
	if (n)
		node_unref(&fs->nodes, n);
}

void file_drop_content(struct open_file *f)
{
	blob_unref(f->blob);
	f->blob = NULL;
	f->version = 0;
	f->drops++;
}

int file_make_writable(struct open_file *f)
{
	struct blob *own;

	if (blob_writable(f->blob))
		return 0;
	int rc = blob_clone(f->blob, &own);
	if (rc)
		return rc;
	blob_unref(f->blob);
	f->blob = own;
	return 0;
}

void file_touch(struct open_file *f)
{
	f->dirty = true;
	f->version = 0;
	f->changes++;
	f->mtime = f->ctime = clock_timespec(clock_now());
}

static int keep_small(struct fs *fs, struct node *n, struct blob **content)
{
	struct node_id id;
	struct value v;
	int rc = node_get_id(&fs->nodes, n, &id);

	if (!rc)
		rc = fs->st->ops->read(fs->st, &id.id, NOW_NEVER, &v);
	if (rc == -ETIMEDOUT) /* behind a cache, and not here */
		return 0;
	if (rc)
		return rc;
	if (v.len <= KEEP_MAX)
		rc = value_to_blob(&v, fs->st->blobs, content);
	value_release(&v);
	return rc;
}

int file_detach(struct fs *fs, struct node *n, struct blob **content)
{
	struct open_file *f = file_if_open(fs, n);
	int rc;

	if (!f) {
		rc = keep_small(fs, n, content);
	} else {
		lock_take(&f->lock);
		rc = f->blob ? 0 : stored_blob(fs, n, &f->blob);
		if (!rc && blob_size(f->blob) <= KEEP_MAX)
			*content = blob_ref(f->blob);
		lock_drop(&f->lock);
		file_drop(fs, n, false);
	}
	return rc == -ENOENT ? 0 : rc;
}

void file_forget_clean(struct fs *fs, struct node *n)
{
	struct open_file *f = file_if_open(fs, n);

	if (!f)
		return;
	lock_take(&f->lock);
	if (!f->dirty)
		file_drop_content(f);
	lock_drop(&f->lock);
	file_drop(fs, n, false);
}

int file_keep_old(
	struct fs *fs, struct node *n, int (*old)(void *arg, struct blob **out), void *arg)
{
	struct open_file *f = file_if_open(fs, n);
	int rc = 0;

	if (!f)
		return 0;
	lock_take(&f->lock);
	if (!f->blob)
		rc = old(arg, &f->blob);
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return rc;
}

/* Nothing of the content is to be stored any more. Under f->lock. */
static void file_settled(struct open_file *f)
{
	f->dirty = false;
	f->stored = f->changes;
}

void file_give_up(struct open_file *f)
{
	lock_take(&f->lock);
	file_settled(f);
	lock_drop(&f->lock);
}

/* What is dirty of an entry that another program has removed meanwhile comes back with it: the last
 * writer wins. */
static int load_or_recreate(
	struct fs *fs, struct node *n, const struct entry_id *id, struct loaded *l)
{
	int rc = entry_load_node(fs, n, id, l);

	if (rc == -ENOENT) {
		*l = (struct loaded){.rec = entry_new_record(fs, entry_default_mode(fs, ENTRY_KEY),
					     fs->opt.uid, fs->opt.gid)};
		rc = 0;
	}
	return rc;
}

/* The times and size of the content of an unlinked file, which nothing else remembers once it is not
 * dirty, or not open but for O_PATH. Under f->lock. */
static void keep_gone_attributes(struct fs *fs, struct node *n, const struct open_file *f)
{
	lock_take(&fs->nodes.lock);
	if (n->gone) {
		n->gone->size = blob_size(f->blob);
		n->gone->rec.mtime = f->mtime;
		n->gone->rec.ctime = later(n->gone->rec.ctime, f->ctime);
	}
	lock_drop(&fs->nodes.lock);
}

/* After the store has it and before the open file lets go of it, so that whoever found it in neither
 * learns of it. Under f->lock. */
static void note_stored(struct fs *fs, struct node *n)
{
	uint64_t now = atomic_fetch_add(&fs->stores, 1) + 1;

	lock_take(&fs->nodes.lock);
	n->stored = now;
	lock_drop(&fs->nodes.lock);
}

bool file_stored_since(struct fs *fs, struct node *n, uint64_t since)
{
	lock_take(&fs->nodes.lock);
	bool stored = n->stored > since;
	lock_drop(&fs->nodes.lock);
	return stored;
}

static int file_store_locked(struct fs *fs, struct node *n, struct open_file *f)
{
	struct node_id id;
	struct loaded l;
	int rc = node_get_id(&fs->nodes, n, &id);

	if (rc == -ENOENT) { /* unlinked: it has no value to become */
		keep_gone_attributes(fs, n, f);
		file_settled(f);
		return 0;
	}
	rc = load_or_recreate(fs, n, &id.id, &l);
	if (rc)
		return rc;
	l.rec.mtime = f->mtime;
	l.rec.ctime = later(l.rec.ctime, f->ctime);
	entry_begin_life(&l.rec);
	entry_linger(&l.rec);
	struct change put = {.op = CHANGE_PUT, .id = id.id, .rec = &l.rec, .value = f->blob};
	rc = fs_apply(fs, &put, 1);
	loaded_release(&l);
	if (rc)
		return rc;
	version_note(fs, &id.id, f);
	note_stored(fs, n);
	file_settled(f);
	f->held = false;
	return 0;
}

int file_store(struct fs *fs, struct node *n, const struct handle *h)
{
	struct open_file *f = file_if_open(fs, n);
	int rc = 0;

	if (!f)
		return 0;
	lock_take(&f->lock);
	if (f->dirty && (!h || handle_is_unpublished(h)))
		rc = file_store_locked(fs, n, f);
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return rc;
}

void file_let_go(struct fs *fs, struct node *n, struct open_file *f)
{
	struct node_id id;

	if (node_get_id(&fs->nodes, n, &id)) /* unlinked: it lives here only */
		return;
	lock_take(&f->lock);
	if (!f->dirty && !f->version)
		file_drop_content(f);
	lock_drop(&f->lock);
}

static int resize_content(
	struct fs *fs, struct node *n, struct open_file *f, uint64_t size, struct handle *h)
{
	struct blob *empty;
	int rc;

	if (size) {
		rc = file_lock_content(fs, n, f);
		if (rc)
			return rc;
		rc = file_make_writable(f);
		if (!rc)
			rc = blob_resize(f->blob, size);
	} else { /* nothing of what was there is needed */
		rc = blob_new(fs->st->blobs, &empty);
		if (rc)
			return rc;
		lock_take(&f->lock);
		blob_unref(f->blob);
		f->blob = empty;
	}
	if (!rc)
		handle_touch(h, f, size == 0);
	lock_drop(&f->lock);
	return rc;
}

int file_allocate(struct fs *fs, struct handle *h, uint64_t size)
{
	struct open_file *f = h->file;
	int rc = file_lock_content(fs, h->node, f);

	if (rc)
		return rc;
	if (blob_size(f->blob) < size) {
		rc = file_make_writable(f);
		if (!rc)
			rc = blob_resize(f->blob, size);
	}
	if (!rc)
		handle_touch(h, f, false);
	lock_drop(&f->lock);
	return rc;
}

/* `last`: nobody else will store it. The caller holds fs.change. */
static int file_resized(struct fs *fs, struct node *n, struct open_file *f, bool last)
{
	int rc = file_store(fs, n, NULL);

	if (rc && last)
		file_give_up(f);
	if (last)
		file_let_go(fs, n, f);
	return rc;
}

int file_resize(struct fs *fs, struct node *n, uint64_t size, struct handle *h)
{
	struct open_file *f;

	if (size > fs->st->value_max)
		return -EFBIG;
	int rc = file_acquire(fs, n, false, &f);
	if (rc)
		return rc;
	rc = resize_content(fs, n, f, size, h);
	/* One step with the other closers' (fs_release_file): whoever goes last stores. */
	lock_take(&fs->change);
	lock_take(&fs->nodes.lock);
	bool writers = f->writers > 0;
	lock_drop(&fs->nodes.lock);
	if (!rc && !h && (!writers || fs->opt.sync))
		rc = file_resized(fs, n, f, !writers);
	file_drop(fs, n, false);
	lock_drop(&fs->change);
	return rc;
}
