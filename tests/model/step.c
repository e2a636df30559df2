#include "tests/model/step.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define STEP_NAME(name) #name,
static const char *const op_names[] = {STEP_OPS(STEP_NAME)};
#undef STEP_NAME

enum field_type { FIELD_INT, FIELD_OCTAL, FIELD_HEX, FIELD_LONG, FIELD_PATH };

static const struct field {
	const char *name;
	enum field_type type;
	size_t at;
} fields[] = {
	{"slot", FIELD_INT, offsetof(struct step, slot)},
	{"slot2", FIELD_INT, offsetof(struct step, slot2)},
	{"flags", FIELD_HEX, offsetof(struct step, flags)},
	{"mode", FIELD_OCTAL, offsetof(struct step, mode)},
	{"salt", FIELD_HEX, offsetof(struct step, salt)},
	{"name", FIELD_INT, offsetof(struct step, name)},
	{"look", FIELD_INT, offsetof(struct step, look)},
	{"off", FIELD_LONG, offsetof(struct step, off)},
	{"off2", FIELD_LONG, offsetof(struct step, off2)},
	{"len", FIELD_LONG, offsetof(struct step, len)},
	{"path", FIELD_PATH, offsetof(struct step, path)},
	{"path2", FIELD_PATH, offsetof(struct step, path2)},
};

enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

const char *step_op_name(enum step_op op)
{
	return op_names[op];
}

bool step_is_driver(const struct step *s)
{
	return s->op == OP_dropcaches || s->op == OP_compare || s->op == OP_remount;
}

static size_t print_path(char *to, const char *path)
{
	char *at = to;

	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c <= ' ' || c >= 0x7f || c == '\\')
			at += sprintf(at, "\\%02x", c);
		else
			*at++ = *path;
	}
	*at = '\0';
	return (size_t)(at - to);
}

static size_t print_field(char *to, const struct field *f, const void *value)
{
	const char *start = to;
	unsigned number = 0;
	int64_t wide = 0;

	if (f->type == FIELD_LONG)
		memcpy(&wide, value, sizeof(wide));
	else if (f->type != FIELD_PATH)
		memcpy(&number, value, sizeof(number));
	if (!number && !wide && (f->type != FIELD_PATH || !*(const char *)value))
		return 0;
	to += sprintf(to, " %s=", f->name);
	switch (f->type) {
	case FIELD_INT:
		to += sprintf(to, "%d", (int)number);
		break;
	case FIELD_OCTAL:
		to += sprintf(to, "0%o", number);
		break;
	case FIELD_HEX:
		to += sprintf(to, "0x%x", number);
		break;
	case FIELD_LONG:
		to += sprintf(to, "%" PRId64, wide);
		break;
	case FIELD_PATH:
		to += print_path(to, value);
		break;
	}
	return (size_t)(to - start);
}

void step_print(const struct step *s, char *text)
{
	text += sprintf(text, "w%d %s", s->worker, op_names[s->op]);
	for (int i = 0; i < FIELDS; i++)
		text += print_field(text, &fields[i], (const char *)s + fields[i].at);
}

static bool parse_path(const char *text, size_t len, char *out)
{
	const char *end = text + len;
	size_t n = 0;

	while (text < end && n < STEP_PATH_MAX - 1) {
		if (*text == '\\') {
			if (end - text < 3)
				return false;
			const char hex[3] = {text[1], text[2], '\0'};

			out[n++] = (char)strtoul(hex, NULL, 16);
			text += 3;
		} else {
			out[n++] = *text++;
		}
	}
	out[n] = '\0';
	return text == end;
}

static bool parse_field(const char *text, size_t len, struct step *out)
{
	for (int i = 0; i < FIELDS; i++) {
		const struct field *f = &fields[i];
		char *to = (char *)out + f->at;
		size_t n = strlen(f->name);

		if (len <= n || memcmp(text, f->name, n) != 0 || text[n] != '=')
			continue;
		text += n + 1;
		len -= n + 1;
		if (f->type == FIELD_PATH)
			return parse_path(text, len, to);
		int64_t wide = strtoll(text, NULL, 0);
		unsigned number = (unsigned)wide;
		memcpy(to, f->type == FIELD_LONG ? (void *)&wide : (void *)&number,
			f->type == FIELD_LONG ? sizeof(wide) : sizeof(number));
		return true;
	}
	return false;
}

static size_t word_len(const char *text)
{
	return strcspn(text, " \n");
}

static const char *next_word(const char *text)
{
	text += word_len(text);
	return text + strspn(text, " \n");
}

bool step_parse(const char *text, struct step *out)
{
	int op = 0;

	memset(out, 0, sizeof(*out));
	if (text[0] != 'w' || !isdigit((unsigned char)text[1]))
		return false;
	out->worker = atoi(text + 1);
	text = next_word(text);
	while (op < OP_COUNT &&
		(strlen(op_names[op]) != word_len(text) ||
			memcmp(text, op_names[op], word_len(text)) != 0))
		op++;
	if (op == OP_COUNT || out->worker >= STEP_WORKERS_MAX)
		return false;
	out->op = (enum step_op)op;
	for (text = next_word(text); *text; text = next_word(text)) {
		if (!parse_field(text, word_len(text), out))
			return false;
	}
	return out->slot >= 0 && out->slot < STEP_SLOTS && out->slot2 >= 0 &&
		out->slot2 < STEP_SLOTS && out->len <= 1 << 30;
}
