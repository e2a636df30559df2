/*
 * fuzz_names.c - keys, paths and directory ids of any bytes.
 *
 * Input: a byte that chooses the separator, one that chooses what is tried, and the bytes to try it
 * with, in which 'X' followed by a byte n stands for a run of n 'x', so that cuts are near.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/core/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 2 * NAMES_PATH_MAX };

static void demand(bool holds)
{
	if (!holds)
		abort();
}

static bool same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static size_t expand(const uint8_t *data, size_t size, unsigned char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		size_t run = 1;

		if (data[i] == 'X' && i + 1 < size)
			run = data[++i];
		if (run > INPUT_MAX - n)
			break;
		memset(out + n, run == 1 ? data[i] : 'x', run);
		n += run;
	}
	return n;
}

/* names_parent() takes a child back to the directory it was found in. */
static void try_parent(
	char sep, const unsigned char *dir, size_t dir_len, const struct name_child *child)
{
	unsigned char parent[NAMES_DIR_MAX];
	char name[NAMES_NAME_MAX + 1];
	size_t len;

	demand(names_parent(sep, child->dir, child->dir_len, parent, &len, name) == 0);
	demand(same(parent, len, dir, dir_len));
	demand(same(name, strlen(name), child->name, child->name_len));
}

/* Reading the name of a child gives the child. */
static void try_name(
	char sep, const unsigned char *dir, size_t dir_len, const struct name_child *child)
{
	struct name_target t;

	demand(child->name_len >= 1 && child->name_len <= NAMES_NAME_MAX);
	demand(strlen(child->name) == child->name_len && !strchr(child->name, '/'));
	demand(names_resolve(sep, dir, dir_len, child->name, child->name_len, &t) == 0);
	if (child->is_dir) {
		demand(t.can_dir && same(t.dir, t.dir_len, child->dir, child->dir_len));
		try_parent(sep, dir, dir_len, child);
	} else {
		demand(t.can_key && child->single &&
			same(t.key, t.key_len, child->skip, child->skip_len));
	}
}

/* From the root to the entry, child by child. */
static void try_descent(char sep, const unsigned char *entry, size_t len, bool is_dir)
{
	struct name_child child = {.dir_len = 0};
	unsigned char dir[NAMES_DIR_MAX];
	size_t dir_len = 0;

	for (;;) {
		if (names_child(sep, dir, dir_len, entry, len, is_dir, &child) != 0) {
			demand(is_dir && dir_len == 0);
			return;
		}
		try_name(sep, dir, dir_len, &child);
		demand(child.skip_len <= len && memcmp(child.skip, entry, child.skip_len) == 0);
		if (!child.is_dir)
			break;
		dir_len = child.dir_len;
		memcpy(dir, child.dir, dir_len);
		if (is_dir && same(dir, dir_len, entry, len))
			break;
	}
	demand(child.is_dir == is_dir);
}

static void try_key(char sep, const unsigned char *bytes, size_t len)
{
	unsigned char key[NAMES_KEY_MAX];
	char path[NAMES_PATH_MAX];
	size_t key_len;

	if (names_path(sep, bytes, len, path) != 0) {
		demand(len == 0 || len > NAMES_KEY_MAX);
		return;
	}
	demand(names_key(sep, path, strlen(path), key, &key_len) == 0);
	demand(same(key, key_len, bytes, len));
	try_descent(sep, bytes, len, false);
}

static void try_path(char sep, const char *bytes, size_t len)
{
	unsigned char key[NAMES_KEY_MAX];
	char path[NAMES_PATH_MAX + sizeof("/%value")];
	size_t key_len;

	if (names_key(sep, bytes, len, key, &key_len) != 0)
		return;
	demand(names_path(sep, key, key_len, path) == 0);
	if (strlen(path) != len)
		strcat(path, "/%value");
	demand(same(path, strlen(path), bytes, len));
}

/* An entry in a directory, both of any bytes; that what begins with `skip` is the same child's is
 * tried with the bytes that are left. */
static void try_child(char sep, const unsigned char *bytes, size_t len, bool is_dir)
{
	unsigned char near[NAMES_DIR_MAX];
	struct name_child child, other;
	size_t dir_len = len ? bytes[0] * 2u : 0, entry_len = 0, more;

	if (len < 2 + dir_len)
		return;
	entry_len = (len - 1) / 2 > dir_len ? (len - 1) / 2 : dir_len;
	more = len - 1 - entry_len;
	if (names_child(sep, bytes + 1, dir_len, bytes + 1, entry_len, is_dir, &child) != 0)
		return;
	try_name(sep, bytes + 1, dir_len, &child);
	if (child.single || child.skip_len + more > NAMES_KEY_MAX)
		return;
	memcpy(near, child.skip, child.skip_len);
	memcpy(near + child.skip_len, bytes + 1 + entry_len, more);
	demand(names_child(sep, bytes + 1, dir_len, near, child.skip_len + more, false, &other) ==
		0);
	demand(same(other.name, other.name_len, child.name, child.name_len));
}

/* A name of any bytes in a directory of any bytes: what it stands for is called so. */
static void try_resolve(char sep, const unsigned char *bytes, size_t len)
{
	struct name_target t;
	struct name_child child;
	size_t dir_len = len ? bytes[0] * 2u : 0;

	if (len < 1 + dir_len)
		return;
	bytes++;
	len -= 1 + dir_len;
	if (names_resolve(sep, bytes, dir_len, (const char *)bytes + dir_len, len, &t) != 0)
		return;
	if (t.can_dir) {
		demand(names_child(sep, bytes, dir_len, t.dir, t.dir_len, true, &child) == 0);
		demand(child.is_dir && same(child.name, child.name_len, bytes + dir_len, len));
	}
	if (t.can_key) {
		demand(names_child(sep, bytes, dir_len, t.key, t.key_len, false, &child) == 0);
		demand(!child.is_dir && same(child.name, child.name_len, bytes + dir_len, len));
	}
}

static void try_namespace(const char *bytes, size_t len)
{
	unsigned char ns[NAMES_NS_MAX];
	char name[NAMES_NAME_MAX + 1];
	size_t ns_len;

	if (names_ns_decode(bytes, len, ns, &ns_len) == 0) {
		demand(names_ns_encode(ns, ns_len, name) == 0);
		demand(same(name, strlen(name), bytes, len));
	}
	if (names_ns_encode(bytes, len, name) == 0) {
		demand(names_ns_decode(name, strlen(name), ns, &ns_len) == 0);
		demand(same(ns, ns_len, bytes, len));
	}
}

static void try_bytes(char sep, uint8_t what, const unsigned char *bytes, size_t len)
{
	switch (what % 7) {
	case 0:
		try_key(sep, bytes, len);
		break;
	case 1:
		try_path(sep, (const char *)bytes, len);
		break;
	case 2:
		try_descent(sep, bytes, len, true);
		break;
	case 3:
	case 4:
		try_child(sep, bytes, len, what % 7 == 4);
		break;
	case 5:
		try_resolve(sep, bytes, len);
		break;
	default:
		try_namespace((const char *)bytes, len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char seps[] = "/:|-_#";
	static unsigned char expanded[INPUT_MAX];
	unsigned char *exact; /* of the very size, so that a sanitizer sees overruns */
	size_t len;

	if (size < 2)
		return 0;
	len = expand(data + 2, size - 2, expanded);
	exact = malloc(len ? len : 1);
	if (!exact)
		return 0;
	memcpy(exact, expanded, len);
	try_bytes(seps[data[0] % 6], data[1], exact, len);
	free(exact);
	return 0;
}
