/*
 * namespaces.c - remote namespaces by their titles, and the local namespaces that belong to each.
 *
 * The titles are remembered in memory, and asked for again when they are older than max_age. What
 * is cached of a namespace is under its id, so it survives a change of its title.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "backends/writeback/internal.h"

static int local_ns(struct writeback *wb, const char *id, const char *what, uint32_t *number)
{
	struct store *local = wb->local;
	char name[REMOTE_ID_MAX + 16];
	int len = snprintf(name, sizeof(name), "%s%s", id, what);
	int rc = local->ops->ns_find(local, name, (size_t)len, number);

	return rc == -ENOENT ? local->ops->ns_create(local, name, (size_t)len, NULL, number) : rc;
}

/* Makes a remote namespace known. Under `book`. */
static int add(struct writeback *wb, const char *id, struct wb_ns **out)
{
	struct wb_ns *ns = calloc(1, sizeof(*ns));
	struct wb_ns **list =
		realloc(wb->namespaces, (wb->namespaces_n + 1) * sizeof(wb->namespaces[0]));

	if (list)
		wb->namespaces = list;
	if (!ns || !list) {
		free(ns);
		return -ENOMEM;
	}
	snprintf(ns->id, sizeof(ns->id), "%s", id);
	int rc = local_ns(wb, id, "", &ns->keys);
	if (!rc)
		rc = local_ns(wb, id, ":journal", &ns->journal);
	if (!rc)
		rc = local_ns(wb, id, ":listed", &ns->listed);
	if (!rc)
		rc = local_ns(wb, id, ":absent", &ns->absent);
	if (!rc && ns->keys >= WB_NUMBERS_MAX)
		rc = -ENFILE;
	if (!rc)
		rc = wb_count_journal(wb, ns);
	if (rc) {
		free(ns);
		return rc;
	}
	wb->namespaces[wb->namespaces_n++] = ns;
	atomic_store(&wb->by_number[ns->keys], ns);
	*out = ns;
	return 0;
}

static struct wb_ns *by_id(struct writeback *wb, const char *id)
{
	for (size_t i = 0; i < wb->namespaces_n; i++) {
		if (strcmp(wb->namespaces[i]->id, id) == 0)
			return wb->namespaces[i];
	}
	return NULL;
}

static struct wb_ns *by_title(struct writeback *wb, const void *title, size_t len)
{
	for (size_t i = 0; i < wb->namespaces_n; i++) {
		struct wb_ns *ns = wb->namespaces[i];

		if (ns->title && ns->title_len == len && memcmp(ns->title, title, len) == 0)
			return ns;
	}
	return NULL;
}

static int set_title(struct wb_ns *ns, const void *title, size_t len)
{
	unsigned char *copy = malloc(len ? len : 1);

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, title, len);
	free(ns->title);
	ns->title = copy;
	ns->title_len = len;
	return 0;
}

/* Under `book`. */
static int take_list(struct writeback *wb, const struct remote_ns *list, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < wb->namespaces_n; i++) {
		free(wb->namespaces[i]->title);
		wb->namespaces[i]->title = NULL;
	}
	for (size_t i = 0; i < n && !rc; i++) {
		struct wb_ns *ns = by_id(wb, list[i].id);

		if (by_title(wb, list[i].title, list[i].title_len)) {
			log_warning("namespace %s has the title of another one: mount it by its id",
				list[i].id);
			continue;
		}
		if (!ns)
			rc = add(wb, list[i].id, &ns);
		if (!rc)
			rc = set_title(ns, list[i].title, list[i].title_len);
	}
	if (!rc)
		wb->titles_read = clock_now();
	return rc;
}

int wb_namespaces_refresh(struct writeback *wb)
{
	struct remote_ns *list;
	int64_t now = clock_now();
	size_t n;

	lock_take(&wb->book);
	bool old = wb->titles_read > now || now - wb->titles_read >= wb->opt.max_age;
	bool any = wb->titles_read != 0;
	lock_drop(&wb->book);
	if (wb->one || !old)
		return 0;
	int rc = wb->remote->ops->namespaces(wb->remote, &list, &n);
	wb_note_answer(wb, rc);
	if (rc)
		return any ? 0 : rc;
	lock_take(&wb->book);
	rc = take_list(wb, list, n);
	lock_drop(&wb->book);
	free(list);
	return rc;
}

int wb_namespaces_open(
	struct writeback *wb, const char *only, uint32_t *number, char *why, size_t cap)
{
	struct wb_ns *ns;
	int rc;

	wb->by_number = calloc(WB_NUMBERS_MAX, sizeof(wb->by_number[0]));
	if (!wb->by_number)
		return -ENOMEM;
	wb->one = only || wb->opt.fixed_n;
	if (wb->opt.fixed_n) {
		lock_take(&wb->book);
		rc = take_list(wb, wb->opt.fixed, wb->opt.fixed_n);
		lock_drop(&wb->book);
		wb->opt.fixed = NULL;
		return rc;
	}
	if (!only) {
		rc = wb_namespaces_refresh(wb);
		if (rc)
			snprintf(why, cap, "its namespaces cannot be listed: %s",
				journal_reason(rc));
		return rc;
	}
	lock_take(&wb->book);
	rc = add(wb, only, &ns);
	if (!rc && wb->opt.title_len)
		rc = set_title(ns, wb->opt.title, wb->opt.title_len);
	else if (!rc)
		rc = set_title(ns, only, strlen(only));
	wb->opt.title = NULL;
	if (!rc)
		*number = ns->keys;
	lock_drop(&wb->book);
	return rc;
}

void wb_namespaces_free(struct writeback *wb)
{
	for (size_t i = 0; i < wb->namespaces_n; i++) {
		wb_fetch_free(wb->namespaces[i]);
		free(wb->namespaces[i]->title);
		free(wb->namespaces[i]);
	}
	free(wb->namespaces);
	free((void *)(uintptr_t)wb->by_number);
}

size_t wb_namespaces_count(struct writeback *wb)
{
	lock_take(&wb->book);
	size_t n = wb->namespaces_n;
	lock_drop(&wb->book);
	return n;
}

struct wb_ns *wb_namespace_at(struct writeback *wb, size_t i)
{
	lock_take(&wb->book);
	struct wb_ns *ns = wb->namespaces[i];
	lock_drop(&wb->book);
	return ns;
}

int wb_ns_find(struct store *base, const void *name, size_t len, uint32_t *number)
{
	struct writeback *wb = writeback(base);

	lock_take(&wb->book);
	struct wb_ns *ns = by_title(wb, name, len);
	if (ns)
		*number = ns->keys;
	lock_drop(&wb->book);
	return ns ? 0 : -ENOENT;
}

static int order(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t both = a_len < b_len ? a_len : b_len;
	int rc = both ? memcmp(a, b, both) : 0;

	return rc ? rc : (a_len > b_len) - (a_len < b_len);
}

int wb_ns_next(struct store *base, const void *after, size_t after_len, void *name, size_t cap,
	size_t *len)
{
	struct writeback *wb = writeback(base);
	const struct wb_ns *next = NULL;
	int rc = -ENOENT;

	lock_take(&wb->book);
	for (size_t i = 0; i < wb->namespaces_n; i++) {
		const struct wb_ns *ns = wb->namespaces[i];

		if (ns->title && ns->title_len && ns->title_len <= cap &&
			order(ns->title, ns->title_len, after, after_len) > 0 &&
			(!next ||
				order(ns->title, ns->title_len, next->title, next->title_len) < 0))
			next = ns;
	}
	if (next) {
		memcpy(name, next->title, next->title_len);
		*len = next->title_len;
		rc = 0;
	}
	lock_drop(&wb->book);
	return rc;
}

int wb_ns_create(struct store *base, const void *name, size_t len, const struct record *rec,
	uint32_t *number)
{
	struct writeback *wb = writeback(base);
	char id[REMOTE_ID_MAX + 1];
	struct wb_ns *ns = NULL;
	int rc = base->readonly ? -EROFS : wb->one ? -EPERM : 0;

	if (!rc)
		rc = wb->remote->ops->ns_create(wb->remote, name, len, id);

	wb_note_answer(wb, rc);
	if (rc)
		return rc;
	lock_take(&wb->book);
	ns = by_id(wb, id);
	if (!ns)
		rc = add(wb, id, &ns);
	if (!rc)
		rc = set_title(ns, name, len);
	if (!rc)
		*number = ns->keys;
	lock_drop(&wb->book);
	if (rc)
		return rc;
	if (rec) {
		struct change put = {.op = CHANGE_PUT,
			.id = {.ns = ns->keys, .kind = ENTRY_DIR, .bytes = (const void *)""},
			.rec = rec};
		rc = wb->local->ops->apply(wb->local, &put, 1, NULL);
	}
	/* It is new, so there is nothing in it. */
	return rc ? rc : wb_cover(wb, ns, "", 0, clock_now());
}

/* Whether the namespace holds no key, as far as is known here. Directories go with it (store.h). */
static bool is_empty(struct writeback *wb, uint32_t number)
{
	struct store *local = wb->local;
	bool empty = false;
	struct entry_id id;
	struct view *v;
	struct scan *s;

	if (local->ops->view_begin(local, clock_now(), &v))
		return false;
	if (local->ops->scan_open(v, number, ENTRY_KEY, &s) == 0) {
		empty = local->ops->scan_seek(s, "", 0, &id) == -ENOENT;
		local->ops->scan_close(s);
	}
	local->ops->view_end(v);
	return empty;
}

/* A namespace that has been removed keeps its number, and has no title any more. */
static bool is_there(struct writeback *wb, const struct wb_ns *ns)
{
	lock_take(&wb->book);
	bool there = ns && ns->title;
	lock_drop(&wb->book);
	return there;
}

int wb_ns_remove(struct store *base, uint32_t number, int64_t now)
{
	struct writeback *wb = writeback(base);
	struct wb_ns *ns = wb_ns(wb, number);
	int rc = base->readonly ? -EROFS : !is_there(wb, ns) ? -ENOENT : wb->one ? -EPERM : 0;

	if (!rc && (!wb_covers(wb, ns, "", 0, true, clock_now()) || !is_empty(wb, number)))
		rc = -ENOTEMPTY;
	/* Removals that wait must not be lost, nor come after. */
	if (!rc)
		rc = wb->remote->ops->ns_remove(wb->remote, ns->id);
	wb_note_answer(wb, rc);
	if (rc)
		return rc;
	lock_take(&wb->book);
	free(ns->title);
	ns->title = NULL;
	lock_drop(&wb->book);
	return wb_uncover(wb, ns, "", 0);
}

int wb_ns_rename(struct store *base, uint32_t number, const void *name, size_t len, int64_t now)
{
	struct writeback *wb = writeback(base);
	struct wb_ns *ns = wb_ns(wb, number);
	int rc = base->readonly ? -EROFS : !is_there(wb, ns) ? -ENOENT : wb->one ? -EPERM : 0;

	if (!rc)
		rc = wb->remote->ops->ns_rename(wb->remote, ns->id, name, len);
	wb_note_answer(wb, rc);
	if (rc)
		return rc == -EEXIST ? -ENOTEMPTY : rc;
	lock_take(&wb->book);
	rc = set_title(ns, name, len);
	lock_drop(&wb->book);
	return rc;
}
