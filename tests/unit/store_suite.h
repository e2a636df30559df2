/*
 * store_suite.h - what every store must do: each sentence of backends/store.h as a test.
 *
 * One suite, run over any store. A test program describes how its store is opened and closed, and
 * calls store_suite_run().
 */
#ifndef KVFS_STORE_SUITE_H
#define KVFS_STORE_SUITE_H

#include "backends/store.h"

struct store_fixture {
	const char *name;
	const char *reserved; /* a namespace's name that the store reserves; NULL: there is none */
	void *arg; /* the fixture's own */
	const char *const *skipped; /* names of tests that do not apply, NULL at the end; or NULL */

	/* A new, empty store. 0 or -errno. */
	int (*open)(struct store_fixture *f, struct store **out);

	/* Closes the store and opens what it left. NULL: the store keeps nothing. */
	int (*reopen)(struct store_fixture *f, struct store **st);

	/* Closes the store and removes what it left. What the store's close returned. */
	int (*close)(struct store_fixture *f, struct store *st);
};

/* The number of tests that failed. */
int store_suite_run(struct store_fixture *f);

#endif
