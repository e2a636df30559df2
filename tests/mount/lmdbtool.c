/*
 * lmdbtool - uses an LMDB environment without kvfs, as any other program would.
 *
 *   lmdbtool ENV put DB      lines "KEY VALUE" (hexadecimal) from standard input, in one go
 *   lmdbtool ENV del DB      lines "KEY " likewise; a key that is absent is an error
 *   lmdbtool ENV create DB plain|dupsort|integerkey|reversekey
 *   lmdbtool ENV hold        begins a read transaction, prints "ready", lasts as its input
 *   lmdbtool ENV lock        the same with a write transaction, beside which there can be no other
 *
 * DB is made when it is absent; "" is the unnamed database. Exit status 0 or 1.
 */
#include <ctype.h>
#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NEW_MAP_SIZE = 1 << 30, MAX_DBS = 16 };

static void fail(const char *what, int rc)
{
	fprintf(stderr, "lmdbtool: %s: %s\n", what, mdb_strerror(rc));
	exit(1);
}

static void check(const char *what, int rc)
{
	if (rc)
		fail(what, rc);
}

/* An environment that exists keeps the size that it has. */
static MDB_env *open_env(const char *dir)
{
	MDB_env *env;
	struct stat st;
	char file[4096];

	check("mdb_env_create", mdb_env_create(&env));
	check("mdb_env_set_maxdbs", mdb_env_set_maxdbs(env, MAX_DBS));
	snprintf(file, sizeof(file), "%s/data.mdb", dir);
	if (stat(file, &st) != 0)
		check("mdb_env_set_mapsize", mdb_env_set_mapsize(env, NEW_MAP_SIZE));
	check("mdb_env_open", mdb_env_open(env, dir, 0, 0644));
	return env;
}

/* Turns the hexadecimal digits at `text` into bytes in place; where they end. */
static char *unhex(char *text, MDB_val *out)
{
	unsigned char *to = (unsigned char *)text;

	out->mv_data = to;
	while (isxdigit((unsigned char)text[0]) && isxdigit((unsigned char)text[1])) {
		const char pair[3] = {text[0], text[1], '\0'};

		*to++ = (unsigned char)strtoul(pair, NULL, 16);
		text += 2;
	}
	out->mv_size = (size_t)(to - (unsigned char *)out->mv_data);
	return text;
}

/* All of standard input, terminated. */
static char *read_input(void)
{
	char *text = NULL;
	size_t cap = 0;

	ssize_t len = getdelim(&text, &cap, '\0', stdin);
	if (len < 0 && !feof(stdin))
		fail("input", errno);
	if (len < 0)
		text[0] = '\0';
	return text;
}

/* The input is read before the transaction begins: whoever is to write it may be waiting for somebody who
 * waits for LMDB's lock. */
static void change(MDB_env *env, const char *name, bool removing)
{
	char *input = read_input(), *at = input;
	MDB_txn *txn;
	MDB_dbi dbi;

	check("mdb_txn_begin", mdb_txn_begin(env, NULL, 0, &txn));
	check("mdb_dbi_open", mdb_dbi_open(txn, *name ? name : NULL, MDB_CREATE, &dbi));
	while (*at) {
		char *line = strsep(&at, "\n");
		MDB_val key, value;
		char *rest = unhex(line, &key);

		if (*rest != ' ')
			fail("input", EINVAL);
		unhex(rest + 1, &value);
		if (removing)
			check("mdb_del", mdb_del(txn, dbi, &key, NULL));
		else
			check("mdb_put", mdb_put(txn, dbi, &key, &value, 0));
		if (!at)
			break;
	}
	free(input);
	check("mdb_txn_commit", mdb_txn_commit(txn));
}

static void create(MDB_env *env, const char *name, const char *kind)
{
	MDB_txn *txn;
	MDB_dbi dbi;
	unsigned int number = 7;
	MDB_val key = {.mv_size = sizeof(number), .mv_data = &number};
	MDB_val value = {.mv_size = 1, .mv_data = &(char[1]){'v'}};
	unsigned int flags = MDB_CREATE;

	if (strcmp(kind, "dupsort") == 0)
		flags |= MDB_DUPSORT;
	else if (strcmp(kind, "integerkey") == 0)
		flags |= MDB_INTEGERKEY;
	else if (strcmp(kind, "reversekey") == 0)
		flags |= MDB_REVERSEKEY;
	check("mdb_txn_begin", mdb_txn_begin(env, NULL, 0, &txn));
	check("mdb_dbi_open", mdb_dbi_open(txn, name, flags, &dbi));
	if (flags != MDB_CREATE)
		check("mdb_put", mdb_put(txn, dbi, &key, &value, 0));
	check("mdb_txn_commit", mdb_txn_commit(txn));
}

static void drop(MDB_env *env, const char *name)
{
	MDB_txn *txn;
	MDB_dbi dbi;

	check("mdb_txn_begin", mdb_txn_begin(env, NULL, 0, &txn));
	check("mdb_dbi_open", mdb_dbi_open(txn, name, 0, &dbi));
	check("mdb_drop", mdb_drop(txn, dbi, 1));
	check("mdb_txn_commit", mdb_txn_commit(txn));
}

static void hold(MDB_env *env, unsigned flags)
{
	MDB_txn *txn;

	check("mdb_txn_begin", mdb_txn_begin(env, NULL, flags, &txn));
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	mdb_txn_abort(txn);
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[2] : "";
	bool changing = argc == 4 && (strcmp(command, "put") == 0 || strcmp(command, "del") == 0);
	bool dropping = argc == 4 && strcmp(command, "drop") == 0;
	bool creating = argc == 5 && strcmp(command, "create") == 0;
	bool locking = argc == 3 && strcmp(command, "lock") == 0;
	bool holding = argc == 3 && strcmp(command, "hold") == 0;

	if (!changing && !creating && !dropping && !locking && !holding) {
		fputs("usage: lmdbtool ENV put|del|drop DB | create DB KIND | hold | lock\n",
			stderr);
		return 1;
	}
	MDB_env *env = open_env(argv[1]);

	if (changing)
		change(env, argv[3], command[0] == 'd');
	else if (dropping)
		drop(env, argv[3]);
	else if (creating)
		create(env, argv[3], argv[4]);
	else
		hold(env, locking ? 0 : MDB_RDONLY);
	mdb_env_close(env);
	return 0;
}
