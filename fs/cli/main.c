#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "fs/cli/cli.h"

static const char USAGE[] = "usage: kvfs mount [-f] [-r] [-o OPTIONS] SOURCE MOUNTPOINT\n"
			    "       kvfs umount [--timeout SECONDS] MOUNTPOINT\n"
			    "       kvfs status [--json] [--failed] MOUNTPOINT\n"
			    "       kvfs sync [--timeout SECONDS] MOUNTPOINT\n"
			    "       kvfs refresh MOUNTPOINT [PATH]\n"
			    "       kvfs retry MOUNTPOINT [PATH]\n"
			    "       kvfs drop [--yes] MOUNTPOINT [PATH]\n"
			    "       kvfs path [-s SEPARATOR] KEY...\n"
			    "       kvfs key [-s SEPARATOR] PATH...\n"
			    "       kvfs --help | --version\n"
			    "`kvfs COMMAND --help` tells more; so does kvfs(1).\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"mount", cmd_mount},
	{"umount", cmd_umount},
	{"status", cmd_status},
	{"sync", cmd_sync},
	{"refresh", cmd_refresh},
	{"retry", cmd_retry},
	{"drop", cmd_drop},
	{"path", cmd_path},
	{"key", cmd_key},
};

int cli_fail(const char *command, const char *what, const char *why, ...)
{
	va_list ap;

	fprintf(stderr, "kvfs: %s: %s: ", command, *what ? what : "\"\"");
	va_start(ap, why);
	vfprintf(stderr, why, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

int cli_usage(const char *usage, const char *wrong, ...)
{
	va_list ap;

	if (!wrong) {
		fputs(usage, stdout);
		return 0;
	}
	fputs("kvfs: ", stderr);
	va_start(ap, wrong);
	vfprintf(stderr, wrong, ap);
	va_end(ap);
	fprintf(stderr, "\n%s", usage);
	return EXIT_USAGE;
}

int cli_no_options(int argc, char **argv, const char *usage, int operands)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return cli_usage(usage, NULL);
		return cli_usage(usage, "%s: unknown option", argv[optind - 1]);
	}
	if (argc - optind != operands)
		return cli_usage(usage,
			argc - optind < operands ? "an argument is missing" : "too many arguments");
	return -1;
}

/* mount(8) and fstab call `kvfs SOURCE MOUNTPOINT -o OPTIONS`. */
static int is_mount_helper_call(int argc, char **argv)
{
	return argc >= 3 && argv[1][0] != '-' && argv[2][0] != '-';
}

static int run(int argc, char **argv)
{
	if (argc < 2)
		return cli_usage(USAGE, "a command is missing");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return cli_usage(USAGE, NULL);
	if (strcmp(argv[1], "--version") == 0) {
		puts("kvfs " KVFS_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	if (is_mount_helper_call(argc, argv))
		return cmd_mount(argc, argv);
	return cli_usage(USAGE, "%s: unknown command", argv[1]);
}

int main(int argc, char **argv)
{
	int status = run(argc, argv);

	/* What was to be printed and could not is a failure too. */
	if ((fflush(stdout) || ferror(stdout)) && status == 0)
		status = cli_fail(
			argc > 1 ? argv[1] : "kvfs", "standard output", "%s", strerror(errno));
	return status;
}
