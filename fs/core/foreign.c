#include "fs/core/foreign.h"

#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/thread.h"
#include "fs/core/children.h"
#include "fs/core/file.h"
#include "fs/core/negatives.h"
#include "fs/core/tree.h"
#include "fs/core/vanish.h"
#include "fs/core/version.h"

struct foreign {
	struct fs *fs;
	struct lock lock;
	pthread_cond_t looked;
	unsigned long looks; /* under `lock` */
	struct left_node *left; /* under `lock` */
};

/* A node that was left behind, by the name that leads to another now. */
struct left_node {
	struct left_node *next;
	struct node_id id;
};

/* One look at what others changed. */
struct look {
	struct fs *fs;
	struct foreign_change *what;
	struct removed_id *removed; /* were open, and are yet to be told to the kernel */
};

struct removed_id {
	struct removed_id *next;
	struct node_id id;
};

static void removed_add(struct look *look, const struct entry_id *id)
{
	struct removed_id *r = malloc(sizeof(*r));

	if (!r) {
		vanish_key(
			look->fs, id); /* early, which an answer under way may undo for its time */
		return;
	}
	memcpy(r->id.bytes, id->bytes, id->len);
	r->id.id = *id;
	r->id.id.bytes = r->id.bytes;
	r->next = look->removed;
	look->removed = r;
}

/* A removed key, for file_keep_old(). */
struct removed {
	struct look *look;
	const struct entry_id *id;
};

static int old_value(void *arg, struct blob **out)
{
	struct removed *r = arg;

	return r->look->fs->st->ops->foreign_old_value(r->look->what, r->id, out);
}

/* Another program has removed the key: what is open keeps its content, and becomes an unlinked
 * file. What is dirty brings its key back when it is closed: the last writer wins. True: it is
 * unlinked now. */
static bool key_removed(struct look *look, struct node *n, const struct entry_id *id)
{
	struct removed removed = {look, id};
	struct fs *fs = look->fs;
	struct last last = {.gone = calloc(1, sizeof(*last.gone))};
	struct loaded l;
	bool gone = false;

	lock_take(&fs->change);
	rebind_begin(fs);
	int rc = last.gone ? entry_load(fs, id, NOW_NEVER, &l) : -ENOMEM;
	if (rc == 0) {
		loaded_release(&l); /* a change of this mount has brought it back */
	} else if (rc == -ENOENT && !file_is_dirty(fs, n)) {
		if (file_last_known(fs, n, &last.l.rec, &last.l.size))
			last.l.rec = entry_new_record(
				fs, entry_default_mode(fs, ENTRY_KEY), fs->opt.uid, fs->opt.gid);
		file_keep_old(fs, n, old_value, &removed);
		tree_unlink_node(fs, id, &last);
		gone = true;
	}
	rebind_end(fs);
	lock_drop(&fs->change);
	last_release(&last);
	return gone;
}

/* A key that is a directory now is not found by its name any more. */
static void key_became_dir(struct fs *fs, const struct entry_id *key)
{
	unsigned char bytes[STORE_PREFIX_MAX];
	struct entry_id dir = id_dir_of_key(key, fs->opt.separator, bytes);
	struct view *v;

	if (fs->st->ops->view_begin(fs->st, clock_now(), &v))
		return;
	bool is_dir = dir_exists(fs, v, &dir) > 0;
	fs->st->ops->view_end(v);
	/* Where the kernel knows the directory, its name leads there already. */
	if (is_dir && !node_is_known(&fs->nodes, &dir))
		vanish_name(fs, key, false);
}

void foreign_note_left(struct foreign *f, const struct entry_id *id)
{
	struct left_node *l = f ? malloc(sizeof(*l)) : NULL;

	if (!l) /* the kernel finds out when it looks again */
		return;
	memcpy(l->id.bytes, id->bytes, id->len);
	l->id.id = *id;
	l->id.id.bytes = l->id.bytes;
	lock_take(&f->lock);
	l->next = f->left;
	f->left = l;
	lock_drop(&f->lock);
}

static struct left_node *take_left(struct foreign *f)
{
	lock_take(&f->lock);
	struct left_node *list = f->left;
	f->left = NULL;
	lock_drop(&f->lock);
	return list;
}

/* Tells the kernel that names lead to other nodes now, with `tell`, and frees the list. Every answer
 * that could still say otherwise has been given. */
static void tell_left(struct fs *fs, struct left_node *list, bool tell)
{
	while (list) {
		struct left_node *l = list;

		list = l->next;
		if (tell) {
			vanish_name(fs, &l->id.id, false);
			vanish_name(fs, &l->id.id, true);
		}
		free(l);
	}
}

/* Before anything else, and before answers are waited for, since one of them may wait for this:
 * what is open keeps its content. */
static void look_at_open(void *arg, struct node *n)
{
	struct look *look = arg;
	struct node_id id;

	if (!n->file || node_get_id(&look->fs->nodes, n, &id) || id.id.kind != ENTRY_KEY)
		return;
	switch (look->fs->st->ops->foreign_compare(look->what, &id.id)) {
	case FOREIGN_GONE:
		if (key_removed(look, n, &id.id))
			removed_add(look, &id.id);
		break;
	case FOREIGN_CHANGED:
		version_leave(look->fs, n);
		break;
	case FOREIGN_SAME:
		break;
	}
}

/* What is open behind a cache has its own version, and so have the kernel's pages of it. */
static void changed(struct fs *fs, struct node *n)
{
	bool own = fs->st->ops->prepare && n->file;

	if (version_leave(fs, n))
		return;
	if (!own)
		file_forget_clean(fs, n);
	fs->notify->inode(fs->notify_arg, n, !own);
}

static void look_at_node(void *arg, struct node *n)
{
	struct look *look = arg;
	struct fs *fs = look->fs;
	struct node_id id;

	if (node_get_id(&fs->nodes, n, &id))
		return;
	if (id.id.kind == ENTRY_DIR) {
		if (!vanish_dir(fs, &id.id))
			fs->notify->inode(fs->notify_arg, n, false);
		return;
	}
	switch (fs->st->ops->foreign_compare(look->what, &id.id)) {
	case FOREIGN_GONE:
		if (key_removed(look, n, &id.id))
			vanish_key(fs, &id.id);
		return;
	case FOREIGN_CHANGED:
		changed(fs, n);
		break;
	case FOREIGN_SAME:
		break;
	}
	key_became_dir(fs, &id.id);
}

static bool look_at_negative(void *arg, struct node *parent, const char *name)
{
	struct look *look = arg;
	struct fs *fs = look->fs;
	struct resolved r = {0};
	struct node_id dir;

	if (node_get_id(&fs->nodes, parent, &dir))
		return true;
	if (tree_resolve_now(fs, &dir.id, name, &r) == 0 && !r.exists)
		return false;
	fs->notify->entry(fs->notify_arg, parent, name, strlen(name));
	return true;
}

static void foreign_changed(void *arg, struct foreign_change *what)
{
	struct foreign *f = arg;
	struct look look = {.fs = f->fs, .what = what};
	struct fs *fs = f->fs;

	if (fs->opt.readonly) /* what changed has no record of when: not earlier than now */
		atomic_store(&fs->mounted, clock_now());
	node_each(&fs->nodes, look_at_open, &look);
	lock_take(&f->lock);
	f->looks++;
	pthread_cond_broadcast(&f->looked);
	lock_drop(&f->lock);
	fs_dirs_changed(fs);
	struct left_node *left = take_left(f);
	fs_answers_drain(fs);
	tell_left(fs, left, true);
	while (look.removed) {
		struct removed_id *r = look.removed;

		look.removed = r->next;
		vanish_key(fs, &r->id.id);
		free(r);
	}
	node_each(&fs->nodes, look_at_node, &look);
	negatives_each(fs->negatives, look_at_negative, &look);
	left = take_left(f); /* opened, or left behind by who opened it, in between */
	if (left)
		fs_answers_drain(fs);
	tell_left(fs, left, true);
}

void foreign_wait(struct foreign *f)
{
	struct timespec until;

	if (!f)
		return;
	lock_none_held("the watch");
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	thread_waits();
	lock_take(&f->lock);
	unsigned long looks = f->looks;
	while (f->looks == looks && lock_wait_until(&f->lock, &f->looked, &until) == 0)
		;
	lock_drop(&f->lock);
}

int foreign_start(struct fs *fs, struct foreign **out)
{
	struct foreign *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->fs = fs;
	lock_init(&f->lock, LOCK_FOREIGN);
	pthread_cond_init(&f->looked, NULL);
	*out = f; /* the watcher may call at once */
	fs->st->ops->watch(fs->st, foreign_changed, f);
	return 0;
}

void foreign_stop(struct fs *fs, struct foreign *f)
{
	if (!f)
		return;
	fs->st->ops->watch(fs->st, NULL, NULL);
	tell_left(fs, take_left(f), false);
}

void foreign_free(struct foreign *f)
{
	if (!f)
		return;
	pthread_cond_destroy(&f->looked);
	lock_destroy(&f->lock);
	free(f);
}
