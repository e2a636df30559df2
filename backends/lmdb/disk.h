/*
 * disk.h - LMDB's form at rest, as far as we read it without LMDB (data version 1, 64 bits, the
 * machine's byte order; pages of a tree are described in audit.c).
 */
#ifndef KVFS_LMDB_DISK_H
#define KVFS_LMDB_DISK_H

#include <stdint.h>

enum {
	PAGE_BRANCH = 0x01,
	PAGE_LEAF = 0x02,
	PAGE_OVERFLOW = 0x04,
	PAGE_META = 0x08,
	PAGE_DIRTY = 0x10, /* of pages within a page only */
	PAGE_FIXED = 0x20, /* duplicates of one size, without nodes */
	PAGE_WITHIN = 0x40,
	PAGE_HEAD = 16,

	NODE_BIG = 0x01, /* the value is in pages of its own */
	NODE_TREE = 0x02, /* the value is a struct disk_db */
	NODE_DUPS = 0x04, /* the value is a page of duplicates, or (NODE_TREE) a tree of them */
	NODE_HEAD = 8,

	DB_REVERSEKEY = 0x02,
	DB_DUPSORT = 0x04,
	DB_INTEGERKEY = 0x08,
	DB_DUPFIXED = 0x10,
	DB_INTEGERDUP = 0x20,
	DB_REVERSEDUP = 0x40,
};

/* The page number of an empty tree's root. */
#define DISK_NO_PAGE UINT64_MAX

struct disk_page {
	uint64_t pgno;
	uint16_t pad, flags; /* pad: the size of each, where PAGE_FIXED */
	uint16_t lower,
		upper; /* where the free space is; of PAGE_OVERFLOW: how many pages, 32 bits */
};

struct disk_db {
	uint32_t pad; /* of the first database: the page size */
	uint16_t flags, depth;
	uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct disk_meta {
	struct disk_page page;
	uint32_t magic, version;
	uint64_t address, map_size;
	struct disk_db dbs[2];
	uint64_t last_page, txn;
};

#endif
