/*
 * test_writeback_kill.c - the process ends at any moment of uploading: what it leaves on the disk is
 * gone on with, and the remote store has in the end what the mount showed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "tests/unit/wb_kit.h"

enum { KEYS = 24, MOMENTS_MAX = 200 };

/* The disk as it is at one moment: a request is about to be worked at, or has been. */
static struct wbk *watched;
static int moment, wanted;
static char kept[64];

static void copy_file(const char *from, const char *to)
{
	char buf[1 << 16];
	ssize_t n;
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_true(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

static void copy_data(const char *from, const char *to)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/data.mdb", from);
	snprintf(b, sizeof(b), "%s/data.mdb", to);
	copy_file(a, b);
}

static void look(struct fake *f, const char *op)
{
	if ((strcmp(op, "put") != 0 && strcmp(op, "remove") != 0) || moment++ != wanted)
		return;
	copy_data(watched->folder, kept);
	f->fail = -ECANCELED; /* nothing more is asked of it */
}

static const char *key_of(int i)
{
	static char key[16];

	snprintf(key, sizeof(key), "k%02d", i);
	return key;
}

/* Keys that are there, some changed, some removed, some new, some made and removed. */
static void work(struct wbk *k)
{
	for (int i = 0; i < KEYS; i++) {
		if (i % 3 == 0)
			fake_put(&k->remote, key_of(i), "old");
	}
	assert_int_equal(wbk_list(k, ""), 0);
	for (int i = 0; i < KEYS; i++) {
		if (i % 4 == 1)
			wbk_remove(k, key_of(i));
		else if (i % 3 || i % 2)
			wbk_put(k, key_of(i), "first");
	}
	wbk_upload(k);
	for (int i = 0; i < KEYS; i += 2)
		wbk_put(k, key_of(i), "second");
	for (int i = 0; i < KEYS; i += 5)
		wbk_remove(k, key_of(i));
	wbk_upload(k);
	for (int i = 0; i < KEYS; i += 10)
		wbk_put(k, key_of(i), "again");
	wbk_upload(k);
}

/* What the mount shows now, and what the remote store has. */
static void check_same(struct wbk *k)
{
	for (int i = 0; i < KEYS; i++) {
		const struct fake_item *there = fake_find(&k->remote, key_of(i));
		const char *here = wbk_shown(k, key_of(i));

		if (strcmp(here, "?") == 0) /* it has not been read */
			continue;
		assert_string_equal(here, there ? there->value : "-");
	}
}

static void finish(struct wbk *k)
{
	for (int i = 0; i < 10 && atomic_load(&k->wb->pending); i++)
		wbk_upload(k);
	assert_int_equal(atomic_load(&k->wb->pending), 0);
}

/* What the disk has of each key is what is there in the end; nothing that had been removed by then
 * comes back. */
static void test_any_moment(void **state)
{
	struct wbk *k = *state;
	bool reached = true;

	for (wanted = 0; reached && wanted < MOMENTS_MAX; wanted++) {
		snprintf(kept, sizeof(kept), "/tmp/kvfs-kept-XXXXXX");
		assert_non_null(mkdtemp(kept));
		watched = k;
		moment = 0;
		k->remote.before = k->remote.after = look;
		work(k);
		k->remote.before = k->remote.after = NULL;
		reached = moment > wanted;
		if (!reached) /* all has been done before */
			copy_data(k->folder, kept);
		wbk_close(k);
		copy_data(kept, k->folder);
		k->remote.fail = 0;
		wbk_open(k);
		finish(k);
		check_same(k);
		for (int i = 0; i < KEYS; i++) {
			if (strcmp(wbk_shown(k, key_of(i)), "-") != 0)
				wbk_remove(k, key_of(i));
		}
		finish(k);
		for (int i = 0; i < KEYS; i++)
			fake_drop(&k->remote, key_of(i));
		wbk_advance(1000);
		char file[128];
		snprintf(file, sizeof(file), "%s/data.mdb", kept);
		unlink(file);
		rmdir(kept);
	}
	assert_in_range(wanted, 8, MOMENTS_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {wbk_test_durable(test_any_moment)};

	return wbk_run("write-back kills", tests, sizeof(tests) / sizeof(tests[0]));
}
