#include "fs/core/opener.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 4096 };

/* The number after `name` at the beginning of a line. */
static uint64_t field(const char *text, const char *name, int base)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

/* Whether what one file of fdinfo says is the inode, open for writing. */
static bool is_it(int dir, const char *name, uint64_t ino)
{
	char text[512];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return field(text, "\nino:", 10) == ino &&
		(field(text, "flags:", 8) & O_ACCMODE) != O_RDONLY;
}

enum opener opener_look(uint32_t pid, uint64_t ino)
{
	enum opener found = OPENER_CLOSED;
	char path[32];
	unsigned n = 0;

	if (!pid)
		return OPENER_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%u/fdinfo", pid);
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? OPENER_GONE : OPENER_UNKNOWN;
	for (struct dirent *e; found == OPENER_CLOSED && (errno = 0, e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		if (n++ == FILES_MAX)
			found = OPENER_UNKNOWN;
		else if (is_it(dirfd(dir), e->d_name, ino))
			found = OPENER_HAS_IT;
	}
	/* It ended meanwhile, or is not to be looked at, as a program of another user's. */
	if (found == OPENER_CLOSED && errno)
		found = errno == ENOENT || errno == ESRCH ? OPENER_GONE : OPENER_UNKNOWN;
	closedir(dir);
	return found;
}
