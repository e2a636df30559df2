/*
 * test_names.c - keys and paths are a bijection.
 *
 * Model. Keys are made of tokens that the rules treat in different ways: every row of a few tokens,
 * and long rows with runs such that cuts fall on each of them. For every key the path is walked
 * name by name from the root, and at each directory on the way the other functions are asked the
 * same thing from their side. Where the rules say "some key" (a PIECE%+ is a name where some key
 * goes through it) or "every key" (what begins with `skip`), families of keys are tried in full.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/core/names.h"

/* Tokens are strings, and "" is the token of a NUL byte. */
static const char *const tokens[] = {"%", "0", "2", "5", "E", ".", "/", ":", "+", "", "\x80",
	"\xFF", "\xC3", /* from here on of several bytes */
	"\xC3\xA9", "\xF0\x9F\x98\x80", "empty", "value"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTE_TOKENS = 13, ROW_MAX = 5, BYTES_MAX = NAMES_DIR_MAX + 31 };

/* A key, a directory id, or what becomes one. */
struct bytes {
	bool is_dir;
	size_t len;
	unsigned char at[BYTES_MAX];
};

static const struct bytes root = {.is_dir = true};

static void add(struct bytes *b, const void *bytes, size_t len)
{
	assert_true(b->len + len <= BYTES_MAX);
	memcpy(b->at + b->len, bytes, len);
	b->len += len;
}

static void add_token(struct bytes *b, const char *token)
{
	add(b, token, *token ? strlen(token) : 1);
}

static struct bytes bytes_of(const void *bytes, size_t len, bool is_dir)
{
	struct bytes b = {.is_dir = is_dir};

	add(&b, bytes, len);
	return b;
}

static struct bytes run_of(char c, size_t len)
{
	struct bytes b = {.len = len};

	memset(b.at, c, len);
	return b;
}

/* A row of tokens, by their numbers. */
struct row {
	size_t len, token[ROW_MAX];
};

static void add_row(struct bytes *b, const char *const *from, const struct row *row)
{
	for (size_t i = 0; i < row->len; i++)
		add_token(b, from[row->token[i]]);
}

/* Counts through the rows of `base` tokens, the shorter ones first; false after those of `max`. */
static bool next_row(struct row *row, size_t base, size_t max)
{
	for (size_t i = 0; i < row->len; i++) {
		if (++row->token[i] < base)
			return true;
		row->token[i] = 0;
	}
	return row->len++ < max;
}

static void assert_same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	assert_int_equal(a_len, b_len);
	assert_memory_equal(a, b, b_len);
}

static int resolve(
	char sep, const struct bytes *dir, const char *name, size_t len, struct name_target *t)
{
	return names_resolve(sep, dir->at, dir->len, name, len, t);
}

static int child_of(
	char sep, const struct bytes *dir, const struct bytes *entry, struct name_child *child)
{
	return names_child(sep, dir->at, dir->len, entry->at, entry->len, entry->is_dir, child);
}

/* names_child() finds the child `name` of `dir` for this entry. */
static void check_child(char sep, const struct bytes *dir, const char *name, size_t len,
	const struct bytes *entry, struct name_child *child)
{
	assert_int_equal(child_of(sep, dir, entry, child), 0);
	assert_same(child->name, child->name_len, name, len);
	assert_int_equal(child->name[len], '\0');
	assert_in_range(child->skip_len, 1, entry->len);
	assert_memory_equal(child->skip, entry->at, child->skip_len);
	assert_true(child->single ? child->skip_len == entry->len : child->is_dir);
}

/* One name on the way to a key: that of directory `t` in `dir`. */
static void check_step(char sep, const struct bytes *dir, const char *name, size_t len,
	const struct name_target *t, const struct bytes *k)
{
	bool piece = names_dir_is_piece(sep, t->dir, t->dir_len);
	unsigned char parent[NAMES_DIR_MAX];
	char parent_name[NAMES_NAME_MAX + 1];
	struct bytes id = bytes_of(t->dir, t->dir_len, true);
	struct name_child child;
	size_t parent_len;

	assert_true(t->can_dir && t->can_key == (!piece && t->dir_len > 1));
	assert_memory_equal(t->dir, k->at, names_dir_raw_len(sep, t->dir, t->dir_len));
	assert_int_equal(names_parent(sep, id.at, id.len, parent, &parent_len, parent_name), 0);
	assert_same(parent, parent_len, dir->at, dir->len);
	assert_same(parent_name, strlen(parent_name), name, len);
	assert_int_equal(child_of(sep, &id, &id, &child), -ENOENT);
	check_child(sep, dir, name, len, &id, &child);
}

/* Walks the path of a key from the root: each directory on the way, and the key at its end. The
 * key's own directory is looked for, as an entry, from all of them. */
static void check_walk(char sep, const struct bytes *k, const char *path)
{
	struct bytes dir = root, own = root;
	const char *name = path;
	struct name_target t;
	struct name_child child;
	size_t len;

	assert_int_equal(names_key_parent(sep, k->at, k->len, false, own.at, &own.len, NULL), 0);
	for (;; name += len + 1) {
		len = strcspn(name, "/");
		assert_in_range(len, 1, NAMES_NAME_MAX);
		assert_false(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
		assert_int_equal(resolve(sep, &dir, name, len, &t), 0);
		check_child(sep, &dir, name, len, k, &child);
		assert_int_equal(child.is_dir, name[len] == '/');
		if (name[len] == '\0')
			break;
		assert_same(child.dir, child.dir_len, t.dir, t.dir_len);
		check_step(sep, &dir, name, len, &t, k);
		check_child(sep, &dir, name, len, &own, &child);
		dir = bytes_of(t.dir, t.dir_len, true);
	}
	assert_same(own.at, own.len, dir.at, dir.len);
	assert_true(t.can_key && t.can_dir && child.single);
	assert_same(t.key, t.key_len, k->at, k->len);
}

/* names_key_parent() both ways, and the key as its directory's %value. */
static void check_key_parent(char sep, const struct bytes *k, const char *path)
{
	const char *last = strrchr(path, '/');
	struct bytes dir = {.is_dir = true};
	char name[NAMES_NAME_MAX + 1];
	struct name_target t;
	struct name_child child;

	last = last ? last + 1 : path;
	assert_int_equal(names_key_parent(sep, k->at, k->len, false, dir.at, &dir.len, name), 0);
	assert_string_equal(name, last);
	assert_int_equal(resolve(sep, &dir, name, strlen(name), &t), 0);
	assert_same(t.key, t.key_len, k->at, k->len);
	assert_int_equal(names_key_parent(sep, k->at, k->len, true, dir.at, &dir.len, name), 0);
	assert_string_equal(name, "%value");
	assert_same(dir.at, dir.len, t.dir, t.dir_len);
	check_child(sep, &dir, "%value", 6, k, &child);
	assert_int_equal(resolve(sep, &dir, "%value", 6, &t), 0);
	assert_true(!t.can_dir && !child.is_dir);
	assert_same(t.key, t.key_len, k->at, k->len);
}

/* Everything that holds for every key; its path is left in `path`. */
static void check_key(char sep, const struct bytes *k, char *path)
{
	struct bytes back;

	assert_int_equal(names_path(sep, k->at, k->len, path), 0);
	assert_int_equal(names_key(sep, path, strlen(path), back.at, &back.len), 0);
	assert_same(back.at, back.len, k->at, k->len);
	check_walk(sep, k, path);
	check_key_parent(sep, k, path);
}

/* A path is refused, or it is the very one that its key is written as, or that with /%value. */
static void check_path(char sep, const char *path, size_t len)
{
	char again[NAMES_PATH_MAX + sizeof("/%value")];
	struct bytes k;

	if (names_key(sep, path, len, k.at, &k.len) != 0)
		return;
	assert_int_equal(names_path(sep, k.at, k.len, again), 0);
	if (strlen(again) != len)
		strcat(again, "/%value");
	assert_same(again, strlen(again), path, len);
}

/* Every path that differs from this one by one of `n` bytes (NULL: any), or lacks a byte of it. */
static void check_mutations(char sep, const char *path, const char *bytes, size_t n)
{
	char other[NAMES_PATH_MAX + 1];
	size_t len = strlen(path);

	for (size_t at = 0; at <= len; at++) {
		memcpy(other, path, at);
		for (size_t i = 0; i < 2 * n; i++) {
			size_t rest = at < len ? at + i % 2 : len;

			other[at] = bytes ? bytes[i / 2] : (char)(i / 2);
			memcpy(other + at + 1, path + rest, len - rest);
			check_path(sep, other, at + 1 + len - rest);
		}
		memmove(other + at, path + at + (at < len), len - at);
		check_path(sep, other, len - (at < len));
	}
}

static const char some_bytes[] = "%025EF.:/+-eva|\xC3\xA9";

static uint64_t path_hash(const char *path)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; *path; path++)
		hash = (hash ^ (unsigned char)*path) * 0x100000001b3;
	return hash;
}

static int hash_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Every row of up to `max` of the first `base` tokens; no two of them are the same key. */
static void check_rows(char sep, size_t base, size_t max)
{
	static uint64_t seen[500000];
	struct row row = {.len = 1};
	char path[NAMES_PATH_MAX];
	size_t n = 0;

	do {
		struct bytes k = {.len = 0};

		add_row(&k, tokens, &row);
		check_key(sep, &k, path);
		assert_true(n < COUNT(seen));
		seen[n++] = path_hash(path);
		if (row.len <= 2 && base == BYTE_TOKENS)
			check_mutations(sep, path, NULL, 256);
		else if (row.len <= (base == BYTE_TOKENS ? 3 : 2))
			check_mutations(sep, path, some_bytes, sizeof(some_bytes));
	} while (next_row(&row, base, max));
	qsort(seen, n, sizeof(seen[0]), hash_order);
	for (size_t i = 1; i < n; i++)
		assert_true(seen[i - 1] != seen[i]);
}

static void test_short_keys(void **state)
{
	for (const char *sep = "/:|-_#"; *sep; sep++) {
		bool more = *sep == '/' || *sep == ':';

		check_rows(*sep, BYTE_TOKENS, more ? 5 : 3);
		check_rows(*sep, COUNT(tokens), more ? 4 : 3);
	}
}

/* Runs of one token, often up to somewhere near a cut, and others between them. */
static void test_long_keys(void **state)
{
	char path[NAMES_PATH_MAX];

	srandom(1);
	for (int i = 0; i < 6000; i++) {
		size_t want = 1 + (size_t)random() % NAMES_KEY_MAX;
		struct bytes k = {.len = 0};
		char sep = "/:-"[i % 3];

		while (k.len < want) {
			size_t times = random() % 4 ? 1 : (size_t)random() % 256;
			size_t token = (size_t)random() % (COUNT(tokens) + 6);

			while (times-- && k.len < want)
				add_token(&k, token < COUNT(tokens) ? tokens[token] : "x");
		}
		k.len = want;
		check_key(sep, &k, path);
		if (i % 200 == 0)
			check_mutations(sep, path, some_bytes, 6);
	}
}

/* Tokens for the end of a piece, and after it. */
static const char *const tails[] = {
	"%", "0", "2", "+", "", "\xC3", "\xA9", "\xF0\x9F\x98\x80", ":"};

enum { TAIL_MAX = 4, FAMILY_MAX = 160000, NO_REST = 9 };

static int bytes_order(const void *a, const void *b)
{
	const struct bytes *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);

	return order ? order : x->len != y->len ? (int)x->len - (int)y->len : x->is_dir - y->is_dir;
}

/* Keys that begin with runs of nearly a piece's length, with every tail, and their directories. */
static size_t family_make(struct bytes *family)
{
	struct row row = {.len = 0};
	size_t n = 0;

	for (size_t run = 248; run <= 254; run += !next_row(&row, COUNT(tails), TAIL_MAX)) {
		struct name_child child = {.is_dir = true};
		struct bytes k = run_of('x', run), dir = root;

		if (row.len > TAIL_MAX)
			row.len = 0;
		add_row(&k, tails, &row);
		for (; child.is_dir; family[n++] = child.is_dir ? dir : k) {
			assert_int_equal(child_of(':', &dir, &k, &child), 0);
			dir = bytes_of(child.dir, child.dir_len, true);
			assert_true(n < FAMILY_MAX);
		}
	}
	qsort(family, n, sizeof(*family), bytes_order);
	return n;
}

/* What begins with `skip` belongs to the same child; and what belongs to another child is not in a
 * piece although it may begin with its raw bytes. */
static void test_neighbours(void **state)
{
	struct bytes *family = malloc(FAMILY_MAX * sizeof(*family)), *end, dir;
	struct name_child child, before = {.single = true}, other;

	assert_non_null(family);
	end = family + family_make(family);
	for (struct bytes *k = family; k < end; k++, before = child) {
		assert_int_equal(child_of(':', &root, k, &child), 0);
		if (names_dir_is_piece(':', before.dir, before.dir_len) &&
			strcmp(before.name, child.name) != 0) {
			dir = bytes_of(before.dir, before.dir_len, true);
			assert_int_equal(child_of(':', &dir, k, &other), -ENOENT);
		}
		if (child.single ||
			(!before.single && before.skip_len == child.skip_len &&
				memcmp(before.skip, child.skip, child.skip_len) == 0))
			continue;
		for (struct bytes *next = k + 1; next < end && next->len >= child.skip_len &&
			memcmp(next->at, child.skip, child.skip_len) == 0;
			next++) {
			assert_int_equal(child_of(':', &root, next, &other), 0);
			assert_string_equal(other.name, child.name);
			assert_same(other.dir, other.dir_len, child.dir, child.dir_len);
		}
	}
	free(family);
}

/* How many bytes it takes to go on after the raw piece `k` such that a key goes through `name`. */
static size_t shortest_rest(const struct bytes *k, const char *name, size_t name_len)
{
	static const char *const more[] = {"", "0", "5", "E", "\xA9", "\xF0\x9F\x98\x80"};
	struct row row = {.len = 1};
	char path[NAMES_PATH_MAX];
	size_t best = NO_REST;

	do {
		struct bytes longer = *k;

		add_row(&longer, more, &row);
		assert_int_equal(names_path(':', longer.at, longer.len, path), 0);
		if (strlen(path) > name_len && path[name_len] == '/' &&
			memcmp(path, name, name_len) == 0 && longer.len - k->len < best)
			best = longer.len - k->len;
	} while (next_row(&row, COUNT(more), 3));
	return best;
}

/* The name PIECE%+ of this text, read as `k`, is one exactly where a key of 512 bytes goes there.
 */
static void check_piece(const struct bytes *k, const struct bytes *name)
{
	struct name_target t;
	struct bytes dir;
	size_t rest = shortest_rest(k, (const char *)name->at, name->len);
	int err;

	for (size_t room = 0; room < 7; room++) {
		dir = run_of('d', NAMES_KEY_MAX - k->len - room);
		dir.at[dir.len - 1] = ':';
		err = resolve(':', &dir, (const char *)name->at, name->len, &t);
		if (rest == NO_REST)
			assert_true(err < 0);
		else
			assert_int_equal(err, room < rest ? -ENAMETOOLONG : 0);
	}
}

static void test_piece_names(void **state)
{
	static const char *const text[] = {
		"%", "%25", "%00", "0", "2", "+", "\xC3", "\xA9", "\xF0"};
	static const char *const raw[] = {"%", "%", "", "0", "2", "+", "\xC3", "\xA9", "\xF0"};

	for (size_t run = 243; run <= 253; run++) {
		struct row row = {.len = 0};

		do {
			struct bytes k = run_of('x', run), name = k;

			add_row(&k, raw, &row);
			add_row(&name, text, &row);
			add(&name, "%+", 2);
			if (name.len <= NAMES_NAME_MAX)
				check_piece(&k, &name);
		} while (next_row(&row, COUNT(text), 2));
	}
}

/* Where a piece ends whose 253rd byte begins these: before a character, or after a byte of none. */
static void test_cuts(void **state)
{
	static const char *const chars[] = {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
		"\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "%00"};
	static const char *const broken[] = {"\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80",
		"\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "%0"};
	char path[NAMES_PATH_MAX];

	for (size_t i = 0; i < COUNT(chars) + COUNT(broken); i++) {
		bool whole = i < COUNT(chars);
		struct bytes k = run_of('x', 252);

		add_token(&k, whole ? chars[i] : broken[i - COUNT(chars)]);
		add_token(&k, "yyyy");
		assert_int_equal(names_path(':', k.at, k.len, path), 0);
		assert_int_equal(strcspn(path, "/"), (whole ? 252 : 253) + strlen("%+"));
		/* What is special as a whole component is not as the rest of one. */
		k = run_of('x', 253);
		add_token(&k, whole ? "%empty" : "%value");
		check_key(':', &k, path);
	}
}

static void test_examples(void **state)
{
	static const char *const pairs[][2] = {{"feature-flags", "feature-flags"},
		{"feature-flags:cache", "feature-flags/cache"}, {"session:7f3a", "session/7f3a"},
		{"rate:10.0.0.1:29512345", "rate/10.0.0.1/29512345"}, {"user:", "user/%empty"},
		{":a", "%empty/a"}, {":", "%empty/%empty"}, {"a::b", "a/%empty/b"},
		{"assets/logo.png", "assets:logo.png"}, {"img/a:b", "img:a/b"}, {"100%", "100%"},
		{"100%25", "100%2525"}, {"%%25", "%%2525"}, {"%2", "%2"}, {"%2F", "%2F"},
		{"%2e", "%2e"}, {"a%2E", "a%252E"}, {".:..:...", "%2E/%2E./..."},
		{"%empty:%value:a%empty", "%25empty/%25value/a%empty"},
		{"%+:a%+:%+a", "%25+/a%25+/%+a"}};
	static const char *const refused[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/.",
		"a/../b", "%value", "%empty", "%empty/%value", "a/%value/b", "a/%value/%value",
		"%2Ea", "%2E%2E", ".%2E", "%25", "a%25b", "%25empt", "a%25empty", "a%25value", "%+",
		"a%+", "a%25+b", "a%+/b"};
	char path[NAMES_PATH_MAX];
	struct bytes k;

	for (size_t i = 0; i < COUNT(pairs); i++) {
		assert_int_equal(names_path(':', pairs[i][0], strlen(pairs[i][0]), path), 0);
		assert_string_equal(path, pairs[i][1]);
		assert_int_equal(names_key(':', path, strlen(path), k.at, &k.len), 0);
		assert_same(k.at, k.len, pairs[i][0], strlen(pairs[i][0]));
	}
	assert_int_equal(names_path('/', "%\0%00", 5, path), 0);
	assert_string_equal(path, "%%00%2500");
	assert_int_equal(names_key(':', "feature-flags/%value", 20, k.at, &k.len), 0);
	assert_same(k.at, k.len, "feature-flags", 13);
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_int_equal(
			names_key(':', refused[i], strlen(refused[i]), k.at, &k.len), -EINVAL);
	assert_int_equal(names_key(':', "a\0b", 3, k.at, &k.len), -EINVAL);
}

static void test_limits(void **state)
{
	static const char seps[] = "!\"#$&'()*,-/:;<=>?@[\\]^_`{|}~";
	struct bytes k = run_of(':', NAMES_KEY_MAX);
	struct name_target t = {.key_len = 99};
	char path[NAMES_PATH_MAX];
	size_t len;

	for (int c = -128; c < 128; c++)
		assert_int_equal(names_sep_valid((char)c), c && strchr(seps, c) != NULL);
	assert_int_equal(names_path(':', k.at, k.len, path), 0);
	assert_int_equal(strlen(path), NAMES_PATH_MAX - 1);
	assert_int_equal(names_path(':', k.at, k.len + 1, path), -ENAMETOOLONG);
	assert_int_equal(names_path(':', k.at, 0, path), -EINVAL);
	assert_int_equal(names_key_parent(':', k.at, 0, true, k.at, &len, NULL), -EINVAL);
	assert_int_equal(names_key_parent(':', k.at, 513, true, k.at, &len, NULL), -ENAMETOOLONG);

	/* A directory whose id is of the greatest length holds nothing but its key's value. */
	k = run_of('a', NAMES_KEY_MAX);
	add(&k, ":", 1);
	assert_int_equal(resolve(':', &k, "b", 1, &t), -ENAMETOOLONG);
	assert_int_equal(resolve(':', &k, "%empty", 6, &t), -ENAMETOOLONG);
	assert_int_equal(resolve(':', &root, (char *)k.at, 256, &t), -ENAMETOOLONG);
	assert_int_equal(t.key_len, 99);
	assert_int_equal(resolve(':', &k, "%value", 6, &t), 0);
	assert_int_equal(resolve(':', &root, (char *)k.at, 255, &t), 0);
	assert_int_equal(resolve(':', &root, "%empty", 6, &t), 0);
	assert_true(!t.can_key && t.can_dir && t.dir_len == 1);
	add(&k, ":", 1);
	assert_int_equal(resolve(':', &k, "%value", 6, &t), -EINVAL);
}

/* Directory ids of another separator, and entries that are not below. */
static void test_foreign_ids(void **state)
{
	static const char *const ids[] = {"a/", "a", "+", "a+", "a%", "a:b+"};
	unsigned char parent[NAMES_DIR_MAX];
	struct bytes dir = bytes_of(":", 1, true), key = {.len = 0};
	struct name_child child;
	struct name_target t;
	size_t len;

	for (size_t i = 0; i < COUNT(ids); i++) {
		struct bytes id = bytes_of(ids[i], strlen(ids[i]), true);

		assert_int_equal(names_parent(':', id.at, id.len, parent, &len, NULL), -EINVAL);
		assert_int_equal(child_of(':', &root, &id, &child), -ENOENT);
		assert_int_equal(resolve(':', &id, "b", 1, &t), -EINVAL);
	}
	assert_int_equal(names_parent(':', root.at, 0, parent, &len, NULL), -ENOENT);
	assert_int_equal(child_of(':', &dir, &key, &child), -ENOENT);
	assert_int_equal(resolve(':', &dir, "%value", 6, &t), -EINVAL);
	add(&key, ":", 1);
	assert_int_equal(child_of(':', &dir, &key, &child), 0);
	assert_string_equal(child.name, "%empty");
}

static void test_namespaces(void **state)
{
	static const char *const pairs[][2] = {{"a", "a"}, {"a/b", "a%2Fb"}, {"%2F", "%252F"},
		{".", "%2E"}, {"..", "%2E."}, {"...", "..."}, {"%value", "%25value"},
		{"%empty", "%25empty"}, {"100%", "100%"}, {"a%+", "a%25+"}, {"a:b", "a:b"}};
	static const char *const refused[] = {
		"", "%empty", ".", "..", "a/b", "%252", "%value", "a%+", "a%2Eb"};
	char name[NAMES_NAME_MAX + 1], longest[256];
	unsigned char ns[NAMES_NS_MAX];
	size_t len;

	for (size_t i = 0; i < COUNT(pairs); i++) {
		assert_int_equal(names_ns_encode(pairs[i][0], strlen(pairs[i][0]), name), 0);
		assert_string_equal(name, pairs[i][1]);
		assert_int_equal(names_ns_decode(name, strlen(name), ns, &len), 0);
		assert_same(ns, len, pairs[i][0], strlen(pairs[i][0]));
	}
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_int_equal(
			names_ns_decode(refused[i], strlen(refused[i]), ns, &len), -EINVAL);
	assert_int_equal(names_ns_decode("a\0b", 3, ns, &len), -EINVAL);
	assert_int_equal(names_ns_encode("a\0b", 3, name), 0);
	assert_string_equal(name, "a%00b");
	memset(longest, 'n', sizeof(longest));
	assert_int_equal(names_ns_encode(longest, 0, name), -EINVAL);
	assert_int_equal(names_ns_encode(longest, 255, name), 0);
	assert_int_equal(names_ns_encode(longest, 256, name), -ENAMETOOLONG);
	assert_int_equal(names_ns_decode(longest, 256, ns, &len), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples),
		cmocka_unit_test(test_limits), cmocka_unit_test(test_foreign_ids),
		cmocka_unit_test(test_namespaces), cmocka_unit_test(test_short_keys),
		cmocka_unit_test(test_long_keys), cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_piece_names), cmocka_unit_test(test_cuts)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
