/*
 * refusal.c - why something that a user asked for is refused, in the log: a number such as EINVAL does
 * not say it. A program that asks again and again does not fill the log.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/base/log.h"
#include "fs/core/core.h"
#include "fs/core/node.h"

enum {
	LINES_MAX = 10, /* in PERIOD seconds */
	PERIOD = 10,
	SHOWN = 640, /* bytes of a key or name, most of which need no escapes */
};

/* The log is one for the whole process, and so is this. */
static struct {
	struct lock lock;
	time_t began;
	unsigned lines, left_out;
} limit = {.lock = LOCK_INITIALIZER(LOCK_REFUSALS)};

/* Whether a line may be written now. *left_out: how many were not, since the last one. */
static bool may_say(unsigned *left_out)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	lock_take(&limit.lock);
	if (!limit.lines || now.tv_sec - limit.began >= PERIOD) {
		limit.began = now.tv_sec;
		limit.lines = 0;
	}
	bool may = limit.lines < LINES_MAX;
	*left_out = may ? limit.left_out : 0;
	limit.lines += may;
	limit.left_out = may ? 0 : limit.left_out + 1;
	lock_drop(&limit.lock);
	return may;
}

static const char *reason(const struct fs *fs, const char *name, int rc, char *buf, size_t cap)
{
	switch (rc) {
	case -ENAMETOOLONG:
		return "its key would have more than 512 bytes";
	case -EINVAL:
		return name ? "no key has this name, since the rules of names would write it "
			      "differently"
			    : NULL;
	case -EFBIG:
		snprintf(buf, cap, "a value has at most %llu bytes",
			(unsigned long long)fs->st->value_max);
		return buf;
	default:
		return NULL;
	}
}

void fs_log_refused(struct fs *fs, struct node *n, const char *name, int rc)
{
	char number[64], key[SHOWN], shown[SHOWN];
	struct node_id id;
	unsigned left_out;
	const char *why = rc ? reason(fs, name, rc, number, sizeof(number)) : NULL;

	if (!why || node_get_id(&fs->nodes, n, &id) || !may_say(&left_out))
		return;
	log_bytes(id.bytes, id.id.len, key, sizeof(key));
	log_bytes(name ? name : "", name ? strlen(name) : 0, shown, sizeof(shown));
	log_warning("%s%s: refused: %s", key, shown, why);
	if (left_out)
		log_warning("%u more were refused in the meantime", left_out);
}
