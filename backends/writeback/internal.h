/*
 * internal.h - the store's own struct, and which file does what with it.
 *
 *   store.c      opening, closing, what is passed on     namespaces.c  titles and ids
 *   view.c       reading                                 apply.c       accepting changes
 *   prepare.c    what an operation needs                 fetch.c       asking for values
 *   walk.c       asking for listings                     coverage.c    what is known to be whole
 *   merge.c      what the answers change here            evict.c       making room
 *   upload.c     taking changes to the remote store      collect.c     what is to be sent next
 *   results.c    what became of it                       conflict.c    keeping what others wrote
 *   move.c       moving directories
 *   waiting.c    who waits for uploads                   recent.c      one write a second of a key
 *   notify.c     telling the filesystem
 */
#ifndef KVFS_WRITEBACK_INTERNAL_H
#define KVFS_WRITEBACK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "backends/base/lock.h"
#include "backends/writeback/info.h"
#include "backends/writeback/journal.h"
#include "backends/writeback/writeback.h"

/* As a view's `now`: with what has expired. */
#define NOW_NEVER INT64_MIN

/* A place in the order of the keys; len 0: none. */
struct trail {
	uint16_t len;
	unsigned char at[STORE_KEY_MAX];
};

/* A remote namespace. Never freed before the end. */
struct wb_ns {
	char id[REMOTE_ID_MAX + 1];
	unsigned char *title; /* book; NULL: it has gone */
	size_t title_len;
	uint32_t keys, journal, listed, absent; /* numbers of local namespaces */
	struct walk *walks; /* traffic; the youngest first */
	/* All below: traffic. */
	struct trail ahead; /* up to where values were got many at once */
	struct trail alone; /* ... with a request each, */
	unsigned run; /* of which so many were got ahead */
	struct trail listed_last, listed_before; /* the directories that somebody has listed */
	unsigned lists; /* of these, 0 to 2 */
};

struct walk; /* a listing under way: walk.h */
struct flight; /* a value that is being fetched: fetch.c */
struct notifier;
struct waiter; /* waiting.c */
struct recent; /* recent.c */

enum { WB_NUMBERS_MAX = 1 << 16, WB_USES = 1 << 16 };

struct writeback {
	struct store base;
	struct store *local;
	struct remote *remote;
	struct writeback_options opt;
	char *globs;

	struct lock book;
	struct wb_ns **namespaces; /* book; by the order of appearance */
	size_t namespaces_n;
	_Atomic(struct wb_ns *) *by_number; /* of NUMBERS_MAX */
	int64_t titles_read; /* book: when they were last asked for */
	bool one; /* only one namespace is shown */

	struct lock traffic;
	pthread_cond_t landed;
	struct flight *flights; /* traffic */

	pthread_t uploader;
	bool uploading; /* the thread runs */
	struct lock queue;
	pthread_cond_t work, sent;
	/* All below: queue. */
	bool stop;
	bool ended; /* nobody is to wait for uploads any more */
	uint64_t urgent; /* changes up to this one do not wait for upload_delay */
	bool again; /* those that failed a moment ago are tried by the next pass */
	int64_t next_due; /* by clock_steady() */
	uint64_t looked,
		oldest; /* what the last pass has seen: changes up to `looked`; the oldest of
				    them that waits */
	struct waiter *waiters;

	_Atomic uint64_t seq; /* of the last change; counts on under book */
	_Atomic uint64_t opened_seq; /* of the last change of an earlier process, or less */
	int64_t opened;
	_Atomic uint64_t pending, failed; /* entries of the journals; changed under book */
	atomic_int moving; /* directories that are being moved: their values stay */
	/* The uploader's own: */
	struct recent *recent;
	int64_t credit; /* requests that may go at once: upload.c */
	int64_t credited; /* when that was counted last */
	_Atomic uint64_t held; /* of those pending: what somebody has open for writing */
	_Atomic int last_error; /* of the remote store, 0: it answered */
	_Atomic int64_t offline_since;

	/* evict.c */
	atomic_bool evicting; /* somebody makes room */
	_Atomic uint64_t kept; /* bytes of values here, about, */
	atomic_bool counted; /* once they were counted */
	_Atomic int64_t tree_until; /* what somebody is about to move is needed till then */
	_Atomic uint32_t used; /* how often values were used */
	_Atomic uint32_t uses[WB_USES]; /* `used` of the last time, by the hash of the key */

	struct notifier *notifier;
};

/* How long nobody asks a remote store that does not answer, while there is something to show. */
#define WB_PROBE_AFTER (5LL * 1000000000)

static inline struct writeback *writeback(struct store *st)
{
	return (struct writeback *)st;
}

/* The remote namespace whose keys have this number; NULL: it is none (the root of all). */
static inline struct wb_ns *wb_ns(struct writeback *wb, uint32_t number)
{
	return number < WB_NUMBERS_MAX ? atomic_load(&wb->by_number[number]) : NULL;
}

static inline struct entry_id wb_key(uint32_t ns, const void *bytes, size_t len)
{
	return (struct entry_id){.ns = ns, .kind = ENTRY_KEY, .len = (uint16_t)len, .bytes = bytes};
}

/* A local entry with its information taken out of its record. rec.xattrs is a copy: the caller
 * releases it with wb_entry_release(). */
struct wb_entry {
	bool exists;
	struct record rec;
	struct info info;
	uint64_t size; /* of the value: as known */
	void *memory;
};

/* view.c */
int wb_view_begin(struct store *base, int64_t now, struct view **out);
void wb_view_end(struct view *v);
int wb_view_get(struct view *v, const struct entry_id *id, struct entry *out);
int wb_view_expired(struct view *v, size_t skip, struct entry_id *id);
int64_t wb_view_next_expiry(struct view *v);
int wb_scan_open(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out);
int wb_scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found);
int wb_scan_get(struct scan *s, const struct entry_id *found, bool brief, struct entry *out);
void wb_scan_close(struct scan *s);
int wb_read(struct store *base, const struct entry_id *id, int64_t now, struct value *out);
/* Expired ones too. `exists` false where there is none. */
int wb_entry_get(struct writeback *wb, const struct entry_id *id, struct wb_entry *out);
void wb_entry_release(struct wb_entry *e);
/* Whether what is known of the value counts still: `journaled` says it is in the journal. */
bool wb_is_fresh(struct writeback *wb, const struct info *i, bool journaled, int64_t now);

/* apply.c */
int wb_apply(struct store *base, const struct change *changes, size_t n, uint64_t *seq);
/* Under `book`. *journals: something is to be uploaded, which the uploader is to be told. */
int wb_apply_group(struct writeback *wb, const struct change *changes, size_t n, bool *journals);

/* move.c */
int wb_move_tree(struct store *base, const struct entry_id *from, const struct entry_id *to,
	bool exchange, int64_t now);
/* Goes on with what was being moved when the last mount ended. */
int wb_moves_resume(struct writeback *wb);

/* apply.c */
/* The change that gives a key of ours its record with `info`; *memory is to be freed after. */
int wb_put_change(const struct entry_id *id, const struct record *rec, const struct info *info,
	struct blob *value, struct change *out, struct record *joined, void **memory);
bool wb_name_is_local(struct writeback *wb, const struct entry_id *id);

/* namespaces.c */
int wb_namespaces_open(struct writeback *wb, const char *only, uint32_t *ns, char *why, size_t cap);
void wb_namespaces_free(struct writeback *wb);
int wb_namespaces_refresh(struct writeback *wb);
/* Those there have ever been, by number from 0 on. */
size_t wb_namespaces_count(struct writeback *wb);
struct wb_ns *wb_namespace_at(struct writeback *wb, size_t i);
int wb_ns_find(struct store *base, const void *name, size_t len, uint32_t *ns);
int wb_ns_next(struct store *base, const void *after, size_t after_len, void *name, size_t cap,
	size_t *len);
int wb_ns_create(
	struct store *base, const void *name, size_t len, const struct record *rec, uint32_t *ns);
int wb_ns_remove(struct store *base, uint32_t ns, int64_t now);
int wb_ns_rename(struct store *base, uint32_t ns, const void *name, size_t len, int64_t now);

/* prepare.c */
int wb_prepare(struct store *base, struct want *want);

/* coverage.c: what is known to be whole. With or without `book`. `now` NOW_NEVER: whenever it was. */
bool wb_covers(struct writeback *wb, struct wb_ns *ns, const void *bytes, size_t len, bool below,
	int64_t now);
/* The bytes of a name at the beginning of `bytes` before its number: what others begin with that are
 * asked for next where names are counted. 0: it has none, or begins with it. */
size_t wb_stem(const struct writeback *wb, const void *bytes, size_t len);
/* It has been known to be whole, however long ago: what is shown where nobody answers. */
bool wb_was_whole(struct writeback *wb, struct wb_ns *ns, const void *bytes, size_t len);
int wb_cover(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, int64_t when);
/* What is known of it counts as old. */
int wb_uncover(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len);
bool wb_is_absent(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t now);
/* Removed by us so lately that the remote store may still show it. */
bool wb_is_removed(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t now);
/* Until when that counts; 0: it does not. */
int64_t wb_removed_until(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key);
int wb_note_absent(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key, int64_t when,
	int64_t pinned);

/* walk.c: the next page of a listing. It waits for the remote store; without locks. `want` (may be
 * NULL) learns how far what begins with the prefix is known. */
int wb_fetch_page(
	struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len, struct want *want);
void wb_fetch_free(struct wb_ns *ns);
/* Counts a name of the directory that is asked for by itself: how many there were lately. */
unsigned wb_note_miss(struct writeback *wb, struct wb_ns *ns, const void *dir, size_t len);

/* fetch.c: they wait for the remote store; without locks. */
int wb_fetch_values(struct writeback *wb, struct wb_ns *ns, const struct entry_id *key);
/* Somebody lists the directory. */
void wb_note_listed(struct writeback *wb, struct wb_ns *ns, const void *prefix, size_t len);
int wb_fetch_exactly(struct writeback *wb, struct wb_ns *ns, const struct remote_name *keys,
	size_t n, bool background);
void wb_note_answer(struct writeback *wb, int rc);

/* merge.c */
/* `after`: the last key of the page before (len 0: none). */
int wb_merge_page(struct writeback *wb, struct wb_ns *ns, const struct remote_page *page,
	const struct remote_name *after, const struct remote_name *prefix, int64_t asked);
int wb_merge_values(struct writeback *wb, struct wb_ns *ns, const struct remote_name *keys,
	const struct remote_value *values, size_t n, int64_t asked);
uint64_t wb_hash_blob(struct blob *b);
/* Notes that this value is in the local store. */
void wb_info_value(struct info *i, struct blob *value);

/* upload.c */
int wb_upload_start(struct writeback *wb);
void wb_upload_stop(struct writeback *wb);
/* One pass over the journals, by the thread, or where there is none: when the next is due. */
int64_t wb_upload_pass(struct writeback *wb);
/* Something is due in `delay` nanoseconds. */
void wb_upload_expect(struct writeback *wb, int64_t delay);
/* All that has been changed so far is due, also what failed a moment ago. */
void wb_upload_now(struct writeback *wb);

/* journal.h's entries, counted: to be called under `book`, after the change that it counts. */
static inline void wb_count(struct writeback *wb, int64_t pending, int64_t failed)
{
	atomic_fetch_add(&wb->pending, (uint64_t)pending);
	atomic_fetch_add(&wb->failed, (uint64_t)failed);
}
/* Counts those of a namespace that has become known. Under `book`. */
int wb_count_journal(struct writeback *wb, const struct wb_ns *ns);

/* waiting.c */
int wb_sync(struct store *base, uint64_t seq);
int wb_sync_entry(struct store *base, const struct entry_id *id, const struct given_up *g);
/* Nobody waits for uploads any more, or they may again. */
void wb_waiting_end(struct writeback *wb, bool ended);
/* An attempt to upload the key (NULL: anything) came to this. */
void wb_waiting_note(struct writeback *wb, const struct entry_id *id, int error);
/* The last change there is. */
uint64_t wb_last_change(struct writeback *wb);
/* Up to which change nothing waits any more. */
uint64_t wb_uploaded_upto(struct writeback *wb);

/* notify.c: the filesystem is told by a thread of its own, since whoever asked the remote store may
 * hold what the kernel needs to be told. */
int wb_notify_start(struct writeback *wb);
void wb_notify_stop(struct writeback *wb);
void wb_changed(struct writeback *wb, const struct entry_id *id, bool gone);
void wb_watch(struct store *base, store_watcher fn, void *arg);
enum foreign_verdict wb_foreign_compare(struct foreign_change *what, const struct entry_id *id);
int wb_foreign_old_value(struct foreign_change *what, const struct entry_id *id, struct blob **out);

/* evict.c */
void wb_evict(struct writeback *wb);
/* Somebody uses the value of a key. */
void wb_note_use(struct writeback *wb, const struct wb_ns *ns, const void *key, size_t len);
/* A value of so many bytes has come. */
void wb_note_kept(struct writeback *wb, uint64_t size);
/* What was got just now is about to be moved: all of it stays for a moment. Or that has been done. */
void wb_note_tree(struct writeback *wb, bool begins);

#endif
