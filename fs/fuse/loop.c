/*
 * loop.c - see loop.h.
 *
 * A worker is active while it reads or answers, parked while it is not needed, and neither while its
 * request waits: then its place is given to another. `active` is at most `target`, and never 0 while
 * requests may come. A worker says in `state` what it is about; RUNNING becomes LATE by whoever gives
 * its place away.
 */
#include "fs/fuse/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/base/lock.h"
#include "backends/base/log.h"
#include "backends/base/thread.h"
#include "fs/fuse/pace.h"
#include "fs/fuse/wakeful.h"

enum {
	WORKERS_MAX = 32,
	TICK_MS = 2, /* a request that takes longer than one or two of these gives its place away */
	PRESSED_LEAST = 4, /* reasons for one more worker in a tick */
	QUIET_TICKS = 20, /* without them one fewer will do */
	CROWD_TICKS = 32, /* after so many the watch looks whether processors are fought for */
	CROWD_LOOKS = 3, /* in a row that must have found it so */
	CROWD_EACH = 3, /* threads that would run, for each processor */
	CROWD_WORKERS = 4, /* one alone would get one thread's share of the time */
	IDLE_TICKS = 50, /* without requests the watch goes to sleep */
	PUSHED_NS = 20 * 1000, /* away from this processor: others need it */
	CROWDED_LEAST_MS = 50, /* so long it is left to them */
	CROWDED_MOST_MS = 3200, /* when that happens again and again */
	SLOW_NS = 100 * 1000, /* such a request has waited for something */
	QUEUED_LONG = 64, /* requests in a row, each there before the last was answered */
};

enum state { READING, RUNNING, LATE };

struct worker {
	struct loop *loop;
	pthread_t thread;
	struct fuse_buf buf;
	_Atomic int state;
	_Atomic unsigned turn; /* counts requests */
	unsigned turn_seen; /* by the watch, on its last tick */
	struct pace pace;
	int64_t answered, took; /* the last request: when, how long; 0: others may have since */
	unsigned queued; /* in a row */
	int64_t crowded_until; /* no looking out */
	unsigned crowded_ms; /* how long it was the last time */
};

struct loop {
	struct fuse_session *se;
	bool eager; /* may spend time on looking out */
	int busy_max; /* workers without one that waits */
	int cores;
	struct wakeful wakeful;
	struct lock lock;
	pthread_cond_t unparked, changed;
	_Atomic int active, target; /* changed with the lock only */
	int parked;
	int calls; /* places given to parked workers, not taken yet */
	int workers, left; /* started, ended */
	int error;
	bool stopping;
	unsigned ticks, crowded; /* the watch's */
	_Atomic bool watching; /* false: the watch sleeps until somebody works */
	_Atomic unsigned pressed; /* reasons for more workers, since the last look */
	struct worker worker[WORKERS_MAX];
};

static _Thread_local struct worker *me;

static void *worker_main(void *arg);

/* Whatever a test makes of the time of day. */
static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return clock_ns(t);
}

/* --- places -------------------------------------------------------------------------------------
 */

/* Gives free places to parked or new workers. The caller holds the lock. */
static void fill_places(struct loop *l)
{
	while (!l->stopping && l->active < l->target) {
		if (l->parked > l->calls) {
			l->calls++;
			pthread_cond_signal(&l->unparked);
		} else {
			struct worker *w = &l->worker[l->workers];

			if (l->workers == WORKERS_MAX)
				return;
			w->loop = l;
			if (pthread_create(&w->thread, NULL, worker_main, w))
				return; /* those that are there go on, and the watch tries again */
			l->workers++;
		}
		l->active++;
	}
}

/* Waits for a place. False: it is over. */
static bool take_place(struct loop *l)
{
	lock_take(&l->lock);
	if (l->active < l->target) {
		l->active++;
	} else {
		l->parked++;
		while (!l->calls && !l->stopping)
			lock_wait(&l->lock, &l->unparked);
		l->parked--;
		if (l->calls)
			l->calls--;
	}
	bool go = !l->stopping;
	lock_drop(&l->lock);
	return go;
}

/* The place of a worker that waits goes to another. False: it has been given away already, or the request
 * is answered. */
static bool give_place(struct worker *w)
{
	struct loop *l = w->loop;
	int running = RUNNING;

	if (!atomic_compare_exchange_strong(&w->state, &running, LATE))
		return false;
	lock_take(&l->lock);
	l->active--;
	fill_places(l);
	lock_drop(&l->lock);
	return true;
}

/* One fewer is wanted: whoever has answered goes. */
static bool is_one_too_many(struct loop *l)
{
	bool many = false;

	if (l->active > l->target) { /* a look without the lock: it need not be now */
		lock_take(&l->lock);
		many = l->active > l->target;
		l->active -= many;
		lock_drop(&l->lock);
	}
	return many;
}

/* Told by whoever is about to wait, in whichever thread. */
static void on_wait(void)
{
	if (me)
		give_place(me);
}

/* --- a worker -----------------------------------------------------------------------------------
 */

/* Whether a request is there within `ms`, or the mount is at its end. */
static bool is_there(struct loop *l, int ms)
{
	struct pollfd p = {.fd = fuse_session_fd(l->se), .events = POLLIN};

	return poll(&p, 1, ms) != 0;
}

/* Others need the processor. Who sleeps in the kernel is given it back sooner than who looks out. */
static void note_crowd(struct worker *w, int64_t now)
{
	unsigned ms = 2 * w->crowded_ms;

	w->crowded_ms = ms < CROWDED_LEAST_MS ? CROWDED_LEAST_MS
		: ms > CROWDED_MOST_MS        ? CROWDED_MOST_MS
					      : ms;
	w->crowded_until = now + (int64_t)w->crowded_ms * (CLOCK_SECOND / 1000);
}

/* Looks out for the next request. Whether it came, before others needed the processor. */
static bool look_out(struct worker *w)
{
	int64_t began = now_ns(), now = began, last;
	bool there;

	if (began < w->crowded_until)
		return false;
	do {
		sched_yield();
		there = is_there(w->loop, 0);
		last = now;
		now = now_ns();
	} while (!there && now - began < PACE_LOOK_OUT_NS && now - last < PUSHED_NS);
	if (now - last >= PUSHED_NS)
		note_crowd(w, now);
	else if (there)
		w->crowded_ms -= w->crowded_ms / 32;
	return there;
}

/* Whether a request is there within PACE_LINGER_US. */
static bool linger(struct loop *l)
{
	struct pollfd p = {.fd = fuse_session_fd(l->se), .events = POLLIN};
	struct timespec limit = {.tv_nsec = PACE_LINGER_US * 1000};

	return ppoll(&p, 1, &limit, NULL) != 0;
}

/* Whether a request is there already, and with it, whether more workers would have something to do.
 * Looks only where that may matter: a look costs as much as a twentieth of a request. */
static bool is_queued(struct worker *w)
{
	struct loop *l = w->loop;
	bool slow = w->took > SLOW_NS;

	if (!slow && !((l->eager || l->busy_max > 1) && pace_looks_out(&w->pace)))
		return false;
	w->queued = is_there(l, 0) ? w->queued + 1 : 0;
	if (w->queued && (slow || (w->queued >= QUEUED_LONG && l->target < l->busy_max)))
		atomic_fetch_add(&l->pressed, 1);
	return w->queued > 0;
}

/* Before it reads: what is there is read at once, and what is to come soon is looked out for. */
static void await(struct worker *w)
{
	struct loop *l = w->loop;

	if (is_queued(w) || !l->eager || l->active > 1)
		return;
	if (pace_looks_out(&w->pace) && look_out(w))
		return;
	if (wakeful_held(&l->wakeful) && !linger(l))
		wakeful_release(&l->wakeful);
}

/* A request has come. */
static void note_pace(struct worker *w, int64_t now)
{
	struct loop *l = w->loop;

	if (w->answered)
		pace_note(&w->pace, now - w->answered);
	if (pace_is_stream(&w->pace) && l->eager)
		wakeful_hold(&l->wakeful);
}

static void answer(struct worker *w)
{
	struct loop *l = w->loop;

	atomic_store(&w->state, RUNNING);
	atomic_fetch_add(&w->turn, 1);
	if (!atomic_load(&l->watching)) {
		lock_take(&l->lock);
		atomic_store(&l->watching, true);
		pthread_cond_signal(&l->changed);
		lock_drop(&l->lock);
	}
	fuse_session_process_buf(l->se, &w->buf);
}

/* One request. False: the worker's end. */
static bool serve_one(struct worker *w)
{
	struct loop *l = w->loop;
	int running = RUNNING;

	await(w);
	int rc = fuse_session_receive_buf(l->se, &w->buf);
	if (rc == -EINTR || rc == -EAGAIN)
		return true;
	if (rc <= 0) {
		lock_take(&l->lock);
		if (rc < 0)
			l->error = rc;
		lock_drop(&l->lock);
		return false;
	}
	int64_t began = now_ns();
	note_pace(w, began);
	answer(w);
	w->answered = now_ns();
	w->took = w->answered - began;
	if (!atomic_compare_exchange_strong(&w->state, &running, READING)) {
		atomic_store(&w->state, READING);
		w->answered = w->took = w->queued = 0;
		return take_place(l);
	}
	return !is_one_too_many(l) || take_place(l);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->loop;

	me = w;
	while (!fuse_session_exited(l->se) && serve_one(w))
		;
	fuse_session_exit(l->se);
	free(w->buf.mem);
	lock_take(&l->lock);
	l->left++;
	l->stopping = true;
	pthread_cond_broadcast(&l->unparked);
	pthread_cond_signal(&l->changed);
	lock_drop(&l->lock);
	return NULL;
}

/* --- the watch ----------------------------------------------------------------------------------
 */

/* Gives away the places of those who work at the same request as on the last tick. Whether nobody has
 * worked since. */
static bool look_after(struct loop *l, int workers)
{
	bool idle = true;

	for (int i = 0; i < workers; i++) {
		struct worker *w = &l->worker[i];
		unsigned turn = atomic_load(&w->turn);
		int state = atomic_load(&w->state);

		if (turn != w->turn_seen)
			idle = false;
		else if (state == RUNNING)
			give_place(w);
		w->turn_seen = turn;
		idle &= state != RUNNING;
	}
	return idle;
}

static void set_target(struct loop *l, int target)
{
	lock_take(&l->lock);
	l->target = target;
	log_debug("%d threads take requests", target);
	fill_places(l);
	lock_drop(&l->lock);
}

/* The caller holds the lock. */
static void sleep_tick(struct loop *l)
{
	struct timespec until = clock_timespec(now_ns() + TICK_MS * CLOCK_SECOND / 1000);

	lock_wait_until(&l->lock, &l->changed, &until);
}

static bool is_crowded(const struct loop *l)
{
	int running = 0;
	FILE *f = fopen("/proc/loadavg", "re");

	if (!f)
		return false;
	bool said = fscanf(f, "%*s %*s %*s %d/", &running) == 1;
	fclose(f);
	return said && running > CROWD_EACH * l->cores;
}

static void adapt(struct loop *l, unsigned *quiet)
{
	bool pressed = atomic_exchange(&l->pressed, 0) >= PRESSED_LEAST;

	if (++l->ticks % CROWD_TICKS == 0)
		l->crowded = is_crowded(l) ? l->crowded + 1 : 0;
	if (l->crowded >= CROWD_LOOKS) {
		*quiet = 0;
		pressed |= l->target < CROWD_WORKERS;
	}
	*quiet = pressed ? 0 : *quiet + 1;
	if (pressed && l->target < WORKERS_MAX / 2)
		set_target(l, l->target + 1);
	else if (*quiet >= QUIET_TICKS && l->target > 1)
		set_target(l, l->target - 1);
}

/* The watch is to sleep from now on. False: somebody works, and may have seen that we watch. */
static bool rest(struct loop *l, int workers)
{
	atomic_store(&l->watching, false);
	if (look_after(l, workers))
		return true;
	atomic_store(&l->watching, true);
	return false;
}

static void watch(struct loop *l)
{
	unsigned quiet = 0, idle = 0;

	lock_take(&l->lock);
	while (!l->stopping) {
		if (atomic_load(&l->watching))
			sleep_tick(l);
		else
			lock_wait(&l->lock, &l->changed);
		/* No thread could be made for it, and those that wait may wait for requests. */
		bool vacant = l->active < l->target;
		if (vacant)
			fill_places(l);
		int workers = l->workers;
		lock_drop(&l->lock);
		idle = look_after(l, workers) && !vacant ? idle + 1 : 0;
		adapt(l, &quiet);
		if (idle)
			wakeful_release(&l->wakeful);
		if (idle >= IDLE_TICKS && rest(l, workers))
			idle = 0;
		lock_take(&l->lock);
	}
	lock_drop(&l->lock);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int cores_of_ours(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

struct loop *loop_new(struct fuse_session *se, bool eager)
{
	int cores = cores_of_ours();
	struct loop *l = calloc(1, sizeof(*l));
	pthread_condattr_t monotonic;

	if (!l)
		return NULL;
	l->se = se;
	l->eager = eager && cores > 1;
	l->busy_max = cores / 2;
	l->cores = cores;
	l->target = 1;
	lock_init(&l->lock, LOCK_LOOP);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &monotonic);
	pthread_cond_init(&l->unparked, NULL);
	pthread_condattr_destroy(&monotonic);
	wakeful_init(&l->wakeful, "/dev", "/sys", l->eager ? sysconf(_SC_NPROCESSORS_ONLN) : 0);
	return l;
}

void loop_free(struct loop *l)
{
	wakeful_destroy(&l->wakeful);
	lock_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	pthread_cond_destroy(&l->unparked);
	free(l);
}

/* A signal that comes before a worker sleeps in the kernel is lost, so there are more until all have
 * gone. Those who answer a request are left to it. */
static void end_workers(struct loop *l)
{
	lock_take(&l->lock);
	while (l->left < l->workers) {
		for (int i = 0; i < l->workers; i++) {
			if (atomic_load(&l->worker[i].state) == READING)
				pthread_kill(l->worker[i].thread, SIGUSR1);
		}
		pthread_cond_broadcast(&l->unparked);
		sleep_tick(l);
	}
	lock_drop(&l->lock);
	for (int i = 0; i < l->workers; i++)
		pthread_join(l->worker[i].thread, NULL);
}

int loop_run(struct loop *l)
{
	thread_on_wait(on_wait);
	lock_take(&l->lock);
	fill_places(l);
	bool begun = l->workers > 0 || l->stopping; /* it may have been stopped before it began */
	lock_drop(&l->lock);
	if (!begun)
		return -EAGAIN;
	watch(l);
	fuse_session_exit(l->se);
	end_workers(l);
	return l->error;
}

void loop_stop(struct loop *l)
{
	fuse_session_exit(l->se);
	lock_take(&l->lock);
	l->stopping = true;
	pthread_cond_signal(&l->changed);
	lock_drop(&l->lock);
}
