/*
 * fuzz_environment.c - an environment in which another program has put anything, also into the
 * databases that are kvfs's own.
 *
 * Input: for each record the database, the lengths of the key and of the value (255: the key is
 * removed), the key, the value.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/fuzz/environment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many bytes were used; 0: there are too few. */
static size_t put(MDB_txn *txn, const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	size_t db = data[0] % ENVIRONMENT_DBS, key_len = data[1],
	       len = data[2] == 255 ? 0 : data[2];
	MDB_dbi dbi;

	if (size - 3 < key_len + len)
		return 0;
	MDB_val key = {key_len, (void *)(uintptr_t)(data + 3)},
		value = {len, (void *)(uintptr_t)(data + 3 + key_len)};
	/* What LMDB refuses is not put. */
	if (mdb_dbi_open(txn, environment_dbs[db], environment_flags(db) | MDB_CREATE, &dbi) == 0 &&
		key_len) {
		if (data[2] == 255)
			mdb_del(txn, dbi, &key, NULL);
		else
			mdb_put(txn, dbi, &key, &value, 0);
	}
	return 3 + key_len + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len, n;
	const unsigned char *base = environment_bytes(&len);
	MDB_txn *txn = NULL;

	environment_set(base, len);
	MDB_env *env = environment_open();
	environment_demand(env && mdb_txn_begin(env, NULL, 0, &txn) == 0, "beginning");
	while ((n = put(txn, data, size))) {
		data += n;
		size -= n;
	}
	environment_demand(mdb_txn_commit(txn) == 0, "committing");
	mdb_env_close(env);
	environment_use();
	return 0;
}
