#include "fs/core/handle.h"

#include <stdlib.h>

#include "fs/core/opener.h"

struct handle *handle_new(bool writing, uint32_t opener)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (h)
		*h = (struct handle){.writing = writing, .opener = opener};
	return h;
}

void handle_attach(struct fs *fs, struct handle *h, struct node *n, struct open_file *f)
{
	h->node = n;
	h->file = f;
	lock_take(&f->lock);
	h->next = f->handles;
	f->handles = h;
	lock_drop(&f->lock);
	atomic_fetch_add(&fs->writers, h->writing);
}

static void detach(struct fs *fs, struct handle *h)
{
	struct handle **at = &h->file->handles;

	lock_take(&h->file->lock);
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	lock_drop(&h->file->lock);
	atomic_fetch_sub(&fs->writers, h->writing);
}

void handle_free(struct fs *fs, struct handle *h)
{
	if (h->file)
		detach(fs, h);
	free(h);
}

void handle_touch(struct handle *h, struct open_file *f, bool emptied)
{
	file_touch(f);
	if (emptied)
		f->emptied = f->changes;
	if (!h) { /* nobody else will see to it */
		f->anyone = f->changes;
		return;
	}
	h->changed = f->changes;
	h->wrote = !emptied;
}

bool handle_is_unpublished(const struct handle *h)
{
	const struct open_file *f = h->file;

	uint64_t last = h->writing && f->anyone > h->changed ? f->anyone : h->changed;

	/* Of what somebody else has emptied since nothing is left. */
	return last > f->stored && last >= f->emptied;
}

/* What is in doubt is not known from the close itself. A close by the thread that opened it, after
 * it has written, is what nearly all are; looking takes longer than all the rest of it. */
static bool in_doubt(const struct handle *h, uint32_t pid)
{
	return !h->wrote || h->closed_before || pid != h->opener;
}

/* Whether the handle is closed for good as far as its opener is concerned; where that has ended, as
 * far as `pid` is, which has just closed a descriptor of it. */
static bool is_closed(uint32_t opener, uint32_t pid, uint64_t ino)
{
	enum opener state = opener_look(opener, ino);

	if (state == OPENER_GONE)
		return pid == opener || opener_look(pid, ino) != OPENER_HAS_IT;
	return state == OPENER_CLOSED;
}

bool handle_closed(struct fs *fs, struct handle *h, uint32_t pid)
{
	struct open_file *f = h->file;

	lock_take(&f->lock);
	bool unpublished = handle_is_unpublished(h);
	bool doubt = !fs->opt.sync && in_doubt(h, pid);
	bool look = h->wrote; /* who only emptied it has no failure to be told of */
	uint64_t ino = f->last.ino;
	h->closed_before = true;
	lock_drop(&f->lock);
	return unpublished && (!doubt || (look && is_closed(h->opener, pid, ino)));
}

/* The opener of the i-th handle with something to publish. One that was never closed is perhaps being
 * opened: its process has no descriptor yet. */
static bool pick(struct open_file *f, unsigned i, uint32_t *opener, uint64_t *ino)
{
	struct handle *h;

	lock_take(&f->lock);
	for (h = f->handles; h; h = h->next) {
		if (h->closed_before && handle_is_unpublished(h) && i-- == 0)
			break;
	}
	if (h) {
		*opener = h->opener;
		*ino = f->last.ino;
	}
	lock_drop(&f->lock);
	return h != NULL;
}

bool handle_any_closed(struct open_file *f)
{
	uint32_t opener;
	uint64_t ino;

	for (unsigned i = 0; pick(f, i, &opener, &ino); i++) {
		if (is_closed(opener, 0, ino))
			return true;
	}
	return false;
}
