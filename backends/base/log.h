/*
 * log.h - one line per event, to standard error, a file or syslog.
 *
 * Threads: log_open() before there are any; the rest from everywhere.
 */
#ifndef KVFS_LOG_H
#define KVFS_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Where lines go from now on: "" or NULL standard error (as at the start), "syslog", or a file,
 * appended to (0600 when it is made; refused are a symbolic link at its end, what is no file, and a
 * file of another user's or of several names: -EPERM). `debug` lets debug lines through. 0 or -errno. */
int log_open(const char *where, bool debug);

/* One line, cut to about 2,000 bytes. Control characters, also line ends, are written as \xNN. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A key or name as a log shows it: printable bytes as they are, others as \xNN, cut with "..." when
 * longer than fits. Returns `buf`. */
const char *log_bytes(const void *bytes, unsigned long len, char *buf, unsigned long cap);

#endif
