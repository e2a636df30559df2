/*
 * file.h - open files: the content that readers and writers of one node share while it is open.
 *
 * As long as nobody has written, there is none of its own and reads go to the store. The first
 * write (or O_TRUNC) takes a copy, in memory or, when it is large, in a temporary file (blob.h),
 * and everybody who has the node open sees that. When a writer closes, the copy becomes the key's
 * value as a whole: the store never sees half a value (handle.h says what a close is). A file that was
 * just created exists in the mount, but not for other programs, until then ("held").
 *
 * Before a key goes away while it is open (unlink, rename over it, expiry, another program), its
 * content is taken here, so that it stays readable until the last close.
 */
#ifndef KVFS_FILE_H
#define KVFS_FILE_H

#include "fs/core/core.h"

struct handle;

/* The counts are guarded by fs.nodes.lock. */
struct open_file {
	unsigned users; /* opens, and threads of the core that look at it */
	unsigned writers; /* opens for writing */
	struct lock lock;
	struct blob *blob; /* the content, where it is not the store's */
	unsigned drops; /* how often it became the store's again */
	uint64_t version; /* behind a cache: of the store's value that `blob` is; 0: of none */
	bool dirty; /* the store has not been given it yet */
	struct handle *handles; /* through which it is open */
	/* Changes of the content are counted: all, those before the store was last given it, up to
	 * the last one that any writer's close publishes (it came by the path, or from a mapping, of
	 * which nobody knows through which handle), and up to the last one that left nothing of what
	 * was there. */
	uint64_t changes, stored, anyone, emptied;
	bool held; /* created here, never complete: the store holds it back */
	struct timespec mtime, ctime; /* where dirty */
	bool known; /* the next two are set */
	struct record last; /* the attributes it had when it was opened, without extended ones */
	uint64_t last_size;
};

/* Gives the node an open file, or another user of it. */
int file_acquire(struct fs *fs, struct node *n, bool writing, struct open_file **out);
/* The node's open file with one user more; NULL where it is not open. */
struct open_file *file_if_open(struct fs *fs, struct node *n);
/* The last user frees it. */
void file_drop(struct fs *fs, struct node *n, bool writing);

void file_free(struct open_file *f);

/* Opens a file that was just created, as create(2) does: nothing in it, to be stored at its close.
 * Takes over what file_spare() gave (-ENOMEM), and a spare handle, so it cannot fail; file_free()
 * where it is not used. */
int file_spare(struct fs *fs, struct open_file **out);
void file_created(struct fs *fs, struct node *n, struct open_file *spare, struct handle *h);

/* Size and times of content that the store does not have yet, over what the store says. *version (may
 * be NULL): of what the size is of, where that is open. */
void file_overlay(
	struct fs *fs, struct node *n, struct record *rec, uint64_t *size, uint64_t *version);

/* Takes the content of `n` from the store because its entry is about to go: into the open file if
 * somebody has it open, and, if it is small, into *content (a new reference; otherwise it stays NULL). The
 * caller holds fs.change. */
int file_detach(struct fs *fs, struct node *n, struct blob **content);

/* The entry is likely to go soon: if somebody has it open, its content is taken now, without locks, so
 * that file_detach() need not copy it while nobody else can change anything. */
void file_prefetch(struct fs *fs, const struct entry_id *id);

/* Another program has changed the value: what was only read is forgotten. */
void file_forget_clean(struct fs *fs, struct node *n);

/* Another program has removed the key: whoever has it open keeps the content it had, which `old`
 * gives where it is not here already. */
int file_keep_old(
	struct fs *fs, struct node *n, int (*old)(void *arg, struct blob **out), void *arg);

/* Remembers the attributes of an entry that is being opened; gives them back, for an entry that
 * another program has removed a moment ago. -ENOENT: there are none. */
void file_know(struct fs *fs, struct node *n, const struct record *rec, uint64_t size);
int file_last_known(struct fs *fs, struct node *n, struct record *rec, uint64_t *size);

/* Whether the store has yet to be given what `n` holds. */
bool file_is_dirty(struct fs *fs, struct node *n);

/* Whether `n` was created and not closed yet, so that the store holds it back. The caller holds
 * fs.change. */
bool file_is_held(struct fs *fs, struct node *n);

/* Whether the store was given the content of `n` after fs.stores was `since`. */
bool file_stored_since(struct fs *fs, struct node *n, uint64_t since);

/* store.is_written: whether somebody has the key open for writing. `arg`: the filesystem. */
bool file_is_written(void *arg, const struct entry_id *id);

/* Gives what is dirty to the store; `h` (may be NULL): if something of it was changed through this
 * handle. The caller holds fs.change. */
int file_store(struct fs *fs, struct node *n, const struct handle *h);

/* --- content, for those who read and write (io.c) ------------------------------------------- */

/* Gets the value that the store has for this node, and no other's. -ESTALE: none any more. */
int file_stored_value(struct fs *fs, struct node *n, struct value *v);

/* Takes f->lock, with the file's content in f->blob. The lock is held on success only. */
int file_lock_content(struct fs *fs, struct node *n, struct open_file *f);

/* Makes f->blob one that nobody else holds. Under f->lock. */
int file_make_writable(struct open_file *f);

/* The content was changed now. Under f->lock. */
void file_touch(struct open_file *f);

/* What is dirty will not be stored. Whoever calls it says so. */
void file_give_up(struct open_file *f);

/* Lets the content be the store's again. Under f->lock. */
void file_drop_content(struct open_file *f);

/* From now on everybody reads what the store has, if it has it; behind a cache, unless that is what
 * they have. The caller holds fs.change. */
void file_let_go(struct fs *fs, struct node *n, struct open_file *f);

/* Changes the size. `h`: through this handle, so that the store is told at its close; NULL: it is
 * told at once, unless somebody has it open for writing, and with -o sync then too. */
int file_resize(struct fs *fs, struct node *n, uint64_t size, struct handle *h);

/* The size becomes `size` where it is less, and the times change in either case, as fallocate(2) has
 * it. */
int file_allocate(struct fs *fs, struct handle *h, uint64_t size);

/* The times that an explicit change of attributes gave, so that the close that follows keeps them.
 */
void file_set_times(struct fs *fs, struct node *n, const struct record *rec);

#endif
