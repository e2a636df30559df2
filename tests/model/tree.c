#include "tests/model/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/model/look.h"

/* Times that were set in the past are the same in both trees. */
enum { LONG_AGO = 1700000000 };

struct printing {
	FILE *out;
	enum tree_times times;
	size_t root_len;
};

static uint64_t hash(uint64_t h, const unsigned char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ data[i]) * 0x100000001b3u;
	return h;
}

static void print_content(FILE *out, const char *path)
{
	unsigned char buf[65536];
	uint64_t h = 0xcbf29ce484222325u;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0)
		h = hash(h, buf, (size_t)n);
	if (n < 0)
		fprintf(out, " content: %s", strerror(errno));
	else
		fprintf(out, " content %016" PRIx64, h);
	if (fd >= 0)
		close(fd);
}

static void print_target(FILE *out, const char *path)
{
	char target[PATH_MAX + 1];
	ssize_t n = readlink(path, target, PATH_MAX);

	fprintf(out, " target %.*s", n < 0 ? 0 : (int)n, target);
}

static void print_xattrs(FILE *out, const char *path)
{
	char names[4096], *sorted[64];
	unsigned char value[4096];
	ssize_t len = llistxattr(path, names, sizeof(names));
	size_t n = 0;

	for (char *at = names; len > 0 && at < names + len; at += strlen(at) + 1) {
		if (strncmp(at, "user.", 5) == 0 && n < 64)
			sorted[n++] = at;
	}
	look_sort_names(sorted, n);
	for (size_t i = 0; i < n; i++) {
		ssize_t size = lgetxattr(path, sorted[i], value, sizeof(value));

		if (size < 0)
			fprintf(out, " %s: %s", sorted[i], strerror(errno));
		else
			fprintf(out, " %s=%zd:%016" PRIx64, sorted[i], size,
				hash(0, value, (size_t)size));
	}
}

static void print_times(const struct printing *p, const struct stat *st)
{
	/* Those of a pipe are its kernel's, who does not tell FUSE of what is written. */
	if (S_ISFIFO(st->st_mode) || p->times == TREE_TIMES_NONE)
		return;
	if (st->st_mtim.tv_sec < LONG_AGO || p->times == TREE_TIMES_ALL)
		fprintf(p->out, " mtime %lld.%09ld", (long long)st->st_mtim.tv_sec,
			st->st_mtim.tv_nsec);
	if (p->times == TREE_TIMES_ALL)
		fprintf(p->out, " ctime %lld.%09ld inode %lu", (long long)st->st_ctim.tv_sec,
			st->st_ctim.tv_nsec, (unsigned long)st->st_ino);
}

static int compare_dirents(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void print_below(const struct printing *p, char *path);

static void print_one(const struct printing *p, char *path)
{
	char attributes[LOOK_TEXT_MAX];
	struct stat st;

	fprintf(p->out, "%s", path + p->root_len);
	if (lstat(path, &st)) {
		fprintf(p->out, ": %s\n", strerror(errno));
		return;
	}
	look_print(&st, attributes);
	fprintf(p->out, ": %s", attributes);
	print_times(p, &st);
	print_xattrs(p->out, path);
	if (S_ISREG(st.st_mode))
		print_content(p->out, path);
	else if (S_ISLNK(st.st_mode))
		print_target(p->out, path);
	fputc('\n', p->out);
	if (S_ISDIR(st.st_mode))
		print_below(p, path);
}

static void print_below(const struct printing *p, char *path)
{
	struct dirent **list;
	size_t len = strlen(path);
	int n = scandir(path, &list, NULL, compare_dirents);

	if (n < 0) {
		fprintf(p->out, "%s: listing: %s\n", path + p->root_len, strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			snprintf(path + len, PATH_MAX - len, "/%s", name);
			print_one(p, path);
			path[len] = '\0';
		}
		free(list[i]);
	}
	free(list);
}

char *tree_print(const char *root, enum tree_times times)
{
	char path[PATH_MAX], *text = NULL;
	size_t size;
	struct printing p = {
		.out = open_memstream(&text, &size), .times = times, .root_len = strlen(root)};

	if (!p.out)
		return NULL;
	snprintf(path, sizeof(path), "%s", root);
	print_one(&p, path);
	return fclose(p.out) ? NULL : text;
}

bool tree_differs(const char *a, const char *b, char *out, unsigned long size)
{
	while (*a || *b) {
		size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

		if (n != m || memcmp(a, b, n) != 0) {
			snprintf(out, size, "\n  %.*s\ninstead of\n  %.*s", (int)n, a, (int)m, b);
			return true;
		}
		a += n + (a[n] == '\n');
		b += m + (b[m] == '\n');
	}
	return false;
}
