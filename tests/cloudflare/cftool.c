/*
 * cftool.c - the calls of the Cloudflare client from the command line, for tests.
 *
 *   cftool COMMAND [ARGUMENT...]     keys, prefixes, titles and values in hexadecimal
 *
 *   ns-list                          ns-create TITLE       ns-rename ID TITLE       ns-delete ID
 *   keys NS PREFIX LIMIT             every page
 *   get NS KEY...                    bulk-get NS KEY...
 *   put NS KEY VALUE EXPIRATION [METADATA]                 delete NS KEY
 *   bulk-put NS                      lines of standard input: KEY VALUE EXPIRATION [METADATA]
 *   bulk-delete NS                   lines of standard input: KEY
 *   storm NS THREADS ROUNDS          every thread writes, reads and deletes keys of its own
 *   cancel NS KEY                    gets a key, and cancels once the request is under way
 *
 * Prints JSON, one object per line: results, then {"rc": NAME, "stats": {...}}; log lines go to
 * standard error. The environment says the rest: CF_ENDPOINT, CF_ACCOUNT, CF_TOKEN, CF_CA,
 * CF_TIMEOUT, CF_BACKGROUND (set: background calls), CF_CONTROL (a test server's port: waiting
 * advances its clock instead).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/base/clock.h"
#include "backends/cloudflare/client.h"

static struct client *client;
static struct blob_pool *pool;
static enum client_priority prio;
static int control_port;
static int64_t virtual_now = CLOCK_SECOND;
static pthread_mutex_t virtual_lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
	fprintf(stderr, "cftool: %s\n", what);
	exit(2);
}

/* Memory that lives as long as the program. */
struct kept {
	struct kept *next;
	max_align_t bytes[];
};

static struct kept *kept;

static void *keep(size_t size)
{
	struct kept *k = calloc(1, sizeof(*k) + size);

	if (!k)
		die("no memory");
	k->next = kept;
	kept = k;
	return k->bytes;
}

static void free_kept(void)
{
	while (kept) {
		struct kept *k = kept;

		kept = k->next;
		free(k);
	}
}

/* Lets the test server's time go on. */
static void advance_server(double seconds)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)control_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char body[64], request[256];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(body, sizeof(body), "{\"advance\": %.9f}", seconds);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("no control connection");
	n = snprintf(request, sizeof(request),
		"POST /-/clock HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
		"%d\r\n\r\n%s",
		n, body);
	if (send(fd, request, (size_t)n, MSG_NOSIGNAL) != n || recv(fd, request, 1, 0) != 1)
		die("the clock cannot be set");
	close(fd);
}

static int64_t virtual_time(void *arg)
{
	pthread_mutex_lock(&virtual_lock);
	int64_t now = virtual_now;
	pthread_mutex_unlock(&virtual_lock);
	return now;
}

static void virtual_wait(
	void *arg, pthread_cond_t *cond, struct lock *lock, int64_t deadline, bool under_way)
{
	if (under_way || deadline == INT64_MAX) {
		lock_wait(lock, cond);
		return;
	}
	pthread_mutex_lock(&virtual_lock);
	if (deadline > virtual_now) {
		advance_server((double)(deadline - virtual_now) / CLOCK_SECOND);
		virtual_now = deadline;
	}
	pthread_mutex_unlock(&virtual_lock);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c < 'a' || c > 'f')
		die("not hexadecimal");
	return c - 'a' + 10;
}

/* Bytes and their length, from hexadecimal. */
static unsigned char *unhex(const char *hex, size_t *len)
{
	size_t n = strlen(hex) / 2;
	unsigned char *out = keep(n + 1);

	for (size_t i = 0; i < n; i++) {
		out[i] = (unsigned char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	}
	*len = n;
	return out;
}

static json_t *hex(const void *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = bytes;
	char *text = malloc(2 * len + 1);

	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	json_t *out = json_stringn(text, 2 * len);
	free(text);
	return out;
}

static void print(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(value);
}

static const char *error_name(int rc)
{
	return rc ? strerrorname_np(-rc) : "0";
}

static void print_result(int rc)
{
	print(json_pack("{s:s}", "error", error_name(rc)));
}

static void print_end(int rc)
{
	struct client_stats s;
	json_t *requests = json_object();

	client_stats(client, &s);
	for (int i = 0; i < CLIENT_CALLS; i++)
		if (s.requests[i])
			json_object_set_new(requests, client_call_name((enum client_call)i),
				json_integer((json_int_t)s.requests[i]));
	print(json_pack("{s:s, s:{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}}",
		"rc", error_name(rc), "stats", "requests", requests, "retries",
		(json_int_t)s.retries, "sent", (json_int_t)s.sent, "received",
		(json_int_t)s.received, "rate_limited", (json_int_t)s.rate_limited, "waits",
		(json_int_t)s.waits, "quota", (json_int_t)s.quota, "remaining",
		(json_int_t)s.remaining, "reset_in", (json_int_t)s.reset_in, "blocked_for",
		(json_int_t)s.blocked_for, "offline", s.offline_since != 0, "last_error",
		hex(s.last_error, strlen(s.last_error))));
}

static int do_ns_list(void)
{
	struct client_ns *list;
	size_t n;
	int rc = client_ns_list(client, prio, &list, &n);

	for (size_t i = 0; rc == 0 && i < n; i++)
		print(json_pack("{s:s, s:o}", "id", list[i].id, "title",
			hex(list[i].title, list[i].title_len)));
	if (rc == 0)
		free(list);
	return rc;
}

static int do_ns_create(const char *title)
{
	char id[CLIENT_NS_ID_MAX + 1];
	size_t len;
	const void *bytes = unhex(title, &len);
	int rc = client_ns_create(client, bytes, len, prio, id);

	if (rc == 0)
		print(json_pack("{s:s}", "id", id));
	return rc;
}

static void print_key(const struct client_key *key)
{
	print(json_pack("{s:o, s:I, s:o}", "key", hex(key->key, key->len), "expiration",
		(json_int_t)key->expiration, "metadata",
		key->metadata ? hex(key->metadata, key->metadata_len) : json_null()));
}

static int do_keys(const char *ns, const char *prefix, const char *limit)
{
	struct client_query query = {.limit = (unsigned)atoi(limit)};
	struct client_page page = {0};
	unsigned char last[CLIENT_KEY_MAX];
	char *cursor = NULL;
	int rc, pages = 0;

	query.prefix = unhex(prefix, &query.prefix_len);
	do {
		query.cursor = cursor;
		rc = client_keys(client, ns, &query, prio, &page);
		free(cursor);
		cursor = NULL;
		if (rc)
			break;
		for (size_t i = 0; i < page.n; i++)
			print_key(page.keys + i);
		if (page.n) {
			query.after_len = page.keys[page.n - 1].len;
			memcpy(last, page.keys[page.n - 1].key, query.after_len);
			query.after = last;
		}
		cursor = page.cursor ? strdup(page.cursor) : NULL;
		client_page_release(&page);
	} while (cursor && ++pages < 1000);
	return rc;
}

static json_t *blob_hex(struct blob *b)
{
	size_t len = (size_t)blob_size(b);
	void *bytes = malloc(len + 1);

	if (blob_read(b, 0, bytes, len) != (int64_t)len)
		die("a blob cannot be read");
	json_t *out = hex(bytes, len);
	free(bytes);
	return out;
}

static int do_get(const char *ns, char **args, size_t n, bool bulk)
{
	static const char *const vias[] = {"raw", "bulk", "both"};
	struct client_name *keys = keep((n + 1) * sizeof(*keys));
	struct client_value *out = keep((n + 1) * sizeof(*out));

	for (size_t i = 0; i < n; i++)
		keys[i].key = unhex(args[i], &keys[i].len);
	int rc = bulk ? client_bulk_get(client, ns, keys, n, NULL, prio, out)
		      : client_get(client, ns, keys, n, prio, out);
	for (size_t i = 0; i < n; i++) {
		if (out[i].error)
			print_result(out[i].error);
		else
			print(json_pack("{s:s, s:o, s:I, s:s, s:b, s:o}", "error", "0", "value",
				blob_hex(out[i].value), "expiration", (json_int_t)out[i].expiration,
				"via", vias[out[i].via], "metadata_known", out[i].metadata_known,
				"metadata",
				out[i].metadata ? hex(out[i].metadata, out[i].metadata_len)
						: json_null()));
		client_value_release(out + i);
	}
	return rc;
}

static struct client_item item_of(
	const char *key, const char *value, const char *expiration, const char *metadata)
{
	struct client_item item = {.expiration = atoll(expiration)};
	size_t len;
	void *bytes = unhex(value, &len);

	if (blob_new_copy(pool, bytes, len, &item.value))
		die("no blob");
	item.key = unhex(key, &item.key_len);
	if (metadata && *metadata)
		item.metadata = (char *)unhex(metadata, &item.metadata_len);
	return item;
}

static int do_bulk(const char *ns, bool deleting)
{
	struct client_item *items = NULL;
	struct client_name *keys = NULL;
	char *line = NULL;
	size_t cap = 0, n = 0, room = 0;
	int rc;

	while (getline(&line, &cap, stdin) > 0) {
		char *fields[4] = {NULL, NULL, NULL, NULL}, *at = line;

		line[strcspn(line, "\n")] = '\0';
		for (int i = 0; i < 4; i++)
			fields[i] = strsep(&at, " ");
		if (n == room) {
			room = room ? 2 * room : 64;
			items = realloc(items, room * sizeof(*items));
			keys = realloc(keys, room * sizeof(*keys));
			if (!items || !keys)
				die("no memory");
		}
		if (!deleting)
			items[n] = item_of(fields[0], fields[1], fields[2], fields[3]);
		keys[n].key = unhex(fields[0], &keys[n].len);
		n++;
	}
	int *results = keep((n + 1) * sizeof(*results));
	rc = deleting ? client_bulk_delete(client, ns, keys, n, prio, results)
		      : client_bulk_put(client, ns, items, n, prio, results);
	for (size_t i = 0; i < n; i++)
		print_result(results[i]);
	for (size_t i = 0; !deleting && i < n; i++)
		blob_unref(items[i].value);
	free(items);
	free(keys);
	free(line);
	return rc;
}

struct worker {
	pthread_t thread;
	const char *ns;
	int number, rounds;
	int rc;
};

static int work_once(struct worker *w, int round)
{
	char key[64];
	struct client_item item = {.key = key};
	struct client_name name = {.key = key};
	struct client_value value = {0};

	name.len = item.key_len =
		(size_t)snprintf(key, sizeof(key), "storm/%d/%d", w->number, round);
	if (blob_new_copy(pool, key, item.key_len, &item.value))
		return -ENOMEM;
	int rc = client_put(client, w->ns, &item, prio);
	blob_unref(item.value);
	if (rc == 0)
		rc = round % 2 ? client_get(client, w->ns, &name, 1, prio, &value)
			       : client_bulk_get(client, w->ns, &name, 1, NULL, prio, &value);
	if (rc == 0 && (value.error || blob_size(value.value) != name.len))
		rc = value.error ? value.error : -EBADMSG;
	client_value_release(&value);
	return rc ? rc : client_delete(client, w->ns, key, name.len, prio);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct client_stats stats;

	for (int i = 0; w->rc == 0 && i < w->rounds; i++) {
		w->rc = work_once(w, i);
		client_stats(client, &stats);
	}
	return NULL;
}

static int do_storm(const char *ns, const char *threads, const char *rounds)
{
	int n = atoi(threads), rc = 0;
	struct worker *workers = calloc((size_t)n, sizeof(*workers));

	for (int i = 0; i < n; i++) {
		workers[i] = (struct worker){.ns = ns, .number = i, .rounds = atoi(rounds)};
		if (pthread_create(&workers[i].thread, NULL, worker_main, workers + i))
			die("no thread");
	}
	for (int i = 0; i < n; i++) {
		pthread_join(workers[i].thread, NULL);
		rc = rc ? rc : workers[i].rc;
	}
	free(workers);
	return rc;
}

struct lonely {
	const char *ns;
	struct client_name key;
	int rc;
};

static void *lonely_main(void *arg)
{
	struct lonely *l = arg;
	struct client_value value;

	l->rc = client_get(client, l->ns, &l->key, 1, prio, &value);
	client_value_release(&value);
	return NULL;
}

static int do_cancel(const char *ns, const char *key)
{
	struct lonely l = {.ns = ns};
	struct client_stats stats;
	pthread_t thread;

	l.key.key = unhex(key, &l.key.len);
	if (pthread_create(&thread, NULL, lonely_main, &l))
		die("no thread");
	for (int i = 0; i < 3000; i++) {
		client_stats(client, &stats);
		if (stats.requests[CLIENT_GET])
			break;
		usleep(1000);
	}
	client_cancel(client);
	pthread_join(thread, NULL);
	return l.rc;
}

static int do_write(const char *command, char **args, int n)
{
	size_t len;

	if (strcmp(command, "put") == 0 && n >= 4) {
		struct client_item item =
			item_of(args[1], args[2], args[3], n > 4 ? args[4] : NULL);
		int rc = client_put(client, args[0], &item, prio);

		blob_unref(item.value);
		return rc;
	}
	if (strcmp(command, "delete") == 0 && n == 2) {
		const void *key = unhex(args[1], &len);

		return client_delete(client, args[0], key, len, prio);
	}
	if (strcmp(command, "bulk-put") == 0 && n == 1)
		return do_bulk(args[0], false);
	if (strcmp(command, "bulk-delete") == 0 && n == 1)
		return do_bulk(args[0], true);
	die("usage: see the head of cftool.c");
	return 0;
}

static int do_command(const char *command, char **args, int n)
{
	size_t len;

	if (strcmp(command, "ns-list") == 0)
		return do_ns_list();
	if (strcmp(command, "ns-create") == 0 && n == 1)
		return do_ns_create(args[0]);
	if (strcmp(command, "ns-rename") == 0 && n == 2) {
		const void *title = unhex(args[1], &len);

		return client_ns_rename(client, args[0], title, len, prio);
	}
	if (strcmp(command, "ns-delete") == 0 && n == 1)
		return client_ns_delete(client, args[0], prio);
	if (strcmp(command, "keys") == 0 && n == 3)
		return do_keys(args[0], args[1], args[2]);
	if (strcmp(command, "get") == 0 && n >= 1)
		return do_get(args[0], args + 1, (size_t)n - 1, false);
	if (strcmp(command, "bulk-get") == 0 && n >= 1)
		return do_get(args[0], args + 1, (size_t)n - 1, true);
	if (strcmp(command, "storm") == 0 && n == 3)
		return do_storm(args[0], args[1], args[2]);
	if (strcmp(command, "cancel") == 0 && n == 2)
		return do_cancel(args[0], args[1]);
	return do_write(command, args, n);
}

static int open_client(void)
{
	static const struct client_clock virtual_clock = {virtual_time, virtual_wait, NULL};
	const char *timeout = getenv("CF_TIMEOUT"), *control = getenv("CF_CONTROL");
	struct client_config config = {
		.endpoint = getenv("CF_ENDPOINT"),
		.account = getenv("CF_ACCOUNT"),
		.token = getenv("CF_TOKEN"),
		.ca_file = getenv("CF_CA"),
		.timeout = timeout ? atof(timeout) : 0,
		.blobs = pool,
	};

	if (control) {
		control_port = atoi(control);
		config.clock = &virtual_clock;
	}
	prio = getenv("CF_BACKGROUND") ? CLIENT_BACKGROUND : CLIENT_INTERACTIVE;
	return client_open(&config, &client);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		die("usage: see the head of cftool.c");
	pool = blob_pool_new("/tmp", 1 << 20, 64 << 20);
	int rc = open_client();
	if (rc) {
		print_result(rc);
	} else {
		rc = do_command(argv[1], argv + 2, argc - 2);
		print_end(rc);
		client_close(client);
	}
	blob_pool_free(pool);
	free_kept();
	return rc ? 1 : 0;
}
