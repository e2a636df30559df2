#include "fs/core/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/attr.h"
#include "fs/core/children.h"
#include "fs/core/file.h"
#include "fs/core/negatives.h"

/* What is not there may still be made by another program; where nobody watches, a lookup counts for
 * this long. */
static const double VALID_UNWATCHED = 1.0;

static void found_set(struct resolved *r, const struct entry_id *id)
{
	memcpy(r->found.bytes, id->bytes, id->len);
	r->found.id = *id;
	r->found.id.bytes = r->found.bytes;
	r->exists = true;
}

static int resolve_namespace(struct fs *fs, const char *name, struct resolved *out)
{
	uint32_t ns;

	out->in_top = true;
	int rc = names_ns_decode(name, strlen(name), out->ns_name, &out->ns_len);
	if (rc)
		return rc;
	rc = fs->st->ops->ns_find(fs->st, out->ns_name, out->ns_len, &ns);
	if (rc == 0) {
		struct entry_id id = id_dir(ns, "", 0);
		found_set(out, &id);
	}
	return rc == -ENOENT ? 0 : rc;
}

int tree_resolve(struct fs *fs, struct view *v, const struct entry_id *parent, const char *name,
	struct resolved *out)
{
	struct name_target *t = &out->target;
	struct entry e;

	out->exists = out->in_top = false;
	if (id_is_top(parent))
		return resolve_namespace(fs, name, out);
	int rc =
		names_resolve(fs->opt.separator, parent->bytes, parent->len, name, strlen(name), t);
	if (rc)
		return rc;
	struct entry_id dir = id_dir(parent->ns, t->dir, t->dir_len);
	struct entry_id key = id_key(parent->ns, t->key, t->key_len);
	int is_dir = t->can_dir ? dir_exists(fs, v, &dir) : 0;
	if (is_dir < 0) {
		rc = is_dir;
	} else if (is_dir) {
		found_set(out, &dir);
	} else if (t->can_key) {
		rc = fs->st->ops->view_get(v, &key, &e);
		if (rc == 0)
			found_set(out, &key);
	}
	return rc == -ENOENT ? 0 : rc;
}

int tree_resolve_now(
	struct fs *fs, const struct entry_id *parent, const char *name, struct resolved *out)
{
	struct view *v = NULL;
	int rc = 0;

	/* Namespaces are no part of a view, and must not be asked for while one is held. */
	if (!id_is_top(parent))
		rc = fs->st->ops->view_begin(fs->st, clock_now(), &v);
	if (rc)
		return rc;
	rc = tree_resolve(fs, v, parent, name, out);
	if (v)
		fs->st->ops->view_end(v);
	return rc;
}

int resolved_new_id(
	const struct resolved *r, uint32_t ns, enum entry_kind kind, struct node_id *out)
{
	const struct name_target *t = &r->target;
	bool key = kind == ENTRY_KEY;

	if (r->in_top)
		return -EPERM;
	if (key ? !t->can_key : !t->can_dir)
		return -EINVAL;
	struct entry_id id = key ? id_key(ns, t->key, t->key_len) : id_dir(ns, t->dir, t->dir_len);
	memcpy(out->bytes, id.bytes, id.len);
	out->id = id;
	out->id.bytes = out->bytes;
	return 0;
}

int parent_load(struct fs *fs, struct node *n, bool removing, struct parent *p)
{
	int rc = node_get_id(&fs->nodes, n, &p->id);

	if (rc)
		return rc;
	rc = entry_load(fs, &p->id.id, clock_now(), &p->l);
	if (rc)
		return rc;
	p->before = p->l.rec;
	p->l.rec.mtime = p->l.rec.ctime = clock_timespec(clock_now());
	if (removing)
		p->l.rec.flags |= RECORD_MADE;
	return 0;
}

struct change parent_change(struct parent *p)
{
	return (struct change){.op = CHANGE_PUT, .id = p->id.id, .rec = &p->l.rec};
}

void parent_release(struct parent *p)
{
	loaded_release(&p->l);
}

int last_take(struct fs *fs, const struct entry_id *id, int64_t now, struct last *last)
{
	struct last t = {.gone = calloc(1, sizeof(*t.gone))};
	int rc = t.gone ? entry_load(fs, id, now, &t.l) : -ENOMEM;

	struct node *n = !rc && id->kind == ENTRY_KEY ? node_find(&fs->nodes, id) : NULL;
	if (n) {
		rc = file_detach(fs, n, &t.content);
		node_unref(&fs->nodes, n);
	}
	if (rc && rc != -ENOENT)
		last_release(&t);
	else
		*last = t;
	return rc;
}

void tree_prefetch(struct fs *fs, struct node *parent, const char *name)
{
	struct resolved r = {0};
	struct node_id dir;

	if (!atomic_load(&fs->open_files) || node_get_id(&fs->nodes, parent, &dir) ||
		id_is_top(&dir.id))
		return;
	if (tree_resolve_now(fs, &dir.id, name, &r) == 0 && r.exists)
		file_prefetch(fs, &r.found.id);
}

void last_release(struct last *last)
{
	loaded_release(&last->l);
	blob_unref(last->content);
	free(last->gone);
	last->content = NULL;
	last->gone = NULL;
}

void tree_unlink_node(struct fs *fs, const struct entry_id *id, struct last *last)
{
	struct node *n = node_find(&fs->nodes, id);
	struct gone *g = last->gone;

	if (!n)
		return;
	*g = (struct gone){.rec = last->l.rec, .size = last->l.size, .blob = last->content};
	if (g->blob) /* behind a cache the store may have another by now */
		g->size = blob_size(g->blob);
	file_overlay(fs, n, &g->rec, &g->size, NULL);
	g->rec.ctime = clock_timespec(clock_now());
	*last = (struct last){0};
	node_unlink(&fs->nodes, n, g);
	node_unref(&fs->nodes, n);
}

static double negative_valid(struct fs *fs, struct node *parent, const char *name, int why)
{
	if (why == -EINVAL) /* no key will ever have this name */
		return FS_VALID_LONG;
	/* With -o sync, what was answered with the error of storing it may be there all the same. */
	if (!fs->foreign || fs->opt.sync || fs->st->ops->prepare)
		return VALID_UNWATCHED;
	return negatives_add(fs->negatives, parent, name) == 0 ? FS_VALID_LONG : VALID_UNWATCHED;
}

/* The attributes of what a name was found to be, within the same view as the name. */
static int lookup_in(struct fs *fs, const struct entry_id *parent, const char *name,
	struct resolved *r, struct loaded *l, uint32_t *dirs)
{
	const struct store_ops *ops = fs->st->ops;
	struct view *v;
	int rc;

	if (id_is_top(parent)) {
		rc = tree_resolve(fs, NULL, parent, name, r);
		if (rc || !r->exists)
			return rc;
	}
	rc = ops->view_begin(fs->st, clock_now(), &v);
	if (rc)
		return rc;
	if (!id_is_top(parent))
		rc = tree_resolve(fs, v, parent, name, r);
	if (!rc && r->exists)
		rc = entry_load_in(fs, v, &r->found.id, true, l);
	if (!rc && r->exists && r->found.id.kind == ENTRY_DIR)
		*dirs = dir_count_dirs(fs, v, &r->found.id, DIR_COUNT_MOST, NULL);
	ops->view_end(v);
	return rc;
}

static int lookup_now(struct fs *fs, struct node *parent, const char *name, bool locked,
	struct node **out, struct fs_attr *attr, double *valid)
{
	uint32_t dirs = UINT32_MAX;
	struct resolved r = {0};
	struct node_id dir;
	struct loaded l;
	struct node *n;
	int rc = node_get_id(&fs->nodes, parent, &dir);

	if (rc)
		return rc;
	rc = lookup_in(fs, &dir.id, name, &r, &l, &dirs);
	if (rc == -EINVAL || (!rc && !r.exists)) {
		*valid = negative_valid(fs, parent, name, rc);
		return -ENOENT;
	}
	if (rc)
		return rc;
	rc = entry_adopt(fs, &r.found.id, clock_now(), &l, locked);
	if (!rc)
		rc = node_lookup(&fs->nodes, &r.found.id, &n);
	if (!rc) {
		attr_fill(fs, &r.found.id, n, &l, dirs, attr);
		*out = n;
	}
	loaded_release(&l);
	return rc;
}

int fs_lookup(struct fs *fs, struct node *parent, const char *name, struct node **out,
	struct fs_attr *attr, double *valid)
{
	struct rebind_check check = {0};
	struct node *n = NULL;
	int rc;

	do {
		if (n)
			fs_forget(fs, n, 1);
		n = NULL;
		*valid = 0;
		rebind_look(fs, &check);
		rc = lookup_now(fs, parent, name, check.locked, &n, attr, valid);
		if (n)
			rebind_check_stored(fs, &check, n);
	} while (rebind_disturbed(fs, &check));
	if (!rc)
		*out = n;
	return rc;
}

uint32_t fs_generation(const struct node *n)
{
	return n->generation;
}

void fs_forget(struct fs *fs, struct node *n, uint64_t lookups)
{
	bool negatives;

	lock_take(&fs->nodes.lock);
	negatives = n->negatives && n->lookups <= lookups;
	lock_drop(&fs->nodes.lock);
	/* A directory that the kernel forgets takes its absent names along. */
	if (negatives)
		negatives_drop(fs->negatives, n);
	node_forget(&fs->nodes, n, lookups);
}
