/*
 * remove.c - unlink and rmdir.
 */
#include <errno.h>

#include "backends/base/clock.h"
#include "fs/core/children.h"
#include "fs/core/tree.h"

/* Removes the entry that `name` was found to be; its directory stays. Under fs.change. */
static int remove_entry(struct fs *fs, struct parent *p, const struct entry_id *id)
{
	struct change changes[] = {{.op = CHANGE_REMOVE, .id = *id}, parent_change(p)};
	struct last last = {0};

	rebind_begin(fs);
	int rc = last_take(fs, id, clock_now(), &last);
	if (!rc)
		rc = fs_apply(fs, changes, 2);
	if (!rc)
		tree_unlink_node(fs, id, &last);
	rebind_end(fs);
	last_release(&last);
	return rc;
}

static int remove_namespace(struct fs *fs, const struct entry_id *id)
{
	struct last last = {0};
	int rc = dir_check_empty(fs, id);

	if (rc)
		return rc;
	rebind_begin(fs);
	rc = last_take(fs, id, clock_now(), &last);
	if (!rc)
		rc = fs->st->ops->ns_remove(fs->st, id->ns, clock_now());
	if (!rc)
		tree_unlink_node(fs, id, &last);
	rebind_end(fs);
	last_release(&last);
	return rc;
}

static int remove_dir(struct fs *fs, struct parent *p, const struct entry_id *id)
{
	int rc = dir_check_empty(fs, id);

	return rc ? rc : remove_entry(fs, p, id);
}

/* What unlink (`kind` KEY) and rmdir (DIR) have in common: finds the name, and removes what it is if it is of
 * that kind; otherwise `wrong`. */
static int remove_name(
	struct fs *fs, struct node *parent, const char *name, enum entry_kind kind, int wrong)
{
	struct resolved r = {0};
	struct parent p;

	if (kind == ENTRY_KEY)
		tree_prefetch(fs, parent, name);
	lock_take(&fs->change);
	int rc = parent_load(fs, parent, true, &p);
	if (rc)
		goto out;
	rc = tree_resolve_now(fs, &p.id.id, name, &r);
	if (rc == -EINVAL || (!rc && !r.exists))
		rc = -ENOENT;
	else if (!rc && r.found.id.kind != kind)
		rc = wrong;
	if (!rc && kind == ENTRY_KEY)
		rc = remove_entry(fs, &p, &r.found.id);
	else if (!rc)
		rc = r.in_top ? remove_namespace(fs, &r.found.id) : remove_dir(fs, &p, &r.found.id);
	parent_release(&p);
	if (kind == ENTRY_DIR)
		fs_dirs_changed(fs);
out:
	lock_drop(&fs->change);
	return fs_settle(fs, rc);
}

int fs_unlink(struct fs *fs, struct node *parent, const char *name)
{
	return remove_name(fs, parent, name, ENTRY_KEY, -EISDIR);
}

int fs_rmdir(struct fs *fs, struct node *parent, const char *name)
{
	return remove_name(fs, parent, name, ENTRY_DIR, -ENOTDIR);
}
