/*
 * lock.c - the checker of lock.h; nothing where KVFS_CHECK_LOCKS is not defined.
 *
 * Each thread has a short list of what it holds. Only the thread itself changes it; the watchdog reads
 * it, so its fields are atomic, and the lists of all threads are in a list of their own.
 */
#include "backends/base/lock.h"

#ifdef KVFS_CHECK_LOCKS

#include <execinfo.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/log.h"
#include "backends/base/thread.h"

enum { HELD_MAX = 32, FRAMES_MAX = 40, LINE = 512, NOTHING = -1 };

struct held {
	_Atomic int name;
	const void *it;
};

struct thread {
	struct thread *next;
	pid_t tid;
	_Atomic int wants; /* NOTHING: it waits for no lock */
	_Atomic int64_t since; /* when it began to, by the monotonic clock */
	_Atomic unsigned depth;
	struct held held[HELD_MAX];
};

#define LOCK_RANK(rank, name, text) rank,
static const int ranks[LOCK_NAMES] = {LOCK_ORDER(LOCK_RANK)};
#define LOCK_TEXT(rank, name, text) text,
static const char *const names[LOCK_NAMES] = {LOCK_ORDER(LOCK_TEXT)};

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static struct thread *threads; /* threads_lock */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static _Thread_local struct thread mine; /* tid 0: not in the list */

static void thread_ends(void *arg)
{
	struct thread *t = arg;

	pthread_mutex_lock(&threads_lock);
	for (struct thread **at = &threads; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	pthread_mutex_unlock(&threads_lock);
	t->tid = 0;
}

static void key_make(void)
{
	pthread_key_create(&key, thread_ends);
}

static struct thread *this_thread(void)
{
	struct thread *t = &mine;

	if (t->tid)
		return t;
	t->tid = gettid();
	atomic_store(&t->wants, NOTHING);
	pthread_once(&key_once, key_make);
	pthread_setspecific(key, t);
	pthread_mutex_lock(&threads_lock);
	t->next = threads;
	threads = t;
	pthread_mutex_unlock(&threads_lock);
	return t;
}

static void print_held(const struct thread *t, char *line, size_t cap)
{
	unsigned depth = atomic_load(&t->depth);
	size_t n = 0;

	snprintf(line, cap, "nothing");
	for (unsigned i = 0; i < depth && n < cap; i++)
		n += (size_t)snprintf(line + n, cap - n, "%s%s", i ? ", " : "",
			names[atomic_load(&t->held[i].name)]);
}

/* To the log, and to standard error, where the tests of units look. */
__attribute__((noreturn, format(printf, 2, 3))) static void violated(
	const struct thread *t, const char *fmt, ...)
{
	char what[LINE], held[LINE];
	void *frames[FRAMES_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	print_held(t, held, sizeof(held));
	log_error("lock order: %s; thread %d holds %s", what, t->tid, held);
	fprintf(stderr, "lock order: %s; thread %d holds %s\n", what, t->tid, held);
	int n = backtrace(frames, FRAMES_MAX);
	char **lines = backtrace_symbols(frames, n);
	for (int i = 0; lines && i < n; i++) {
		log_error("lock order: at %s", lines[i]);
		fprintf(stderr, "\tat %s\n", lines[i]);
	}
	abort();
}

static int64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void lock_note_wanted(enum lock_name name, const void *it, enum lock_how how)
{
	struct thread *t = this_thread();
	unsigned depth = atomic_load_explicit(&t->depth, memory_order_relaxed);

	if (how == LOCK_AGAIN || how == LOCK_TRIED)
		return;
	for (unsigned i = 0; i < depth; i++) {
		int held = atomic_load_explicit(&t->held[i].name, memory_order_relaxed);

		if (held == (int)name && how == LOCK_SHARED_AGAIN)
			return;
		if (t->held[i].it == it)
			violated(t, "%s is taken by who holds it", names[name]);
		if (ranks[held] >= ranks[name])
			violated(t, "%s is taken by who holds %s", names[name], names[held]);
	}
	atomic_store_explicit(&t->since, monotonic(), memory_order_relaxed);
	atomic_store_explicit(&t->wants, (int)name, memory_order_relaxed);
}

void lock_note_held(enum lock_name name, const void *it)
{
	struct thread *t = this_thread();
	unsigned depth = atomic_load_explicit(&t->depth, memory_order_relaxed);

	atomic_store_explicit(&t->wants, NOTHING, memory_order_relaxed);
	if (depth == HELD_MAX)
		violated(t, "%s is one lock too many", names[name]);
	atomic_store_explicit(&t->held[depth].name, (int)name, memory_order_relaxed);
	t->held[depth].it = it;
	atomic_store_explicit(&t->depth, depth + 1, memory_order_relaxed);
}

void lock_note_left(enum lock_name name, const void *it)
{
	struct thread *t = this_thread();
	unsigned depth = atomic_load_explicit(&t->depth, memory_order_relaxed);
	unsigned i = depth;

	while (i > 0 && t->held[i - 1].it != it)
		i--;
	if (i == 0)
		violated(t, "%s is left by who does not hold it", names[name]);
	for (; i < depth; i++) {
		int next = atomic_load_explicit(&t->held[i].name, memory_order_relaxed);

		atomic_store_explicit(&t->held[i - 1].name, next, memory_order_relaxed);
		t->held[i - 1].it = t->held[i].it;
	}
	atomic_store_explicit(&t->depth, depth - 1, memory_order_relaxed);
}

void lock_note_waits(enum lock_name name, const void *it)
{
	struct thread *t = this_thread();
	unsigned depth = atomic_load_explicit(&t->depth, memory_order_relaxed);
	bool inner = name == LOCK_COMMITTER || name == LOCK_CLIENT;

	for (unsigned i = 0; i < depth; i++) {
		int held = atomic_load_explicit(&t->held[i].name, memory_order_relaxed);

		if (t->held[i].it == it || (inner && held <= LOCK_CHANGE))
			continue;
		violated(t, "a condition of %s is waited for by who holds %s", names[name],
			names[held]);
	}
}

void lock_note_none(const char *what, bool answer)
{
	struct thread *t = this_thread();
	unsigned depth = atomic_load_explicit(&t->depth, memory_order_relaxed);

	for (unsigned i = 0; i < depth; i++) {
		int held = atomic_load_explicit(&t->held[i].name, memory_order_relaxed);

		if (!answer || held != LOCK_ANSWERS)
			violated(t, "%s is waited for by who holds %s", what, names[held]);
	}
}

/* --- the watchdog ------------------------------------------------------------------------------- */

static void tell_all(int64_t now)
{
	char held[LINE];

	for (struct thread *t = threads; t; t = t->next) {
		int wants = atomic_load(&t->wants);

		print_held(t, held, sizeof(held));
		if (wants != NOTHING)
			log_error("lock watchdog: thread %d waits for %s since %lld s, holds %s",
				t->tid, names[wants],
				(long long)((now - atomic_load(&t->since)) / 1000000000), held);
		else if (atomic_load(&t->depth))
			log_error("lock watchdog: thread %d holds %s", t->tid, held);
	}
}

static void *watch_main(void *arg)
{
	int64_t limit = (intptr_t)arg * INT64_C(1000000000), told = 0;

	for (;;) {
		sleep(1);
		int64_t now = monotonic();
		bool late = false;

		pthread_mutex_lock(&threads_lock);
		for (struct thread *t = threads; t; t = t->next)
			late = late ||
				(atomic_load(&t->wants) != NOTHING &&
					now - atomic_load(&t->since) > limit);
		if (late && now - told > limit) {
			tell_all(now);
			told = now;
		}
		pthread_mutex_unlock(&threads_lock);
	}
	return NULL;
}

void lock_watch(void)
{
	const char *text = getenv("KVFS_WATCHDOG");
	int seconds = text ? atoi(text) : 0;
	pthread_t thread;

	if (seconds > 0 && !thread_start(&thread, watch_main, (void *)(intptr_t)seconds))
		pthread_detach(thread);
}

#endif
