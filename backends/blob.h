/*
 * blob.h - the bytes of a value on their way to a store: in memory while small, in an unlinked
 * temporary file when large.
 *
 * A blob is counted. While one reference exists its holder may write to it; as soon as there are
 * more it is read-only for everyone (blob_writable() says which). Writing threads are kept apart
 * by whoever owns the blob; counting is atomic.
 *
 * A pool says where large blobs go and from which size on (the threshold), and how much memory all
 * small ones may have together (the budget): past it, blobs that grow go to files earlier. The
 * pool outlives its blobs.
 *
 * In a file, byte 0 of the value is at offset BLOB_FILE_BASE.
 */
#ifndef KVFS_BLOB_H
#define KVFS_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOB_FILE_BASE = 32 };

struct blob;
struct blob_pool;

/* `dir` (copied): a folder for temporary files, which are unlinked at once and so never outlive
 * the process. threshold and budget in bytes. NULL: out of memory. */
struct blob_pool *blob_pool_new(const char *dir, size_t threshold, size_t budget);
void blob_pool_free(struct blob_pool *pool);

/* An empty blob with one reference; a blob holding a copy of `len` bytes. -ENOMEM, -ENOSPC ... */
int blob_new(struct blob_pool *pool, struct blob **out);
int blob_new_copy(struct blob_pool *pool, const void *data, size_t len, struct blob **out);

struct blob *blob_ref(struct blob *b);
void blob_unref(struct blob *b); /* NULL is fine */
bool blob_writable(const struct blob *b); /* the caller's is the only reference */

/* A blob of its own with the same bytes. */
int blob_clone(const struct blob *b, struct blob **out);

uint64_t blob_size(const struct blob *b);

/* The bytes where the blob is in memory (valid until the next write or the last unref), NULL where
 * it is in a file (or empty). */
const void *blob_data(const struct blob *b);

/* The file where the blob is in one, -1 where it is in memory. */
int blob_fd(const struct blob *b);

/* Copies out up to `len` bytes from `off`: how many there were, or -errno. */
int64_t blob_read(const struct blob *b, uint64_t off, void *buf, size_t len);

/* Writes at any offset; a gap becomes zeros. -ENOSPC, -ENOMEM, -EIO; then nothing changed but bytes
 * within [off, off + len). */
int blob_write(struct blob *b, uint64_t off, const void *buf, size_t len);

/* Cuts, or extends with zeros. */
int blob_resize(struct blob *b, uint64_t size);

/* A value as store_ops.read gives it: `data` where it is in memory or in a map, else `blob` in a
 * file; neither where it is empty. To be released by value_release() soon: it may keep a store from
 * reusing space. release(arg) lets go of everything that the value holds, `blob` included; NULL: it
 * holds nothing. */
struct value {
	const void *data;
	uint64_t len;
	struct blob *blob;
	void (*release)(void *arg);
	void *arg;
};

/* The bytes of a blob as a value, which takes its own reference. */
void value_from_blob(struct blob *b, struct value *out);

void value_release(struct value *v); /* once; *v is all zero afterwards */

/* Copies out up to `len` bytes from `off`: how many there were, or -errno. */
int64_t value_read(const struct value *v, uint64_t off, void *buf, size_t len);

/* A blob with the value's bytes: its own blob again, or a copy. */
int value_to_blob(const struct value *v, struct blob_pool *pool, struct blob **out);

#endif
