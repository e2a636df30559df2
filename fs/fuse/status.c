#include "fs/fuse/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/core/names.h"

/* A kernel's extended attribute has no more than 64 KiB; namespaces beyond that are counted, not
 * named. */
enum { STATUS_MAX = 60 * 1024 };

static void print_namespaces(FILE *out, struct store *st)
{
	unsigned char name[NAMES_NS_MAX], after[NAMES_NS_MAX];
	char written[NAMES_NAME_MAX + 1];
	size_t len = 0, after_len = 0;

	while (ftell(out) < STATUS_MAX &&
		st->ops->ns_next(st, after, after_len, name, sizeof(name), &len) == 0) {
		if (names_ns_encode(name, len, written) == 0)
			fprintf(out, "namespace=%s\n", written);
		memcpy(after, name, len);
		after_len = len;
	}
}

char *status_text(struct mounted *m)
{
	struct store *st = fs_store(m->fs);
	struct store_stat s;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	st->ops->stat(st, &s);
	fprintf(out, "source=%s\nmountpoint=%s\npid=%d\nversion=%s\n", m->source, m->mountpoint,
		(int)getpid(), KVFS_VERSION);
	fprintf(out, "pending=%" PRIu64 "\npending_bytes=%" PRIu64 "\nstore_bytes=%" PRIu64 "\n",
		s.pending, s.pending_bytes, s.bytes);
	fprintf(out, "reads=%" PRIu64 "\nwrites=%" PRIu64 "\ncommits=%" PRIu64 "\n", s.reads,
		s.writes, s.commits);
	if (s.loose_records)
		fprintf(out, "not_shown=records of the unnamed database\n");
	if (s.unfit)
		fprintf(out, "not_shown=%" PRIu32 " databases of other kinds\n", s.unfit);
	if (s.error || s.left_out)
		fprintf(out, "error=%s\n", strerror(s.error ? -s.error : -s.left_out));
	if (st->ops->describe)
		st->ops->describe(st, out);
	print_namespaces(out, st);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
