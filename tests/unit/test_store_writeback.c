/*
 * test_store_writeback.c - the store suite on a write-back store, over the LMDB store and a fake
 * remote one. Nothing is uploaded meanwhile: the store must be a store without that.
 *
 * Left out: what the contract of a store behind a remote one has otherwise.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/lmdb/lmdb.h"
#include "backends/writeback/writeback.h"
#include "tests/unit/fake_remote.h"
#include "tests/unit/suite_kit.h"

static char dir[64];
static struct fake remote;

static int open_in(struct store **out)
{
	struct lmdb_options opts = {.dir = dir, .create = true, .commit_interval_ms = 5};
	struct writeback_options o = {.separator = '/',
		.max_age = INT64_C(60) * SECOND,
		.upload_delay = INT64_C(3600) * SECOND};
	char why[512] = "";
	struct store *local;
	uint32_t ns;
	int rc = lmdb_store_open(&opts, &local, why, sizeof(why));

	if (!rc)
		rc = writeback_open(local, &remote.base, &o, NULL, out, &ns, why, sizeof(why));
	if (rc)
		fprintf(stderr, "%s: %s (%s)\n", dir, strerror(-rc), why);
	return rc;
}

static int fixture_open(struct store_fixture *f, struct store **out)
{
	snprintf(dir, sizeof(dir), "/tmp/kvfs-suite-XXXXXX");
	if (!mkdtemp(dir))
		return -errno;
	fake_init(&remote);
	remote.base.value_max = UINT64_MAX;
	return open_in(out);
}

static int fixture_reopen(struct store_fixture *f, struct store **st)
{
	int rc = (*st)->ops->close(*st);

	return rc ? rc : open_in(st);
}

static int fixture_close(struct store_fixture *f, struct store *st)
{
	int rc = st->ops->close(st);
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		unlinkat(dirfd(d), entry->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
	fake_free(&remote);
	return rc;
}

/* Why each does not apply. */
static const char *const skipped[] = {
	/* The cache gives every key a record, so none is `unrecorded`. */
	"test_value_only", "test_remove", "test_expired_are_removed", "test_move",
	/* Keys are UTF-8. */
	"test_longest_ids", "test_order", "test_long_ids", "test_random_changes",
	/* `pending` lasts until the upload. */
	"test_hold", "test_sync_ends_pending", "test_stat", "test_reopen", "test_move_held",
	/* The remote store refuses titles that exist; the fake one does not. */
	"test_ns_create_with_a_record", "test_ns_create", "test_ns_rename_onto", NULL};

int main(void)
{
	struct store_fixture fixture = {
		.name = "write-back store",
		.skipped = skipped,
		.open = fixture_open,
		.reopen = fixture_reopen,
		.close = fixture_close,
	};

	return store_suite_run(&fixture);
}
