/*
 * audit.c - from the roots down, each page once.
 *
 * A page begins with struct disk_page; then comes an offset (16 bits) for each node, free space
 * from `lower` to `upper`, and the nodes:
 *
 *   leaf     u32 size of the value, u16 flags, u16 size of the key, key, value
 *   branch   u48 page, u16 size of the key, key
 *
 * A value with NODE_BIG is the number of the first of its pages. Pages of duplicates of one size
 * (PAGE_FIXED) have these one after the other, and no nodes.
 *
 * Databases that kvfs does not touch (of other kinds) are left out.
 */
#include "backends/lmdb/audit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	LEVELS_MAX = 32, /* LMDB's own limit */
	PAGE_SIZE_MAX = 65536,
	LOOK_AT_CLOCK_EVERY = 64, /* pages */
};

static const char EXPIRY[] = "kvfs:expiry"; /* the only one with duplicates that is ours */

struct audit {
	int fd;
	uint64_t pages; /* up to the last one of the snapshot; the file may end before */
	uint64_t file_size;
	size_t page_size;
	unsigned char *taken; /* a bit for each page: something has it already */
	int64_t deadline; /* nanoseconds of CLOCK_MONOTONIC */
	uint64_t looked_at, wrong; /* how many; the page that something is wrong with */
};

enum tree_kind {
	TREE_FREE, /* lists of free pages */
	TREE_MAIN, /* databases, and perhaps values */
	TREE_PLAIN,
	TREE_DUPS, /* the duplicates of one key, which are its keys */
};

struct tree {
	enum tree_kind kind;
	unsigned flags, depth;
	uint32_t pad; /* the size of each, of duplicates of one size */
};

static uint16_t get16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int wrong(struct audit *a, uint64_t page)
{
	a->wrong = page;
	return -EINVAL;
}

static int read_bytes(struct audit *a, uint64_t off, void *buf, size_t len)
{
	unsigned char *to = buf;

	while (len) {
		ssize_t n = pread(a->fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : wrong(a, off / a->page_size);
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes pages for whoever asks; nobody may have them already. */
static int take(struct audit *a, uint64_t page, uint64_t n)
{
	if (page < 2 || page >= a->pages || n > a->pages - page)
		return wrong(a, page);
	for (uint64_t i = page; i < page + n; i++) {
		if (a->taken[i / 8] & 1 << i % 8)
			return wrong(a, i);
		a->taken[i / 8] |= (unsigned char)(1 << i % 8);
	}
	if (a->looked_at++ % LOOK_AT_CLOCK_EVERY == 0 && now_ns() > a->deadline)
		return -ETIME;
	return 0;
}

/* --- within a page ------------------------------------------------------------------------------ */

/* What a node takes of its page; 0: it goes beyond its end. */
static size_t node_size(const unsigned char *page, size_t size, size_t at, bool leaf)
{
	if (at % 2 || at > size - NODE_HEAD)
		return 0;
	const unsigned char *node = page + at;
	uint64_t len = NODE_HEAD + (uint64_t)get16(node + 6);
	if (leaf)
		len += get16(node + 4) & NODE_BIG ? sizeof(uint64_t) : get32(node);
	len += len % 2;
	return len <= size - at ? (size_t)len : 0;
}

/* Whether no node lies over another: each is entered where it begins, and all must be met on the
 * way from the first to the end. */
static bool nodes_are_apart(const unsigned char *page, size_t size, bool leaf, size_t n)
{
	uint16_t sizes[PAGE_SIZE_MAX / 2 + 1]; /* in halves, so that the greatest fits too */
	size_t upper = get16(page + 14), met = 0;

	memset(sizes, 0, size / 2 * sizeof(*sizes));
	for (size_t i = 0; i < n; i++) {
		size_t at = get16(page + PAGE_HEAD + 2 * i);
		size_t len = at < upper ? 0 : node_size(page, size, at, leaf);

		if (!len)
			return false;
		sizes[at / 2] = (uint16_t)(len / 2);
	}
	for (size_t at = upper; at < size; at += sizes[at / 2] ? sizes[at / 2] * 2u : 2)
		met += sizes[at / 2] != 0;
	return met == n;
}

/* The offsets and nodes of a page of `size` bytes; *n is how many there are. */
static bool page_is_sound(const unsigned char *page, size_t size, size_t *n)
{
	unsigned flags = get16(page + 10), lower = get16(page + 12), upper = get16(page + 14);

	if (lower < PAGE_HEAD || lower % 2 || lower > upper || upper > size || upper % 2)
		return false;
	*n = (lower - PAGE_HEAD) / 2;
	if (flags & PAGE_FIXED) {
		size_t each = get16(page + 8);

		return *n && each && *n * each <= size - PAGE_HEAD;
	}
	return *n && nodes_are_apart(page, size, flags & PAGE_LEAF, *n);
}

/* A page of duplicates within a page. */
static bool inner_page_is_sound(const struct tree *t, const unsigned char *page, size_t size)
{
	unsigned wanted = PAGE_LEAF | PAGE_WITHIN | (t->flags & DB_DUPFIXED ? PAGE_FIXED : 0);
	size_t n;

	if (size < PAGE_HEAD || size % 2 || size > PAGE_SIZE_MAX ||
		(get16(page + 10) & ~(unsigned)PAGE_DIRTY) != wanted ||
		!page_is_sound(page, size, &n))
		return false;
	for (size_t i = 0; i < n && !(wanted & PAGE_FIXED); i++) {
		const unsigned char *node = page + get16(page + PAGE_HEAD + 2 * i);

		if (get32(node) || get16(node + 4))
			return false;
	}
	return true;
}

/* --- trees -------------------------------------------------------------------------------------- */

static int audit_tree(struct audit *a, enum tree_kind kind, const struct disk_db *db);

/* The pages of a large value. */
static int take_big(struct audit *a, uint64_t first, uint64_t size)
{
	unsigned char head[PAGE_HEAD];

	if (first < 2 || first >= a->pages)
		return wrong(a, first);
	int rc = read_bytes(a, first * a->page_size, head, sizeof(head));
	if (rc)
		return rc;
	uint64_t n = get32(head + 12);
	if (get64(head) != first || get16(head + 10) != PAGE_OVERFLOW ||
		PAGE_HEAD + size > n * a->page_size || (first + n) * a->page_size > a->file_size)
		return wrong(a, first);
	return take(a, first, n);
}

/* A list of free pages: how many, and their numbers, the greatest first. */
static int take_free(struct audit *a, uint64_t page, const unsigned char *list, size_t size)
{
	uint64_t n = size >= 8 && size % 8 == 0 ? get64(list) : UINT64_MAX, before = UINT64_MAX;

	if (n > size / 8 - 1)
		return wrong(a, page);
	for (uint64_t i = 1; i <= n; i++) {
		uint64_t number = get64(list + 8 * i);
		int rc = number < before ? take(a, number, 1) : wrong(a, page);

		if (rc)
			return rc;
		before = number;
	}
	return 0;
}

static int audit_free(struct audit *a, uint64_t page, const unsigned char *node)
{
	size_t size = get32(node);
	const unsigned char *data = node + NODE_HEAD + get16(node + 6);

	if (get16(node + 4) & ~(unsigned)NODE_BIG)
		return wrong(a, page);
	if (!(get16(node + 4) & NODE_BIG))
		return take_free(a, page, data, size);
	int rc = take_big(a, get64(data), size);
	unsigned char *list = rc ? NULL : malloc(size ? size : 1);
	if (!rc && !list)
		rc = -ENOMEM;
	if (!rc)
		rc = read_bytes(a, get64(data) * a->page_size + PAGE_HEAD, list, size);
	if (!rc)
		rc = take_free(a, page, list, size);
	free(list);
	return rc;
}

/* What the tree of one key's duplicates is, where there are too many for a page within a page. */
static unsigned flags_of_duplicates(const struct tree *t)
{
	if (!(t->flags & DB_DUPFIXED))
		return 0;
	return DB_DUPFIXED | (t->flags & DB_INTEGERDUP ? DB_INTEGERKEY : 0);
}

/* A node whose value is a tree. */
static int audit_inner_tree(
	struct audit *a, const struct tree *t, uint64_t page, const unsigned char *node)
{
	const unsigned char *name = node + NODE_HEAD;
	size_t len = get16(node + 6);
	struct disk_db db;

	if (get32(node) != sizeof(db))
		return wrong(a, page);
	memcpy(&db, name + len, sizeof(db));
	if (t->flags & DB_DUPSORT)
		return db.flags == flags_of_duplicates(t) ? audit_tree(a, TREE_DUPS, &db)
							  : wrong(a, page);
	bool is_expiry = len == sizeof(EXPIRY) - 1 && memcmp(name, EXPIRY, len) == 0;
	if (t->kind != TREE_MAIN || db.flags & ~0xffu)
		return wrong(a, page);
	/* Others are not opened for reading. */
	return db.flags == 0 || (is_expiry && db.flags == DB_DUPSORT)
		? audit_tree(a, TREE_PLAIN, &db)
		: 0;
}

/* Integers are read without a look at their size. */
static bool key_is_fit(const struct tree *t, size_t len)
{
	if (t->kind == TREE_FREE)
		return len == sizeof(uint64_t);
	return !(t->flags & DB_INTEGERKEY) || len == sizeof(uint32_t) || len == sizeof(uint64_t);
}

static int audit_leaf_node(
	struct audit *a, const struct tree *t, uint64_t page, const unsigned char *node)
{
	const unsigned char *data = node + NODE_HEAD + get16(node + 6);
	bool dups = t->flags & DB_DUPSORT;

	if (!key_is_fit(t, get16(node + 6)))
		return wrong(a, page);
	if (t->kind == TREE_FREE)
		return audit_free(a, page, node);
	switch (get16(node + 4)) {
	case 0:
		return t->kind == TREE_DUPS && get32(node) ? wrong(a, page) : 0;
	case NODE_BIG:
		return dups || t->kind == TREE_DUPS ? wrong(a, page)
						    : take_big(a, get64(data), get32(node));
	case NODE_TREE:
		return dups || t->kind != TREE_MAIN ? wrong(a, page)
						    : audit_inner_tree(a, t, page, node);
	case NODE_DUPS:
		return dups && inner_page_is_sound(t, data, get32(node)) ? 0 : wrong(a, page);
	case NODE_DUPS | NODE_TREE:
		return dups ? audit_inner_tree(a, t, page, node) : wrong(a, page);
	default:
		return wrong(a, page);
	}
}

static int audit_page(struct audit *a, const struct tree *t, uint64_t number, unsigned level);

static int audit_nodes(struct audit *a, const struct tree *t, uint64_t number, unsigned level,
	const unsigned char *page)
{
	bool leaf = level == t->depth;
	unsigned fixed = leaf && t->kind == TREE_DUPS && t->flags & DB_DUPFIXED ? PAGE_FIXED : 0;
	/* While it takes pages from itself LMDB may leave the tree of free pages so. */
	size_t n, least = leaf || t->kind == TREE_FREE ? 1 : 2;
	int rc = 0;

	if (get64(page) != number || get16(page + 10) != (leaf ? PAGE_LEAF | fixed : PAGE_BRANCH) ||
		!page_is_sound(page, a->page_size, &n) || n < least ||
		(fixed && get16(page + 8) != t->pad))
		return wrong(a, number);
	for (size_t i = 0; i < n && rc == 0 && !fixed; i++) {
		const unsigned char *node = page + get16(page + PAGE_HEAD + 2 * i);

		if (leaf)
			rc = audit_leaf_node(a, t, number, node);
		else if (i && !key_is_fit(t, get16(node + 6))) /* the first is never looked at */
			rc = wrong(a, number);
		else
			rc = audit_page(
				a, t, get32(node) | (uint64_t)get16(node + 4) << 32, level + 1);
	}
	return rc;
}

static int audit_page(struct audit *a, const struct tree *t, uint64_t number, unsigned level)
{
	int rc = take(a, number, 1);

	if (rc)
		return rc;
	unsigned char *page = malloc(a->page_size);
	if (!page)
		return -ENOMEM;
	rc = read_bytes(a, number * a->page_size, page, a->page_size);
	if (rc == 0)
		rc = audit_nodes(a, t, number, level, page);
	free(page);
	return rc;
}

static int audit_tree(struct audit *a, enum tree_kind kind, const struct disk_db *db)
{
	struct tree t = {kind, db->flags, db->depth, db->pad};

	if (db->root == DISK_NO_PAGE)
		return db->depth ? wrong(a, 0) : 0;
	if (db->depth < 1 || db->depth > LEVELS_MAX)
		return wrong(a, db->root);
	return audit_page(a, &t, db->root, 1);
}

/* Whether LMDB can open the two databases that it opens whatever they say. */
static bool flags_are_fit(const struct disk_meta *m)
{
	unsigned free = m->dbs[0].flags, main = m->dbs[1].flags;
	unsigned of_duplicates = DB_DUPFIXED | DB_INTEGERDUP | DB_REVERSEDUP;

	if (!(free & DB_INTEGERKEY) || free & (DB_REVERSEKEY | DB_DUPSORT | of_duplicates | 0x80))
		return false;
	if (main & ~(DB_REVERSEKEY | DB_DUPSORT | DB_INTEGERKEY | of_duplicates))
		return false;
	return main & DB_DUPSORT || !(main & of_duplicates);
}

int audit_trees(int fd, const struct disk_meta *m, int64_t limit_ms, uint64_t *page)
{
	struct audit a = {
		.fd = fd,
		.pages = m->last_page + 1,
		.page_size = m->dbs[0].pad,
		.deadline = now_ns() + limit_ms * 1000000,
	};
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	a.file_size = (uint64_t)st.st_size;
	*page = m->txn & 1;
	if (!flags_are_fit(m))
		return -EINVAL;
	a.taken = calloc(1, a.pages / 8 + 1);
	if (!a.taken)
		return -ENOMEM;
	rc = audit_tree(&a, TREE_FREE, &m->dbs[0]);
	if (rc == 0)
		rc = audit_tree(&a, TREE_MAIN, &m->dbs[1]);
	free(a.taken);
	if (rc == -EINVAL)
		*page = a.wrong;
	return rc;
}
