/*
 * suite_kit.c - short verbs for the tests of the store suite.
 */
#include "tests/unit/suite_kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry_id kit_id(uint32_t ns, enum entry_kind kind, const void *bytes, size_t len)
{
	return (struct entry_id){.ns = ns, .kind = kind, .len = (uint16_t)len, .bytes = bytes};
}

struct entry_id kit_key(const struct kit *k, const char *key)
{
	return kit_id(k->ns, ENTRY_KEY, key, strlen(key));
}

struct entry_id kit_dir(const struct kit *k, const char *prefix)
{
	return kit_id(k->ns, ENTRY_DIR, prefix, strlen(prefix));
}

struct record kit_record(struct kit *k)
{
	/* "user.a" with value "1", "user.b" with none */
	static const unsigned char xattrs[] = "\6user.a\1\0\0\0001\6user.b\0\0\0";

	return (struct record){
		.flags = RECORD_MADE,
		.mode = 0100640,
		.uid = 1001,
		.gid = 1002,
		.rdev = 0x1122334455667788,
		.ino = k->st->ops->new_ino(k->st),
		.atime = {.tv_sec = 11, .tv_nsec = 12},
		.mtime = {.tv_sec = -21, .tv_nsec = 999999999},
		.ctime = {.tv_sec = 31, .tv_nsec = 32},
		.btime = {.tv_sec = 41, .tv_nsec = 42},
		.default_ttl = 3600,
		.xattrs = xattrs,
		.xattrs_len = sizeof(xattrs),
	};
}

struct record kit_expiring(struct kit *k, int64_t expiration)
{
	struct record rec = kit_record(k);

	rec.expiration = expiration;
	return rec;
}

struct blob *kit_blob(struct kit *k, const void *data, size_t len)
{
	struct blob *b;

	assert_int_equal(blob_new_copy(k->st->blobs, data, len, &b), 0);
	return b;
}

int kit_apply(struct kit *k, const struct change *changes, size_t n)
{
	return k->st->ops->apply(k->st, changes, n, NULL);
}

static void put(
	struct kit *k, struct entry_id id, const struct record *rec, const char *text, bool hold)
{
	struct change c = {.op = CHANGE_PUT, .id = id, .rec = rec, .hold = hold};

	if (text)
		c.value = kit_blob(k, text, strlen(text));
	assert_int_equal(kit_apply(k, &c, 1), 0);
	blob_unref(c.value);
}

void kit_put(struct kit *k, struct entry_id id, const struct record *rec, const char *text)
{
	put(k, id, rec, text, false);
}

void kit_hold(struct kit *k, struct entry_id id, const struct record *rec, const char *text)
{
	put(k, id, rec, text, true);
}

void kit_remove(struct kit *k, struct entry_id id)
{
	struct change c = {.op = CHANGE_REMOVE, .id = id};

	assert_int_equal(kit_apply(k, &c, 1), 0);
}

void kit_sync(struct kit *k)
{
	assert_int_equal(k->st->ops->sync(k->st, UINT64_MAX), 0);
}

struct view *kit_view(struct kit *k, int64_t now)
{
	struct view *v;

	assert_int_equal(k->st->ops->view_begin(k->st, now, &v), 0);
	k->views++;
	return v;
}

void kit_view_end(struct kit *k, struct view *v)
{
	k->st->ops->view_end(v);
	k->views--;
}

int kit_get(struct kit *k, struct entry_id id, int64_t now, struct entry *out)
{
	struct view *v = kit_view(k, now);
	int rc = k->st->ops->view_get(v, &id, out);

	kit_view_end(k, v);
	if (rc == 0) {
		out->rec.xattrs = NULL;
		out->rec.xattrs_len = 0;
	}
	return rc;
}

bool kit_exists(struct kit *k, struct entry_id id, int64_t now)
{
	struct entry e;
	struct value v;
	int rc = kit_get(k, id, now, &e);

	assert_true(rc == 0 || rc == -ENOENT);
	if (id.kind == ENTRY_KEY) {
		assert_int_equal(k->st->ops->read(k->st, &id, now, &v), rc);
		if (rc == 0) {
			assert_int_equal(v.len, e.size);
			value_release(&v);
		}
	}
	return rc == 0;
}

void kit_expect_bytes(struct kit *k, struct entry_id id, const void *data, size_t len)
{
	char *got = malloc(len + 1);
	struct entry e;
	struct value v;

	assert_non_null(got);
	assert_int_equal(kit_get(k, id, NOW, &e), 0);
	assert_int_equal(e.size, len);
	assert_int_equal(k->st->ops->read(k->st, &id, NOW, &v), 0);
	assert_int_equal(v.len, len);
	assert_int_equal(value_read(&v, 0, got, len + 1), len);
	if (len)
		assert_memory_equal(got, data, len);
	value_release(&v);
	free(got);
}

void kit_expect_value(struct kit *k, struct entry_id id, const char *text)
{
	kit_expect_bytes(k, id, text, strlen(text));
}

void kit_expect_record(struct kit *k, struct entry_id id, const struct record *rec)
{
	size_t size = record_encoded_size(rec);
	unsigned char *want = malloc(size), *got = malloc(size);
	struct view *v = kit_view(k, NOW);
	struct entry e;

	assert_true(want && got);
	assert_int_equal(k->st->ops->view_get(v, &id, &e), 0);
	assert_false(e.unrecorded);
	assert_false(e.touched);
	assert_int_equal(record_encoded_size(&e.rec), size);
	record_encode(rec, want);
	record_encode(&e.rec, got);
	assert_memory_equal(got, want, size);
	kit_view_end(k, v);
	free(want);
	free(got);
}

void kit_expect_absent(struct kit *k, struct entry_id id)
{
	assert_false(kit_exists(k, id, NOW));
}

/* Joins what a scan finds. The next entry is what comes after a NUL is added to this one. */
static void join(struct kit *k, struct scan *s, char *joined, size_t cap)
{
	unsigned char from[STORE_PREFIX_MAX + 1];
	struct entry_id found;
	size_t n = 0, len = 0;

	joined[0] = '\0';
	while (k->st->ops->scan_seek(s, from, len, &found) == 0) {
		assert_true(n + found.len + 2 < cap);
		if (n)
			joined[n++] = ' ';
		if (found.len)
			memcpy(joined + n, found.bytes, found.len);
		n += found.len;
		joined[n] = '\0';
		if (found.len)
			memcpy(from, found.bytes, found.len);
		from[found.len] = '\0';
		len = found.len + (size_t)1;
	}
}

static void expect_list(
	struct kit *k, uint32_t ns, enum entry_kind kind, int64_t now, const char *joined)
{
	struct view *v = kit_view(k, now);
	struct scan *s;
	char got[4096];

	assert_int_equal(k->st->ops->scan_open(v, ns, kind, &s), 0);
	join(k, s, got, sizeof(got));
	k->st->ops->scan_close(s);
	kit_view_end(k, v);
	assert_string_equal(got, joined);
}

void kit_expect_list(struct kit *k, enum entry_kind kind, int64_t now, const char *joined)
{
	expect_list(k, k->ns, kind, now, joined);
}

void kit_expect_list_of(struct kit *k, uint32_t ns, enum entry_kind kind, const char *joined)
{
	expect_list(k, ns, kind, NOW, joined);
}

bool kit_reopen(struct kit *k)
{
	if (!k->f->reopen)
		return false;
	assert_int_equal(k->f->reopen(k->f, &k->st), 0);
	assert_int_equal(k->st->ops->ns_find(k->st, "main", 4, &k->ns), 0);
	return true;
}
