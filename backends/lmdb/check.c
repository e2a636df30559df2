/*
 * check.c - reads the two meta pages, and what they lead to (audit.c).
 *
 * A file may end before its last page without being damaged (pages at the end that were allocated
 * and given back within one transaction are never written), and it may have been cut short. The two
 * look the same from the meta pages. In this case everything is read, however long it takes.
 */
#include "backends/lmdb/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/lmdb/audit.h"

enum {
	META_VERSION = 1,
	UNBORN_PAGE_MAX = 65536,
	SECTOR = 512, /* what a disk writes as a whole */
	AUDIT_MS = 1000, /* what a mount may take longer for it */
	AUDIT_SHORT_MS = 600000, /* ... where the file ends before its last page */
	AUDIT_TRIES = 3, /* while other programs change it */
};

static const uint32_t META_MAGIC = 0xBEEFC0DE;

static int read_at(int fd, uint64_t off, void *buf, size_t len)
{
	ssize_t n;

	do
		n = pread(fd, buf, len, (off_t)off);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EINVAL;
}

static bool page_size_valid(uint32_t size)
{
	return size >= 256 && size <= 65536 && (size & (size - 1)) == 0;
}

static int read_meta(int fd, uint64_t off, struct disk_meta *m, const char **fault)
{
	int rc = read_at(fd, off, m, sizeof(*m));

	*fault = "its data file is damaged (no LMDB meta page)";
	if (rc)
		return rc;
	if (!(m->page.flags & PAGE_META) || m->magic != META_MAGIC)
		return -EINVAL;
	if (m->version != META_VERSION) {
		*fault = "its data file was made by another version of LMDB";
		return -EINVAL;
	}
	return page_size_valid(m->dbs[0].pad) ? 0 : -EINVAL;
}

/* Whether a root page is where the meta page says, and looks like one. */
static int check_root(int fd, const struct disk_meta *m, uint64_t root)
{
	struct disk_page page;
	int rc;

	if (root == UINT64_MAX)
		return 0; /* an empty tree */
	if (root < 2 || root > m->last_page)
		return -EINVAL;
	rc = read_at(fd, root * m->dbs[0].pad, &page, sizeof(page));
	if (rc)
		return rc;
	return page.pgno == root && (page.flags & (PAGE_BRANCH | PAGE_LEAF)) ? 0 : -EINVAL;
}

/* One look at the file. */
struct look {
	int fd;
	bool deep; /* everything that the meta page leads to */
	const char *fault;
	uint64_t page; /* that the fault is in; 0: none is to be named */
	uint64_t txn; /* the newest transaction that was seen, where it got that far */
};

static int check_trees(struct look *l, const struct disk_meta *m)
{
	struct stat st;

	l->fault = "its data file has been cut short";
	if (m->last_page < 1 || m->last_page > UINT64_MAX / 65536 / 2)
		return -EINVAL;
	if (fstat(l->fd, &st) < 0)
		return -errno;
	bool whole = (uint64_t)st.st_size >= (m->last_page + 1) * m->dbs[0].pad;
	if (whole)
		l->fault = "its data file is damaged";
	if (whole && !l->deep)
		return 0;
	int rc = audit_trees(l->fd, m, whole ? AUDIT_MS : AUDIT_SHORT_MS, &l->page);
	return rc == -ETIME && whole ? 0 : rc == -ETIME ? -EINVAL : rc;
}

static int look(struct look *l, struct check_info *info)
{
	struct disk_meta m[2];
	int rc = read_meta(l->fd, 0, &m[0], &l->fault);

	l->page = 0;
	if (rc == 0)
		rc = read_meta(l->fd, m[0].dbs[0].pad, &m[1], &l->fault);
	if (rc)
		return rc;
	bool second = m[1].txn > m[0].txn;
	const struct disk_meta *newest = &m[second];
	l->txn = newest->txn;
	l->fault = "its data file is damaged (a root page is not where it should be)";
	/* LMDB finds the page of a transaction by its number. */
	if (newest->dbs[0].pad != m[0].dbs[0].pad || (newest->txn & 1) != second)
		return -EINVAL;
	for (int i = 0; i < 2; i++) {
		rc = check_root(l->fd, newest, newest->dbs[i].root);
		if (rc)
			return rc;
	}
	rc = check_trees(l, newest);
	if (rc)
		return rc;
	info->map_size = newest->map_size;
	info->used = (newest->last_page + 1) * newest->dbs[0].pad;
	return 0;
}

/* Whether the page of a file that is being made is there or not yet, and nothing else is in it. */
static bool page_unborn(const unsigned char *page, size_t len, bool *missing)
{
	struct disk_meta m = {0};
	size_t rest = len < sizeof(m) ? len : sizeof(m);

	if (len)
		memcpy(&m, page, rest);
	for (size_t i = rest; i < len; i++) {
		if (page[i])
			return false;
	}
	if (m.magic == META_MAGIC)
		return len >= sizeof(m) && (m.page.flags & PAGE_META) && m.txn == 0 &&
			m.last_page == 1 && m.dbs[0].root == UINT64_MAX &&
			m.dbs[1].root == UINT64_MAX;
	for (size_t i = 0; i < rest; i++) {
		if (page[i])
			return false;
	}
	*missing = true;
	return true;
}

bool check_unborn(int fd, uint64_t size)
{
	unsigned char bytes[2 * UNBORN_PAGE_MAX] = {0};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	bool missing = false;

	if (page > UNBORN_PAGE_MAX || size > 2 * page || size % SECTOR ||
		read_at(fd, 0, bytes, (size_t)size))
		return false;
	size_t first = size < page ? (size_t)size : page;
	return page_unborn(bytes, first, &missing) &&
		page_unborn(bytes + first, (size_t)size - first, &missing) && missing;
}

int check_environment(int fd, struct check_info *info, char *why, size_t why_cap)
{
	struct look l = {.fd = fd, .fault = ""};
	char where[64] = "";
	uint64_t before;
	int rc, tries = 0;

	/* A program that commits while we look replaces pages under our eyes; then look again. */
	do {
		before = l.txn;
		l.deep = tries++ < AUDIT_TRIES;
		rc = look(&l, info);
	} while (rc == -EINVAL && l.txn != before);
	if (l.page)
		snprintf(where, sizeof(where), " (page %" PRIu64 " is not what it should be)",
			l.page);
	if (rc == -EINVAL)
		snprintf(why, why_cap, "%s%s; it has been left as it is", l.fault, where);
	else if (rc)
		snprintf(why, why_cap, "its data file cannot be read: %s", strerror(-rc));
	return rc;
}
