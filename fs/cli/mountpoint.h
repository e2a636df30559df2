/*
 * mountpoint.h - looking at mount points, and taking mounts away.
 */
#ifndef KVFS_MOUNTPOINT_H
#define KVFS_MOUNTPOINT_H

#include <stdbool.h>
#include <stddef.h>

/* The absolute path without links of a mount point, without looking at what is mounted there (it
 * may hang, or be disconnected); malloc'd. NULL, errno. */
char *mountpoint_resolve(const char *path);

/* Whether a kvfs is mounted exactly there (the uppermost mount). */
bool mountpoint_is_kvfs(const char *resolved);

/* The mount point (malloc'd) of a kvfs that is alive and not read-only, and whose source `is` says
 * it is; NULL: there is none. */
char *mountpoint_find(bool (*is)(void *arg, const char *source), void *arg);

/* The number of the kvfs that is mounted exactly there (the uppermost mount) among the kernel's FUSE
 * connections. -1: no kvfs is. */
int mountpoint_number(const char *resolved);

/* Whether a daemon that is no more left it behind. One that was killed and cannot end is helped to. */
bool mountpoint_is_stale(const char *resolved);

/* A descriptor that becomes readable when the daemon ends; -1: it is not known. */
int mountpoint_daemon(const char *resolved);

/* Whether nothing is in a directory. */
bool directory_is_empty(const char *path);

/* Whether a text file has this line. */
bool file_has_line(const char *path, const char *line);

/* Unmounts, through fusermount3 where this is not root; `lazy`: also when it is in use. 0 or
 * -errno, with a fragment of a sentence in `why`. */
int mountpoint_unmount(const char *resolved, bool lazy, char *why, size_t why_cap);

/* Waits until everything done so far in the mount is durable. 0 or -errno; -EACCES: it is another
 * user's, who does not share it. */
int mountpoint_sync(const char *resolved);

/* Reads the daemon's status (fs/fuse/status.h), malloc'd. NULL, errno, as above. */
char *mountpoint_status(const char *resolved);

/* Asks the daemon to do something (fs/fuse/status.h): `what` is upload, refresh, retry or drop, for
 * the mount, or what `path` in it names. 0 or -errno; -EOPNOTSUPP: its store knows no such thing. */
int mountpoint_control(const char *path, const char *what);

/* The value of `name` in a status text, up to its line's end, into `buf`. False: there is none.
 * `skip`: how many of them are passed over first. */
bool status_value(const char *status, const char *name, unsigned skip, char *buf, size_t cap);

#endif
