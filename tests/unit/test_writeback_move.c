/*
 * test_writeback_move.c - moving directories: in batches, also when it is cut off in between.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

enum { MANY = 2500 };

static struct entry_id dir_id(const struct wbk *k, const char *prefix)
{
	struct entry_id id = wbk_key(k, prefix);

	id.kind = ENTRY_DIR;
	return id;
}

static int move(struct wbk *k, const char *from, const char *to, bool exchange)
{
	struct entry_id a = dir_id(k, from), b = dir_id(k, to);

	return k->st->ops->move_tree(k->st, &a, &b, exchange, clock_now());
}

static void put_dir(struct wbk *k, const char *prefix, uint32_t mode, bool made)
{
	struct record rec = {
		.mode = 040000 | mode, .ino = 9, .flags = made ? (uint32_t)RECORD_MADE : 0};
	struct change put = {.op = CHANGE_PUT, .id = dir_id(k, prefix), .rec = &rec};

	assert_int_equal(k->st->ops->apply(k->st, &put, 1, NULL), 0);
}

/* 0: there is none. */
static uint32_t dir_mode(struct wbk *k, const char *prefix)
{
	struct entry_id id = dir_id(k, prefix);
	struct wb_entry e;

	assert_int_equal(wb_entry_get(k->wb, &id, &e), 0);
	wb_entry_release(&e);
	return e.exists ? e.rec.mode & 07777 : 0;
}

static size_t count(struct wbk *k, const char *prefix)
{
	size_t n = 0, len = strlen(prefix);
	char *keys = strdup(wbk_keys(k)), *save;

	assert_non_null(keys);
	for (char *key = strtok_r(keys, " ", &save); key; key = strtok_r(NULL, " ", &save))
		n += strncmp(key, prefix, len) == 0;
	free(keys);
	return n;
}

/* d/00000 ..., a third of them uploaded, each in a folder of ten. */
static void fill(struct wbk *k)
{
	char key[32];

	for (int i = 0; i < MANY; i++) {
		snprintf(key, sizeof(key), "d/%03d/%d", i / 10, i % 10);
		wbk_put(k, key, key + 2);
		if (i == MANY / 3)
			wbk_upload(k);
	}
	put_dir(k, "d/", 0711, false);
	put_dir(k, "d/007/", 0700, false);
	put_dir(k, "d/240/", 0750, false);
	put_dir(k, "d/zz/", 0701, true);
	wbk_put(k, "d", "its own");
	wbk_put(k, "d/x.swp", "local");
}

static void check_moved(struct wbk *k, const char *from, const char *to)
{
	char key[32];

	assert_int_equal(count(k, from), 0);
	for (int i = 0; i < MANY; i += 7) {
		snprintf(key, sizeof(key), "%s%03d/%d", to, i / 10, i % 10);
		assert_string_equal(wbk_shown(k, key), key + strlen(to));
	}
	snprintf(key, sizeof(key), "%s007/", to);
	assert_int_equal(dir_mode(k, key), 0700);
	snprintf(key, sizeof(key), "%s240/", to);
	assert_int_equal(dir_mode(k, key), 0750);
	snprintf(key, sizeof(key), "%szz/", to);
	assert_int_equal(dir_mode(k, key), 0701);
	assert_int_equal(dir_mode(k, to), 0711);
	assert_int_equal(dir_mode(k, from), 0);
}

static void check_remote(struct wbk *k, const char *to)
{
	char key[32];

	for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++)
		wbk_upload(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
	assert_int_equal(k->remote.now.n, MANY + 1);
	for (int i = 0; i < MANY; i++) {
		snprintf(key, sizeof(key), "%s%03d/%d", to, i / 10, i % 10);
		assert_string_equal(fake_value(&k->remote, key), key + strlen(to));
	}
}

static int (*local_sync)(struct store *, uint64_t);
static int (*local_apply)(struct store *, const struct change *, size_t, uint64_t *);
static int syncs_left;
static uint64_t most_bytes;
static size_t most_changes;

static int failing_sync(struct store *st, uint64_t seq)
{
	return syncs_left-- > 0 ? local_sync(st, seq) : -EIO;
}

static int measured_apply(struct store *st, const struct change *changes, size_t n, uint64_t *seq)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += changes[i].value ? blob_size(changes[i].value) : 0;
	most_bytes = bytes > most_bytes ? bytes : most_bytes;
	most_changes = n > most_changes ? n : most_changes;
	return local_apply(st, changes, n, seq);
}

static void test_many(void **state)
{
	struct wbk *k = *state;

	fill(k);
	local_apply = k->keeping.apply;
	k->keeping.apply = measured_apply;
	most_changes = 0;
	assert_int_equal(move(k, "d/", "target/", false), 0);
	if (!*k->folder)
		assert_in_range(most_changes, 1000, 4096);
	check_moved(k, "d/", "target/");
	assert_string_equal(wbk_shown(k, "target"), "its own");
	assert_string_equal(wbk_shown(k, "d"), "-");
	assert_string_equal(wbk_shown(k, "target/x.swp"), "local");
	check_remote(k, "target/");
	assert_null(fake_find(&k->remote, "target/x.swp"));
}

/* What was not uploaded yet costs nothing under its old name. */
static void test_unsent(void **state)
{
	struct wbk *k = *state;

	wbk_put(k, "d/a", "1");
	wbk_put(k, "d/b", "1");
	assert_int_equal(move(k, "d/", "e/", false), 0);
	fake_log(&k->remote);
	wbk_upload(k);
	assert_string_equal(fake_log(&k->remote), "put e/a e/b");
}

/* The mount ends after any of the batches: the next one goes on. */
static void cut_off_after(struct wbk *k, int batches, bool exchange)
{
	syncs_left = batches;
	local_sync = k->keeping.sync;
	k->keeping.sync = failing_sync;
	int rc = move(k, "d/", "target/", exchange);
	k->keeping.sync = local_sync;
	if (rc) {
		assert_int_equal(rc, -EIO);
		wbk_reopen(k);
	}
}

static void test_cut_off(void **state)
{
	struct wbk *k = *state;

	fill(k);
	cut_off_after(k, 0, false);
	check_moved(k, "d/", "target/");
	assert_string_equal(wbk_shown(k, "target"), "its own");
	check_remote(k, "target/");
	assert_int_equal(move(k, "target/", "d/", false), 0);
	cut_off_after(k, 3, false);
	check_moved(k, "d/", "target/");
	check_remote(k, "target/");
}

static struct wbk *evicting;

static int evicting_sync(struct store *st, uint64_t seq)
{
	wb_evict(evicting->wb);
	return local_sync(st, seq);
}

/* Everything is uploaded, and has been for so long that it could be got again; and the cache is full. */
static void fill_cache(struct wbk *k)
{
	fill(k);
	for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++)
		wbk_upload(k);
	wbk_advance(1000);
	evicting = k;
	local_sync = k->keeping.sync;
	k->wb->opt.cache_size = 1;
}

/* Nothing goes from the cache while a move is gone on with: it would stay behind. */
static void test_cut_off_with_full_cache(void **state)
{
	struct wbk *k = *state;

	fill_cache(k);
	syncs_left = 1;
	k->keeping.sync = failing_sync;
	assert_int_equal(move(k, "d/", "target/", false), -EIO);
	k->keeping.sync = evicting_sync;
	assert_int_equal(move(k, "other/", "another/", false), 0);
	check_moved(k, "d/", "target/");
	k->keeping.sync = local_sync;
}

static void (*local_scan_close)(struct scan *s);

static void closing_moves(struct scan *s)
{
	wb_note_tree(evicting->wb, true);
	local_scan_close(s);
}

/* It is about to be moved when somebody is choosing what is to go. */
static void test_chosen_before(void **state)
{
	struct wbk *k = *state;

	fill_cache(k);
	local_scan_close = k->keeping.scan_close;
	k->keeping.scan_close = closing_moves;
	wb_evict(k->wb);
	k->keeping.scan_close = local_scan_close;
	assert_int_equal(move(k, "d/", "target/", false), 0);
	check_moved(k, "d/", "target/");
	wb_evict(k->wb);
	assert_string_equal(wbk_shown(k, "target/000/0"), "000/0"); /* it is not uploaded yet */
	for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++)
		wbk_upload(k);
	wbk_advance(1000);
	wb_evict(k->wb);
	assert_string_equal(wbk_shown(k, "target/000/0"), "?");
}

static void test_exchange_cut_off(void **state)
{
	struct wbk *k = *state;

	for (int batches = 1; batches < 4; batches += 2) {
		fill(k);
		wbk_put(k, "target/000/0", "other");
		wbk_put(k, "target/999", "other");
		put_dir(k, "target/", 0555, false);
		wbk_upload(k);
		cut_off_after(k, batches, true);
		assert_string_equal(wbk_shown(k, "target/000/0"), "000/0");
		assert_string_equal(wbk_shown(k, "d/000/0"), "other");
		assert_string_equal(wbk_shown(k, "d/999"), "other");
		assert_int_equal(count(k, "d/"), 2);
		assert_int_equal(count(k, "target/"), MANY + 1);
		assert_int_equal(dir_mode(k, "target/"), 0711);
		assert_int_equal(dir_mode(k, "d/"), 0555);
		assert_int_equal(dir_mode(k, "target/007/"), 0700);
		for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++)
			wbk_upload(k);
		assert_int_equal(k->remote.now.n, MANY + 3);
		assert_string_equal(fake_value(&k->remote, "d/999"), "other");
		assert_string_equal(fake_value(&k->remote, "target/249/9"), "249/9");
		assert_int_equal(move(k, "d/", "target/", true), 0);
	}
}

static void test_large_values(void **state)
{
	enum { SIZE = 3 << 20, N = 20 };
	struct wbk *k = *state;
	struct record rec = {.mode = 0100644, .ino = 7};
	char *bytes = calloc(1, SIZE), key[16];

	k->st->value_max = SIZE;
	assert_non_null(bytes);
	for (int i = 0; i < N; i++) {
		struct change put = {.op = CHANGE_PUT, .rec = &rec};

		snprintf(key, sizeof(key), "d/%02d", i);
		put.id = wbk_key(k, key);
		assert_int_equal(blob_new_copy(k->st->blobs, bytes, SIZE, &put.value), 0);
		assert_int_equal(k->st->ops->apply(k->st, &put, 1, NULL), 0);
		blob_unref(put.value);
	}
	free(bytes);
	local_apply = k->keeping.apply;
	k->keeping.apply = measured_apply;
	most_bytes = 0;
	assert_int_equal(move(k, "d/", "e/", false), 0);
	assert_int_equal(count(k, "e/"), N);
	assert_in_range(most_bytes, SIZE, (16 << 20) + SIZE);
}

/* Before the first batch it is known whether the last can be moved. */
static void test_all_or_nothing(void **state)
{
	struct wbk *k = *state;
	char key[STORE_KEY_MAX + 1];

	fill(k);
	memset(key, 'z', STORE_KEY_MAX);
	memcpy(key, "d/", 2);
	key[STORE_KEY_MAX] = '\0';
	wbk_put(k, key, "long");
	assert_int_equal(move(k, "d/", "target/", false), -ENAMETOOLONG);
	assert_int_equal(count(k, "target/"), 0);
	wbk_remove(k, key);
	fake_put(&k->remote, "d/zzz", "not here");
	wbk_upload(k);
	assert_int_equal(wbk_list(k, "d/"), 0);
	assert_int_equal(move(k, "d/", "target/", false), -ETIMEDOUT);
	assert_int_equal(count(k, "target/"), 0);
	assert_int_equal(wbk_tree(k, "d/"), 0);
	assert_int_equal(move(k, "d/", "target/", false), 0);
	assert_string_equal(wbk_shown(k, "target/zzz"), "not here");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		wbk_test(test_many),
		wbk_test_durable(test_many),
		wbk_test(test_unsent),
		wbk_test(test_cut_off),
		wbk_test(test_cut_off_with_full_cache),
		wbk_test(test_chosen_before),
		wbk_test(test_exchange_cut_off),
		wbk_test(test_large_values),
		wbk_test(test_all_or_nothing),
	};

	return wbk_run("write-back moves", tests, sizeof(tests) / sizeof(tests[0]));
}
