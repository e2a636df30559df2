/*
 * xattr.c - extended attributes: expiry, metadata, what the user likes.
 *
 *   user.kv.expiration    KEY   in the record, listed when set
 *   user.kv.ttl           KEY   the same, as seconds from now; never listed
 *                         DIR   the default for keys made below; never listed
 *   user.kv.metadata      KEY   JSON text, in the record's list
 *   user.kv.key, .state   KEY   read-only, never listed
 *   other user.*          both  in the record's list
 *
 * All others are answered without a look at the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "backends/base/clock.h"
#include "backends/base/json.h"
#include "backends/base/log.h"
#include "fs/core/entry.h"

#define KV "user.kv."

enum {
	METADATA_MAX = 64 * 1024,
	XATTRS_MAX = 64 * 1024, /* names and values of one key's other attributes */
	NAMES_LIST_MAX = 64 * 1024, /* of listxattr(2), or nothing can be listed any more */
	NUMBER_MAX = 24,
};

static const char METADATA[] = KV "metadata", EXPIRATION[] = KV "expiration", TTL[] = KV "ttl";

bool fs_xattr_known(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && name[5];
}

static bool is_kv(const char *name)
{
	return strncmp(name, KV, sizeof(KV) - 1) == 0;
}

/* The attributes of an unlinked node, a copy. */
static int load_gone(struct fs *fs, struct node *n, struct node_id *id, struct loaded *l)
{
	unsigned char *xattrs = NULL;
	int rc = 0;

	lock_take(&fs->nodes.lock);
	const struct record *rec = &n->gone->rec;
	if (rec->xattrs_len) {
		xattrs = malloc(rec->xattrs_len);
		if (xattrs)
			memcpy(xattrs, rec->xattrs, rec->xattrs_len);
		else
			rc = -ENOMEM;
	}
	*l = (struct loaded){.rec = *rec};
	l->rec.xattrs = xattrs;
	memcpy(id->bytes, n->bytes, n->len);
	id->id = (struct entry_id){n->ns, n->kind, n->len, id->bytes};
	lock_drop(&fs->nodes.lock);
	return rc;
}

/* Loads a node's attributes. *gone: it is unlinked, and lives here only. */
static int load_node(
	struct fs *fs, struct node *n, struct node_id *id, struct loaded *l, bool *gone)
{
	int rc = node_get_id(&fs->nodes, n, id);

	*gone = rc == -ENOENT;
	if (*gone)
		return load_gone(fs, n, id, l);
	return rc ? rc : entry_load_node(fs, n, &id->id, l);
}

/* The same for those who do not hold fs.change. */
static int look_at_node(struct fs *fs, struct node *n, struct node_id *id, struct loaded *l)
{
	struct rebind_check check = {0};
	bool have = false, gone;
	int rc;

	do {
		if (have)
			loaded_release(l);
		rebind_look(fs, &check);
		rc = load_node(fs, n, id, l, &gone);
		have = !rc;
	} while (rebind_disturbed(fs, &check));
	return rc;
}

/* Gives an unlinked node other attributes; takes their list over. */
static void store_gone(struct fs *fs, struct node *n, struct loaded *l)
{
	lock_take(&fs->nodes.lock);
	const unsigned char *old = n->gone->rec.xattrs;
	n->gone->rec = l->rec;
	l->rec.xattrs = old;
	lock_drop(&fs->nodes.lock);
}

/* --- reading ------------------------------------------------------------------------------------
 */

static int give(const void *value, size_t len, void *buf, size_t cap)
{
	if (!cap)
		return (int)len;
	if (len > cap)
		return -ERANGE;
	if (len)
		memcpy(buf, value, len);
	return (int)len;
}

static int give_number(int64_t number, void *buf, size_t cap)
{
	char text[NUMBER_MAX];
	int n = snprintf(text, sizeof(text), "%lld", (long long)number);

	return give(text, (size_t)n, buf, cap);
}

static int give_state(struct fs *fs, const struct loaded *l, void *buf, size_t cap)
{
	struct store_stat stat;
	char text[128] = "synced";

	if (l->failed) {
		snprintf(text, sizeof(text), "failed: %s", l->failed);
	} else if (l->uploading) {
		snprintf(text, sizeof(text), "uploading");
	} else if (l->pending) {
		fs->st->ops->stat(fs->st, &stat);
		if (stat.error)
			snprintf(text, sizeof(text), "failed: %s", strerror(-stat.error));
		else
			snprintf(text, sizeof(text), "pending");
	}
	return give(text, strlen(text), buf, cap);
}

static int get_kv(struct fs *fs, const struct node_id *id, const struct loaded *l, const char *name,
	void *buf, size_t cap)
{
	const struct record *rec = &l->rec;
	const char *what = name + sizeof(KV) - 1;

	if (id->id.kind == ENTRY_DIR) {
		if (strcmp(what, "ttl") == 0 && (rec->flags & RECORD_DEFAULT_TTL))
			return give_number(rec->default_ttl, buf, cap);
		return -ENODATA;
	}
	if (strcmp(what, "key") == 0)
		return give(id->bytes, id->id.len, buf, cap);
	if (strcmp(what, "state") == 0)
		return give_state(fs, l, buf, cap);
	if (strcmp(what, "expiration") == 0 && rec->expiration)
		return give_number(rec->expiration, buf, cap);
	if (strcmp(what, "ttl") == 0 && rec->expiration) {
		/* Rounded up, so that what was just set reads back as it was set. */
		int64_t left = rec->expiration * CLOCK_SECOND - clock_now();
		return give_number(
			left <= 0 ? 0 : (left + CLOCK_SECOND - 1) / CLOCK_SECOND, buf, cap);
	}
	return -ENODATA;
}

int fs_getxattr(struct fs *fs, struct node *n, const char *name, void *value, size_t cap)
{
	struct node_id id;
	struct loaded l;
	size_t len;
	int rc = look_at_node(fs, n, &id, &l);

	if (rc)
		return rc == -ENOENT ? -ENODATA : rc;
	if (is_kv(name) && strcmp(name, METADATA) != 0) {
		rc = get_kv(fs, &id, &l, name, value, cap);
	} else {
		const unsigned char *at = xattrs_get(l.rec.xattrs, l.rec.xattrs_len, name, &len);

		rc = at ? give(at, len, value, cap) : -ENODATA;
	}
	loaded_release(&l);
	return rc;
}

struct name_list {
	char *buf;
	size_t cap, len;
};

static int list_name(
	void *arg, const char *name, size_t name_len, const unsigned char *value, size_t value_len)
{
	struct name_list *list = arg;

	if (list->cap) {
		if (list->len + name_len + 1 > list->cap)
			return -ERANGE;
		memcpy(list->buf + list->len, name, name_len);
		list->buf[list->len + name_len] = '\0';
	}
	list->len += name_len + 1;
	return 0;
}

int fs_listxattr(struct fs *fs, struct node *n, char *list, size_t cap)
{
	struct name_list names = {.buf = list, .cap = cap};
	struct node_id id;
	struct loaded l;
	int rc = look_at_node(fs, n, &id, &l);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (id.id.kind == ENTRY_KEY && l.rec.expiration)
		rc = list_name(&names, EXPIRATION, sizeof(EXPIRATION) - 1, NULL, 0);
	if (!rc)
		rc = xattrs_each(l.rec.xattrs, l.rec.xattrs_len, list_name, &names);
	loaded_release(&l);
	return rc ? rc : (int)names.len;
}

/* --- writing ------------------------------------------------------------------------------------
 */

/* A whole number without a sign, as text. */
static int parse_number(const void *value, size_t len, int64_t max, int64_t *out)
{
	const char *p = value;
	int64_t n = 0;

	if (!len || len >= NUMBER_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (p[i] < '0' || p[i] > '9' || n > (max - (p[i] - '0')) / 10)
			return -EINVAL;
		n = n * 10 + (p[i] - '0');
	}
	*out = n;
	return 0;
}

/* Times are kept in nanoseconds of 63 bits. */
static const int64_t EXPIRATION_MAX = INT64_MAX / CLOCK_SECOND;

static void set_expiration(struct record *rec, int64_t expiration)
{
	int64_t now = clock_now();

	rec->flags |= RECORD_OWN_EXPIRATION;
	rec->flags &= ~(uint32_t)RECORD_DEFAULT_TTL;
	rec->default_ttl = 0;
	rec->expiration = expiration;
	rec->visible_ns = expiration && expiration * CLOCK_SECOND <= now;
	entry_linger(rec);
}

static int set_dir_ttl(struct record *rec, const void *value, size_t len)
{
	int64_t ttl;

	if (!value) {
		if (!(rec->flags & RECORD_DEFAULT_TTL))
			return -ENODATA;
		rec->flags &= ~(uint32_t)RECORD_DEFAULT_TTL;
		rec->default_ttl = 0;
		return 0;
	}
	int rc = parse_number(value, len, EXPIRATION_MAX / 2, &ttl);
	if (rc)
		return rc;
	rec->flags |= RECORD_DEFAULT_TTL;
	rec->default_ttl = ttl;
	return 0;
}

/* user.kv.expiration and user.kv.ttl of a key. */
static int set_key_time(struct record *rec, bool ttl, const void *value, size_t len)
{
	int64_t now = clock_now() / CLOCK_SECOND, n = 0;

	if (!value) {
		if (!rec->expiration)
			return -ENODATA;
	} else {
		int rc = parse_number(value, len, EXPIRATION_MAX - (ttl ? now : 0), &n);
		if (rc)
			return rc;
	}
	set_expiration(rec, n && ttl ? now + n : n);
	return 0;
}

static int check_metadata(const void *value, size_t len)
{
	if (len > METADATA_MAX)
		return -ERANGE;
	return json_is_valid(value, len) ? 0 : -EINVAL;
}

static int set_in_list(struct record *rec, const char *name, const void *value, size_t len)
{
	unsigned char *list;
	size_t list_len;
	int rc = xattrs_set(rec->xattrs, rec->xattrs_len, name, value, len, &list, &list_len);

	if (rc)
		return rc;
	free((void *)(uintptr_t)rec->xattrs);
	rec->xattrs = list;
	rec->xattrs_len = (uint32_t)list_len;
	return 0;
}

static int set_metadata(struct record *rec, const void *value, size_t len)
{
	int rc = value ? check_metadata(value, len) : 0;

	if (!rc)
		rc = set_in_list(rec, METADATA, value, len);
	if (!rc)
		rec->flags |= RECORD_OWN_METADATA;
	return rc;
}

struct sums {
	size_t all, names;
};

static int sum_name(
	void *arg, const char *name, size_t name_len, const unsigned char *value, size_t value_len)
{
	struct sums *sums = arg;

	if (name_len != sizeof(METADATA) - 1 || memcmp(name, METADATA, name_len) != 0) {
		sums->all += name_len + value_len;
		sums->names += name_len + 1;
	}
	return 0;
}

/* An attribute that kvfs gives no meaning. */
static int set_other(struct record *rec, const char *name, const void *value, size_t len)
{
	/* Room for those that have a meaning remains in the list of names. */
	struct sums sums = {.names = sizeof(METADATA) + sizeof(EXPIRATION)};
	int rc = set_in_list(rec, name, value, len);

	if (rc || !value)
		return rc;
	xattrs_each(rec->xattrs, rec->xattrs_len, sum_name, &sums);
	return sums.all > XATTRS_MAX || sums.names > NAMES_LIST_MAX ? -ENOSPC : 0;
}

/* What the store behind the cache cannot do. */
static int check_limits(
	const struct store *st, const struct record *rec, const char *name, size_t value_len)
{
	int64_t now = clock_now() / CLOCK_SECOND;

	if (strcmp(name, METADATA) == 0)
		return st->metadata_max && value_len > st->metadata_max ? -ERANGE : 0;
	if (!rec->expiration)
		return 0;
	if (st->no_expiry)
		return -EOPNOTSUPP;
	return rec->expiration > now && rec->expiration < now + st->ttl_min ? -EINVAL : 0;
}

/* Sets (value) or removes (NULL) one attribute in the record. */
static int set_one(const struct store *st, enum entry_kind kind, struct record *rec,
	const char *name, const void *value, size_t len)
{
	bool ttl = strcmp(name, TTL) == 0;
	int rc;

	if (!is_kv(name) && st->plain)
		return value ? -EOPNOTSUPP : -ENODATA;
	if (!is_kv(name))
		return set_other(rec, name, value, len);
	if (kind == ENTRY_DIR)
		return ttl ? set_dir_ttl(rec, value, len) : value ? -EINVAL : -ENODATA;
	if (ttl || strcmp(name, EXPIRATION) == 0) {
		rc = set_key_time(rec, ttl, value, len);
		return rc || !value ? rc : check_limits(st, rec, name, len);
	}
	if (strcmp(name, METADATA) == 0) {
		rc = set_metadata(rec, value, len);
		return rc || !value ? rc : check_limits(st, rec, name, len);
	}
	if (strcmp(name, KV "key") == 0 || strcmp(name, KV "state") == 0)
		return -EPERM;
	return value ? -EINVAL : -ENODATA;
}

static bool has(const struct node_id *id, const struct loaded *l, const char *name)
{
	size_t len;

	if (strcmp(name, EXPIRATION) == 0 || strcmp(name, TTL) == 0)
		return id->id.kind == ENTRY_DIR ? l->rec.flags & RECORD_DEFAULT_TTL
						: l->rec.expiration != 0;
	return xattrs_get(l->rec.xattrs, l->rec.xattrs_len, name, &len) != NULL;
}

/* `buf` may be used for the answer. */
static const char *why_refused(const struct store *st, const struct entry_id *id, const char *name,
	int rc, char *buf, size_t cap)
{
	if (rc == -ENOSPC)
		return "all attributes of a key have at most 65,536 bytes, and so have their names";
	if (rc == -EOPNOTSUPP)
		return "this store cannot keep expirations";
	if (id->kind == ENTRY_DIR)
		return strcmp(name, TTL) == 0 ? "not a number of seconds"
					      : "of these a directory has user.kv.ttl only";
	if (strcmp(name, METADATA) == 0 && rc == -ERANGE) {
		snprintf(buf, cap, "metadata has more than %zu bytes",
			st->metadata_max ? st->metadata_max : XATTRS_MAX);
		return buf;
	}
	if (strcmp(name, METADATA) == 0)
		return "metadata must be JSON";
	if (st->ttl_min && (strcmp(name, TTL) == 0 || strcmp(name, EXPIRATION) == 0)) {
		snprintf(buf, cap, "not a number of seconds, or less than %lld s ahead",
			(long long)st->ttl_min);
		return buf;
	}
	return "not a number of seconds, or no attribute of kvfs";
}

static void log_refused(const struct store *st, const struct node_id *id, const char *name, int rc)
{
	char key[256], attribute[256], why[100];

	/* Attributes that are none of kvfs's are asked for all the time, by ls and cp. */
	if (rc != -EINVAL && rc != -ERANGE && rc != -ENOSPC && (rc != -EOPNOTSUPP || !is_kv(name)))
		return;
	log_info("%s: %s refused: %s", log_bytes(id->bytes, id->id.len, key, sizeof(key)),
		log_bytes(name, strlen(name), attribute, sizeof(attribute)),
		why_refused(st, &id->id, name, rc, why, sizeof(why)));
}

/* The change, under fs.change. */
static int change_xattr(
	struct fs *fs, struct node *n, const char *name, const void *value, size_t len, int flags)
{
	struct node_id id;
	struct loaded l;
	bool gone;
	int rc = load_node(fs, n, &id, &l, &gone);

	if (rc)
		return rc;
	if ((flags & XATTR_CREATE) && has(&id, &l, name))
		rc = -EEXIST;
	else if ((flags & XATTR_REPLACE) && !has(&id, &l, name))
		rc = -ENODATA;
	else
		rc = set_one(fs->st, id.id.kind, &l.rec, name, value, len);
	if (!rc) {
		entry_linger(&l.rec);
		l.rec.ctime = clock_timespec(clock_now());
		struct change put = {.op = CHANGE_PUT, .id = id.id, .rec = &l.rec};
		if (gone)
			store_gone(fs, n, &l);
		else
			rc = fs_apply(fs, &put, 1);
	} else {
		log_refused(fs->st, &id, name, rc);
	}
	loaded_release(&l);
	return rc;
}

int fs_setxattr(
	struct fs *fs, struct node *n, const char *name, const void *value, size_t len, int flags)
{
	lock_take(&fs->change);
	int rc = change_xattr(fs, n, name, value ? value : "", len, flags);
	lock_drop(&fs->change);
	return fs_settle(fs, rc);
}

int fs_removexattr(struct fs *fs, struct node *n, const char *name)
{
	lock_take(&fs->change);
	int rc = change_xattr(fs, n, name, NULL, 0, 0);
	lock_drop(&fs->change);
	return fs_settle(fs, rc);
}
