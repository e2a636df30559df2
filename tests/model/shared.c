#include "tests/model/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BALLS = 8, PLACES = 16, CLAIMS = 200, CURRENT_SIZE = 5000 };
enum { NOREPLACE = 1, EXCHANGE = 2 };

static const char *path_of(const char *root, const char *name, int number, char buf[PATH_MAX])
{
	if (number < 0)
		snprintf(buf, PATH_MAX, "%s/shared/%s", root, name);
	else
		snprintf(buf, PATH_MAX, "%s/shared/%s.%d", root, name, number);
	return buf;
}

static bool write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool good = fd >= 0 && write(fd, data, len) == (ssize_t)len;

	return (fd < 0 || close(fd) == 0) && good;
}

bool shared_prepare(const char *root)
{
	char buf[PATH_MAX], text[CURRENT_SIZE];

	snprintf(buf, sizeof(buf), "%s/shared", root);
	if (mkdir(buf, 0755))
		return false;
	memset(text, 'z', sizeof(text));
	if (!write_file(path_of(root, "current", -1, buf), text, sizeof(text)))
		return false;
	for (int i = 0; i < BALLS; i++) {
		text[0] = (char)('0' + i);
		if (!write_file(path_of(root, "ball", i, buf), text, 1))
			return false;
	}
	return true;
}

static const char *append(const char *root, int worker, struct shared_counts *counts)
{
	char buf[PATH_MAX], line[64];
	int fd = open(
		path_of(root, "log", -1, buf), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	int n = sprintf(line, "%d %u\n", worker, counts->appends[worker]);

	if (fd < 0)
		return "the log cannot be opened";
	bool good = write(fd, line, (size_t)n) == n;
	if (close(fd) || !good)
		return "the log cannot be appended to";
	counts->appends[worker]++;
	return NULL;
}

/* Who reads it sees what one worker wrote, all of it. */
static const char *replace(const char *root, int worker, struct rng *rng)
{
	char mine[PATH_MAX], buf[PATH_MAX], text[CURRENT_SIZE + 1];

	memset(text, 'a' + (int)rng_below(rng, 26), CURRENT_SIZE);
	if (!write_file(path_of(root, "new", worker, mine), text, CURRENT_SIZE) ||
		rename(mine, path_of(root, "current", -1, buf)))
		return "the current file cannot be replaced";
	int fd = open(buf, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (fd >= 0)
		close(fd);
	if (n != CURRENT_SIZE)
		return "the current file is not whole";
	for (int i = 1; i < CURRENT_SIZE; i++) {
		if (text[i] != text[0])
			return "the current file is a mixture";
	}
	return NULL;
}

static const char *claim(
	const char *root, int worker, struct rng *rng, struct shared_counts *counts)
{
	char buf[PATH_MAX];
	int fd = open(path_of(root, "claim", (int)rng_below(rng, CLAIMS), buf),
		O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? NULL : "a claim fails";
	counts->claims[worker]++;
	return close(fd) ? "a claim cannot be closed" : NULL;
}

static const char *move_ball(const char *root, struct rng *rng)
{
	char from[PATH_MAX], to[PATH_MAX];
	unsigned flags = rng_chance(rng, 700) ? NOREPLACE : EXCHANGE;

	path_of(root, "ball", (int)rng_below(rng, PLACES), from);
	path_of(root, "ball", (int)rng_below(rng, PLACES), to);
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) && errno != ENOENT && errno != EEXIST)
		return "a ball cannot be moved";
	return NULL;
}

const char *shared_act(const char *root, int worker, struct rng *rng, struct shared_counts *counts)
{
	switch (rng_below(rng, 4)) {
	case 0:
		return append(root, worker, counts);
	case 1:
		return replace(root, worker, rng);
	case 2:
		return claim(root, worker, rng, counts);
	default:
		return move_ball(root, rng);
	}
}

static const char *check_log(const char *root, int workers, const struct shared_counts *counts)
{
	unsigned next[STEP_WORKERS_MAX] = {0}, number;
	char buf[PATH_MAX], line[64];
	FILE *log = fopen(path_of(root, "log", -1, buf), "r");
	const char *wrong = NULL;
	int worker;

	while (log && !wrong && fgets(line, sizeof(line), log)) {
		if (sscanf(line, "%d %u\n", &worker, &number) != 2 || worker < 0 ||
			worker >= workers || number != next[worker]++)
			wrong = "the log has a line that nobody wrote there";
	}
	for (int i = 0; i < workers; i++) {
		if (!wrong && next[i] != counts->appends[i])
			wrong = "the log has lost lines";
	}
	if (log)
		fclose(log);
	return wrong;
}

static const char *check_balls(const char *root)
{
	bool seen[BALLS] = {false};
	int found = 0;

	for (int i = 0; i < PLACES; i++) {
		char buf[PATH_MAX], c = 0;
		int fd = open(path_of(root, "ball", i, buf), O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (read(fd, &c, 1) == 1 && c >= '0' && c < '0' + BALLS && !seen[c - '0']) {
			seen[c - '0'] = true;
			found++;
		}
		close(fd);
	}
	return found == BALLS ? NULL : "balls were lost or doubled";
}

const char *shared_check(const char *root, int workers, const struct shared_counts *counts)
{
	unsigned claimed = 0, there = 0;
	const char *wrong = check_log(root, workers, counts);

	for (int i = 0; i < workers; i++)
		claimed += counts->claims[i];
	for (int i = 0; i < CLAIMS; i++) {
		char buf[PATH_MAX];

		there += access(path_of(root, "claim", i, buf), F_OK) == 0;
	}
	if (!wrong && claimed != there)
		wrong = "a claim has two winners or none";
	return wrong ? wrong : check_balls(root);
}
