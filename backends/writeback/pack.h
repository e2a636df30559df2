/*
 * pack.h - numbers in little-endian order, one after the other.
 */
#ifndef KVFS_PACK_H
#define KVFS_PACK_H

#include <stddef.h>
#include <stdint.h>

/* Writes `bytes` bytes of the number; the place after them. */
static inline unsigned char *pack_number(unsigned char *p, uint64_t number, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)(number >> (8 * i));
	return p + bytes;
}

/* What is left to be read. */
struct unpack {
	const unsigned char *p;
	size_t left;
};

/* The next number; 0 where nothing is left. */
static inline uint64_t unpack_number(struct unpack *u, size_t bytes)
{
	uint64_t number = 0;

	if (u->left < bytes) {
		u->left = 0;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		number |= (uint64_t)u->p[i] << (8 * i);
	u->p += bytes;
	u->left -= bytes;
	return number;
}

#endif
