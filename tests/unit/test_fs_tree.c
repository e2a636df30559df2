/*
 * test_fs_tree.c - names, directories, renaming and listing in the core of the filesystem.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backends/memory/memory.h"
#include "tests/unit/fs_kit.h"

/* --- names in the tree
 * ---------------------------------------------------------------------------- */

static void test_tree_of_keys(void **state)
{
	struct env e;

	env_open(&e, ':', NULL);
	foreign_put(&e, "feature-flags", "{}");
	assert_true(is_file(&e, "feature-flags"));
	foreign_put(&e, "feature-flags:cache", "c");
	assert_true(is_dir(&e, "feature-flags"));
	assert_string_equal(read_file(&e, "feature-flags/%value"), "{}");
	assert_string_equal(read_file(&e, "feature-flags/cache"), "c");
	assert_string_equal(list(&e, "feature-flags"), "%value cache");
	foreign_put(&e, "user:", "u");
	foreign_put(&e, "a::b", "ab");
	foreign_put(&e, "assets/logo.png", "png");
	assert_string_equal(read_file(&e, "user/%empty"), "u");
	assert_string_equal(read_file(&e, "a/%empty/b"), "ab");
	assert_string_equal(read_file(&e, "assets:logo.png"), "png");
	assert_string_equal(list(&e, ""), "a/ assets:logo.png feature-flags/ user/");
	assert_int_equal(mode_of(&e, "100%25"), -ENOENT);
	assert_int_equal(write_file(&e, "x%00%", "v"), 0);
	assert_int_equal(write_file(&e, "%25x", "v"), -EINVAL);
	assert_int_equal(make_dir(&e, "%value"), -EINVAL);
	assert_int_equal(write_file(&e, "%value", "v"), -EINVAL);
	env_close(&e);
}

/* "To put a key below one that is a file now, make room for it." */
static void test_room_for_a_key(void **state)
{
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "a", "old"), 0);
	assert_int_equal(mode_of(&e, "a/b"), -ENOTDIR);
	assert_int_equal(make_dir(&e, "a"), -EEXIST);
	assert_int_equal(move(&e, "a", "t", 0), 0);
	assert_int_equal(make_dir(&e, "a"), 0);
	assert_int_equal(move(&e, "t", "a/%value", 0), 0);
	assert_int_equal(write_file(&e, "a/b", "new"), 0);
	assert_string_equal(list(&e, "a"), "%value b");
	assert_string_equal(read_file(&e, "a/%value"), "old");
	assert_int_equal(remove_path(&e, "a", true), -ENOTEMPTY);
	assert_int_equal(remove_path(&e, "a/b", false), 0);
	assert_int_equal(remove_path(&e, "a", true), -ENOTEMPTY);
	/* The directory takes its value along. */
	assert_int_equal(move(&e, "a", "c", 0), 0);
	assert_string_equal(read_file(&e, "c/%value"), "old");
	assert_int_equal(mode_of(&e, "a"), -ENOENT);
	env_close(&e);
}

static void test_directories_stay(void **state)
{
	struct env e;

	env_open(&e, '/', NULL);
	foreign_put(&e, "d/e/f", "x");
	assert_int_equal(remove_path(&e, "d/e/f", false), 0);
	assert_true(is_dir(&e, "d/e"));
	assert_int_equal(remove_path(&e, "d/e", true), 0);
	assert_true(is_dir(&e, "d"));
	assert_int_equal(remove_path(&e, "d", true), 0);
	assert_int_equal(mode_of(&e, "d"), -ENOENT);
	/* One that other programs made goes when they remove what is in it. */
	foreign_put(&e, "g/h", "x");
	assert_true(is_dir(&e, "g"));
	foreign_remove(&e, "g/h");
	assert_int_equal(mode_of(&e, "g"), -ENOENT);
	env_close(&e);
}

static void test_rename(void **state)
{
	enum { NOREPLACE = 1, EXCHANGE = 2 };
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "a", "1"), 0);
	assert_int_equal(write_file(&e, "b", "2"), 0);
	assert_int_equal(move(&e, "a", "b", NOREPLACE), -EEXIST);
	assert_int_equal(move(&e, "a", "b", EXCHANGE), 0);
	assert_string_equal(read_file(&e, "a"), "2");
	assert_int_equal(move(&e, "a", "b", 0), 0);
	assert_string_equal(read_file(&e, "b"), "2");
	assert_int_equal(mode_of(&e, "a"), -ENOENT);
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(write_file(&e, "d/x", "x"), 0);
	assert_int_equal(move(&e, "d", "d/sub", 0), -EINVAL);
	assert_int_equal(move(&e, "d", "b", EXCHANGE), 0);
	assert_string_equal(read_file(&e, "b/x"), "x");
	assert_string_equal(read_file(&e, "d"), "2");
	assert_int_equal(make_dir(&e, "full"), 0);
	assert_int_equal(write_file(&e, "full/y", "y"), 0);
	assert_int_equal(move(&e, "b", "full", 0), -ENOTEMPTY);
	assert_int_equal(remove_path(&e, "full/y", false), 0);
	assert_int_equal(move(&e, "b", "full", 0), 0);
	assert_string_equal(list(&e, ""), "d full/");
	assert_string_equal(list(&e, "full"), "x");
	env_close(&e);
}

static int move_tree_fails(struct store *st, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now)
{
	return -EIO;
}

static void times_of(struct env *e, const char *path, struct stat *out)
{
	struct fs_attr attr;
	struct node *n;

	assert_int_equal(walk(e, path, &n, &attr), 0);
	forget(e, n);
	*out = attr.st;
}

/* A directory that could not be renamed has not been changed, nor have those around it. */
static void test_rename_that_fails(void **state)
{
	static const char *const paths[] = {"", "a", "a/d"};
	struct store_ops broken;
	struct stat before[3], after;
	struct env e;

	env_open(&e, '/', NULL);
	foreign_put(&e, "a/d/k", "v");
	for (size_t i = 0; i < 3; i++)
		times_of(&e, paths[i], &before[i]);
	set_clock("1000000100");
	const struct store_ops *ops = e.st->ops;
	broken = *ops;
	broken.move_tree = move_tree_fails;
	e.st->ops = &broken;
	assert_int_equal(move(&e, "a/d", "d", 0), -EIO);
	e.st->ops = ops;
	for (size_t i = 0; i < 3; i++) {
		times_of(&e, paths[i], &after);
		assert_int_equal(after.st_mtim.tv_sec, before[i].st_mtim.tv_sec);
		assert_int_equal(after.st_ctim.tv_sec, before[i].st_ctim.tv_sec);
		assert_int_equal(after.st_ino, before[i].st_ino);
	}
	assert_int_equal(move(&e, "a/d", "d", 0), 0);
	times_of(&e, "a", &after);
	assert_int_equal(after.st_mtim.tv_sec, 1000000100);
	times_of(&e, "d", &after);
	assert_int_equal(after.st_ctim.tv_sec, 1000000100);
	assert_int_equal(after.st_mtim.tv_sec, 1000000000);
	env_close(&e);
}

/* Whether subdirectories are counted depends on what is in the directory, and on nothing that was
 * counted before. */
static void test_links_of_large_directories(void **state)
{
	struct fs_attr attr;
	struct node *n;
	struct env e;
	char path[32];

	env_open(&e, '/', NULL);
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(make_dir(&e, "d/sub"), 0);
	assert_int_equal(walk(&e, "d", &n, &attr), 0);
	assert_int_equal(attr.st.st_nlink, 3);
	for (int i = 1; i < 150; i++) {
		snprintf(path, sizeof(path), "d/%03d", i);
		if (i % 2) {
			assert_int_equal(write_file(&e, path, ""), 0);
		} else {
			assert_int_equal(write_file(&e, "f", ""), 0);
			assert_int_equal(move(&e, "f", path, 0), 0);
		}
		assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
		assert_int_equal(attr.st.st_nlink, i < 99 ? 3 : 1);
	}
	assert_int_equal(make_dir(&e, "elsewhere"), 0);
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_nlink, 1);
	for (int i = 149; i > 0; i--) {
		snprintf(path, sizeof(path), "d/%03d", i);
		assert_int_equal(remove_path(&e, path, false), 0);
		assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
		assert_int_equal(attr.st.st_nlink, i > 99 ? 1 : 3);
	}
	forget(&e, n);
	env_close(&e);
}

/* What the kernel knows a node by is its address; by the generation it tells a new node there from
 * an old one, which file handles may still name. */
static void test_generations(void **state)
{
	struct fs_attr attr;
	struct node *n, *again;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "a", "1"), 0);
	assert_int_equal(write_file(&e, "b", "2"), 0);
	assert_int_equal(walk(&e, "a", &n, &attr), 0);
	uint32_t generation = fs_generation(n);
	assert_int_equal(walk(&e, "a", &again, &attr), 0);
	assert_ptr_equal(n, again);
	assert_int_equal(fs_generation(n), generation);
	assert_int_equal(move(&e, "a", "c", 0), 0);
	assert_int_equal(fs_generation(n), generation);
	forget(&e, n);
	forget(&e, n);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(walk(&e, i ? "c" : "b", &n, &attr), 0);
		assert_int_not_equal(fs_generation(n), generation);
		forget(&e, n);
	}
	env_close(&e);
}

static int sync_fails(struct store *st, uint64_t seq)
{
	return -EIO;
}

/* With -o sync, what could not be made durable is there all the same, and is tried again: the kernel,
 * which was told that it failed, looks again soon. */
static void test_sync_that_fails(void **state)
{
	struct fs_options opt = {.sync = true};
	struct store_ops broken;
	struct fs_attr attr;
	struct node *n;
	double valid;
	struct env e;

	env_open(&e, '/', &opt);
	assert_int_equal(fs_lookup(e.fs, fs_root(e.fs), "d", &n, &attr, &valid), -ENOENT);
	assert_true(valid <= 1);
	const struct store_ops *ops = e.st->ops;
	broken = *ops;
	broken.sync = sync_fails;
	e.st->ops = &broken;
	assert_int_equal(make_dir(&e, "d"), -EIO);
	assert_int_equal(move(&e, "d", "e", 0), -EIO);
	e.st->ops = ops;
	assert_int_equal(fs_lookup(e.fs, fs_root(e.fs), "d", &n, &attr, &valid), -ENOENT);
	assert_int_equal(walk(&e, "e", &n, &attr), 0);
	assert_true(attr.valid <= 1);
	forget(&e, n);
	env_close(&e);
}

static void test_listing_skips(void **state)
{
	struct store_stat before, after;
	struct env e;
	char key[32];

	env_open(&e, ':', NULL);
	for (int i = 0; i < 9000; i++) {
		snprintf(key, sizeof(key), "p%d:%d", i % 3, i);
		foreign_put(&e, key, "v");
	}
	e.st->ops->stat(e.st, &before);
	assert_string_equal(list(&e, ""), "p0/ p1/ p2/");
	e.st->ops->stat(e.st, &after);
	assert_true(after.reads - before.reads < 200);
	env_close(&e);
}

/* What stays for the whole of a listing is returned once, whatever comes and goes. */
static void test_listing_while_changing(void **state)
{
	struct listed l = {0};
	struct listing *dir;
	struct env e;
	char name[32], *save;
	int seen[500] = {0};

	env_open(&e, '/', NULL);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "stay%03d", i);
		foreign_put(&e, name, "v");
		snprintf(name, sizeof(name), "stay%03d.go", i);
		foreign_put(&e, name, "v");
	}
	assert_int_equal(fs_opendir(e.fs, fs_root(e.fs), &dir), 0);
	for (int round = 0;; round++) {
		l.left = 10;
		assert_int_equal(fs_readdir(e.fs, dir, l.next, false, 25, list_one, &l), 0);
		for (char *at = strtok_r(l.text, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
			int i = -1;
			char rest[8] = "";

			if (sscanf(at, "stay%d%7s", &i, rest) == 1)
				seen[i]++;
		}
		l.text[0] = '\0';
		if (l.left)
			break;
		/* One that was seen goes, one that is to come goes, one comes before and one
		 * behind. */
		snprintf(name, sizeof(name), "stay%03d.go", round % 500);
		foreign_remove(&e, name);
		snprintf(name, sizeof(name), "stay%03d.go", 499 - round % 500);
		foreign_remove(&e, name);
		snprintf(name, sizeof(name), "stay%03d.new", (round * 7) % 500);
		foreign_put(&e, name, "v");
	}
	for (int i = 0; i < 500; i++)
		assert_int_equal(seen[i], 1);
	fs_closedir(e.fs, dir);
	env_close(&e);
}

/* A long name's pieces are directories, each listed once although its keys do not lie together. */
static void test_listing_pieces(void **state)
{
	struct env e;
	char x[254], key[300], want[2048];

	env_open(&e, ':', NULL);
	memset(x, 'X', 253);
	x[253] = '\0';
	static const char *const tails[] = {"", "!", "!abc", ":z", "yyyy"};
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		snprintf(key, sizeof(key), "%s%s", x, tails[i]);
		foreign_put(&e, key, tails[i]);
	}
	snprintf(want, sizeof(want), "%s! %s%%+/ %s/", x, x, x);
	assert_string_equal(list(&e, ""), want);
	snprintf(key, sizeof(key), "%s%%+", x);
	assert_string_equal(list(&e, key), "!abc yyyy");
	snprintf(key, sizeof(key), "%s%%+/yyyy", x);
	assert_string_equal(read_file(&e, key), "yyyy");
	snprintf(key, sizeof(key), "%s%%+", x);
	assert_int_equal(move(&e, key, "short", 0), -EXDEV);
	env_close(&e);
}

static void test_positions(void **state)
{
	struct listed l = {0};
	struct listing *dir;
	struct env e;
	uint64_t at[5];

	env_open(&e, '/', NULL);
	for (const char *k = "abc"; *k; k++)
		foreign_put(&e, (char[]){*k, 0}, "v");
	assert_int_equal(fs_opendir(e.fs, fs_root(e.fs), &dir), 0);
	for (int i = 0; i < 5; i++) {
		l.left = 1;
		assert_int_equal(fs_readdir(e.fs, dir, l.next, false, 9, list_one, &l), 0);
		at[i] = l.next;
	}
	assert_string_equal(l.text, "a b c");
	for (int i = 4; i >= 0; i--) {
		static const char *const rest[] = {"a b c", "a b c", "b c", "c", ""};

		l.text[0] = '\0';
		l.left = 9;
		assert_int_equal(fs_readdir(e.fs, dir, at[i], false, 9, list_one, &l), 0);
		assert_string_equal(l.text, rest[i]);
	}
	fs_closedir(e.fs, dir);
	env_close(&e);
}

/* A listing goes on where it was when its directory is renamed meanwhile. */
static void test_listing_of_a_renamed_directory(void **state)
{
	struct listed l = {0};
	struct listing *dir;
	struct fs_attr attr;
	struct node *n;
	struct env e;
	char key[16];

	env_open(&e, '/', NULL);
	for (int i = 0; i < 8; i++) {
		snprintf(key, sizeof(key), "a/k%d", i);
		foreign_put(&e, key, "v");
		snprintf(key, sizeof(key), "m/k%d", i);
		foreign_put(&e, key, "v");
	}
	assert_int_equal(walk(&e, "a", &n, &attr), 0);
	assert_int_equal(fs_opendir(e.fs, n, &dir), 0);
	l.left = 5;
	assert_int_equal(fs_readdir(e.fs, dir, l.next, false, 9, list_one, &l), 0);
	assert_int_equal(move(&e, "a", "zz", 0), 0);
	l.left = 20;
	assert_int_equal(fs_readdir(e.fs, dir, l.next, false, 9, list_one, &l), 0);
	assert_string_equal(l.text, "k0 k1 k2 k3 k4 k5 k6 k7");
	fs_closedir(e.fs, dir);
	forget(&e, n);
	env_close(&e);
}

/* Forward by counting, and back again. */
static void test_positions_not_given_out(void **state)
{
	struct listed l = {0};
	struct listing *dir;
	struct env e;
	char key[16];

	env_open(&e, '/', NULL);
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "k%02d", i);
		foreign_put(&e, key, "v");
	}
	assert_int_equal(fs_opendir(e.fs, fs_root(e.fs), &dir), 0);
	static const struct {
		uint64_t at;
		const char *want;
	} steps[] = {{0, "k00"}, {40, "k38 k39 k40"}, {5, "k03 k04 k05"}, {41, "k39 k40 k41"}};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		l.text[0] = '\0';
		l.left = 3;
		assert_int_equal(fs_readdir(e.fs, dir, steps[i].at, false, 9, list_one, &l), 0);
		assert_string_equal(l.text, steps[i].want);
	}
	fs_closedir(e.fs, dir);
	env_close(&e);
}

/* A rename in the middle of a listing with attributes. */
struct during {
	struct env *e;
	struct node *nodes[16];
	size_t n;
};

static bool rename_during(void *arg, const struct fs_dirent *d)
{
	struct during *u = arg;

	if (!d->node)
		return true;
	assert_true(u->n < 16);
	u->nodes[u->n++] = d->node;
	if (u->n == 2)
		assert_int_equal(move(u->e, "x", "y", 0), 0);
	return true;
}

/* The nodes that such a listing gives are those of the new names: else a file that is made under
 * the old name later would be found under both. */
static void test_rename_while_listing(void **state)
{
	struct env e;
	struct during u = {.e = &e};
	struct listing *dir;
	struct fs_attr attr;
	struct node *n;
	char path[32], key[64];

	env_open(&e, '/', NULL);
	assert_int_equal(make_dir(&e, "x"), 0);
	assert_int_equal(make_dir(&e, "x/sub"), 0);
	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "x/sub/f%d", i);
		assert_int_equal(write_file(&e, path, "old"), 0);
	}
	assert_int_equal(walk(&e, "x/sub", &n, &attr), 0);
	assert_int_equal(fs_opendir(e.fs, n, &dir), 0);
	assert_int_equal(fs_readdir(e.fs, dir, 0, true, 50, rename_during, &u), 0);
	assert_int_equal(u.n, 5);
	for (size_t i = 0; i < u.n; i++) {
		int len = fs_getxattr(e.fs, u.nodes[i], "user.kv.key", key, sizeof(key) - 1);

		assert_true(len > 0);
		key[len] = '\0';
		snprintf(path, sizeof(path), "y/sub/f%d", (int)i);
		assert_string_equal(key, path);
		assert_int_equal(fs_getattr(e.fs, u.nodes[i], &attr), 0);
		fs_forget(e.fs, u.nodes[i], 1);
	}
	fs_closedir(e.fs, dir);
	forget(&e, n);
	env_close(&e);
}

/* A record of a directory's type at a key, and the other way round: as if there were none. */
static void test_types_that_do_not_fit(void **state)
{
	struct env e;
	struct fs_attr attr;

	env_open(&e, '/', NULL);
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(write_file(&e, "d/k", "v"), 0);
	struct record dir = {.mode = S_IFDIR | 0700, .ino = 500},
		      file = {.flags = RECORD_MADE, .mode = S_IFREG | 0600, .ino = 501};
	struct change puts[] = {
		{.op = CHANGE_PUT, .id = {e.ns, ENTRY_KEY, 3, (const void *)"d/k"}, .rec = &dir},
		{.op = CHANGE_PUT, .id = {e.ns, ENTRY_DIR, 2, (const void *)"d/"}, .rec = &file},
		{.op = CHANGE_PUT, .id = {e.ns, ENTRY_DIR, 0, (const void *)""}, .rec = &file},
	};
	assert_int_equal(e.st->ops->apply(e.st, puts, 3, NULL), 0);
	assert_int_equal(fs_getattr(e.fs, fs_root(e.fs), &attr), 0);
	assert_true(S_ISDIR(attr.st.st_mode));
	assert_int_equal(mode_of(&e, "d"), S_IFDIR | 0755);
	assert_int_equal(mode_of(&e, "d/k"), S_IFREG | 0644);
	assert_string_equal(list(&e, "d"), "k");
	assert_string_equal(read_file(&e, "d/k"), "v");
	assert_int_equal(remove_path(&e, "d/k", false), 0);
	assert_true(is_dir(&e, "d"));
	assert_int_equal(remove_path(&e, "d", true), 0);
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_of_keys),
		cmocka_unit_test(test_room_for_a_key),
		cmocka_unit_test(test_directories_stay),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_rename_that_fails),
		cmocka_unit_test(test_links_of_large_directories),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_sync_that_fails),
		cmocka_unit_test(test_listing_skips),
		cmocka_unit_test(test_listing_while_changing),
		cmocka_unit_test(test_listing_pieces),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_listing_of_a_renamed_directory),
		cmocka_unit_test(test_positions_not_given_out),
		cmocka_unit_test(test_rename_while_listing),
		cmocka_unit_test(test_types_that_do_not_fit),
	};

	return fs_kit_run(tests, sizeof(tests) / sizeof(tests[0]));
}
