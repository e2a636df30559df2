/*
 * cli.h - the commands. Each takes its own arguments (argv[0] is the command's name) and returns
 * the exit status: 0, EXIT_FAILED (one line "kvfs: COMMAND: what: why" on standard error) or
 * EXIT_USAGE.
 */
#ifndef KVFS_CLI_H
#define KVFS_CLI_H

#include <stdarg.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_sync(int argc, char **argv);
int cmd_refresh(int argc, char **argv);
int cmd_retry(int argc, char **argv);
int cmd_drop(int argc, char **argv);
int cmd_path(int argc, char **argv);
int cmd_key(int argc, char **argv);

/* Prints "kvfs: COMMAND: what: why"; EXIT_FAILED. */
int cli_fail(const char *command, const char *what, const char *why, ...)
	__attribute__((format(printf, 3, 4)));

/* Prints what is wrong (NULL: nothing, the user asked) and the command's usage, to standard error
 * (output); EXIT_USAGE (0). */
int cli_usage(const char *usage, const char *wrong, ...) __attribute__((format(printf, 2, 3)));

/* Whether the arguments of a command without options ask for its help; parses options of none.
 * Returns -1 to go on with argv[optind ...], or an exit status. */
int cli_no_options(int argc, char **argv, const char *usage, int operands);

/* The mount point of an argument, resolved and malloc'd: a kvfs is mounted there, and alive. NULL:
 * it was said why not. */
char *cli_mountpoint(const char *command, const char *path);

#endif
