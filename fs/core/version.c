#include "fs/core/version.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/core/entry.h"
#include "fs/core/foreign.h"
#include "fs/core/tree.h"

/* How often content is taken again because it was replaced meanwhile. */
enum { TRIES = 4 };

/* The version that the store has; 0: none, or it is not known. */
static uint64_t version_now(struct fs *fs, const struct entry_id *id)
{
	struct entry e = {0};
	struct view *v;

	if (fs->st->ops->view_begin(fs->st, NOW_NEVER, &v))
		return 0;
	uint64_t version = fs->st->ops->view_get(v, id, &e) ? 0 : e.version;
	fs->st->ops->view_end(v);
	return version;
}

static uint64_t version_of_node(struct fs *fs, struct node *n)
{
	struct node_id id;

	return node_get_id(&fs->nodes, n, &id) ? 0 : version_now(fs, &id.id);
}

int version_take(struct fs *fs, struct node *n, struct open_file *f, bool any)
{
	int rc = 0;

	if (!fs->st->ops->prepare)
		return 0;
	for (int tries = 0; tries < TRIES; tries++) {
		uint64_t before = version_of_node(fs, n);
		bool taken = false;

		lock_take(&f->lock);
		taken = f->blob != NULL;
		lock_drop(&f->lock);
		rc = file_lock_content(fs, n, f);
		if (rc)
			return rc;
		uint64_t now = version_of_node(fs, n);
		if (!taken && now == before && !f->dirty)
			f->version = now;
		bool old = !any && taken && now && !f->dirty && f->version != now;
		bool again = !taken && now != before && !f->dirty;
		if (again)
			file_drop_content(f);
		lock_drop(&f->lock);
		if (!again)
			return old ? -ESTALE : 0;
	}
	return rc;
}

void version_note(struct fs *fs, const struct entry_id *id, struct open_file *f)
{
	if (fs->st->ops->prepare)
		f->version = version_now(fs, id);
}

/* With its content, for those who are about to open it: a reference of the caller's. */
static bool is_old(struct fs *fs, struct node *n, const struct entry_id *id, struct blob **content)
{
	struct open_file *f = file_if_open(fs, n);
	uint64_t now = f ? version_now(fs, id) : 0;

	if (!f)
		return false;
	lock_take(&fs->nodes.lock);
	bool writers = f->writers > 0;
	lock_drop(&fs->nodes.lock);
	lock_take(&f->lock);
	bool old = f->blob && !f->dirty && !writers && now && f->version != now;
	if (old)
		*content = blob_ref(f->blob);
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return old;
}

/* Its attributes, which go on changing only through those who have it open. */
static int load_last(struct fs *fs, struct node *n, const struct entry_id *id, struct last *last)
{
	struct record then;
	uint64_t size;

	last->gone = calloc(1, sizeof(*last->gone));
	int rc = last->gone ? entry_load(fs, id, NOW_NEVER, &last->l) : -ENOMEM;
	if (!rc && file_last_known(fs, n, &then, &size) == 0)
		last->l.rec.mtime = then.mtime;
	return rc;
}

bool version_leave(struct fs *fs, struct node *n)
{
	struct last last = {0};
	struct node_id id;
	bool left = false;

	if (!fs->st->ops->prepare || !n->file)
		return false;
	lock_take(&fs->change);
	/* Before the look: who has opened it for writing since finds out, and what he writes is not lost
	 * with a node that no name leads to. */
	rebind_begin(fs);
	if (node_get_id(&fs->nodes, n, &id) == 0 && is_old(fs, n, &id.id, &last.content) &&
		load_last(fs, n, &id.id, &last) == 0) {
		tree_unlink_node(fs, &id.id, &last);
		lock_take(&fs->nodes.lock);
		n->gone->left = true;
		lock_drop(&fs->nodes.lock);
		foreign_note_left(fs->foreign, &id.id);
		left = true;
	}
	rebind_end(fs);
	lock_drop(&fs->change);
	last_release(&last);
	return left;
}

void version_note_told(struct node *n, uint64_t version)
{
	atomic_store(&n->told, version);
}

/* The version that who has opened the node has; 0: none that the store has had. */
static uint64_t version_opened(struct fs *fs, struct node *n, bool *dirty)
{
	struct open_file *f = file_if_open(fs, n);
	uint64_t version = 0;

	*dirty = false;
	if (!f)
		return 0;
	lock_take(&f->lock);
	version = f->version;
	*dirty = f->dirty;
	lock_drop(&f->lock);
	file_drop(fs, n, false);
	return version;
}

void version_is_new(struct fs *fs, struct node *n, bool *content, bool *size)
{
	bool dirty;

	*content = *size = false;
	if (!fs->st->ops->prepare)
		return;
	uint64_t version = version_opened(fs, n, &dirty);
	/* What is dirty has come through the kernel, to what it knew. */
	if (dirty)
		return;
	*content = atomic_load(&n->cached) != version || !version;
	*size = atomic_load(&n->told) != version || !version;
}

void version_note_cached(struct fs *fs, struct node *n)
{
	bool dirty;
	uint64_t version = fs->st->ops->prepare ? version_opened(fs, n, &dirty) : 0;

	if (version)
		atomic_store(&n->cached, version);
}

bool version_is_left(struct fs *fs, struct node *n)
{
	lock_take(&fs->nodes.lock);
	bool left = n->gone && n->gone->left;
	lock_drop(&fs->nodes.lock);
	return left;
}
