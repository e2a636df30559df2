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

enum { DOTS = 2, BATCH = 128, TRAIL_BYTES_MAX = 4 << 20 };

/* The places that were given out: entry i begins at starts[i], a struct place cut to its bytes. */
struct trail {
	uint64_t first; /* the position that starts[0] belongs to */
	size_t count, cap;
	uint32_t *starts;
	size_t used, size;
	unsigned char *bytes;
};

struct listing {
	struct node *dir;
	struct node_id base; /* what the directory was when `at` was left */
	bool based;
	struct place at; /* where the next child is looked for */
	uint64_t next; /* its position */
	struct trail trail; /* the places before it */
	bool bounded; /* what the store knows ends at `bound` (fs_prepare_listing) */
	size_t bound_len;
	unsigned char bound[STORE_PREFIX_MAX];
};

static size_t place_size(const struct place *p)
{
	return offsetof(struct place, bytes) + p->len;
}

/* Forgets the older half. */
static void trail_shorten(struct trail *t)
{
	size_t drop = t->count / 2, from = drop < t->count ? t->starts[drop] : t->used;

	memmove(t->bytes, t->bytes + from, t->used - from);
	memmove(t->starts, t->starts + drop, (t->count - drop) * sizeof(t->starts[0]));
	t->used -= from;
	t->count -= drop;
	t->first += drop;
	for (size_t i = 0; i < t->count; i++)
		t->starts[i] -= (uint32_t)from;
}

static int trail_grow(struct trail *t, size_t size)
{
	if (t->used + size > t->size) {
		size_t want = t->size ? t->size * 2 : 4096;
		unsigned char *bytes = realloc(t->bytes, want);

		if (!bytes)
			return -ENOMEM;
		t->bytes = bytes;
		t->size = want;
	}
	if (t->count == t->cap) {
		size_t want = t->cap ? t->cap * 2 : 64;
		uint32_t *starts = realloc(t->starts, want * sizeof(starts[0]));

		if (!starts)
			return -ENOMEM;
		t->starts = starts;
		t->cap = want;
	}
	return 0;
}

/* Remembers that position `pos` is at this place. */
static int trail_add(struct trail *t, uint64_t pos, const struct place *at)
{
	size_t size = place_size(at);

	if (t->used + size > TRAIL_BYTES_MAX)
		trail_shorten(t);
	int rc = trail_grow(t, size);
	if (rc)
		return rc;
	if (!t->count)
		t->first = pos;
	memcpy(t->bytes + t->used, at, size);
	t->starts[t->count++] = (uint32_t)t->used;
	t->used += size;
	return 0;
}

static bool trail_find(const struct trail *t, uint64_t pos, struct place *at)
{
	if (pos < t->first || pos - t->first >= t->count)
		return false;
	memset(at, 0, sizeof(*at));
	memcpy(at, t->bytes + t->starts[pos - t->first], offsetof(struct place, bytes));
	memcpy(at, t->bytes + t->starts[pos - t->first], place_size(at));
	return true;
}

int fs_opendir(struct fs *fs, struct node *n, struct listing **out)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	node_ref(&fs->nodes, n);
	l->dir = n;
	l->next = DOTS;
	*out = l;
	return 0;
}

void fs_closedir(struct fs *fs, struct listing *l)
{
	node_unref(&fs->nodes, l->dir);
	free(l->trail.starts);
	free(l->trail.bytes);
	free(l);
}

static void listing_rewind(struct listing *l)
{
	l->at = (struct place){0};
	l->next = DOTS;
	l->trail.count = l->trail.used = 0;
}

/* Goes to a position: forward by counting, backward by what is remembered. */
static int listing_seek(struct listing *l, struct children *c, uint64_t pos)
{
	struct child child;

	if (pos == l->next)
		return 0;
	if (pos < l->next && trail_find(&l->trail, pos, &l->at)) {
		l->trail.count = pos - l->trail.first;
		l->trail.used = l->trail.starts[l->trail.count];
		l->next = pos;
		return 0;
	}
	if (pos < l->next)
		listing_rewind(l);
	l->trail.count = l->trail.used = 0; /* it has no gaps */
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
		l->trail.count = l->trail.used = 0;
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

/* One child with what its dirent says, as it is taken from the store in one picture. */
struct item {
	struct child child;
	struct loaded l;
	unsigned seen; /* fs.rebinding when it was loaded, */
	uint64_t stores; /* and fs.stores, from before */
	uint32_t dirs;
	struct place after;
};

/* Whether the child lies past what the store knows. */
static bool past_bound(const struct listing *l, const struct entry_id *id)
{
	size_t both = id->len < l->bound_len ? id->len : l->bound_len;
	int order = l->bounded ? memcmp(id->bytes, l->bound, both) : -1;

	return order > 0 || (order == 0 && id->len > l->bound_len);
}

/* Takes up to `max` children. How many, or -errno. */
static int take_items_now(
	struct fs *fs, struct listing *l, uint64_t pos, bool plus, struct item *items, int max)
{
	struct node_id dir;
	struct children c;
	struct view *v = NULL;
	int n = 0, rc = node_get_id(&fs->nodes, l->dir, &dir);

	if (rc)
		return rc == -ENOENT ? 0 : rc; /* a removed directory is empty */
	if (!id_is_top(&dir.id))
		rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);
	if (rc)
		return rc;
	rc = children_open(fs, v, &dir.id, &c);
	if (rc)
		goto out;
	if (v)
		listing_rebase(l, &dir, fs->opt.separator);
	rc = listing_seek(l, &c, pos);
	struct place at = l->at;
	while (!rc && n < max) {
		struct item *it = &items[n];

		rc = children_next(&c, &at, &it->child);
		if (rc || past_bound(l, &it->child.id.id))
			break;
		it->after = at;
		it->dirs = UINT32_MAX;
		if (v)
			rc = entry_load_in(fs, v, &it->child.id.id, true, &it->l);
		if (rc)
			break;
		if (v && plus && it->child.id.id.kind == ENTRY_DIR)
			it->dirs = dir_count_dirs(fs, v, &it->child.id.id, NULL);
		n++;
	}
	children_close(&c);
out:
	if (v)
		fs->st->ops->view_end(v);
	/* What was found before an error is given out; the error comes again. */
	return rc && rc != -ENOENT && !n ? rc : n;
}

static int take_items(
	struct fs *fs, struct listing *l, uint64_t pos, bool plus, struct item *items, int max)
{
	struct rebind_check check = {0};
	int n;

	do {
		rebind_look(fs, &check);
		n = take_items_now(fs, l, pos, plus, items, max);
	} while (rebind_disturbed(fs, &check));
	for (int i = 0; i < n; i++) {
		items[i].stores = check.stores;
		items[i].seen = check.seen;
	}
	return n;
}

/* What an entry says, looked at outside the walk. */
static int item_load(struct fs *fs, struct item *it)
{
	struct view *v;
	int rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);

	if (rc)
		return rc;
	rc = entry_load_in(fs, v, &it->child.id.id, true, &it->l);
	if (!rc)
		it->dirs = dir_count_dirs(fs, v, &it->child.id.id, NULL);
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

/* Fills the dirent's node and attributes. */
static int dirent_plus(struct fs *fs, struct listing *l, struct item *it, struct fs_dirent *e)
{
	struct rebind_check check = {0};
	const struct entry_id *id = &it->child.id.id;
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
			attr_fill(fs, id, e->node, &it->l, it->dirs, &e->attr);
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
static int give_item(
	struct fs *fs, struct listing *l, struct item *it, bool plus, fs_dirent_fn fn, void *arg)
{
	struct fs_dirent e = {.name = it->child.name, .next = l->next + 1};
	int rc = it->l.rec.mode ? 0 : item_load(fs, it);

	if (!rc && plus && !it->l.partial)
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
	l->at = it->after;
	l->next++;
	return rc;
}

/* Gives "." and ".." from position *pos on. False: full. */
static bool give_dots(struct fs *fs, struct listing *l, uint64_t *pos, fs_dirent_fn fn, void *arg)
{
	static const char *const names[DOTS] = {".", ".."};
	struct node_id id;

	for (; *pos < DOTS; ++*pos) {
		struct fs_dirent e = {.name = names[*pos], .type = S_IFDIR, .next = *pos + 1};
		struct fs_attr attr;

		/* The kernel answers ".." itself where it matters; only "." needs the right number.
		 */
		e.ino = 1;
		if (*pos == 0 && node_get_id(&fs->nodes, l->dir, &id) == 0 &&
			attr_get(fs, &id.id, NULL, clock_now(), false, &attr) == 0)
			e.ino = attr.st.st_ino;
		if (!fn(arg, &e))
			return false;
	}
	return true;
}

int fs_readdir(struct fs *fs, struct listing *l, uint64_t off, bool plus, unsigned most,
	fs_dirent_fn fn, void *arg)
{
	int max = most > 0 && most < BATCH ? (int)most : BATCH;
	uint64_t given = 0;
	int rc = 0;

	if (!give_dots(fs, l, &off, fn, arg))
		return 0;
	struct item *items = calloc((size_t)max, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (;;) {
		int n = take_items(fs, l, off, plus, items, max);

		if (n <= 0) {
			rc = n;
			break;
		}
		for (int i = 0; i < n && !rc; i++) {
			rc = give_item(fs, l, &items[i], plus, fn, arg);
			if (rc ==
				-ENOENT) { /* it went away: the place is passed, but no position */
				l->at = items[i].after;
				rc = 0;
			}
			given += !rc;
		}
		if (rc && rc != -EAGAIN)
			break;
		rc = 0;
		off = l->next;
		memset(items, 0, sizeof(*items) * (size_t)n);
	}
	free(items);
	/* What was given counts, whatever happened after it. */
	return rc < 0 && !given ? rc : 0;
}

/* Whether the listing has a child to give at `pos`. */
static int has_next(struct fs *fs, struct listing *l, uint64_t pos, struct place *at)
{
	struct rebind_check check = {0};
	int rc;

	do {
		struct node_id dir;
		struct children c;
		struct child child;
		struct view *v;

		rebind_look(fs, &check);
		rc = node_get_id(&fs->nodes, l->dir, &dir);
		if (!rc)
			rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);
		if (rc)
			continue;
		rc = children_open(fs, v, &dir.id, &c);
		if (!rc) {
			listing_rebase(l, &dir, fs->opt.separator);
			rc = listing_seek(l, &c, pos);
			*at = l->at;
			if (!rc)
				rc = children_next(&c, at, &child);
			if (!rc && past_bound(l, &child.id.id))
				rc = -ENOENT;
			*at = l->at;
			children_close(&c);
		}
		fs->st->ops->view_end(v);
	} while (rebind_disturbed(fs, &check));
	return rc;
}

int fs_prepare_listing(struct fs *fs, struct listing *l, uint64_t off)
{
	struct want want = {.kind = WANT_LIST};
	struct node_id dir;
	struct place at;

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
		if (want.complete || has_next(fs, l, off < DOTS ? DOTS : off, &at) != -ENOENT)
			return 0;
		want.key = l->bound; /* further on, then */
		want.key_len = l->bound_len;
	}
}
