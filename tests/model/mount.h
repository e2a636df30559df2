/*
 * mount.h - the two trees of a run: kvfs, mounted from an environment of its own, and a plain
 * folder. Both below one folder, which is removed with them.
 */
#ifndef KVFS_MODEL_MOUNT_H
#define KVFS_MODEL_MOUNT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct mount_options {
	const char *kvfs; /* the program; NULL: a second plain folder is tested instead */
	const char *dir; /* where folders are made */
	const char *options; /* of kvfs mount, or NULL */
};

struct trees {
	struct mount_options opt;
	char folder[PATH_MAX / 2];
	char kvfs[PATH_MAX], plain[PATH_MAX]; /* the two roots */
	pid_t daemon; /* 0: not mounted */
};

/* 0 or -errno; what was done is undone when it fails, and the reason printed. */
int trees_make(struct trees *t, const struct mount_options *opt);

/* Unmounts and mounts again. The daemon must have ended well. */
int trees_remount(struct trees *t);

/* -EIO: the daemon did not end well. The folder goes in any case, but for its log when it did not. */
int trees_remove(struct trees *t);

/* For who cannot wait: the daemon is killed, nothing is left. Safe to call at any time. */
void trees_abandon(struct trees *t);

#endif
