/*
 * act_listing.c - directories read: every name once, with its type and inode number, and again from
 * a position in the middle.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/model/act.h"
#include "tests/model/look.h"

enum { NAMES_MAX = 512, LINE_MAX_LEN = 262 };

/* One listing: lines "TYPE NAME", in the order in which they came. */
struct lines {
	char *at[NAMES_MAX];
	size_t n;
	const char *wrong;
};

static void lines_free(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->at[i]);
	l->n = 0;
}

static void lines_add(struct lines *l, DIR *d, const struct dirent *e)
{
	char line[LINE_MAX_LEN + 1];
	struct stat st;
	bool dots = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;

	if (l->n == NAMES_MAX)
		return;
	snprintf(line, sizeof(line), "%02d %s", e->d_type, e->d_name);
	l->at[l->n++] = strdup(line);
	if (!dots && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_ino != e->d_ino)
		l->wrong = "readdir and lstat give different inode numbers";
}

static void lines_read(struct lines *l, DIR *d)
{
	struct dirent *e;

	while ((e = readdir(d)))
		lines_add(l, d, e);
}

/* Reads `n` entries, remembers the position, reads the rest, comes back, and reads the rest again. */
static const char *come_back(DIR *d, unsigned n)
{
	struct lines rest = {0}, again = {0};
	const char *wrong = NULL;

	rewinddir(d);
	for (unsigned i = 0; i < n; i++)
		readdir(d);
	long pos = telldir(d);
	lines_read(&rest, d);
	seekdir(d, pos);
	lines_read(&again, d);
	if (rest.n != again.n)
		wrong = "seekdir came back to another place";
	for (size_t i = 0; !wrong && i < rest.n; i++) {
		if (strcmp(rest.at[i], again.at[i]) != 0)
			wrong = "seekdir came back to other entries";
	}
	lines_free(&rest);
	lines_free(&again);
	return wrong;
}

static long list(DIR *d, unsigned n, unsigned char *data, struct outcome *out)
{
	struct lines l = {0};

	lines_read(&l, d);
	look_sort_names(l.at, l.n);
	for (size_t i = 0; i < l.n; i++) {
		size_t len = strlen(l.at[i]);

		memcpy(data + out->len, l.at[i], len);
		data[out->len + len] = '\n';
		out->len += len + 1;
	}
	long rc = (long)l.n;
	out->wrong = l.wrong;
	if (!out->wrong)
		out->wrong = come_back(d, n);
	lines_free(&l);
	return rc;
}

long act_on_listing(struct actor *a, int side, const struct step *s, struct outcome *out)
{
	struct handle *h = &a->handles[s->slot];
	char buf[PATH_MAX];
	DIR *d;

	if (s->op == OP_relist) {
		rewinddir(h->dir[side]);
		return list(h->dir[side], s->flags, a->data[side], out);
	}
	d = opendir(act_path(a, side, s->path, buf));
	if (!d)
		return -1;
	if (s->op == OP_opendir) {
		if (h->dir[side])
			closedir(h->dir[side]);
		h->dir[side] = d;
		return 0;
	}
	long rc = list(d, s->flags, a->data[side], out);
	closedir(d);
	return rc;
}
