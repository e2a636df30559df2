#include "fs/core/children.h"

#include <errno.h>
#include <string.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"

static bool begins_with(const struct entry_id *id, const void *bytes, size_t len)
{
	return id->len >= len && memcmp(id->bytes, bytes, len) == 0;
}

static bool same_id(const struct entry_id *a, const struct entry_id *b)
{
	return a->kind == b->kind && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

int children_open(struct fs *fs, struct view *v, const struct entry_id *dir, struct children *c)
{
	const struct store_ops *ops = fs->st->ops;

	*c = (struct children){.fs = fs, .view = v, .dir = *dir};
	if (id_is_top(dir))
		return 0;
	c->raw_len = names_dir_raw_len(fs->opt.separator, dir->bytes, dir->len);
	int rc = ops->scan_open(v, dir->ns, ENTRY_KEY, &c->keys);
	if (rc)
		return rc;
	rc = ops->scan_open(v, dir->ns, ENTRY_DIR, &c->dirs);
	if (rc)
		ops->scan_close(c->keys);
	return rc;
}

void children_close(struct children *c)
{
	if (c->keys)
		c->fs->st->ops->scan_close(c->keys);
	if (c->dirs)
		c->fs->st->ops->scan_close(c->dirs);
}

static void place_after(struct place *at, const struct entry_id *e)
{
	memcpy(at->bytes, e->bytes, e->len);
	at->len = e->len;
	at->past_key = e->kind == ENTRY_KEY;
	if (e->kind == ENTRY_DIR)
		at->bytes[at->len++] = '\0';
}

/* Past everything that begins with these bytes. A prefix of 0xFF bytes only has nothing after it:
 * the place is then the greatest there is. */
static void place_past_prefix(struct place *at, const unsigned char *bytes, size_t len)
{
	while (len && bytes[len - 1] == 0xff)
		len--;
	at->past_key = false;
	if (!len) {
		at->len = STORE_PREFIX_MAX + 1;
		memset(at->bytes, 0xff, at->len);
		return;
	}
	memmove(at->bytes, bytes, len);
	at->bytes[len - 1]++;
	at->len = (uint16_t)len;
}

/* The first entry at or after the place, of either kind, whose bytes begin with the directory's. */
static int entry_at(struct children *c, struct place *at, struct entry_id *out)
{
	const struct store_ops *ops = c->fs->st->ops;
	struct entry_id key, dir;

	at->bytes[at->len] = '\0'; /* a key's successor is itself with a NUL */
	int no_key = ops->scan_seek(c->keys, at->bytes, at->len + (size_t)at->past_key, &key);
	if (no_key && no_key != -ENOENT)
		return no_key;
	int no_dir = ops->scan_seek(c->dirs, at->bytes, at->len, &dir);
	if (no_dir && no_dir != -ENOENT)
		return no_dir;
	if (!no_key && !begins_with(&key, c->dir.bytes, c->raw_len))
		no_key = -ENOENT;
	if (!no_dir && !begins_with(&dir, c->dir.bytes, c->raw_len))
		no_dir = -ENOENT;
	if (no_key && no_dir)
		return -ENOENT;
	if (!no_key && !no_dir) {
		size_t both = key.len < dir.len ? key.len : dir.len;
		int order = memcmp(key.bytes, dir.bytes, both);

		/* Of equal bytes the key comes first, as place_after() supposes. */
		no_key = order > 0 || (order == 0 && key.len > dir.len);
	}
	*out = no_key ? dir : key;
	return 0;
}

/* The child that the next entry belongs to, and the place after all of it that can be skipped.
 * `found`: that entry. */
static int child_at(
	struct children *c, struct place *at, struct node_id *found, struct name_child *nc)
{
	struct entry_id e;
	int rc;

	if (!at->len) { /* a walk begins; later places may be shorter, but lie behind */
		memcpy(at->bytes, c->dir.bytes, c->raw_len);
		at->len = (uint16_t)c->raw_len;
		at->past_key = false;
	}
	for (;;) {
		rc = entry_at(c, at, &e);
		if (rc)
			return rc;
		node_id_set(found, &e);
		rc = names_child(c->fs->opt.separator, c->dir.bytes, c->dir.len, found->bytes,
			found->id.len, e.kind == ENTRY_DIR, nc);
		if (rc != -ENOENT)
			break;
		place_after(at, &found->id); /* a neighbour, or the directory's own record */
	}
	if (rc)
		return rc;
	if (nc->single)
		place_after(at, &found->id);
	else
		place_past_prefix(at, nc->skip, nc->skip_len);
	return 0;
}

/* Whether `found`, which belongs to the piece `nc->dir`, is the first entry that does: a piece's
 * entries do not always lie together. */
static int piece_met_first(
	struct children *c, const struct node_id *found, const struct name_child *nc, bool *first)
{
	size_t raw = names_dir_raw_len(c->fs->opt.separator, nc->dir, nc->dir_len);
	struct place at = {.stage = 1, .len = (uint16_t)raw};
	struct name_child other;
	struct node_id e;
	int rc;

	memcpy(at.bytes, nc->dir, raw);
	do {
		rc = child_at(c, &at, &e, &other);
		if (rc)
			return rc == -ENOENT ? -EIO : rc; /* `found` itself must be met */
	} while (!other.is_dir || other.dir_len != nc->dir_len ||
		memcmp(other.dir, nc->dir, nc->dir_len) != 0);
	*first = same_id(&e.id, &found->id);
	return 0;
}

static int key_is_dir_too(struct children *c, const struct node_id *key)
{
	const struct store_ops *ops = c->fs->st->ops;
	unsigned char bytes[STORE_PREFIX_MAX];
	struct entry_id dir, next;

	/* Most keys begin no other: the walk's own next steps tell, for nothing. */
	dir = id_dir_of_key(&key->id, '\0', bytes);
	if ((ops->scan_seek(c->keys, bytes, dir.len, &next) ||
		    !begins_with(&next, bytes, key->id.len)) &&
		(ops->scan_seek(c->dirs, bytes, key->id.len, &next) ||
			!begins_with(&next, bytes, key->id.len)))
		return 0;
	dir = id_dir_of_key(&key->id, c->fs->opt.separator, bytes);
	return dir_exists(c->fs, c->view, &dir);
}

static void child_set(
	struct child *out, const struct name_child *nc, uint32_t ns, const struct node_id *found)
{
	if (nc->is_dir) {
		struct entry_id id = id_dir(ns, nc->dir, nc->dir_len);
		node_id_set(&out->id, &id);
	} else {
		node_id_set(&out->id, &found->id);
	}
	memcpy(out->name, nc->name, nc->name_len + 1);
	out->name_len = nc->name_len;
}

/* The key that an ordinary directory is named like, as %value. */
static int value_child(struct children *c, struct child *out)
{
	char sep = c->fs->opt.separator;

	if (c->dir.len < 2 || names_dir_is_piece(sep, c->dir.bytes, c->dir.len))
		return -ENOENT;
	struct entry_id key = id_key(c->dir.ns, c->dir.bytes, c->dir.len - 1u);
	int rc = c->fs->st->ops->view_get(c->view, &key, &out->entry);
	if (rc)
		return rc;
	out->recorded = true;
	node_id_set(&out->id, &key);
	memcpy(out->name, "%value", 7);
	out->name_len = 6;
	return 0;
}

/* What the store says of a child, where that is asked for. A key has just been found by the walk. */
static int child_get(struct children *c, struct child *out)
{
	const struct store_ops *ops = c->fs->st->ops;
	const struct entry_id *id = &out->id.id;
	int rc;

	out->recorded = false;
	if (c->what == CHILDREN_NAMES)
		return 0;
	if (id->kind == ENTRY_KEY)
		rc = ops->scan_get(c->keys, id, c->what == CHILDREN_BRIEF, &out->entry);
	else
		rc = ops->view_get(c->view, id, &out->entry);
	out->recorded = rc == 0;
	return rc == -ENOENT && id->kind == ENTRY_DIR ? 0 : rc;
}

static int namespace_next(struct children *c, struct place *at, struct child *out)
{
	const struct store_ops *ops = c->fs->st->ops;
	unsigned char name[NAMES_NS_MAX];
	char shown[64];
	uint32_t ns;
	size_t len;

	for (;;) {
		int rc = ops->ns_next(c->fs->st, at->bytes, at->len, name, sizeof(name), &len);
		if (rc)
			return rc;
		memcpy(at->bytes, name, len);
		at->len = (uint16_t)len;
		rc = names_ns_encode(name, len, out->name);
		if (rc) {
			if (!atomic_exchange(&c->fs->said_long, true))
				log_warning("namespace %s: its name is too long for a directory; "
					    "mount it "
					    "by SOURCE#NAMESPACE",
					log_bytes(name, len, shown, sizeof(shown)));
			continue;
		}
		rc = ops->ns_find(c->fs->st, name, len, &ns);
		if (rc == -ENOENT) /* it went away meanwhile */
			continue;
		if (rc)
			return rc;
		out->name_len = strlen(out->name);
		out->recorded = false;
		struct entry_id id = id_dir(ns, "", 0);
		node_id_set(&out->id, &id);
		return 0;
	}
}

int children_next(struct children *c, struct place *at, struct child *out)
{
	struct name_child nc;
	struct node_id found;
	int rc;

	if (id_is_top(&c->dir))
		return namespace_next(c, at, out);
	if (at->stage == 0) {
		at->stage = 1;
		rc = value_child(c, out);
		if (rc != -ENOENT)
			return rc;
	}
	for (;;) {
		bool first = true;

		rc = child_at(c, at, &found, &nc);
		if (rc)
			return rc;
		child_set(out, &nc, c->dir.ns, &found);
		rc = child_get(c, out);
		if (rc)
			return rc;
		if (!nc.is_dir) {
			rc = key_is_dir_too(c, &found);
			if (rc < 0)
				return rc;
			if (rc)
				continue;
		} else if (names_dir_is_piece(c->fs->opt.separator, nc.dir, nc.dir_len)) {
			rc = piece_met_first(c, &found, &nc, &first);
			if (rc)
				return rc;
		}
		if (first)
			return 0;
	}
}

int dir_exists(struct fs *fs, struct view *v, const struct entry_id *dir)
{
	struct place at = {.stage = 1};
	struct name_child nc;
	struct node_id found;
	struct children c;
	struct entry e;

	if (dir->len == 0) /* a namespace's own directory is there as long as the namespace is */
		return 1;
	int rc = fs->st->ops->view_get(v, dir, &e);
	if (rc == 0 && (e.rec.flags & RECORD_MADE))
		return 1;
	if (rc && rc != -ENOENT)
		return rc;
	rc = children_open(fs, v, dir, &c);
	if (rc)
		return rc;
	rc = child_at(&c, &at, &found, &nc);
	children_close(&c);
	return rc == 0 ? 1 : rc == -ENOENT ? 0 : rc;
}

int dir_is_empty(struct fs *fs, struct view *v, const struct entry_id *dir)
{
	struct place at = {.stage = 0};
	struct children c;
	struct child child;

	int rc = children_open(fs, v, dir, &c);
	if (rc)
		return rc;
	rc = children_next(&c, &at, &child);
	children_close(&c);
	return rc == 0 ? 0 : rc == -ENOENT ? 1 : rc;
}

int dir_check_empty(struct fs *fs, const struct entry_id *dir)
{
	struct view *v;
	int rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);

	if (rc)
		return rc;
	int empty = dir_is_empty(fs, v, dir);
	fs->st->ops->view_end(v);
	return empty < 0 ? empty : empty ? 0 : -ENOTEMPTY;
}

uint32_t dir_count_dirs(
	struct fs *fs, struct view *v, const struct entry_id *dir, unsigned most, uint32_t *room)
{
	struct place at = {.stage = 1};
	struct children c;
	struct child child;
	uint32_t dirs = 0, seen = 0;

	if (fs->st->ops->prepare || /* not all of them may be known */
		children_open(fs, v, dir, &c))
		return UINT32_MAX;
	while (seen++ < most && children_next(&c, &at, &child) == 0)
		dirs += child.id.id.kind == ENTRY_DIR;
	children_close(&c);
	if (seen > most)
		return UINT32_MAX;
	if (room)
		*room = most - seen;
	return dirs;
}
