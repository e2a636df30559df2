/*
 * rawlmdb - the same work as load's, done to an LMDB environment directly: what the store itself
 * costs. Also fills an environment with many keys quickly.
 *
 *   rawlmdb fill ENV PREFIXES KEYS SIZE     p0000:k0000000 ..., KEYS in all, sorted; not durable until
 *                                           the end
 *   rawlmdb put ENV DIRS FILES SIZE GROUP   d000/f00000 ...; one durable transaction per GROUP
 *   rawlmdb get ENV DIRS FILES SIZE         each in a transaction of its own, and copied
 *   rawlmdb scan ENV                        every key, by cursor
 *   rawlmdb del ENV                         every key, one durable transaction
 *   rawlmdb sync ENV WRITERS COUNT SIZE     COUNT in all, each a durable transaction
 *
 * The database is "main". Prints seconds and things as load does; opening the environment is not
 * counted.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { VALUE_MAX = 1 << 20, KEY_CAP = 64 };

static const size_t MAP_SIZE = (size_t)8 << 30;
static char data[VALUE_MAX];

static void check(const char *what, int rc)
{
	if (!rc)
		return;
	fprintf(stderr, "rawlmdb: %s: %s\n", what, mdb_strerror(rc));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static size_t number(const char *text)
{
	return (size_t)strtoull(text, NULL, 10);
}

static void print(double seconds, size_t things)
{
	printf("%.9f %zu\n", seconds, things);
}

struct db {
	MDB_env *env;
	MDB_dbi dbi;
};

static MDB_txn *begin(struct db *db, bool reading)
{
	MDB_txn *txn;

	check("begin", mdb_txn_begin(db->env, NULL, reading ? MDB_RDONLY : 0, &txn));
	return txn;
}

static void commit(MDB_txn *txn)
{
	check("commit", mdb_txn_commit(txn));
}

static struct db db_open(const char *dir, unsigned flags)
{
	struct db db;

	if (mkdir(dir, 0755) && errno != EEXIST)
		check(dir, errno);
	check("create", mdb_env_create(&db.env));
	check("maxdbs", mdb_env_set_maxdbs(db.env, 4));
	check("mapsize", mdb_env_set_mapsize(db.env, MAP_SIZE));
	check("open", mdb_env_open(db.env, dir, flags, 0644));
	MDB_txn *txn = begin(&db, false);
	check("database", mdb_dbi_open(txn, "main", MDB_CREATE, &db.dbi));
	commit(txn);
	return db;
}

static void put(struct db *db, MDB_txn *txn, char *key, size_t size, unsigned flags)
{
	MDB_val k = {strlen(key), key}, v = {size, data};

	check("put", mdb_put(txn, db->dbi, &k, &v, flags));
}

static void tree_key(size_t dirs, size_t files, size_t i, char key[KEY_CAP])
{
	size_t each = files / dirs;

	snprintf(key, KEY_CAP, "d%03zu/f%05zu", i / each, i % each);
}

static void fill(char **argv)
{
	enum { GROUP = 100000 };
	struct db db = db_open(argv[0], MDB_NOSYNC);
	size_t prefixes = number(argv[1]), keys = number(argv[2]), size = number(argv[3]);
	size_t each = keys / prefixes;
	char key[KEY_CAP];
	double began = now();
	MDB_txn *txn = begin(&db, false);

	for (size_t i = 0; i < each * prefixes; i++) {
		snprintf(key, sizeof(key), "p%04zu:k%07zu", i / each, i % each);
		put(&db, txn, key, size, MDB_APPEND);
		if (i % GROUP == GROUP - 1) {
			commit(txn);
			txn = begin(&db, false);
		}
	}
	commit(txn);
	check("sync", mdb_env_sync(db.env, 1));
	print(now() - began, each * prefixes);
}

static void put_all(char **argv)
{
	struct db db = db_open(argv[0], 0);
	size_t dirs = number(argv[1]), files = number(argv[2]), size = number(argv[3]);
	size_t group = number(argv[4]);
	char key[KEY_CAP];
	double began = now();
	MDB_txn *txn = begin(&db, false);

	for (size_t i = 0; i < files; i++) {
		tree_key(dirs, files, i, key);
		put(&db, txn, key, size, 0);
		if (i % group == group - 1) {
			commit(txn);
			txn = begin(&db, false);
		}
	}
	commit(txn);
	print(now() - began, files);
}

static void get_all(char **argv)
{
	struct db db = db_open(argv[0], 0);
	size_t dirs = number(argv[1]), files = number(argv[2]), size = number(argv[3]);
	char key[KEY_CAP];
	double began = now();

	for (size_t i = 0; i < files; i++) {
		MDB_txn *txn = begin(&db, true);
		MDB_val v, k = {0, key};

		tree_key(dirs, files, i, key);
		k.mv_size = strlen(key);
		check("get", mdb_get(txn, db.dbi, &k, &v));
		check("size", v.mv_size == size ? 0 : EIO);
		memcpy(data, v.mv_data, v.mv_size);
		mdb_txn_abort(txn);
	}
	print(now() - began, files);
}

static void scan(char **argv)
{
	struct db db = db_open(argv[0], 0);
	MDB_txn *txn = begin(&db, true);
	MDB_cursor *cursor;
	MDB_val k, v;
	size_t keys = 0;
	int rc;
	double began = now();

	check("cursor", mdb_cursor_open(txn, db.dbi, &cursor));
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
		keys++;
	check("scan", rc == MDB_NOTFOUND ? 0 : rc);
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	print(now() - began, keys);
}

static void del_all(char **argv)
{
	struct db db = db_open(argv[0], 0);
	MDB_txn *txn = begin(&db, false);
	MDB_cursor *cursor;
	MDB_val k, v;
	size_t keys = 0;
	double began = now();

	check("cursor", mdb_cursor_open(txn, db.dbi, &cursor));
	while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
		check("del", mdb_cursor_del(cursor, 0));
		keys++;
	}
	mdb_cursor_close(cursor);
	commit(txn);
	print(now() - began, keys);
}

static void sync_worker(char **argv, size_t who, size_t count, int ready, int start)
{
	struct db db = db_open(argv[0], 0);
	char key[KEY_CAP], byte = 0;

	if (write(ready, &byte, 1) != 1 || read(start, &byte, 1) != 0)
		exit(1);
	for (size_t i = 0; i < count; i++) {
		MDB_txn *txn = begin(&db, false);

		snprintf(key, sizeof(key), "p%02zu/f%05zu", who, i);
		put(&db, txn, key, number(argv[3]), 0);
		commit(txn);
	}
	exit(0);
}

/* Processes of their own, each with the environment open, as other programs would. */
static void sync_all(char **argv)
{
	size_t writers = number(argv[1]), each = number(argv[2]) / writers;
	int ready[2], start[2], status;
	bool good = true;
	char byte;

	if (pipe(ready) || pipe(start))
		check("pipe", errno);
	for (size_t w = 0; w < writers; w++) {
		pid_t pid = fork();

		if (pid < 0)
			check("fork", errno);
		if (!pid) {
			close(start[1]);
			sync_worker(argv, w, each, ready[1], start[0]);
		}
	}
	close(ready[1]); /* so that the reads below end when a worker fails */
	for (size_t w = 0; w < writers; w++)
		good &= read(ready[0], &byte, 1) == 1;
	double began = now();
	close(start[1]);
	for (size_t w = 0; w < writers; w++)
		good &= wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (!good)
		exit(1);
	print(now() - began, each * writers);
}

static int run(const char *what, int argc, char **argv)
{
	if (strcmp(what, "fill") == 0 && argc == 4)
		fill(argv);
	else if (strcmp(what, "put") == 0 && argc == 5)
		put_all(argv);
	else if (strcmp(what, "get") == 0 && argc == 4)
		get_all(argv);
	else if (strcmp(what, "scan") == 0 && argc == 1)
		scan(argv);
	else if (strcmp(what, "del") == 0 && argc == 1)
		del_all(argv);
	else if (strcmp(what, "sync") == 0 && argc == 4)
		sync_all(argv);
	else
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	memset(data, 'x', sizeof(data));
	if (argc < 3 || run(argv[1], argc - 2, argv + 2)) {
		fputs("usage: rawlmdb WHAT ARGUMENT... (see the head of rawlmdb.c)\n", stderr);
		return 2;
	}
	return 0;
}
