/*
 * suite_values.c - values of all sizes, replaced, and read while they are replaced.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suite_kit.h"

enum { LARGE = 10 << 20 };

static unsigned char *pattern(size_t len, unsigned seed)
{
	unsigned char *p = malloc(len);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(seed + i * 7 + (i >> 8) * 13 + (i >> 16));
	return p;
}

static void put_bytes(struct kit *k, struct entry_id id, const void *data, size_t len)
{
	struct change c = {.op = CHANGE_PUT, .id = id, .value = kit_blob(k, data, len)};

	assert_int_equal(k->st->ops->throttle(k->st, len), 0);
	assert_int_equal(kit_apply(k, &c, 1), 0);
	blob_unref(c.value);
}

static void test_empty_value(void **state)
{
	struct kit *k = *state;
	struct entry_id id = kit_key(k, "empty");
	struct blob *b;

	kit_put(k, id, NULL, "");
	kit_expect_value(k, id, "");
	kit_sync(k);
	kit_expect_value(k, id, "");
	kit_expect_list(k, ENTRY_KEY, NOW, "empty");
	kit_put(k, id, NULL, "full");
	kit_expect_value(k, id, "full");
	assert_int_equal(blob_new(k->st->blobs, &b), 0);
	struct change c = {.op = CHANGE_PUT, .id = id, .value = b};
	assert_int_equal(kit_apply(k, &c, 1), 0);
	blob_unref(b);
	kit_sync(k);
	kit_expect_value(k, id, "");
	if (kit_reopen(k))
		kit_expect_value(k, kit_key(k, "empty"), "");
}

static void test_large_values(void **state)
{
	struct kit *k = *state;
	unsigned char *data = pattern(LARGE, 1);
	struct blob *b = kit_blob(k, data, LARGE);
	struct change c = {.op = CHANGE_PUT, .id = kit_key(k, "large"), .value = b};

	/* A file, not memory, brings it. */
	assert_true(blob_fd(b) >= 0);
	assert_int_equal(k->st->ops->throttle(k->st, LARGE), 0);
	assert_int_equal(kit_apply(k, &c, 1), 0);
	blob_unref(b);
	kit_expect_bytes(k, c.id, data, LARGE);
	kit_sync(k);
	kit_expect_bytes(k, c.id, data, LARGE);
	if (kit_reopen(k))
		kit_expect_bytes(k, kit_key(k, "large"), data, LARGE);
	kit_remove(k, kit_key(k, "large"));
	kit_sync(k);
	kit_expect_absent(k, kit_key(k, "large"));
	free(data);
}

/* Sizes around those at which a store might change its mind about where a value goes. */
static void test_sizes(void **state)
{
	static const size_t sizes[] = {1, 2, 511, 512, 513, 1000, 2000, 2038, 4079, 4080, 4096,
		4097, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 3000000};
	struct kit *k = *state;
	unsigned char *data = pattern(3000000, 2);
	char name[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(name, sizeof(name), "size%zu", sizes[i]);
		put_bytes(k, kit_key(k, name), data, sizes[i]);
		kit_expect_bytes(k, kit_key(k, name), data, sizes[i]);
	}
	kit_sync(k);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(name, sizeof(name), "size%zu", sizes[i]);
		kit_expect_bytes(k, kit_key(k, name), data, sizes[i]);
	}
	free(data);
}

static void test_small_and_large_in_turn(void **state)
{
	struct kit *k = *state;
	unsigned char *data = pattern(LARGE, 3);

	for (int round = 0; round < 3; round++) {
		put_bytes(k, kit_key(k, "a"), data, 10);
		kit_expect_bytes(k, kit_key(k, "a"), data, 10);
		if (round != 1)
			kit_sync(k);
		put_bytes(k, kit_key(k, "a"), data, LARGE / 2);
		kit_expect_bytes(k, kit_key(k, "a"), data, LARGE / 2);
		if (round != 2)
			kit_sync(k);
		kit_expect_bytes(k, kit_key(k, "a"), data, LARGE / 2);
	}
	put_bytes(k, kit_key(k, "a"), data, 10);
	kit_sync(k);
	kit_expect_bytes(k, kit_key(k, "a"), data, 10);
	free(data);
}

/* A thread that holds a value for a while: whoever changes the store must not. */
struct holder {
	struct kit *k;
	struct entry_id id;
	const unsigned char *data; /* what the value is to be */
	size_t len;
	bool same; /* it was so at the end */
	sem_t holds, end;
	pthread_t thread;
};

static void *hold(void *arg)
{
	struct holder *h = arg;
	unsigned char *got = malloc(h->len);
	struct value v;

	int rc = h->k->st->ops->read(h->k->st, &h->id, NOW, &v);
	sem_post(&h->holds);
	if (rc == 0) {
		sem_wait(&h->end);
		h->same = got && v.len == h->len &&
			value_read(&v, 0, got, h->len) == (int64_t)h->len &&
			memcmp(got, h->data, h->len) == 0;
		value_release(&v);
	}
	free(got);
	return NULL;
}

static void hold_begin(
	struct holder *h, struct kit *k, struct entry_id id, const unsigned char *data, size_t len)
{
	*h = (struct holder){.k = k, .id = id, .data = data, .len = len};
	sem_init(&h->holds, 0, 0);
	sem_init(&h->end, 0, 0);
	assert_int_equal(pthread_create(&h->thread, NULL, hold, h), 0);
	while (sem_wait(&h->holds))
		;
}

static void hold_end(struct holder *h)
{
	sem_post(&h->end);
	pthread_join(h->thread, NULL);
	assert_true(h->same);
	sem_destroy(&h->holds);
	sem_destroy(&h->end);
}

/* What read() gave stays what it was, whatever becomes of the key. */
static void read_while_replaced(struct kit *k, size_t len, bool synced)
{
	unsigned char *old = pattern(len, 4), *new = pattern(len, 5);
	struct entry_id id = kit_key(k, "a");
	struct holder first, second;

	put_bytes(k, id, old, len);
	if (synced)
		kit_sync(k);
	hold_begin(&first, k, id, old, len);
	put_bytes(k, id, new, len);
	if (synced)
		kit_sync(k);
	hold_begin(&second, k, id, new, len);
	kit_remove(k, id);
	for (int i = 0; i < 20; i++) {
		put_bytes(k, kit_key(k, "other"), new, len);
		if (synced)
			kit_sync(k);
	}
	hold_end(&first);
	hold_end(&second);
	kit_expect_absent(k, id);
	kit_expect_bytes(k, kit_key(k, "other"), new, len);
	free(old);
	free(new);
}

static void test_read_while_replaced(void **state)
{
	struct kit *k = *state;

	read_while_replaced(k, 100, false);
	read_while_replaced(k, 100, true);
	read_while_replaced(k, 100000, true);
	read_while_replaced(k, 2 << 20, false);
	read_while_replaced(k, 2 << 20, true);
}

static void test_read_in_parts(void **state)
{
	struct kit *k = *state;
	struct entry_id id = kit_key(k, "a");
	struct value v;
	char got[16];

	kit_put(k, id, NULL, "0123456789");
	assert_int_equal(k->st->ops->read(k->st, &id, NOW, &v), 0);
	assert_int_equal(value_read(&v, 3, got, 4), 4);
	assert_memory_equal(got, "3456", 4);
	assert_int_equal(value_read(&v, 8, got, 16), 2);
	assert_memory_equal(got, "89", 2);
	assert_int_equal(value_read(&v, 10, got, 16), 0);
	assert_int_equal(value_read(&v, UINT64_MAX, got, 16), 0);
	value_release(&v);
	assert_null(v.data);
}

static void test_value_to_blob(void **state)
{
	static const size_t sizes[] = {0, 5, 70000, 3000000};
	struct kit *k = *state;
	unsigned char *data = pattern(3000000, 6), *got = malloc(3000000);

	assert_non_null(got);
	for (int i = 0; i < 8; i++) {
		struct entry_id id = kit_key(k, "a");
		size_t len = sizes[i / 2];
		struct value v;
		struct blob *b;

		put_bytes(k, id, data, len);
		if (i % 2)
			kit_sync(k);
		assert_int_equal(k->st->ops->read(k->st, &id, NOW, &v), 0);
		assert_int_equal(value_to_blob(&v, k->st->blobs, &b), 0);
		value_release(&v);
		kit_remove(k, id);
		assert_int_equal(blob_size(b), len);
		assert_int_equal(blob_read(b, 0, got, 3000000), len);
		assert_memory_equal(got, data, len);
		blob_unref(b);
	}
	free(data);
	free(got);
}

/* The store has its own reference: the caller may let go, and may not write. */
static void test_blob_is_shared(void **state)
{
	struct kit *k = *state;
	struct blob *b = kit_blob(k, "shared", 6);
	struct change c = {.op = CHANGE_PUT, .id = kit_key(k, "a"), .value = b};

	assert_int_equal(kit_apply(k, &c, 1), 0);
	c.id = kit_key(k, "b");
	assert_int_equal(kit_apply(k, &c, 1), 0);
	kit_remove(k, kit_key(k, "a"));
	blob_unref(b);
	kit_expect_value(k, kit_key(k, "b"), "shared");
	kit_sync(k);
	kit_expect_value(k, kit_key(k, "b"), "shared");
}

static void test_many_keys(void **state)
{
	struct kit *k = *state;
	enum { COUNT = 3000 };
	static struct change group[COUNT];
	static char names[COUNT][16];
	struct record rec = kit_record(k);

	for (int i = 0; i < COUNT; i++) {
		snprintf(names[i], sizeof(names[i]), "k%d", i);
		group[i] = (struct change){
			.op = CHANGE_PUT,
			.id = kit_key(k, names[i]),
			.rec = &rec,
			.value = kit_blob(k, names[i], strlen(names[i])),
		};
	}
	assert_int_equal(kit_apply(k, group, COUNT), 0);
	for (int i = 0; i < COUNT; i++)
		blob_unref(group[i].value);
	kit_sync(k);
	for (int i = 0; i < COUNT; i++)
		kit_expect_value(k, kit_key(k, names[i]), names[i]);
}

SUITE_PART(values, cmocka_unit_test(test_empty_value), cmocka_unit_test(test_large_values),
	cmocka_unit_test(test_sizes), cmocka_unit_test(test_small_and_large_in_turn),
	cmocka_unit_test(test_read_while_replaced), cmocka_unit_test(test_read_in_parts),
	cmocka_unit_test(test_value_to_blob), cmocka_unit_test(test_blob_is_shared),
	cmocka_unit_test(test_many_keys));
