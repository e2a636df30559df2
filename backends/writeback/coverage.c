/*
 * coverage.c - what is known to be whole: a listing that came to its end says of every key that
 * begins with its prefix whether it exists; one that is under way says so up to its last key.
 *
 * Ended ones are in the local store (the namespace `listed`, prefix -> when), so that they outlive
 * the mount; those under way are in memory (walk.h).
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/writeback/pack.h"
#include "backends/writeback/walk.h"

enum { ABSENT_SIZE = 16, LONG_AGO = 1 };

/* No key of text begins so; an empty one cannot be stored. */
static const unsigned char EVERYTHING[1] = {0xff};

static struct entry_id listed_id(const struct wb_ns *ns, const void *prefix, size_t len)
{
	return len ? wb_key(ns->listed, prefix, len) : wb_key(ns->listed, EVERYTHING, 1);
}

static bool is_recent(const struct writeback *wb, int64_t when, int64_t now)
{
	if (now == NOW_NEVER)
		return when != 0;
	return when <= now && now - when < wb->opt.max_age;
}

/* The number in a small value; 0 where there is none. */
static int64_t read_number(struct writeback *wb, const struct entry_id *id, size_t skip)
{
	unsigned char bytes[ABSENT_SIZE];
	struct value v;

	if (wb->local->ops->read(wb->local, id, NOW_NEVER, &v))
		return 0;
	int64_t n = value_read(&v, 0, bytes, sizeof(bytes));
	value_release(&v);
	if (n < (int64_t)skip + 8)
		return 0;
	struct unpack u = {bytes + skip, 8};
	return (int64_t)unpack_number(&u, 8);
}

static bool listed(
	struct writeback *wb, const struct wb_ns *ns, const void *prefix, size_t len, int64_t now)
{
	struct entry_id id = listed_id(ns, prefix, len);

	return is_recent(wb, read_number(wb, &id, 0), now);
}

size_t wb_stem(const struct writeback *wb, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 1; i < len && p[i - 1] != (unsigned char)wb->opt.separator; i++) {
		if (p[i] == (unsigned char)wb->opt.separator)
			return 0;
		if (p[i] >= '0' && p[i] <= '9')
			return p[0] >= '0' && p[0] <= '9' ? 0 : i;
	}
	return 0;
}

/* Whether a directory that the name is in is known to be whole, or all names in one of them that begin
 * like the name there. */
static bool listed_above(struct writeback *wb, const struct wb_ns *ns, const unsigned char *p,
	size_t len, int64_t now)
{
	for (size_t at = 0, next; at < len; at = next) {
		size_t stem = wb_stem(wb, p + at, len - at);

		if (stem && listed(wb, ns, p, at + stem, now))
			return true;
		for (next = at; next < len && p[next] != (unsigned char)wb->opt.separator;)
			next++;
		if (next < len && listed(wb, ns, p, ++next, now))
			return true;
	}
	return false;
}

bool wb_covers(struct writeback *wb, struct wb_ns *ns, const void *bytes, size_t len, bool below,
	int64_t now)
{
	const unsigned char *p = bytes;

	if (listed(wb, ns, "", 0, now) || listed_above(wb, ns, p, len, now))
		return true;
	/* What begins with a name has all that is below it. */
	if (below && len > 1 && listed(wb, ns, p, len - 1, now))
		return true;
	return (len && listed(wb, ns, p, len, now)) || wb_walks_cover(wb, ns, p, len, below, now);
}

bool wb_was_whole(struct writeback *wb, struct wb_ns *ns, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	struct entry_id id = listed_id(ns, "", 0);
	bool was = read_number(wb, &id, 0) != 0;

	for (size_t i = 1; i <= len && !was; i++) {
		if (i < len && p[i - 1] != (unsigned char)wb->opt.separator)
			continue;
		id = listed_id(ns, p, i);
		was = read_number(wb, &id, 0) != 0;
	}
	return was;
}

static int put_numbers(
	struct writeback *wb, const struct entry_id *id, int64_t a, int64_t b, size_t size)
{
	unsigned char bytes[ABSENT_SIZE];
	struct change put = {.op = CHANGE_PUT, .id = *id};

	pack_number(pack_number(bytes, (uint64_t)a, 8), (uint64_t)b, 8);
	int rc = blob_new_copy(wb->local->blobs, bytes, size, &put.value);
	if (!rc)
		rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	blob_unref(put.value);
	return rc;
}

int wb_cover(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, int64_t when)
{
	struct entry_id id = listed_id(ns, prefix, len);

	return put_numbers(wb, &id, when, 0, 8);
}

bool wb_is_absent(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t now)
{
	struct entry_id id = wb_key(ns->absent, key->bytes, key->len);

	return is_recent(wb, read_number(wb, &id, 0), now) || wb_is_removed(wb, ns, key, now);
}

int64_t wb_removed_until(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key)
{
	struct entry_id id = wb_key(ns->absent, key->bytes, key->len);

	return read_number(wb, &id, 8);
}

bool wb_is_removed(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t now)
{
	return wb_removed_until(wb, ns, key) > now;
}

int wb_note_absent(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t when,
	int64_t pinned)
{
	struct entry_id id = wb_key(ns->absent, key->bytes, key->len);

	return put_numbers(wb, &id, when, pinned, ABSENT_SIZE);
}

/* Makes the entries of a bookkeeping namespace that begin with `prefix` old. Own removals stay: that
 * somebody asks for what is new does not make the remote store forget faster. */
static int forget_below(
	struct writeback *wb, uint32_t number, const unsigned char *prefix, size_t len)
{
	struct store *local = wb->local;
	unsigned char at[STORE_KEY_MAX + 1];
	size_t at_len = len;

	if (len)
		memcpy(at, prefix, len);
	for (;;) {
		struct entry_id id;
		struct view *v;
		struct scan *s;
		int rc = local->ops->view_begin(local, NOW_NEVER, &v);

		if (rc)
			return rc;
		rc = local->ops->scan_open(v, number, ENTRY_KEY, &s);
		if (!rc) {
			rc = local->ops->scan_seek(s, at, at_len, &id);
			if (!rc && (id.len < len || (len && memcmp(id.bytes, prefix, len) != 0)))
				rc = -ENOENT;
			if (!rc) {
				memcpy(at, id.bytes, id.len);
				at_len = id.len;
			}
			local->ops->scan_close(s);
		}
		local->ops->view_end(v);
		if (rc)
			return rc == -ENOENT ? 0 : rc;
		id.bytes = at;
		rc = put_numbers(wb, &id, LONG_AGO, read_number(wb, &id, 8), ABSENT_SIZE);
		if (rc)
			return rc;
		at[at_len++] = '\0';
	}
}

int wb_uncover(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len)
{
	const unsigned char *p = prefix;
	struct entry_id id = listed_id(ns, "", 0);
	int rc = 0;

	wb_walks_forget(wb, ns, p, len);
	for (size_t i = 0; i <= len && !rc; i++) { /* whatever it begins with */
		id = listed_id(ns, p, i);
		if (read_number(wb, &id, 0))
			rc = put_numbers(wb, &id, LONG_AGO, 0, 8);
	}
	if (!rc)
		rc = forget_below(wb, ns->listed, p, len);
	return rc ? rc : forget_below(wb, ns->absent, p, len);
}
