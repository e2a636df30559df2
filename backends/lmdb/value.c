/*
 * value.c - filling what LMDB reserved, without the memory that this would take.
 *
 * LMDB keeps a value that is being written in memory from malloc(), in one piece, until it commits:
 * a 1 GiB value would take 1 GiB. But memory that has not been touched costs nothing, and glibc
 * serves a large request with a mapping of its own. So, when the bytes are in a file, we map the
 * file over that memory instead of reading it: its pages then belong to the page cache, and the
 * kernel takes them back as it likes. free() unmaps the whole range, the file's pages in it
 * included. Three things make it possible:
 *
 *   - glibc's chunk header (16 bytes) and LMDB's page header (16 bytes) come first, so that the
 * value is 32 bytes into a page. A blob's file has its bytes from BLOB_FILE_BASE on, which is 32 as
 * well: page boundaries in memory are page boundaries in the file. What is before the first
 * boundary and after the last one is read.
 *   - glibc marks a chunk that is a mapping of its own in the size field before it. Memory of the
 * heap would be used again after free(), with the file in it; there we read.
 *   - the mapping is private: nothing that LMDB writes goes to the blob.
 *
 * Sanitizers bring an allocator of their own; there everything is read.
 */
#include "backends/lmdb/value.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOREIGN_ALLOCATOR 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define FOREIGN_ALLOCATOR 1
#endif
#endif
#ifndef FOREIGN_ALLOCATOR
#define FOREIGN_ALLOCATOR 0
#endif

enum {
	MAP_FROM = 8 << 20, /* smaller values are read */
	PAGE_HEADER = 16, /* LMDB's, before the value */
	CHUNK_MAPPED = 2, /* glibc's mark */
};

static int copy_range(unsigned char *to, const struct blob *b, uint64_t off, size_t len)
{
	while (len) {
		int64_t n = blob_read(b, off, to, len);

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static bool is_own_mapping(const unsigned char *value, size_t page)
{
	size_t size_field;

	if (FOREIGN_ALLOCATOR || (uintptr_t)value % page != BLOB_FILE_BASE)
		return false;
	memcpy(&size_field, value - PAGE_HEADER - sizeof(size_field), sizeof(size_field));
	return size_field & CHUNK_MAPPED;
}

int value_fill(void *reserved, size_t len, const struct blob *b)
{
	unsigned char *to = reserved;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = blob_fd(b);

	if (fd < 0 || len < MAP_FROM || !is_own_mapping(to, page))
		return copy_range(to, b, 0, len);
	size_t head = page - BLOB_FILE_BASE;
	size_t inner = (len - head) / page * page;
	void *at = mmap(to + head, inner, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
		(off_t)(BLOB_FILE_BASE + head));
	/* Where mapping is refused the memory may be gone already: then reading would crash. */
	if (at == MAP_FAILED) {
		at = mmap(to + head, inner, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
		return at == MAP_FAILED ? -ENOMEM : copy_range(to, b, 0, len);
	}
	int rc = copy_range(to, b, 0, head);
	return rc ? rc : copy_range(to + head + inner, b, head + inner, len - head - inner);
}
