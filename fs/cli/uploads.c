#include "fs/cli/uploads.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/cli/cli.h"
#include "fs/cli/mountpoint.h"

enum {
	LOOK_FIRST_MS = 10,
	LOOK_LAST_MS = 250,
	STUCK_MS = 3000, /* nothing goes on: why is said */
	ASK_AGAIN_MS = 5000, /* what failed for a while is not left to wait long */
	OFFLINE_MS = 5000, /* how long one who is not patient waits for an answer */
};

static int64_t number(const char *status, const char *name)
{
	char value[32];

	return status_value(status, name, 0, value, sizeof(value)) ? atoll(value) : 0;
}

void uploads_read(const char *status, struct uploads *out)
{
	char value[32];

	*out = (struct uploads){
		.remote = status_value(status, "uploads_pending", 0, value, sizeof(value)),
		.last = (uint64_t)number(status, "uploads_last"),
		.done = (uint64_t)number(status, "uploads_done"),
		.pending = (uint64_t)number(status, "uploads_pending"),
		.open = (uint64_t)number(status, "uploads_open"),
		.failed = (uint64_t)number(status, "uploads_failed"),
		.offline_since = number(status, "offline_since"),
	};
}

bool uploads_failed(const char *status, unsigned skip, struct failed_upload *out)
{
	if (!status_value(status, "failed", skip, out->line, sizeof(out->line)))
		return false;
	char *rest = out->line;
	out->reason = strsep(&rest, "\t");
	out->ns = rest ? strsep(&rest, "\t") : "";
	out->key = rest ? rest : "";
	return true;
}

const char *uploads_time(int64_t seconds, char buf[32])
{
	time_t then = (time_t)seconds, now = time(NULL);
	struct tm a, b;

	localtime_r(&then, &a);
	localtime_r(&now, &b);
	bool today = a.tm_year == b.tm_year && a.tm_yday == b.tm_yday;
	strftime(buf, 32, today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &a);
	return buf;
}

const char *uploads_number(uint64_t n, char buf[32])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, n), to = 0;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			buf[to++] = ',';
		buf[to++] = digits[i];
	}
	buf[to] = '\0';
	return buf;
}

void uploads_say_failed(const char *command, const char *path, const char *resolved)
{
	char *status = mountpoint_status(resolved);
	struct failed_upload f;
	struct uploads u;
	char n[32];

	if (!status)
		return;
	uploads_read(status, &u);
	for (unsigned i = 0; i < UPLOADS_FAILED_SHOWN && uploads_failed(status, i, &f); i++)
		fprintf(stderr,
			"kvfs: %s: %s%s%s: %s; write it again as it can be stored, or give it up: "
			"kvfs "
			"drop\n",
			command, f.ns, *f.ns ? ": " : "", f.key, f.reason);
	if (u.failed > UPLOADS_FAILED_SHOWN)
		fprintf(stderr, "kvfs: %s: %s: %s more; see kvfs status --failed\n", command, path,
			uploads_number(u.failed - UPLOADS_FAILED_SHOWN, n));
	free(status);
}

/* --- waiting ----------------------------------------------------------------------------------- */

/* Milliseconds of a clock that nobody sets. */
static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct waiting {
	const char *command;
	bool terminal, shown, said;
	uint64_t upto; /* the change that is waited for; 0: every one there will be */
	uint64_t most, last; /* pending: the highest and the last number */
	int64_t moved; /* when it last changed */
	int64_t asked;
	int64_t offline; /* since when, in our time, no answer came; 0 */
	char error[256]; /* the last one of before we waited */
};

static void clear_line(struct waiting *w)
{
	if (w->shown)
		fputs("\r\033[K", stderr);
	w->shown = false;
}

static void show(struct waiting *w, const struct uploads *u)
{
	char done[32], all[32];

	if (!w->terminal || !w->most)
		return;
	fprintf(stderr, "\rkvfs: %s: %s of %s changes uploaded\033[K", w->command,
		uploads_number(w->most - u->pending, done), uploads_number(w->most, all));
	fflush(stderr);
	w->shown = true;
}

/* Why nothing goes on; once. */
static void say_why(struct waiting *w, const char *status, const struct uploads *u)
{
	char text[256], n[32];
	int64_t blocked = number(status, "blocked_seconds");

	clear_line(w);
	w->said = true;
	if (u->offline_since)
		fprintf(stderr,
			"kvfs: %s: the remote store has not answered since %s; waiting for it "
			"...\n",
			w->command, uploads_time(u->offline_since, text));
	else if (blocked)
		fprintf(stderr, "kvfs: %s: the remote store wants to be asked again in %s s ...\n",
			w->command, uploads_number((uint64_t)blocked, n));
	else if (u->pending && u->open >= u->pending)
		fprintf(stderr,
			"kvfs: %s: %s of the changes wait until nobody has the files open for "
			"writing ...\n",
			w->command, uploads_number(u->open, n));
	else if (status_value(status, "last_error", 0, text, sizeof(text)) &&
		strcmp(text, w->error) != 0)
		fprintf(stderr, "kvfs: %s: it is tried again; the last error: %s\n", w->command,
			text);
	else
		w->said = false;
}

/* Looks how far it is. 1: nothing is left to wait for. */
static int look(struct waiting *w, const char *resolved, struct uploads *u)
{
	char *status = mountpoint_status(resolved);
	int64_t now = now_ms();

	if (!status)
		return -errno;
	uploads_read(status, u);
	bool done = !u->pending || (w->upto && u->done >= w->upto);
	if (u->pending > w->most)
		w->most = u->pending;
	if (u->pending != w->last)
		w->moved = now;
	w->last = u->pending;
	w->offline = !u->offline_since ? 0 : w->offline ? w->offline : now;
	if (!done) {
		show(w, u);
		if (!w->said && (u->offline_since || now - w->moved > STUCK_MS))
			say_why(w, status, u);
	}
	free(status);
	return done;
}

/* What failed for want of an answer is due again later and later; whoever waits asks for it. */
static void ask_again(struct waiting *w, const char *resolved)
{
	int64_t now = now_ms();

	if (now - w->moved < ASK_AGAIN_MS || now - w->asked < ASK_AGAIN_MS)
		return;
	w->asked = now;
	mountpoint_control(resolved, "upload");
}

int uploads_wait(const char *command, const char *resolved, double timeout, bool patient, bool all,
	struct uploads *left)
{
	struct waiting w = {.command = command, .terminal = isatty(STDERR_FILENO)};
	int rc = mountpoint_control(resolved, "upload"), wait = LOOK_FIRST_MS;

	if (rc)
		return rc;
	char *status = mountpoint_status(resolved);
	if (status) {
		status_value(status, "last_error", 0, w.error, sizeof(w.error));
		uploads_read(status, left);
		if (!all)
			w.upto = left->last;
	}
	free(status);
	int64_t began = w.moved = w.asked = now_ms();
	while ((rc = look(&w, resolved, left)) == 0) {
		int64_t now = now_ms();

		if (timeout >= 0 && (double)(now - began) >= timeout * 1000)
			break;
		if (!patient && w.offline && now - w.offline >= OFFLINE_MS)
			break;
		ask_again(&w, resolved);
		usleep((useconds_t)wait * 1000);
		wait = wait * 2 < LOOK_LAST_MS ? wait * 2 : LOOK_LAST_MS;
	}
	clear_line(&w);
	if (rc == 1) /* what came later is not what was asked for */
		left->pending = 0;
	return rc < 0 ? rc : 0;
}
