/*
 * blob.c - values on their way to a store.
 *
 * Model. A blob is in one of two states:
 *
 *   in memory   fd is -1; data has room for `cap` bytes, which are charged to the pool's budget
 *               (data is NULL and cap 0 while it is empty)
 *   in a file   data is NULL, cap 0; fd is an unlinked temporary file
 *
 * It goes from memory to a file when it passes the threshold or the budget is used up, and back
 * only when it is emptied.
 *
 * Invariants. Bytes of the buffer past `size` are anything. The file is never longer than
 * BLOB_FILE_BASE + size, so that what a later write past the end skips reads as zeros, and stays a
 * hole. `size` grows only after the bytes are there.
 */
#include "backends/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	COPY_CHUNK = 256 * 1024,
	COPY_RANGE_MAX = 1 << 30, /* what one call is asked for; the kernel's limit is near 2 GiB */
};

static const uint64_t SIZE_LIMIT = (uint64_t)INT64_MAX - BLOB_FILE_BASE;

struct blob_pool {
	char *dir;
	size_t threshold;
	size_t budget;
	_Atomic size_t used; /* memory of all blobs, at most the budget */
};

struct blob {
	struct blob_pool *pool;
	_Atomic unsigned refs;
	uint64_t size;
	unsigned char *data;
	size_t cap;
	int fd;
};

struct blob_pool *blob_pool_new(const char *dir, size_t threshold, size_t budget)
{
	struct blob_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->dir = strdup(dir);
	if (!pool->dir) {
		free(pool);
		return NULL;
	}
	pool->threshold = threshold;
	pool->budget = budget;
	atomic_init(&pool->used, 0);
	return pool;
}

void blob_pool_free(struct blob_pool *pool)
{
	if (!pool)
		return;
	free(pool->dir);
	free(pool);
}

static bool pool_take(struct blob_pool *pool, size_t bytes)
{
	size_t used = atomic_load(&pool->used);

	do {
		if (bytes > pool->budget - used)
			return false;
	} while (!atomic_compare_exchange_weak(&pool->used, &used, used + bytes));
	return true;
}

static void pool_give(struct blob_pool *pool, size_t bytes)
{
	atomic_fetch_sub(&pool->used, bytes);
}

/* Not every filesystem has O_TMPFILE; there the name lives for a moment. */
static int pool_open_named(const struct blob_pool *pool)
{
	char *path;
	int fd, rc = 0;

	if (asprintf(&path, "%s/.kvfs-blob-XXXXXX", pool->dir) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		rc = -errno;
	else if (unlink(path) < 0)
		rc = -errno;
	free(path);
	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

/* An unlinked file, or -errno. */
static int pool_open_file(const struct blob_pool *pool)
{
	int fd = open(pool->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
		return pool_open_named(pool);
	return -errno;
}

/* Up to `len` bytes: how many before the end of the file, or -errno. */
static int64_t file_read(int fd, uint64_t off, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(
			fd, (char *)buf + done, len - done, (off_t)(BLOB_FILE_BASE + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

static int file_write(int fd, uint64_t off, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done,
			(off_t)(BLOB_FILE_BASE + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int file_resize(int fd, uint64_t size)
{
	while (ftruncate(fd, (off_t)(BLOB_FILE_BASE + size)) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int file_copy_by_hand(int from, int to, uint64_t off, uint64_t len)
{
	char *chunk = malloc(COPY_CHUNK);
	int rc = 0;

	if (!chunk)
		return -ENOMEM;
	while (len && rc == 0) {
		int64_t n =
			file_read(from, off, chunk, len < COPY_CHUNK ? (size_t)len : COPY_CHUNK);

		if (n <= 0) {
			rc = n < 0 ? (int)n : -EIO;
			break;
		}
		rc = file_write(to, off, chunk, (size_t)n);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	free(chunk);
	return rc;
}

/* Copies bytes that are no hole to the same place in another file. */
static int file_copy_range(int from, int to, uint64_t off, uint64_t len)
{
	while (len) {
		off_t in = (off_t)(BLOB_FILE_BASE + off), out = in;
		size_t want = len < COPY_RANGE_MAX ? (size_t)len : COPY_RANGE_MAX;
		ssize_t n = copy_file_range(from, &in, to, &out, want, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* Some filesystems cannot, and some kernels say so by copying nothing; an error
		 * that is real comes up again. */
		if (n <= 0)
			return file_copy_by_hand(from, to, off, len);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The next data at or after `off`, as [*start, *end), or that nothing follows but a hole. Where the
 * filesystem knows no holes everything is data. */
static bool file_next_data(int fd, uint64_t off, uint64_t size, uint64_t *start, uint64_t *end)
{
	off_t data, hole;

	if (off >= size)
		return false;
	data = lseek(fd, (off_t)(BLOB_FILE_BASE + off), SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return false;
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	*start = data < 0 ? off : (uint64_t)data - BLOB_FILE_BASE;
	*end = hole < 0 ? size : (uint64_t)hole - BLOB_FILE_BASE;
	if (*end > size)
		*end = size;
	return *start < *end;
}

static int file_copy(int from, int to, uint64_t size)
{
	uint64_t start, end = 0;

	while (file_next_data(from, end, size, &start, &end)) {
		int rc = file_copy_range(from, to, start, end - start);

		if (rc)
			return rc;
	}
	return file_resize(to, size);
}

int blob_new(struct blob_pool *pool, struct blob **out)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->pool = pool;
	b->fd = -1;
	atomic_init(&b->refs, 1);
	*out = b;
	return 0;
}

int blob_new_copy(struct blob_pool *pool, const void *data, size_t len, struct blob **out)
{
	struct blob *b;
	int rc = blob_new(pool, &b);

	if (rc)
		return rc;
	rc = blob_write(b, 0, data, len);
	if (rc) {
		blob_unref(b);
		return rc;
	}
	*out = b;
	return 0;
}

struct blob *blob_ref(struct blob *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

/* Back to empty, in memory. */
static void blob_empty(struct blob *b)
{
	if (b->fd >= 0)
		close(b->fd);
	free(b->data);
	pool_give(b->pool, b->cap);
	b->fd = -1;
	b->data = NULL;
	b->cap = 0;
	b->size = 0;
}

void blob_unref(struct blob *b)
{
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	blob_empty(b);
	free(b);
}

bool blob_writable(const struct blob *b)
{
	return atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}

int blob_clone(const struct blob *b, struct blob **out)
{
	struct blob *copy;
	int rc;

	if (b->fd < 0)
		return blob_new_copy(b->pool, b->data, (size_t)b->size, out);
	rc = blob_new(b->pool, &copy);
	if (rc)
		return rc;
	copy->fd = pool_open_file(b->pool);
	rc = copy->fd < 0 ? copy->fd : file_copy(b->fd, copy->fd, b->size);
	if (rc) {
		blob_unref(copy);
		return rc;
	}
	copy->size = b->size;
	*out = copy;
	return 0;
}

uint64_t blob_size(const struct blob *b)
{
	return b->size;
}

const void *blob_data(const struct blob *b)
{
	return b->fd < 0 && b->size ? b->data : NULL;
}

int blob_fd(const struct blob *b)
{
	return b->fd;
}

int64_t blob_read(const struct blob *b, uint64_t off, void *buf, size_t len)
{
	if (off >= b->size)
		return 0;
	if (len > b->size - off)
		len = (size_t)(b->size - off);
	if (b->fd >= 0)
		return file_read(b->fd, off, buf, len);
	memcpy(buf, b->data + off, len);
	return (int64_t)len;
}

/* Room for `need` bytes in memory. False: there is none, or there should be none. */
static bool blob_reserve(struct blob *b, uint64_t need)
{
	size_t cap, room = b->pool->threshold;
	unsigned char *data;

	if (need > room)
		return false;
	if (need <= b->cap)
		return true;
	/* Doubling makes appending linear; a blob that is written once has no slack. */
	cap = b->cap > room / 2 ? room : b->cap * 2;
	if (cap < need || !pool_take(b->pool, cap - b->cap)) {
		cap = (size_t)need;
		if (!pool_take(b->pool, cap - b->cap))
			return false;
	}
	data = realloc(b->data, cap);
	if (!data) {
		pool_give(b->pool, cap - b->cap);
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

/* From memory to a file; on failure it stays where it is. */
static int blob_move_to_file(struct blob *b)
{
	int fd = pool_open_file(b->pool), rc;

	if (fd < 0)
		return fd;
	rc = file_write(fd, 0, b->data, (size_t)b->size);
	if (rc) {
		close(fd);
		return rc;
	}
	free(b->data);
	pool_give(b->pool, b->cap);
	b->data = NULL;
	b->cap = 0;
	b->fd = fd;
	return 0;
}

/* Makes sure that the blob is where `size` bytes may be. */
static int blob_prepare(struct blob *b, uint64_t size)
{
	if (b->fd >= 0 || blob_reserve(b, size))
		return 0;
	return blob_move_to_file(b);
}

int blob_write(struct blob *b, uint64_t off, const void *buf, size_t len)
{
	uint64_t end = off + len;
	int rc;

	if (len == 0)
		return 0;
	if (off > SIZE_LIMIT || len > SIZE_LIMIT - off)
		return -EFBIG;
	rc = blob_prepare(b, end);
	if (rc)
		return rc;
	if (b->fd >= 0) {
		rc = file_write(b->fd, off, buf, len);
		if (rc) {
			/* What a failed write left past the end must not show up in a gap later. */
			if (end > b->size)
				file_resize(b->fd, b->size);
			return rc;
		}
	} else {
		if (off > b->size)
			memset(b->data + b->size, 0, (size_t)(off - b->size));
		memcpy(b->data + off, buf, len);
	}
	if (end > b->size)
		b->size = end;
	return 0;
}

int blob_resize(struct blob *b, uint64_t size)
{
	int rc;

	if (size > SIZE_LIMIT)
		return -EFBIG;
	if (size == 0) {
		blob_empty(b);
		return 0;
	}
	rc = blob_prepare(b, size);
	if (rc)
		return rc;
	if (b->fd >= 0) {
		rc = file_resize(b->fd, size);
		if (rc)
			return rc;
	} else if (size > b->size) {
		memset(b->data + b->size, 0, (size_t)(size - b->size));
	}
	b->size = size;
	return 0;
}

static void value_unref_blob(void *blob)
{
	blob_unref(blob);
}

void value_from_blob(struct blob *b, struct value *out)
{
	*out = (struct value){
		.data = blob_data(b),
		.len = b->size,
		.blob = b->fd >= 0 ? b : NULL,
		.release = value_unref_blob,
		.arg = blob_ref(b),
	};
}

void value_release(struct value *v)
{
	if (v->release)
		v->release(v->arg);
	*v = (struct value){0};
}

int64_t value_read(const struct value *v, uint64_t off, void *buf, size_t len)
{
	if (off >= v->len)
		return 0;
	if (len > v->len - off)
		len = (size_t)(v->len - off);
	if (!v->data)
		return blob_read(v->blob, off, buf, len);
	memcpy(buf, (const char *)v->data + off, len);
	return (int64_t)len;
}

int value_to_blob(const struct value *v, struct blob_pool *pool, struct blob **out)
{
	if (v->blob) {
		*out = blob_ref(v->blob);
		return 0;
	}
	return blob_new_copy(pool, v->data, (size_t)v->len, out);
}
