/*
 * gate.c - the state is a count and a flag in one word, so that entering and leaving are one atomic
 * operation each; everything else happens under `lock`.
 */
#include "backends/lmdb/gate.h"

static const uint64_t GATE_CLOSED = UINT64_C(1) << 63;

void gate_init(struct gate *g, enum lock_name name)
{
	g->name = name;
	atomic_init(&g->state, 0);
	pthread_mutex_init(&g->alone, NULL);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->opened, NULL);
	pthread_cond_init(&g->empty, NULL);
	g->waiting = g->phase = 0;
}

void gate_destroy(struct gate *g)
{
	pthread_cond_destroy(&g->empty);
	pthread_cond_destroy(&g->opened);
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->alone);
}

/* Takes one off the count; the last one to leave a closed gate lets the closer go on. */
static void count_down(struct gate *g)
{
	if (atomic_fetch_sub(&g->state, 1) - 1 == GATE_CLOSED) {
		pthread_mutex_lock(&g->lock);
		pthread_cond_signal(&g->empty);
		pthread_mutex_unlock(&g->lock);
	}
}

static void enter(struct gate *g, bool nested)
{
	if (!(atomic_fetch_add(&g->state, 1) & GATE_CLOSED) || nested)
		return;
	count_down(g);
	pthread_mutex_lock(&g->lock);
	if (!(atomic_load(&g->state) & GATE_CLOSED)) {
		/* It has been opened in between, and cannot be closed again while we hold the lock.
		 */
		atomic_fetch_add(&g->state, 1);
	} else {
		uint64_t phase = g->phase;

		/* Whoever opens the gate counts us in. */
		g->waiting++;
		while (phase == g->phase)
			pthread_cond_wait(&g->opened, &g->lock);
	}
	pthread_mutex_unlock(&g->lock);
}

void gate_enter(struct gate *g, bool nested)
{
	lock_note_wanted(g->name, g, nested ? LOCK_AGAIN : LOCK_SHARED);
	enter(g, nested);
	lock_note_held(g->name, g);
}

void gate_leave(struct gate *g)
{
	lock_note_left(g->name, g);
	count_down(g);
}

void gate_hand_over(struct gate *g)
{
	lock_note_left(g->name, g);
}

void gate_leave_handed(struct gate *g)
{
	count_down(g);
}

void gate_close(struct gate *g)
{
	lock_note_wanted(g->name, g, LOCK_ALONE);
	pthread_mutex_lock(&g->alone);
	pthread_mutex_lock(&g->lock);
	atomic_fetch_or(&g->state, GATE_CLOSED);
	while (atomic_load(&g->state) != GATE_CLOSED)
		pthread_cond_wait(&g->empty, &g->lock);
	pthread_mutex_unlock(&g->lock);
	lock_note_held(g->name, g);
}

void gate_open(struct gate *g)
{
	lock_note_left(g->name, g);
	pthread_mutex_lock(&g->lock);
	atomic_fetch_add(&g->state, g->waiting - GATE_CLOSED);
	g->waiting = 0;
	g->phase++;
	pthread_cond_broadcast(&g->opened);
	pthread_mutex_unlock(&g->lock);
	pthread_mutex_unlock(&g->alone);
}
