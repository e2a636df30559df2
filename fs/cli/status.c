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

static const char USAGE[] = "usage: kvfs status [--json] MOUNTPOINT\n"
			    "Tells what is mounted there and how much of it is not stored yet.\n";

enum { VALUE_MAX = 4096 };

static const struct {
	const char *name, *label;
	int number;
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
};

static void print_text(const char *status)
{
	char value[VALUE_MAX];

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (status_value(status, fields[i].name, 0, value, sizeof(value)))
			printf("%-24s %s\n", fields[i].label, value);
	}
	for (unsigned i = 0; status_value(status, "namespace", i, value, sizeof(value)); i++)
		printf("%-24s %s\n", i ? "" : "namespaces", value);
	for (unsigned i = 0; status_value(status, "not_shown", i, value, sizeof(value)); i++)
		printf("%-24s %s\n", i ? "" : "not shown", value);
	if (status_value(status, "error", 0, value, sizeof(value)))
		printf("%-24s %s (changes wait; it is tried again)\n", "cannot store", value);
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

static int print_json(const char *status)
{
	json_t *all = json_object();
	char value[VALUE_MAX];
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
	if (!rc)
		rc = json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
	return rc;
}

int cmd_status(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'}, {"json", no_argument, NULL, 'j'}, {0}};
	int c, json = 0;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "hj", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(USAGE, NULL);
		if (c != 'j')
			return cli_usage(USAGE, "%s: unknown option", argv[optind - 1]);
		json = 1;
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
		rc = print_json(status);
	else
		print_text(status);
	free(status);
	return rc ? cli_fail("status", path, "could not be written") : 0;
}
