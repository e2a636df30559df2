/*
 * test_fs_values.c - content, attributes and namespaces in the core.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/memory/memory.h"
#include "fs/core/core.h"
#include "tests/unit/fs_kit.h"

/* --- content
 * ---------------------------------------------------------------------------------------- */

/* The store sees whole values only: nothing before the close. */
static void test_store_sees_whole_values(void **state)
{
	struct handle *h;
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &h, &attr), 0);
	assert_int_equal(fs_write(e.fs, h, 0, "half", 4, false), 0);
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_size, 4);
	assert_string_equal(list(&e, ""), "k");
	assert_int_equal(fs_write(e.fs, h, 4, " whole", 6, false), 0);
	assert_int_equal(fs_fsync(e.fs, h, NULL), 0);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "half whole");
	env_close(&e);
}

static void test_open_outlives_unlink(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *n;
	char text[64];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "value"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &h), 0);
	assert_int_equal(remove_path(&e, "k", false), 0);
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	assert_int_equal(write_file(&e, "k", "other"), 0);
	assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
	assert_string_equal(text, "value");
	assert_int_equal(fs_write(e.fs, h, 5, "!", 1, false), 0);
	assert_int_equal(fs_flush(e.fs, h, 0), 0);
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_nlink, 0);
	assert_int_equal(attr.st.st_size, 6);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "other");
	env_close(&e);
}

/* --- attributes while content is stored ------------------------------------------------------ */

/* A store whose next view to end is followed by the close of a file. */
static struct closing {
	struct store_ops ops;
	void (*view_end)(struct view *v);
	struct fs *fs;
	struct handle *handle; /* NULL: no more */
} closing;

static void end_view_and_close(struct view *v)
{
	struct handle *h = closing.handle;

	closing.view_end(v);
	closing.handle = NULL;
	if (h) {
		assert_int_equal(fs_flush(closing.fs, h, 0), 0);
		fs_release_file(closing.fs, h);
	}
}

static void write_and_close_after_next_view(struct env *e, struct node *n, const char *text)
{
	struct handle *h;

	assert_int_equal(fs_open_file(e->fs, n, true, true, 0, &h), 0);
	assert_int_equal(fs_write(e->fs, h, 0, text, strlen(text), false), 0);
	closing.handle = h;
}

static bool size_of_only_one(void *arg, const struct fs_dirent *d)
{
	struct stat *st = arg;

	if (d->node) {
		*st = d->attr.st;
		fs_forget(closing.fs, d->node, 1);
	}
	return true;
}

static int know_all(struct store *st, struct want *want)
{
	return 0;
}

/* What is dirty when an answer is begun may be stored when it is ended. The answer must not say
 * what was before both: the kernel would go on believing it. */
static void test_attributes_while_content_is_stored(void **state)
{
	struct node *n, *same;
	struct fs_attr attr;
	struct listing *l;
	struct env e;
	double valid;

	env_open(&e, '/', NULL);
	closing.ops = *e.st->ops;
	closing.view_end = e.st->ops->view_end;
	closing.ops.view_end = end_view_and_close;
	closing.fs = e.fs;
	closing.handle = NULL;
	e.st->ops = &closing.ops;
	assert_int_equal(write_file(&e, "k", ""), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	write_and_close_after_next_view(&e, n, "1");
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_null(closing.handle);
	assert_int_equal(attr.st.st_size, 1);
	write_and_close_after_next_view(&e, n, "22");
	assert_int_equal(fs_lookup(e.fs, fs_root(e.fs), "k", &same, &attr, &valid), 0);
	assert_null(closing.handle);
	assert_int_equal(attr.st.st_size, 2);
	forget(&e, same);
	/* A listing has the attributes of what is known already behind a cache only. */
	closing.ops.prepare = know_all;
	assert_int_equal(fs_opendir(e.fs, fs_root(e.fs), &l), 0);
	write_and_close_after_next_view(&e, n, "333");
	assert_int_equal(fs_readdir(e.fs, l, 2, true, 10, size_of_only_one, &attr.st), 0);
	assert_null(closing.handle);
	assert_int_equal(attr.st.st_size, 3);
	fs_closedir(e.fs, l);
	forget(&e, n);
	env_close(&e);
}

static void test_rename_of_an_open_file(void **state)
{
	struct handle *h;
	struct fs_caller who = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "t", 0600, who, &n, &h, &attr), 0);
	assert_int_equal(fs_write(e.fs, h, 0, "new", 3, false), 0);
	assert_int_equal(make_dir(&e, "d"), 0);
	assert_int_equal(move(&e, "t", "d/t", 0), 0);
	assert_int_equal(move(&e, "d", "c", 0), 0);
	assert_int_equal(fs_flush(e.fs, h, 0), 0);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "c/t"), "new");
	assert_string_equal(list(&e, ""), "c/");
	env_close(&e);
}

/* --- what a close publishes ------------------------------------------------------------------- */

/* The value of a key as the store has it. */
static const char *stored(struct env *e, const char *key)
{
	static char text[64];
	struct entry_id id = {.ns = e->ns,
		.kind = ENTRY_KEY,
		.len = (uint16_t)strlen(key),
		.bytes = (const unsigned char *)key};
	struct value v;

	if (e->st->ops->read(e->st, &id, 0, &v))
		return NULL;
	int64_t n = value_read(&v, 0, text, sizeof(text) - 1);
	value_release(&v);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

/* The kernel tells of a release some time after the close: by then somebody else may be halfway
 * through the next value. */
static void test_release_publishes_only_its_own(void **state)
{
	struct handle *first, *second, *reader;
	const struct stat empty = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "old"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, true, 0, &first), 0);
	assert_int_equal(fs_write(e.fs, first, 0, "first", 5, false), 0);
	assert_int_equal(fs_flush(e.fs, first, 0), 0);
	assert_string_equal(stored(&e, "k"), "first");
	assert_int_equal(fs_open_file(e.fs, n, false, false, 0, &reader), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, true, 0, &second), 0);
	assert_int_equal(fs_write(e.fs, second, 0, "sec", 3, false), 0);
	assert_int_equal(fs_flush(e.fs, first, 0), 0);
	fs_release_file(e.fs, first);
	assert_string_equal(stored(&e, "k"), "first");
	assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &first), 0);
	assert_int_equal(fs_write(e.fs, first, 0, "lost", 4, false), 0);
	assert_int_equal(fs_setattr(e.fs, n, &empty, FS_SET_SIZE, second, &attr), 0);
	assert_int_equal(fs_flush(e.fs, first, 0), 0);
	fs_release_file(e.fs, first);
	assert_string_equal(stored(&e, "k"), "first");
	assert_int_equal(fs_write(e.fs, second, 0, "sec", 3, false), 0);
	assert_int_equal(fs_fsync(e.fs, reader, NULL), 0);
	assert_int_equal(fs_flush(e.fs, reader, 0), 0);
	fs_release_file(e.fs, reader);
	assert_string_equal(stored(&e, "k"), "first");
	assert_int_equal(fs_write(e.fs, second, 3, "ond", 3, false), 0);
	assert_int_equal(fs_flush(e.fs, second, 0), 0);
	assert_string_equal(stored(&e, "k"), "second");
	fs_release_file(e.fs, second);
	fs_forget(e.fs, n, 1);
	env_close(&e);
}

/* Between O_TRUNC and the end of open(2) a process has no descriptor of the file yet: it has not closed
 * it, for all that. */
static void test_sync_publishes_nothing_that_is_being_opened(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "old"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, true, (uint32_t)getpid(), &h), 0);
	assert_int_equal(fs_sync_all(e.fs, NULL), 0);
	assert_string_equal(stored(&e, "k"), "old");
	assert_int_equal(fs_write(e.fs, h, 0, "new", 3, false), 0);
	assert_int_equal(fs_flush(e.fs, h, (uint32_t)getpid()), 0);
	assert_string_equal(stored(&e, "k"), "new");
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	env_close(&e);
}

/* The kernel picks any handle for what comes from a mapping: every writer's close publishes it. */
static void test_close_publishes_what_was_mapped(void **state)
{
	struct handle *mapping, *other;
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "old"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &mapping), 0);
	assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &other), 0);
	assert_int_equal(fs_write(e.fs, other, 0, "new", 3, true), 0);
	assert_int_equal(fs_fsync(e.fs, mapping, NULL), 0);
	assert_string_equal(stored(&e, "k"), "new");
	fs_release_file(e.fs, mapping);
	fs_release_file(e.fs, other);
	fs_forget(e.fs, n, 1);
	env_close(&e);
}

/* truncate(2) changes what somebody else has open: that one's fsync and close store it, although it
 * has not been written to since; and with -o sync it does not wait for them. */
static void test_writer_publishes_what_was_truncated(void **state)
{
	const struct fs_options sync = {.sync = true};
	const struct stat sizes[] = {{.st_size = 2}, {.st_size = 0}};
	struct handle *writer;
	struct fs_attr attr;
	struct node *n;
	struct env e;

	for (int i = 0; i < 4; i++) {
		const char *want = i % 2 ? "" : "wr";

		env_open(&e, '/', i < 2 ? NULL : &sync);
		assert_int_equal(write_file(&e, "k", "old"), 0);
		assert_int_equal(walk(&e, "k", &n, &attr), 0);
		assert_int_equal(fs_open_file(e.fs, n, true, false, 0, &writer), 0);
		assert_int_equal(fs_write(e.fs, writer, 0, "written", 7, false), 0);
		assert_int_equal(fs_fsync(e.fs, writer, NULL), 0);
		assert_string_equal(stored(&e, "k"), "written");
		assert_int_equal(fs_setattr(e.fs, n, &sizes[i % 2], FS_SET_SIZE, NULL, &attr), 0);
		if (i < 2)
			assert_int_equal(fs_fsync(e.fs, writer, NULL), 0);
		assert_string_equal(stored(&e, "k"), want);
		fs_release_file(e.fs, writer);
		fs_forget(e.fs, n, 1);
		env_close(&e);
	}
}

/* A store whose values are read only while changes can be made. */
static struct unhindered {
	struct store_ops ops;
	int (*read)(struct store *st, const struct entry_id *id, int64_t now, struct value *out);
	struct fs *fs;
	unsigned reads;
} unhindered;

static int read_unhindered(
	struct store *st, const struct entry_id *id, int64_t now, struct value *out)
{
	assert_true(lock_try(&unhindered.fs->change));
	lock_drop(&unhindered.fs->change);
	unhindered.reads++;
	return unhindered.read(st, id, now, out);
}

/* What is open is copied before it is removed or replaced, however large it is; not while everybody
 * else waits. */
static void test_removing_what_is_open_hinders_nobody(void **state)
{
	static char data[100000];
	const char *const names[] = {"removed", "replaced"};
	struct handle *h[2];
	struct node *n[2];
	struct fs_attr attr;
	struct env e;

	env_open(&e, '/', NULL);
	memset(data, 'd', sizeof(data) - 1);
	assert_int_equal(write_file(&e, "tmp", "new"), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write_file(&e, names[i], data), 0);
		assert_int_equal(walk(&e, names[i], &n[i], &attr), 0);
		assert_int_equal(fs_open_file(e.fs, n[i], false, false, 0, &h[i]), 0);
	}
	unhindered.ops = *e.st->ops;
	unhindered.read = e.st->ops->read;
	unhindered.fs = e.fs;
	unhindered.reads = 0;
	unhindered.ops.read = read_unhindered;
	const struct store_ops *ops = e.st->ops;
	e.st->ops = &unhindered.ops;
	assert_int_equal(remove_path(&e, "removed", false), 0);
	assert_int_equal(unhindered.reads, 1);
	e.st->ops = ops;
	assert_int_equal(move(&e, "tmp", "replaced", 0), 0);
	for (int i = 0; i < 2; i++) {
		static char back[sizeof(data)];

		assert_int_equal(fs_read(e.fs, n[i], 0, sizeof(back) - 1, take_all, back), 0);
		assert_string_equal(back, data);
		fs_release_file(e.fs, h[i]);
		fs_forget(e.fs, n[i], 1);
	}
	env_close(&e);
}

/* --- what others do
 * -------------------------------------------------------------------------------- */

static void test_numbers_stay(void **state)
{
	struct fs_attr first, again;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	foreign_put(&e, "theirs", "v");
	assert_int_equal(walk(&e, "theirs", &n, &first), 0);
	forget(&e, n);
	set_clock("1000000500");
	assert_int_equal(walk(&e, "theirs", &n, &again), 0);
	forget(&e, n);
	assert_int_equal(first.st.st_ino, again.st.st_ino);
	assert_int_equal(first.st.st_mtim.tv_sec, again.st.st_mtim.tv_sec);
	assert_int_equal(first.st.st_mode, S_IFREG | 0644);
	assert_int_equal(move(&e, "theirs", "ours", 0), 0);
	assert_int_equal(walk(&e, "ours", &n, &again), 0);
	forget(&e, n);
	/* Another program may make another key of the old name: the two differ. */
	foreign_put(&e, "theirs", "v");
	assert_int_equal(walk(&e, "theirs", &n, &first), 0);
	forget(&e, n);
	assert_int_not_equal(first.st.st_ino, again.st.st_ino);
	env_close(&e);
}

static void test_namespaces(void **state)
{
	struct fs_options opt = {.separator = '/', .umask = 022};
	struct env e;

	assert_int_equal(memory_store_open(&e.st), 0);
	assert_int_equal(fs_open(e.st, FS_NS_ALL, &opt, &e.fs), 0);
	assert_int_equal(make_dir(&e, "one"), 0);
	assert_int_equal(make_dir(&e, "one"), -EEXIST);
	assert_int_equal(make_dir(&e, "a%2Fb"), 0);
	assert_int_equal(write_file(&e, "file", "v"), -EPERM);
	assert_int_equal(write_file(&e, "one/k", "v"), 0);
	assert_string_equal(list(&e, ""), "a%2Fb/ one/");
	assert_int_equal(remove_path(&e, "one", true), -ENOTEMPTY);
	assert_int_equal(move(&e, "one/k", "k", 0), -EPERM);
	assert_int_equal(move(&e, "one", "a%2Fb/one", 0), -EXDEV);
	assert_int_equal(move(&e, "one/k", "a%2Fb/k", 0), 0);
	assert_string_equal(read_file(&e, "a%2Fb/k"), "v");
	assert_int_equal(move(&e, "a%2Fb", "two", 0), 0);
	assert_string_equal(read_file(&e, "two/k"), "v");
	assert_int_equal(move(&e, "two", "one", 0), 0);
	assert_string_equal(list(&e, ""), "one/");
	assert_string_equal(list(&e, "one"), "k");
	assert_int_equal(remove_path(&e, "one/k", false), 0);
	assert_int_equal(remove_path(&e, "one", true), 0);
	assert_string_equal(list(&e, ""), "");
	env_close(&e);
}

static void test_attributes_of_an_unlinked_file(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *n;
	char text[16];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "v"), 0);
	assert_int_equal(set_xattr(&e, "k", "user.a", "1"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, n, false, false, 0, &h), 0);
	assert_int_equal(remove_path(&e, "k", false), 0);
	assert_int_equal(fs_getxattr(e.fs, n, "user.a", text, sizeof(text)), 1);
	assert_int_equal(fs_setxattr(e.fs, n, "user.b", "22", 2, 0), 0);
	assert_int_equal(fs_getxattr(e.fs, n, "user.b", text, sizeof(text)), 2);
	assert_int_equal(fs_listxattr(e.fs, n, NULL, 0), 14);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_int_equal(mode_of(&e, "k"), -ENOENT);
	env_close(&e);
}

/* Who looked a file up before it was replaced, and opens it after, gets it as it was. */
static void test_open_of_a_replaced_file(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *n;
	char text[64];
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "k", "before"), 0);
	assert_int_equal(walk(&e, "k", &n, &attr), 0);
	replace_file(&e, "k", "after all");
	assert_int_equal(fs_getattr(e.fs, n, &attr), 0);
	assert_int_equal(attr.st.st_size, 6);
	assert_int_equal(fs_open_file(e.fs, n, false, false, 0, &h), 0);
	assert_int_equal(fs_read(e.fs, n, 0, 63, take_all, text), 0);
	assert_string_equal(text, "before");
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	env_close(&e);
}

/* The kernel does not forget what it knows before it is unmounted; nothing of that is lost or left
 * over. */
static void test_close_with_unlinked_nodes(void **state)
{
	struct handle *h;
	struct fs_attr attr;
	struct node *known, *open;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(write_file(&e, "known", "v"), 0);
	assert_int_equal(write_file(&e, "open", "v"), 0);
	assert_int_equal(walk(&e, "known", &known, &attr), 0);
	assert_int_equal(walk(&e, "open", &open, &attr), 0);
	assert_int_equal(fs_open_file(e.fs, open, true, false, 0, &h), 0);
	assert_int_equal(fs_write(e.fs, h, 0, "w", 1, false), 0);
	assert_int_equal(remove_path(&e, "known", false), 0);
	assert_int_equal(remove_path(&e, "open", false), 0);
	env_close(&e);
}

static void test_greatest_value(void **state)
{
	struct handle *h;
	struct fs_caller who = {0};
	struct stat to = {0};
	struct fs_attr attr;
	struct node *n;
	struct env e;

	env_open(&e, '/', NULL);
	assert_int_equal(fs_create(e.fs, fs_root(e.fs), "k", 0600, who, &n, &h, &attr), 0);
	assert_int_equal(fs_write(e.fs, h, e.st->value_max, "x", 1, false), -EFBIG);
	to.st_size = (off_t)e.st->value_max + 1;
	assert_int_equal(fs_setattr(e.fs, n, &to, FS_SET_SIZE, h, &attr), -EFBIG);
	assert_int_equal(fs_fallocate(e.fs, h, 0, e.st->value_max, 1), -EFBIG);
	assert_int_equal(fs_write(e.fs, h, 0, "x", 1, false), 0);
	assert_int_equal(fs_flush(e.fs, h, 0), 0);
	fs_release_file(e.fs, h);
	fs_forget(e.fs, n, 1);
	assert_string_equal(read_file(&e, "k"), "x");
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attributes_of_an_unlinked_file),
		cmocka_unit_test(test_open_of_a_replaced_file),
		cmocka_unit_test(test_greatest_value),
		cmocka_unit_test(test_close_with_unlinked_nodes),
		cmocka_unit_test(test_store_sees_whole_values),
		cmocka_unit_test(test_release_publishes_only_its_own),
		cmocka_unit_test(test_sync_publishes_nothing_that_is_being_opened),
		cmocka_unit_test(test_close_publishes_what_was_mapped),
		cmocka_unit_test(test_writer_publishes_what_was_truncated),
		cmocka_unit_test(test_removing_what_is_open_hinders_nobody),
		cmocka_unit_test(test_open_outlives_unlink),
		cmocka_unit_test(test_attributes_while_content_is_stored),
		cmocka_unit_test(test_rename_of_an_open_file),
		cmocka_unit_test(test_numbers_stay),
		cmocka_unit_test(test_namespaces),
	};

	return fs_kit_run(tests, sizeof(tests) / sizeof(tests[0]));
}
