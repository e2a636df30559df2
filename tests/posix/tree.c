#include "tests/posix/tree.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* How far the clock that stamps may be behind the one that is asked: a tick. */
static const int64_t SLACK = 20 * 1000 * 1000;

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* --- looking ------------------------------------------------------------------------------- */

static struct timespec stamp(struct statx_timestamp t)
{
	return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

/* The filesystem's own answer, not the kernel's memory of an older one. */
static int stat_anew(int fd, const char *path, struct stat *st)
{
	struct statx x;
	int flags = AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC | (*path ? 0 : AT_EMPTY_PATH);

	if (statx(fd, path, flags, STATX_BASIC_STATS, &x))
		return -1;
	*st = (struct stat){
		.st_ino = x.stx_ino,
		.st_mode = x.stx_mode,
		.st_nlink = x.stx_nlink,
		.st_uid = x.stx_uid,
		.st_gid = x.stx_gid,
		.st_size = (off_t)x.stx_size,
		.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
		.st_atim = stamp(x.stx_atime),
		.st_mtim = stamp(x.stx_mtime),
		.st_ctim = stamp(x.stx_ctime),
	};
	return 0;
}

static struct tree_object *tree_add(struct tree *t, const char *path)
{
	struct tree_object *o = &t->o[t->n++];

	if (t->n == TREE_OBJECTS || strlen(path) >= TREE_PATH)
		errx(2, "%s: too much in the folder", path);
	strcpy(o->path, path);
	o->there = o->nameless = false;
	return o;
}

static struct tree_object *tree_find(const struct tree *t, const char *path, bool nameless)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->o[i].nameless == nameless && strcmp(t->o[i].path, path) == 0)
			return (struct tree_object *)(uintptr_t)&t->o[i];
	}
	return NULL;
}

static void add_listed(struct tree *t, const char *folder, const struct dirent *e)
{
	char path[TREE_PATH + 300];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s%s", strcmp(folder, ".") ? folder : "",
		strcmp(folder, ".") ? "/" : "", e->d_name);
	struct tree_object *o = tree_add(t, path);
	if (stat_anew(AT_FDCWD, path, &st)) {
		printf("  ! %s is listed: %s\n", path, strerrorname_np(errno));
		return;
	}
	o->there = true;
	o->st = st;
	if (e->d_ino != st.st_ino || (e->d_type != DT_UNKNOWN && e->d_type != IFTODT(st.st_mode)))
		printf("  ! %s is listed with another number or type\n", path);
}

static bool is_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dirent *)a)->d_name, ((const struct dirent *)b)->d_name);
}

/* Without a change of the folder's access time, where that can be had. The first entries into
 * `out`, and how many there are. */
static int list(const char *folder, struct dirent out[TREE_FOLDER_MOST])
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int n = 0;

	if (!dir)
		return -1;
	while ((e = readdir(dir))) {
		if (is_dots(e))
			continue;
		if (n < TREE_FOLDER_MOST)
			out[n] = *e;
		n++;
	}
	closedir(dir);
	return n;
}

static void look_into(struct tree *t, const char *folder)
{
	struct dirent entries[TREE_FOLDER_MOST];
	int n = list(folder, entries);

	if (n < 0) {
		if (errno != EACCES && errno != ENOENT)
			printf("  ! listing %s: %s\n", folder, strerrorname_np(errno));
		return;
	}
	size_t first = t->n;
	if (n <= TREE_FOLDER_MOST) {
		qsort(entries, (size_t)n, sizeof(entries[0]), by_name);
		for (int i = 0; i < n; i++)
			add_listed(t, folder, &entries[i]);
	}
	for (size_t i = first, end = t->n; i < end; i++) {
		if (t->o[i].there && S_ISDIR(t->o[i].st.st_mode))
			look_into(t, t->o[i].path);
	}
}

/* Open files that no path leads to any more. */
static void look_at_open(struct tree *t, const int fds[TREE_FDS])
{
	char name[8];

	for (int i = 0; i < TREE_FDS; i++) {
		struct stat st;
		size_t k = 0;

		if (fds[i] < 0 || stat_anew(fds[i], "", &st))
			continue;
		while (k < t->n && !(t->o[k].there && t->o[k].st.st_ino == st.st_ino))
			k++;
		if (k < t->n)
			continue;
		snprintf(name, sizeof(name), "@%d", i);
		struct tree_object *o = tree_add(t, name);
		o->there = o->nameless = true;
		o->st = st;
	}
}

static const char ATIME[] = "atime";

/* What differs between two looks at one object. NULL: nothing. */
static const char *difference(const struct stat *a, const struct stat *b)
{
	if (a->st_ino != b->st_ino)
		return "number";
	if (a->st_mode != b->st_mode)
		return "mode";
	if (a->st_uid != b->st_uid || a->st_gid != b->st_gid)
		return "owner";
	if (a->st_nlink != b->st_nlink)
		return "links";
	if (a->st_size != b->st_size && !S_ISDIR(a->st_mode))
		return "size";
	if (!same_time(a->st_mtim, b->st_mtim))
		return "mtime";
	if (!same_time(a->st_ctim, b->st_ctim))
		return "ctime";
	return same_time(a->st_atim, b->st_atim) ? NULL : ATIME;
}

/* What the kernel remembers of each path that has been seen. */
static void remember(struct tree *remembered, const struct tree *before)
{
	remembered->n = 0;
	for (size_t i = 0; i < before->n; i++) {
		if (before->o[i].nameless)
			continue;
		struct tree_object *o = tree_add(remembered, before->o[i].path);
		o->there = lstat(o->path, &o->st) == 0;
	}
}

static void compare_remembered(struct tree *now, const struct tree *remembered)
{
	for (size_t i = 0; i < remembered->n; i++) {
		const struct tree_object *r = &remembered->o[i],
					 *o = tree_find(now, r->path, false);
		const char *stale = NULL;

		if (!o) {
			tree_add(now, r->path);
			if (r->there)
				stale = "name (not listed)";
		} else if (r->there != o->there) {
			stale = "absence";
		} else if (r->there) {
			stale = difference(&r->st, &o->st);
		}
		/* Between two looks a link that leads to the next path has been read. */
		if (stale && stale != ATIME)
			printf("  ! %s: the kernel remembers another %s\n", r->path, stale);
	}
}

static void look_at_top(struct tree *t)
{
	struct tree_object *o = tree_add(t, ".");

	o->there = stat_anew(AT_FDCWD, ".", &o->st) == 0;
}

static void look_again(struct tree *t, const struct tree *before)
{
	for (size_t i = 0; i < before->n; i++) {
		const struct tree_object *old = &before->o[i];

		if (!old->there || old->nameless)
			continue;
		struct tree_object *o = tree_add(t, old->path);
		o->there = stat_anew(AT_FDCWD, o->path, &o->st) == 0;
	}
}

void tree_look(struct tree *t, const struct tree *before, bool list, const int fds[TREE_FDS])
{
	static struct tree remembered;

	remembered.n = 0;
	if (before)
		remember(&remembered, before);
	t->n = 0;
	if (list) {
		look_at_top(t);
		look_into(t, ".");
	} else {
		look_again(t, before);
	}
	look_at_open(t, fds);
	compare_remembered(t, &remembered);
}

/* --- printing ------------------------------------------------------------------------------ */

static void print_time(char letter, struct timespec t, int64_t since)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (nanoseconds(t) >= since - SLACK && nanoseconds(t) <= nanoseconds(now) + SLACK)
		printf(" %c=now", letter);
	else if (nanoseconds(t) > nanoseconds(now) - 3600LL * 1000000000 &&
		nanoseconds(t) <= nanoseconds(now))
		printf(" %c=before", letter);
	else
		printf(" %c=%lld.%09ld", letter, (long long)t.tv_sec, t.tv_nsec);
}

static void print_stat(const struct stat *st, int64_t since)
{
	static const char types[] = "?pc?d?b?-?l?s???";

	printf(" %c%04o %u:%u n%u", types[st->st_mode >> 12 & 15], st->st_mode & 07777, st->st_uid,
		st->st_gid, (unsigned)st->st_nlink);
	if (!S_ISDIR(st->st_mode))
		printf(" s%lld", (long long)st->st_size);
	if (S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode))
		printf(" %u,%u", major(st->st_rdev), minor(st->st_rdev));
	print_time('a', st->st_atim, since);
	print_time('m', st->st_mtim, since);
	print_time('c', st->st_ctim, since);
}

/* Where an object that is new at its path was before. */
static const struct tree_object *moved_from(const struct tree *before, const struct stat *st)
{
	for (size_t i = 0; i < before->n; i++) {
		if (before->o[i].there && before->o[i].st.st_ino == st->st_ino)
			return &before->o[i];
	}
	return NULL;
}

/* What differs between two looks at one object, after a blank each. */
static void print_difference(const struct stat *a, const struct stat *b, int64_t since)
{
	if (a->st_mode != b->st_mode)
		printf(" mode=%o", b->st_mode);
	if (a->st_uid != b->st_uid || a->st_gid != b->st_gid)
		printf(" owner=%u:%u", b->st_uid, b->st_gid);
	if (a->st_nlink != b->st_nlink)
		printf(" n%u", (unsigned)b->st_nlink);
	if (a->st_size != b->st_size && !S_ISDIR(b->st_mode))
		printf(" s%lld", (long long)b->st_size);
	if (!same_time(a->st_atim, b->st_atim))
		print_time('a', b->st_atim, since);
	if (!same_time(a->st_mtim, b->st_mtim))
		print_time('m', b->st_mtim, since);
	if (!same_time(a->st_ctim, b->st_ctim))
		print_time('c', b->st_ctim, since);
}

static void print_came(const struct tree *before, const struct tree_object *o, int64_t since)
{
	const struct tree_object *from = moved_from(before, &o->st);

	printf("  + %s", o->path);
	if (from) {
		printf(" (was %s)", from->path);
		print_difference(&from->st, &o->st, since);
	} else {
		print_stat(&o->st, since);
	}
	puts("");
}

static void print_stayed(
	const char *path, const struct stat *a, const struct stat *b, int64_t since)
{
	if (!difference(a, b))
		return;
	printf("  ~ %s", path);
	print_difference(a, b, since);
	puts("");
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_object *)a)->path, ((const struct tree_object *)b)->path);
}

void tree_print_changes(const struct tree *before, const struct tree *after, int64_t since)
{
	static struct tree sorted;

	sorted.n = after->n;
	memcpy(sorted.o, after->o, after->n * sizeof(after->o[0]));
	qsort(sorted.o, sorted.n, sizeof(sorted.o[0]), by_path);
	for (size_t i = 0; i < sorted.n; i++) {
		const struct tree_object *o = &sorted.o[i],
					 *old = tree_find(before, o->path, o->nameless);
		bool was = old && old->there;

		if (was && !o->there)
			printf("  - %s\n", o->path);
		else if (o->there && (!was || old->st.st_ino != o->st.st_ino))
			print_came(before, o, since);
		else if (o->there)
			print_stayed(o->path, &old->st, &o->st, since);
	}
}

/* --- the end ------------------------------------------------------------------------------- */

static void clear_folder(int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (is_dots(e) || unlinkat(fd, e->d_name, 0) == 0)
			continue;
		if (fchmodat(fd, e->d_name, 0700, 0))
			warn("cannot open up %s", e->d_name);
		int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			clear_folder(sub);
		if (unlinkat(fd, e->d_name, AT_REMOVEDIR))
			err(2, "cannot remove %s", e->d_name);
	}
	if (dir)
		closedir(dir);
}

void tree_clear(void)
{
	if (chmod(".", 0755))
		err(2, "chmod");
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		err(2, "cannot clear the folder");
	clear_folder(fd);
}
