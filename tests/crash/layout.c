#include "tests/crash/layout.h"

#include <endian.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "backends/record.h"

enum {
	PREFIX = 5, /* of a packed key: id and kind */
	LONG_PREFIX = 13, /* and a head's number */
	LONG = 0x80,
	HEAD = 490,
	LMDB_KEY_MAX = 511,
	STAMP = 32,
	DBS_MAX = 256,
	IDS_MAX = 4096,
	BYTES_MAX = 513,
};

/* Of the directory above all namespaces; here 0. */
static const uint32_t TOP_ID = UINT32_MAX;

struct layout {
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi nodes, expiry, meta, longs, heads;
	MDB_dbi ns[IDS_MAX]; /* by id; 0: not there */
	size_t records[IDS_MAX], long_records; /* of keys */
	size_t expiring;
	int faults;
};

/* A packed key, read. */
struct name {
	uint32_t id;
	unsigned kind;
	bool is_long;
	size_t len;
	unsigned char bytes[BYTES_MAX];
};

__attribute__((format(printf, 2, 3))) static void fault(struct layout *l, const char *format, ...)
{
	va_list args;

	l->faults++;
	va_start(args, format);
	fputs("    layout: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static uint32_t be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static uint64_t le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static int get(struct layout *l, MDB_dbi dbi, const void *key, size_t len, MDB_val *data)
{
	MDB_val k = {len, (void *)(uintptr_t)key};

	return dbi ? mdb_get(l->txn, dbi, &k, data) : MDB_NOTFOUND;
}

static bool expand_long(struct layout *l, const unsigned char *p, size_t len, struct name *out)
{
	unsigned char reverse[12] = {0xff, 0xff, 0xff, 0xff};
	MDB_val head, forward;

	memcpy(reverse + 4, p + PREFIX, 8);
	if (len < LONG_PREFIX || get(l, l->heads, reverse, sizeof(reverse), &head) ||
		head.mv_size != PREFIX + HEAD || be32(head.mv_data) != out->id ||
		((const unsigned char *)head.mv_data)[4] != out->kind ||
		get(l, l->heads, head.mv_data, head.mv_size, &forward) || forward.mv_size != 8 ||
		memcmp(forward.mv_data, p + PREFIX, 8) != 0)
		return false;
	out->len = HEAD + len - LONG_PREFIX;
	if (out->len > sizeof(out->bytes))
		return false;
	memcpy(out->bytes, (const unsigned char *)head.mv_data + PREFIX, HEAD);
	memcpy(out->bytes + HEAD, p + LONG_PREFIX, len - LONG_PREFIX);
	return true;
}

static bool parse(struct layout *l, const MDB_val *key, struct name *out)
{
	const unsigned char *p = key->mv_data;

	if (key->mv_size < PREFIX)
		return false;
	out->id = be32(p) == TOP_ID ? 0 : be32(p);
	out->is_long = p[4] & LONG;
	out->kind = p[4] & ~(unsigned)LONG;
	if (out->id >= IDS_MAX || out->kind > 1)
		return false;
	if (out->is_long)
		return expand_long(l, p, key->mv_size, out);
	out->len = key->mv_size - PREFIX;
	memcpy(out->bytes, p + PREFIX, out->len);
	return true;
}

static void check_value(
	struct layout *l, const struct name *n, const MDB_val *key, const void *stamp)
{
	bool in_long = n->len > LMDB_KEY_MAX;
	MDB_val value;
	int rc = in_long ? get(l, l->longs, key->mv_data, key->mv_size, &value)
			 : get(l, l->ns[n->id], n->bytes, n->len, &value);

	if (rc) {
		fault(l, "the record of %.*s has no value", (int)n->len, n->bytes);
		return;
	}
	l->records[n->id] += !in_long;
	l->long_records += in_long;
	if (le64((const char *)stamp + 8) != value.mv_size ||
		le64((const char *)stamp + 16) != XXH3_64bits(value.mv_data, value.mv_size))
		fault(l, "the value of %.*s is not the one that its record was written for",
			(int)n->len, n->bytes);
}

static void check_expiry(struct layout *l, const struct name *n, const MDB_val *key, int64_t expiry)
{
	uint64_t at = htobe64((uint64_t)expiry);
	MDB_val k = {sizeof(at), &at}, d = *key;
	MDB_cursor *cur;

	if (expiry == INT64_MAX)
		return;
	l->expiring++;
	if (mdb_cursor_open(l->txn, l->expiry, &cur))
		abort();
	if (mdb_cursor_get(cur, &k, &d, MDB_GET_BOTH))
		fault(l, "%.*s expires, and is not in kvfs:expiry", (int)n->len, n->bytes);
	mdb_cursor_close(cur);
}

static void check_record(struct layout *l, const MDB_val *key, const MDB_val *data)
{
	const unsigned char *p = data->mv_data;
	struct record rec;
	struct name n;

	if (!parse(l, key, &n)) {
		fault(l, "a name in kvfs:nodes cannot be read");
		return;
	}
	if (data->mv_size < STAMP || p[0] != 1 ||
		record_decode(p + STAMP, data->mv_size - STAMP, &rec)) {
		fault(l, "the record of %.*s cannot be read", (int)n.len, n.bytes);
		return;
	}
	if (n.id && !l->ns[n.id])
		fault(l, "there is no namespace for the record of %.*s", (int)n.len, n.bytes);
	else if (n.kind == 0)
		check_value(l, &n, key, p);
	check_expiry(l, &n, key, record_expiry_ns(&rec));
}

static size_t entries(struct layout *l, MDB_dbi dbi)
{
	MDB_stat stat = {0};

	if (dbi && mdb_stat(l->txn, dbi, &stat))
		abort();
	return stat.ms_entries;
}

/* Calls `fn` for each entry; an error of LMDB is a fault. */
static void each(struct layout *l, MDB_dbi dbi,
	void (*fn)(struct layout *l, const MDB_val *key, const MDB_val *data))
{
	MDB_cursor *cur;
	MDB_val key, data;
	int rc;

	if (!dbi)
		return;
	if (mdb_cursor_open(l->txn, dbi, &cur))
		abort();
	while ((rc = mdb_cursor_get(cur, &key, &data, MDB_NEXT)) == 0)
		fn(l, &key, &data);
	mdb_cursor_close(cur);
	if (rc != MDB_NOTFOUND)
		fault(l, "reading: %s", mdb_strerror(rc));
}

static void learn_name(struct layout *l, const MDB_val *key, const MDB_val *data)
{
	const unsigned char *p = key->mv_data;
	char name[LMDB_KEY_MAX + 1];

	if (key->mv_size != PREFIX || p[0] != 'n')
		return;
	uint32_t id = be32(p + 1);
	if (id == 0 || id >= IDS_MAX || data->mv_size >= sizeof(name)) {
		fault(l, "a name in kvfs:meta cannot be read");
		return;
	}
	memcpy(name, data->mv_data, data->mv_size);
	name[data->mv_size] = '\0';
	int rc = mdb_dbi_open(l->txn, name, 0, &l->ns[id]);
	/* A name may have been given a number, and then not been made; it has no records then. */
	if (rc && rc != MDB_NOTFOUND)
		fault(l, "namespace %s: %s", name, mdb_strerror(rc));
}

/* A head, not its reverse, has both directions, and a record that needs it. */
static void check_head(struct layout *l, const MDB_val *key, const MDB_val *data)
{
	unsigned char reverse[12] = {0xff, 0xff, 0xff, 0xff}, packed[LONG_PREFIX];
	MDB_val found, k, d;
	MDB_cursor *cur;

	if (key->mv_size == sizeof(reverse))
		return;
	if (key->mv_size != PREFIX + HEAD || data->mv_size != 8) {
		fault(l, "a head cannot be read");
		return;
	}
	memcpy(reverse + 4, data->mv_data, 8);
	if (get(l, l->heads, reverse, sizeof(reverse), &found) || found.mv_size != key->mv_size ||
		memcmp(found.mv_data, key->mv_data, key->mv_size) != 0)
		fault(l, "a head is not there in both directions");
	memcpy(packed, key->mv_data, PREFIX);
	packed[4] |= LONG;
	memcpy(packed + PREFIX, data->mv_data, 8);
	k = (MDB_val){sizeof(packed), packed};
	if (mdb_cursor_open(l->txn, l->nodes, &cur))
		abort();
	if (mdb_cursor_get(cur, &k, &d, MDB_SET_RANGE) || k.mv_size < sizeof(packed) ||
		memcmp(k.mv_data, packed, sizeof(packed)) != 0)
		fault(l, "a head is left that nothing needs");
	mdb_cursor_close(cur);
}

static int open_all(struct layout *l, const char *dir)
{
	static const char *const names[] = {
		"kvfs:nodes", "kvfs:expiry", "kvfs:meta", "kvfs:long", "kvfs:heads"};
	MDB_dbi *const handles[] = {&l->nodes, &l->expiry, &l->meta, &l->longs, &l->heads};
	int rc = mdb_env_create(&l->env);

	if (!rc)
		rc = mdb_env_set_maxdbs(l->env, DBS_MAX);
	if (!rc)
		rc = mdb_env_open(l->env, dir, MDB_RDONLY, 0600);
	if (!rc)
		rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &l->txn);
	for (size_t i = 0; !rc && i < sizeof(names) / sizeof(*names); i++) {
		rc = mdb_dbi_open(l->txn, names[i], 0, handles[i]);
		if (rc == MDB_NOTFOUND) {
			*handles[i] = 0;
			rc = 0;
		}
	}
	return rc;
}

static void check_all(struct layout *l)
{
	size_t heads = entries(l, l->heads);

	each(l, l->meta, learn_name);
	each(l, l->nodes, check_record);
	each(l, l->heads, check_head);
	if (l->expiring != entries(l, l->expiry))
		fault(l, "kvfs:expiry has %zu entries for %zu records", entries(l, l->expiry),
			l->expiring);
	if (l->long_records != entries(l, l->longs))
		fault(l, "kvfs:long has %zu values for %zu records", entries(l, l->longs),
			l->long_records);
	if (heads % 2)
		fault(l, "a head is not there in both directions");
	for (size_t id = 1; id < IDS_MAX; id++) {
		if (l->records[id] != entries(l, l->ns[id]))
			fault(l, "namespace %zu has %zu keys and %zu records", id,
				entries(l, l->ns[id]), l->records[id]);
	}
}

int layout_check(const char *dir)
{
	struct layout *l = calloc(1, sizeof(*l));
	int faults, rc;

	if (!l)
		abort();
	rc = open_all(l, dir);
	if (rc) {
		fprintf(stderr, "    layout: LMDB: %s\n", mdb_strerror(rc));
		l->faults = -1;
	} else {
		check_all(l);
	}
	if (l->txn)
		mdb_txn_abort(l->txn);
	if (l->env)
		mdb_env_close(l->env);
	faults = l->faults;
	free(l);
	return faults;
}
