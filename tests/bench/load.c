/*
 * load - the benchmark's hot loops, so that what is measured is the filesystem and not its client.
 *
 *   load create ROOT DIRS FILES SIZE [fsync|syncfs PATH]   ROOT/d000/f000 ...; then made durable
 *   load read ROOT DIRS FILES SIZE                         opens, reads and closes each
 *   load rewrite ROOT DIRS FILES SIZE COUNT                the first COUNT, truncated and rewritten
 *   load rename ROOT DIRS FILES COUNT                      the first COUNT, within their directory
 *   load setxattr ROOT DIRS FILES COUNT NAME VALUE
 *   load delete ROOT DIRS                                  lists, unlinks, removes the directories
 *   load list DIR TIMES                                    names only
 *   load write FILE MIB | load slurp FILE MIB              in pieces of 1 MiB
 *   load fsync ROOT WRITERS COUNT SIZE                     COUNT in all: create, write, fsync, close
 *   load parallel ROOT PROCESSES COUNT SIZE                COUNT in all: create, then read back
 *
 * Prints the seconds that it took (for one of TIMES listings), without the start of the process, and
 * how many things were touched. Everything is checked: an error, or a wrong size, is exit status 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { PATH_CAP = 4096, MIB = 1 << 20, LIST_BUFFER = 1 << 16 };

static char data[MIB];

__attribute__((noreturn)) static void fail(const char *what, const char *path)
{
	fprintf(stderr, "load: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static void check(bool good, const char *what, const char *path)
{
	if (!good)
		fail(what, path);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static size_t number(const char *text)
{
	return (size_t)strtoull(text, NULL, 10);
}

static void print(double seconds, size_t things)
{
	printf("%.9f %zu\n", seconds, things);
}

/* --- one file -----------------------------------------------------------------------------------
 */

static void put(const char *path, int flags, size_t size, bool durable)
{
	int fd = open(path, O_WRONLY | flags, 0644);

	check(fd >= 0, "open", path);
	check(write(fd, data, size) == (ssize_t)size, "write", path);
	check(!durable || fsync(fd) == 0, "fsync", path);
	check(close(fd) == 0, "close", path);
}

static void get(const char *path, size_t size)
{
	char buf[1 << 16];
	int fd = open(path, O_RDONLY);
	size_t total = 0;
	ssize_t n;

	check(fd >= 0, "open", path);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		total += (size_t)n;
	errno = n < 0 ? errno : EIO;
	check(n == 0 && total == size, "read", path);
	close(fd);
}

/* --- a tree -------------------------------------------------------------------------------------
 */

struct tree {
	const char *root;
	size_t dirs, files; /* files in all, spread evenly */
};

static struct tree tree_of(char **argv)
{
	return (struct tree){argv[0], number(argv[1]), number(argv[2])};
}

static void tree_dir(const struct tree *t, size_t dir, char path[PATH_CAP])
{
	snprintf(path, PATH_CAP, "%s/d%03zu", t->root, dir);
}

static void tree_file(const struct tree *t, size_t i, char letter, char path[PATH_CAP])
{
	size_t each = t->files / t->dirs;

	snprintf(path, PATH_CAP, "%s/d%03zu/%c%05zu", t->root, i / each, letter, i % each);
}

static void make_durable(const char *how, const char *path)
{
	int fd = open(path, O_RDONLY);

	check(fd >= 0, "open", path);
	check((*how == 'f' ? fsync(fd) : syncfs(fd)) == 0, how, path);
	close(fd);
}

static void create(int argc, char **argv)
{
	struct tree t = tree_of(argv);
	size_t size = number(argv[3]);
	char path[PATH_CAP];
	double began = now();

	for (size_t d = 0; d < t.dirs; d++) {
		tree_dir(&t, d, path);
		check(mkdir(path, 0755) == 0, "mkdir", path);
	}
	for (size_t i = 0; i < t.files; i++) {
		tree_file(&t, i, 'f', path);
		put(path, O_CREAT | O_EXCL, size, false);
	}
	if (argc > 5)
		make_durable(argv[4], argv[5]);
	print(now() - began, t.files);
}

static void read_all(char **argv)
{
	struct tree t = tree_of(argv);
	size_t size = number(argv[3]);
	char path[PATH_CAP];
	double began = now();

	for (size_t i = 0; i < t.files; i++) {
		tree_file(&t, i, 'f', path);
		get(path, size);
	}
	print(now() - began, t.files);
}

static void rewrite(char **argv)
{
	struct tree t = tree_of(argv);
	size_t size = number(argv[3]), count = number(argv[4]);
	char path[PATH_CAP];
	double began = now();

	for (size_t i = 0; i < count; i++) {
		tree_file(&t, i, 'f', path);
		put(path, O_TRUNC, size, false);
	}
	print(now() - began, count);
}

static void rename_some(char **argv)
{
	struct tree t = tree_of(argv);
	size_t count = number(argv[3]);
	char from[PATH_CAP], to[PATH_CAP];
	double began = now();

	for (size_t i = 0; i < count; i++) {
		tree_file(&t, i, 'f', from);
		tree_file(&t, i, 'g', to);
		check(rename(from, to) == 0, "rename", from);
	}
	print(now() - began, count);
}

static void setxattr_some(char **argv)
{
	struct tree t = tree_of(argv);
	size_t count = number(argv[3]);
	const char *name = argv[4], *value = argv[5];
	char path[PATH_CAP];
	double began = now();

	for (size_t i = 0; i < count; i++) {
		tree_file(&t, i, 'f', path);
		check(setxattr(path, name, value, strlen(value), 0) == 0, "setxattr", path);
	}
	print(now() - began, count);
}

/* The names are read before the first is removed. */
static size_t empty_directory(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, NULL);
	size_t removed = 0;

	check(n >= 0, "list", dir);
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	check(fd >= 0, "open", dir);
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			check(unlinkat(fd, name, 0) == 0, "unlink", name);
			removed++;
		}
		free(names[i]);
	}
	free(names);
	close(fd);
	return removed;
}

static void delete_all(char **argv)
{
	struct tree t = {argv[0], number(argv[1]), 0};
	char path[PATH_CAP];
	size_t removed = 0;
	double began = now();

	for (size_t d = 0; d < t.dirs; d++) {
		tree_dir(&t, d, path);
		removed += empty_directory(path);
		check(rmdir(path) == 0, "rmdir", path);
	}
	print(now() - began, removed);
}

static size_t list_once(const char *path)
{
	static char buf[LIST_BUFFER];
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	size_t entries = 0;
	ssize_t n;

	check(fd >= 0, "open", path);
	while ((n = getdents64(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n; at += ((struct dirent64 *)(buf + at))->d_reclen)
			entries++;
	}
	check(n == 0, "list", path);
	close(fd);
	return entries - 2; /* . and .. */
}

static void list(char **argv)
{
	size_t times = number(argv[1]), entries = 0;
	double began = now();

	for (size_t i = 0; i < times; i++)
		entries = list_once(argv[0]);
	print((now() - began) / (double)times, entries);
}

/* --- a large file -------------------------------------------------------------------------------
 */

static void write_large(char **argv)
{
	size_t pieces = number(argv[1]);
	double began = now();
	int fd = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd >= 0, "open", argv[0]);
	for (size_t i = 0; i < pieces; i++)
		check(write(fd, data, MIB) == MIB, "write", argv[0]);
	check(close(fd) == 0, "close", argv[0]);
	print(now() - began, pieces);
}

static void read_large(char **argv)
{
	size_t pieces = number(argv[1]), total = 0;
	double began = now();
	int fd = open(argv[0], O_RDONLY);
	ssize_t n;

	check(fd >= 0, "open", argv[0]);
	while ((n = read(fd, data, MIB)) > 0)
		total += (size_t)n;
	errno = n < 0 ? errno : EIO;
	check(n == 0 && total == pieces * MIB, "read", argv[0]);
	close(fd);
	print(now() - began, pieces);
}

/* --- many processes -----------------------------------------------------------------------------
 */

typedef void (*work_fn)(const char *root, size_t who, size_t count, size_t size);

static void own_file(const char *root, size_t who, size_t i, char path[PATH_CAP])
{
	snprintf(path, PATH_CAP, "%s/p%02zu/f%05zu", root, who, i);
}

static void fsync_work(const char *root, size_t who, size_t count, size_t size)
{
	char path[PATH_CAP];

	for (size_t i = 0; i < count; i++) {
		own_file(root, who, i, path);
		put(path, O_CREAT | O_EXCL, size, true);
	}
}

static void parallel_work(const char *root, size_t who, size_t count, size_t size)
{
	char path[PATH_CAP];

	for (size_t i = 0; i < count; i++) {
		own_file(root, who, i, path);
		put(path, O_CREAT | O_EXCL, size, false);
	}
	for (size_t i = 0; i < count; i++) {
		own_file(root, who, i, path);
		get(path, size);
	}
}

/* Starts a process that works when the pipe `start` is closed by all who hold its other end. */
static pid_t spawn(work_fn work, int start[2], char **argv, size_t who, size_t count)
{
	char byte;
	pid_t pid = fork();

	check(pid >= 0, "fork", "");
	if (pid)
		return pid;
	close(start[1]);
	check(read(start[0], &byte, 1) == 0, "wait", "pipe");
	work(argv[0], who, count, number(argv[3]));
	exit(0);
}

static void many(work_fn work, char **argv)
{
	size_t processes = number(argv[1]), each = number(argv[2]) / processes;
	char path[PATH_CAP];
	int start[2], status;
	bool good = true;

	check(pipe(start) == 0, "pipe", "");
	for (size_t p = 0; p < processes; p++) {
		snprintf(path, PATH_CAP, "%s/p%02zu", argv[0], p);
		check(mkdir(path, 0755) == 0, "mkdir", path);
		spawn(work, start, argv, p, each);
	}
	double began = now();
	close(start[1]);
	for (size_t p = 0; p < processes; p++)
		good &= wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (!good)
		exit(1);
	print(now() - began, each * processes);
}

static int run(const char *what, int argc, char **argv)
{
	if (strcmp(what, "create") == 0 && (argc == 4 || argc == 6))
		create(argc, argv);
	else if (strcmp(what, "read") == 0 && argc == 4)
		read_all(argv);
	else if (strcmp(what, "rewrite") == 0 && argc == 5)
		rewrite(argv);
	else if (strcmp(what, "rename") == 0 && argc == 4)
		rename_some(argv);
	else if (strcmp(what, "setxattr") == 0 && argc == 6)
		setxattr_some(argv);
	else if (strcmp(what, "delete") == 0 && argc == 2)
		delete_all(argv);
	else if (strcmp(what, "list") == 0 && argc == 2)
		list(argv);
	else if (strcmp(what, "write") == 0 && argc == 2)
		write_large(argv);
	else if (strcmp(what, "slurp") == 0 && argc == 2)
		read_large(argv);
	else if (strcmp(what, "fsync") == 0 && argc == 4)
		many(fsync_work, argv);
	else if (strcmp(what, "parallel") == 0 && argc == 4)
		many(parallel_work, argv);
	else
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	memset(data, 'x', sizeof(data));
	if (argc < 2 || run(argv[1], argc - 2, argv + 2)) {
		fputs("usage: load WHAT ARGUMENT... (see the head of load.c)\n", stderr);
		return 2;
	}
	return 0;
}
