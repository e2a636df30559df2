/*
 * tree.h - a whole tree as text, to be compared with another.
 */
#ifndef KVFS_MODEL_TREE_H
#define KVFS_MODEL_TREE_H

#include <stdbool.h>

enum tree_times {
	TREE_TIMES_NONE,
	TREE_TIMES_SET, /* mtimes that somebody set to long ago: both trees have them */
	TREE_TIMES_ALL, /* and inode numbers, which only the same tree has twice */
};

/* One line per file: path, attributes, extended attributes, a hash of the content. The caller frees
 * it; NULL: no memory. */
char *tree_print(const char *root, enum tree_times times);

/* The first line that differs, of both, into `out`. False: none does. */
bool tree_differs(const char *a, const char *b, char *out, unsigned long size);

#endif
