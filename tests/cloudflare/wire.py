"""HTTP/1.1 on a socket: one Handler per connection, kept alive; the faults that need the socket."""

import http.server
import random
import socket
import struct
import time
from email.utils import formatdate

import faults
from reply import Request, failure

MAX_DRAINED = 512 * 1024 * 1024
MAX_BODY = 101 * 1000 * 1000  # what is kept of a body: any more is refused
ENDLESS = 1 << 30


class Gone(Exception):
    """The connection ends here."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cloudflare", ""
    wbufsize = 1 << 16
    timeout = 120
    home = None  # the Server, set by it

    def setup(self):
        if self.home.tls_context:
            self.request.settimeout(30)
            self.request = self.home.tls_context.wrap_socket(self.request, server_side=True)
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.number = self.home.log.connected(1)
        self.home.track(self.connection)
        self.counted = True

    def finish(self):
        if getattr(self, "counted", False):
            self.home.log.connected(-1)
            self.home.untrack(self.connection)
        try:
            super().finish()
        except OSError:
            pass
        if self.home.tls_context:
            self.request.close()

    def log_message(self, *args):
        pass

    def handle_expect_100(self):
        """A body that is too large is refused before it is sent."""
        if self.declared() > MAX_BODY:
            return True  # answered without the body, by handle_call()
        self.expected = True
        return super().handle_expect_100()

    def declared(self):
        try:
            return int(self.headers.get("Content-Length") or 0)
        except ValueError:
            return 0

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_call
        raise AttributeError(name)

    # Reading.

    def read_chunked(self):
        body = b""
        while True:
            size = int(self.rfile.readline(1024).split(b";")[0], 16)
            if size == 0:
                while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                return body
            body += self.rfile.read(size)
            self.rfile.readline(8)
            if len(body) > MAX_DRAINED:
                raise Gone

    def read_body(self):
        """The body, None when it is too large to be kept."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = self.read_chunked()
            return body if len(body) <= MAX_BODY else None
        length = self.declared()
        if length <= MAX_BODY:
            body = self.rfile.read(length)
            if len(body) < length:
                raise Gone
            return body
        if self.headers.get("Expect") or length > MAX_DRAINED:
            self.close_connection = True
            return None
        while length > 0:
            part = self.rfile.read(min(length, 1 << 20))
            if not part:
                raise Gone
            length -= len(part)
        return None

    # One request.

    def handle_call(self):
        if self.path.startswith("/-/"):
            self.home.admin.handle(self)
            return
        request = Request(self.command, self.path, self.headers, b"")
        self.received = self.sent = self.recorded = 0
        self.home.clock.tick()
        self.home.api.route(request)
        self.home.faults.choose(request)
        try:
            self.converse(request)
        except (Gone, OSError, ValueError):
            self.close_connection = True
        if not self.recorded:
            self.record(request, 0, 0)

    def converse(self, request):
        self.delay(request)
        self.maybe_reset(request, "arrival")
        body = self.read_body()
        request.body = body or b""
        self.received = len(request.body)
        self.maybe_reset(request, "before")
        reply, make_call = faults.replacement(request)
        if make_call:
            with self.home.lock:
                made = self.home.api.answer(request) if body is not None else \
                    failure(413, 10024, "payload too large")
            reply = reply or made
        self.maybe_reset(request, "after")
        faults.spoil(request, reply)
        self.record(request, reply.status, len(reply.body))
        try:
            self.send(request, reply)
        finally:
            if self.sent != len(reply.body):
                self.home.log.amend(self.recorded, self.sent)

    def record(self, request, status, size):
        headers = {k.lower(): v for k, v in self.headers.items() if k.lower() != "authorization"}
        if request.auth == "none" and "Authorization" in self.headers:
            request.auth = "unread"  # a fault came first
        self.recorded = self.home.log.add(
            time=self.home.clock.now(), connection=self.number, method=request.method, path=request.asked,
            kind=request.kind, keys=request.keys, received=self.received, sent=size, status=status,
            auth=request.auth, fault=",".join(f.name for f in request.faults), headers=headers)

    def wait(self, seconds):
        """Sleeps, but not longer than the server lives."""
        if self.home.stopping.wait(seconds):
            raise Gone

    def delay(self, request):
        latency = request.fault("latency")
        if latency is not None:
            self.wait(latency.get("seconds", 0.1))

    def maybe_reset(self, request, moment):
        params = request.fault("hang")
        if params is not None and moment == ("after" if params.get("applied") else "before"):
            self.silence(params)
        params = request.fault("reset")
        if params is not None and params.get("at", "before") == moment:
            self.drop(params.get("rst", True))

    def drop(self, rst=True):
        """Ends the connection now; with `rst` the client sees "connection reset by peer"."""
        if rst:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def silence(self, params):
        """Says nothing more until the client gives up."""
        self.wfile.flush()
        end = time.monotonic() + params.get("seconds", 60)
        self.connection.settimeout(0.1)
        while time.monotonic() < end and not self.home.stopping.is_set():
            try:
                if not self.connection.recv(1 << 16):
                    break
            except TimeoutError:
                pass
        raise Gone

    # Writing.

    def send(self, request, reply):
        names = {fault.name for fault in request.faults}
        if "garbage" in names:
            self.emit(random.Random(0).randbytes(4096))
            self.wfile.flush()
            raise Gone
        if "interim" in names:
            self.emit(b"HTTP/1.1 %d Interim\r\n\r\n" % request.fault("interim").get("status", 103))
        self.send_head(request, reply, names)
        self.sent = 0  # counts the body alone
        if request.method != "HEAD":
            self.send_body(request, reply, names)
        if "trailing" in names:
            self.emit(b"unasked for\r\n\r\n")
        self.wfile.flush()
        if "close" in names:
            self.close_connection = True

    def emit(self, data):
        self.wfile.write(data)
        self.sent += len(data)

    def send_head(self, request, reply, names):
        endless = request.fault("endless")
        chunked = "chunked" in names or endless and endless.get("framing", "chunked") == "chunked"
        lines = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('Status',))[0]}",
                 f"Date: {formatdate(self.home.clock.now(), usegmt=True)}"]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif not endless:
            lines.append(f"Content-Length: {len(reply.body)}")
        if "close" in names or self.close_connection or endless and not chunked:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in reply.headers.items() if value is not None]
        if "huge_header" in names:
            lines.append("X-Huge: " + "x" * request.fault("huge_header").get("size", 1 << 20))
        if "many_headers" in names:
            lines += [f"X-Many-{i}: y" for i in range(request.fault("many_headers").get("count", 10000))]
        self.emit("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n")

    def send_body(self, request, reply, names):
        if "endless" in names:
            self.send_endless(reply, request.fault("endless"))
        elif "cut" in names:
            params = request.fault("cut")
            self.emit(reply.body[:params.get("after", len(reply.body) // 2)])
            self.wfile.flush()
            self.drop(params.get("rst", False))
        elif "stall" in names:
            self.emit(reply.body[:request.fault("stall").get("after", 0)])
            self.silence(request.fault("stall"))
        elif "slow" in names:
            params = request.fault("slow")
            for at in range(0, len(reply.body), params.get("chunk", 1024)):
                self.emit(reply.body[at:at + params.get("chunk", 1024)])
                self.wfile.flush()
                self.wait(params.get("pause", 0.05))
        elif "chunked" in names:
            for at in range(0, len(reply.body), 1000):
                self.emit_chunk(reply.body[at:at + 1000])
            self.emit(b"0\r\n\r\n")
        else:
            self.emit(reply.body)

    def emit_chunk(self, data):
        self.emit(b"%x\r\n%s\r\n" % (len(data), data))

    def send_endless(self, reply, params):
        """The body as it is, without its last byte, then blanks: JSON that never ends."""
        emit = self.emit_chunk if params.get("framing", "chunked") == "chunked" else self.emit
        emit(reply.body[:-1] or b" ")
        while self.sent < params.get("limit", ENDLESS) and not self.home.stopping.is_set():
            emit(b" " * 65536)
        raise Gone
