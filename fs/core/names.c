/*
 * names.c - the mapping between keys and paths (the rules: the manual page, "NAMES").
 *
 * Model. One encoder writes a component (text_write: rules b to e) and finds where it is cut
 * (component_write: rule f); one decoder undoes the writing (text_read). Everything else is made of
 * them: a name is canonical where reading it and writing the result gives the name back.
 *
 * A written component is a row of segments: its pieces, numbered from 0, and the rest, which is the
 * last. Segment 0 is a name in an ordinary directory, segment k+1 one in the directory of piece k.
 *
 * Invariants:
 *   - The text is a row of units (a UTF-8 character, an invalid byte, an escape), and no unit is
 *     cut, so pieces can be read one by one although the rules read them joined.
 *   - How a byte is written depends on two bytes after it at most, and on the component's end. So a
 *     piece's raw bytes and whether a '%' near its end is escaped (the id's mark) give its text.
 *   - What is left where a piece is cut off is longer than 255 bytes and the piece at most 253: the
 *     rest has 3 bytes at least, so that it cannot be "." or "..", nor just the "+" of a "%+".
 *
 * Whether a PIECE%+ can exist the encoder says too: where it cuts with the shortest of all rests
 * (`rests` below) put after the piece.
 */
#include "fs/core/names.h"

#include <errno.h>
#include <string.h>

enum {
	NO_SEP = '\0', /* in place of a separator: a namespace's name */
	PIECE_MAX = 253, /* bytes of a piece: what "%+" leaves of 255 */
	PIECE_MIN = 250, /* the next unit, which did not fit, has 4 bytes at most */
	REST_MAX = 5, /* bytes of the longest in `rests` */
	RAW_MAX = NAMES_KEY_MAX + REST_MAX,
	TEXT_MAX = 3 * RAW_MAX,
	CUTS_MAX = TEXT_MAX / PIECE_MIN,
};

/* A component as it is written. */
struct component {
	size_t len; /* of its text */
	size_t cuts; /* pieces that are cut off its front; the rest is segment number `cuts` */
	size_t text_end[CUTS_MAX], raw_end[CUTS_MAX]; /* of the pieces */
	char text[TEXT_MAX];
};

/* A directory id, taken apart. */
struct dir_parts {
	size_t raw_len; /* of what every key below it begins with */
	size_t start; /* where the component begins that names in it belong to */
	char mark; /* of a piece; '\0' for others */
};

/* Rests that make the shortest keys with a piece before them, the shortest first. A piece of 253
 * bytes needs 3 bytes of text or more after it, one of 252 needs 4 that begin with a unit of 2 or
 * more, one of 251 needs 5 after a unit of 3, one of 250 needs 6 after a unit of 4. Where the mark
 * is '%' the rest has to complete %00, %25 or %2E. */
static const struct {
	size_t len;
	char bytes[REST_MAX + 1];
} rests[] = {{1, "\0"}, {2, "\0a"}, {2, "\0\0"}, {2, "0\0"}, {2, "5\0"}, {3, "00a"},
	{5, "\xF0\x9F\x98\x80\0"}};

static bool equals(const void *bytes, size_t len, const char *string)
{
	return len == strlen(string) && memcmp(bytes, string, len) == 0;
}

/* The byte that an escape at the beginning of the bytes stands for, -1 where there is none. */
static int escape_read(char sep, const void *bytes, size_t len)
{
	const char *p = bytes;

	if (len < 3 || p[0] != '%')
		return -1;
	if (memcmp(p, "%00", 3) == 0)
		return '\0';
	if (memcmp(p, "%25", 3) == 0)
		return '%';
	if (memcmp(p, "%2E", 3) == 0)
		return '.';
	return sep == NO_SEP && memcmp(p, "%2F", 3) == 0 ? '/' : -1;
}

/* Rule e: whether the '%' at raw[at] would be read as something else if it were written as itself.
 * The raw bytes after it tell: the text after it has the same two bytes, or another '%'. */
static bool percent_misread(char sep, const unsigned char *raw, size_t len, size_t at)
{
	if (escape_read(sep, raw + at, len - at) >= 0 || equals(raw + at, len - at, "%+"))
		return true;
	return at == 0 && (equals(raw, len, "%empty") || equals(raw, len, "%value"));
}

/* Writes a component (rules b to e) to `text` of 3 * len bytes, but 6 at least; how many it has. */
static size_t text_write(char sep, const unsigned char *raw, size_t len, char *text)
{
	bool dots = equals(raw, len, ".") || equals(raw, len, "..");
	char *p = text;

	if (len == 0)
		p = mempcpy(p, "%empty", 6);
	for (size_t i = 0; i < len; i++) {
		if (raw[i] == '\0')
			p = mempcpy(p, "%00", 3);
		else if (raw[i] == '%' && percent_misread(sep, raw, len, i))
			p = mempcpy(p, "%25", 3);
		else if (raw[i] == '.' && dots && i == 0)
			p = mempcpy(p, "%2E", 3);
		else if (raw[i] == '/' && sep == NO_SEP)
			p = mempcpy(p, "%2F", 3);
		else
			*p++ = raw[i] == '/' ? sep : (char)raw[i];
	}
	return (size_t)(p - text);
}

/* Undoes text_write(), into `raw` of `len` bytes, but for %empty, which is a matter of the whole
 * component. Any text can be read; whether it is canonical, writing it again shows. */
static size_t text_read(char sep, const char *text, size_t len, unsigned char *raw)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int escaped = escape_read(sep, text + i, len - i);

		if (escaped >= 0) {
			raw[n++] = (unsigned char)escaped;
			i += 2;
		} else {
			raw[n++] = sep != NO_SEP && text[i] == sep ? '/' : (unsigned char)text[i];
		}
	}
	return n;
}

/* Bytes of the well-formed UTF-8 character at `p` (Unicode, table 3-7); 1 where there is none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	size_t len = p[0] < 0xC2 || p[0] > 0xF4 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

	if (len > left)
		return 1;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 1;
	}
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90)) /* overlong */
		return 1;
	if ((p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF4 && p[1] > 0x8F)) /* no scalar value */
		return 1;
	return len;
}

/* Bytes of the unit of text at `text`, which is not to be cut. */
static size_t unit_len(char sep, const char *text, size_t left)
{
	return escape_read(sep, text, left) >= 0 ? 3 : utf8_len((const unsigned char *)text, left);
}

/* Writes a component of up to RAW_MAX bytes and cuts it (rule f). */
static void component_write(char sep, const unsigned char *raw, size_t len, struct component *c)
{
	size_t end = 0, at = 0, limit, unit;

	c->len = text_write(sep, raw, len, c->text);
	for (c->cuts = 0; c->len - end > NAMES_NAME_MAX; c->cuts++) {
		limit = end + PIECE_MAX;
		while ((unit = unit_len(sep, c->text + end, c->len - end)) <= limit - end) {
			at += c->text[end] == '%' ? 1 : unit;
			end += unit;
		}
		c->text_end[c->cuts] = end;
		c->raw_end[c->cuts] = at;
	}
}

/* The mark of a piece: '%' where its text ends in an escape that the next piece accounts for. */
static char piece_mark(const char *text, size_t len)
{
	bool open = len >= 3 && memcmp(text + len - 3, "%25", 3) == 0;

	if (len >= 4 && memcmp(text + len - 4, "%25", 3) == 0)
		open = text[len - 1] == '0' || text[len - 1] == '2';
	return open ? '%' : '+';
}

static size_t segment_begin(const struct component *c, size_t k)
{
	return k == 0 ? 0 : c->text_end[k - 1];
}

/* Segment k as a name, terminated; its length. */
static size_t segment_name(const struct component *c, size_t k, char *name)
{
	size_t begin = segment_begin(c, k), end = k < c->cuts ? c->text_end[k] : c->len;
	char *p = mempcpy(name, c->text + begin, end - begin);

	if (k < c->cuts)
		p = mempcpy(p, "%+", 2);
	*p = '\0';
	return (size_t)(p - name);
}

/* Writes the id of the directory that segment k is a name in; its length. `raw`: a key or prefix
 * with the component at `start`. */
static size_t segment_dir(const struct component *c, size_t k, const unsigned char *raw,
	size_t start, unsigned char *dir)
{
	size_t len = k > 0 ? start + c->raw_end[k - 1] : start;

	memcpy(dir, raw, len);
	if (k > 0)
		dir[len++] = (unsigned char)piece_mark(c->text, c->text_end[k - 1]);
	return len;
}

static size_t component_start(char sep, const unsigned char *raw, size_t len)
{
	const unsigned char *last = memrchr(raw, sep, len);

	return last ? (size_t)(last + 1 - raw) : 0;
}

bool names_dir_is_piece(char sep, const void *dir, size_t dir_len)
{
	const unsigned char *bytes = dir;

	return dir_len > 0 && (bytes[dir_len - 1] == '+' || bytes[dir_len - 1] == '%');
}

size_t names_dir_raw_len(char sep, const void *dir, size_t dir_len)
{
	return names_dir_is_piece(sep, dir, dir_len) ? dir_len - 1 : dir_len;
}

/* Takes a directory id apart; whether it has the form of one. That a piece is one the encoder makes
 * is not looked at. */
static bool dir_split(char sep, const unsigned char *dir, size_t len, struct dir_parts *out)
{
	struct dir_parts d = {.raw_len = len, .start = len};

	if (len > NAMES_DIR_MAX)
		return false;
	if (names_dir_is_piece(sep, dir, len)) {
		d.mark = (char)dir[len - 1];
		d.raw_len = len - 1;
		d.start = component_start(sep, dir, d.raw_len);
	} else if (len > 0 && dir[len - 1] != (unsigned char)sep) {
		return false;
	}
	*out = d;
	return true;
}

/* Which segment of the component is a name in directory `d`. False: it does not lead through `d`,
 * which is a piece then. */
static bool dir_segment(const struct component *c, const struct dir_parts *d, size_t *k)
{
	if (d->mark == '\0') {
		*k = 0;
		return true;
	}
	for (*k = 1; *k <= c->cuts; ++*k) {
		if (d->start + c->raw_end[*k - 1] == d->raw_len &&
			piece_mark(c->text, c->text_end[*k - 1]) == d->mark)
			return true;
	}
	return false;
}

/* Writes the component that leads to piece `d`, with a rest after it, which is segment *k; `raw`
 * has d's raw bytes and room for REST_MAX more. -EINVAL: there can be no such piece. -ENAMETOOLONG:
 * there could, if a key could be longer. */
static int piece_write(
	char sep, unsigned char *raw, const struct dir_parts *d, struct component *c, size_t *k)
{
	if (d->raw_len > NAMES_KEY_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
		size_t len = d->raw_len + rests[i].len;

		memcpy(raw + d->raw_len, rests[i].bytes, rests[i].len);
		component_write(sep, raw + d->start, len - d->start, c);
		if (dir_segment(c, d, k))
			return len > NAMES_KEY_MAX ? -ENAMETOOLONG : 0;
	}
	return -EINVAL;
}

bool names_sep_valid(char sep)
{
	return sep != '\0' && strchr("!\"#$&'()*,-/:;<=>?@[\\]^_`{|}~", sep) != NULL;
}

static void target_set(
	struct name_target *out, const unsigned char *raw, size_t key_len, size_t dir_len)
{
	out->can_key = key_len > 0;
	out->can_dir = dir_len > 0;
	out->key_len = key_len;
	out->dir_len = dir_len;
	memcpy(out->key, raw, key_len);
	memcpy(out->dir, raw, dir_len);
}

/* Whether writing gives `name` again, of which reading has made the bytes of `raw` that follow
 * those of directory `d`. `mark`: of a PIECE%+. */
static int name_check(char sep, unsigned char *raw, size_t raw_len, const struct dir_parts *d,
	char mark, const char *name, size_t name_len)
{
	struct dir_parts piece = {.raw_len = raw_len, .start = d->start, .mark = mark};
	char again[NAMES_NAME_MAX + 1];
	struct component c;
	size_t k;
	int err;

	if (mark != '\0') {
		err = piece_write(sep, raw, &piece, &c, &k);
		if (err)
			return err;
	} else if (raw_len > NAMES_KEY_MAX) {
		return -ENAMETOOLONG;
	} else {
		component_write(sep, raw + d->start, raw_len - d->start, &c);
	}
	if (!dir_segment(&c, d, &k) || segment_name(&c, k, again) != name_len ||
		memcmp(again, name, name_len) != 0)
		return -EINVAL;
	return 0;
}

int names_resolve(char sep, const void *dir, size_t dir_len, const char *name, size_t name_len,
	struct name_target *out)
{
	unsigned char raw[NAMES_DIR_MAX + NAMES_NAME_MAX + REST_MAX];
	size_t raw_len, text_len = name_len;
	struct dir_parts d;
	char mark = '\0';
	int err;

	if (name_len > NAMES_NAME_MAX)
		return -ENAMETOOLONG;
	if (!dir_split(sep, dir, dir_len, &d) || name_len == 0 || memchr(name, '/', name_len))
		return -EINVAL;
	memcpy(raw, dir, d.raw_len);
	raw_len = d.raw_len;
	if (d.mark == '\0' && raw_len > 1 && equals(name, name_len, "%value")) {
		target_set(out, raw, raw_len - 1, 0);
		return 0;
	}
	if (name_len > 2 && memcmp(name + name_len - 2, "%+", 2) == 0) {
		text_len -= 2;
		mark = piece_mark(name, text_len);
	}
	if (d.mark != '\0' || !equals(name, name_len, "%empty"))
		raw_len += text_read(sep, name, text_len, raw + raw_len);
	err = name_check(sep, raw, raw_len, &d, mark, name, name_len);
	if (err)
		return err;
	raw[raw_len] = (unsigned char)(mark ? mark : sep);
	target_set(out, raw, mark ? 0 : raw_len, raw_len + 1);
	return 0;
}

/* The least that raw bytes are written with, whatever follows them. */
static size_t settled_len(char sep, const unsigned char *raw, size_t len)
{
	size_t text = 0;

	for (size_t i = 0; i < len; i++)
		text += raw[i] == '\0' || escape_read(sep, raw + i, len - i) >= 0 ? 3 : 1;
	return text;
}

/* How much of an entry proves that it belongs to its piece, segment k: once what is left has more
 * than 255 bytes whatever follows, all that decides where it is cut is there. The component's raw
 * bytes are those from `start` to `end`, where there is a separator if `closed`, which proves it
 * too. 0: nothing proves it but the entry's end. */
static size_t piece_proof(char sep, const struct component *c, size_t k, const unsigned char *raw,
	size_t start, size_t end, bool closed)
{
	size_t piece_len = c->text_end[k] - segment_begin(c, k), piece_end = start + c->raw_end[k];

	for (size_t proof = piece_end; proof <= end; proof++) {
		size_t more = settled_len(sep, raw + piece_end, proof - piece_end);

		if (piece_len + more > NAMES_NAME_MAX)
			return proof;
	}
	return closed ? end + 1 : 0;
}

/* `skip` bytes of the entry prove that an entry belongs to the child; 0: nothing proves it. */
static void child_set_skip(struct name_child *out, const void *entry, size_t entry_len, size_t skip)
{
	out->single = skip == 0;
	out->skip_len = skip ? skip : entry_len;
	memcpy(out->skip, entry, out->skip_len);
}

/* Writes the component of entry `id` that continues directory `d` and ends at *end, at a separator
 * where *closed. *k: its segment that is a name in `d`; false: none is. */
static bool child_component(char sep, const unsigned char *id, const struct dir_parts *entry,
	const struct dir_parts *d, struct component *c, size_t *k, size_t *end, bool *closed)
{
	const unsigned char *found = memchr(id + d->raw_len, sep, entry->raw_len - d->raw_len);
	unsigned char raw[NAMES_DIR_MAX + REST_MAX];
	size_t after = 0;

	*closed = found != NULL;
	*end = found ? (size_t)(found - id) : entry->raw_len;
	if (entry->mark != '\0') {
		memcpy(raw, id, entry->raw_len);
		if (piece_write(sep, raw, entry, c, &after) != 0)
			return false;
	}
	if (entry->mark == '\0' || *closed)
		component_write(sep, id + d->start, *end - d->start, c);
	/* What piece_write() put after the piece is no child. */
	return dir_segment(c, d, k) && (entry->mark == '\0' || *closed || *k < after);
}

int names_child(char sep, const void *dir, size_t dir_len, const void *entry, size_t entry_len,
	bool entry_is_dir, struct name_child *out)
{
	struct dir_parts d, e = {.raw_len = entry_len};
	size_t k, end, skip = 0;
	struct component c;
	bool closed;

	if (entry_len == 0 || !dir_split(sep, dir, dir_len, &d) ||
		(entry_is_dir ? !dir_split(sep, entry, entry_len, &e) : entry_len > NAMES_KEY_MAX))
		return -ENOENT;
	if (!entry_is_dir && d.mark == '\0' && entry_len + 1 == dir_len &&
		memcmp(entry, dir, entry_len) == 0) {
		out->is_dir = false;
		out->dir_len = 0;
		out->name_len = strlen(strcpy(out->name, "%value"));
		child_set_skip(out, entry, entry_len, 0);
		return 0;
	}
	if (e.raw_len < d.raw_len || memcmp(entry, dir, d.raw_len) != 0 ||
		(entry_is_dir && e.mark == '\0' && e.raw_len == d.raw_len) ||
		!child_component(sep, entry, &e, &d, &c, &k, &end, &closed))
		return -ENOENT;

	out->name_len = segment_name(&c, k, out->name);
	out->is_dir = closed || k < c.cuts;
	out->dir_len = 0;
	if (k < c.cuts) {
		skip = piece_proof(sep, &c, k, entry, d.start, end, closed);
		out->dir_len = segment_dir(&c, k + 1, entry, d.start, out->dir);
	} else if (closed) {
		skip = out->dir_len = end + 1;
		memcpy(out->dir, entry, end + 1);
	}
	child_set_skip(out, entry, entry_len, skip);
	return 0;
}

/* The directory that holds the file of a key, or an ordinary directory, and its name there. */
static void rest_parent(char sep, const unsigned char *raw, size_t len, unsigned char *parent,
	size_t *parent_len, char *name)
{
	size_t start = component_start(sep, raw, len);
	struct component c;

	component_write(sep, raw + start, len - start, &c);
	*parent_len = segment_dir(&c, c.cuts, raw, start, parent);
	if (name)
		segment_name(&c, c.cuts, name);
}

int names_parent(char sep, const void *dir, size_t dir_len, unsigned char *parent,
	size_t *parent_len, char *name)
{
	unsigned char raw[NAMES_DIR_MAX + REST_MAX];
	struct component c;
	struct dir_parts d;
	size_t inside;

	if (dir_len == 0)
		return -ENOENT;
	if (!dir_split(sep, dir, dir_len, &d))
		return -EINVAL;
	memcpy(raw, dir, dir_len);
	if (d.mark == '\0') {
		rest_parent(sep, raw, dir_len - 1, parent, parent_len, name);
		return 0;
	}
	if (piece_write(sep, raw, &d, &c, &inside) != 0)
		return -EINVAL;
	*parent_len = segment_dir(&c, inside - 1, raw, d.start, parent);
	if (name)
		segment_name(&c, inside - 1, name);
	return 0;
}

int names_key_parent(char sep, const void *key, size_t key_len, bool as_value,
	unsigned char *parent, size_t *parent_len, char *name)
{
	if (key_len == 0)
		return -EINVAL;
	if (key_len > NAMES_KEY_MAX)
		return -ENAMETOOLONG;
	if (!as_value) {
		rest_parent(sep, key, key_len, parent, parent_len, name);
		return 0;
	}
	memcpy(parent, key, key_len);
	parent[key_len] = (unsigned char)sep;
	*parent_len = key_len + 1;
	if (name)
		strcpy(name, "%value");
	return 0;
}

int names_path(char sep, const void *key, size_t key_len, char path[NAMES_PATH_MAX])
{
	const unsigned char *raw = key, *end = raw + key_len, *stop;
	struct component c;

	if (key_len == 0)
		return -EINVAL;
	if (key_len > NAMES_KEY_MAX)
		return -ENAMETOOLONG;
	for (;; raw = stop + 1) {
		stop = memchr(raw, sep, (size_t)(end - raw));
		if (!stop)
			stop = end;
		component_write(sep, raw, (size_t)(stop - raw), &c);
		for (size_t k = 0; k <= c.cuts; k++) {
			path += segment_name(&c, k, path);
			*path++ = '/';
		}
		if (stop == end)
			break;
	}
	path[-1] = '\0';
	return 0;
}

int names_key(char sep, const char *path, size_t path_len, unsigned char key[NAMES_KEY_MAX],
	size_t *key_len)
{
	struct name_target t = {.dir_len = 0};
	const char *end = path + path_len, *next;
	size_t len;
	int err;

	for (;; path = next + 1) {
		next = memchr(path, '/', (size_t)(end - path));
		len = (size_t)((next ? next : end) - path);
		err = names_resolve(sep, t.dir, t.dir_len, path, len, &t);
		if (!err && (next ? !t.can_dir : !t.can_key))
			err = -EINVAL;
		if (err)
			return err;
		if (!next)
			break;
	}
	memcpy(key, t.key, t.key_len);
	*key_len = t.key_len;
	return 0;
}

int names_ns_encode(const void *ns, size_t ns_len, char name[NAMES_NAME_MAX + 1])
{
	char text[3 * NAMES_NAME_MAX];
	size_t len = ns_len; /* writing makes no name shorter */

	if (ns_len == 0)
		return -EINVAL;
	if (len <= NAMES_NAME_MAX)
		len = text_write(NO_SEP, ns, ns_len, text);
	if (len > NAMES_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, text, len);
	name[len] = '\0';
	return 0;
}

int names_ns_decode(
	const char *name, size_t name_len, unsigned char ns[NAMES_NS_MAX], size_t *ns_len)
{
	unsigned char raw[NAMES_NAME_MAX];
	char text[3 * NAMES_NAME_MAX];
	size_t len;

	if (name_len > NAMES_NAME_MAX)
		return -ENAMETOOLONG;
	if (name_len == 0 || equals(name, name_len, "%empty"))
		return -EINVAL;
	len = text_read(NO_SEP, name, name_len, raw);
	if (text_write(NO_SEP, raw, len, text) != name_len || memcmp(text, name, name_len) != 0)
		return -EINVAL;
	memcpy(ns, raw, len);
	*ns_len = len;
	return 0;
}
