#include "fs/core/entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "fs/core/children.h"

/* Inode numbers given out by the store are below; these are made of the entry's id. */
#define DEFAULT_INO_BIT (1ULL << 62)

static uint64_t default_ino(const struct entry_id *id)
{
	uint64_t seed = (uint64_t)id->ns << 1 | (uint64_t)id->kind;

	return DEFAULT_INO_BIT | XXH3_64bits_withSeed(id->bytes, id->len, seed) >> 2;
}

void entry_own_ino(struct fs *fs, struct record *rec)
{
	if (rec->ino & DEFAULT_INO_BIT)
		rec->ino = fs->st->ops->new_ino(fs->st);
}

void entry_linger(struct record *rec)
{
	static const int64_t LINGER = CLOCK_SECOND * 9LL / 10;

	if (rec->visible_ns)
		rec->visible_ns = clock_now() + LINGER;
}

void entry_begin_life(struct record *rec)
{
	if (!(rec->flags & RECORD_DEFAULT_TTL))
		return;
	rec->flags &= ~(uint32_t)RECORD_DEFAULT_TTL;
	rec->expiration = clock_now() / CLOCK_SECOND + rec->default_ttl;
	rec->default_ttl = 0;
}

uint32_t entry_default_mode(struct fs *fs, enum entry_kind kind)
{
	return (kind == ENTRY_DIR ? S_IFDIR | 0755 : S_IFREG | 0644) & ~fs->opt.umask;
}

bool entry_is_set(struct fs *fs, const struct record *dir)
{
	return dir->mode != entry_default_mode(fs, ENTRY_DIR) || dir->uid != fs->opt.uid ||
		dir->gid != fs->opt.gid || dir->xattrs_len || (dir->flags & RECORD_DEFAULT_TTL);
}

struct record entry_new_record(struct fs *fs, uint32_t mode, uint32_t uid, uint32_t gid)
{
	struct timespec now = clock_timespec(clock_now());

	return (struct record){
		.mode = mode,
		.uid = uid,
		.gid = gid,
		.ino = fs->st->ops->new_ino(fs->st),
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};
}

/* What an entry has that nobody gave attributes. In a read-only mount they cannot be written down,
 * so the times are those of the mount: they stay as long as it does. */
static struct record default_record(struct fs *fs, const struct entry_id *id)
{
	struct timespec t = clock_timespec(fs->opt.readonly ? fs->mounted : clock_now());

	return (struct record){
		.mode = entry_default_mode(fs, id->kind),
		.uid = fs->opt.uid,
		.gid = fs->opt.gid,
		.ino = default_ino(id),
		.atime = t,
		.mtime = t,
		.ctime = t,
		.btime = t,
	};
}

/* Whether the record says a type that an entry of this kind can have. One that does not is damaged;
 * the kernel gives up a mount whose root is no directory. */
static bool type_fits(struct fs *fs, const struct entry_id *id, const struct record *rec)
{
	char shown[128];
	bool fits = false;

	switch (rec->mode & S_IFMT) {
	case S_IFDIR:
		fits = id->kind == ENTRY_DIR;
		break;
	case S_IFREG:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		fits = id->kind == ENTRY_KEY;
		break;
	}
	if (!fits && !atomic_exchange(&fs->said_misfit, true))
		log_error("the record of %s says mode %o, which %s cannot have: it and others like "
			  "it "
			  "get new attributes",
			id->len ? log_bytes(id->bytes, id->len, shown, sizeof(shown))
				: "a top directory",
			rec->mode, id->kind == ENTRY_DIR ? "a directory" : "a key");
	return fits;
}

static int copy_xattrs(struct record *rec)
{
	if (!rec->xattrs_len) {
		rec->xattrs = NULL;
		return 0;
	}
	unsigned char *copy = malloc(rec->xattrs_len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, rec->xattrs, rec->xattrs_len);
	rec->xattrs = copy;
	return 0;
}

/* Whether nothing that the store says of an entry (NULL: it says nothing) can be shown. */
static bool says_nothing(struct fs *fs, const struct entry_id *id, const struct entry *e)
{
	return !e || e->unrecorded || !type_fits(fs, id, &e->rec);
}

void entry_identity(struct fs *fs, const struct entry_id *id, const struct entry *e, uint64_t *ino,
	uint32_t *mode)
{
	bool nothing = says_nothing(fs, id, e);

	*ino = nothing ? default_ino(id) : e->rec.ino;
	*mode = nothing ? entry_default_mode(fs, id->kind) : e->rec.mode;
}

void entry_show(struct fs *fs, const struct entry_id *id, const struct entry *e, struct loaded *out)
{
	struct loaded l = {0};

	if (says_nothing(fs, id, e)) {
		l.rec = default_record(fs, id);
		l.rec.flags = e ? e->rec.flags & RECORD_MADE : 0;
		l.fresh = true;
	} else {
		l.rec = e->rec;
		if (e->touched) {
			struct record now = default_record(fs, id);

			l.rec.mtime = now.mtime;
			l.rec.ctime = now.ctime;
			l.fresh = true;
		}
	}
	if (e) {
		l.size = e->size;
		l.pending = e->pending;
		l.partial = e->partial;
		l.uploading = e->uploading;
		l.failed = e->failed;
		l.fresh_until = e->fresh_until;
		l.version = e->version;
	}
	*out = l;
}

int entry_load_in(
	struct fs *fs, struct view *v, const struct entry_id *id, bool bare, struct loaded *out)
{
	struct loaded l;
	struct entry e;
	int rc = fs->st->ops->view_get(v, id, &e);

	if (rc && (rc != -ENOENT || id->kind == ENTRY_KEY))
		return rc;
	if (id->kind == ENTRY_DIR && (rc || !(e.rec.flags & RECORD_MADE)) && !id_is_top(id)) {
		int exists = dir_exists(fs, v, id);

		if (exists <= 0)
			return exists ? exists : -ENOENT;
	}
	entry_show(fs, id, rc ? NULL : &e, &l);
	if (bare) {
		l.rec.xattrs = NULL;
		l.rec.xattrs_len = 0;
	} else if ((rc = copy_xattrs(&l.rec))) {
		return rc;
	}
	*out = l;
	return 0;
}

int entry_load(struct fs *fs, const struct entry_id *id, int64_t now, struct loaded *out)
{
	struct view *v;
	int rc = fs->st->ops->view_begin(fs->st, now, &v);

	if (rc)
		return rc;
	rc = entry_load_in(fs, v, id, false, out);
	fs->st->ops->view_end(v);
	return rc;
}

int entry_load_node(
	struct fs *fs, const struct node *n, const struct entry_id *id, struct loaded *out)
{
	int rc = entry_load(fs, id, clock_now(), out);

	return rc == -ENOENT && n->file ? entry_load(fs, id, NOW_NEVER, out) : rc;
}

void loaded_release(struct loaded *l)
{
	free((void *)(uintptr_t)l->rec.xattrs);
	l->rec.xattrs = NULL;
	l->rec.xattrs_len = 0;
}

int entry_adopt(
	struct fs *fs, const struct entry_id *id, int64_t now, struct loaded *l, bool locked)
{
	struct value_stamp seen;
	struct loaded now_is;
	int rc;

	if (fs->opt.readonly || !l->fresh)
		return 0;
	/* Before the times are made, so that they are not those of a value that came later. */
	bool stamped = fs->st->ops->stamp && fs->st->ops->stamp(fs->st, id, &seen) == 0;
	if (!locked)
		lock_take(&fs->change);
	rc = entry_load(fs, id, now, &now_is);
	if (!rc) {
		if (now_is.fresh) {
			struct change put = {.op = CHANGE_PUT, .id = *id, .rec = &now_is.rec};

			if (stamped)
				put.seen = &seen;
			/* Where its record cannot be written, the entry is shown all the same. */
			fs_apply(fs, &put, 1);
		}
		if (!rc) {
			loaded_release(l);
			*l = now_is;
			l->fresh = false;
		} else {
			loaded_release(&now_is);
		}
	}
	if (!locked)
		lock_drop(&fs->change);
	return rc;
}
