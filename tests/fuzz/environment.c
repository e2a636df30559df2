#include "tests/fuzz/environment.h"

#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/log.h"
#include "backends/lmdb/check.h"
#include "backends/lmdb/lmdb.h"
#include "backends/record.h"
#include "fs/core/fs.h"

enum {
	STAMP = 32, /* what stands before a record in kvfs:nodes */
	BASE_MAX = 4 << 20,
	ENTRIES_MAX = 4000,
	DEPTH_MAX = 6,
	CHANGED_MAX = 6, /* in a directory: each is a transaction or more */
	NAME = 256,
};

const char *const environment_dbs[ENVIRONMENT_DBS] = {
	"main", "other", "kvfs:nodes", "kvfs:expiry", "kvfs:meta", "kvfs:long", "kvfs:heads", NULL};

static char folder[64], data_file[80], lock_file[80];

/* LMDB does not free everything where a transaction fails. */
const char *__lsan_default_suppressions(void);
const char *__asan_default_options(void);

/* LMDB allocates much for each transaction; what is given back is to be used again at once. */
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=1";
}

const char *__lsan_default_suppressions(void)
{
	return "leak:mdb_";
}

void environment_demand(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

unsigned environment_flags(size_t db)
{
	return db == 3 ? MDB_DUPSORT : 0;
}

static void remove_all(void)
{
	unlink(data_file);
	unlink(lock_file);
	rmdir(folder);
}

const char *environment_dir(void)
{
	if (*folder)
		return folder;
	snprintf(folder, sizeof(folder), "%s/kvfs-fuzz-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	environment_demand(mkdtemp(folder) != NULL, "no folder");
	snprintf(data_file, sizeof(data_file), "%s/data.mdb", folder);
	snprintf(lock_file, sizeof(lock_file), "%s/lock.mdb", folder);
	atexit(remove_all);
	log_open("/dev/null", false);
	return folder;
}

MDB_env *environment_open(void)
{
	MDB_env *env;

	if (mdb_env_create(&env))
		return NULL;
	if (mdb_env_set_maxdbs(env, 64) || mdb_env_set_mapsize(env, 16 << 20) ||
		mdb_env_open(env, environment_dir(), MDB_NOSYNC, 0600)) {
		mdb_env_close(env);
		return NULL;
	}
	return env;
}

/* --- making it ---------------------------------------------------------------------------------- */

static void put(MDB_txn *txn, size_t db, const void *key, size_t len, const void *data, size_t size)
{
	MDB_val k = {len, (void *)(uintptr_t)key}, v = {size, (void *)(uintptr_t)data};
	MDB_dbi dbi;

	environment_demand(mdb_dbi_open(txn, environment_dbs[db],
				   environment_flags(db) | MDB_CREATE, &dbi) == 0 &&
			mdb_put(txn, dbi, &k, &v, 0) == 0,
		"making the environment");
}

/* id, kind, name: the key of a record. */
static size_t pack(unsigned char *to, unsigned ns, unsigned kind, const char *name)
{
	memcpy(to, (unsigned char[]){0, 0, 0, (unsigned char)ns, (unsigned char)kind}, 5);
	memcpy(to + 5, name, strlen(name));
	return 5 + strlen(name);
}

static void put_record(
	MDB_txn *txn, unsigned kind, const char *name, const char *value, int64_t expiration)
{
	unsigned char key[600], bytes[STAMP + 512] = {1},
					      xattrs[] = "\x10user.kv.metadata\1\0\0\0"
							 "7";
	struct record rec = {.flags = kind ? RECORD_MADE : 0,
		.mode = kind ? S_IFDIR | 0755 : S_IFREG | 0644,
		.ino = 1000 + strlen(name),
		.expiration = expiration,
		.xattrs = xattrs,
		.xattrs_len = expiration ? sizeof(xattrs) - 1 : 0};
	uint64_t size = htole64(strlen(value)), at = htobe64((uint64_t)expiration * 1000000000);
	size_t len = pack(key, 1, kind, name);

	memcpy(bytes + 8, &size, sizeof(size));
	record_encode(&rec, bytes + STAMP);
	put(txn, 2, key, len, bytes, STAMP + record_encoded_size(&rec));
	if (expiration)
		put(txn, 3, &at, sizeof(at), key, len);
}

static void put_key(MDB_txn *txn, const char *key, size_t size, int64_t expiration)
{
	char *value = malloc(size + 1);

	memset(value, 'v', size);
	value[size] = '\0';
	put(txn, 0, key, strlen(key), value, size);
	put_record(txn, 0, key, value, expiration);
	free(value);
}

/* A key of 512 bytes: its head has a number, and its value is apart. */
static void put_long(MDB_txn *txn)
{
	unsigned char head[495], tail[13 + 22], reverse[12] = {255, 255, 255, 255};
	unsigned char one_le[8] = {0}, one_be[8] = {0};
	uint64_t number = htobe64(1);

	memcpy(one_be, &number, 8);
	memcpy(one_le, &number, 8);
	memcpy(reverse + 4, one_be, 8);
	memset(head, 'h', sizeof(head));
	memcpy(head, "\0\0\0\1\0", 5);
	memset(tail, 't', sizeof(tail));
	memcpy(tail, "\0\0\0\1\x80", 5);
	memcpy(tail + 5, one_be, 8);
	put(txn, 6, head, sizeof(head), one_le, 8);
	put(txn, 6, reverse, sizeof(reverse), head, sizeof(head));
	put(txn, 5, tail, sizeof(tail), "long", 4);
}

static void fill(MDB_txn *txn)
{
	unsigned char state[32] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 16};
	char name[300];

	put(txn, 4, "s", 1, state, sizeof(state));
	put(txn, 4, "n\0\0\0\1", 5, "main", 4);
	put(txn, 4, "n\0\0\0\2", 5, "other", 5);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "dir%d/key-%04d", i % 7, i);
		put_key(txn, name, (size_t)(i * i), i % 3 ? 0 : i % 2 ? 1000 : 4000000000);
	}
	put_key(txn, "big", 20000, 0);
	put_key(txn, "value", 70000, 0);
	put_key(txn, "value/below", 3, 0);
	for (int i = 0; i < 12; i++) {
		memset(name, 'a' + i, 250);
		snprintf(name + 250, 40, "/%d", i);
		put_key(txn, name, 10, 4000000001); /* so many of one time are a tree */
	}
	put_record(txn, 1, "made/", "", 0);
	put_record(txn, 1, "", "", 0);
	put(txn, 1, "k", 1, "v", 1);
	put(txn, 1, "a/b/c", 5, "", 0);
	put_long(txn);
}

static void change(MDB_env *env, void (*work)(MDB_txn *txn))
{
	MDB_txn *txn;

	environment_demand(mdb_txn_begin(env, NULL, 0, &txn) == 0, "beginning");
	work(txn);
	environment_demand(mdb_txn_commit(txn) == 0, "committing");
}

static void remove_some(MDB_txn *txn)
{
	MDB_val key = {3, (void *)(uintptr_t) "big"};
	MDB_dbi dbi;

	environment_demand(
		mdb_dbi_open(txn, "main", 0, &dbi) == 0 && mdb_del(txn, dbi, &key, NULL) == 0,
		"removing");
}

static void touch_some(MDB_txn *txn)
{
	put(txn, 1, "k2", 2, "v", 1);
}

const unsigned char *environment_bytes(size_t *size)
{
	static unsigned char *bytes;
	static size_t len;

	if (!bytes) {
		MDB_env *env = environment_open();

		environment_demand(env != NULL, "making the environment");
		change(env, fill);
		change(env, remove_some);
		change(env, touch_some);
		mdb_env_close(env);
		bytes = malloc(BASE_MAX);
		int fd = open(data_file, O_RDONLY);
		ssize_t n = bytes ? read(fd, bytes, BASE_MAX) : -1;
		close(fd);
		environment_demand(n > 0, "reading the environment");
		len = (size_t)n;
	}
	*size = len;
	return bytes;
}

void environment_set(const void *bytes, size_t size)
{
	environment_dir();
	unlink(lock_file);
	int fd = open(data_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	environment_demand(
		fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "writing the environment");
	close(fd);
}

/* --- using it ----------------------------------------------------------------------------------- */

struct use {
	struct fs *fs;
	size_t left; /* entries to be looked at */
};

struct names {
	char name[16][NAME];
	bool dir[16];
	size_t n;
	uint64_t next;
};

static int take_bytes(void *arg, const void *data, size_t len)
{
	volatile unsigned char sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (unsigned char)(sum + ((const unsigned char *)data)[i]);
	return (int)len;
}

static bool take_name(void *arg, const struct fs_dirent *d)
{
	struct names *names = arg;

	if (names->n == 16)
		return false;
	names->next = d->next;
	if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
		return true;
	names->dir[names->n] = S_ISDIR(d->type);
	snprintf(names->name[names->n++], NAME, "%s", d->name);
	return true;
}

static void look_at_attributes(struct use *u, struct node *n)
{
	static const char *const known[] = {"user.kv.expiration", "user.kv.metadata", "user.kv.ttl",
		"user.kv.key", "user.kv.state"};
	char bytes[4096];

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		fs_getxattr(u->fs, n, known[i], bytes, sizeof(bytes));
	fs_listxattr(u->fs, n, bytes, sizeof(bytes));
}

static void look_at(struct use *u, struct node *dir, int depth);

static void look_at_one(struct use *u, struct node *dir, const char *name, int depth)
{
	char target[4096];
	struct fs_attr attr;
	struct handle *h;
	struct node *n;
	double valid;

	if (fs_lookup(u->fs, dir, name, &n, &attr, &valid))
		return;
	look_at_attributes(u, n);
	if (S_ISDIR(attr.st.st_mode))
		look_at(u, n, depth + 1);
	else if (S_ISLNK(attr.st.st_mode))
		fs_readlink(u->fs, n, target, sizeof(target));
	else if (fs_open_file(u->fs, n, false, false, 0, &h) == 0) {
		fs_read(u->fs, n, 0, 1 << 20, take_bytes, NULL);
		fs_release_file(u->fs, h);
	}
	fs_forget(u->fs, n, 1);
}

/* All of a directory, as far as `left` allows. */
static void look_at(struct use *u, struct node *dir, int depth)
{
	struct names *names = calloc(1, sizeof(*names));
	struct listing *l;

	if (depth < DEPTH_MAX && fs_opendir(u->fs, dir, &l) == 0) {
		do {
			names->n = 0;
			if (fs_readdir(u->fs, l, names->next, false, 16, take_name, names))
				break;
			for (size_t i = 0; i < names->n && u->left; i++, u->left--)
				look_at_one(u, dir, names->name[i], depth);
		} while (names->n && u->left);
		fs_closedir(u->fs, l);
	}
	free(names);
}

static void make_something(struct use *u, struct node *dir)
{
	const struct fs_caller who = {0};
	struct fs_attr attr;
	struct handle *h;
	struct node *n;

	if (fs_mkdir(u->fs, dir, "new", 0755, who, &n, &attr) == 0)
		fs_forget(u->fs, n, 1);
	if (fs_create(u->fs, dir, "file", 0644, who, &n, &h, &attr) == 0) {
		fs_write(u->fs, h, 10, "text", 4, false);
		fs_flush(u->fs, h, 0);
		fs_release_file(u->fs, h);
		fs_setxattr(u->fs, n, "user.kv.ttl", "9", 1, 0);
		fs_forget(u->fs, n, 1);
	}
}

static void change_one(struct use *u, struct node *dir, const char *name, size_t i)
{
	struct fs_attr attr;
	struct stat st = {.st_mode = 0700, .st_size = 5};
	struct node *n;
	double valid;

	if (fs_lookup(u->fs, dir, name, &n, &attr, &valid) == 0) {
		fs_setattr(u->fs, n, &st,
			i % 2 ? FS_SET_MODE : FS_SET_MODE | FS_SET_SIZE | FS_SET_MTIME_NOW, NULL,
			&attr);
		fs_setxattr(u->fs, n, "user.other", "x", 1, 0);
		fs_removexattr(u->fs, n, "user.kv.expiration");
		fs_forget(u->fs, n, 1);
	}
	fs_rename(u->fs, dir, name, dir, i % 3 ? "moved" : "taken", 0);
	fs_unlink(u->fs, dir, "taken");
	fs_rmdir(u->fs, dir, i % 2 ? "moved" : name);
}

/* What is seen of a directory is changed in one way or another. */
static void change_all(struct use *u, struct node *dir, bool deeper)
{
	struct names *names = calloc(1, sizeof(*names));
	struct fs_attr attr;
	struct listing *l;
	struct node *n;
	double valid;

	if (fs_opendir(u->fs, dir, &l) == 0) {
		fs_readdir(u->fs, l, 0, false, CHANGED_MAX, take_name, names);
		fs_closedir(u->fs, l);
	}
	for (size_t i = 0; i < names->n; i++) {
		if (deeper && fs_lookup(u->fs, dir, names->name[i], &n, &attr, &valid) == 0) {
			make_something(u, n);
			change_all(u, n, false);
			fs_forget(u->fs, n, 1);
		}
		change_one(u, dir, names->name[i], i);
	}
	free(names);
}

/* As the sweep does it. */
static void remove_expired(struct store *st, int64_t now)
{
	struct entry_id id;
	struct view *v;

	for (int i = 0; i < 200; i++) {
		if (st->ops->view_begin(st, now, &v))
			return;
		int rc = st->ops->view_expired(v, 0, &id);
		unsigned char bytes[STORE_PREFIX_MAX];
		if (rc == 0)
			memcpy(bytes, id.bytes, id.len);
		st->ops->view_next_expiry(v);
		st->ops->view_end(v);
		if (rc)
			return;
		id.bytes = bytes;
		st->ops->apply(st, &(struct change){.op = CHANGE_REMOVE, .id = id}, 1, NULL);
	}
}

static int check(void)
{
	struct check_info info;
	char why[200];
	int fd = open(data_file, O_RDONLY | O_CLOEXEC);
	int rc = check_environment(fd, &info, why, sizeof(why));

	close(fd);
	if (rc && getenv("FUZZ_SAY"))
		fprintf(stderr, "%s\n", why);
	return rc;
}

void environment_use(void)
{
	struct lmdb_options opt = {.dir = environment_dir()};
	struct fs_options how = {.separator = '/'};
	struct use u = {.left = ENTRIES_MAX};
	struct store *st;
	char why[256];

	if (lmdb_store_open(&opt, &st, why, sizeof(why)))
		return;
	if (fs_open(st, FS_NS_ALL, &how, &u.fs)) {
		st->ops->close(st);
		return;
	}
	look_at(&u, fs_root(u.fs), 0);
	remove_expired(st, INT64_C(2000000000) * 1000000000);
	make_something(&u, fs_root(u.fs));
	change_all(&u, fs_root(u.fs), true);
	fs_sync_all(u.fs, NULL);
	u.left = ENTRIES_MAX;
	look_at(&u, fs_root(u.fs), 0);
	int rc = fs_close(u.fs);
	environment_demand(rc || check() == 0, "what was left cannot be opened again");
}
