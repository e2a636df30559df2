/*
 * nodekey.c - packing, unpacking, and the numbers of heads.
 *
 * What stands in our databases is not believed: a name of a wrong length is an error, not a crash.
 */
#include "backends/lmdb/nodekey.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "backends/base/log.h"

enum { HEAD_KEY = NODEKEY_PREFIX + NODEKEY_HEAD, REVERSE_KEY = 12, SAY_SECONDS = 60 };

static void put_u32(unsigned char *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static void put_u64(unsigned char *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

static uint32_t get_u32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static uint64_t get_u64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

/* Whoever lists or looks for what has expired comes by again and again: one line in a minute. */
static bool said_lately(void)
{
	static _Atomic int64_t said;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	int64_t before = atomic_load(&said);
	return (before && t.tv_sec - before < SAY_SECONDS) ||
		!atomic_compare_exchange_strong(&said, &before, t.tv_sec + 1);
}

static int damaged(const struct txn *t, const char *what)
{
	if (said_lately())
		return -EIO;
	log_error("%s: %s is damaged; copy the namespaces with mdb_dump and load them into a new "
		  "environment",
		t->env->dir, what);
	return -EIO;
}

void nodekey_prefix(uint32_t ns_id, unsigned kind, unsigned char out[NODEKEY_PREFIX])
{
	put_u32(out, ns_id);
	out[4] = (unsigned char)kind;
}

uint32_t nodekey_ns(const unsigned char *key)
{
	return get_u32(key);
}

/* The next free number of a head: the reverse entries stand last. */
static int head_next(struct txn *t, uint64_t *number)
{
	MDB_cursor *cur;
	MDB_val key, data;
	int rc = txn_cursor(t, t->own[OWN_HEADS], &cur);

	if (rc)
		return rc;
	rc = env_error(t->env, mdb_cursor_get(cur, &key, &data, MDB_LAST), "reading");
	if (rc == -ENOENT) {
		*number = 1;
		rc = 0;
	} else if (rc == 0) {
		const unsigned char *p = key.mv_data;

		if (key.mv_size != REVERSE_KEY || get_u32(p) != UINT32_MAX)
			rc = damaged(t, "kvfs:heads");
		else
			*number = get_u64(p + 4) + 1;
	}
	mdb_cursor_close(cur);
	return rc;
}

static int head_create(struct txn *t, const unsigned char head[HEAD_KEY], uint64_t *number)
{
	unsigned char reverse[REVERSE_KEY], value[8];
	int rc = head_next(t, number);

	if (rc)
		return rc;
	put_u32(reverse, UINT32_MAX);
	put_u64(reverse + 4, *number);
	put_u64(value, *number);
	rc = txn_put(t, t->own[OWN_HEADS], head, HEAD_KEY, value, sizeof(value));
	if (rc == 0)
		rc = txn_put(t, t->own[OWN_HEADS], reverse, sizeof(reverse), head, HEAD_KEY);
	return rc;
}

static int head_number(
	struct txn *t, const unsigned char head[HEAD_KEY], bool create, uint64_t *number)
{
	MDB_val data;
	int rc = txn_get(t, t->own[OWN_HEADS], head, HEAD_KEY, &data);

	if (rc == -ENOENT && create)
		return head_create(t, head, number);
	if (rc)
		return rc;
	if (data.mv_size != 8)
		return damaged(t, "kvfs:heads");
	*number = get_u64(data.mv_data);
	return 0;
}

int nodekey_make(struct txn *t, const struct ns *ns, const struct entry_id *id, bool create,
	struct nodekey *out)
{
	uint32_t ns_id = atomic_load(&ns->id);

	if (!ns_id)
		return -ENOENT;
	nodekey_prefix(ns_id, id->kind, out->bytes);
	if (id->len <= NODEKEY_SHORT_MAX) {
		if (id->len)
			memcpy(out->bytes + NODEKEY_PREFIX, id->bytes, id->len);
		out->len = NODEKEY_PREFIX + (size_t)id->len;
		return 0;
	}
	uint64_t number = 0;
	memcpy(out->bytes + NODEKEY_PREFIX, id->bytes, NODEKEY_HEAD);
	int rc = head_number(t, out->bytes, create, &number);
	if (rc)
		return rc;
	out->bytes[4] |= NODEKEY_LONG;
	put_u64(out->bytes + NODEKEY_PREFIX, number);
	memcpy(out->bytes + NODEKEY_LONG_PREFIX, id->bytes + NODEKEY_HEAD,
		(size_t)id->len - NODEKEY_HEAD);
	out->len = NODEKEY_LONG_PREFIX + (size_t)id->len - NODEKEY_HEAD;
	return 0;
}

/* The bytes of a head by its number. */
static int head_read(struct txn *t, const unsigned char number[8], uint32_t ns_id, unsigned kind,
	unsigned char bytes[NODEKEY_HEAD])
{
	unsigned char reverse[REVERSE_KEY];
	MDB_val data;

	put_u32(reverse, UINT32_MAX);
	memcpy(reverse + 4, number, 8);
	int rc = txn_get(t, t->own[OWN_HEADS], reverse, sizeof(reverse), &data);
	const unsigned char *p = data.mv_data;
	if (rc == -ENOENT ||
		(rc == 0 && (data.mv_size != HEAD_KEY || get_u32(p) != ns_id || p[4] != kind)))
		return damaged(t, "kvfs:heads");
	if (rc == 0)
		memcpy(bytes, p + NODEKEY_PREFIX, NODEKEY_HEAD);
	return rc;
}

int nodekey_parse(struct txn *t, const MDB_val *key, uint32_t *ns_id, enum entry_kind *kind,
	unsigned char bytes[STORE_PREFIX_MAX], size_t *len)
{
	const unsigned char *p = key->mv_data;
	bool is_long = key->mv_size > NODEKEY_PREFIX && (p[4] & NODEKEY_LONG);
	size_t prefix = is_long ? NODEKEY_LONG_PREFIX : NODEKEY_PREFIX;
	size_t head = is_long ? NODEKEY_HEAD : 0;

	/* Each entry has one name: what could be short is not long. */
	if (key->mv_size < prefix || (p[4] & ~NODEKEY_LONG) > ENTRY_DIR ||
		head + key->mv_size - prefix > STORE_PREFIX_MAX ||
		(is_long && head + key->mv_size - prefix <= NODEKEY_SHORT_MAX))
		return damaged(t, "a name in a database of kvfs");
	*ns_id = get_u32(p);
	*kind = (enum entry_kind)(p[4] & ~NODEKEY_LONG);
	if (is_long) {
		int rc = head_read(t, p + NODEKEY_PREFIX, *ns_id, *kind, bytes);

		if (rc)
			return rc;
	}
	memcpy(bytes + head, p + prefix, key->mv_size - prefix);
	*len = head + key->mv_size - prefix;
	return 0;
}

static int prefix_in_use(struct txn *t, enum own_db db, const unsigned char *prefix, size_t len)
{
	MDB_val key = {.mv_size = len, .mv_data = (void *)(uintptr_t)prefix}, data;
	MDB_cursor *cur;
	int rc = txn_cursor(t, t->own[db], &cur);

	if (rc)
		return rc;
	rc = env_error(t->env, mdb_cursor_get(cur, &key, &data, MDB_SET_RANGE), "reading");
	if (rc == 0 && (key.mv_size < len || memcmp(key.mv_data, prefix, len) != 0))
		rc = -ENOENT;
	mdb_cursor_close(cur);
	return rc;
}

int nodekey_release_head(struct txn *t, const struct nodekey *key)
{
	unsigned char head[HEAD_KEY], reverse[REVERSE_KEY];
	unsigned kind = key->bytes[4] & ~(unsigned)NODEKEY_LONG;
	int rc;

	if (!(key->bytes[4] & NODEKEY_LONG))
		return 0;
	rc = prefix_in_use(t, OWN_NODES, key->bytes, NODEKEY_LONG_PREFIX);
	if (rc == -ENOENT)
		rc = prefix_in_use(t, OWN_LONG, key->bytes, NODEKEY_LONG_PREFIX);
	if (rc != -ENOENT)
		return rc;
	memcpy(head, key->bytes, NODEKEY_PREFIX);
	head[4] = (unsigned char)kind;
	rc = head_read(
		t, key->bytes + NODEKEY_PREFIX, get_u32(key->bytes), kind, head + NODEKEY_PREFIX);
	if (rc)
		return rc;
	put_u32(reverse, UINT32_MAX);
	memcpy(reverse + 4, key->bytes + NODEKEY_PREFIX, 8);
	rc = txn_del(t, t->own[OWN_HEADS], head, sizeof(head));
	if (rc == 0)
		rc = txn_del(t, t->own[OWN_HEADS], reverse, sizeof(reverse));
	return rc;
}

int longwalk_open(struct longwalk *w, struct txn *t, const struct ns *ns, enum entry_kind kind)
{
	*w = (struct longwalk){.txn = t, .ns_id = atomic_load(&ns->id), .kind = kind};
	w->dbi = t->own[kind == ENTRY_KEY ? OWN_LONG : OWN_NODES];
	/* Mostly there are none, and a cursor is half a kilobyte of memory. */
	int rc = w->ns_id && !txn_is_empty(t, t->own[OWN_HEADS])
		? txn_cursor(t, t->own[OWN_HEADS], &w->heads)
		: -ENOENT;
	if (rc == 0)
		rc = txn_cursor(t, w->dbi, &w->tails);
	if (rc && rc != -ENOENT) {
		longwalk_close(w);
		return rc;
	}
	return 0;
}

void longwalk_close(struct longwalk *w)
{
	if (w->tails)
		mdb_cursor_close(w->tails);
	if (w->heads)
		mdb_cursor_close(w->heads);
	w->tails = w->heads = NULL;
}

/* The first tail at or after `tail` below a head. */
static int seek_tail(struct longwalk *w, const MDB_val *head, const MDB_val *number,
	const unsigned char *tail, size_t tail_len)
{
	unsigned char from[ENV_KEY_MAX];
	MDB_val key = {.mv_data = from};

	if (number->mv_size != 8)
		return damaged(w->txn, "kvfs:heads");
	nodekey_prefix(w->ns_id, w->kind | NODEKEY_LONG, from);
	memcpy(from + NODEKEY_PREFIX, number->mv_data, 8);
	if (tail_len > ENV_KEY_MAX - NODEKEY_LONG_PREFIX)
		tail_len = ENV_KEY_MAX - NODEKEY_LONG_PREFIX;
	if (tail_len)
		memcpy(from + NODEKEY_LONG_PREFIX, tail, tail_len);
	key.mv_size = NODEKEY_LONG_PREFIX + tail_len;
	size_t least = w->kind == ENTRY_KEY ? ENV_KEY_MAX + 1 : NODEKEY_SHORT_MAX + 1;
	MDB_cursor_op op = MDB_SET_RANGE;
	do {
		int rc = env_error(
			w->txn->env, mdb_cursor_get(w->tails, &key, &w->data, op), "reading");
		if (rc)
			return rc;
		if (key.mv_size < NODEKEY_LONG_PREFIX ||
			memcmp(key.mv_data, from, NODEKEY_LONG_PREFIX) != 0)
			return -ENOENT;
		w->len = NODEKEY_HEAD + key.mv_size - NODEKEY_LONG_PREFIX;
		op = MDB_NEXT;
	} while (w->len < least); /* what is none of ours */
	if (w->len > STORE_PREFIX_MAX)
		return damaged(w->txn, "a name in a database of kvfs");
	memcpy(w->bytes, (unsigned char *)head->mv_data + NODEKEY_PREFIX, NODEKEY_HEAD);
	memcpy(w->bytes + NODEKEY_HEAD, (unsigned char *)key.mv_data + NODEKEY_LONG_PREFIX,
		key.mv_size - NODEKEY_LONG_PREFIX);
	return 0;
}

int longwalk_seek(struct longwalk *w, const void *from, size_t len)
{
	unsigned char start[HEAD_KEY];
	size_t head_len = len < NODEKEY_HEAD ? len : NODEKEY_HEAD;
	MDB_val head = {.mv_size = NODEKEY_PREFIX + head_len, .mv_data = start}, number;

	if (!w->tails)
		return -ENOENT;
	nodekey_prefix(w->ns_id, w->kind, start);
	if (head_len)
		memcpy(start + NODEKEY_PREFIX, from, head_len);
	for (MDB_cursor_op op = MDB_SET_RANGE;; op = MDB_NEXT) {
		const unsigned char *tail = NULL;
		size_t tail_len = 0;
		int rc = env_error(
			w->txn->env, mdb_cursor_get(w->heads, &head, &number, op), "reading");

		if (rc)
			return rc;
		if (head.mv_size != HEAD_KEY || memcmp(head.mv_data, start, NODEKEY_PREFIX) != 0)
			return -ENOENT;
		if (len > NODEKEY_HEAD &&
			memcmp((unsigned char *)head.mv_data + NODEKEY_PREFIX, from,
				NODEKEY_HEAD) == 0) {
			tail = (const unsigned char *)from + NODEKEY_HEAD;
			tail_len = len - NODEKEY_HEAD;
		}
		rc = seek_tail(w, &head, &number, tail, tail_len);
		if (rc != -ENOENT)
			return rc;
	}
}
