/*
 * look.c - comparing attributes.
 *
 * Times are not the same on two filesystems, but they change at the same steps. That needs a plain
 * tree that gives each change that somebody looks at a time of its own (actor.exact_times), which
 * Linux does from 6.13 on; without, only that kvfs changes what the plain tree changes is checked.
 */
#include "tests/model/look.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static const char *const place_names[] = {
	"path", "path2", "the directory of path", "the directory of path2", "slot", "slot2"};

static int compare_names(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

void look_sort_names(char **names, size_t n)
{
	if (n)
		qsort(names, n, sizeof(*names), compare_names);
}

void look_print(const struct stat *st, char *text)
{
	bool sized = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode);
	bool device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);

	snprintf(text, LOOK_TEXT_MAX, "mode 0%o user %u group %u links %lu size %lld device %x",
		st->st_mode, st->st_uid, st->st_gid, (unsigned long)st->st_nlink,
		sized ? (long long)st->st_size : 0LL, device ? (unsigned)st->st_rdev : 0u);
}

static void take_path(
	const struct actor *a, int side, const char *path, bool parent, struct look *l)
{
	char buf[PATH_MAX];
	const char *full = act_path(a, side, path, buf);

	if (parent)
		*strrchr(buf, '/') = '\0';
	l->used = true;
	l->err = lstat(full, &l->st) ? errno : 0;
}

static void take_slot(const struct actor *a, int side, int slot, struct look *l)
{
	int fd = a->handles[slot].fd[side];

	if (fd < 0)
		return;
	l->used = true;
	l->err = fstat(fd, &l->st) ? errno : 0;
}

void look_take(const struct actor *a, const struct step *s, struct looks *out)
{
	bool second = s->path2[0] && s->op != OP_symlink;

	memset(out, 0, sizeof(*out));
	for (int side = 0; side < SIDES; side++) {
		if (s->path[0]) {
			take_path(a, side, s->path, false, &out->at[0][side]);
			take_path(a, side, s->path, true, &out->at[2][side]);
		}
		if (second) {
			take_path(a, side, s->path2, false, &out->at[1][side]);
			take_path(a, side, s->path2, true, &out->at[3][side]);
		}
		take_slot(a, side, s->slot, &out->at[4][side]);
		take_slot(a, side, s->slot2, &out->at[5][side]);
	}
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Whether the same file was and is there, so that its times can be compared. */
static bool stayed(const struct look *before, const struct look *after)
{
	return before->used && !before->err && after->used && !after->err &&
		before->st.st_ino == after->st.st_ino && before->st.st_dev == after->st.st_dev;
}

/* Steps of which filesystems think differently. */
static bool times_are_free(const struct step *s, const struct stat *st)
{
	if (s->op == OP_link)
		return true;
	/* The same value again: none, with luck. */
	if (s->op == OP_setxattr && s->len == 0)
		return true;
	if ((s->look & LOOK_LOOSE) && S_ISREG(st->st_mode))
		return true;
	/* Pipes and devices are the kernel's, and so are the times of what goes through them. */
	return !S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode);
}

static bool times_agree(const struct actor *a, const struct look before[SIDES],
	const struct look after[SIDES], char *text)
{
	bool changed[SIDES][2];

	for (int i = 0; i < SIDES; i++) {
		changed[i][0] = !same_time(before[i].st.st_mtim, after[i].st.st_mtim);
		changed[i][1] = !same_time(before[i].st.st_ctim, after[i].st.st_ctim);
	}
	for (int i = 0; i < 2; i++) {
		bool kvfs = changed[SIDE_KVFS][i], plain = changed[SIDE_PLAIN][i];

		if (kvfs == plain || (kvfs && !a->exact_times))
			continue;
		snprintf(text, LOOK_TEXT_MAX, "%s %s", i ? "ctime" : "mtime",
			kvfs ? "changed in kvfs only" : "changed in the plain tree only");
		return false;
	}
	return true;
}

static bool place_agrees(const struct look at[SIDES], char *text)
{
	char first[LOOK_TEXT_MAX] = "", second[LOOK_TEXT_MAX] = "";

	if (at[0].used != at[1].used || at[0].err != at[1].err) {
		snprintf(text, LOOK_TEXT_MAX * 3, "stat: %s instead of %s", strerror(at[0].err),
			strerror(at[1].err));
		return false;
	}
	if (!at[0].used || at[0].err)
		return true;
	look_print(&at[0].st, first);
	look_print(&at[1].st, second);
	if (strcmp(first, second) == 0)
		return true;
	snprintf(text, LOOK_TEXT_MAX * 3, "%s instead of %s", first, second);
	return false;
}

/* A time that was set is the time that is there. */
static bool set_time_agrees(const struct step *s, const struct look at[SIDES], char *text)
{
	if (s->op != OP_utimens || (s->flags & (TIME_STEP_NOW | TIME_STEP_OMIT_MTIME)))
		return true;
	if (same_time(at[0].st.st_mtim, at[1].st.st_mtim))
		return true;
	snprintf(text, LOOK_TEXT_MAX * 3, "mtime %lld.%09ld instead of %lld.%09ld",
		(long long)at[0].st.st_mtim.tv_sec, at[0].st.st_mtim.tv_nsec,
		(long long)at[1].st.st_mtim.tv_sec, at[1].st.st_mtim.tv_nsec);
	return false;
}

bool look_agree(const struct actor *a, const struct step *s, const struct looks *before,
	const struct looks *after, bool worked, char *text)
{
	for (int i = 0; i < LOOK_PLACES; i++) {
		const struct look *now = after->at[i];
		int target = s->path[0] ? 0 : 4;
		bool good = place_agrees(now, text);

		if (good && worked && i == target && now[0].used && !now[0].err)
			good = set_time_agrees(s, now, text);
		if (good && before && stayed(&before->at[i][0], &now[0]) &&
			stayed(&before->at[i][1], &now[1]) && !times_are_free(s, &now[0].st))
			good = times_agree(a, before->at[i], now, text);
		if (good)
			continue;
		size_t n = strlen(text);
		snprintf(text + n, LOOK_TEXT_MAX, " (%s)", place_names[i]);
		return false;
	}
	return true;
}
