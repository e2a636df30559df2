#include "backends/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static int log_fd = STDERR_FILENO; /* -1: syslog */
static bool log_debugging;

/* A file that lines may be appended to: not a pipe, which nobody may read, and not one that somebody else
 * has put there, or linked to from there, so that we write to what is his, or he reads what is ours. */
static int check_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISCHR(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	bool theirs = st.st_uid != geteuid() && st.st_uid != 0;
	return theirs || st.st_nlink > 1 ? -EPERM : 0;
}

int log_open(const char *where, bool debug)
{
	log_debugging = debug;
	if (!where || !*where) {
		log_fd = STDERR_FILENO;
	} else if (strcmp(where, "syslog") == 0) {
		openlog("kvfs", LOG_PID, LOG_DAEMON);
		log_fd = -1;
	} else {
		/* NONBLOCK: a pipe would keep us until somebody reads it. */
		int fd = open(where,
			O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
				O_NOCTTY,
			0600);
		int rc = fd < 0 ? -errno : check_file(fd);

		if (rc) {
			if (fd >= 0)
				close(fd);
			return rc;
		}
		log_fd = fd;
	}
	return 0;
}

static int syslog_priority(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return LOG_ERR;
	case LOG_LEVEL_WARNING:
		return LOG_WARNING;
	case LOG_LEVEL_INFO:
		return LOG_INFO;
	default:
		return LOG_DEBUG;
	}
}

/* Writes text so that it is one line and nothing but text, whatever names or messages of others are in
 * it. A cut one ends with "...". The length. */
static size_t escape(const char *text, char *to, size_t cap)
{
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool plain = *p >= 0x20 && *p != 0x7f;

		if (n + (plain ? 1 : 4) + 3 > cap) {
			memcpy(to + n, "...", 3);
			return n + 3;
		}
		if (plain) {
			to[n++] = (char)*p;
		} else {
			static const char digits[] = "0123456789abcdef";

			memcpy(to + n, "\\x", 2);
			to[n + 2] = digits[*p >> 4];
			to[n + 3] = digits[*p & 15];
			n += 4;
		}
	}
	return n;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
	int saved = errno;
	size_t n = 0;
	va_list ap;

	if (level == LOG_LEVEL_DEBUG && !log_debugging)
		return;
	if (log_fd >= 0 && log_fd != STDERR_FILENO) {
		time_t now = time(NULL);
		struct tm tm;

		n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S%z ", localtime_r(&now, &tm));
	}
	if (log_fd >= 0)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "kvfs: ");
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	n += escape(text, line + n, sizeof(line) - n - 1);
	if (log_fd < 0) {
		line[n] = '\0';
		syslog(syslog_priority(level), "%s", line);
	} else {
		line[n++] = '\n';
		/* One write per line keeps lines of several threads whole; there is nobody to tell
		 * that it failed. */
		ssize_t ignored = write(log_fd, line, n);
		(void)ignored;
	}
	errno = saved;
}

const char *log_bytes(const void *bytes, unsigned long len, char *buf, unsigned long cap)
{
	const unsigned char *p = bytes;
	unsigned long n = 0;

	for (unsigned long i = 0; i < len; i++) {
		bool plain = p[i] >= 0x20 && p[i] != 0x7f && p[i] != '\\';

		if (n + (plain ? 1 : 4) + 4 > cap) {
			memcpy(buf + n, "...", 3);
			n += 3;
			break;
		}
		if (plain)
			buf[n++] = (char)p[i];
		else
			n += (unsigned long)sprintf(buf + n, "\\x%02x", p[i]);
	}
	buf[n] = '\0';
	return buf;
}
