/*
 * bytes.h - numbers as they stand in our own databases' values: little-endian, at any address.
 */
#ifndef KVFS_LMDB_BYTES_H
#define KVFS_LMDB_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put_u64(unsigned char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint64_t get_u64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

#endif
