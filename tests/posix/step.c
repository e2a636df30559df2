#include "tests/posix/step.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Who can be put before a step. Groups 3001 and 3002 are nobody's own. */
static const struct user {
	const char *name;
	uid_t uid;
	gid_t gid;
	size_t n;
	gid_t groups[2];
} users[] = {
	{"u1", 1001, 1001, 1, {3001}},
	{"u2", 1002, 1002, 1, {3001}},
	{"u3", 1003, 1003, 2, {3001, 3002}},
	{"u4", 1004, 1001, 0, {0}}, /* the group of u1 */
	{"u5", 1005, 1005, 0, {0}},
};

/* --- arguments ------------------------------------------------------------------------------ */

int fd_of(struct run *run, const char *word)
{
	word += *word == '@';
	if (!isdigit((unsigned char)*word))
		errx(2, "%s: not an open file", word);
	return run->fds[*word - '0'];
}

void fd_keep(struct run *run, const char *word, int fd)
{
	if (fd_of(run, word) >= 0)
		close(fd_of(run, word));
	run->fds[*word - '0'] = fd;
}

struct at at_of(struct run *run, const char *word)
{
	if (strcmp(word, "%empty%") == 0)
		return (struct at){AT_FDCWD, "", false};
	if (strcmp(word, "%null%") == 0)
		return (struct at){AT_FDCWD, NULL, false};
	if (*word != '@' || !isdigit((unsigned char)word[1]))
		return (struct at){AT_FDCWD, word, false};
	if (!word[2])
		return (struct at){fd_of(run, word), "", true};
	return (struct at){fd_of(run, word), word + 3, false};
}

long number(const char *word, long otherwise)
{
	char *end;
	long n = word ? strtol(word, &end, 0) : otherwise;

	if (word && *end)
		errx(2, "%s: not a number", word);
	return n;
}

mode_t mode_of(const char *word, mode_t otherwise)
{
	return word ? (mode_t)strtoul(word, NULL, 8) : otherwise;
}

long symbols(const struct symbol *table, const char *word)
{
	long value = 0;

	while (word && *word && strcmp(word, "0") != 0) {
		size_t len = strcspn(word, "|");
		const struct symbol *s = table;

		while (s->name && (strlen(s->name) != len || memcmp(s->name, word, len) != 0))
			s++;
		if (!s->name)
			errx(2, "%s: unknown", word);
		value |= s->value;
		word += len + (word[len] == '|');
	}
	return value;
}

void say_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t hash = 14695981039346656037U;
	bool plain = len <= 80;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ p[i]) * 1099511628211U;
		plain = plain && (isprint(p[i]) || !p[i]);
	}
	if (!plain) {
		printf(" [%zu bytes, hash %016llx]", len, (unsigned long long)hash);
		return;
	}
	printf(" [");
	for (size_t i = 0; i < len; i++)
		fputs(p[i] ? (char[2]){(char)p[i]} : "\\0", stdout);
	printf("]");
}

/* --- a step --------------------------------------------------------------------------------- */

static const struct step_op *find_op(const char *name)
{
	static const struct step_op *const tables[] = {
		ops_names, ops_attributes, ops_files, ops_folders, ops_locks};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct step_op *op = tables[i]; op->name; op++) {
			if (strcmp(op->name, name) == 0)
				return op;
		}
	}
	errx(2, "%s: no such operation", name);
}

static const struct user *find_user(const char *name)
{
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		if (strcmp(users[i].name, name) == 0)
			return &users[i];
	}
	return NULL;
}

bool step_needs_root(const char *step)
{
	char name[3] = {step[0], step[0] ? step[1] : '\0', '\0'};

	return find_user(name) && step[2] == ' ';
}

/* The saved user stays root's, for the way back. */
static void become(uid_t uid, gid_t gid, const gid_t *groups, size_t n)
{
	if (uid == 0 && setresuid(0, 0, 0))
		err(2, "setresuid");
	if (setgroups(n, groups) || setresgid(gid, gid, 0) || setresuid(uid, uid, 0))
		err(2, "becoming another user");
}

static void say_result(long rc, int error)
{
	if (rc < 0)
		printf(" -> %s\n", strerrorname_np(error));
	else
		printf(" -> %ld\n", rc);
}

static long call(struct run *run, const struct step_op *op, char **words, size_t n)
{
	if (n - 1 < op->least || n - 1 > op->most)
		errx(2, "%s: %zu arguments", words[0], n - 1);
	errno = 0;
	printf("  =");
	long rc = op->fn(run, words + 1);
	int error = errno;
	say_result(rc, error);
	fflush(stdout);
	return rc;
}

/* In a process of its own, which shares the open files. */
static long call_in_other(struct run *run, const struct step_op *op, char **words, size_t n)
{
	int status;

	fflush(stdout);
	pid_t pid = fork();

	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		alarm(10);
		call(run, op, words, n);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(2, "%s: the other process failed", words[0]);
	return 0;
}

bool step_run(struct run *run, char **words, size_t n)
{
	const struct user *user = find_user(words[0]);
	char *padded[SCRIPT_WORDS + 1] = {0};
	size_t skip = user != NULL;
	bool other = skip < n && strcmp(words[skip], "other") == 0;

	skip += other;
	for (size_t i = skip; i < n; i++)
		padded[i - skip] = words[i];
	const struct step_op *op = find_op(padded[0]);
	if (user)
		become(user->uid, user->gid, user->groups, user->n);
	long rc = (other ? call_in_other : call)(run, op, padded, n - skip);
	if (user)
		become(0, 0, NULL, 0);
	return op->names && rc >= 0;
}
