#include "tests/crash/plan.h"

#include <stdio.h>
#include <string.h>

enum {
	KEY_MAX = 512,
	DEPTH_MAX = 4, /* of a directory, its namespace included */
	THINGS_MAX = 40,
	TRIES = 200,
	LONG_A = 240, /* two of these and a short name pass LMDB's key length */
};

uint64_t plan_random(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return below ? *state % below : 0;
}

/* The bytes of the key that a path is: what comes after the namespace. */
static size_t key_len(const char *path)
{
	const char *slash = strchr(path, '/');

	return slash ? strlen(slash + 1) : 0;
}

static bool is_dir(const struct thing *t)
{
	return t && S_ISDIR(t->mode);
}

static bool is_file(const struct thing *t)
{
	return t && S_ISREG(t->mode);
}

static bool in_top(const char *path)
{
	return !strchr(path, '/');
}

static bool parent_is_there(const struct model *m, const char *path)
{
	char dir[MODEL_PATH];
	const char *slash = strrchr(path, '/');

	if (!slash)
		return true;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	return is_dir(model_find(m, dir));
}

static const struct thing *pick(struct plan *p, const struct model *m, uint32_t type)
{
	for (int i = 0; m->n && i < TRIES; i++) {
		const struct thing *t = &m->things[plan_random(&p->random, m->n)];

		if (!type || (t->mode & S_IFMT) == type)
			return t;
	}
	return NULL;
}

/* A name in some directory; of a namespace where there is none yet, or `top` says so. */
static void pick_name(struct plan *p, const struct model *m, bool top, char out[MODEL_PATH])
{
	const struct thing *dir = top ? NULL : pick(p, m, S_IFDIR);
	char name[LONG_A + 2] = {(char)('a' + plan_random(&p->random, 6)), '\0'};

	if (!dir) {
		snprintf(out, MODEL_PATH, "%s%s", p->top, name);
		return;
	}
	if (plan_random(&p->random, 8) == 0 && key_len(dir->path) < KEY_MAX - LONG_A - 4) {
		memset(name + 1, 'x', LONG_A - 1);
		name[LONG_A] = '\0';
	}
	if ((size_t)snprintf(out, MODEL_PATH, "%s/%s", dir->path, name) >= MODEL_PATH)
		*out = '\0';
}

static size_t pick_len(struct plan *p)
{
	switch (plan_random(&p->random, 40)) {
	case 0:
		return plan_random(&p->random, p->large);
	case 1:
	case 2:
	case 3:
		return plan_random(&p->random, p->large < 70000 ? p->large : 70000);
	case 4:
		return 0;
	default:
		return plan_random(&p->random, 1200);
	}
}

static void choose_place(struct plan *p, const struct model *m, struct op *op)
{
	const struct thing *t;
	uint32_t type = 0;

	switch (op->kind) {
	case OP_PUT:
	case OP_PUT_SYNC:
	case OP_MKDIR:
	case OP_SYMLINK:
		pick_name(p, m, op->kind == OP_MKDIR && plan_random(&p->random, 6) == 0, op->a);
		return;
	case OP_PATCH:
	case OP_TRUNCATE:
	case OP_METADATA:
	case OP_EXPIRE:
	case OP_FSYNC:
		type = S_IFREG;
		break;
	case OP_RMDIR:
		type = S_IFDIR;
		break;
	default:
		break;
	}
	t = pick(p, m, type);
	snprintf(op->a, MODEL_PATH, "%s", t ? t->path : "");
	if (!t || (op->kind != OP_RENAME && op->kind != OP_EXCHANGE))
		return;
	const struct thing *other = pick(p, m, t->mode & S_IFMT);
	if (other && (op->kind == OP_EXCHANGE || plan_random(&p->random, 2)))
		snprintf(op->b, MODEL_PATH, "%s", other->path);
	else
		pick_name(p, m, in_top(op->a), op->b);
}

static void choose(struct plan *p, const struct model *m, struct op *op)
{
	static const unsigned char weights[OP_KINDS] = {[OP_PUT] = 24,
		[OP_PUT_SYNC] = 3,
		[OP_PATCH] = 8,
		[OP_TRUNCATE] = 4,
		[OP_UNLINK] = 8,
		[OP_MKDIR] = 8,
		[OP_RMDIR] = 4,
		[OP_RENAME] = 20,
		[OP_EXCHANGE] = 6,
		[OP_CHMOD] = 4,
		[OP_NOTE] = 4,
		[OP_METADATA] = 4,
		[OP_EXPIRE] = 6,
		[OP_SYMLINK] = 2,
		[OP_FSYNC] = 2};
	static const int64_t lives[] = {0, 50, 150, 1000000};
	uint64_t at = 0, total = 0;

	for (int i = 0; i < OP_KINDS; i++)
		total += weights[i];
	at = plan_random(&p->random, total);
	*op = (struct op){.seed = plan_random(&p->random, UINT32_MAX)};
	while (at >= weights[op->kind])
		at -= weights[op->kind++];
	choose_place(p, m, op);
	op->len = pick_len(p);
	op->off = op->kind == OP_PATCH ? plan_random(&p->random, 5000) : 0;
	op->mode = 0700 | (uint32_t)plan_random(&p->random, 0100);
	op->expiration = lives[plan_random(&p->random, 4)];
	op->expiration += op->expiration ? p->now : 0;
	if (op->kind == OP_METADATA)
		snprintf(op->text, MODEL_TEXT, "{\"n\":%u}", (unsigned)op->seed);
	else if (op->kind != OP_NOTE || op->seed % 4)
		snprintf(op->text, MODEL_TEXT, "note %u", (unsigned)op->seed);
}

/* Whether the path can be that of a new thing. */
static bool name_is_free(const struct model *m, const char *path, uint32_t type)
{
	unsigned depth = 0;

	for (const char *c = path; *c; c++)
		depth += *c == '/';
	return *path && !model_find(m, path) && parent_is_there(m, path) &&
		key_len(path) + S_ISDIR(type) <= KEY_MAX && depth < DEPTH_MAX + !S_ISDIR(type) &&
		(S_ISDIR(type) || !in_top(path)) && m->n < THINGS_MAX;
}

/* Whether everything below a directory still has a name when it is renamed. */
static bool all_fit(const struct model *m, const char *from, const char *to)
{
	for (size_t i = 0; i < m->n; i++) {
		const char *path = m->things[i].path;

		if ((path_below(path, from) || strcmp(path, from) == 0) &&
			key_len(to) + strlen(path) - strlen(from) + 2 > KEY_MAX)
			return false;
	}
	return true;
}

static void move_all(struct model *m, const char *from, const char *to)
{
	char path[2 * MODEL_PATH];

	for (size_t i = 0; i < m->n; i++) {
		struct thing *t = &m->things[i];

		if (strcmp(t->path, from) != 0 && !path_below(t->path, from))
			continue;
		snprintf(path, sizeof(path), "%s%s", to, t->path + strlen(from));
		snprintf(t->path, MODEL_PATH, "%.*s", MODEL_PATH - 1, path);
	}
}

/* A key that takes another's place keeps what that had, unless it brings its own. */
static void inherit(struct thing *t, const struct thing *replaced)
{
	if (!t->own_expiration) {
		t->expiration = replaced->expiration;
		t->own_expiration = replaced->own_expiration;
	}
	if (!t->own_metadata) {
		if (*replaced->metadata)
			memcpy(t->metadata, replaced->metadata, MODEL_TEXT);
		t->own_metadata = replaced->own_metadata;
	}
}

static bool apply_rename(struct model *m, const struct op *op)
{
	struct thing *a = model_find(m, op->a), *b = model_find(m, op->b);

	if (!a || strcmp(op->a, op->b) == 0 || path_below(op->b, op->a) ||
		path_below(op->a, op->b) || in_top(op->a) != in_top(op->b))
		return false;
	if (!b && !name_is_free(m, op->b, a->mode))
		return false;
	if (b && ((a->mode & S_IFMT) != (b->mode & S_IFMT) || S_ISLNK(a->mode)))
		return false;
	if (is_dir(b) && model_has_below(m, op->b))
		return false;
	if (is_dir(a) && !all_fit(m, op->a, op->b))
		return false;
	if (is_file(b))
		inherit(a, b);
	if (b)
		model_remove(m, op->b);
	move_all(m, op->a, op->b);
	return true;
}

static bool apply_exchange(struct model *m, const struct op *op)
{
	const struct thing *a = model_find(m, op->a), *b = model_find(m, op->b);

	if (!a || !b || a == b || in_top(op->a) || in_top(op->b) || is_dir(a) != is_dir(b) ||
		path_below(op->a, op->b) || path_below(op->b, op->a))
		return false;
	if (is_dir(a) && (!all_fit(m, op->a, op->b) || !all_fit(m, op->b, op->a)))
		return false;
	move_all(m, op->a, "\001");
	move_all(m, op->b, op->a);
	move_all(m, "\001", op->b);
	return true;
}

static bool apply_put(struct model *m, const struct op *op)
{
	struct thing *t = model_find(m, op->a), new = {.mode = S_IFREG | op->mode};

	if (t ? !is_file(t) : !name_is_free(m, op->a, S_IFREG))
		return false;
	if (!t) {
		memcpy(new.path, op->a, MODEL_PATH);
		t = model_add(m, &new);
	}
	content_unref(t->value);
	t->value = content_new(op->seed, op->len);
	return true;
}

static bool apply_new(struct model *m, const struct op *op, uint32_t mode)
{
	struct thing new = {.mode = mode};

	if (!name_is_free(m, op->a, mode))
		return false;
	memcpy(new.path, op->a, MODEL_PATH);
	if (S_ISLNK(mode))
		new.value = content_of(op->text, strlen(op->text));
	model_add(m, &new);
	return true;
}

static bool apply_to_content(struct thing *t, const struct op *op)
{
	struct content *new;

	if (!is_file(t) || (op->kind == OP_PATCH && !op->len))
		return false;
	new = op->kind == OP_PATCH ? content_patch(t->value, op->seed, op->off, op->len)
				   : content_cut(t->value, op->len);
	content_unref(t->value);
	t->value = new;
	return true;
}

static bool apply_to_attribute(struct thing *t, const struct op *op)
{
	if (!t || S_ISLNK(t->mode))
		return false;
	if (op->kind == OP_CHMOD) {
		t->mode = (t->mode & S_IFMT) | op->mode;
	} else if (op->kind == OP_NOTE) {
		if (!*op->text && !*t->note)
			return false;
		memcpy(t->note, op->text, MODEL_TEXT);
	} else if (!is_file(t)) {
		return false;
	} else if (op->kind == OP_METADATA) {
		memcpy(t->metadata, op->text, MODEL_TEXT);
		t->own_metadata = true;
	} else if (op->expiration || t->expiration) {
		t->expiration = op->expiration;
		t->own_expiration = true;
	} else {
		return false;
	}
	return true;
}

static bool apply_removal(struct model *m, const struct op *op)
{
	const struct thing *t = model_find(m, op->a);

	if (!t || is_dir(t) != (op->kind == OP_RMDIR) || (is_dir(t) && model_has_below(m, op->a)))
		return false;
	model_remove(m, op->a);
	return true;
}

bool plan_apply(struct model *m, const struct op *op)
{
	struct thing *t = model_find(m, op->a);

	switch (op->kind) {
	case OP_PUT:
	case OP_PUT_SYNC:
		return apply_put(m, op);
	case OP_PATCH:
	case OP_TRUNCATE:
		return apply_to_content(t, op);
	case OP_UNLINK:
	case OP_RMDIR:
		return apply_removal(m, op);
	case OP_MKDIR:
		return apply_new(m, op, S_IFDIR | op->mode);
	case OP_SYMLINK:
		return apply_new(m, op, S_IFLNK | 0777);
	case OP_RENAME:
		return apply_rename(m, op);
	case OP_EXCHANGE:
		return apply_exchange(m, op);
	case OP_FSYNC:
		return is_file(t);
	default:
		return apply_to_attribute(t, op);
	}
}

void plan_next(struct plan *p, const struct model *m, struct op *op)
{
	struct model trial = {0};
	bool good = false;

	p->number++;
	for (int i = 0; i < TRIES && !good; i++) {
		choose(p, m, op);
		model_copy(m, &trial);
		good = plan_apply(&trial, op);
	}
	model_release(&trial);
	if (good)
		return;
	*op = (struct op){.kind = OP_MKDIR, .mode = 0755}; /* a new namespace can always be made */
	snprintf(op->a, MODEL_PATH, "%sn%llu", p->top, (unsigned long long)p->number);
}

const char *op_text(const struct op *op)
{
	static const char *const names[OP_KINDS] = {"put", "put-sync", "patch", "truncate",
		"unlink", "mkdir", "rmdir", "rename", "exchange", "chmod", "note", "metadata",
		"expire", "symlink", "fsync"};
	static _Thread_local char text[2 * MODEL_PATH + 128];

	snprintf(text, sizeof(text), "%s %s%s%s len %zu off %zu", names[op->kind], op->a,
		*op->b ? " -> " : "", op->b, op->len, op->off);
	return text;
}
