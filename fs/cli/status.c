/*
 * status.c - kvfs status.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"
#include "fs/cli/uploads.h"

static const char USAGE[] =
	"usage: kvfs status [--json] [--failed] MOUNTPOINT\n"
	"Tells what is mounted there and how much of it is not stored yet; of a "
	"remote\n"
	"store, also its requests, the cache, and uploads that wait or have failed.\n"
	"  --failed  only the uploads that have failed, one a line\n"
	"  --json    as JSON\n";

enum { VALUE_MAX = 4096 };

static const struct {
	const char *name, *label;
	int number; /* 2: a time, in Unix seconds */
} fields[] = {
	{"source", "source", 0},
	{"mountpoint", "mounted at", 0},
	{"pid", "process", 1},
	{"version", "version", 0},
	{"pending", "changes not stored yet", 1},
	{"pending_bytes", "bytes not stored yet", 1},
	{"store_bytes", "bytes in the store", 1},
	{"reads", "entries read", 1},
	{"writes", "entries changed", 1},
	{"commits", "commits", 1},
	{"cache_bytes", "bytes in the cache", 1},
	{"cache_size", "bytes it may have", 1},
	{"uploads_pending", "uploads waiting", 1},
	{"uploads_open", "of these open for writing", 1},
	{"uploads_failed", "uploads failed", 1},
	{"requests", "requests", 1},
	{"quota", "requests per window", 1},
	{"quota_left", "of these left", 1},
	{"blocked_seconds", "seconds until the next", 1},
	{"offline_since", "offline since", 2},
	{"last_error", "last error", 0},
};

/* Requests of one kind: "requests.KIND=NUMBER", the `i`-th. */
static bool kind_of_request(const char *status, unsigned i, char *kind, size_t cap, long long *n)
{
	static const char name[] = "requests.";

	for (const char *line = status; *line; line += strcspn(line, "\n")) {
		line += *line == '\n';
		if (strncmp(line, name, sizeof(name) - 1) != 0 || i--)
			continue;
		const char *value = line + sizeof(name) - 1;
		size_t len = strcspn(value, "=\n");

		snprintf(kind, cap, "%.*s", (int)len, value);
		*n = value[len] == '=' ? atoll(value + len + 1) : 0;
		return true;
	}
	return false;
}

static void print_failed(const char *status)
{
	struct failed_upload f;
	struct uploads u;
	unsigned i;
	char n[32];

	uploads_read(status, &u);
	for (i = 0; uploads_failed(status, i, &f); i++)
		printf("%s%s%s: %s\n", f.ns, *f.ns ? ": " : "", f.key, f.reason);
	if (u.failed > i)
		printf("and %s more\n", uploads_number(u.failed - i, n));
}

static void print_text(const char *status)
{
	char value[VALUE_MAX], when[32];
	struct failed_upload f;
	long long n;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (!status_value(status, fields[i].name, 0, value, sizeof(value)))
			continue;
		printf("%-24s %s\n", fields[i].label,
			fields[i].number == 2 ? uploads_time(atoll(value), when) : value);
	}
	for (unsigned i = 0; kind_of_request(status, i, value, sizeof(value), &n); i++)
		printf("%-24s %s: %lld\n", i ? "" : "requests by kind", value, n);
	for (unsigned i = 0; status_value(status, "namespace", i, value, sizeof(value)); i++)
		printf("%-24s %s\n", i ? "" : "namespaces", value);
	for (unsigned i = 0; status_value(status, "not_shown", i, value, sizeof(value)); i++)
		printf("%-24s %s\n", i ? "" : "not shown", value);
	if (status_value(status, "error", 0, value, sizeof(value)))
		printf("%-24s %s (changes wait; it is tried again)\n", "cannot store", value);
	if (uploads_failed(status, 0, &f))
		puts("failed uploads:");
	print_failed(status);
}

/* A name that is no UTF-8 cannot stand in JSON as it is: each of its bytes becomes the character of
 * that number. */
static json_t *json_name(const char *name)
{
	json_t *string = json_string(name);
	char wide[2 * VALUE_MAX];
	size_t n = 0;

	if (string)
		return string;
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		if (*p >= 0x80)
			wide[n++] = (char)(0xc0 | *p >> 6);
		wide[n++] = (char)(*p >= 0x80 ? 0x80 | (*p & 0x3f) : *p);
	}
	return json_stringn(wide, n);
}

/* Every value of a name. */
static json_t *json_list(const char *status, const char *name)
{
	json_t *list = json_array();
	char value[VALUE_MAX];

	for (unsigned i = 0; status_value(status, name, i, value, sizeof(value)); i++) {
		if (json_array_append_new(list, json_name(value))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *json_failed(const char *status)
{
	json_t *list = json_array();
	struct failed_upload f;

	for (unsigned i = 0; uploads_failed(status, i, &f); i++) {
		json_t *one = json_object();
		int rc = json_object_set_new(one, "key", json_name(f.key));

		rc |= json_object_set_new(one, "reason", json_name(f.reason));
		if (*f.ns)
			rc |= json_object_set_new(one, "namespace", json_name(f.ns));
		if (json_array_append_new(list, one) || rc) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* What only remote stores have. */
static int add_remote(json_t *all, const char *status)
{
	json_t *kinds = json_object();
	char kind[VALUE_MAX];
	long long n;
	int rc = 0;

	for (unsigned i = 0; kind_of_request(status, i, kind, sizeof(kind), &n); i++)
		rc |= json_object_set_new(kinds, kind, json_integer(n));
	rc |= json_object_set_new(all, "requests_by_kind", kinds);
	return rc | json_object_set_new(all, "failed", json_failed(status));
}

static int print_json(const char *status)
{
	json_t *all = json_object();
	char value[VALUE_MAX];
	struct uploads u;
	int rc = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (status_value(status, fields[i].name, 0, value, sizeof(value)))
			rc |= json_object_set_new(all, fields[i].name,
				fields[i].number ? json_integer(atoll(value)) : json_name(value));
	}
	rc |= json_object_set_new(all, "namespaces", json_list(status, "namespace"));
	rc |= json_object_set_new(all, "not_shown", json_list(status, "not_shown"));
	rc |= json_object_set_new(all, "error",
		status_value(status, "error", 0, value, sizeof(value)) ? json_string(value)
								       : json_null());
	uploads_read(status, &u);
	if (u.remote)
		rc |= add_remote(all, status);
	if (!rc)
		rc = json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
	return rc;
}

static int print_json_failed(const char *status)
{
	json_t *list = json_failed(status);
	int rc = list ? json_dumpf(list, stdout, JSON_INDENT(2)) : -1;

	putchar('\n');
	json_decref(list);
	return rc;
}

int cmd_status(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
		{"json", no_argument, NULL, 'j'}, {"failed", no_argument, NULL, 'f'}, {0}};
	bool json = false, failed = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "hj", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(USAGE, NULL);
		if (c != 'j' && c != 'f')
			return cli_usage(USAGE, "%s: unknown option", argv[optind - 1]);
		json = json || c == 'j';
		failed = failed || c == 'f';
	}
	if (argc - optind != 1)
		return cli_usage(
			USAGE, argc == optind ? "an argument is missing" : "too many arguments");

	const char *path = argv[optind];
	char *resolved = mountpoint_resolve(path);
	if (!resolved)
		return cli_fail("status", path, "%s", strerror(errno));
	bool is = mountpoint_is_kvfs(resolved), stale = is && mountpoint_is_stale(resolved);
	char *status = is && !stale ? mountpoint_status(resolved) : NULL;
	int error = errno;
	free(resolved);
	if (!is)
		return cli_fail("status", path, "no kvfs is mounted there");
	if (stale)
		return cli_fail("status", path,
			"its daemon is no more: kvfs umount clears it, kvfs mount "
			"mounts anew");
	if (!status)
		return cli_fail("status", path, "%s",
			error == EACCES ? "it is another user's mount" : strerror(error));
	int rc = 0;
	if (json)
		rc = failed ? print_json_failed(status) : print_json(status);
	else if (failed)
		print_failed(status);
	else
		print_text(status);
	free(status);
	return rc ? cli_fail("status", path, "could not be written") : 0;
}
