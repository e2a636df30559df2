/*
 * lock.h - mutexes, and the one order in which they are taken.
 *
 * The order is LOCK_ORDER below: who holds a lock takes only locks of greater rank. So two of one
 * rank are never held together, nothing is called with a leaf held, and nobody can wait in a
 * circle. What a lock guards is said where its field is.
 *
 * A build with a sanitizer, or for debugging, looks (KVFS_CHECK_LOCKS): it ends the process, with
 * the names of both locks, when a thread takes one out of order, takes one twice, waits for a
 * condition while it holds another lock, or calls what is to be called without any
 * (lock_none_held). Who waits for the committer, or for the remote store's client, may do so with
 * fs.change (moving directories and namespaces is durable when it returns) and within an answer (-o
 * sync): neither ever waits for these. Where the environment says KVFS_WATCHDOG=SECONDS, it logs
 * what every thread holds and waits for when one has waited longer than that for a lock. Other
 * builds pay nothing.
 *
 * Not only mutexes have a rank: gates (lmdb/gate.h), views of the memory store and answers to the kernel
 * (fs.h) are held and waited for too. These tell the checker themselves (lock_note_*).
 */
#ifndef KVFS_LOCK_H
#define KVFS_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

/* LOCK(rank, name, what messages call it), outermost first. */
#define LOCK_ORDER(LOCK)                                                                              \
	/* The core (fs/core). An answer is begun before, and ended after everything else. */         \
	LOCK(1, LOCK_ANSWERS, "fs.answers") /* shared by answers; who drains waits for all */         \
	LOCK(2, LOCK_CHANGE, "fs.change")                                                             \
	LOCK(3, LOCK_FILE, "open_file.lock")                                                          \
	/* A store behind a cache (backends/writeback), which calls the local store below. */         \
	LOCK(4, LOCK_BOOK, "writeback.book")                                                          \
	/* The LMDB store (backends/lmdb). Who holds changes or map must not wait for the writer: a \
	 * reader that finds the map too small leaves both, adopts the new size, and begins again. */ \
	LOCK(5, LOCK_WRITER, "env.writer") /* one write transaction, or who resizes the map */        \
	LOCK(6, LOCK_HANDLES, "env.handles") /* opening handles of databases */                       \
	LOCK(7, LOCK_CHANGES, "store.changes") /* gate: views; alone who changes it */                \
	LOCK(8, LOCK_WATCH, "watch.lock") /* the snapshots that the watcher holds */                  \
	LOCK(8, LOCK_BASES, "bases.lock") /* those of the bases of changes */                         \
	LOCK(9, LOCK_MAP, "env.map") /* gate: read transactions; alone who remaps the file */         \
	/* The store in memory. */                                                                    \
	LOCK(10, LOCK_MEMORY, "memory.lock") /* shared by views */                                    \
	/* The core's tables, under views too. */                                                     \
	LOCK(11, LOCK_NEGATIVES, "negatives.lock")                                                    \
	LOCK(12, LOCK_NODES, "nodes.lock")                                                            \
	/* Leaves. */                                                                                 \
	LOCK(13, LOCK_DRAIN, "fs.drain")                                                              \
	LOCK(13, LOCK_SWEEP, "sweep.lock")                                                            \
	LOCK(13, LOCK_FOREIGN, "foreign.lock")                                                        \
	LOCK(13, LOCK_REFUSALS, "refusals.lock")                                                      \
	LOCK(13, LOCK_TRAFFIC, "writeback.traffic")                                                   \
	LOCK(13, LOCK_QUEUE, "writeback.queue")                                                       \
	LOCK(13, LOCK_NOTIFIER, "notifier.lock")                                                      \
	LOCK(13, LOCK_NAMESPACES, "ns_table.lock")                                                    \
	LOCK(13, LOCK_POOL, "env.pool_lock")                                                          \
	LOCK(13, LOCK_IDS, "env.ids_lock")                                                            \
	LOCK(13, LOCK_VERIFIED, "verified.lock")                                                      \
	LOCK(13, LOCK_DAMAGED, "damaged.lock")                                                        \
	LOCK(13, LOCK_SPACE, "space.lock")                                                            \
	LOCK(13, LOCK_COMMITTER, "committer.lock")                                                    \
	LOCK(13, LOCK_CLIENT, "client.lock")                                                          \
	LOCK(13, LOCK_TRANSPORT, "transport.lock")                                                    \
	LOCK(13, LOCK_OTHER, "a lock of a test")                                                      \
	/* Whoever is about to wait says so (thread_waits), whatever it holds. */                     \
	LOCK(14, LOCK_LOOP, "loop.lock")                                                              \
	LOCK(14, LOCK_WAKEFUL, "wakeful.lock")

#define LOCK_NAME(rank, name, text) name,
enum lock_name { LOCK_ORDER(LOCK_NAME) LOCK_NAMES };
#undef LOCK_NAME

struct lock {
	pthread_mutex_t mutex;
#ifdef KVFS_CHECK_LOCKS
	enum lock_name name;
#endif
};

#ifdef KVFS_CHECK_LOCKS

#define LOCK_INITIALIZER(which)                                                                    \
	{                                                                                          \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .name = (which)                                \
	}

/* How a thread comes to hold something. */
enum lock_how {
	LOCK_ALONE,
	LOCK_SHARED,
	LOCK_AGAIN, /* shared, by who shares it already, so that it does not wait */
	LOCK_SHARED_AGAIN, /* shared; again, by who shares it already */
	LOCK_TRIED, /* without waiting */
};

/* Before it is waited for; when it is held. `it` tells it from others of its name. */
void lock_note_wanted(enum lock_name name, const void *it, enum lock_how how);
void lock_note_held(enum lock_name name, const void *it);
/* By the thread that holds it. A shared one that another thread is to leave is handed over: it counts as
 * left, and nobody is said to hold it. */
void lock_note_left(enum lock_name name, const void *it);
/* Whoever is about to wait for a condition of this lock holds no other. */
void lock_note_waits(enum lock_name name, const void *it);
void lock_note_none(const char *what, bool answer);
/* A thread that tells of waits that last (KVFS_WATCHDOG). */
void lock_watch(void);

#else

#define LOCK_INITIALIZER(which)                                                                    \
	{                                                                                          \
		.mutex = PTHREAD_MUTEX_INITIALIZER                                                 \
	}
#define lock_note_wanted(name, it, how) ((void)0)
#define lock_note_held(name, it) ((void)0)
#define lock_note_left(name, it) ((void)0)
#define lock_note_waits(name, it) ((void)0)
#define lock_note_none(what, answer) ((void)0)
#define lock_watch() ((void)0)

#endif

/* To be called where nothing may be held, or nothing but an answer; `what` is about to be waited for. */
#define lock_none_held(what) lock_note_none(what, false)
#define lock_none_but_answer(what) lock_note_none(what, true)

static inline void lock_init(struct lock *l, enum lock_name name)
{
	pthread_mutex_init(&l->mutex, NULL);
#ifdef KVFS_CHECK_LOCKS
	l->name = name;
#endif
}

static inline void lock_destroy(struct lock *l)
{
	pthread_mutex_destroy(&l->mutex);
}

static inline void lock_take(struct lock *l)
{
	lock_note_wanted(l->name, l, LOCK_ALONE);
	pthread_mutex_lock(&l->mutex);
	lock_note_held(l->name, l);
}

/* False: somebody has it. */
static inline bool lock_try(struct lock *l)
{
	if (pthread_mutex_trylock(&l->mutex))
		return false;
	lock_note_wanted(l->name, l, LOCK_TRIED);
	lock_note_held(l->name, l);
	return true;
}

static inline void lock_drop(struct lock *l)
{
	lock_note_left(l->name, l);
	pthread_mutex_unlock(&l->mutex);
}

/* pthread_cond_wait() and pthread_cond_timedwait(). The lock counts as held meanwhile, and no other may
 * be. */
static inline int lock_wait(struct lock *l, pthread_cond_t *cond)
{
	lock_note_waits(l->name, l);
	return pthread_cond_wait(cond, &l->mutex);
}

static inline int lock_wait_until(
	struct lock *l, pthread_cond_t *cond, const struct timespec *until)
{
	lock_note_waits(l->name, l);
	return pthread_cond_timedwait(cond, &l->mutex, until);
}

#endif
