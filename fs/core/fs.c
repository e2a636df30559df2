#include "fs/core/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/clock.h"
#include "backends/base/log.h"
#include "fs/core/core.h"
#include "fs/core/file.h"
#include "fs/core/foreign.h"
#include "fs/core/handle.h"
#include "fs/core/negatives.h"
#include "fs/core/sweep.h"

/* How long a notification waits for answers under way; none takes as long but on a machine in
 * trouble. */
enum { DRAIN_SECONDS = 10 };

/* How often it is said that the store is full. */
static const int64_t SAY_EVERY = 10LL * CLOCK_SECOND;

/* How often a disturbed reader tries again before it keeps others from disturbing it. */
enum { REBIND_TRIES = 3 };

static void fs_free(struct fs *fs)
{
	foreign_free(fs->foreign);
	sweep_free(fs->sweep);
	negatives_free(fs->negatives);
	lock_destroy(&fs->change);
	lock_destroy(&fs->drain);
	pthread_cond_destroy(&fs->drained);
	free(fs);
}

int fs_open(struct store *st, uint32_t root_ns, const struct fs_options *opt, struct fs **out)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	struct entry_id root = id_dir(root_ns, "", 0);
	int rc;

	if (!fs)
		return -ENOMEM;
	rc = node_table_init(&fs->nodes);
	if (rc) {
		free(fs);
		return rc;
	}
	fs->st = st;
	fs->opt = *opt;
	fs->root_ns = root_ns;
	fs->mounted = clock_now();
	fs->dirs_epoch = 1;
	lock_init(&fs->change, LOCK_CHANGE);
	lock_init(&fs->drain, LOCK_DRAIN);
	pthread_cond_init(&fs->drained, NULL);
	fs->negatives = negatives_new(fs);
	rc = fs->negatives ? node_lookup(&fs->nodes, &root, &fs->root) : -ENOMEM;
	if (rc) {
		node_table_release(&fs->nodes);
		fs_free(fs);
		return rc;
	}
	*out = fs;
	return 0;
}

int fs_start(struct fs *fs, const struct fs_notify_ops *notify, void *arg)
{
	int rc = 0;

	fs->notify = notify;
	fs->notify_arg = arg;
	fs->st->is_written_arg = fs;
	fs->st->is_written = file_is_written;
	if (!fs->opt.readonly)
		rc = sweep_start(fs, &fs->sweep);
	if (!rc)
		rc = foreign_start(fs, &fs->foreign);
	return rc;
}

void fs_stop(struct fs *fs)
{
	foreign_stop(fs, fs->foreign);
	sweep_stop(fs->sweep);
}

struct close_state {
	struct fs *fs;
	int rc;
};

static void close_node(void *arg, struct node *n)
{
	struct close_state *c = arg;
	struct open_file *f = file_if_open(c->fs, n);
	char key[256];
	int rc = 0;

	if (!f)
		return;
	log_bytes(n->bytes, n->len, key, sizeof(key));
	/* What was closed, but is not stored yet, is complete. What is still open is not, and must
	 * not take the place of what is. */
	if (handle_any_closed(f))
		rc = file_store(c->fs, n, NULL);
	else if (!n->gone && file_is_dirty(c->fs, n))
		log_error("%s: was open and not closed: what was written to it last is not stored; "
			  "write it again",
			key);
	if (rc)
		log_error("%s: its last changes are lost: %s; write it again", key, strerror(-rc));
	file_drop(c->fs, n, false);
	if (rc && !c->rc)
		c->rc = rc;
}

int fs_close(struct fs *fs)
{
	struct close_state c = {.fs = fs};

	fs_stop(fs);
	lock_take(&fs->change);
	int rc = node_each(&fs->nodes, close_node, &c);
	lock_drop(&fs->change);
	if (!rc)
		rc = c.rc;
	/* What unlinked nodes keep is the store's to free. */
	node_table_close_files(&fs->nodes, file_free);
	node_table_clear(&fs->nodes);
	int closed = fs->st->ops->close(fs->st);
	node_table_release(&fs->nodes); /* threads of the store have looked into it */
	fs_free(fs);
	return rc ? rc : closed;
}

struct node *fs_root(struct fs *fs)
{
	return fs->root;
}

struct store *fs_store(struct fs *fs)
{
	return fs->st;
}

static void answer_left(struct fs *fs, unsigned ticket)
{
	if (atomic_fetch_sub(&fs->answering[ticket], 1) == 1 && atomic_load(&fs->draining)) {
		lock_take(&fs->drain);
		pthread_cond_broadcast(&fs->drained);
		lock_drop(&fs->drain);
	}
}

unsigned fs_answer_begin(struct fs *fs)
{
	lock_note_wanted(LOCK_ANSWERS, &fs->answering, LOCK_SHARED);
	lock_note_held(LOCK_ANSWERS, &fs->answering);
	for (;;) {
		unsigned epoch = atomic_load(&fs->epoch);

		atomic_fetch_add(&fs->answering[epoch & 1], 1);
		if (atomic_load(&fs->epoch) == epoch)
			return epoch & 1;
		answer_left(fs, epoch & 1); /* a drain began in between: count with the next */
	}
}

void fs_answer_end(struct fs *fs, unsigned ticket)
{
	lock_note_left(LOCK_ANSWERS, &fs->answering);
	answer_left(fs, ticket);
}

void fs_answers_drain(struct fs *fs)
{
	struct timespec until;

	lock_none_held("the end of answers");
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DRAIN_SECONDS;
	lock_take(&fs->drain);
	while (atomic_load(&fs->draining)) /* another thread's turn */
		lock_wait(&fs->drain, &fs->drained);
	atomic_store(&fs->draining, true);
	unsigned old = atomic_fetch_add(&fs->epoch, 1) & 1;
	while (atomic_load(&fs->answering[old]) &&
		lock_wait_until(&fs->drain, &fs->drained, &until) == 0)
		;
	atomic_store(&fs->draining, false);
	pthread_cond_broadcast(&fs->drained);
	lock_drop(&fs->drain);
}

void rebind_begin(struct fs *fs)
{
	atomic_fetch_add(&fs->rebinding, 1);
}

void rebind_end(struct fs *fs)
{
	atomic_fetch_add(&fs->rebinding, 1);
}

void rebind_look(struct fs *fs, struct rebind_check *check)
{
	check->stored = false;
	check->seen = atomic_load(&fs->rebinding);
	check->locked = (check->seen & 1) || check->tries++ >= REBIND_TRIES;
	if (check->locked) {
		lock_take(&fs->change);
		check->seen = atomic_load(&fs->rebinding);
	}
	check->stores = atomic_load(&fs->stores);
}

void rebind_check_stored(struct fs *fs, struct rebind_check *check, struct node *n)
{
	check->stored = check->stored || file_stored_since(fs, n, check->stores);
}

bool rebind_disturbed(struct fs *fs, struct rebind_check *check)
{
	if (check->locked) {
		lock_drop(&fs->change);
		return false;
	}
	return check->stored || atomic_load(&fs->rebinding) != check->seen;
}

/* One line for many refusals. */
static int say_full(struct fs *fs, int rc)
{
	int64_t now = clock_now(), said = atomic_load(&fs->said_full);

	if ((rc == -ENOSPC || rc == -EDQUOT) && (now < said || now - said > SAY_EVERY) &&
		atomic_compare_exchange_strong(&fs->said_full, &said, now))
		log_error("changes are refused: %s: make room on the medium of the store",
			strerror(-rc));
	return rc;
}

void fs_dirs_changed(struct fs *fs)
{
	if (atomic_fetch_add(&fs->dirs_epoch, 1) == UINT32_MAX)
		atomic_fetch_add(&fs->dirs_epoch, 1);
}

int fs_apply(struct fs *fs, const struct change *changes, size_t n)
{
	int rc = say_full(fs, fs->st->ops->apply(fs->st, changes, n, NULL));

	for (size_t i = 0; !rc && i < n; i++) {
		if (changes[i].op == CHANGE_PUT && changes[i].rec)
			sweep_expect(fs->sweep, record_expiry_ns(changes[i].rec));
	}
	return rc;
}

int fs_make_room(struct fs *fs, uint64_t bytes)
{
	lock_none_but_answer("room for a change");
	return fs->opt.readonly ? -EROFS : say_full(fs, fs->st->ops->throttle(fs->st, bytes));
}

int fs_sync(struct fs *fs)
{
	return fs->opt.readonly ? 0 : fs->st->ops->sync(fs->st, UINT64_MAX);
}

int fs_control(struct fs *fs, struct node *n, enum control what)
{
	const struct store_ops *ops = fs->st->ops;
	struct node_id id;

	if (!ops->control)
		return -EOPNOTSUPP;
	int rc = node_get_id(&fs->nodes, n, &id);
	if (rc || id.id.kind == ENTRY_KEY)
		return rc ? rc : ops->control(fs->st, what, &id.id);
	/* What the keys below begin with; and the key that is the directory's own, its %value. */
	id.id.len = (uint16_t)names_dir_raw_len(fs->opt.separator, id.bytes, id.id.len);
	bool own = id.id.len > 1 && id.bytes[id.id.len - 1] == (unsigned char)fs->opt.separator;
	struct entry_id key = id_key(id.id.ns, id.bytes, own ? id.id.len - 1u : 0);
	rc = ops->control(fs->st, what, &id.id);
	return rc || !own || key.len > STORE_KEY_MAX ? rc : ops->control(fs->st, what, &key);
}

int fs_settle(struct fs *fs, int rc)
{
	return rc || !fs->opt.sync ? rc : fs_sync(fs);
}
