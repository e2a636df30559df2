/*
 * view.c - reading: the local store's views, with what the cache adds to records taken out of them.
 */
#include <errno.h>
#include <stdlib.h>

#include "backends/base/clock.h"
#include "backends/writeback/internal.h"

struct view {
	struct writeback *wb;
	struct view *local;
	int64_t now;
	char why[128];
};

struct scan {
	struct view *view;
	struct scan *local;
};

int wb_view_begin(struct store *base, int64_t now, struct view **out)
{
	struct writeback *wb = writeback(base);
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->wb = wb;
	v->now = now;
	int rc = wb->local->ops->view_begin(wb->local, now, &v->local);
	if (rc)
		free(v);
	else
		*out = v;
	return rc;
}

void wb_view_end(struct view *v)
{
	v->wb->local->ops->view_end(v->local);
	free(v);
}

bool wb_is_fresh(struct writeback *wb, const struct info *i, bool journaled, int64_t now)
{
	return journaled || i->local || info_is_own(i) ||
		(i->pinned > now && !i->confirmed && i->sized) ||
		(i->sized && i->read + wb->opt.max_age > now && i->read <= now);
}

/* What the journal says of a key. */
static void entry_journal(struct view *v, const struct wb_ns *ns, const struct entry_id *id,
	const struct info *info, struct entry *out)
{
	struct journal j;
	int rc = journal_get(v->wb->local, ns->journal, id, &j);

	out->pending = rc == 0;
	out->failed = NULL;
	if (!rc && j.failed)
		out->failed = journal_reason(j.error);
	out->partial = !info->sized;
	out->version = !info->sized ? 0 : info->hash ? info->hash : 1;
	out->fresh_until = 0;
	if (!out->pending && !info->local && !info_is_own(info)) {
		out->fresh_until = info->read + v->wb->opt.max_age;
		if (!info->confirmed && info->pinned > out->fresh_until)
			out->fresh_until = info->pinned;
	}
}

/* Adds to what the local store says of an entry. */
static void entry_complete(struct view *v, const struct entry_id *id, struct entry *out)
{
	struct wb_ns *ns = wb_ns(v->wb, id->ns);
	struct info info;

	if (id->kind == ENTRY_DIR || !ns)
		return;
	info_split(&out->rec, &info);
	if (!info.cached)
		out->size = info.size;
	entry_journal(v, ns, id, &info, out);
}

int wb_view_get(struct view *v, const struct entry_id *id, struct entry *out)
{
	int rc = v->wb->local->ops->view_get(v->local, id, out);

	if (!rc)
		entry_complete(v, id, out);
	return rc;
}

int wb_view_expired(struct view *v, size_t skip, struct entry_id *id)
{
	return v->wb->local->ops->view_expired(v->local, skip, id);
}

int64_t wb_view_next_expiry(struct view *v)
{
	return v->wb->local->ops->view_next_expiry(v->local);
}

int wb_scan_open(struct view *v, uint32_t ns, enum entry_kind kind, struct scan **out)
{
	struct scan *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->view = v;
	int rc = v->wb->local->ops->scan_open(v->local, ns, kind, &s->local);
	if (rc)
		free(s);
	else
		*out = s;
	return rc;
}

int wb_scan_seek(struct scan *s, const void *from, size_t len, struct entry_id *found)
{
	return s->view->wb->local->ops->scan_seek(s->local, from, len, found);
}

int wb_scan_get(struct scan *s, const struct entry_id *found, bool brief, struct entry *out)
{
	int rc = s->view->wb->local->ops->scan_get(s->local, found, brief, out);

	if (!rc && !brief)
		entry_complete(s->view, found, out);
	return rc;
}

void wb_scan_close(struct scan *s)
{
	s->view->wb->local->ops->scan_close(s->local);
	free(s);
}

int wb_read(struct store *base, const struct entry_id *id, int64_t now, struct value *out)
{
	struct writeback *wb = writeback(base);
	struct wb_entry e;

	if (wb_ns(wb, id->ns)) {
		int rc = wb_entry_get(wb, id, &e);

		if (rc)
			return rc;
		bool here = e.info.cached || !e.exists;
		wb_entry_release(&e);
		if (!here) /* nobody has prepared for it */
			return -ETIMEDOUT;
	}
	return wb->local->ops->read(wb->local, id, now, out);
}

int wb_entry_get(struct writeback *wb, const struct entry_id *id, struct wb_entry *out)
{
	struct store *local = wb->local;
	struct entry e;
	struct view *v;
	int rc = local->ops->view_begin(local, NOW_NEVER, &v);

	if (rc)
		return rc;
	*out = (struct wb_entry){0};
	rc = local->ops->view_get(v, id, &e);
	if (!rc) {
		out->exists = true;
		out->rec = e.rec;
		info_split(&out->rec, &out->info);
		out->size = out->info.cached ? e.size : out->info.size;
		if (out->rec.xattrs_len) {
			out->memory = malloc(out->rec.xattrs_len);
			if (out->memory)
				memcpy(out->memory, out->rec.xattrs, out->rec.xattrs_len);
			else
				rc = -ENOMEM;
			out->rec.xattrs = out->memory;
		}
	}
	local->ops->view_end(v);
	return rc == -ENOENT ? 0 : rc;
}

void wb_entry_release(struct wb_entry *e)
{
	free(e->memory);
	e->memory = NULL;
}
