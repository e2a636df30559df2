/*
 * listing.c - reading directories.
 *
 * A listing goes forward in the order of the store and remembers, of what it has given out lately,
 * the place after each entry: the kernel asks again from the middle of what it was given, and
 * programs may go back to where they were (telldir). The memory is bounded; to go back farther than
 * it reaches, the listing begins anew and counts.
 *
 * Positions: 0 the beginning, 1 after ".", 2 after "..", 2 + n after the n-th child.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/attr.h"
#include "fs/core/children.h"
#include "fs/core/file.h"
#include "fs/core/prepare.h"
#include "fs/core/trail.h"

enum {
	DOTS = 2,
	BATCH = 64, /* children with attributes that are taken at once */
	PLUS_FIRST = 1500, /* children that are given with attributes, whoever asks */
	AT_ONCE = 1024, /* names in one picture of the store, for which writers wait */
};

struct listing {
	struct node *dir;
	bool dir_is_top; /* it lists namespaces */
	struct node_id base; /* what the directory was when `at` was left */
	bool based;
	struct place at; /* where the next child is looked for */
	uint64_t next; /* its position */
	uint64_t given; /* children so far */
	uint32_t pid; /* who reads it; 0: not known */
	bool probe; /* the next attributes that are worth it are left out all the same */
	struct trail trail; /* the places before it */
	bool bounded; /* what the store knows ends at `bound` (fs_prepare_listing) */
	size_t bound_len;
	unsigned char bound[STORE_PREFIX_MAX];
};

int fs_opendir(struct fs *fs, struct node *n, struct listing **out)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	node_ref(&fs->nodes, n);
	l->dir = n;
	l->dir_is_top = n == fs->root && fs->root_ns == FS_NS_ALL;
	l->next = DOTS;
	*out = l;
	return 0;
}

void fs_closedir(struct fs *fs, struct listing *l)
{
	node_unref(&fs->nodes, l->dir);
	trail_release(&l->trail);
	free(l);
}

static void listing_rewind(struct listing *l)
{
	l->at = (struct place){0};
	l->next = DOTS;
	trail_clear(&l->trail);
}

/* Goes to a position: forward by counting, backward by what is remembered. */
static int listing_seek(struct listing *l, struct children *c, uint64_t pos)
{
	struct child child;

	if (pos == l->next)
		return 0;
	if (pos < l->next && trail_back(&l->trail, pos, &l->at)) {
		l->next = pos;
		return 0;
	}
	if (pos < l->next)
		listing_rewind(l);
	trail_clear(&l->trail); /* it has no gaps */
	while (l->next < pos) {
		int rc = children_next(c, &l->at, &child);
		if (rc)
			return rc;
		l->next++;
	}
	return 0;
}

/* The directory may have been renamed: its keys have another beginning now, and so have the places.
 */
static void listing_rebase(struct listing *l, const struct node_id *now, char sep)
{
	size_t old = names_dir_raw_len(sep, l->base.bytes, l->base.id.len);
	size_t new = names_dir_raw_len(sep, now->bytes, now->id.len);
	struct place *at = &l->at;

	if (l->based &&
		(now->id.len != l->base.id.len ||
			memcmp(now->bytes, l->base.bytes, now->id.len) != 0)) {
		trail_clear(&l->trail);
		if (at->len >= old && at->len - old + new <= STORE_PREFIX_MAX + 1) {
			memmove(at->bytes + new, at->bytes + old, at->len - old);
			memcpy(at->bytes, now->bytes, new);
			at->len = (uint16_t)(at->len - old + new);
		}
	}
	memcpy(l->base.bytes, now->bytes, now->id.len);
	l->base.id = now->id;
	l->based = true;
}

/* A look at the directory: one picture of the store, and the walk at some position. */
struct walk {
	struct view *v; /* NULL in the root of all namespaces */
	struct node_id dir;
	struct children c;
	unsigned seen; /* fs.rebinding before it, */
	uint64_t stores; /* and fs.stores */
};

static int walk_begin(struct fs *fs, struct listing *l, uint64_t pos, struct walk *w)
{
	int rc = node_get_id(&fs->nodes, l->dir, &w->dir);

	w->v = NULL;
	if (rc)
		return rc; /* -ENOENT: a removed directory is empty */
	if (!id_is_top(&w->dir.id))
		rc = fs->st->ops->view_begin(fs->st, clock_now(), &w->v);
	if (rc)
		return rc;
	rc = children_open(fs, w->v, &w->dir.id, &w->c);
	if (!rc) {
		if (w->v)
			listing_rebase(l, &w->dir, fs->opt.separator);
		rc = listing_seek(l, &w->c, pos);
		if (!rc)
			return 0;
		children_close(&w->c);
	}
	if (w->v)
		fs->st->ops->view_end(w->v);
	return rc;
}

static void walk_close(struct fs *fs, struct walk *w)
{
	children_close(&w->c);
	if (w->v)
		fs->st->ops->view_end(w->v);
}

/* -ENOENT: nothing is there any more. The picture and the directory's name belong to one moment. */
static int walk_open(
	struct fs *fs, struct listing *l, uint64_t pos, enum children_what what, struct walk *w)
{
	struct rebind_check check = {0};
	bool again;
	int rc;

	do {
		rebind_look(fs, &check);
		rc = walk_begin(fs, l, pos, w);
		w->seen = check.seen;
		w->stores = check.stores;
		again = rebind_disturbed(fs, &check);
		if (again && !rc)
			walk_close(fs, w);
	} while (again);
	if (!rc)
		w->c.what = what;
	return rc;
}

/* One child with what its dirent says, as it is taken from the store in one picture. */
struct item {
	struct node_id id;
	struct loaded l; /* rec.mode 0: not looked at yet */
	bool plus; /* with attributes */
	uint32_t dirs;
	unsigned seen; /* as in struct walk */
	uint64_t stores;
	struct place after;
	char name[NAMES_NAME_MAX + 1];
};

/* Whether the child lies past what the store knows. */
static bool past_bound(const struct listing *l, const struct entry_id *id)
{
	size_t both = id->len < l->bound_len ? id->len : l->bound_len;
	int order = l->bounded ? memcmp(id->bytes, l->bound, both) : -1;

	return order > 0 || (order == 0 && id->len > l->bound_len);
}

/* Whether the dirent says more than the name. What the kernel knows it has the attributes of, unless
 * they are not to be believed for long. */
static bool worth_attributes(struct fs *fs, const struct item *it)
{
	if (it->l.partial)
		return false;
	if (fs->st->ops->prepare || fs->opt.readonly || fs->opt.sync)
		return true;
	return !node_is_known(&fs->nodes, &it->id.id);
}

/* Attributes cost ten times what a name does, and asking for them one by one five times what it costs
 * to get them here. Who wants them is not said; so they are given with the first children, as many as
 * take no noticeable time, and go on being given to whoever looks at the files between reading one
 * answer and the next. That the kernel does not tell when it has been given the attributes already:
 * so one child in each answer goes without, and whether it is looked up shows. */
static bool attributes_wanted(struct fs *fs, struct listing *l, uint64_t off)
{
	bool looked = l->pid && atomic_exchange(&l->dir->looked_by, 0) == l->pid;

	l->probe = off >= PLUS_FIRST;
	return off < PLUS_FIRST || looked;
}

void fs_note_look(struct node *dir, uint32_t pid)
{
	atomic_store_explicit(&dir->looked_by, pid, memory_order_relaxed);
}

void fs_listing_by(struct listing *l, uint32_t pid)
{
	l->pid = pid;
}

static void item_set(struct fs *fs, struct listing *l, struct walk *w, const struct child *child,
	const struct place *at, bool plus, struct item *it)
{
	const struct entry_id *id = &child->id.id;

	node_id_set(&it->id, id);
	memcpy(it->name, child->name, child->name_len + 1);
	place_copy(&it->after, at);
	it->dirs = UINT32_MAX;
	it->seen = w->seen;
	it->stores = w->stores;
	it->plus = plus;
	it->l.rec.mode = 0;
	if (!w->v)
		return;
	entry_show(fs, id, child->recorded ? &child->entry : NULL, &it->l);
	it->l.rec.xattrs = NULL;
	it->l.rec.xattrs_len = 0;
	it->plus = plus && worth_attributes(fs, it);
	if (it->plus && l->probe)
		it->plus = l->probe = false;
	if (it->plus && id->kind == ENTRY_DIR)
		it->dirs = dir_count_dirs(fs, w->v, id, DIR_COUNT_BRIEF, NULL);
}

/* Takes up to `max` children. How many, or -errno. */
static int take_items(
	struct fs *fs, struct listing *l, uint64_t pos, bool plus, struct item *items, int max)
{
	struct child child;
	struct place at;
	struct walk w;
	int n = 0, rc = walk_open(fs, l, pos, CHILDREN_ENTRIES, &w);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	place_copy(&at, &l->at);
	while (n < max) {
		rc = children_next(&w.c, &at, &child);
		if (rc || past_bound(l, &child.id.id))
			break;
		item_set(fs, l, &w, &child, &at, plus, &items[n++]);
	}
	walk_close(fs, &w);
	/* What was found before an error is given out; the error comes again. */
	return rc && rc != -ENOENT && !n ? rc : n;
}

/* What an entry says, looked at outside the walk. */
static int item_load(struct fs *fs, struct item *it)
{
	struct view *v;
	int rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);

	if (rc)
		return rc;
	rc = entry_load_in(fs, v, &it->id.id, true, &it->l);
	if (!rc)
		it->dirs = dir_count_dirs(fs, v, &it->id.id, DIR_COUNT_BRIEF, NULL);
	fs->st->ops->view_end(v);
	return rc;
}

/* Entries have been removed or renamed since the item was taken, so it is looked at again. -ENOENT:
 * it is not there any more; -EAGAIN: the directory has another name, and so have all in it. */
static int item_again(struct fs *fs, struct listing *l, struct item *it)
{
	struct node_id dir;

	if (node_get_id(&fs->nodes, l->dir, &dir))
		return -EAGAIN;
	if (!id_is_top(&dir.id) &&
		(dir.id.len != l->base.id.len || memcmp(dir.bytes, l->base.bytes, dir.id.len) != 0))
		return -EAGAIN;
	loaded_release(&it->l);
	return item_load(fs, it);
}

/* Who wants to know how many directories are in a large one asks for it by itself. */
static void item_attr(struct fs *fs, const struct item *it, struct fs_dirent *e)
{
	attr_fill(fs, &it->id.id, e->node, &it->l, it->dirs, &e->attr);
	e->attr.brief =
		S_ISDIR(e->attr.st.st_mode) && it->dirs == UINT32_MAX && !fs->st->ops->prepare;
}

/* Fills the dirent's node and attributes. */
static int dirent_plus(struct fs *fs, struct listing *l, struct item *it, struct fs_dirent *e)
{
	struct rebind_check check = {0};
	const struct entry_id *id = &it->id.id;
	int rc;

	do {
		if (e->node)
			fs_forget(fs, e->node, 1);
		e->node = NULL;
		rebind_look(fs, &check);
		rc = 0;
		if (check.seen != it->seen) {
			rc = item_again(fs, l, it);
			it->stores = check.stores;
			it->seen = check.seen;
		}
		if (!rc)
			rc = entry_adopt(fs, id, clock_now(), &it->l, check.locked);
		if (!rc)
			rc = node_lookup(&fs->nodes, id, &e->node);
		if (!rc)
			item_attr(fs, it, e);
	} while (rebind_disturbed(fs, &check));
	loaded_release(&it->l); /* its plain fields stay */
	if (rc || !file_stored_since(fs, e->node, it->stores))
		return rc;
	rc = fs_getattr(fs, e->node, &e->attr);
	if (rc)
		fs_forget(fs, e->node, 1);
	return rc;
}

/* Offers one child. 1: it did not fit. -ENOENT: it went away and is passed over. -EAGAIN: what was
 * taken is to be taken anew. */
static int give_item(struct fs *fs, struct listing *l, struct item *it, fs_dirent_fn fn, void *arg)
{
	struct fs_dirent e = {.name = it->name, .next = l->next + 1};
	int rc = it->l.rec.mode ? 0 : item_load(fs, it);

	if (!rc && it->plus)
		rc = dirent_plus(fs, l, it, &e);
	if (rc)
		return rc;
	e.ino = it->l.rec.ino;
	e.type = it->l.rec.mode & S_IFMT;
	if (!fn(arg, &e)) {
		if (e.node)
			fs_forget(fs, e.node, 1);
		return 1;
	}
	rc = trail_add(&l->trail, l->next, &l->at);
	place_copy(&l->at, &it->after);
	l->next++;
	l->given++;
	return rc;
}

/* Gives children until no more fit, or there are no more. */
static int give_items(struct fs *fs, struct listing *l, uint64_t off, bool plus, int max,
	fs_dirent_fn fn, void *arg)
{
	struct item *items = malloc((size_t)max * sizeof(*items));
	int n, rc = items ? 0 : -ENOMEM;

	while (!rc && (n = take_items(fs, l, off, plus, items, max)) > 0) {
		for (int i = 0; i < n && !rc; i++) {
			rc = give_item(fs, l, &items[i], fn, arg);
			if (rc == -ENOENT) {
				/* It went away: the place is passed, but no position. */
				place_copy(&l->at, &items[i].after);
				rc = 0;
			}
		}
		if (rc == -EAGAIN)
			rc = 0;
		off = l->next;
	}
	free(items);
	return rc ? rc : n;
}

/* The same where no attributes are given: straight from the walk. `max`: how many in one picture. */
static int give_names(
	struct fs *fs, struct listing *l, uint64_t off, int max, fs_dirent_fn fn, void *arg)
{
	struct fs_dirent e = {.node = NULL};
	struct child child;
	struct walk w;
	uint32_t mode;
	int rc = walk_open(fs, l, off, CHILDREN_BRIEF, &w);

	if (rc)
		return rc == -ENOENT ? 1 : rc;
	e.name = child.name;
	while (!rc && max-- > 0) {
		const struct entry_id *id = &child.id.id;

		rc = trail_add(&l->trail, l->next, &l->at);
		if (rc)
			break;
		rc = children_next(&w.c, &l->at, &child);
		if (!rc && past_bound(l, id))
			rc = -ENOENT;
		if (!rc) {
			entry_identity(fs, id, child.recorded ? &child.entry : NULL, &e.ino, &mode);
			e.type = mode & S_IFMT;
			e.next = l->next + 1;
			rc = fn(arg, &e) ? 0 : 1;
		}
		if (rc) {
			trail_back(&l->trail, l->next, &l->at);
		} else {
			l->next++;
			l->given++;
		}
	}
	walk_close(fs, &w);
	return rc == -ENOENT ? 1 : rc;
}

/* Gives "." and ".." from position *pos on. False: full. */
static bool give_dots(struct fs *fs, struct listing *l, uint64_t *pos, fs_dirent_fn fn, void *arg)
{
	static const char *const names[DOTS] = {".", ".."};
	struct node_id id;

	for (; *pos < DOTS; ++*pos) {
		struct fs_dirent e = {.name = names[*pos], .type = S_IFDIR, .next = *pos + 1};
		struct loaded loaded;

		/* The kernel answers ".." itself where it matters; only "." needs the right number.
		 */
		e.ino = 1;
		if (*pos == 0 && node_get_id(&fs->nodes, l->dir, &id) == 0 &&
			entry_load(fs, &id.id, clock_now(), &loaded) == 0) {
			e.ino = loaded.rec.ino;
			loaded_release(&loaded);
		}
		if (!fn(arg, &e))
			return false;
	}
	return true;
}

int fs_readdir(struct fs *fs, struct listing *l, uint64_t off, bool plus, unsigned most,
	fs_dirent_fn fn, void *arg)
{
	uint64_t given = l->given;
	int rc = 0;

	if (!give_dots(fs, l, &off, fn, arg))
		return 0;
	plus = plus && attributes_wanted(fs, l, off);
	if (plus || l->dir_is_top)
		rc = give_items(
			fs, l, off, plus, most > 0 && most < BATCH ? (int)most : BATCH, fn, arg);
	else
		while ((rc = give_names(fs, l, off, AT_ONCE, fn, arg)) == 0)
			off = l->next;
	/* What was given counts, whatever happened after it. */
	return rc < 0 && l->given == given ? rc : 0;
}

/* Whether the listing has a child to give at `pos`. */
static int has_next(struct fs *fs, struct listing *l, uint64_t pos)
{
	struct child child;
	struct place at;
	struct walk w;
	int rc = walk_open(fs, l, pos, CHILDREN_NAMES, &w);

	if (rc)
		return rc;
	place_copy(&at, &l->at);
	rc = children_next(&w.c, &at, &child);
	if (!rc && past_bound(l, &child.id.id))
		rc = -ENOENT;
	walk_close(fs, &w);
	return rc;
}

int fs_prepare_listing(struct fs *fs, struct listing *l, uint64_t off)
{
	struct want want = {.kind = WANT_LIST};
	struct node_id dir;

	if (!fs->st->ops->prepare || node_get_id(&fs->nodes, l->dir, &dir))
		return 0;
	want.ns = dir.id.ns;
	if (id_is_top(&dir.id))
		return fs->st->ops->prepare(fs->st, &want);
	want.prefix = dir.bytes;
	want.prefix_len = names_dir_raw_len(fs->opt.separator, dir.bytes, dir.id.len);
	if (want.prefix_len > STORE_KEY_MAX)
		return 0;
	for (;;) {
		int rc = fs->st->ops->prepare(fs->st, &want);

		if (rc)
			return rc;
		l->bounded = !want.complete;
		l->bound_len = want.upto_len;
		memcpy(l->bound, want.upto, want.upto_len);
		if (want.complete || has_next(fs, l, off < DOTS ? DOTS : off) != -ENOENT)
			return 0;
		want.key = l->bound; /* further on, then */
		want.key_len = l->bound_len;
	}
}
