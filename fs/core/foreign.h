/*
 * foreign.h - what other programs change in the store, told to the kernel.
 *
 * When the store says that others have changed it, every node that the kernel knows, and every name
 * that it knows to be absent, is compared with what the store has now. What was removed while it is
 * open keeps its content.
 */
#ifndef KVFS_FOREIGN_H
#define KVFS_FOREIGN_H

struct entry_id;
struct fs;
struct foreign;

int foreign_start(struct fs *fs, struct foreign **out);
/* Nobody is notified any more when it returns; requests may go on. May be called again. NULL is
 * fine. */
void foreign_stop(struct fs *fs, struct foreign *f);
void foreign_free(struct foreign *f); /* stopped, or NULL */

/* The node of this key was left behind (version.h). The kernel is told when the store has told what
 * brought this about. NULL is fine. */
void foreign_note_left(struct foreign *f, const struct entry_id *id);

/* Waits until the watch has looked once more, or a second has passed. NULL is fine. */
void foreign_wait(struct foreign *f);

#endif
