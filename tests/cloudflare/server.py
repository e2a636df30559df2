#!/usr/bin/python3 -B
"""A server that behaves as the REST API of Cloudflare Workers KV does, for tests.

In a test:

    with Server() as server:
        ns = server.namespace("main")             # made without a request
        ... a client at server.endpoint, with server.account and server.token ...
        ns.get("key").value                       # the truth
        server.log.counts()["put"]

From a shell it prints one JSON line (endpoint, port, account, token, namespaces, certificate) once
it serves, and ends with its standard input or at SIGTERM. See admin.py for what it can be told.

The parts: clock (virtual time), store (content and staleness), quota, faults, log; api, accounts
and calls (what is answered), reply and multipart (its form), wire (sockets), admin (control),
certificate (TLS).
"""

import argparse
import json
import os
import shutil
import signal
import socket
import socketserver
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import certificate  # noqa: E402
from admin import Admin  # noqa: E402
from api import BASE, EXPLORER, Api  # noqa: E402
from clock import Clock  # noqa: E402
from faults import Faults  # noqa: E402
from log import Log  # noqa: E402
from quota import Quota  # noqa: E402
from store import Store  # noqa: E402
from wire import Handler  # noqa: E402

ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "test-token-that-must-not-appear-anywhere"


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that goes away, or fails its TLS handshake, is no news."""


class Server:
    def __init__(self, tls=False, account=ACCOUNT, token=TOKEN):
        self.account, self.token = account, token
        self.clock = Clock()
        self.store = Store(self.clock)
        self.lock = self.store.lock
        self.quota = Quota(self.clock)
        self.faults = Faults(self.lock)
        self.log = Log()
        self.api = Api(account, token, self.store, self.quota, self.faults)
        self.admin = Admin(self)
        self.stopping = threading.Event()
        self.tls, self.tls_context = tls, None
        self.certificate = None  # the file to trust
        self._folder = None
        self._listener = None
        self._sockets = set()

    def start(self, port=0):
        if self.tls:
            self._folder = tempfile.mkdtemp(prefix="kvfs-cert-")
            self.certificate, key = certificate.make(self._folder)
            self.tls_context = certificate.context(self.certificate, key)
        self.stopping.clear()
        handler = type("BoundHandler", (Handler,), {"home": self})
        self._listener = Listener(("127.0.0.1", port), handler)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        """Ends it as a crash would: connections are cut. start(port) may follow: the content stays."""
        self.stopping.set()
        if self._listener:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None
        self.cut()
        if self._folder:
            shutil.rmtree(self._folder)
            self._folder = None

    def cut(self):
        """Cuts every connection that is open now."""
        with self.lock:
            sockets = list(self._sockets)
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def track(self, s):
        with self.lock:
            self._sockets.add(s)

    def untrack(self, s):
        with self.lock:
            self._sockets.discard(s)

    __enter__ = start

    def __exit__(self, *error):
        self.stop()

    @property
    def origin(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def endpoint(self):
        return self.origin + BASE

    @property
    def explorer(self):
        return self.origin + EXPLORER

    def namespace(self, title):
        """The namespace with this title, made when there is none."""
        return self.store.named(title) or self.store.create(title)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tls", action="store_true")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--token", default=TOKEN)
    p.add_argument("namespaces", nargs="*", default=["main"], help="titles")
    args = p.parse_args()
    server = Server(args.tls, token=args.token)
    made = {title: server.namespace(title).id for title in args.namespaces}
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with_input = threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True)
    server.start(args.port)
    print(json.dumps({"endpoint": server.endpoint, "port": server.port, "account": server.account,
                      "token": server.token, "namespaces": made, "certificate": server.certificate}), flush=True)
    with_input.start()
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
