#include "fs/core/vanish.h"

#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "fs/core/children.h"
#include "fs/core/tree.h"

void vanish_name(struct fs *fs, const struct entry_id *id, bool as_value)
{
	unsigned char bytes[NAMES_DIR_MAX];
	char name[NAMES_NAME_MAX + 1];
	char sep = fs->opt.separator;
	size_t len;
	int rc = id->kind == ENTRY_DIR
		? names_parent(sep, id->bytes, id->len, bytes, &len, name)
		: names_key_parent(sep, id->bytes, id->len, as_value, bytes, &len, name);

	if (rc || !fs->notify)
		return;
	struct entry_id dir = id_dir(id->ns, bytes, len);
	struct node *parent = node_find(&fs->nodes, &dir);
	if (!parent)
		return;
	fs->notify->entry(fs->notify_arg, parent, name, strlen(name));
	node_unref(&fs->nodes, parent);
}

/* Removes a directory's entry in the node table if it does not exist any more, and the attributes
 * that it had without being made; but not those that somebody has set: when it comes again, it is not
 * to be open to those whom it was closed to. */
static bool forget_dir(struct fs *fs, const struct entry_id *dir)
{
	bool gone = false, keep = false;
	struct view *v;
	struct entry e;

	lock_take(&fs->change);
	if (fs->st->ops->view_begin(fs->st, clock_now(), &v))
		goto out;
	gone = dir_exists(fs, v, dir) == 0;
	bool recorded = fs->st->ops->view_get(v, dir, &e) == 0;
	struct last last = {.l.rec = {.mode = entry_default_mode(fs, ENTRY_DIR),
				    .uid = fs->opt.uid,
				    .gid = fs->opt.gid},
		.gone = calloc(1, sizeof(struct gone))};
	if (recorded) {
		keep = entry_is_set(fs, &e.rec);
		last.l.rec = e.rec;
		last.l.rec.xattrs = NULL;
		last.l.rec.xattrs_len = 0;
	}
	fs->st->ops->view_end(v);
	gone = gone && last.gone;
	if (!gone) {
		free(last.gone);
		goto out;
	}
	fs_dirs_changed(fs);
	rebind_begin(fs);
	tree_unlink_node(fs, dir, &last);
	rebind_end(fs);
	free(last.gone);
	if (recorded && !keep && !fs->opt.readonly) {
		struct change remove = {.op = CHANGE_REMOVE, .id = *dir};
		fs_apply(fs, &remove, 1);
	}
out:
	lock_drop(&fs->change);
	return gone;
}

/* Each directory above that went away too, up to the first that stays. */
static void vanish_above(struct fs *fs, uint32_t ns, unsigned char *bytes, size_t len)
{
	unsigned char up[NAMES_DIR_MAX];
	size_t up_len;

	while (len) {
		struct entry_id dir = id_dir(ns, bytes, len);

		if (!forget_dir(fs, &dir))
			return;
		vanish_name(fs, &dir, false);
		if (names_parent(fs->opt.separator, bytes, len, up, &up_len, NULL))
			return;
		memcpy(bytes, up, up_len);
		len = up_len;
	}
}

bool vanish_dir(struct fs *fs, const struct entry_id *dir)
{
	unsigned char up[NAMES_DIR_MAX];
	size_t len;

	if (!dir->len || !forget_dir(fs, dir))
		return false;
	vanish_name(fs, dir, false);
	if (names_parent(fs->opt.separator, dir->bytes, dir->len, up, &len, NULL) == 0)
		vanish_above(fs, dir->ns, up, len);
	return true;
}

void vanish_key(struct fs *fs, const struct entry_id *key)
{
	unsigned char up[NAMES_DIR_MAX];
	size_t len;

	/* The name leads to the directory of that name, where the kernel knows that. */
	unsigned char bytes[NAMES_DIR_MAX];
	struct entry_id dir = id_dir_of_key(key, fs->opt.separator, bytes);
	if (!node_is_known(&fs->nodes, &dir))
		vanish_name(fs, key, false);
	vanish_name(fs, key, true);
	if (names_key_parent(fs->opt.separator, key->bytes, key->len, false, up, &len, NULL) == 0)
		vanish_above(fs, key->ns, up, len);
}
