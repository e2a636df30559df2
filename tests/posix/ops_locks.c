/*
 * ops_locks.c - steps that lock. None of them waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/posix/step.h"

static const struct symbol lock_types[] = {
	{"RD", F_RDLCK}, {"WR", F_WRLCK}, {"UN", F_UNLCK}, {"BAD", 77}, {0}};

static struct flock lock_of(char **arg)
{
	return (struct flock){.l_type = (short)symbols(lock_types, arg[1]),
		.l_whence = SEEK_SET,
		.l_start = number(arg[2], 0),
		.l_len = number(arg[2] ? arg[3] : NULL, 0)};
}

/* lock N RD|WR|UN [START [LENGTH]]: the process's own. */
static long op_lock(struct run *run, char **arg)
{
	struct flock l = lock_of(arg);

	return fcntl(fd_of(run, arg[0]), F_SETLK, &l);
}

/* ofdlock: the open file's own. */
static long op_ofdlock(struct run *run, char **arg)
{
	struct flock l = lock_of(arg);

	return fcntl(fd_of(run, arg[0]), F_OFD_SETLK, &l);
}

/* getlock N RD|WR [START [LENGTH]]: who would be in the way. */
static long op_getlock(struct run *run, char **arg)
{
	struct flock l = lock_of(arg);
	int rc = fcntl(fd_of(run, arg[0]), F_GETLK, &l);

	if (!rc && l.l_type != F_UNLCK)
		printf(" %s %ld+%ld %s", l.l_type == F_RDLCK ? "RD" : "WR", (long)l.l_start,
			(long)l.l_len,
			l.l_pid == getppid()    ? "parent's"
				: l.l_pid == -1 ? "an open file's"
						: "?");
	return rc;
}

static long op_flock(struct run *run, char **arg)
{
	static const struct symbol how[] = {{"SH", LOCK_SH}, {"EX", LOCK_EX}, {"UN", LOCK_UN}, {0}};

	errno = 0;
	return flock(fd_of(run, arg[0]), (int)symbols(how, arg[1]) | LOCK_NB);
}

const struct step_op ops_locks[] = {
	{"lock", 2, 4, op_lock, false},
	{"ofdlock", 2, 4, op_ofdlock, false},
	{"getlock", 2, 4, op_getlock, false},
	{"flock", 2, 2, op_flock, false},
	{0},
};
