/*
 * suite_random.c - thousands of random changes in step with a naive model (suite_model.h), and with
 * the memory store. A fixed seed makes every run the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory.h"
#include "tests/unit/suite_kit.h"
#include "tests/unit/suite_model.h"

enum {
	OPERATIONS = 20000,
	GROUP_MAX = 6,
	ENTRIES_WANTED = 400, /* beyond them removals become frequent */
	STORES = 2,
	VALUE_MAX = 2 << 20,
};

/* One of the stores under test, and its numbers for the model's namespaces. */
struct side {
	struct store *st;
	uint32_t ns[MODEL_NAMESPACES];
};

struct random_test {
	struct kit *k;
	struct side sides[STORES]; /* the fixture's store, the memory store */
	struct model model;
	uint64_t seed;
	int64_t now;
	unsigned char *want, *got; /* VALUE_MAX + 1 bytes each */
	unsigned char longest[STORE_PREFIX_MAX];
};

static uint32_t pick(struct random_test *t, uint32_t n)
{
	t->seed ^= t->seed << 13;
	t->seed ^= t->seed >> 7;
	t->seed ^= t->seed << 17;
	return (uint32_t)(t->seed >> 20) % n;
}

static bool chance(struct random_test *t, uint32_t percent)
{
	return pick(t, 100) < percent;
}

static const char *const ns_names[MODEL_NAMESPACES] = {"main", "other"};

static void find_namespaces(struct side *side)
{
	for (int i = 0; i < MODEL_NAMESPACES; i++) {
		const char *name = ns_names[i];

		assert_int_equal(
			side->st->ops->ns_find(side->st, name, strlen(name), &side->ns[i]), 0);
	}
}

static struct entry_id side_id(const struct side *side, struct entry_id id)
{
	id.ns = side->ns[id.ns];
	return id;
}

static struct view *side_view(struct random_test *t, struct side *side)
{
	struct view *v;

	assert_int_equal(side->st->ops->view_begin(side->st, t->now, &v), 0);
	t->k->views++;
	return v;
}

static void side_view_end(struct random_test *t, struct side *side, struct view *v)
{
	side->st->ops->view_end(v);
	t->k->views--;
}

/* A random prefix, ending with the separator '/'; into `buf`. */
static size_t random_prefix(struct random_test *t, unsigned char *buf)
{
	static const char *const prefixes[] = {"a/", "b/", "a/c/", "b/d/e/", "\377/", "//", "c/"};
	const char *prefix = prefixes[pick(t, 7)];
	size_t n = strlen(prefix);

	if (chance(t, 12)) {
		/* As long as it may be, or nearly so. */
		n = 480 + pick(t, 33);
		memset(buf, 'p', n);
		buf[n - 1] = '/';
		return n;
	}
	memcpy(buf, prefix, n);
	return n;
}

static struct entry_id random_id(struct random_test *t, unsigned char buf[STORE_PREFIX_MAX])
{
	static const char *const names[] = {"", "x", "y", "yy", "\377", "\1", "x.", "yy/", "z"};
	bool dir = chance(t, 20);
	size_t max = dir ? STORE_PREFIX_MAX : STORE_KEY_MAX, n = 0;

	if (t->model.n && chance(t, 40)) {
		const struct model_entry *e = &t->model.entries[pick(t, (uint32_t)t->model.n)];
		struct entry_id id = model_id(e);

		memcpy(buf, e->bytes, e->len);
		id.bytes = buf;
		return id;
	}
	if (chance(t, 85))
		n = random_prefix(t, buf);
	if (!dir || chance(t, 30)) {
		const char *name = names[pick(t, 9)];

		for (size_t i = 0; name[i] && n < max; i++)
			buf[n++] = (unsigned char)name[i];
		if (chance(t, 20) && n < max)
			buf[n++] = '\0';
		if (chance(t, 30) && n < max)
			buf[n++] = (unsigned char)('0' + pick(t, 10));
	}
	if (n == 0 && !dir)
		buf[n++] = 'k';
	return kit_id(pick(t, MODEL_NAMESPACES), dir ? ENTRY_DIR : ENTRY_KEY, buf, n);
}

static struct record random_record(struct random_test *t, enum entry_kind kind)
{
	static const unsigned char xattrs[] = "\6user.a\2\0\0\0xy\13user.kv.key\0\0\0";
	struct record rec = {
		.mode = pick(t, 0200000),
		.uid = pick(t, 5),
		.gid = pick(t, UINT32_MAX),
		.ino = ((uint64_t)pick(t, 1000) << 32) + pick(t, UINT32_MAX),
		.mtime = {.tv_sec = pick(t, UINT32_MAX), .tv_nsec = pick(t, 1000000000)},
	};

	if (kind == ENTRY_DIR && chance(t, 60))
		rec.flags = RECORD_MADE;
	if (chance(t, 30))
		rec.expiration = t->now / SECOND - 5 + pick(t, 200);
	if (rec.expiration && chance(t, 30))
		rec.visible_ns = t->now + pick(t, 50) * SECOND / 7;
	if (chance(t, 30)) {
		rec.xattrs = xattrs;
		rec.xattrs_len = sizeof(xattrs);
	}
	return rec;
}

static struct model_value random_value(struct random_test *t)
{
	struct model_value value = {.seed = pick(t, UINT32_MAX)};

	if (chance(t, 85))
		value.len = pick(t, 200);
	else if (chance(t, 97))
		value.len = pick(t, 20000);
	else
		value.len = pick(t, VALUE_MAX);
	return value;
}

static struct model_change random_change(struct random_test *t, unsigned char *buf)
{
	struct model_change c = {.op = CHANGE_PUT, .id = random_id(t, buf)};
	bool exists = model_find(&t->model, &c.id) != NULL;

	if (chance(t, t->model.n > ENTRIES_WANTED ? 60 : 15)) {
		c.op = CHANGE_REMOVE;
		return c;
	}
	c.has_rec = c.id.kind == ENTRY_DIR || chance(t, 70);
	if (c.id.kind == ENTRY_KEY) {
		c.hold = chance(t, 8);
		/* Where there is nothing to keep there is a value, or a promise of one. */
		c.has_value = exists || c.hold ? chance(t, 60) : true;
		if (!c.has_value && !c.has_rec)
			c.has_rec = true;
	}
	if (c.has_rec)
		c.rec = random_record(t, c.id.kind);
	if (c.has_value)
		c.value = random_value(t);
	return c;
}

/* The changes as one group, to one side. */
static void apply_to_side(
	struct random_test *t, struct side *side, const struct model_change *changes, size_t n)
{
	struct change group[GROUP_MAX];

	for (size_t i = 0; i < n; i++) {
		const struct model_change *c = &changes[i];

		group[i] = (struct change){
			.op = c->op,
			.id = side_id(side, c->id),
			.rec = c->has_rec ? &c->rec : NULL,
			.hold = c->hold,
		};
		if (!c->has_value)
			continue;
		model_value_fill(&c->value, t->want);
		assert_int_equal(blob_new_copy(side->st->blobs, t->want, (size_t)c->value.len,
					 &group[i].value),
			0);
	}
	assert_int_equal(side->st->ops->throttle(side->st, 0), 0);
	assert_int_equal(side->st->ops->apply(side->st, group, n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		blob_unref(group[i].value);
}

static void apply_all(struct random_test *t, const struct model_change *changes, size_t n)
{
	for (int i = 0; i < STORES; i++)
		apply_to_side(t, &t->sides[i], changes, n);
}

static void expect_entry(struct view *v, struct side *side, const struct entry_id *id,
	const struct model_entry *want)
{
	unsigned char got_rec[1024], want_rec[1024];
	struct entry got;
	int rc = side->st->ops->view_get(v, id, &got);

	assert_int_equal(rc, want ? 0 : -ENOENT);
	if (!want)
		return;
	assert_int_equal(got.size, want->value.len);
	assert_int_equal(got.unrecorded, !want->recorded);
	assert_false(got.touched);
	record_encode(&want->rec, want_rec);
	assert_int_equal(record_encoded_size(&got.rec), record_encoded_size(&want->rec));
	record_encode(&got.rec, got_rec);
	assert_memory_equal(got_rec, want_rec, record_encoded_size(&want->rec));
}

static void expect_bytes(struct random_test *t, struct side *side, const struct entry_id *id,
	const struct model_entry *want)
{
	struct value v;
	int rc = side->st->ops->read(side->st, id, t->now, &v);

	assert_int_equal(rc, want ? 0 : -ENOENT);
	if (!want)
		return;
	assert_int_equal(v.len, want->value.len);
	assert_int_equal(value_read(&v, 0, t->got, VALUE_MAX + 1), v.len);
	value_release(&v);
	model_value_fill(&want->value, t->want);
	if (want->value.len)
		assert_memory_equal(t->got, t->want, want->value.len);
}

/* What all sides say of the entries of a group. */
static void expect_changed(struct random_test *t, const struct model_change *changes, size_t n)
{
	for (int side = 0; side < STORES; side++) {
		struct side *s = &t->sides[side];
		struct view *v = side_view(t, s);

		for (size_t i = 0; i < n; i++) {
			struct entry_id id = side_id(s, changes[i].id);

			expect_entry(v, s, &id, model_get(&t->model, &changes[i].id, t->now));
		}
		side_view_end(t, s, v);
		for (size_t i = 0; i < n; i++) {
			struct entry_id id = side_id(s, changes[i].id);

			if (id.kind == ENTRY_KEY)
				expect_bytes(
					t, s, &id, model_get(&t->model, &changes[i].id, t->now));
		}
	}
}

/* What a scan says of the entry it stands at is what a look at that entry says. */
static void expect_same_of_scan(
	struct side *side, struct view *v, struct scan *s, const struct entry_id *found)
{
	struct entry looked = {0}, got = {0}, brief = {0};
	int rc = side->st->ops->view_get(v, found, &looked);

	assert_int_equal(side->st->ops->scan_get(s, found, true, &brief), rc);
	assert_int_equal(side->st->ops->scan_get(s, found, false, &got), rc);
	if (rc)
		return;
	assert_memory_equal(&got.rec, &looked.rec, sizeof(got.rec));
	assert_int_equal(got.size, looked.size);
	assert_int_equal(got.touched, looked.touched);
	assert_int_equal(got.pending, looked.pending);
	assert_int_equal(got.unrecorded, looked.unrecorded);
	assert_int_equal(brief.unrecorded, looked.unrecorded);
	if (looked.unrecorded)
		return;
	assert_int_equal(brief.rec.ino, looked.rec.ino);
	assert_int_equal(brief.rec.mode, looked.rec.mode);
	assert_int_equal(brief.rec.flags, looked.rec.flags);
}

/* Walks a namespace and kind from end to end, then seeks at random. */
static void expect_scan(
	struct random_test *t, struct side *side, struct view *v, uint32_t ns, enum entry_kind kind)
{
	unsigned char from[STORE_PREFIX_MAX + 1] = {0};
	struct entry_id at = kit_id(ns, kind, from, 0), found;
	const struct model_entry *want;
	struct scan *s;

	assert_int_equal(side->st->ops->scan_open(v, side->ns[ns], kind, &s), 0);
	for (int seeks = 0; seeks < 50;) {
		int rc = side->st->ops->scan_seek(s, at.bytes, at.len, &found);

		want = model_seek(&t->model, &at, t->now);
		assert_int_equal(rc, want ? 0 : -ENOENT);
		if (want) {
			assert_int_equal(found.len, want->len);
			if (want->len)
				assert_memory_equal(found.bytes, want->bytes, want->len);
			expect_entry(v, side, &found, want);
			expect_same_of_scan(side, v, s, &found);
		}
		if (want && seeks == 0) {
			memcpy(from, want->bytes, want->len);
			from[want->len] = '\0';
			at.len = (uint16_t)(want->len + 1);
		} else {
			at = random_id(t, from);
			at.ns = ns;
			at.kind = kind;
			at.bytes = from;
			seeks++;
		}
	}
	side->st->ops->scan_close(s);
}

/* Every expired entry once, in the order of expiry. */
static void expect_expired(struct random_test *t, struct side *side, struct view *v)
{
	int64_t last = INT64_MIN, next = INT64_MAX;
	size_t expired = 0, n = 0;
	struct entry_id id;

	for (size_t i = 0; i < t->model.n; i++) {
		int64_t at = model_expiry(&t->model.entries[i]);

		expired += at <= t->now;
		next = at < next ? at : next;
	}
	assert_true(side->st->ops->view_next_expiry(v) == next);
	while (side->st->ops->view_expired(v, n, &id) == 0) {
		struct entry_id in_model = id;
		const struct model_entry *e;

		in_model.ns = id.ns == side->ns[0] ? 0 : 1;
		e = model_find(&t->model, &in_model);
		assert_non_null(e);
		assert_true(model_expiry(e) <= t->now);
		assert_true(model_expiry(e) >= last);
		last = model_expiry(e);
		n++;
	}
	assert_int_equal(n, expired);
}

static void expect_everything(struct random_test *t)
{
	for (int i = 0; i < STORES; i++) {
		struct side *side = &t->sides[i];
		struct view *v = side_view(t, side);

		for (uint32_t ns = 0; ns < MODEL_NAMESPACES; ns++) {
			expect_scan(t, side, v, ns, ENTRY_KEY);
			expect_scan(t, side, v, ns, ENTRY_DIR);
		}
		expect_expired(t, side, v);
		side_view_end(t, side, v);
		for (size_t n = 0; n < t->model.n; n++) {
			const struct model_entry *e = &t->model.entries[n];
			struct entry_id id = model_id(e), there = side_id(side, id);

			if (e->kind == ENTRY_KEY)
				expect_bytes(t, side, &there, model_get(&t->model, &id, t->now));
		}
	}
}

/* The two stores side by side, without the model: names, records, values. */
static void expect_alike(struct random_test *t, uint32_t ns, enum entry_kind kind)
{
	unsigned char from[STORE_PREFIX_MAX + 1] = {0};
	struct entry_id found[STORES];
	struct scan *scans[STORES];
	struct view *views[STORES];
	size_t len = 0;
	int rc;

	for (int i = 0; i < STORES; i++) {
		struct side *s = &t->sides[i];

		views[i] = side_view(t, s);
		assert_int_equal(s->st->ops->scan_open(views[i], s->ns[ns], kind, &scans[i]), 0);
	}
	do {
		rc = t->sides[0].st->ops->scan_seek(scans[0], from, len, &found[0]);
		assert_int_equal(
			t->sides[1].st->ops->scan_seek(scans[1], from, len, &found[1]), rc);
		if (rc)
			break;
		struct entry a, b;
		unsigned char a_rec[1024], b_rec[1024];

		len = found[0].len;
		assert_int_equal(found[1].len, len);
		assert_int_equal(t->sides[0].st->ops->view_get(views[0], &found[0], &a), 0);
		assert_int_equal(t->sides[1].st->ops->view_get(views[1], &found[1], &b), 0);
		assert_int_equal(a.size, b.size);
		assert_int_equal(record_encoded_size(&a.rec), record_encoded_size(&b.rec));
		record_encode(&a.rec, a_rec);
		record_encode(&b.rec, b_rec);
		assert_memory_equal(a_rec, b_rec, record_encoded_size(&a.rec));
		if (len) {
			assert_memory_equal(found[0].bytes, found[1].bytes, len);
			memcpy(from, found[0].bytes, len);
		}
		from[len++] = '\0';
	} while (rc == 0);
	for (int i = 0; i < STORES; i++) {
		t->sides[i].st->ops->scan_close(scans[i]);
		side_view_end(t, &t->sides[i], views[i]);
	}
}

static void step_changes(struct random_test *t, size_t n)
{
	static unsigned char bytes[GROUP_MAX][STORE_PREFIX_MAX];
	struct model_change changes[GROUP_MAX];

	for (size_t i = 0; i < n; i++) {
		changes[i] = random_change(t, bytes[i]);
		assert_true(model_apply(&t->model, &changes[i]));
	}
	apply_all(t, changes, n);
	expect_changed(t, changes, n);
}

/* What expired is removed, as a sweep would do it. */
static void step_sweep(struct random_test *t)
{
	for (size_t i = 0; i < t->model.n;) {
		struct model_entry e = t->model.entries[i];
		struct model_change c = {.op = CHANGE_REMOVE, .id = model_id(&e)};

		if (model_expiry(&e) <= t->now) {
			assert_true(model_apply(&t->model, &c));
			apply_all(t, &c, 1);
		} else {
			i++;
		}
	}
}

static bool nested(const struct entry_id *a, const struct entry_id *b)
{
	size_t common = a->len < b->len ? a->len : b->len;

	return a->ns == b->ns && memcmp(a->bytes, b->bytes, common) == 0;
}

/* Whether a directory may be moved there without an exchange: nothing but its own entry. */
static bool is_free(const struct random_test *t, const struct entry_id *to)
{
	for (size_t i = 0; i < t->model.n; i++) {
		const struct model_entry *e = &t->model.entries[i];

		if (model_in_tree(e, to) && (e->kind == ENTRY_KEY || e->len > to->len))
			return false;
	}
	return true;
}

static void step_move(struct random_test *t)
{
	unsigned char from_bytes[STORE_PREFIX_MAX] = {0}, to_bytes[STORE_PREFIX_MAX] = {0};
	struct entry_id from = kit_id(pick(t, MODEL_NAMESPACES), ENTRY_DIR, from_bytes, 0);
	struct entry_id to = kit_id(pick(t, MODEL_NAMESPACES), ENTRY_DIR, to_bytes, 0);
	bool exchange = chance(t, 30);

	from.len = (uint16_t)random_prefix(t, from_bytes);
	to.len = (uint16_t)random_prefix(t, to_bytes);
	if (nested(&from, &to))
		return;
	if (!exchange && !is_free(t, &to))
		exchange = true;
	int rc = model_move_tree(&t->model, &from, &to, exchange, t->now);
	for (int i = 0; i < STORES; i++) {
		struct side *s = &t->sides[i];
		struct entry_id a = side_id(s, from), b = side_id(s, to);

		assert_int_equal(s->st->ops->move_tree(s->st, &a, &b, exchange, t->now), rc);
	}
}

/* Completes what is held, since what becomes of it at a close is the store's own affair. */
static void step_reopen(struct random_test *t)
{
	for (size_t i = 0; i < t->model.n; i++) {
		struct model_entry e = t->model.entries[i];
		struct model_change c = {
			.op = CHANGE_PUT,
			.id = model_id(&e),
			.has_value = true,
			.value = random_value(t),
		};

		if (!e.held)
			continue;
		assert_true(model_apply(&t->model, &c));
		apply_all(t, &c, 1);
	}
	if (!kit_reopen(t->k))
		return;
	t->sides[0].st = t->k->st;
	find_namespaces(&t->sides[0]);
	expect_everything(t);
}

static void run(struct random_test *t)
{
	size_t done = 0;

	for (int step = 1; done < OPERATIONS; step++) {
		size_t n = 1 + pick(t, GROUP_MAX);

		step_changes(t, n);
		done += n;
		t->now += pick(t, 1000) * SECOND / 1000;
		if (step % 41 == 0)
			step_sweep(t);
		if (step % 59 == 0)
			step_move(t);
		if (step % 97 == 0)
			assert_int_equal(t->k->st->ops->sync(t->k->st, UINT64_MAX), 0);
		if (step % 211 == 0)
			expect_everything(t);
		if (step % 701 == 0)
			step_reopen(t);
	}
	expect_everything(t);
	for (uint32_t ns = 0; ns < MODEL_NAMESPACES; ns++) {
		expect_alike(t, ns, ENTRY_KEY);
		expect_alike(t, ns, ENTRY_DIR);
	}
}

static void test_random_changes(void **state)
{
	struct random_test t = {.k = *state, .seed = 20240229, .now = NOW};
	uint32_t ns;

	t.model.entries = malloc(MODEL_ENTRIES_MAX * sizeof(*t.model.entries));
	t.want = malloc(VALUE_MAX + 1);
	t.got = malloc(VALUE_MAX + 1);
	assert_true(t.model.entries && t.want && t.got);
	t.sides[0].st = t.k->st;
	assert_int_equal(memory_store_open(&t.sides[1].st), 0);
	assert_int_equal(t.sides[1].st->ops->ns_create(t.sides[1].st, "main", 4, NULL, &ns), 0);
	for (int i = 0; i < STORES; i++) {
		struct store *st = t.sides[i].st;

		assert_int_equal(st->ops->ns_create(st, "other", 5, NULL, &ns), 0);
		find_namespaces(&t.sides[i]);
	}
	run(&t);
	assert_int_equal(t.sides[1].st->ops->close(t.sides[1].st), 0);
	free(t.model.entries);
	free(t.want);
	free(t.got);
}

SUITE_PART(random, cmocka_unit_test(test_random_changes));
