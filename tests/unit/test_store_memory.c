/*
 * test_store_memory.c - the store suite on the memory store.
 */
#include "backends/memory/memory.h"
#include "tests/unit/store_suite.h"

static int fixture_open(struct store_fixture *f, struct store **out)
{
	return memory_store_open(out);
}

static int fixture_close(struct store_fixture *f, struct store *st)
{
	return st->ops->close(st);
}

int main(void)
{
	struct store_fixture fixture = {
		.name = "memory store",
		.open = fixture_open,
		.close = fixture_close,
	};

	return store_suite_run(&fixture);
}
