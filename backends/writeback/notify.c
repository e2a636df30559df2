/*
 * notify.c - what the remote store's answers changed here, told to the filesystem's watcher.
 *
 * Changes gather while the watcher works; it is told of all that have gathered at once.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/thread.h"
#include "backends/writeback/internal.h"

/* A key that has changed. */
struct changed {
	bool gone;
	uint32_t ns;
	uint16_t len;
	unsigned char bytes[STORE_KEY_MAX];
};

struct changes {
	struct changed *list;
	size_t n, cap;
	bool lost; /* there was no memory for some: everything counts as changed */
};

struct notifier {
	pthread_t thread;
	struct lock lock;
	pthread_cond_t wake;
	/* All below: lock. */
	bool stop, calling;
	store_watcher fn;
	void *arg;
	struct changes gathering;
};

struct foreign_change {
	const struct changes *changes; /* sorted */
};

static int compare(const void *a, const void *b)
{
	const struct changed *x = a, *y = b;
	size_t both = x->len < y->len ? x->len : y->len;

	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	int order = memcmp(x->bytes, y->bytes, both);
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

void wb_changed(struct writeback *wb, const struct entry_id *id, bool gone)
{
	struct notifier *t = wb->notifier;
	struct changes *c = &t->gathering;

	lock_take(&t->lock);
	if (!t->fn)
		goto out;
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 64;
		struct changed *list = realloc(c->list, cap * sizeof(*list));

		if (!list) {
			c->lost = true;
			goto wake;
		}
		c->list = list;
		c->cap = cap;
	}
	struct changed *new = &c->list[c->n++];
	new->gone = gone;
	new->ns = id->ns;
	new->len = id->len;
	memcpy(new->bytes, id->bytes, id->len);
wake:
	pthread_cond_broadcast(&t->wake);
out:
	lock_drop(&t->lock);
}

static void *notify_main(void *arg)
{
	struct notifier *t = arg;

	lock_take(&t->lock);
	while (!t->stop) {
		if (!t->fn || (!t->gathering.n && !t->gathering.lost)) {
			lock_wait(&t->lock, &t->wake);
			continue;
		}
		struct changes now = t->gathering;
		struct foreign_change what = {&now};
		store_watcher fn = t->fn;
		void *fn_arg = t->arg;

		t->gathering = (struct changes){0};
		t->calling = true;
		lock_drop(&t->lock);
		if (now.n)
			qsort(now.list, now.n, sizeof(now.list[0]), compare);
		fn(fn_arg, &what);
		free(now.list);
		lock_take(&t->lock);
		t->calling = false;
		pthread_cond_broadcast(&t->wake);
	}
	lock_drop(&t->lock);
	return NULL;
}

enum foreign_verdict wb_foreign_compare(struct foreign_change *what, const struct entry_id *id)
{
	const struct changes *c = what->changes;
	struct changed key = {.ns = id->ns, .len = id->len};
	const struct changed *found;

	if (id->kind != ENTRY_KEY)
		return FOREIGN_SAME;
	memcpy(key.bytes, id->bytes, id->len);
	found = c->n ? bsearch(&key, c->list, c->n, sizeof(c->list[0]), compare) : NULL;
	if (!found)
		return c->lost ? FOREIGN_CHANGED : FOREIGN_SAME;
	return found->gone ? FOREIGN_GONE : FOREIGN_CHANGED;
}

int wb_foreign_old_value(struct foreign_change *what, const struct entry_id *id, struct blob **out)
{
	return -ENOENT; /* whoever has the key open has its content */
}

void wb_watch(struct store *base, store_watcher fn, void *arg)
{
	struct notifier *t = writeback(base)->notifier;

	if (fn) /* the filesystem has begun: it knows what is open */
		wb_upload_start(writeback(base));
	else /* it ends, which must not wait for uploads */
		wb_waiting_end(writeback(base), true);
	lock_take(&t->lock);
	t->fn = fn;
	t->arg = arg;
	while (t->calling && !pthread_equal(pthread_self(), t->thread))
		lock_wait(&t->lock, &t->wake);
	pthread_cond_broadcast(&t->wake);
	lock_drop(&t->lock);
}

int wb_notify_start(struct writeback *wb)
{
	struct notifier *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	lock_init(&t->lock, LOCK_NOTIFIER);
	pthread_cond_init(&t->wake, NULL);
	int rc = thread_start(&t->thread, notify_main, t);
	if (rc) {
		lock_destroy(&t->lock);
		pthread_cond_destroy(&t->wake);
		free(t);
		return rc;
	}
	wb->notifier = t;
	return 0;
}

void wb_notify_stop(struct writeback *wb)
{
	struct notifier *t = wb->notifier;

	if (!t)
		return;
	lock_take(&t->lock);
	t->stop = true;
	pthread_cond_broadcast(&t->wake);
	lock_drop(&t->lock);
	pthread_join(t->thread, NULL);
	lock_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t->gathering.list);
	free(t);
	wb->notifier = NULL;
}
