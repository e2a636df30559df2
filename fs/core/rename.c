/*
 * rename.c - rename(2) and renameat2(2): files, directories, namespaces.
 *
 * A file's rename is a group of changes like any other. A directory's takes all its keys along in
 * one transaction of the store (store_ops.move_tree). Pieces of long names cannot be moved as a
 * whole, since the names in them depend on them: EXDEV lets mv(1) copy what is in them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/children.h"
#include "fs/core/file.h"
#include "fs/core/negatives.h"
#include "fs/core/tree.h"

struct renaming {
	struct parent from, to; /* the directories; `to` is not loaded when they are one */
	bool one_parent;
	struct resolved old, new;
	unsigned flags;
};

/* A key as it goes to another place: its attributes and its value as the store knows it. */
struct moving_file {
	struct loaded l;
	struct blob *value;
	bool held;
};

static int moving_file_load(struct fs *fs, const struct entry_id *id, struct moving_file *m)
{
	struct value v;
	int rc = entry_load(fs, id, clock_now(), &m->l);

	if (rc)
		return rc;
	rc = fs->st->ops->read(fs->st, id, NOW_NEVER, &v);
	if (rc)
		goto fail;
	rc = value_to_blob(&v, fs->st->blobs, &m->value);
	value_release(&v);
	if (rc)
		goto fail;
	struct node *n = node_find(&fs->nodes, id);
	m->held = false;
	if (n) {
		m->held = file_is_held(fs, n);
		node_unref(&fs->nodes, n);
	}
	m->l.rec.ctime = clock_timespec(clock_now());
	entry_linger(&m->l.rec);
	entry_own_ino(fs, &m->l.rec);
	return 0;
fail:
	loaded_release(&m->l);
	return rc;
}

static void moving_file_release(struct moving_file *m)
{
	loaded_release(&m->l);
	blob_unref(m->value);
}

static struct change moving_file_put(const struct moving_file *m, const struct entry_id *to)
{
	return (struct change){
		.op = CHANGE_PUT, .id = *to, .rec = &m->l.rec, .value = m->value, .hold = m->held};
}

/* "Rewriting keeps": a key that takes another's place by rename takes its expiration and metadata
 * over, unless it brings its own. */
static int inherit(struct fs *fs, struct record *rec, const struct record *replaced)
{
	unsigned char *xattrs;
	size_t len, value_len;

	if (fs->opt.noinherit)
		return 0;
	if (!(rec->flags & RECORD_OWN_EXPIRATION)) {
		rec->flags &= ~(uint32_t)RECORD_DEFAULT_TTL;
		rec->default_ttl = 0;
		rec->expiration = replaced->expiration;
		rec->visible_ns = replaced->visible_ns;
		rec->flags |= replaced->flags & RECORD_OWN_EXPIRATION;
	}
	if (rec->flags & RECORD_OWN_METADATA)
		return 0;
	rec->flags |= replaced->flags & RECORD_OWN_METADATA;
	const unsigned char *metadata =
		xattrs_get(replaced->xattrs, replaced->xattrs_len, "user.kv.metadata", &value_len);
	if (!metadata)
		return 0;
	int rc = xattrs_set(rec->xattrs, rec->xattrs_len, "user.kv.metadata", metadata, value_len,
		&xattrs, &len);
	if (rc)
		return rc;
	free((void *)(uintptr_t)rec->xattrs);
	rec->xattrs = xattrs;
	rec->xattrs_len = (uint32_t)len;
	return 0;
}

static bool has_passed(const struct record *rec)
{
	return rec->expiration && rec->expiration <= clock_now() / CLOCK_SECOND;
}

/* Applies the changes of a rename, and those of the directories. */
static int apply_with_parents(struct fs *fs, struct renaming *r, struct change *changes, size_t n)
{
	changes[n++] = parent_change(&r->from);
	if (!r->one_parent)
		changes[n++] = parent_change(&r->to);
	return fs_apply(fs, changes, n);
}

static int rename_file(struct fs *fs, struct renaming *r)
{
	struct change changes[4];
	struct moving_file m;
	struct node_moves *moves = NULL;
	struct last replaced = {0};
	struct node_id to;
	int rc = resolved_new_id(&r->new, r->to.id.id.ns, ENTRY_KEY, &to);

	if (rc)
		return rc;
	rc = moving_file_load(fs, &r->old.found.id, &m);
	if (rc)
		return rc;
	rebind_begin(fs);
	/* What has expired, and is not swept yet, gives way without an inheritance, although another
	 * program may have made a new key of that name; so does what is on its way out because its
	 * expiration was set to a time that had passed. */
	int left = last_take(fs, &to.id, NOW_NEVER, &replaced);
	if (left && left != -ENOENT)
		rc = left;
	else if (r->new.exists && !left && !has_passed(&replaced.l.rec))
		rc = inherit(fs, &m.l.rec, &replaced.l.rec);
	if (!rc)
		rc = node_moves_one(&fs->nodes, &r->old.found.id, &to.id, false, &moves);
	if (rc)
		goto out;
	changes[0] = moving_file_put(&m, &to.id);
	changes[1] = (struct change){.op = CHANGE_REMOVE, .id = r->old.found.id};
	rc = apply_with_parents(fs, r, changes, 2);
	if (!rc) {
		tree_unlink_node(fs, &to.id, &replaced);
		node_move(&fs->nodes, moves);
		moves = NULL;
	}
out:
	rebind_end(fs);
	node_moves_cancel(&fs->nodes, moves);
	last_release(&replaced);
	moving_file_release(&m);
	return rc;
}

static int exchange_files(struct fs *fs, struct renaming *r)
{
	struct node_moves *moves = NULL;
	struct change changes[4];
	struct moving_file a, b;
	int rc = moving_file_load(fs, &r->old.found.id, &a);

	if (rc)
		return rc;
	rc = moving_file_load(fs, &r->new.found.id, &b);
	if (rc)
		goto out_a;
	changes[0] = moving_file_put(&a, &r->new.found.id);
	changes[1] = moving_file_put(&b, &r->old.found.id);
	rebind_begin(fs);
	rc = node_moves_one(&fs->nodes, &r->old.found.id, &r->new.found.id, true, &moves);
	if (!rc)
		rc = apply_with_parents(fs, r, changes, 2);
	if (!rc)
		node_move(&fs->nodes, moves);
	else
		node_moves_cancel(&fs->nodes, moves);
	rebind_end(fs);
	moving_file_release(&b);
out_a:
	moving_file_release(&a);
	return rc;
}

/* The directory id of what was resolved, whichever of the two readings it has. -EXDEV: a piece. */
static int resolved_dir(struct fs *fs, const struct resolved *r, uint32_t ns, struct entry_id *out)
{
	if (r->in_top || !r->target.can_dir)
		return r->in_top ? -EXDEV : -EINVAL;
	if (names_dir_is_piece(fs->opt.separator, r->target.dir, r->target.dir_len))
		return -EXDEV;
	*out = id_dir(ns, r->target.dir, r->target.dir_len);
	return 0;
}

/* The directory that a rename replaces must be empty. */
static int replaced_dir(struct fs *fs, const struct entry_id *dir, struct last *last)
{
	int rc = dir_check_empty(fs, dir);

	return rc ? rc : last_take(fs, dir, clock_now(), last);
}

/* The times of what moves, and of the directories that it moves between. */
struct touches {
	struct loaded moved[2];
	size_t n_moved, n;
	struct record before[4]; /* they share the attributes of what they belong to */
	struct change changes[4];
};

static void touch_add(struct touches *t, const struct change *put, const struct record *before)
{
	t->before[t->n] = *before;
	t->changes[t->n++] = *put;
}

static int touch_moved(struct fs *fs, const struct entry_id *id, struct touches *t)
{
	struct loaded *l = &t->moved[t->n_moved];
	struct change put = {.op = CHANGE_PUT, .id = *id, .rec = &l->rec};
	int rc = entry_load(fs, id, NOW_NEVER, l);

	if (rc)
		return rc;
	t->n_moved++;
	touch_add(t, &put, &l->rec);
	l->rec.ctime = clock_timespec(clock_now());
	entry_own_ino(fs, &l->rec);
	return 0;
}

/* Before anything moves: the store takes the records along. Afterwards there would be no way back if
 * they could not be stored, and a crash could leave a directory that is empty now without the note
 * that it is to stay (parent_load). */
static int touch_all(struct fs *fs, struct renaming *r, bool exchange, struct touches *t)
{
	int rc = touch_moved(fs, &r->old.found.id, t);

	if (!rc && exchange)
		rc = touch_moved(fs, &r->new.found.id, t);
	if (rc)
		return rc;
	struct change put = parent_change(&r->from);
	touch_add(t, &put, &r->from.before);
	if (!r->one_parent) {
		put = parent_change(&r->to);
		touch_add(t, &put, &r->to.before);
	}
	rc = fs_apply(fs, t->changes, t->n);
	if (rc)
		t->n = 0;
	return rc;
}

/* `moved`: else the old times are set again, and if that fails, they are too new. */
static void touches_end(struct fs *fs, struct touches *t, bool moved)
{
	for (size_t i = 0; i < t->n; i++)
		t->changes[i].rec = &t->before[i];
	if (!moved && t->n)
		fs_apply(fs, t->changes, t->n);
	for (size_t i = 0; i < t->n_moved; i++)
		loaded_release(&t->moved[i]);
}

/* Unlinks the nodes of expired keys that are still known below a directory that others move to. */
struct leftovers {
	struct fs *fs;
	const struct entry_id *dir;
	int rc;
};

static void unlink_leftover(void *arg, struct node *n)
{
	struct leftovers *left = arg;
	struct last last = {0};
	struct node_id id;

	if (node_get_id(&left->fs->nodes, n, &id) || id.id.ns != left->dir->ns ||
		id.id.kind != ENTRY_KEY || id.id.len + 1u < left->dir->len ||
		memcmp(id.bytes, left->dir->bytes, left->dir->len - 1u) != 0 ||
		(id.id.len >= left->dir->len &&
			id.bytes[left->dir->len - 1] != left->dir->bytes[left->dir->len - 1]))
		return;
	int rc = last_take(left->fs, &id.id, NOW_NEVER, &last);
	if (rc && rc != -ENOENT)
		left->rc = rc;
	else
		tree_unlink_node(left->fs, &id.id, &last);
	last_release(&last);
}

static int unlink_leftovers(struct fs *fs, const struct entry_id *dir)
{
	struct leftovers left = {fs, dir, 0};
	int rc = node_each(&fs->nodes, unlink_leftover, &left);

	return rc ? rc : left.rc;
}

static int rename_dir(struct fs *fs, struct renaming *r, bool exchange)
{
	bool replace = r->new.exists && !exchange;
	struct node_moves *moves = NULL;
	struct touches touches = {0};
	struct last replaced = {0};
	struct entry_id from, to;
	int rc = resolved_dir(fs, &r->old, r->from.id.id.ns, &from);

	if (!rc)
		rc = resolved_dir(fs, &r->new, r->to.id.id.ns, &to);
	if (!rc && to.ns == from.ns && to.len >= from.len &&
		memcmp(to.bytes, from.bytes, from.len) == 0)
		rc = -EINVAL; /* into itself */
	if (!rc && replace)
		rc = r->new.found.id.kind == ENTRY_DIR ? replaced_dir(fs, &to, &replaced)
						       : -ENOTDIR;
	rebind_begin(fs);
	if (!rc && !exchange)
		rc = unlink_leftovers(fs, &to);
	if (!rc)
		rc = node_moves_tree(&fs->nodes, &from, &to, exchange, &moves);
	if (!rc)
		rc = touch_all(fs, r, exchange, &touches);
	if (!rc)
		rc = fs->st->ops->move_tree(fs->st, &from, &to, exchange, clock_now());
	if (!rc && replace)
		tree_unlink_node(fs, &to, &replaced);
	if (!rc) {
		node_move(&fs->nodes, moves);
		moves = NULL;
	}
	touches_end(fs, &touches, !rc);
	fs_dirs_changed(fs);
	rebind_end(fs);
	node_moves_cancel(&fs->nodes, moves);
	last_release(&replaced);
	return rc;
}

static int rename_namespace(struct fs *fs, struct renaming *r)
{
	struct last replaced = {0};
	int64_t now = clock_now();
	int rc = 0;

	if (r->flags & RENAME_EXCHANGE)
		return -EINVAL;
	rebind_begin(fs);
	if (r->new.exists)
		rc = replaced_dir(fs, &r->new.found.id, &replaced);
	if (!rc)
		rc = fs->st->ops->ns_rename(
			fs->st, r->old.found.id.ns, r->new.ns_name, r->new.ns_len, now);
	if (r->new.exists && !rc)
		tree_unlink_node(fs, &r->new.found.id, &replaced);
	rebind_end(fs);
	last_release(&replaced);
	return rc;
}

static int rename_dispatch(struct fs *fs, struct renaming *r)
{
	bool exchange = r->flags & RENAME_EXCHANGE;
	bool old_dir = r->old.found.id.kind == ENTRY_DIR;
	bool new_dir = r->new.exists && r->new.found.id.kind == ENTRY_DIR;

	if (r->old.in_top != r->new.in_top)
		return old_dir ? -EXDEV : -EPERM;
	if (r->old.in_top)
		return rename_namespace(fs, r);
	if (exchange && !old_dir && !new_dir)
		return exchange_files(fs, r);
	if (exchange || old_dir)
		return rename_dir(fs, r, exchange);
	return new_dir ? -EISDIR : rename_file(fs, r);
}

static int renaming_resolve(
	struct fs *fs, struct renaming *r, const char *name, const char *newname)
{
	int rc = tree_resolve_now(fs, &r->from.id.id, name, &r->old);

	if (rc == -EINVAL || (!rc && !r->old.exists))
		return -ENOENT;
	if (rc)
		return rc;
	rc = tree_resolve_now(fs, &r->to.id.id, newname, &r->new);
	if (rc)
		return rc;
	if (r->new.exists && (r->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!r->new.exists && (r->flags & RENAME_EXCHANGE))
		return -ENOENT;
	return 0;
}

static bool same_entry(const struct renaming *r)
{
	const struct entry_id *a = &r->old.found.id, *b = &r->new.found.id;

	return r->new.exists && a->ns == b->ns && a->kind == b->kind &&
		a->len == b->len &&memcmp(a->bytes, b->bytes, a->len) == 0;
}

int fs_rename(struct fs *fs, struct node *parent, const char *name, struct node *newparent,
	const char *newname, unsigned flags)
{
	struct renaming *r;
	int rc;

	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
		flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->flags = flags;
	r->one_parent = parent == newparent;
	if (!(flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)))
		tree_prefetch(fs, newparent, newname);
	lock_take(&fs->change);
	rc = parent_load(fs, parent, true, &r->from);
	if (rc)
		goto out;
	rc = parent_load(fs, newparent, (flags & RENAME_EXCHANGE) || r->one_parent, &r->to);
	if (!rc) {
		rc = renaming_resolve(fs, r, name, newname);
		if (!rc && !same_entry(r))
			rc = rename_dispatch(fs, r);
		parent_release(&r->to);
	}
	parent_release(&r->from);
	if (!rc) {
		negatives_remove(fs->negatives, newparent, newname);
		node_note_added(&fs->nodes, newparent);
	}
out:
	lock_drop(&fs->change);
	free(r);
	return fs_settle(fs, rc);
}
