/*
 * test_lmdb.c - the LMDB store under load: the map's growth, threads, a full medium, a killed
 * process, values in files. What every store does is in the store suite; other programs are in
 * lmdb_foreign.c.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/lmdb_kit.h"

static void test_map_grows(void **state)
{
	struct kit *k = *state;
	size_t size = 300000;
	char *value = malloc(size), key[16];

	assert_non_null(value);
	k->opts.map_size = 256 << 10;
	kit_open(k);
	for (int i = 0; i < 60; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		memset(value, 'a' + i % 26, size);
		assert_int_equal(kit_try_put(k, key, value, size, 0), 0);
	}
	kit_sync(k);
	struct entry_id id = kit_id(k, ENTRY_KEY, "key59");
	struct value v;
	assert_int_equal(k->ops->read(k->st, &id, NOW, &v), 0);
	assert_memory_equal(v.data, value, size);
	value_release(&v);
	free(value);
	kit_reopen(k);
}

static void foreign_bulk(MDB_txn *txn)
{
	char key[16], value[5000];

	memset(value, 'f', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "bulk%d", i);
		raw_put(txn, "main", 0, key, value);
	}
}

static void test_another_program_grows_the_map(void **state)
{
	struct kit *k = *state;
	struct entry e;

	k->opts.map_size = 1 << 20;
	kit_open(k);
	kit_put(k, "a", "one");
	kit_sync(k);
	kit_foreign(k, foreign_bulk);
	assert_int_equal(kit_get(k, "bulk1999", &e), 0);
	assert_int_equal(e.size, 4999);
	kit_put(k, "a", "two");
	kit_sync(k);
	kit_expect(k, "a", "two");
}

/* A thread that holds a view may read, whoever waits to be alone meanwhile. */
struct waiter {
	struct kit *k;
	atomic_bool stop;
};

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;

	for (int i = 0; !atomic_load(&w->stop); i++)
		kit_put(w->k, "other", i % 2 ? "x" : "y");
	return NULL;
}

static void test_reading_within_a_view(void **state)
{
	struct kit *k = *state;
	struct waiter w = {.k = k};
	pthread_t thread;

	kit_open(k);
	kit_put(k, "a", "one");
	kit_sync(k);
	assert_int_equal(pthread_create(&thread, NULL, waiter_main, &w), 0);
	struct entry_id id = kit_id(k, ENTRY_KEY, "a");
	for (int i = 0; i < 3000; i++) {
		struct view *outer, *inner;
		struct value one, two;

		assert_int_equal(k->ops->view_begin(k->st, NOW, &outer), 0);
		assert_int_equal(k->ops->read(k->st, &id, NOW, &one), 0);
		assert_int_equal(k->ops->view_begin(k->st, NOW, &inner), 0);
		assert_int_equal(k->ops->read(k->st, &id, NOW, &two), 0);
		k->ops->view_end(outer);
		k->ops->view_end(inner);
		value_release(&one);
		value_release(&two);
		kit_put(k, "b", "with nothing in hand");
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
}

/* Threads that apply pairs, look for pairs that differ, sync, move trees, and make the map grow. */
struct stress {
	struct kit *k;
	atomic_bool stop;
	atomic_int moves;
};

static void *stress_apply(void *arg)
{
	struct stress *s = arg;
	struct kit *k = s->k;
	char *big = calloc(1, 200000);

	for (int i = 0; i < 150; i++) {
		struct record rec = {.mode = 0100644, .ino = 5};
		size_t len = i % 10 ? 20 : 200000;
		struct blob *b;

		snprintf(big, 20, "%d", i);
		assert_int_equal(blob_new_copy(k->st->blobs, big, len, &b), 0);
		struct change pair[] = {
			{.op = CHANGE_PUT,
				.id = kit_id(k, ENTRY_KEY, "left"),
				.rec = &rec,
				.value = b},
			{.op = CHANGE_PUT,
				.id = kit_id(k, ENTRY_KEY, "right"),
				.rec = &rec,
				.value = b},
			{.op = CHANGE_PUT,
				.id = kit_id(k, ENTRY_KEY, "d/held"),
				.rec = &rec,
				.hold = true},
		};
		assert_int_equal(k->ops->throttle(k->st, len), 0);
		assert_int_equal(k->ops->apply(k->st, pair, 3, NULL), 0);
		blob_unref(b);
		if (i % 7 == 0)
			kit_sync(k);
	}
	free(big);
	atomic_store(&s->stop, true);
	return NULL;
}

static void *stress_read(void *arg)
{
	struct stress *s = arg;
	struct kit *k = s->k;

	while (!atomic_load(&s->stop)) {
		struct entry_id left = kit_id(k, ENTRY_KEY, "left"),
				right = kit_id(k, ENTRY_KEY, "right");
		struct entry_id found;
		struct entry a = {0}, b = {0};
		struct view *v;
		struct scan *scan;
		struct value value;

		assert_int_equal(k->ops->view_begin(k->st, NOW, &v), 0);
		int rc = k->ops->view_get(v, &left, &a);
		assert_int_equal(k->ops->view_get(v, &right, &b), rc);
		assert_int_equal(a.size, b.size);
		assert_int_equal(k->ops->scan_open(v, k->ns, ENTRY_KEY, &scan), 0);
		rc = k->ops->scan_seek(scan, "left", 4, &found);
		if (rc == 0)
			assert_true(found.len == 4 || found.len == 5);
		k->ops->scan_close(scan);
		k->ops->view_end(v);
		if (k->ops->read(k->st, &left, NOW, &value) == 0)
			value_release(&value);
	}
	return NULL;
}

static void *stress_move(void *arg)
{
	struct stress *s = arg;
	struct kit *k = s->k;
	struct store_stat stat;

	while (!atomic_load(&s->stop)) {
		struct entry_id a = kit_id(k, ENTRY_DIR, "d/"), b = kit_id(k, ENTRY_DIR, "e/");

		assert_int_equal(k->ops->move_tree(k->st, &a, &b, true, NOW), 0);
		k->ops->stat(k->st, &stat);
		atomic_fetch_add(&s->moves, 1);
	}
	return NULL;
}

static void nothing(void *arg, struct foreign_change *what)
{
}

static void test_threads(void **state)
{
	struct kit *k = *state;
	struct stress s = {.k = k};
	void *(*const mains[])(void *) = {stress_apply, stress_read, stress_read, stress_move};
	pthread_t threads[4];

	k->opts.map_size = 128 << 10;
	kit_open(k);
	k->ops->watch(k->st, nothing, NULL);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mains[i], &s), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&s.moves) > 0);
	kit_reopen(k);
	struct entry e;
	assert_int_equal(kit_get(k, "left", &e), 0);
}

static void hold(struct kit *k, const char *key, const char *part)
{
	struct record rec = {.mode = 0100644, .ino = 9};
	struct change c = {.op = CHANGE_PUT, .rec = &rec, .hold = true};

	c.id = kit_id(k, ENTRY_KEY, key);
	assert_int_equal(blob_new_copy(k->st->blobs, part, strlen(part), &c.value), 0);
	assert_int_equal(k->ops->apply(k->st, &c, 1, NULL), 0);
	blob_unref(c.value);
}

/* What is held when the store is closed was never complete: what was before it stays, whether it
 * is stored already or not. */
static void test_close_drops_what_is_held(void **state)
{
	struct kit *k = *state;

	kit_open(k);
	kit_put(k, "stored", "whole");
	kit_sync(k);
	kit_put(k, "due", "whole");
	hold(k, "new", "part");
	hold(k, "stored", "part");
	hold(k, "due", "part");
	kit_reopen(k);
	kit_expect(k, "new", NULL);
	kit_expect(k, "stored", "whole");
	kit_expect(k, "due", "whole");
}

/* Large enough to be mapped instead of read, at every alignment of its end. */
static void test_values_in_files(void **state)
{
	struct kit *k = *state;
	static const size_t sizes[] = {(8 << 20) - 1, 8 << 20, (8 << 20) + 4064, (33 << 20) + 4065,
		(40 << 20) - 32, (40 << 20) + 1};
	unsigned char piece[4096];

	kit_open(k);
	for (size_t n = 0; n < sizeof(sizes) / sizeof(*sizes); n++) {
		struct record rec = {.mode = 0100644, .ino = 1};
		struct change c = {.op = CHANGE_PUT,
			.id = kit_id(k, ENTRY_KEY, n % 2 ? "odd" : "even"),
			.rec = &rec};

		assert_int_equal(blob_new(k->st->blobs, &c.value), 0);
		for (size_t off = 0; off < sizes[n]; off += sizeof(piece)) {
			size_t len =
				sizes[n] - off < sizeof(piece) ? sizes[n] - off : sizeof(piece);

			memset(piece, (int)(off / 4096 * 31 + n), sizeof(piece));
			assert_int_equal(blob_write(c.value, off, piece, len), 0);
		}
		assert_int_equal(k->ops->throttle(k->st, sizes[n]), 0);
		assert_int_equal(k->ops->apply(k->st, &c, 1, NULL), 0);
		blob_unref(c.value);
		kit_sync(k);
		struct value v;
		assert_int_equal(k->ops->read(k->st, &c.id, NOW, &v), 0);
		assert_int_equal(v.len, sizes[n]);
		for (size_t off = 0; off < sizes[n]; off += 1021)
			assert_int_equal(((const unsigned char *)v.data)[off],
				(unsigned char)(off / 4096 * 31 + n));
		value_release(&v);
	}
}

static void put_numbered(char *key, size_t cap, char *value, size_t len, int i)
{
	snprintf(key, cap, "key%06d", i);
	memset(value, 'a' + i % 26, len);
}

/* Puts until there is no room: how many were accepted. */
static int fill(struct kit *k, size_t len, int max)
{
	char key[16], value[8192];
	int i = 0, rc;

	for (;; i++) {
		put_numbered(key, sizeof(key), value, len, i);
		rc = kit_try_put(k, key, value, len, 0);
		if (rc || i == max)
			break;
	}
	assert_int_equal(rc, -ENOSPC);
	return i;
}

static void test_full_medium(void **state)
{
	struct kit *k = *state;
	static const size_t lens[] = {100, 1500, 6000};

	for (int n = 0; n < 3; n++) {
		char key[16], value[8192];
		struct store_stat stat;

		if (mount("none", k->top, "tmpfs", 0, "size=4m")) {
			print_message("tmpfs cannot be mounted\n");
			return;
		}
		kit_open(k);
		int accepted = fill(k, lens[n], 100000);
		/* How many commits there were decides how scattered the free pages are. */
		assert_true(accepted > 200);
		k->ops->stat(k->st, &stat);
		assert_int_equal(stat.error, 0);
		kit_sync(k);
		kit_reopen(k);
		for (int i = 0; i < accepted; i++) {
			put_numbered(key, sizeof(key), value, lens[n], i);
			value[lens[n]] = '\0';
			kit_expect(k, key, value);
			/* Most of each page, everywhere: so many pages change that they do not fit
			 * into one commit. */
			if (i % 8)
				assert_int_equal(kit_drop(k, key), 0);
		}
		kit_sync(k);
		for (int i = 1; i < accepted / 4; i += 2) {
			put_numbered(key, sizeof(key), value, lens[n], i);
			assert_int_equal(kit_try_put(k, key, value, lens[n], 0), 0);
		}
		kit_sync(k);
		kit_close(k);
		unlink(k->data);
		unlink(k->lock);
		rmdir(k->dir);
		assert_int_equal(umount(k->top), 0);
	}
}

/* In the child: groups of three, the same number in each; every so often durable, and told to the
 * parent. */
static void groups_for_ever(struct kit *k, unsigned round, int told)
{
	static const char *const names[] = {"a", "m/b", "z"};
	struct record rec = {.mode = 0100644, .ino = 1};

	kit_open(k);
	for (unsigned g = 1;; g++) {
		struct change c[3];
		struct blob *b;
		char text[32];
		uint64_t seq;

		snprintf(text, sizeof(text), "%04u.%08u", round, g);
		if (blob_new_copy(k->st->blobs, text, strlen(text), &b))
			_exit(1);
		for (int i = 0; i < 3; i++)
			c[i] = (struct change){.op = CHANGE_PUT,
				.id = kit_id(k, ENTRY_KEY, names[i]),
				.rec = &rec,
				.value = b};
		if (k->ops->apply(k->st, c, 3, &seq))
			_exit(2);
		blob_unref(b);
		if (g % 23 == 0 &&
			(k->ops->sync(k->st, seq) ||
				write(told, text, sizeof(text)) != sizeof(text)))
			_exit(3);
	}
}

static void kill_round(struct kit *k, unsigned round)
{
	char told[32], last[32] = "", values[3][32] = {{0}};
	static const char *const names[] = {"a", "m/b", "z"};
	int fds[2], status;

	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0)
		groups_for_ever(k, round, fds[1]);
	close(fds[1]);
	for (unsigned n = 0; n < 3 * round + 1 && read(fds[0], told, sizeof(told)) == sizeof(told);
		n++)
		memcpy(last, told, sizeof(last));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	while (read(fds[0], told, sizeof(told)) == sizeof(told))
		memcpy(last, told, sizeof(last));
	close(fds[0]);
	assert_true(WIFSIGNALED(status));
	kit_open(k);
	for (int i = 0; i < 3; i++) {
		struct entry_id id = kit_id(k, ENTRY_KEY, names[i]);
		struct value v;

		assert_int_equal(k->ops->read(k->st, &id, NOW, &v), 0);
		assert_true(v.len < sizeof(values[i]));
		memcpy(values[i], v.data, v.len);
		value_release(&v);
	}
	assert_string_equal(values[0], values[1]);
	assert_string_equal(values[0], values[2]);
	assert_true(strcmp(values[0], last) >= 0);
	kit_close(k);
}

static void test_killed(void **state)
{
	for (unsigned round = 1; round <= 8; round++)
		kill_round(*state, round);
}

static size_t file_bytes(const char *path, unsigned char *bytes, size_t cap)
{
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	size_t n = fread(bytes, 1, cap, f);
	fclose(f);
	return n;
}

static void file_is(const char *path, const unsigned char *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

/* The power goes away while the file is made: of its first two pages some sectors are there. Whatever
 * else is in the file is somebody's data. */
static void test_made_halfway(void **state)
{
	static unsigned char whole[8192], part[8192];
	struct kit *k = *state;
	char making[256];
	MDB_env *env;

	assert_int_equal(mkdir(k->dir, 0700), 0);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_open(env, k->dir, 0, 0600), 0);
	mdb_env_close(env);
	assert_int_equal(file_bytes(k->data, whole, sizeof(whole)), sizeof(whole));
	snprintf(making, sizeof(making), "%s.making", k->data);
	for (unsigned pages = 0; pages < 3; pages++) {
		memset(part, 0, sizeof(part));
		for (unsigned i = 0; i < 2; i++)
			memcpy(part + 4096 * i, whole + 4096 * i, pages >> i & 1 ? 512 : 0);
		file_is(k->data, part, pages == 1 ? 512 : sizeof(part));
		k->opts.create = false;
		assert_int_equal(kit_try(k), -EINVAL);
		k->opts.create = true;
		/* Without the mark it may be what is left of anything. */
		assert_int_equal(kit_try(k), -EINVAL);
		file_is(making, part, 0);
		kit_open(k);
		assert_int_equal(access(making, F_OK), -1);
		kit_put(k, "a", "one");
		kit_reopen(k);
		kit_expect(k, "a", "one");
		kit_close(k);
	}
	memset(part, 0, sizeof(part));
	part[8191] = 1;
	file_is(making, part, 0);
	file_is(k->data, part, sizeof(part));
	assert_int_equal(kit_try(k), -EINVAL);
	assert_int_equal(file_bytes(k->data, whole, sizeof(whole)), sizeof(whole));
	assert_memory_equal(whole, part, sizeof(part));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		TEST(test_map_grows),
		TEST(test_another_program_grows_the_map),
		TEST(test_reading_within_a_view),
		TEST(test_threads),
		TEST(test_close_drops_what_is_held),
		TEST(test_values_in_files),
		TEST(test_full_medium),
		TEST(test_killed),
		TEST(test_made_halfway),
#undef TEST
	};

	return lmdb_foreign_tests() + lmdb_hostile_tests() + lmdb_shared_tests() +
		cmocka_run_group_tests_name("LMDB under load", tests, NULL, NULL);
}
