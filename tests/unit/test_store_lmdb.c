/*
 * test_store_lmdb.c - the store suite on the LMDB store, in a temporary folder.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/lmdb/lmdb.h"
#include "tests/unit/store_suite.h"

enum { DIR_SIZE = 64 };

static int open_in(const char *dir, struct store **out)
{
	struct lmdb_options opts = {.dir = dir, .create = true, .commit_interval_ms = 5};
	char why[512] = "";
	int rc = lmdb_store_open(&opts, out, why, sizeof(why));

	if (rc)
		fprintf(stderr, "%s: %s (%s)\n", dir, strerror(-rc), why);
	return rc;
}

static int fixture_open(struct store_fixture *f, struct store **out)
{
	char *dir = f->arg;

	snprintf(dir, DIR_SIZE, "/tmp/kvfs-suite-XXXXXX");
	if (!mkdtemp(dir))
		return -errno;
	return open_in(dir, out);
}

static int fixture_reopen(struct store_fixture *f, struct store **st)
{
	int rc = (*st)->ops->close(*st);

	return rc ? rc : open_in(f->arg, st);
}

static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

static int fixture_close(struct store_fixture *f, struct store *st)
{
	int rc = st->ops->close(st);

	remove_folder(f->arg);
	return rc;
}

int main(void)
{
	char dir[DIR_SIZE];
	struct store_fixture fixture = {
		.name = "LMDB store",
		.reserved = "kvfs:nodes",
		.arg = dir,
		.open = fixture_open,
		.reopen = fixture_reopen,
		.close = fixture_close,
	};

	return store_suite_run(&fixture);
}
