/*
 * cache_folder.h - where the caches of remote sources are: CACHE/cloudflare/ACCOUNT/, private to
 * the user, with an LMDB environment for each namespace, and one for mounts of all of them.
 */
#ifndef KVFS_CACHE_FOLDER_H
#define KVFS_CACHE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes the folder of an account, as far as it is missing, and checks that it is nobody else's.
 * `base`: -o cache=, or NULL for the user's own. *lock: held as long as it is open; a mount of all
 * namespaces (`all`) excludes those of single ones, since each has a journal of its own. -EBUSY. */
int cache_folder_open(const char *base, const char *endpoint, const char *account, bool all,
	char **folder, int *lock, char *why, size_t why_cap);

/* Remembers which namespace was meant by `what`, a title or an id: its id and its title, as names of
 * namespaces are written. Gives them back where that was not longer than `max_age` (nanoseconds) ago;
 * -ENOENT. The title is "" where it is not known. */
void cache_folder_note(const char *folder, const char *what, const char *id, const char *title);
int cache_folder_recall(const char *folder, const char *what, int64_t max_age, char *id,
	size_t id_cap, char *title, size_t title_cap);

#endif
