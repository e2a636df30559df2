/*
 * wb_kit.c - see wb_kit.h.
 */
#include "tests/unit/wb_kit.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/lmdb/lmdb.h"
#include "backends/memory/memory.h"

static char clock_file[] = "/tmp/kvfs-clock-XXXXXX";
static double clock_at;

static void set_clock(double seconds)
{
	FILE *f = fopen(clock_file, "w");

	assert_non_null(f);
	fprintf(f, "%.6f", seconds);
	fclose(f);
	clock_at = seconds;
}

void wbk_advance(double seconds)
{
	set_clock(clock_at + seconds);
}

static int close_nothing(struct store *st)
{
	return 0;
}

static void open_local(struct wbk *k)
{
	char why[256] = "";

	if (*k->folder) {
		struct lmdb_options o = {.dir = k->folder, .create = true, .commit_interval_ms = 5};

		if (lmdb_store_open(&o, &k->local, why, sizeof(why)))
			fail_msg("%s", why);
	} else if (!k->local) {
		assert_int_equal(memory_store_open(&k->local), 0);
		k->keeping = *k->local->ops;
		k->keeping.close = close_nothing;
	}
}

void wbk_open(struct wbk *k)
{
	char why[256] = "";
	uint32_t number;

	open_local(k);
	if (!*k->folder)
		k->local->ops = &k->keeping;
	if (!k->pool)
		k->pool = blob_pool_new("/tmp", 1 << 20, 1 << 24);
	k->remote.arg = k->pool;
	if (writeback_open(
		    k->local, &k->remote.base, &k->opt, NULL, &k->st, &number, why, sizeof(why)))
		fail_msg("%s", why);
	k->wb = writeback(k->st);
	assert_int_equal(k->st->ops->ns_find(k->st, "main", 4, &number), 0);
	k->ns = wb_ns(k->wb, number);
	assert_non_null(k->ns);
}

void wbk_close(struct wbk *k)
{
	if (k->st)
		assert_int_equal(k->st->ops->close(k->st), 0);
	k->st = NULL;
}

void wbk_reopen(struct wbk *k)
{
	wbk_close(k);
	wbk_open(k);
}

static int setup(void **state, bool durable)
{
	struct wbk *k = calloc(1, sizeof(*k));
	char id[REMOTE_ID_MAX + 1];

	assert_non_null(k);
	set_clock(1000000000);
	if (durable) {
		snprintf(k->folder, sizeof(k->folder), "/tmp/kvfs-wb-XXXXXX");
		assert_non_null(mkdtemp(k->folder));
	}
	fake_init(&k->remote);
	k->remote.base.ops->ns_create(&k->remote.base, "main", 4, id);
	k->opt = (struct writeback_options){
		.separator = '/',
		.umask = 022,
		.max_age = 60LL * CLOCK_SECOND,
		.upload_delay = CLOCK_SECOND,
		.local_globs = "*.swp .~*",
	};
	wbk_open(k);
	fake_log(&k->remote);
	*state = k;
	return 0;
}

int wbk_setup(void **state)
{
	return setup(state, false);
}

int wbk_setup_durable(void **state)
{
	return setup(state, true);
}

static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

int wbk_teardown(void **state)
{
	struct wbk *k = *state;

	if (k->st)
		k->st->ops->close(k->st);
	if (*k->folder) {
		remove_folder(k->folder);
	} else {
		struct store *memory;

		/* Its own close is that of any store of memory. */
		if (memory_store_open(&memory) == 0) {
			k->local->ops = memory->ops;
			memory->ops->close(memory);
			k->local->ops->close(k->local);
		}
	}
	fake_free(&k->remote);
	blob_pool_free(k->pool);
	free(k);
	return 0;
}

/* --- changes ------------------------------------------------------------------------------------ */

struct entry_id wbk_key(const struct wbk *k, const char *key)
{
	return wb_key(k->ns->keys, key, strlen(key));
}

static void change(struct wbk *k, const char *key, const char *value, int64_t expiration,
	const char *metadata, bool hold)
{
	struct record rec = {.mode = S_IFREG | 0644, .ino = 7, .expiration = expiration};
	struct change put = {.op = CHANGE_PUT, .id = wbk_key(k, key), .rec = &rec, .hold = hold};
	unsigned char *xattrs = NULL;
	size_t len = 0;

	if (metadata)
		assert_int_equal(xattrs_set(NULL, 0, "user.kv.metadata", metadata, strlen(metadata),
					 &xattrs, &len),
			0);
	rec.xattrs = xattrs;
	rec.xattrs_len = (uint32_t)len;
	if (value)
		assert_int_equal(blob_new_copy(k->st->blobs, value, strlen(value), &put.value), 0);
	assert_int_equal(k->st->ops->apply(k->st, &put, 1, NULL), 0);
	blob_unref(put.value);
	free(xattrs);
}

void wbk_put_with(
	struct wbk *k, const char *key, const char *value, int64_t expiration, const char *metadata)
{
	change(k, key, value, expiration, metadata, false);
}

void wbk_put(struct wbk *k, const char *key, const char *value)
{
	change(k, key, value, 0, NULL, false);
}

void wbk_set(struct wbk *k, const char *key, int64_t expiration, const char *metadata)
{
	change(k, key, NULL, expiration, metadata, false);
}

void wbk_hold(struct wbk *k, const char *key)
{
	change(k, key, "", 0, NULL, true);
}

void wbk_remove(struct wbk *k, const char *key)
{
	struct change remove = {.op = CHANGE_REMOVE, .id = wbk_key(k, key)};

	assert_int_equal(k->st->ops->apply(k->st, &remove, 1, NULL), 0);
}

/* --- reading ------------------------------------------------------------------------------------ */

static int prepare(
	struct wbk *k, struct want *want, enum want_kind kind, const char *key, const char *prefix)
{
	*want = (struct want){.kind = kind, .ns = k->ns->keys};
	want->key = (const unsigned char *)key;
	want->key_len = strlen(key);
	want->prefix = (const unsigned char *)prefix;
	want->prefix_len = strlen(prefix);
	return k->st->ops->prepare(k->st, want);
}

int wbk_name(struct wbk *k, const char *key, const char *prefix)
{
	struct want want;

	return prepare(k, &want, WANT_NAME, key, prefix);
}

int wbk_value(struct wbk *k, const char *key)
{
	struct want want;

	return prepare(k, &want, WANT_VALUE, key, "");
}

int wbk_tree(struct wbk *k, const char *prefix)
{
	struct want want;

	return prepare(k, &want, WANT_TREE, "", prefix);
}

int wbk_list_from(struct wbk *k, const char *prefix, const char *from, struct want *want)
{
	return prepare(k, want, WANT_LIST, from, prefix);
}

int wbk_list(struct wbk *k, const char *prefix)
{
	struct want want;
	char from[STORE_PREFIX_MAX + 1] = "";
	int rc;

	do {
		rc = wbk_list_from(k, prefix, from, &want);
		memcpy(from, want.upto, want.upto_len);
		from[want.upto_len] = '\0';
	} while (!rc && !want.complete);
	return rc;
}

const char *wbk_shown(struct wbk *k, const char *key)
{
	static char text[2048];
	struct entry_id id = wbk_key(k, key);
	struct value v;
	int rc = k->st->ops->read(k->st, &id, clock_now(), &v);

	if (rc)
		return rc == -ENOENT ? "-" : "?";
	int64_t n = value_read(&v, 0, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	value_release(&v);
	return text;
}

const char *wbk_keys(struct wbk *k)
{
	static char text[1 << 16];
	unsigned char at[STORE_KEY_MAX + 1];
	size_t n = 0, len = 0;
	struct entry_id id;
	struct view *v;
	struct scan *s;

	assert_int_equal(k->st->ops->view_begin(k->st, clock_now(), &v), 0);
	assert_int_equal(k->st->ops->scan_open(v, k->ns->keys, ENTRY_KEY, &s), 0);
	while (k->st->ops->scan_seek(s, at, len, &id) == 0 && n + id.len + 2u < sizeof(text)) {
		if (n)
			text[n++] = ' ';
		memcpy(text + n, id.bytes, id.len);
		n += id.len;
		memcpy(at, id.bytes, id.len);
		len = id.len;
		at[len++] = '\0';
	}
	text[n] = '\0';
	k->st->ops->scan_close(s);
	k->st->ops->view_end(v);
	return text;
}

static struct wb_entry entry_of(struct wbk *k, const char *key)
{
	struct entry_id id = wbk_key(k, key);
	struct wb_entry e;

	assert_int_equal(wb_entry_get(k->wb, &id, &e), 0);
	return e;
}

int64_t wbk_expiration(struct wbk *k, const char *key)
{
	struct wb_entry e = entry_of(k, key);

	wb_entry_release(&e);
	return e.rec.expiration;
}

const char *wbk_metadata(struct wbk *k, const char *key)
{
	static char text[1025];
	struct wb_entry e = entry_of(k, key);
	size_t len = 0;
	const unsigned char *m =
		xattrs_get(e.rec.xattrs, e.rec.xattrs_len, "user.kv.metadata", &len);

	if (m)
		memcpy(text, m, len);
	text[m ? len : 0] = '\0';
	wb_entry_release(&e);
	return text;
}

const char *wbk_state(struct wbk *k, const char *key)
{
	struct entry_id id = wbk_key(k, key);
	struct entry e;
	struct view *v;

	assert_int_equal(k->st->ops->view_begin(k->st, clock_now(), &v), 0);
	int rc = k->st->ops->view_get(v, &id, &e);
	k->st->ops->view_end(v);
	return rc ? "absent" : e.failed ? e.failed : e.pending ? "pending" : "synced";
}

/* --- uploading ---------------------------------------------------------------------------------- */

int64_t wbk_pass(struct wbk *k)
{
	return wb_upload_pass(k->wb);
}

void wbk_upload(struct wbk *k)
{
	wbk_advance(2);
	for (int i = 0; i < 10 && wbk_pass(k) <= clock_now(); i++)
		;
}

bool wbk_journal(struct wbk *k, const char *key, struct journal *j)
{
	struct entry_id id = wbk_key(k, key);

	return journal_get(k->local, k->ns->journal, &id, j) == 0;
}

static void told(void *arg, struct foreign_change *what)
{
}

void wbk_watch(struct wbk *k)
{
	k->st->ops->watch(k->st, told, k);
}

int wbk_run(const char *name, const struct CMUnitTest *tests, size_t n)
{
	int fd = mkstemp(clock_file);

	if (fd < 0)
		return 1;
	close(fd);
	set_clock(1000000000);
	setenv("KVFS_CLOCK", clock_file, 1);
	if (clock_init())
		return 1;
	int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
	unlink(clock_file);
	return failed;
}
