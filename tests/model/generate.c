/*
 * generate.c - random steps.
 *
 * Few names, so that steps meet: half of them are more often those of directories. A name is one
 * that both trees take: kvfs refuses some that a plain folder has (%value in the root, an escape
 * where none is needed), and they are not in the lists.
 */
#include "tests/model/generate.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
	enum step_op op;
	unsigned weight;
} weights[] = {
	{OP_open, 130},
	{OP_close, 45},
	{OP_dup, 15},
	{OP_read, 40},
	{OP_pread, 40},
	{OP_write, 60},
	{OP_pwrite, 60},
	{OP_lseek, 30},
	{OP_truncate, 50},
	{OP_fallocate, 20},
	{OP_copyrange, 20},
	{OP_sendfile, 12},
	{OP_fsync, 2},
	{OP_fdatasync, 2},
	{OP_map, 45},
	{OP_mapread, 15},
	{OP_mapwrite, 30},
	{OP_unmap, 8},
	{OP_rename, 90},
	{OP_link, 5},
	{OP_unlink, 45},
	{OP_mkdir, 45},
	{OP_rmdir, 12},
	{OP_symlink, 15},
	{OP_readlink, 10},
	{OP_mknod, 10},
	{OP_chmod, 20},
	{OP_chown, 12},
	{OP_utimens, 15},
	{OP_setxattr, 25},
	{OP_getxattr, 15},
	{OP_listxattr, 10},
	{OP_removexattr, 12},
	{OP_stat, 20},
	{OP_contents, 40},
	{OP_list, 25},
	{OP_opendir, 20},
	{OP_relist, 6},
};

static const char *const dir_names[] = {"a", "b", "c"};
static const char *const file_names[] = {"e", "f", "g", "h"};

/* LONG stands for 250 bytes. Those of the first kind are names everywhere. */
#define LONG "\001"
static const char *const nasty_dirs[] = {"%00", "a:b", LONG "1", "%41", "%2500", "a\xc3\xbc"};
static const char *const nasty_files[] = {"100%", "x%25+", LONG "22", LONG "55555", "%25empty",
	"%25value", "%2E", "%2E.", "x%2525", "%", "%2", " \n", "-", "\xff\xfe"};
/* Names below a directory only: the directory's own key, and the key that ends in a separator. */
static const char *const inner_files[] = {"%value", "%empty"};
/* Pieces of what is too long for one name, and names that are long enough to go on with one. */
static const char piece[] = LONG "333%+";
static const char *const piece_files[] = {"ppp", "pppp%25+", "%value", "p:p%empty"};

static const char *pick(struct rng *r, const char *const *from, size_t n)
{
	return from[rng_below(r, (uint32_t)n)];
}

static void add_name(char *path, const char *name)
{
	size_t n = strlen(path);

	if (n && path[n - 1] != '/')
		path[n++] = '/';
	if (*name == *LONG) {
		memset(path + n, 'L', 250);
		n += 250;
		name++;
	}
	strcpy(path + n, name);
}

static void add_dir(struct generator *g, char *path)
{
	bool nasty = g->nasty && rng_chance(&g->rng, 300);

	add_name(path,
		nasty ? pick(&g->rng, nasty_dirs, COUNT(nasty_dirs))
		      : pick(&g->rng, dir_names, COUNT(dir_names)));
}

static void add_file(struct generator *g, char *path, bool inner)
{
	struct rng *r = &g->rng;

	if (g->nasty && inner && rng_chance(r, 150))
		add_name(path, pick(r, inner_files, COUNT(inner_files)));
	else if (g->nasty && rng_chance(r, 250))
		add_name(path, pick(r, nasty_files, COUNT(nasty_files)));
	else
		add_name(path, pick(r, file_names, COUNT(file_names)));
}

/* Room for every name there is: three directories of 251 bytes do not fit in a key. */
static void random_path(struct generator *g, char *path, bool dir)
{
	struct rng *r = &g->rng;
	char long_path[5 * 256 + 64] = "";
	uint32_t depth = rng_below(r, 100);
	int dirs = depth < 30 ? 0 : depth < 70 ? 1 : depth < 93 ? 2 : 3;

	strcpy(long_path, g->top);
	if (g->nasty && rng_chance(r, 40)) {
		if (rng_chance(r, 500))
			add_dir(g, long_path);
		add_name(long_path, piece);
		if (rng_chance(r, 600))
			add_name(long_path, pick(r, piece_files, COUNT(piece_files)));
	} else {
		for (int i = 0; i < dirs; i++)
			add_dir(g, long_path);
		if (rng_chance(r, dir ? 850 : 120))
			add_dir(g, long_path);
		else
			add_file(g, long_path, dirs > 0 || *g->top);
	}
	if (strlen(long_path) < STEP_PATH_MAX - 100)
		strcpy(path, long_path);
	else
		random_path(g, path, dir);
}

/* A path of which something was made. */
static void known_path(struct generator *g, char *path, bool dir)
{
	strcpy(path, g->known[rng_below(&g->rng, GENERATE_KNOWN)]);
	if (!*path || rng_chance(&g->rng, 350))
		random_path(g, path, dir);
}

static void learn_path(struct generator *g, const char *path)
{
	strcpy(g->known[g->next_known++ % GENERATE_KNOWN], path);
}

void generate_learn(struct generator *g, const struct step *s, bool done)
{
	bool *filled = g->filled[SLOT_FILE][s->worker];

	switch (s->op) {
	case OP_open:
		filled[s->slot] = done;
		g->filled[SLOT_LISTING][s->worker][s->slot] = false;
		if (done && (s->flags & O_CREAT))
			learn_path(g, s->path);
		break;
	case OP_close:
		filled[s->slot] = false;
		break;
	case OP_dup:
		filled[s->slot2] = filled[s->slot2] || done;
		break;
	case OP_map:
	case OP_unmap:
		g->filled[SLOT_MAP][s->worker][s->slot] = done && s->op == OP_map;
		break;
	case OP_mapwrite:
		if (done && (s->flags & MAP_STEP_UNMAP))
			g->filled[SLOT_MAP][s->worker][s->slot] = false;
		break;
	case OP_opendir:
		g->filled[SLOT_LISTING][s->worker][s->slot] |= done;
		break;
	case OP_rename:
		if (done)
			learn_path(g, s->path2);
		break;
	case OP_mkdir:
	case OP_symlink:
	case OP_mknod:
		if (done)
			learn_path(g, s->path);
		break;
	case OP_remount:
		memset(g->filled, 0, sizeof(g->filled));
		break;
	default:
		break;
	}
}

/* A slot that is likely to hold what the operation needs. */
static int random_slot(struct generator *g, int worker, enum step_op op)
{
	bool map = op == OP_mapread || op == OP_mapwrite || op == OP_unmap;
	enum slot_kind kind = map ? SLOT_MAP : op == OP_relist ? SLOT_LISTING : SLOT_FILE;
	int slot = (int)rng_below(&g->rng, STEP_SLOTS);

	for (int i = 0; i < STEP_SLOTS && !g->filled[kind][worker][slot]; i++)
		slot = (slot + 1) % STEP_SLOTS;
	return slot;
}

static int64_t random_size(struct rng *r)
{
	uint32_t kind = rng_below(r, 100);

	if (kind < 40)
		return rng_below(r, 200);
	if (kind < 75)
		return rng_below(r, 9000);
	if (kind < 97)
		return (int64_t)rng_below(r, 25) * 4096 + (int64_t)rng_below(r, 3) - (kind < 90);
	return rng_below(r, kind == 99 ? 3 << 20 : 300000);
}

static int64_t random_offset(struct rng *r)
{
	int64_t off = random_size(r);

	return off < 0 ? 0 : off;
}

static unsigned random_mode(struct rng *r)
{
	static const unsigned modes[] = {0644, 0600, 0755, 0700, 0777, 0666, 0640, 01777, 02755,
		04755, 06711, 0444, 0555, 0200, 0311, 0000};

	return modes[rng_below(r, rng_chance(r, 700) ? 8 : COUNT(modes))];
}

static unsigned random_open_flags(struct rng *r)
{
	static const struct {
		unsigned flag, permille;
	} flags[] = {{O_CREAT, 600}, {O_EXCL, 60}, {O_TRUNC, 120}, {O_APPEND, 130},
		{O_NOFOLLOW, 50}, {O_DIRECTORY, 30}, {O_SYNC, 2}, {O_DSYNC, 2}, {O_PATH, 15}};
	static const unsigned ways[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
	unsigned all = ways[rng_below(r, 4)] | O_NONBLOCK;

	for (size_t i = 0; i < COUNT(flags); i++) {
		if (rng_chance(r, flags[i].permille))
			all |= flags[i].flag;
	}
	/* Linux is of several minds about this one. */
	return (all & O_CREAT) && (all & O_DIRECTORY) ? all & ~(unsigned)O_DIRECTORY : all;
}

static unsigned random_rename_flags(struct rng *r)
{
	enum { NOREPLACE = 1, EXCHANGE = 2 };
	uint32_t kind = rng_below(r, 100);

	return kind < 65 ? 0 : kind < 78 ? NOREPLACE : kind < 99 ? EXCHANGE : NOREPLACE | EXCHANGE;
}

static unsigned random_map_flags(struct generator *g)
{
	struct rng *r = &g->rng;
	unsigned flags = rng_chance(r, 250) ? MAP_STEP_PRIVATE : 0;

	if (rng_chance(r, 700))
		flags |= MAP_STEP_WRITABLE;
	/* Dirty pages carry their time when they are written, which is when the kernel likes;
	 * unless it has to. */
	if (!g->dirty_maps)
		flags |= rng_chance(r, 500) ? MAP_STEP_MSYNC : MAP_STEP_UNMAP;
	else if (rng_chance(r, 300))
		flags |= rng_chance(r, 500) ? MAP_STEP_MSYNC : MAP_STEP_UNMAP;
	return flags;
}

/* The path, or none: then the slot is meant. */
static void random_target(struct generator *g, struct step *s)
{
	if (rng_chance(&g->rng, 600))
		known_path(g, s->path, rng_chance(&g->rng, 300));
}

static void random_times(struct rng *r, struct step *s)
{
	s->off = rng_below(r, 2000000000);
	s->off2 = rng_chance(r, 50) ? -(int64_t)rng_below(r, 100000)
				    : (int64_t)rng_below(r, 2000000000);
	s->len = rng_below(r, 1000000000);
	if (rng_chance(r, 200))
		s->flags |= TIME_STEP_NOW;
	if (rng_chance(r, 100))
		s->flags |= TIME_STEP_OMIT_ATIME;
	if (rng_chance(r, 100))
		s->flags |= TIME_STEP_OMIT_MTIME;
}

static void random_owner(struct rng *r, struct step *s)
{
	static const int64_t ids[] = {-1, 0, 1, 1000, 65534, 4000000000};

	s->off = ids[rng_below(r, COUNT(ids))];
	s->off2 = ids[rng_below(r, COUNT(ids))];
}

static void random_xattr(struct rng *r, struct step *s)
{
	uint32_t kind = rng_below(r, 10);

	s->name = rng_below(r, 5);
	s->flags = kind < 7 ? 0 : kind < 9 ? XATTR_CREATE : XATTR_REPLACE;
	s->len = rng_chance(r, 100) ? 0 : rng_below(r, 150);
}

static void random_node(struct rng *r, struct step *s)
{
	static const unsigned types[] = {S_IFIFO, S_IFSOCK, S_IFREG, S_IFCHR, S_IFBLK};

	s->mode = types[rng_below(r, COUNT(types))] | 0600 | rng_below(r, 0100);
	s->off = rng_chance(r, 300) ? 0 : 0x103;
}

/* Relative and never upwards, so that no path leaves its tree. */
static void random_symlink(struct generator *g, struct step *s)
{
	static const char *const targets[] = {"a", "e", "b/f", "/nowhere/x", "a/b", ".", "c"};

	random_path(g, s->path, false);
	strcpy(s->path2, pick(&g->rng, targets, COUNT(targets)));
}

static void random_range(struct generator *g, struct step *s)
{
	struct rng *r = &g->rng;

	s->off = random_offset(r);
	s->off2 = random_offset(r);
	s->len = random_size(r);
	if (s->len < 0)
		s->len = 0;
	if (s->len > STEP_LEN_MAX)
		s->len = STEP_LEN_MAX;
	switch (s->op) {
	case OP_lseek:
		s->flags = rng_below(r, g->kvfs ? 5 : 3);
		if (s->flags == SEEK_CUR || s->flags == SEEK_END)
			s->off = (int64_t)rng_below(r, 2000) - 1500;
		break;
	case OP_fallocate:
		s->flags = rng_chance(r, 400) ? FALLOC_FL_KEEP_SIZE : 0;
		break;
	case OP_copyrange:
	case OP_sendfile:
		s->off = rng_chance(r, 300) ? -1 : s->off;
		s->off2 = rng_chance(r, 300) ? -1 : s->off2;
		break;
	case OP_map:
		s->off = s->off / 4096 * 4096;
		s->len = (1 + (int64_t)rng_below(r, 16)) * 4096;
		s->flags = random_map_flags(g);
		break;
	case OP_mapread:
	case OP_mapwrite:
		s->off = rng_below(r, 20000);
		s->len = rng_below(r, 20000);
		s->flags = random_map_flags(g);
		break;
	case OP_truncate:
		s->len = random_offset(r);
		if (rng_chance(r, 200))
			s->len = 0;
		random_target(g, s);
		break;
	default:
		break;
	}
}

static void random_name_step(struct generator *g, struct step *s)
{
	struct rng *r = &g->rng;
	bool dir = s->op == OP_mkdir || s->op == OP_rmdir || s->op == OP_list ||
		s->op == OP_opendir || (s->op == OP_rename && rng_chance(r, 400));

	if (s->op == OP_opendir && rng_chance(r, 300))
		strcpy(s->path, *g->top ? g->top : ".");
	else if (s->op == OP_mkdir || s->op == OP_mknod)
		random_path(g, s->path, dir);
	else
		known_path(g, s->path, dir);
	switch (s->op) {
	case OP_open:
		s->flags = random_open_flags(r);
		s->mode = random_mode(r) & 0777;
		break;
	case OP_rename:
		s->flags = random_rename_flags(r);
		if (s->flags & 2)
			known_path(g, s->path2, dir);
		else
			random_path(g, s->path2, dir);
		break;
	case OP_link:
		random_path(g, s->path2, false);
		break;
	case OP_mkdir:
		s->mode = random_mode(r) | 0700;
		break;
	case OP_mknod:
		random_node(r, s);
		break;
	case OP_list:
		s->flags = rng_below(r, 8);
		if (rng_chance(r, 150))
			strcpy(s->path, *g->top ? g->top : ".");
		break;
	default:
		break;
	}
}

static void random_attr_step(struct generator *g, struct step *s)
{
	struct rng *r = &g->rng;

	random_target(g, s);
	if (s->op == OP_chmod)
		s->mode = random_mode(r);
	else if (s->op == OP_chown)
		random_owner(r, s);
	else if (s->op == OP_utimens)
		random_times(r, s);
	else if (s->op != OP_stat)
		random_xattr(r, s);
}

static enum step_op random_op(struct rng *r)
{
	unsigned sum = 0, at;
	size_t i;

	for (i = 0; i < COUNT(weights); i++)
		sum += weights[i].weight;
	at = rng_below(r, sum);
	for (i = 0; at >= weights[i].weight; i++)
		at -= weights[i].weight;
	return weights[i].op;
}

static bool driver_step(struct generator *g, struct step *s)
{
	uint32_t kind = rng_below(&g->rng, 10000);

	if (!g->driver || kind >= 18)
		return false;
	s->op = kind < 8 && g->drop ? OP_dropcaches : kind < 14 ? OP_compare : OP_remount;
	return true;
}

void generate(struct generator *g, struct step *s)
{
	struct rng *r = &g->rng;

	memset(s, 0, sizeof(*s));
	if (driver_step(g, s))
		return;
	do {
		s->op = random_op(r);
	} while (s->op == OP_link && !g->kvfs);
	s->worker = (int)rng_below(r, (uint32_t)g->workers);
	s->slot =
		s->op == OP_open ? (int)rng_below(r, STEP_SLOTS) : random_slot(g, s->worker, s->op);
	s->slot2 =
		s->op == OP_dup ? (int)rng_below(r, STEP_SLOTS) : random_slot(g, s->worker, s->op);
	s->salt = (unsigned)rng_next(r);
	s->look = rng_below(r, 4) | (g->dirty_maps ? LOOK_LOOSE : 0);
	switch (s->op) {
	case OP_symlink:
		random_symlink(g, s);
		break;
	case OP_open:
	case OP_rename:
	case OP_link:
	case OP_unlink:
	case OP_mkdir:
	case OP_rmdir:
	case OP_readlink:
	case OP_mknod:
	case OP_contents:
	case OP_list:
	case OP_opendir:
		random_name_step(g, s);
		break;
	case OP_chmod:
	case OP_chown:
	case OP_utimens:
	case OP_setxattr:
	case OP_getxattr:
	case OP_listxattr:
	case OP_removexattr:
	case OP_stat:
		random_attr_step(g, s);
		break;
	default:
		random_range(g, s);
		break;
	}
}
