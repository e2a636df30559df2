/*
 * names.h - keys and directories on one side, paths on the other: a bijection.
 *
 * Pure: no I/O, no locks, no clock, no allocation. Pointers to bytes are not NULL, not even to
 * none.
 *
 * The rules are in the manual page, "NAMES". In short: a key is split at each separator S; the last
 * component names the file, the others its directories; a written component longer than 255 bytes
 * is cut into pieces, which become directories named PIECE%+; what a rule would write differently
 * is not a name at all.
 *
 * A directory is identified by bytes too (its "directory id"), of three forms:
 *   ""            the namespace's root
 *   PREFIX S      an ordinary directory: what every key below it begins with, its last byte is S
 *   PREFIX PIECE '+'  or  PREFIX PIECE '%'
 *                 a piece of a long component: the raw bytes that every key below it begins with,
 *                 and a mark, which cannot be mistaken for S since neither '+' nor '%' can be one.
 *                 The mark is '%' where the last '%' of the piece is written %25 only because of
 *                 bytes that follow in the next piece (the raw piece ends in "%", "%0" or "%2"),
 *                 '+' otherwise: the two are different directories although their raw bytes are
 *                 the same.
 *
 * Raw bytes alone do not say which piece a key belongs to: keys of different pieces, and keys that
 * are not cut at all, lie between one another in byte order (see names_child()).
 */
#ifndef KVFS_NAMES_H
#define KVFS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum {
	NAMES_KEY_MAX = 512, /* bytes of a key */
	NAMES_DIR_MAX = 513, /* bytes of a directory id */
	NAMES_NAME_MAX = 255, /* bytes of a file name, NAME_MAX */
	NAMES_PATH_MAX = 7 * (NAMES_KEY_MAX + 1), /* room for any key's path, terminator included:
						     that of 512 separators, "%empty/%empty/..." */
	NAMES_NS_MAX = 511, /* bytes of a namespace's name */
};

/* Whether `sep` may separate: an ASCII punctuation byte other than '%', '+' and '.'. The other
 * functions expect one that may. */
bool names_sep_valid(char sep);

/* What a name in a directory stands for. A name has two readings, as a file and as a directory, and
 * which holds is for the store to say; PIECE%+ is a directory only, %value a file only, and so is
 * %empty in the root a directory only (its key would be empty). */
struct name_target {
	bool can_key, can_dir;
	size_t key_len, dir_len; /* 0 where it cannot */
	unsigned char key[NAMES_KEY_MAX]; /* as a file: its key */
	unsigned char dir[NAMES_DIR_MAX]; /* as a directory: its id */
};

/* Reads `name` in directory `dir`, which may be that of `out`. -EINVAL: the rules would never write
 * this name here (`.` and
 * `..` included, a name with a '/' or a NUL, an empty one; PIECE%+ where no key could go through
 * it), or `dir` is no directory id. -ENAMETOOLONG: the name has more than 255 bytes, or the key
 * more than 512 (for PIECE%+: the shortest key that could go through it). */
int names_resolve(char sep, const void *dir, size_t dir_len, const char *name, size_t name_len,
	struct name_target *out);

/* One child of a directory. */
struct name_child {
	bool is_dir;
	bool single; /* see names_child() */
	size_t name_len, dir_len, skip_len;
	char name[NAMES_NAME_MAX + 1]; /* as written, terminated */
	unsigned char dir[NAMES_DIR_MAX]; /* where is_dir: the child's own id */
	unsigned char skip[NAMES_DIR_MAX]; /* see names_child() */
};

/* Finds the child of directory `dir` that an entry belongs to: the entry is a key (entry_is_dir
 * false) or a directory id, and begins with dir's raw bytes. When the entry is directly in `dir`
 * the child is the entry itself, otherwise the directory that leads to it. The key that is `dir`
 * itself less its last separator is the child "%value" (a file).
 *
 * `skip` says how a listing goes on. Unless `single`, every key and directory id that begins with
 * these bytes belongs to this same child, and the listing goes on after all of them: it is an
 * ordinary directory's own id, and for a PIECE%+ a prefix of the entry that is not much longer than
 * the piece. Where it is, nothing is meant of what begins with them: `skip` is the whole entry,
 * and the listing goes on at the very next one. Every file is single, and so are some entries of a
 * PIECE%+ (its own id, and a key that is cut only because it ends in "%+").
 *
 * In byte order a PIECE%+ comes up more than once, with other children in between, but only among
 * entries that begin with its raw bytes. So a listing need remember no more pieces than those whose
 * raw bytes its position begins with: at most 8.
 *
 * -ENOENT: the entry is not below `dir` (a neighbour of a piece, or `dir` itself), or it is no key
 * or directory id under this separator (a directory made under another one); others may follow. */
int names_child(char sep, const void *dir, size_t dir_len, const void *entry, size_t entry_len,
	bool entry_is_dir, struct name_child *out);

/* The directory that holds a directory, its id written to `parent` (NAMES_DIR_MAX bytes). -ENOENT:
 * `dir` is the root. -EINVAL: it is no directory id.
 * `name` (NAMES_NAME_MAX + 1 bytes, may be NULL): what `dir` is called in it. */
int names_parent(char sep, const void *dir, size_t dir_len, unsigned char *parent,
	size_t *parent_len, char *name);

/* The directory that holds a key as a file, and its name there: as NAME (as_value false), or as
 * %value in the directory that bears the key's name (as_value true). -EINVAL (an empty key),
 * -ENAMETOOLONG (over 512 bytes). `name` may be NULL. */
int names_key_parent(char sep, const void *key, size_t key_len, bool as_value,
	unsigned char *parent, size_t *parent_len, char *name);

/* The raw bytes that every key below directory `dir` begins with: how many of the id's bytes they
 * are (all, or all but a piece's mark). */
size_t names_dir_raw_len(char sep, const void *dir, size_t dir_len);

/* Whether `dir` is a PIECE%+. */
bool names_dir_is_piece(char sep, const void *dir, size_t dir_len);

/* The path of a key, relative to its namespace, as a file that is not a directory too; terminated.
 * -EINVAL (an empty key), -ENAMETOOLONG (over 512 bytes). */
int names_path(char sep, const void *key, size_t key_len, char path[NAMES_PATH_MAX]);

/* The key of a path (`%value` at its end included); slashes at its beginning or end, or doubled, or
 * a "." or ".." component are no canonical path. -EINVAL, -ENAMETOOLONG. */
int names_key(char sep, const char *path, size_t path_len, unsigned char key[NAMES_KEY_MAX],
	size_t *key_len);

/* Namespace names: rules c to e, and '/' as %2F. encode: -ENAMETOOLONG where the written name has
 * more than 255 bytes, or the name more than NAMES_NS_MAX; -EINVAL where it is empty. decode:
 * -EINVAL where not canonical (so a NUL byte in `name`, or the name %empty), -ENAMETOOLONG. */
int names_ns_encode(const void *ns, size_t ns_len, char name[NAMES_NAME_MAX + 1]);
int names_ns_decode(
	const char *name, size_t name_len, unsigned char ns[NAMES_NS_MAX], size_t *ns_len);

#endif
