#include "fs/cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "fs/core/names.h"

enum { COMMIT_INTERVAL_DEFAULT = 50, COMMIT_INTERVAL_MAX = 60000 };
static const uint64_t CACHE_SIZE_DEFAULT = 1ULL << 30;
static const long long CACHE_SIZE_MAX = 1LL << 60;

void options_init(struct mount_options *o)
{
	mode_t mask = umask(0);

	umask(mask);
	*o = (struct mount_options){
		.fs = {.separator = '/', .uid = getuid(), .gid = getgid(), .umask = mask},
		.commit_interval_ms = COMMIT_INTERVAL_DEFAULT,
		.remote = {.cache_size = CACHE_SIZE_DEFAULT,
			.max_age = 60LL * CLOCK_SECOND,
			.upload_delay = CLOCK_SECOND,
			.timeout = 30},
	};
}

void options_release(struct mount_options *o)
{
	free(o->log);
	free(o->remote.cache);
	free(o->remote.local);
	free(o->remote.endpoint);
	free(o->remote.token_file);
	free(o->remote.env);
}

/* What a value must be, for messages. */
static int refuse(const char *name, const char *must_be, char *why, size_t cap)
{
	snprintf(why, cap, "option %s must be %s", name, must_be);
	return -EINVAL;
}

static bool parse_number(const char *text, int base, long long max, long long *out)
{
	char *end;

	if (!*text || *text == '-' || *text == '+' || *text == ' ')
		return false;
	errno = 0;
	long long n = strtoll(text, &end, base);
	if (*end || errno || n < 0 || n > max)
		return false;
	*out = n;
	return true;
}

static int set_separator(struct mount_options *o, const char *value, char *why, size_t cap)
{
	if (strlen(value) != 1 || !names_sep_valid(value[0]))
		return refuse("separator",
			"one ASCII punctuation character other than '%', '+' and '.'", why, cap);
	o->fs.separator = value[0];
	return 0;
}

static int set_ttl(struct mount_options *o, const char *value, char *why, size_t cap)
{
	long long n;

	if (!parse_number(value, 10, INT_MAX, &n))
		return refuse("ttl", "a number of seconds (0: keys never expire)", why, cap);
	o->fs.have_ttl = true;
	o->fs.ttl = n;
	return 0;
}

static int set_uid(struct mount_options *o, const char *value, char *why, size_t cap)
{
	long long n;

	if (!parse_number(value, 10, UINT32_MAX - 1LL, &n))
		return refuse("uid", "a user's number", why, cap);
	o->fs.uid = (uint32_t)n;
	return 0;
}

static int set_gid(struct mount_options *o, const char *value, char *why, size_t cap)
{
	long long n;

	if (!parse_number(value, 10, UINT32_MAX - 1LL, &n))
		return refuse("gid", "a group's number", why, cap);
	o->fs.gid = (uint32_t)n;
	return 0;
}

static int set_umask(struct mount_options *o, const char *value, char *why, size_t cap)
{
	long long n;

	if (!parse_number(value, 8, 0777, &n))
		return refuse("umask", "an octal number up to 777", why, cap);
	o->fs.umask = (uint32_t)n;
	return 0;
}

static int set_commit_interval(struct mount_options *o, const char *value, char *why, size_t cap)
{
	long long n;

	if (!parse_number(value, 10, COMMIT_INTERVAL_MAX, &n))
		return refuse("commit_interval", "a number of milliseconds up to 60000", why, cap);
	o->commit_interval_ms = (unsigned)n;
	return 0;
}

static int set_log(struct mount_options *o, const char *value, char *why, size_t cap)
{
	if (!*value)
		return refuse("log", "a file, or syslog", why, cap);
	free(o->log);
	o->log = strdup(value);
	return o->log ? 0 : -ENOMEM;
}

static int set_text(char **to, const char *name, const char *value, char *why, size_t cap)
{
	if (!*value)
		return refuse(name, "something", why, cap);
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int set_cache(struct mount_options *o, const char *value, char *why, size_t cap)
{
	return set_text(&o->remote.cache, "cache", value, why, cap);
}

static int set_endpoint(struct mount_options *o, const char *value, char *why, size_t cap)
{
	return set_text(&o->remote.endpoint, "endpoint", value, why, cap);
}

static int set_token_file(struct mount_options *o, const char *value, char *why, size_t cap)
{
	return set_text(&o->remote.token_file, "token_file", value, why, cap);
}

static int set_env(struct mount_options *o, const char *value, char *why, size_t cap)
{
	return set_text(&o->remote.env, "env", value, why, cap);
}

static int set_local(struct mount_options *o, const char *value, char *why, size_t cap)
{
	free(o->remote.local);
	o->remote.local = strdup(value); /* empty: none */
	return o->remote.local ? 0 : -ENOMEM;
}

/* Bytes, with K, M, G or T for powers of 1024. */
static int set_cache_size(struct mount_options *o, const char *value, char *why, size_t cap)
{
	static const char units[] = "KMGT";
	char digits[24];
	size_t len = strspn(value, "0123456789");
	const char *unit = value[len] ? strchr(units, toupper((unsigned char)value[len])) : NULL;
	long long n = 0;

	snprintf(digits, sizeof(digits), "%.*s", (int)(len < 23 ? len : 23), value);
	bool good = parse_number(digits, 10, CACHE_SIZE_MAX, &n) &&
		(!value[len] || (unit && !value[len + 1]));
	for (const char *u = units; good && unit && u <= unit; u++) {
		good = n <= CACHE_SIZE_MAX / 1024;
		n *= good ? 1024 : 1;
	}
	if (!good)
		return refuse("cache_size", "a number of bytes, such as 512M or 4G", why, cap);
	o->remote.cache_size = (uint64_t)n;
	return 0;
}

/* Seconds, with a fraction if one likes. */
static bool parse_seconds(const char *text, double *out)
{
	char *end;

	errno = 0;
	*out = strtod(text, &end);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out <= 1e6;
}

static int set_max_age(struct mount_options *o, const char *value, char *why, size_t cap)
{
	double s;

	/* What is old before its answer has come could never be shown. */
	if (!parse_seconds(value, &s) || s < 1)
		return refuse("max_age", "a number of seconds, 1 or more", why, cap);
	o->remote.max_age = (int64_t)(s * CLOCK_SECOND);
	return 0;
}

static int set_upload_delay(struct mount_options *o, const char *value, char *why, size_t cap)
{
	double s;

	if (!parse_seconds(value, &s))
		return refuse("upload_delay", "a number of seconds", why, cap);
	o->remote.upload_delay = (int64_t)(s * CLOCK_SECOND);
	return 0;
}

static int set_timeout(struct mount_options *o, const char *value, char *why, size_t cap)
{
	if (!parse_seconds(value, &o->remote.timeout) || o->remote.timeout <= 0)
		return refuse("timeout", "a number of seconds", why, cap);
	return 0;
}

static int set_fsync(struct mount_options *o, const char *value, char *why, size_t cap)
{
	if (strcmp(value, "remote") != 0 && strcmp(value, "local") != 0)
		return refuse("fsync", "local or remote", why, cap);
	o->remote.fsync_remote = *value == 'r';
	return 0;
}

static int set_conflict(struct mount_options *o, const char *value, char *why, size_t cap)
{
	if (strcmp(value, "keep") != 0 && strcmp(value, "overwrite") != 0)
		return refuse("conflict", "overwrite or keep", why, cap);
	o->remote.keep_conflicts = *value == 'k';
	return 0;
}

/* Which sources an option concerns. */
enum scope { ANY = 0, REMOTE, WRANGLER };

static const struct {
	const char *name;
	int (*set)(struct mount_options *o, const char *value, char *why, size_t cap);
	enum scope scope;
} valued[] = {
	{"separator", set_separator, ANY},
	{"ttl", set_ttl, ANY},
	{"uid", set_uid, ANY},
	{"gid", set_gid, ANY},
	{"umask", set_umask, ANY},
	{"commit_interval", set_commit_interval, ANY},
	{"log", set_log, ANY},
	{"cache", set_cache, REMOTE},
	{"cache_size", set_cache_size, REMOTE},
	{"max_age", set_max_age, REMOTE},
	{"upload_delay", set_upload_delay, REMOTE},
	{"fsync", set_fsync, REMOTE},
	{"local", set_local, REMOTE},
	{"endpoint", set_endpoint, REMOTE},
	{"token_file", set_token_file, REMOTE},
	{"timeout", set_timeout, REMOTE},
	{"env", set_env, WRANGLER},
	{"conflict", set_conflict, REMOTE},
};

/* Options without a value: where their flag is. */
static const struct {
	const char *name;
	size_t flag;
	bool value;
	enum scope scope;
} flags[] = {
	{"ro", offsetof(struct mount_options, fs.readonly), true, ANY},
	{"rw", offsetof(struct mount_options, fs.readonly), false, ANY},
	{"sync", offsetof(struct mount_options, fs.sync), true, ANY},
	{"async", offsetof(struct mount_options, fs.sync), false, ANY},
	{"noinherit", offsetof(struct mount_options, fs.noinherit), true, ANY},
	{"allow_other", offsetof(struct mount_options, allow_other), true, ANY},
	{"nonempty", offsetof(struct mount_options, nonempty), true, ANY},
	{"nospin", offsetof(struct mount_options, nospin), true, ANY},
	{"debug", offsetof(struct mount_options, debug), true, ANY},
	{"preview", offsetof(struct mount_options, remote.preview), true, WRANGLER},
};

/* What is for the kernel. Some only root may say; mount(8) says them for everybody. */
static const char *const for_kernel[] = {"nodev", "nosuid", "noexec", "noatime"};
static const char *const for_kernel_by_root[] = {"dev", "suid"};

/* What mount(8) and fstab say to themselves. */
static const char *const ignored[] = {"defaults", "auto", "noauto", "user", "nouser", "users",
	"owner", "group", "nofail", "_netdev", "exec", "atime", "relatime", "norelatime",
	"strictatime", "nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime",
	"dirsync"};

static bool among(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name, list[i]) == 0)
			return true;
	}
	return false;
}
#define AMONG(name, list) among(name, list, sizeof(list) / sizeof(list[0]))

static int add_kernel(struct mount_options *o, const char *name, char *why, size_t cap)
{
	size_t used = strlen(o->kernel);
	int n = snprintf(o->kernel + used, sizeof(o->kernel) - used, "%s%s", used ? "," : "", name);

	if (n < 0 || (size_t)n >= sizeof(o->kernel) - used) {
		snprintf(why, cap, "too many options");
		return -EINVAL;
	}
	return 0;
}

static void note_scope(struct mount_options *o, const char *name, enum scope scope)
{
	if (scope == REMOTE)
		o->only_remote = name;
	else if (scope == WRANGLER)
		o->only_wrangler = name;
}

static int set_flag(struct mount_options *o, const char *name, char *why, size_t cap)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(name, flags[i].name) == 0) {
			*(bool *)((char *)o + flags[i].flag) = flags[i].value;
			note_scope(o, flags[i].name, flags[i].scope);
			return 0;
		}
	}
	if (AMONG(name, for_kernel) || (geteuid() == 0 && AMONG(name, for_kernel_by_root)))
		return add_kernel(o, name, why, cap);
	if (AMONG(name, for_kernel_by_root) || AMONG(name, ignored) || strncmp(name, "x-", 2) == 0)
		return 0;
	for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
		if (strcmp(name, valued[i].name) == 0) {
			snprintf(why, cap, "option %s needs a value: %s=...", name, name);
			return -EINVAL;
		}
	}
	snprintf(why, cap, "unknown option %s", name);
	return -EINVAL;
}

static int set_valued(
	struct mount_options *o, const char *name, const char *value, char *why, size_t cap)
{
	for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
		if (strcmp(name, valued[i].name) == 0) {
			note_scope(o, valued[i].name, valued[i].scope);
			return valued[i].set(o, value, why, cap);
		}
	}
	if (strncmp(name, "x-", 2) == 0 || strcmp(name, "comment") == 0)
		return 0;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(name, flags[i].name) == 0) {
			snprintf(why, cap, "option %s takes no value", name);
			return -EINVAL;
		}
	}
	snprintf(why, cap, "unknown option %s", name);
	return -EINVAL;
}

int options_parse(struct mount_options *o, char *text, char *why, size_t why_cap)
{
	int rc = 0;

	/* A separator may be a comma: "separator=," at the end or followed by another comma. */
	while (!rc && text && *text) {
		size_t len = strcspn(text, ",");

		if (strncmp(text, "separator=,", 11) == 0)
			len = 11;
		char *next = text[len] ? text + len + 1 : NULL;
		text[len] = '\0';
		char *value = strchr(text, '=');
		if (value)
			*value++ = '\0';
		if (*text || value)
			rc = value ? set_valued(o, text, value, why, why_cap)
				   : set_flag(o, text, why, why_cap);
		text = next;
	}
	return rc;
}
