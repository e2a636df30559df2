#include "tests/model/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/guard.h"
#include "tests/model/look.h"

enum { STEP_LIMIT_MS = 60 * 1000 };

static const char *const side_names[] = {"kvfs", "plain"};

static void print_outcome(const struct outcome *o, char *text)
{
	if (o->rc < 0)
		sprintf(text, "%s", strerror(o->err));
	else
		sprintf(text, "%ld", o->rc);
}

/* The first byte that differs, with its surroundings where they are text. */
static void print_data(struct actor *a, const struct outcome out[SIDES], char *text)
{
	size_t n = 0;

	while (n < out[0].len && n < out[1].len && a->data[0][n] == a->data[1][n])
		n++;
	text += sprintf(
		text, "data differs at byte %zu of %zu and %zu:", n, out[0].len, out[1].len);
	size_t from = n < 20 ? 0 : n - 20;
	for (int side = 0; side < SIDES; side++) {
		text += sprintf(text, "%s \"", side ? " instead of" : "");
		for (size_t i = from; i < from + 60 && i < out[side].len; i++) {
			unsigned char c = a->data[side][i];

			text += sprintf(text, c < ' ' || c > '~' ? "\\%02x" : "%c", c);
		}
		text += sprintf(text, "\"");
	}
}

static bool outcomes_agree(struct actor *a, const struct outcome out[SIDES], char *text)
{
	char first[128], second[128];

	for (int side = 0; side < SIDES; side++) {
		if (out[side].wrong) {
			sprintf(text, "%s: %s", side_names[side], out[side].wrong);
			return false;
		}
	}
	if (out[0].rc != out[1].rc || out[0].err != out[1].err) {
		print_outcome(&out[0], first);
		print_outcome(&out[1], second);
		sprintf(text, "%s instead of %s", first, second);
		return false;
	}
	if (out[0].len == out[1].len && memcmp(a->data[0], a->data[1], out[0].len) == 0)
		return true;
	print_data(a, out, text);
	return false;
}

void worker_step(struct actor *a, const struct step *s, struct reply *reply)
{
	struct looks before, after;
	struct outcome out[SIDES];
	bool looked = s->look & LOOK_BEFORE;

	reply->word = REPLY_PASSED_OVER;
	reply->text[0] = '\0';
	if (!act_possible(a, s) || !guard_allows(a, s))
		return;
	act_begin(a, s);
	if (looked)
		look_take(a, s, &before);
	for (int side = 0; side < SIDES; side++)
		act(a, side, s, &out[side]);
	bool good = outcomes_agree(a, out, reply->text);
	act_end(a, s);
	if (good && (s->look & LOOK_AFTER)) {
		look_take(a, s, &after);
		good = look_agree(
			a, s, looked ? &before : NULL, &after, out[0].rc >= 0, reply->text);
	}
	reply->word = !good ? REPLY_DIFFERENT : out[0].rc < 0 ? REPLY_FAILED : REPLY_DONE;
}

/* Whether the plain tree gives two changes two times when somebody looks in between. */
static bool times_are_exact(const char *root)
{
	char path[4200];
	struct stat st, next;
	bool exact = true;

	snprintf(path, sizeof(path), "%s.times.%d", root, (int)getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	for (int i = 0; exact && i < 50; i++) {
		exact = fstat(fd, &st) == 0 && write(fd, "x", 1) == 1 && fstat(fd, &next) == 0 &&
			memcmp(&st.st_mtim, &next.st_mtim, sizeof(st.st_mtim)) != 0;
	}
	close(fd);
	unlink(path);
	return exact;
}

static void serve(int socket, const char *kvfs, const char *plain)
{
	static struct step s;
	static struct reply reply;
	struct actor a;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (actor_init(&a, kvfs, plain))
		_exit(1);
	a.exact_times = times_are_exact(plain);
	while (recv(socket, &s, sizeof(s), 0) == sizeof(s)) {
		if (step_is_driver(&s)) {
			actor_close_all(&a);
			reply.word = REPLY_DONE;
		} else {
			worker_step(&a, &s, &reply);
		}
		if (send(socket, &reply, sizeof(reply), 0) != sizeof(reply))
			break;
	}
	_exit(0);
}

int worker_start(struct worker *w, const char *kvfs, const char *plain)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	w->pid = fork();
	if (w->pid == 0) {
		close(pair[0]);
		serve(pair[1], kvfs, plain);
	}
	close(pair[1]);
	if (w->pid < 0) {
		close(pair[0]);
		return -EAGAIN;
	}
	w->socket = pair[0];
	return 0;
}

int worker_do(struct worker *w, const struct step *s, struct reply *out)
{
	struct pollfd p = {.fd = w->socket, .events = POLLIN};

	if (send(w->socket, s, sizeof(*s), MSG_NOSIGNAL) != sizeof(*s))
		return -EPIPE;
	if (poll(&p, 1, STEP_LIMIT_MS) != 1)
		return -ETIMEDOUT;
	return recv(w->socket, out, sizeof(*out), 0) == sizeof(*out) ? 0 : -EPIPE;
}

int worker_close_all(struct worker *w)
{
	static const struct step close_all = {.op = OP_remount};
	struct reply reply;

	return worker_do(w, &close_all, &reply);
}

void worker_end(struct worker *w)
{
	if (w->pid <= 0)
		return;
	close(w->socket);
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	w->pid = 0;
}
