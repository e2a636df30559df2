/*
 * nesting.c - a short list for each thread, one element for each store that it has used. An element
 * lives as long as its thread or what was begun there.
 */
#include "backends/lmdb/nesting.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct nesting {
	const void *store;
	struct nesting *next; /* the thread's */
	atomic_uint refs; /* the thread, and each thing it holds */
	atomic_uint depth[NESTING_COUNT];
};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static _Thread_local struct nesting *mine;

static void unref(struct nesting *n)
{
	if (atomic_fetch_sub(&n->refs, 1) == 1)
		free(n);
}

static void thread_ends(void *arg)
{
	struct nesting *n = arg;

	while (n) {
		struct nesting *next = n->next;

		unref(n);
		n = next;
	}
}

static void key_make(void)
{
	pthread_key_create(&key, thread_ends);
}

struct nesting *nesting_get(const void *store)
{
	struct nesting *n;

	for (n = mine; n; n = n->next) {
		if (n->store == store)
			return n;
	}
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->store = store;
	n->next = mine;
	atomic_store(&n->refs, 1);
	pthread_once(&key_once, key_make);
	if (pthread_setspecific(key, n)) {
		free(n);
		return NULL;
	}
	mine = n;
	return n;
}

bool nesting_in_changes(const struct nesting *n)
{
	return atomic_load(&n->depth[NESTING_VIEW]) > 0;
}

bool nesting_in_map(const struct nesting *n)
{
	return nesting_in_changes(n) || atomic_load(&n->depth[NESTING_VALUE]) > 0;
}

void nesting_enter(struct nesting *n, enum nesting_what what)
{
	atomic_fetch_add(&n->refs, 1);
	atomic_fetch_add(&n->depth[what], 1);
}

void nesting_leave(struct nesting *n, enum nesting_what what)
{
	atomic_fetch_sub(&n->depth[what], 1);
	unref(n);
}
