/*
 * lmdb_hostile.c - environments that are damaged, or made to do damage: what LMDB could not follow
 * is refused before it sees it, what it can follow is used, and nothing of it ends or stops us.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/lmdb/check.h"
#include "backends/lmdb/disk.h"
#include "tests/unit/lmdb_kit.h"

enum { PAGE = 4096, MARK_LEN = 16 };

/* --- what is sound is never refused --------------------------------------------------------------- */

static const unsigned kinds[] = {0, MDB_DUPSORT, MDB_DUPSORT | MDB_DUPFIXED, MDB_REVERSEKEY,
	MDB_INTEGERKEY, MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP};

enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

static void random_put(MDB_txn *txn, size_t kind, unsigned *seed)
{
	static char bytes[60000];
	char name[24], key[512];
	size_t key_len = 1 + (size_t)rand_r(seed) % (rand_r(seed) % 8 ? 20 : 511);
	size_t len = (size_t)rand_r(seed) % (rand_r(seed) % 8 ? 100 : sizeof(bytes));

	snprintf(name, sizeof(name), kind == 1 ? "kvfs:expiry" : "kind%zu", kind);
	if (kinds[kind] & MDB_DUPSORT) {
		key_len = 1; /* so that there are many of one */
		len = kinds[kind] & MDB_DUPFIXED ? 8 : 1 + len % 500;
	}
	if (kinds[kind] & MDB_INTEGERKEY)
		key_len = 8;
	for (size_t i = 0; i < key_len; i++)
		key[i] = (char)rand_r(seed);
	for (size_t i = 0; i < 8; i++)
		bytes[i] = (char)rand_r(seed);
	MDB_val k = {key_len, key}, v = {len, bytes};
	MDB_dbi dbi = raw_open(txn, name, kinds[kind] | MDB_CREATE);
	int rc = rand_r(seed) % 4 ? mdb_put(txn, dbi, &k, &v, 0) : mdb_del(txn, dbi, &k, NULL);
	if (rc && rc != MDB_NOTFOUND)
		fail_msg("%s: %s", name, mdb_strerror(rc));
	if (rand_r(seed) % 400 == 0)
		assert_int_equal(mdb_drop(txn, dbi, rand_r(seed) % 2), 0);
}

static void assert_sound(struct kit *k)
{
	struct check_info info;
	int fd = open(k->data, O_RDONLY);

	assert_true(fd >= 0);
	int rc = check_environment(fd, &info, k->why, sizeof(k->why));
	close(fd);
	if (rc)
		fail_msg("%s", k->why);
}

static void test_whatever_lmdb_makes_is_sound(void **state)
{
	struct kit *k = *state;
	unsigned seed = 1;
	MDB_env *env;
	MDB_txn *txn;

	assert_int_equal(mkdir(k->dir, 0700), 0);
	for (int round = 0; round < 20; round++) {
		assert_int_equal(mdb_env_create(&env), 0);
		mdb_env_set_maxdbs(env, 16);
		mdb_env_set_mapsize(env, 256 << 20);
		assert_int_equal(mdb_env_open(env, k->dir, MDB_NOSYNC, 0600), 0);
		for (int commit = 0; commit < 10; commit++) {
			assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
			for (int i = rand_r(&seed) % 60; i >= 0; i--)
				random_put(txn, (size_t)rand_r(&seed) % KINDS, &seed);
			assert_int_equal(mdb_txn_commit(txn), 0);
			assert_sound(k);
		}
		mdb_env_close(env);
	}
}

/* --- what is not ---------------------------------------------------------------------------------- */

static void some(MDB_txn *txn)
{
	char key[16], value[6000];

	memset(value, 'v', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "key%04d", i);
		value[100] = '\0';
		raw_put(txn, "main", MDB_CREATE, key, value);
	}
	value[100] = 'v';
	raw_put(txn, "main", 0, "large", value);
	raw_put(txn, "main", 0, "freed", value);
}

static void free_some(MDB_txn *txn)
{
	MDB_val key = {5, (void *)(uintptr_t) "freed"};

	if (mdb_del(txn, raw_open(txn, "main", 0), &key, NULL))
		_exit(5);
}

/* The data file, changed by `spoil`, which sees it as an array of pages. */
struct file {
	unsigned char *bytes;
	size_t pages;
	struct disk_meta *newest;
};

static struct disk_page *page_of(struct file *f, uint64_t number)
{
	return (struct disk_page *)(void *)(f->bytes + number * PAGE);
}

static uint16_t *offset_of(struct disk_page *p, size_t i)
{
	return (uint16_t *)(void *)((char *)p + PAGE_HEAD) + i;
}

/* Calls it for every page of a kind: some are of older snapshots, and do not count. */
static void each_page(struct file *f, unsigned flags, void (*spoil)(struct disk_page *p))
{
	size_t n = 0;

	for (uint64_t i = 2; i < f->pages; i++) {
		struct disk_page *p = page_of(f, i);

		if (p->pgno == i && p->flags == flags &&
			(flags == PAGE_OVERFLOW || p->lower >= PAGE_HEAD + 10)) {
			spoil(p);
			n++;
		}
	}
	assert_true(n > 0);
}

static void dirty_page(struct disk_page *p)
{
	p->flags |= PAGE_DIRTY;
}

static void wrong_number(struct disk_page *p)
{
	p->pgno++;
}

static void node_beyond_the_page(struct disk_page *p)
{
	*offset_of(p, 3) = PAGE - 4;
}

static void node_over_another(struct disk_page *p)
{
	*offset_of(p, 3) = *offset_of(p, 4);
}

static void value_beyond_the_page(struct disk_page *p)
{
	*(uint16_t *)(void *)((char *)p + *offset_of(p, 0)) = 60000;
}

static void no_such_kind_of_node(struct disk_page *p)
{
	*(uint16_t *)(void *)((char *)p + *offset_of(p, 0) + 4) = NODE_DUPS;
}

static void too_few_pages(struct disk_page *p)
{
	p->lower = 1;
}

static void beyond_the_end(struct disk_page *p)
{
	p->lower = p->upper = UINT16_MAX;
}

static void one_child(struct disk_page *p)
{
	p->lower = PAGE_HEAD + 2;
}

static void child_of_itself(struct disk_page *p)
{
	uint32_t number = (uint32_t)p->pgno;

	memcpy((char *)p + *offset_of(p, 1), &number, sizeof(number));
}

static void wrong_depth(struct file *f)
{
	f->newest->dbs[1].depth++;
}

static void tree_of_free_pages_with_duplicates(struct file *f)
{
	f->newest->dbs[0].flags |= DB_DUPSORT;
}

static void transaction_in_the_other_page(struct file *f)
{
	f->newest->txn += 3;
}

/* A page that is in use: LMDB would write over it. */
static void free_page_in_use(struct file *f)
{
	struct disk_page *list = page_of(f, f->newest->dbs[0].root);
	unsigned char *node = (unsigned char *)list + *offset_of(list, 0);
	uint64_t used = f->newest->dbs[1].root, n;

	memcpy(&n, node + NODE_HEAD + 8, sizeof(n));
	assert_true(n >= 1);
	memcpy(node + NODE_HEAD + 16 + 8 * (n - 1), &used, sizeof(used));
}

static void load(struct kit *k, struct file *f)
{
	struct stat st;
	int fd = open(k->data, O_RDONLY);

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	f->pages = (size_t)st.st_size / PAGE;
	f->bytes = malloc((size_t)st.st_size);
	assert_int_equal(read(fd, f->bytes, (size_t)st.st_size), st.st_size);
	close(fd);
	struct disk_meta *m = (struct disk_meta *)(void *)f->bytes,
			 *second = (struct disk_meta *)(void *)(f->bytes + PAGE);
	f->newest = second->txn > m->txn ? second : m;
}

static void store_file(struct kit *k, const void *bytes, size_t pages)
{
	int fd = open(k->data, O_WRONLY | O_TRUNC);

	assert_int_equal(write(fd, bytes, pages * PAGE), pages * PAGE);
	close(fd);
}

static void test_what_lmdb_cannot_follow_is_refused(void **state)
{
	struct kit *k = *state;
	static const struct {
		unsigned flags;
		void (*page)(struct disk_page *p);
		void (*file)(struct file *f);
	} spoil[] = {{PAGE_LEAF, dirty_page, NULL}, {PAGE_LEAF, wrong_number, NULL},
		{PAGE_LEAF, node_beyond_the_page, NULL}, {PAGE_LEAF, node_over_another, NULL},
		{PAGE_LEAF, value_beyond_the_page, NULL}, {PAGE_LEAF, no_such_kind_of_node, NULL},
		{PAGE_OVERFLOW, too_few_pages, NULL}, {PAGE_OVERFLOW, beyond_the_end, NULL},
		{PAGE_BRANCH, one_child, NULL}, {PAGE_BRANCH, child_of_itself, NULL},
		{0, NULL, wrong_depth}, {0, NULL, tree_of_free_pages_with_duplicates},
		{0, NULL, transaction_in_the_other_page}, {0, NULL, free_page_in_use}};
	struct file good;

	if (sysconf(_SC_PAGESIZE) != PAGE)
		skip();
	assert_int_equal(mkdir(k->dir, 0700), 0);
	kit_foreign(k, some);
	kit_foreign(k, free_some);
	load(k, &good);
	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		struct file f;

		store_file(k, good.bytes, good.pages);
		load(k, &f);
		if (spoil[i].page)
			each_page(&f, spoil[i].flags, spoil[i].page);
		else
			spoil[i].file(&f);
		store_file(k, f.bytes, f.pages);
		if (kit_try(k) != -EINVAL)
			fail_msg("%zu was not refused", i);
		assert_non_null(strstr(k->why, "damaged"));
		free(f.bytes);
	}
	store_file(k, good.bytes, good.pages);
	assert_int_equal(kit_try(k), 0);
	free(good.bytes);
}

/* --- what it can follow, and we could not ----------------------------------------------------------- */

static const char MARK[MARK_LEN + 1] = "m-a-r-k-m-a-r-k-";

static void marked(MDB_txn *txn)
{
	char key[512], value[400];

	snprintf(key, sizeof(key), "%-500s", MARK);
	snprintf(value, sizeof(value), "%399s", "");
	raw_put(txn, "main", MDB_CREATE, key, value);
	raw_put(txn, "main", 0, "a", "1");
	raw_put(txn, "main", 0, "z", "2");
}

/* LMDB can be built for longer keys than 511 bytes. One is made of a key and its value here. */
static void test_keys_that_are_too_long(void **state)
{
	struct kit *k = *state;
	uint16_t len = 500 + 300;
	uint32_t size = 99;
	struct entry_id found;
	struct scan *scan;
	struct file f;
	struct view *v;

	assert_int_equal(mkdir(k->dir, 0700), 0);
	kit_foreign(k, marked);
	load(k, &f);
	unsigned char *at = memmem(f.bytes, f.pages * PAGE, MARK, MARK_LEN);
	for (unsigned char *next = at; next;
		next = memmem(
			at + 1, f.pages * PAGE - (size_t)(at + 1 - f.bytes), MARK, MARK_LEN)) {
		at = next;
		memcpy(at - 2, &len, sizeof(len));
		memcpy(at - NODE_HEAD, &size, sizeof(size));
	}
	store_file(k, f.bytes, f.pages);
	free(f.bytes);
	kit_open(k);
	assert_int_equal(k->ops->view_begin(k->st, NOW, &v), 0);
	assert_int_equal(k->ops->scan_open(v, k->ns, ENTRY_KEY, &scan), 0);
	assert_int_equal(k->ops->scan_seek(scan, "", 0, &found), 0);
	assert_memory_equal(found.bytes, "a", 1);
	assert_int_equal(k->ops->scan_seek(scan, "b", 1, &found), 0);
	assert_int_equal(found.len, 1);
	assert_memory_equal(found.bytes, "z", 1);
	k->ops->scan_close(scan);
	k->ops->view_end(v);
	/* What cannot be seen is not removed either. */
	assert_int_equal(kit_drop(k, "a"), 0);
	assert_int_equal(kit_drop(k, "z"), 0);
	assert_int_equal(k->ops->ns_remove(k->st, k->ns, NOW), -EIO);
	assert_int_equal(k->ops->ns_rename(k->st, k->ns, "new", 3, NOW), -EIO);
	kit_put(k, "b", "3");
	kit_reopen(k);
	kit_expect(k, "b", "3");
}

static void last_ids(MDB_txn *txn)
{
	MDB_val one = {5, (void *)(uintptr_t) "n\xff\xff\xff\xff"},
		name = {6, (void *)(uintptr_t) "second"},
		two = {5, (void *)(uintptr_t) "n\xff\xff\xff\xfe"},
		other = {5, (void *)(uintptr_t) "third"};
	MDB_dbi meta = raw_open(txn, "kvfs:meta", 0);

	if (mdb_put(txn, meta, &one, &name, 0) || mdb_put(txn, meta, &two, &other, 0))
		_exit(5);
	raw_put(txn, "second", MDB_CREATE, "k", "v");
}

/* The number after the last one would be no number, and the last one is another thing's. */
static void test_the_last_ids_of_namespaces(void **state)
{
	struct kit *k = *state;
	uint32_t ns;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_close(k);
	kit_foreign(k, last_ids);
	kit_open(k);
	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "new%d", i);
		assert_int_equal(k->ops->ns_create(k->st, name, 4, NULL, &ns), 0);
		k->ns = ns;
		kit_put(k, "key", name);
	}
	kit_sync(k);
	kit_expect(k, "key", "new2");
	kit_close(k);
	kit_open(k);
	kit_expect(k, "a", "one");
	assert_int_equal(k->ops->ns_find(k->st, "new2", 4, &k->ns), 0);
	kit_expect(k, "key", "new2");
}

/* Records and values that stand under names that we would not give them. */
static void other_names(MDB_txn *txn)
{
	static const char *const dbs[] = {"kvfs:nodes", "kvfs:long"};
	static const char *const names[] = {"\0\0\0\1\x80\0\0\0\0\0\0\0\1",
		"\0\0\0\1\x80\0\0\0\0\0\0\0\1tail", "\0\0\0\1\x07xxxxxxxxxx", "\0\0\0\1\x80"};
	static const size_t lens[] = {13, 17, 15, 5};
	MDB_val value = {1, (void *)(uintptr_t) "v"};

	for (size_t i = 0; i < 2; i++) {
		for (size_t n = 0; n < 4; n++) {
			MDB_val key = {lens[n], (void *)(uintptr_t)names[n]};

			if (mdb_put(txn, raw_open(txn, dbs[i], 0), &key, &value, 0))
				_exit(5);
		}
	}
}

static void other_names_are_gone(MDB_txn *txn)
{
	if (raw_count(txn, "kvfs:nodes") || raw_count(txn, "kvfs:long"))
		_exit(5);
}

static void test_entries_under_other_names(void **state)
{
	struct kit *k = *state;
	char longest[513];

	memset(longest, 'k', 512);
	longest[512] = '\0';
	kit_open(k);
	kit_put(k, "a", "one");
	kit_put(k, longest, "long");
	kit_close(k);
	kit_foreign(k, other_names);
	kit_open(k);
	kit_expect(k, "a", "one");
	kit_expect(k, longest, "long");
	assert_int_equal(kit_drop(k, "a"), 0);
	assert_int_equal(kit_drop(k, longest), 0);
	assert_int_equal(k->ops->ns_remove(k->st, k->ns, NOW), 0);
	kit_close(k);
	kit_foreign(k, other_names_are_gone);
}

int lmdb_hostile_tests(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		TEST(test_whatever_lmdb_makes_is_sound),
		TEST(test_what_lmdb_cannot_follow_is_refused),
		TEST(test_keys_that_are_too_long),
		TEST(test_the_last_ids_of_namespaces),
		TEST(test_entries_under_other_names),
#undef TEST
	};

	return cmocka_run_group_tests_name("LMDB and hostile environments", tests, NULL, NULL);
}
