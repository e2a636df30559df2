/*
 * uploads.h - what is on its way from a mount to its remote store, and waiting for it.
 */
#ifndef KVFS_UPLOADS_H
#define KVFS_UPLOADS_H

#include <stdbool.h>
#include <stdint.h>

enum { UPLOADS_FAILED_SHOWN = 20 };

struct uploads {
	bool remote; /* the mount has a remote store */
	uint64_t last, done; /* numbers: of the last change, and up to which all are uploaded */
	uint64_t pending; /* changes that wait or are under way */
	uint64_t open; /* of these, what is open for writing, and waits for that to end */
	uint64_t failed; /* changes that are not tried again by themselves */
	int64_t offline_since; /* Unix seconds; 0: the remote store answers */
};

/* What a status text says. */
void uploads_read(const char *status, struct uploads *out);

/* One failed upload of a status text, the `skip`-th. False: there are no more. The strings live as
 * long as `line`. */
struct failed_upload {
	char line[1024];
	const char *reason, *ns, *key; /* ns: "" where the mount has one only */
};
bool uploads_failed(const char *status, unsigned skip, struct failed_upload *out);

/* Asks for uploads at once, and waits until none is left but failed ones, for at most `timeout`
 * seconds (negative: for ever). Shows on standard error how it goes on, where that is a terminal,
 * and says there once what it waits for, where nothing goes on. `patient`: also while the remote
 * store does not answer. `all`: also what is changed meanwhile. *left: what is left. 0; -EOPNOTSUPP:
 * the mount has no remote store; -EROFS, -EACCES, -ENOTCONN, ...: it cannot be asked. Everything is
 * durable on this machine unless it fails. */
int uploads_wait(const char *command, const char *resolved, double timeout, bool patient, bool all,
	struct uploads *left);

/* Prints a line on standard error for each failed upload, and what can be done. */
void uploads_say_failed(const char *command, const char *path, const char *resolved);

/* A time of day, with its date if that is not today's. */
const char *uploads_time(int64_t seconds, char buf[32]);

/* A number with commas. */
const char *uploads_number(uint64_t n, char buf[32]);

#endif
