/*
 * gate.h - a lock that many share or one has alone, for sides that no thread owns.
 *
 * Unlike a pthread_rwlock_t, the shared side may be left by another thread than entered it (views
 * and values are handed from thread to thread). It is fair by phases: a thread that waits to be
 * alone keeps new ones out, and when it is done everyone who waited meanwhile passes before the
 * next one can be alone. Sharing costs one atomic addition while nobody wants to be alone.
 *
 * Entering twice deadlocks when someone comes to wait in between, unless the second time is
 * `nested`: the caller knows that what it entered before will not be left until it has left this.
 */
#ifndef KVFS_LMDB_GATE_H
#define KVFS_LMDB_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/base/lock.h"

struct gate {
	_Atomic uint64_t state; /* how many share it, and GATE_CLOSED */
	pthread_mutex_t alone; /* held by the one who is, or waits to be, alone */
	pthread_mutex_t lock; /* the rest */
	pthread_cond_t opened, empty;
	uint64_t waiting, phase;
	enum lock_name name;
};

void gate_init(struct gate *g, enum lock_name name);
void gate_destroy(struct gate *g);

void gate_enter(struct gate *g, bool nested);
void gate_leave(struct gate *g);

/* For a shared side that any thread may leave: whoever entered it hands it over at once. */
void gate_hand_over(struct gate *g);
void gate_leave_handed(struct gate *g);

/* From close to open (by the same thread) the caller is alone. */
void gate_close(struct gate *g);
void gate_open(struct gate *g);

#endif
