#include "fs/core/prepare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/core/children.h"
#include "fs/core/core.h"

/* What a name may stand for, as the store is asked about it. */
struct named {
	struct node_id dir;
	struct name_target target;
	struct want want;
};

/* -ENOENT: there is nothing to ask about. */
static int named_init(
	struct fs *fs, struct node *parent, const char *name, enum want_kind kind, struct named *n)
{
	struct name_target *t = &n->target;
	char sep = fs->opt.separator;
	int rc = node_get_id(&fs->nodes, parent, &n->dir);

	if (rc)
		return -ENOENT;
	n->want = (struct want){.kind = kind, .ns = n->dir.id.ns};
	if (id_is_top(&n->dir.id))
		return 0;
	if (names_resolve(sep, n->dir.id.bytes, n->dir.id.len, name, strlen(name), t))
		return -ENOENT; /* the operation itself will say why */
	if (t->can_key) {
		n->want.key = t->key;
		n->want.key_len = t->key_len;
	}
	if (t->can_dir) {
		n->want.prefix = t->dir;
		n->want.prefix_len = names_dir_raw_len(sep, t->dir, t->dir_len);
	}
	if (n->want.prefix_len > STORE_KEY_MAX) /* no key is so long */
		n->want.prefix_len = 0;
	return 0;
}

static int prepare_named(struct fs *fs, struct node *parent, const char *name, enum want_kind kind)
{
	struct named *n = fs->st->ops->prepare ? malloc(sizeof(*n)) : NULL;

	if (!n)
		return fs->st->ops->prepare ? -ENOMEM : 0;
	int rc = named_init(fs, parent, name, kind, n);
	if (kind == WANT_LIST)
		n->want.key_len = 0;
	rc = rc ? 0 : fs->st->ops->prepare(fs->st, &n->want);
	free(n);
	return rc;
}

int fs_prepare_name(struct fs *fs, struct node *parent, const char *name)
{
	return prepare_named(fs, parent, name, WANT_NAME);
}

/* What a namespace holds, so that it can be told whether it is empty. */
static int prepare_namespace(struct fs *fs, const char *name)
{
	static const unsigned char nothing[1];
	struct want want = {.kind = WANT_LIST, .key = nothing, .prefix = nothing};
	unsigned char ns[NAMES_NS_MAX];
	size_t len;

	if (!fs->st->ops->prepare || names_ns_decode(name, strlen(name), ns, &len) ||
		fs->st->ops->ns_find(fs->st, ns, len, &want.ns))
		return 0; /* the operation itself will say why */
	return fs->st->ops->prepare(fs->st, &want);
}

int fs_prepare_rmdir(struct fs *fs, struct node *parent, const char *name)
{
	struct node_id dir;
	int rc = prepare_named(fs, parent, name, WANT_NAME);

	if (!rc && node_get_id(&fs->nodes, parent, &dir) == 0 && id_is_top(&dir.id))
		return prepare_namespace(fs, name);
	return rc ? rc : prepare_named(fs, parent, name, WANT_LIST);
}

int fs_prepare_rename(struct fs *fs, struct node *parent, const char *name, struct node *newparent,
	const char *newname, bool exchange)
{
	int rc = prepare_named(fs, parent, name, WANT_NAME);

	if (!rc)
		rc = prepare_named(fs, parent, name, WANT_TREE);
	if (!rc)
		rc = prepare_named(fs, newparent, newname, WANT_NAME);
	/* What is only replaced need not be read. */
	return rc || !exchange ? rc : prepare_named(fs, newparent, newname, WANT_TREE);
}

int fs_prepare_node(struct fs *fs, struct node *n, bool value)
{
	struct want want = {.kind = value ? WANT_VALUE : WANT_SIZE};
	struct node_id id;

	if (!fs->st->ops->prepare || node_get_id(&fs->nodes, n, &id))
		return 0;
	want.ns = id.id.ns;
	if (id.id.kind == ENTRY_KEY) {
		want.key = id.bytes;
		want.key_len = id.id.len;
	} else {
		want.kind = WANT_NAME;
		want.prefix = id.bytes;
		want.prefix_len = names_dir_raw_len(fs->opt.separator, id.bytes, id.id.len);
		if (!want.prefix_len || want.prefix_len > STORE_KEY_MAX)
			return 0;
	}
	return fs->st->ops->prepare(fs->st, &want);
}
