/*
 * verified.c - a table in which the last one to come has the place.
 */
#include "backends/lmdb/verified.h"

bool verified_known(struct verified *v, uint64_t key, uint64_t hash, uint64_t since, bool *same)
{
	size_t i = key % VERIFIED_SLOTS;

	lock_take(&v->lock);
	bool known = v->slots[i].key == key && v->slots[i].hash == hash && v->slots[i].txn >= since;
	if (known)
		*same = v->slots[i].same;
	lock_drop(&v->lock);
	return known;
}

void verified_add(struct verified *v, uint64_t key, uint64_t hash, uint64_t txn, bool same)
{
	size_t i = key % VERIFIED_SLOTS;

	lock_take(&v->lock);
	v->slots[i].key = key;
	v->slots[i].hash = hash;
	v->slots[i].txn = txn;
	v->slots[i].same = same;
	lock_drop(&v->lock);
}
