/*
 * suite_scans.c - entries in byte order, from any position.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

struct bytes {
	const char *bytes;
	size_t len;
};

#define B(literal)                                                                                 \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

/* Every sort of neighbour, in order. */
static const struct bytes ordered[] = {B("\0"), B("\0\0"), B("\0\1"), B("\1"), B("a"), B("a\0"),
	B("a\0a"), B("a\1"), B("a/"), B("a/b"), B("a/b/"), B("a/b/c"), B("a0"), B("aa"), B("aaa"),
	B("ab"), B("a\377"), B("a\377\377"), B("b"), B("\177"), B("\200"), B("\303\244"), B("\377"),
	B("\377\0"), B("\377\377")};

enum { ORDERED = sizeof(ordered) / sizeof(ordered[0]) };

static void put_ordered(struct kit *k, enum entry_kind kind, const struct record *rec, size_t i)
{
	struct entry_id id = kit_id(k->ns, kind, ordered[i].bytes, ordered[i].len);

	kit_put(k, id, rec, kind == ENTRY_KEY ? "v" : NULL);
}

static void expect_seek(struct kit *k, struct scan *s, const void *from, size_t len,
	const void *bytes, size_t bytes_len)
{
	struct entry_id found;

	assert_int_equal(k->st->ops->scan_seek(s, from, len, &found), 0);
	assert_int_equal(found.len, bytes_len);
	assert_memory_equal(found.bytes, bytes, bytes_len);
}

/* Seeks to each, just past each, and to nothing; forwards, then backwards. */
static void expect_ordered(struct kit *k, enum entry_kind kind)
{
	struct view *v = kit_view(k, NOW);
	struct entry_id found;
	struct scan *s;
	char past[16];

	assert_int_equal(k->st->ops->scan_open(v, k->ns, kind, &s), 0);
	expect_seek(k, s, NULL, 0, ordered[0].bytes, ordered[0].len);
	for (int n = 0; n < 2 * ORDERED; n++) {
		size_t i = n < ORDERED ? (size_t)n : (size_t)(2 * ORDERED - 1 - n);
		const struct bytes *b = &ordered[i], *next = b + 1;

		expect_seek(k, s, b->bytes, b->len, b->bytes, b->len);
		memcpy(past, b->bytes, b->len);
		past[b->len] = '\0';
		if (i + 1 < ORDERED)
			expect_seek(k, s, past, b->len + 1, next->bytes, next->len);
		else
			assert_int_equal(
				k->st->ops->scan_seek(s, past, b->len + 1, &found), -ENOENT);
	}
	/* An id and its kind come with the bytes. */
	assert_int_equal(k->st->ops->scan_seek(s, "a", 1, &found), 0);
	assert_int_equal(found.ns, k->ns);
	assert_int_equal(found.kind, kind);
	k->st->ops->scan_close(s);
	kit_view_end(k, v);
}

/* In order, whether they are durable, pending, or some of each. */
static void test_order(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);

	for (int kind = ENTRY_KEY; kind <= ENTRY_DIR; kind++) {
		for (size_t i = 0; i < ORDERED; i += 2)
			put_ordered(k, (enum entry_kind)kind, &rec, ORDERED - 1 - i);
		kit_sync(k);
		for (size_t i = 1; i < ORDERED; i += 2)
			put_ordered(k, (enum entry_kind)kind, &rec, i);
		expect_ordered(k, (enum entry_kind)kind);
		kit_sync(k);
		expect_ordered(k, (enum entry_kind)kind);
	}
}

static void test_seek_between(void **state)
{
	struct kit *k = *state;
	struct entry_id found;
	struct scan *s;

	kit_put(k, kit_key(k, "b"), NULL, "v");
	kit_put(k, kit_key(k, "dd"), NULL, "v");
	for (int synced = 0; synced < 2; synced++) {
		struct view *v = kit_view(k, NOW);

		assert_int_equal(k->st->ops->scan_open(v, k->ns, ENTRY_KEY, &s), 0);
		expect_seek(k, s, "", 0, "b", 1);
		expect_seek(k, s, "a", 1, "b", 1);
		expect_seek(k, s, "az", 2, "b", 1);
		expect_seek(k, s, "c", 1, "dd", 2);
		expect_seek(k, s, "d", 1, "dd", 2);
		expect_seek(k, s, "b", 1, "b", 1);
		assert_int_equal(k->st->ops->scan_seek(s, "ddd", 3, &found), -ENOENT);
		assert_int_equal(k->st->ops->scan_seek(s, "\377", 1, &found), -ENOENT);
		expect_seek(k, s, "b\377", 2, "dd", 2);
		k->st->ops->scan_close(s);
		kit_view_end(k, v);
		kit_sync(k);
	}
}

static void test_empty_scan(void **state)
{
	struct kit *k = *state;
	uint32_t other;

	kit_expect_list(k, ENTRY_KEY, NOW, "");
	kit_expect_list(k, ENTRY_DIR, NOW, "");
	/* The neighbours do not show. */
	assert_int_equal(k->st->ops->ns_create(k->st, "other", 5, NULL, &other), 0);
	kit_put(k, kit_id(other, ENTRY_KEY, "k", 1), NULL, "v");
	kit_expect_list(k, ENTRY_KEY, NOW, "");
	kit_expect_list_of(k, other, ENTRY_KEY, "k");
	kit_expect_list_of(k, other, ENTRY_DIR, "");
}

/* Removed and put again, in what is durable and in what is not. */
static void test_scan_of_changes(void **state)
{
	struct kit *k = *state;

	kit_put(k, kit_key(k, "a"), NULL, "v");
	kit_put(k, kit_key(k, "b"), NULL, "v");
	kit_put(k, kit_key(k, "c"), NULL, "v");
	kit_sync(k);
	kit_remove(k, kit_key(k, "b"));
	kit_expect_list(k, ENTRY_KEY, NOW, "a c");
	kit_put(k, kit_key(k, "bb"), NULL, "v");
	kit_put(k, kit_key(k, "a"), NULL, "w");
	kit_expect_list(k, ENTRY_KEY, NOW, "a bb c");
	kit_put(k, kit_key(k, "b"), NULL, "v");
	kit_remove(k, kit_key(k, "a"));
	kit_remove(k, kit_key(k, "c"));
	kit_expect_list(k, ENTRY_KEY, NOW, "b bb");
	kit_sync(k);
	kit_expect_list(k, ENTRY_KEY, NOW, "b bb");
	kit_remove(k, kit_key(k, "b"));
	kit_remove(k, kit_key(k, "bb"));
	kit_expect_list(k, ENTRY_KEY, NOW, "");
	kit_sync(k);
	kit_expect_list(k, ENTRY_KEY, NOW, "");
}

static void test_only_made_directories(void **state)
{
	struct kit *k = *state;
	struct record made = kit_record(k), unmade = made;

	unmade.flags = 0;
	kit_put(k, kit_dir(k, ""), &made, NULL);
	kit_put(k, kit_dir(k, "a/"), &made, NULL);
	kit_put(k, kit_dir(k, "b/"), &unmade, NULL);
	kit_put(k, kit_dir(k, "c/"), &made, NULL);
	kit_expect_list(k, ENTRY_DIR, NOW, "a/ c/");
	kit_sync(k);
	kit_put(k, kit_dir(k, "a/"), &unmade, NULL);
	kit_put(k, kit_dir(k, "b/"), &made, NULL);
	kit_put(k, kit_dir(k, ""), &unmade, NULL);
	kit_expect_list(k, ENTRY_DIR, NOW, "b/ c/");
	kit_sync(k);
	kit_expect_list(k, ENTRY_DIR, NOW, "b/ c/");
}

/* Ids of the greatest length, alike but for their last bytes, beside shorter ones. */
static void test_long_ids(void **state)
{
	enum { TAILS = 256 };
	struct kit *k = *state;
	unsigned char bytes[STORE_PREFIX_MAX], past[STORE_PREFIX_MAX + 2];
	struct record rec = kit_record(k);

	for (int kind = ENTRY_KEY; kind <= ENTRY_DIR; kind++) {
		size_t len = kind == ENTRY_KEY ? STORE_KEY_MAX : STORE_PREFIX_MAX;
		struct entry_id id = kit_id(k->ns, (enum entry_kind)kind, bytes, len), found;
		const char *text = kind == ENTRY_KEY ? "v" : NULL;

		memset(bytes, 'x', sizeof(bytes));
		for (int i = 0; i < TAILS; i += 3) {
			bytes[len - 1] = (unsigned char)(255 - i);
			kit_put(k, id, &rec, text);
			if (i == TAILS / 4 * 3)
				kit_sync(k);
		}
		id.len = (uint16_t)(len - 1);
		kit_put(k, id, &rec, text);
		for (int synced = 0; synced < 2; synced++) {
			struct view *v = kit_view(k, NOW);
			struct scan *s;
			size_t from = 0, n = 0;

			assert_int_equal(
				k->st->ops->scan_open(v, k->ns, (enum entry_kind)kind, &s), 0);
			while (k->st->ops->scan_seek(s, past, from, &found) == 0) {
				int tail = (int)(n - 1) * 3;

				assert_int_equal(found.len, n == 0 ? len - 1 : len);
				assert_memory_equal(found.bytes, bytes, len - 1);
				if (n > 0)
					assert_int_equal(found.bytes[len - 1], tail);
				memcpy(past, found.bytes, found.len);
				past[found.len] = '\0';
				from = found.len + (size_t)1;
				n++;
			}
			assert_int_equal(n, 1 + (TAILS + 2) / 3);
			bytes[len - 1] = 100;
			assert_int_equal(k->st->ops->scan_seek(s, bytes, len, &found), 0);
			assert_int_equal(found.bytes[len - 1], 102);
			k->st->ops->scan_close(s);
			kit_view_end(k, v);
			kit_sync(k);
		}
	}
}

/* Two scans of one view do not disturb each other, nor do gets in between. */
static void test_scans_side_by_side(void **state)
{
	struct kit *k = *state;
	struct record rec = kit_record(k);
	struct entry_id a = kit_key(k, "a"), found;
	struct scan *keys, *dirs, *more;
	struct entry e;

	kit_put(k, kit_key(k, "a"), &rec, "v");
	kit_put(k, kit_key(k, "b"), &rec, "v");
	kit_put(k, kit_dir(k, "a/"), &rec, NULL);
	kit_put(k, kit_dir(k, "b/"), &rec, NULL);
	kit_sync(k);
	struct view *v = kit_view(k, NOW);
	assert_int_equal(k->st->ops->scan_open(v, k->ns, ENTRY_KEY, &keys), 0);
	assert_int_equal(k->st->ops->scan_open(v, k->ns, ENTRY_DIR, &dirs), 0);
	assert_int_equal(k->st->ops->scan_open(v, k->ns, ENTRY_KEY, &more), 0);
	expect_seek(k, keys, "", 0, "a", 1);
	expect_seek(k, dirs, "b", 1, "b/", 2);
	expect_seek(k, more, "b", 1, "b", 1);
	assert_int_equal(k->st->ops->view_get(v, &a, &e), 0);
	expect_seek(k, keys, "a\0", 2, "b", 1);
	expect_seek(k, dirs, "", 0, "a/", 2);
	assert_int_equal(k->st->ops->scan_seek(more, "c", 1, &found), -ENOENT);
	k->st->ops->scan_close(more);
	k->st->ops->scan_close(dirs);
	k->st->ops->scan_close(keys);
	kit_view_end(k, v);
}

SUITE_PART(scans, cmocka_unit_test(test_order), cmocka_unit_test(test_seek_between),
	cmocka_unit_test(test_empty_scan), cmocka_unit_test(test_scan_of_changes),
	cmocka_unit_test(test_only_made_directories), cmocka_unit_test(test_long_ids),
	cmocka_unit_test(test_scans_side_by_side));
