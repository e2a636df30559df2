/*
 * names.c - kvfs path and kvfs key: either side of the mapping.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "fs/cli/cli.h"
#include "fs/core/names.h"

static const char PATH_USAGE[] = "usage: kvfs path [-s SEPARATOR] KEY...\n"
				 "Prints the path of each key, as it is below its namespace in a "
				 "mount with this separator (/).\n";
static const char KEY_USAGE[] =
	"usage: kvfs key [-s SEPARATOR] PATH...\n"
	"Prints the key of each path below its namespace in a mount with this separator (/).\n";

/* Parses -s. -1: go on; else an exit status. */
static int parse(int argc, char **argv, const char *usage, char *sep)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'}, {"separator", required_argument, NULL, 's'}, {0}};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(usage, NULL);
		if (c != 's')
			return cli_usage(usage, "%s: unknown option, or without its argument",
				argv[optind - 1]);
		if (strlen(optarg) != 1 || !names_sep_valid(optarg[0]))
			return cli_usage(usage,
				"%s: a separator is one ASCII punctuation character, "
				"not '%%', '+' or '.'",
				optarg);
		*sep = optarg[0];
	}
	return optind == argc ? cli_usage(usage, "an argument is missing") : -1;
}

static const char *why(int rc)
{
	if (rc == -ENAMETOOLONG)
		return "a key has at most 512 bytes, a name 255";
	return "no key has this name: it is empty, or the rules would write it differently";
}

int cmd_path(int argc, char **argv)
{
	char path[NAMES_PATH_MAX], sep = '/';
	int status = parse(argc, argv, PATH_USAGE, &sep);

	if (status >= 0)
		return status;
	status = 0;
	for (int i = optind; i < argc; i++) {
		int rc = names_path(sep, argv[i], strlen(argv[i]), path);

		if (rc)
			status = cli_fail("path", argv[i], "%s",
				*argv[i] ? why(rc) : "a key has at least one byte");
		else
			puts(path);
	}
	return status;
}

int cmd_key(int argc, char **argv)
{
	unsigned char key[NAMES_KEY_MAX];
	char sep = '/';
	size_t len;
	int status = parse(argc, argv, KEY_USAGE, &sep);

	if (status >= 0)
		return status;
	status = 0;
	for (int i = optind; i < argc; i++) {
		int rc = names_key(sep, argv[i], strlen(argv[i]), key, &len);

		if (rc) {
			status = cli_fail("key", argv[i], "%s", why(rc));
		} else {
			fwrite(key, 1, len, stdout);
			putchar('\n');
		}
	}
	return status;
}
