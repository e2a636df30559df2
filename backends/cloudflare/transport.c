/*
 * transport.c - a thread around a curl_multi handle.
 *
 * Callers put transfers into a queue and wake the thread, which alone touches libcurl's handles. Its
 * signals are blocked: a connection that breaks while TLS writes to it must not raise SIGPIPE in
 * the program. libcurl's memory is wiped when it is freed, for it copies the token.
 */
#include "backends/cloudflare/transport.h"

#include <curl/curl.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/base/lock.h"
#include "backends/cloudflare/secret.h"

enum {
	CONNECTIONS_MAX = 16,
	STREAMS_MAX = 100,
	HEADERS_MAX = 256 * 1024, /* bytes of an answer's header lines, interim answers included */
	POLL_MS = 1000, /* it is woken when there is something to do; this is for safety */
	CONNECT_S = 10,
	KEEPALIVE_S = 30,
	IDLE_S = 100, /* a connection that was idle for longer is not used again */
	TYPE_MAX = 128,
	SLOW = 16, /* bytes per second that count as no progress */
};

/* One exchange on its way. */
struct transfer {
	struct transfer *next;
	struct transport *t;
	struct exchange *x;
	CURL *easy;
	struct curl_slist headers[3]; /* nodes of a list; the token's points to the secret */
	char type[TYPE_MAX];
	char words[CURL_ERROR_SIZE];
	size_t header_bytes;
	bool begun; /* a request has gone out, or a part of it */
	bool framed; /* the answer's end is marked */
	bool encoded; /* it has a Content-Encoding */
};

struct transport {
	struct secret *secret; /* NULL: no token */
	char *ca_file;
	bool plain, loopback;
	CURLM *multi;
	pthread_t thread;
	struct transfer *running; /* the thread's own; those in `multi` */
	struct lock lock;
	struct transfer *queue; /* under the lock, the next two too */
	bool cancelled, stop;
};

static void *wiping_malloc(size_t size)
{
	return malloc(size);
}

static void wiping_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *wiping_realloc(void *old, size_t size)
{
	void *p = malloc(size);

	if (p && old) {
		size_t had = malloc_usable_size(old);

		memcpy(p, old, had < size ? had : size);
		wiping_free(old);
	}
	return p;
}

static char *wiping_strdup(const char *s)
{
	return strdup(s);
}

static void *wiping_calloc(size_t n, size_t size)
{
	return calloc(n, size);
}

static CURLcode global_rc;

static void global_init(void)
{
	global_rc = curl_global_init_mem(CURL_GLOBAL_ALL, wiping_malloc, wiping_free,
		wiping_realloc, wiping_strdup, wiping_calloc);
}

static void set_error(struct exchange *x, int error, const char *cause)
{
	if (x->error)
		return;
	x->error = error;
	snprintf(x->cause, sizeof(x->cause), "%s", cause);
}

/* A header's name at the start of a line. */
static bool names(const char *line, size_t len, const char *name)
{
	size_t n = strlen(name);

	return len > n && line[n] == ':' && strncasecmp(line, name, n) == 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *tr = arg;
	size_t len = size * n;

	tr->header_bytes += len;
	if (tr->header_bytes > HEADERS_MAX) {
		set_error(tr->x, -EPROTO, "the headers do not end");
		return 0;
	}
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		tr->framed = tr->encoded = false;
	else if (names(line, len, "content-length") || names(line, len, "transfer-encoding"))
		tr->framed = true;
	else if (names(line, len, "content-encoding"))
		tr->encoded = true;
	head_line(&tr->x->head, line, len);
	return len;
}

static int keep(struct exchange *x, const char *data, size_t len, bool success)
{
	if (!success || !x->pool) {
		x->text.max = success ? x->max : EXCHANGE_REFUSAL_MAX;
		text_add(&x->text, data, len);
		return x->text.error;
	}
	uint64_t size = x->blob ? blob_size(x->blob) : 0;
	if (len > x->max || size > x->max - len)
		return -EFBIG;
	if (!x->blob) {
		int rc = blob_new(x->pool, &x->blob);

		if (rc)
			return rc;
	}
	return blob_write(x->blob, size, data, len);
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *tr = arg;
	struct exchange *x = tr->x;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(tr->easy, CURLINFO_RESPONSE_CODE, &status);
	x->received += len;
	int rc = keep(x, data, len, status == 200);
	if (rc == -EFBIG && status != 200)
		return len; /* enough of a refusal is there to be understood */
	if (rc) {
		set_error(x, rc, rc == -EFBIG ? "the answer is too long" : strerror(-rc));
		return 0;
	}
	return len;
}

static size_t on_read(char *buf, size_t size, size_t n, void *arg)
{
	struct transfer *tr = arg;
	int64_t got = body_read(tr->x->body, buf, size * n);

	if (got < 0) {
		set_error(tr->x, (int)got, "the value cannot be read");
		return CURL_READFUNC_ABORT;
	}
	tr->x->sent += (uint64_t)got;
	return (size_t)got;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *tr = arg;

	if (offset != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	body_rewind(tr->x->body);
	return CURL_SEEKFUNC_OK;
}

/* Before a request goes out over a connection. When one that was used before breaks without a byte
 * of an answer, libcurl sends the request again over another, at once and without asking. Whether the
 * first one was carried out nobody knows then: for what must not be sent twice within a second, that
 * is for the caller to decide. */
static int on_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
	struct transfer *tr = arg;
	bool again = tr->begun;

	(void)peer, (void)local, (void)peer_port, (void)local_port;
	tr->begun = true;
	if (!again || !tr->x->once)
		return CURL_PREREQFUNC_OK;
	set_error(tr->x, -ECONNABORTED, "the connection broke before an answer came");
	return CURL_PREREQFUNC_ABORT;
}

static void set_headers(struct transfer *tr)
{
	struct curl_slist *node = tr->headers;
	struct curl_slist *last = NULL;
	static char no_expect[] = "Expect:"; /* it would cost a second where it is not understood */
	char *lines[3] = {NULL, NULL, no_expect};

	lines[0] = tr->t->secret ? secret_header(tr->t->secret) : NULL;
	if (tr->x->type) {
		snprintf(tr->type, sizeof(tr->type), "Content-Type: %s", tr->x->type);
		lines[1] = tr->type;
	}
	for (size_t i = 0; i < 3; i++) {
		if (!lines[i])
			continue;
		node->data = lines[i];
		node->next = NULL;
		if (last)
			last->next = node;
		last = node++;
	}
	curl_easy_setopt(tr->easy, CURLOPT_HTTPHEADER, tr->headers);
}

static void set_body(struct transfer *tr)
{
	struct exchange *x = tr->x;
	CURL *e = tr->easy;

	if (!x->type) {
		if (strcmp(x->method, "GET") == 0)
			curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
		else
			curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, x->method);
		return;
	}
	body_rewind(x->body);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(e, CURLOPT_READDATA, tr);
	curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(e, CURLOPT_SEEKDATA, tr);
	if (strcmp(x->method, "PUT") == 0) {
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body->size);
	} else {
		curl_easy_setopt(e, CURLOPT_POST, 1L);
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, NULL);
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body->size);
	}
}

static void set_route(struct transfer *tr)
{
	const struct transport *t = tr->t;
	CURL *e = tr->easy;

	curl_easy_setopt(e, CURLOPT_URL, tr->x->url);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, t->plain ? "http" : "https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (t->ca_file) {
		curl_easy_setopt(e, CURLOPT_CAINFO, t->ca_file);
		curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	}
	if (t->loopback)
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
	/* Rather a stream of a connection that is just being made than one more connection. */
	curl_easy_setopt(e, CURLOPT_PIPEWAIT, t->plain ? 0L : 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)IDLE_S);
}

static void set_limits(struct transfer *tr)
{
	struct exchange *x = tr->x;
	CURL *e = tr->easy;
	long connect_ms = x->total < CONNECT_S ? (long)(x->total * 1000) : CONNECT_S * 1000L;

	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, connect_ms > 0 ? connect_ms : 1L);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, x->total > 0.001 ? (long)(x->total * 1000) : 1L);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, x->stall > 1 ? (long)x->stall : 1L);
}

static void set_up(struct transfer *tr)
{
	CURL *e = tr->easy;

	curl_easy_setopt(e, CURLOPT_PRIVATE, tr);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, tr->words);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "kvfs/" KVFS_VERSION);
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, tr);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, tr);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, tr);
	if (tr->x->compressed)
		curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "gzip");
	set_route(tr);
	set_limits(tr);
	set_headers(tr);
	set_body(tr);
}

static int error_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_UPLOAD_FAILED:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_AGAIN:
		return -ECONNABORTED;
	default:
		return -EPROTO;
	}
}

/* An answer over HTTP/1 that only ends with its connection may be cut anywhere. */
static void check_answer(struct transfer *tr)
{
	long version = 0;

	curl_easy_getinfo(tr->easy, CURLINFO_HTTP_VERSION, &version);
	if (version < CURL_HTTP_VERSION_2_0 && !tr->framed && tr->x->status != 204 &&
		tr->x->status != 304)
		set_error(tr->x, -EPROTO, "nothing marks the end of the answer");
	else if (tr->encoded && !tr->x->compressed)
		set_error(tr->x, -EPROTO, "the answer is encoded without having been asked for");
}

static void finish(struct transfer *tr, CURLcode code)
{
	struct exchange *x = tr->x;

	if (tr->easy) {
		curl_easy_getinfo(tr->easy, CURLINFO_RESPONSE_CODE, &x->status);
		if (code == CURLE_OK)
			check_answer(tr);
	}
	/* So it calls a header line that is too long, too. */
	if (code == CURLE_OUT_OF_MEMORY)
		set_error(x, -EPROTO, "an endless header, or no memory for the answer");
	else if (code != CURLE_OK)
		set_error(x, error_of(code), *tr->words ? tr->words : curl_easy_strerror(code));
	if (tr->easy)
		curl_easy_cleanup(tr->easy);
	free(tr);
	x->done(x);
}

static void unlink_transfer(struct transfer **list, struct transfer *tr)
{
	while (*list != tr)
		list = &(*list)->next;
	*list = tr->next;
}

static void start(struct transport *t, struct transfer *tr)
{
	tr->easy = curl_easy_init();
	if (!tr->easy) {
		finish(tr, CURLE_OUT_OF_MEMORY);
		return;
	}
	set_up(tr);
	if (curl_multi_add_handle(t->multi, tr->easy) != CURLM_OK) {
		finish(tr, CURLE_OUT_OF_MEMORY);
		return;
	}
	tr->next = t->running;
	t->running = tr;
}

static void cancel_list(struct transport *t, struct transfer *list, bool running)
{
	while (list) {
		struct transfer *tr = list;

		list = tr->next;
		if (running)
			curl_multi_remove_handle(t->multi, tr->easy);
		tr->x->error = 0;
		set_error(tr->x, -ECANCELED, "it was cancelled");
		finish(tr, CURLE_ABORTED_BY_CALLBACK);
	}
}

/* Starts what has been queued, or ends everything. False: time to go. */
static bool serve_queue(struct transport *t)
{
	lock_take(&t->lock);
	struct transfer *queue = t->queue;
	bool cancelled = t->cancelled, stop = t->stop;
	t->queue = NULL;
	lock_drop(&t->lock);
	if (cancelled) {
		struct transfer *running = t->running;

		t->running = NULL;
		cancel_list(t, running, true);
		cancel_list(t, queue, false);
		return !stop;
	}
	while (queue) {
		struct transfer *tr = queue;

		queue = tr->next;
		start(t, tr);
	}
	return true;
}

static void reap(struct transport *t)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(t->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		CURLcode code = msg->data.result;
		CURL *easy = msg->easy_handle;
		char *private = NULL;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
		struct transfer *tr = (struct transfer *)(void *)private;
		curl_multi_remove_handle(t->multi, easy);
		unlink_transfer(&t->running, tr);
		finish(tr, code);
	}
}

static void *transport_main(void *arg)
{
	struct transport *t = arg;
	int running;

	while (serve_queue(t)) {
		curl_multi_perform(t->multi, &running);
		reap(t);
		curl_multi_poll(t->multi, NULL, 0, POLL_MS, NULL);
	}
	/* Here, where SIGPIPE is blocked: it says goodbye to servers that may be gone. */
	curl_multi_cleanup(t->multi);
	return NULL;
}

static int start_thread(struct transport *t)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = -pthread_create(&t->thread, NULL, transport_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static void destroy(struct transport *t)
{
	secret_free(t->secret);
	free(t->ca_file);
	lock_destroy(&t->lock);
	free(t);
}

int transport_open(const struct transport_config *config, struct transport **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int rc = 0;

	pthread_once(&once, global_init);
	if (global_rc != CURLE_OK)
		return -EIO;
	struct transport *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	lock_init(&t->lock, LOCK_TRANSPORT);
	t->plain = config->plain;
	t->loopback = config->loopback;
	if (config->token && *config->token)
		rc = secret_new(config->token, &t->secret);
	if (rc == 0 && config->ca_file && !(t->ca_file = strdup(config->ca_file)))
		rc = -ENOMEM;
	if (rc == 0 && !(t->multi = curl_multi_init()))
		rc = -ENOMEM;
	if (rc == 0) {
		curl_multi_setopt(t->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
		curl_multi_setopt(t->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)CONNECTIONS_MAX);
		curl_multi_setopt(t->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)STREAMS_MAX);
		curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
		rc = start_thread(t);
		if (rc)
			curl_multi_cleanup(t->multi);
	}
	if (rc)
		destroy(t);
	else
		*out = t;
	return rc;
}

static void tell(struct transport *t, bool stop)
{
	lock_take(&t->lock);
	t->cancelled = true;
	t->stop |= stop;
	lock_drop(&t->lock);
	curl_multi_wakeup(t->multi);
}

void transport_cancel(struct transport *t)
{
	tell(t, false);
}

void transport_close(struct transport *t)
{
	if (!t)
		return;
	tell(t, true);
	pthread_join(t->thread, NULL);
	destroy(t);
}

void transport_submit(struct transport *t, struct exchange *x)
{
	struct transfer *tr = calloc(1, sizeof(*tr)), **end;

	x->error = 0;
	x->status = 0;
	x->sent = x->received = 0;
	head_init(&x->head);
	if (!tr) {
		set_error(x, -ENOMEM, "out of memory");
		x->done(x);
		return;
	}
	tr->t = t;
	tr->x = x;
	lock_take(&t->lock);
	for (end = &t->queue; *end; end = &(*end)->next)
		;
	*end = tr;
	lock_drop(&t->lock);
	curl_multi_wakeup(t->multi);
}

void transport_mask(const struct transport *t, char *text)
{
	if (t->secret)
		secret_mask(t->secret, text);
}
