/*
 * check.c - reads the two meta pages and the pages of the roots.
 *
 * A file may end before its last page without being damaged (pages at the end that were allocated
 * and given back within one transaction are never written), and it may have been cut short. The two
 * look the same from the meta pages. In this case a child process reads everything through LMDB;
 * if that ends badly, it is the child that ends.
 */
#include "backends/lmdb/check.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	META_VERSION = 1,
	PAGE_BRANCH = 0x01,
	PAGE_LEAF = 0x02,
	PAGE_META = 0x08,
	UNBORN_PAGE_MAX = 65536,
	SECTOR = 512, /* what a disk writes as a whole */
	CHILD_SECONDS = 600,
	ENTRY_MIN = 10, /* bytes that an entry takes in its page */
};

static const uint32_t META_MAGIC = 0xBEEFC0DE;

/* As LMDB writes them, in the machine's byte order. */
struct disk_page {
	uint64_t pgno;
	uint16_t pad, flags;
	uint32_t bounds;
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

/* The reading of everything. */
struct touch {
	MDB_txn *txn;
	uint64_t left; /* entries that there can be still: trees that share pages have no end */
};

/* Reads one byte of each page of each value of a database. Never returns other than 0 or 1. */
static int touch_database(struct touch *t, MDB_dbi dbi, bool is_main);

static int touch_entry(struct touch *t, const MDB_val *key, const MDB_val *data, bool is_main)
{
	const volatile unsigned char *bytes = data->mv_data;
	char name[512];
	MDB_dbi dbi;

	for (size_t off = 0; off < data->mv_size; off += 4096)
		(void)bytes[off];
	if (data->mv_size)
		(void)bytes[data->mv_size - 1];
	if (!is_main || key->mv_size >= sizeof(name))
		return 0;
	memcpy(name, key->mv_data, key->mv_size);
	name[key->mv_size] = '\0';
	if (mdb_dbi_open(t->txn, name, 0, &dbi))
		return 0; /* a plain record */
	int rc = touch_database(t, dbi, false);
	mdb_dbi_close(mdb_txn_env(t->txn), dbi);
	return rc;
}

static int touch_database(struct touch *t, MDB_dbi dbi, bool is_main)
{
	MDB_cursor *cur;
	MDB_val key, data;
	int rc = mdb_cursor_open(t->txn, dbi, &cur);

	if (rc)
		return 1;
	while ((rc = mdb_cursor_get(cur, &key, &data, MDB_NEXT)) == 0) {
		if (t->left-- == 0 || touch_entry(t, &key, &data, is_main))
			break;
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : 1;
}

static int child_main(const char *dir, uint64_t file_size)
{
	static const int fatal[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGALRM};
	struct rlimit none = {0, 0}, seconds = {CHILD_SECONDS, CHILD_SECONDS};
	int sink = open("/dev/null", O_WRONLY);
	sigset_t nothing;
	struct touch t = {.left = file_size / ENTRY_MIN};
	MDB_env *env;
	MDB_dbi dbi;

	for (size_t i = 0; i < sizeof(fatal) / sizeof(*fatal); i++)
		signal(fatal[i], SIG_DFL);
	/* The caller may have blocked every signal, and so the alarm. */
	sigemptyset(&nothing);
	sigprocmask(SIG_SETMASK, &nothing, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_CPU, &seconds);
	dup2(sink, STDOUT_FILENO);
	dup2(sink, STDERR_FILENO);
	alarm(CHILD_SECONDS);
	if (mdb_env_create(&env) || mdb_env_set_maxdbs(env, 64) ||
		mdb_env_open(env, dir, MDB_RDONLY | MDB_NOLOCK, 0) ||
		mdb_txn_begin(env, NULL, MDB_RDONLY, &t.txn) || mdb_dbi_open(t.txn, NULL, 0, &dbi))
		return 1;
	return touch_database(&t, dbi, true) || touch_database(&t, 0, false);
}

static int check_in_child(const char *dir, uint64_t file_size)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(child_main(dir, file_size));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EINVAL;
}

static int check_size(const char *dir, int fd, const struct disk_meta *m)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (m->last_page < 1 || m->last_page > UINT64_MAX / 65536 / 2)
		return -EINVAL;
	if ((uint64_t)st.st_size >= (m->last_page + 1) * m->dbs[0].pad)
		return 0;
	return check_in_child(dir, (uint64_t)st.st_size);
}

/* One look. The newest transaction that it saw is in *txn, where it got that far. */
static int look(const char *dir, int fd, struct check_info *info, const char **fault, uint64_t *txn)
{
	struct disk_meta m[2];
	int rc = read_meta(fd, 0, &m[0], fault);

	if (rc == 0)
		rc = read_meta(fd, m[0].dbs[0].pad, &m[1], fault);
	if (rc)
		return rc;
	const struct disk_meta *newest = &m[m[1].txn > m[0].txn];
	*txn = newest->txn;
	*fault = "its data file is damaged (a root page is not where it should be)";
	if (newest->dbs[0].pad != m[0].dbs[0].pad)
		return -EINVAL;
	for (int i = 0; i < 2; i++) {
		rc = check_root(fd, newest, newest->dbs[i].root);
		if (rc)
			return rc;
	}
	*fault = "its data file has been cut short";
	rc = check_size(dir, fd, newest);
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

int check_environment(const char *dir, int fd, struct check_info *info, char *why, size_t why_cap)
{
	const char *fault = "";
	uint64_t txn = 0, before;
	int rc;

	/* A program that commits while we look replaces pages under our eyes; then look again. */
	do {
		before = txn;
		rc = look(dir, fd, info, &fault, &txn);
	} while (rc == -EINVAL && txn != before);
	if (rc == -EINVAL)
		snprintf(why, why_cap, "%s; it has been left as it is", fault);
	else if (rc)
		snprintf(why, why_cap, "its data file cannot be read: %s", strerror(-rc));
	return rc;
}
