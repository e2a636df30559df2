/*
 * store.h - what every key-value store offers to the filesystem.
 *
 * Model. A store holds namespaces. A namespace holds entries of two kinds:
 *
 *   ENTRY_KEY  a key with its value. `bytes` is the key itself, 1 to 512 bytes.
 *   ENTRY_DIR  a directory's attributes. `bytes` is the directory's prefix: what every key
 *              below it begins with, the separator at its end included (0 to 513 bytes; the
 *              empty prefix is the namespace's own directory).
 *
 * Number 0 is no namespace and never given to one: it holds DIR entries only, for the root above
 * them.
 *
 * Both have a record (record.h): attributes, expiry, extended attributes. The store does not
 * know separators, paths or permissions: it keeps and orders bytes. A DIR entry says nothing
 * about keys: one without RECORD_MADE only remembers attributes, and only DIR entries with
 * RECORD_MADE are found by a scan.
 *
 * Time. Keys whose record has expired (record_expired) at the `now` of a view are absent from
 * that view in every respect. They are removed physically by whoever calls view_expired() and
 * then applies REMOVE changes. Records whose key another program has removed are the store's to
 * remove, which it does soon after.
 *
 * Writing. store_apply() makes a group of changes visible to every later view at once and
 * returns; the store makes it durable later, in the order of the calls, whole groups only.
 * store_sync() waits for that.
 *
 * Threads. Every function may be called by any thread, unless it says otherwise; a view and
 * what came from it belong to one thread at a time. While a thread holds a view it must not
 * call store_apply(), store_sync(), store_throttle() or a function of namespaces or trees
 * (they wait for views to end). While it holds a value from read(), it only reads and releases
 * that: who changes the store may wait for it.
 *
 * Errors. Functions return 0 or -errno, never a library's own code; outputs are untouched on
 * failure. -EIO is logged by the store where it arises, with its cause.
 */
#ifndef KVFS_STORE_H
#define KVFS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "backends/blob.h"
#include "backends/record.h"

enum {
	STORE_KEY_MAX = 512, /* bytes of a key, in every store */
	STORE_PREFIX_MAX = STORE_KEY_MAX + 1, /* a directory's prefix: a key and a separator */
};

enum entry_kind { ENTRY_KEY = 0, ENTRY_DIR = 1 };

/* Names one entry. A plain value; `bytes` is borrowed from whoever made it. */
struct entry_id {
	uint32_t ns; /* a namespace's number, from store_ns_find() */
	enum entry_kind kind;
	uint16_t len;
	const unsigned char *bytes;
};

/* What a view says of one entry. */
struct entry {
	struct record rec; /* all zero where `unrecorded`; rec.xattrs is valid until view_end() */
	uint64_t size; /* bytes of the value; 0 for ENTRY_DIR */
	bool unrecorded; /* another program made it: no attributes are known yet */
	bool touched; /* another program changed the value since the record was written */
	bool pending; /* has changes that are not durable yet, or (behind a cache) not uploaded */
	const char
		*failed; /* why it alone cannot be made durable, or will not be uploaded as it is;
			       static; NULL: nothing is wrong */
	/* Stores behind a cache only: */
	bool partial; /* its size and value are not known now: store_ops.prepare() finds them out */
	uint64_t version; /* of the value: another one where its bytes are others; 0: not known */
	int64_t fresh_until; /* nanoseconds since the epoch; 0: until it is changed */
	bool uploading;
};

/* What an operation is about to look at (store_ops.prepare). Bytes are borrowed. */
enum want_kind {
	WANT_NAME, /* whether there is a key `key` (len 0: no matter), or anything that begins with
		      `prefix` (len 0: no matter) */
	WANT_SIZE, /* the size and attributes of `key`, if it is there */
	WANT_LIST, /* the names of what begins with `prefix`, from `key` on (as far as is worth it now:
		      `upto`) */
	WANT_VALUE, /* the value of `key`, if it is there */
	WANT_TREE, /* every key that begins with `prefix`, and key `key`, with their values */
};

struct want {
	enum want_kind kind;
	uint32_t ns;
	const unsigned char *key, *prefix;
	size_t key_len, prefix_len;
	/* LIST, answers: everything is known, or else what comes not after `upto`. */
	bool complete;
	size_t upto_len;
	unsigned char upto[STORE_PREFIX_MAX];
};

/* What a person asks a store behind a cache to do (store_ops.control). */
enum control {
	CONTROL_UPLOAD, /* everything is made durable here, and goes to the remote store without delay:
			 * also what waits because it failed a moment ago */
	CONTROL_REFRESH, /* what is cached counts as old */
	CONTROL_RETRY, /* what the remote store has refused is tried again */
	CONTROL_DROP, /* ... is given up: what the remote store has counts again */
};

/* Whether somebody who waits has given up. Called now and then, without locks. */
struct given_up {
	bool (*fn)(void *arg);
	void *arg;
};

/* What a stored value was when somebody looked, in the store's own terms; all zero: nothing. */
struct value_stamp {
	uint64_t size, hash, txn;
};

enum change_op {
	CHANGE_PUT, /* record and value, either of which may be "as it is" (NULL) */
	CHANGE_REMOVE, /* entry and record; removing what is absent is no error */
};

struct change {
	enum change_op op;
	struct entry_id id;
	const struct record *rec; /* PUT: NULL keeps the record; copied by store_apply() */
	struct blob *value; /* PUT of a KEY: NULL keeps the value; the store takes its own
			       reference and the caller must not write to the blob while
			       anyone else holds one */
	const struct value_stamp *seen; /* PUT of a KEY's record alone: the value that it was made
					   for, from store_ops.stamp(); NULL: the one that is there
					   when it is stored. Copied */
	bool if_expired; /* REMOVE: -EAGAIN where it has not expired any more. For a store that others change
			  * through it too, as one behind a cache is; in others it is as it was seen */
	bool hold; /* PUT of a KEY that has no complete value yet: visible in views, but not made
		      durable before a later PUT with a value and without hold */
};

struct store_stat {
	uint64_t pending; /* entries changed, not durable yet */
	uint64_t pending_bytes; /* of their values and records */
	uint64_t commits; /* durable groups since the store was opened */
	uint64_t reads, writes; /* entries read and changed since then */
	uint64_t bytes; /* the store's size on its medium */
	uint64_t free_bytes, total_bytes; /* what the medium still takes, and its size with it */
	int error; /* -errno of the last attempt to make changes durable; 0: it went well */
	bool loose_records; /* the store has records that are in no namespace, and not shown */
	uint32_t unfit; /* how many collections it has that are no namespaces, and not shown */
	int left_out; /* -errno, where some entries had to be left out of it */
};

/* The store's counterpart of inotify: given to the watcher when other programs have changed
 * the store. Valid during the call only. */
struct foreign_change;

enum foreign_verdict { FOREIGN_SAME, FOREIGN_CHANGED, FOREIGN_GONE };

typedef void (*store_watcher)(void *arg, struct foreign_change *what);

struct store;
struct view;
struct scan;

struct store_ops {
	const char *name; /* "lmdb" */

	/* Commits everything that is not held, then frees the store. The first error in committing, if any; the
	 * store is gone either way. No view is open, no call is running. */
	int (*close)(struct store *st);

	/* The number of namespace `name` (bytes, not a C string; it stays the same for as long as
	 * the store is open). -ENOENT; -EOPNOTSUPP: it is no plain key-value map. */
	int (*ns_find)(struct store *st, const void *name, size_t len, uint32_t *ns);

	/* The first namespace whose name is greater than `after` (len 0: the first of all), in byte
	 * order, into `name` of `cap` bytes. -ENOENT: no more. Maps that cannot be namespaces are
	 * passed over. */
	int (*ns_next)(struct store *st, const void *after, size_t after_len, void *name,
		size_t cap, size_t *len);

	/* Durable when they return. create: with the attributes of its own directory (`rec`; NULL:
	 * none), in one step. -EEXIST, -EPERM (a name the store reserves).
	 * remove: -ENOTEMPTY while a live key is in it, -ENOENT. Directories go along: which of
	 * them are in the way is for who knows separators.
	 * rename: -ENOENT, -ENOTEMPTY (the target exists and is not empty; an empty one is
	 * replaced), -EPERM. The number of a renamed namespace stays. */
	int (*ns_create)(struct store *st, const void *name, size_t len, const struct record *rec,
		uint32_t *ns);
	int (*ns_remove)(struct store *st, uint32_t ns, int64_t now);
	int (*ns_rename)(struct store *st, uint32_t ns, const void *name, size_t len, int64_t now);

	/* A consistent picture of the store at this moment, with every applied change in it.
	 * `now`: nanoseconds since the epoch, for expiry. Keep it short: writers wait for it. */
	int (*view_begin)(struct store *st, int64_t now, struct view **out);
	void (*view_end)(struct view *v);

	/* -ENOENT where absent or expired. */
	int (*view_get)(struct view *v, const struct entry_id *id, struct entry *out);

	/* Entries that have expired, in the order of their expiry, from the one after `skip`
	 * entries on. `id` is valid until view_end(). -ENOENT: no more. */
	int (*view_expired)(struct view *v, size_t skip, struct entry_id *id);

	/* When the next entry expires, in nanoseconds since the epoch; INT64_MAX: none. Entries
	 * that have expired already count. */
	int64_t (*view_next_expiry)(struct view *v);

	/* Walks the live entries of a namespace and kind in byte order. */
	int (*scan_open)(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out);

	/* The first entry at or after `from`; its bytes are valid until the next call on this scan.
	 * -ENOENT: none. Seeking forward by little is cheap. */
	int (*scan_seek)(struct scan *s, const void *from, size_t len, struct entry_id *found);

	/* The same as view_get() of the entry that the last scan_seek() has found, at less cost where
	 * entries are taken in order. `brief`: of *out only `unrecorded`, rec.mode, rec.ino and
	 * rec.flags are told, and values are not looked at. */
	int (*scan_get)(
		struct scan *s, const struct entry_id *found, bool brief, struct entry *out);
	void (*scan_close)(struct scan *s);

	/* The value of a key, readable without a view (struct value below). -ENOENT. */
	int (*read)(struct store *st, const struct entry_id *id, int64_t now, struct value *out);

	/* What the stored value of a key is now, for change.seen: so that one which another program
	 * writes before the record is stored counts as touched. Reads the value; to be called
	 * without a view. -ENOENT: there is none, or it is not stored yet. NULL: nobody else writes
	 * to the store unseen. */
	int (*stamp)(struct store *st, const struct entry_id *id, struct value_stamp *out);

	/* Applies the changes as one group. Never waits for the disk. -ENOSPC, -EROFS, -EIO,
	 * -ENAMETOOLONG: nothing was applied. *seq (may be NULL) numbers the group for sync. */
	int (*apply)(struct store *st, const struct change *changes, size_t n, uint64_t *seq);

	/* Waits while more is pending than memory should hold. To be called before a change,
	 * without a lock that a view's holder could want. `bytes`: size of the value to come;
	 * -ENOSPC where the medium surely has no room for it. */
	int (*throttle)(struct store *st, uint64_t bytes);

	/* Waits until every group up to `seq` (UINT64_MAX: every one applied so far) is durable.
	 * -errno of the attempt that failed; the changes stay pending and are tried again. -EIO
	 * also where some entries had to be left out (entry.failed): all others are durable. */
	int (*sync)(struct store *st, uint64_t seq);

	/* As sync, for whoever asks by fsync(2): waits until what was done so far to one key (NULL: to
	 * everything) is durable and, where the options of a store behind a cache say so, uploaded. g
	 * (may be NULL): -EINTR when it says so. -EIO: it was refused for good, or cannot be waited
	 * for since the store is about to be closed; -ETIMEDOUT, -EACCES, -EDQUOT, ...: why the remote
	 * store did not take it; it is tried again. NULL: sync(UINT64_MAX) says as much. */
	int (*sync_entry)(struct store *st, const struct entry_id *id, const struct given_up *g);

	/* Moves every entry whose bytes begin with prefix `from` (a DIR id), and the key that is
	 * the prefix less its last byte, to `to` in the same manner: bytes, records, expiry;
	 * expired keys are dropped. All or nothing, durable when it returns. What is at `to`
	 * already (a made empty directory) is replaced. -ENAMETOOLONG: a key would pass
	 * STORE_KEY_MAX. exchange: both ways at once. Neither prefix begins with the other. */
	int (*move_tree)(struct store *st, const struct entry_id *from, const struct entry_id *to,
		bool exchange, int64_t now);

	/* Calls `fn` from a thread of the store after other programs changed it, within a second.
	 * NULL ends that; when the call returns no call of `fn` is running. */
	void (*watch)(struct store *st, store_watcher fn, void *arg);

	/* Within a watcher's call: what happened to this entry since the watcher's last call. SAME
	 * may be CHANGED by this process's own doing. Expiry is not looked at. */
	enum foreign_verdict (*foreign_compare)(
		struct foreign_change *what, const struct entry_id *id);

	/* Within a watcher's call: a copy of the value as it was before. -ENOENT. */
	int (*foreign_old_value)(
		struct foreign_change *what, const struct entry_id *id, struct blob **out);

	/* Brings what an operation is about to look at up to date, as far as it is known to be old.
	 * May wait for long, so it is called without locks, views and values. 0: what views show
	 * now is good enough; -ETIMEDOUT, -EACCES, ...: it is not known, and cannot be found out
	 * now. NULL: the store is up to date always. */
	int (*prepare)(struct store *st, struct want *want);

	/* Does it for one key (an ENTRY_KEY id), for every key that begins with the bytes of an
	 * ENTRY_DIR id, or, where that is of namespace 0, for every key there is. It does not wait for
	 * the remote store: what becomes of it, `describe` tells. NULL: there is nothing of the kind. */
	int (*control)(struct store *st, enum control what, const struct entry_id *id);

	/* More lines "name=value" for `kvfs status`. NULL: none. */
	void (*describe)(struct store *st, FILE *out);

	/* An inode number that no entry of this store has had, less than 2^62. */
	uint64_t (*new_ino)(struct store *st);

	void (*stat)(struct store *st, struct store_stat *out);
};

/* Every store's struct begins with this. */
struct store {
	const struct store_ops *ops;
	struct blob_pool
		*blobs; /* where this store's large values are prepared; owned by the store */
	bool readonly;
	uint64_t value_max; /* bytes of the greatest value it can hold */

	/* Where a store can do less than a local one; all zero where it cannot. */
	bool plain; /* no symbolic links and special files, no attributes but expiry and metadata */
	bool text_keys; /* keys are UTF-8, and neither "." nor ".." */
	size_t metadata_max; /* bytes; 0: the filesystem's own limit */
	int64_t ttl_min; /* seconds that a key lives at least; 0: no limit */
	bool no_expiry; /* it cannot store expirations */

	/* Whether somebody has the key open for writing: set by the filesystem before there are
	 * other threads. The store calls it without locks. NULL: nobody ever. */
	bool (*is_written)(void *arg, const struct entry_id *id);
	void *is_written_arg;
};

#endif
