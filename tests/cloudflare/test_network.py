"""What lies between the client and the API: HTTP/2, proxies, certificates, names, addresses; and answers
that are not quite right. cftool makes the calls.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

import certificate
import node
from server import Server
from test_client import TOOL, Case, Outcome, hexed

NAME = "api.kvfs.test"  # no resolver knows it (RFC 6761)


def pump(source, target, seen=None):
    """Copies until the end, noting what went through."""
    try:
        while data := source.recv(65536):
            if seen is not None:
                seen += data
            target.sendall(data)
    except OSError:
        pass
    for s in (source, target):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Relay:
    """Takes connections and carries them to a port of 127.0.0.1; `proxy`: after a CONNECT, as an HTTP proxy."""

    def __init__(self, port, proxy=False, family=socket.AF_INET):
        self.target, self.proxy = port, proxy
        self.heads, self.seen = [], bytearray()  # CONNECT requests; what clients sent after them
        self.listener = socket.socket(family)
        self.listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        client.settimeout(60)
        if self.proxy:
            head = b""
            while b"\r\n\r\n" not in head and (data := client.recv(65536)):
                head += data
            self.heads.append(head)
            if not head.startswith(b"CONNECT "):
                client.close()
                return
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        server = socket.create_connection(("127.0.0.1", self.target), 60)
        threading.Thread(target=pump, args=(server, client), daemon=True).start()
        pump(client, server, self.seen)

    def close(self):
        self.listener.close()


class NetworkCase(Case):
    def relay(self, *args, **more):
        relay = Relay(*args, **more)
        self.addCleanup(relay.close)
        return relay

    def fill(self, count):
        """Values that are no text, so that each is a request."""
        pairs = {b"k%04d" % i: b"\xff%d" % i for i in range(count)}
        for key, value in pairs.items():
            self.ns.put(key, value)
        return pairs


class Connections(NetworkCase):
    def check(self, most):
        pairs = self.fill(1000)
        self.server.quota.limit = None
        before = self.server.log.connections
        got = self.get(*pairs)
        self.assertEqual(got.values(), list(pairs.values()))
        self.assertEqual(got.stats["requests"], {"get": 1000})
        self.assertLessEqual(self.server.log.connections - before, most)

    def test_a_thousand_requests(self):
        self.check(16)

    def test_one_after_the_other(self):
        """They share a connection."""
        self.server.quota.limit = None
        for size in range(0, 12):
            self.ns.put(b"k%d" % size, b"v")
        self.server.faults.add("short_page", keys=1)
        before = self.server.log.connections
        self.assertEqual(len(self.list().keys()), 12)
        self.assertEqual(self.server.log.connections - before, 1)

    def test_the_path_is_sent_as_it_is(self):
        for key in ("a/../b", "../x", "./x", "..", "a/.", "%2e%2e/x", "a b+c", "?x#y"):
            self.server.log.clear()
            self.get(key)
            sent = [r.path.rpartition("/")[2] for r in self.server.log.records("get")]
            self.assertEqual(sent, [] if key == ".." else [
                "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in key)])


class ConnectionsOverTls(Connections):
    tls = True


class Http2(NetworkCase):
    tls = True  # for the certificate

    def setUp(self):
        super().setUp()
        if not node.version():
            self.skipTest("needs node")
        folder = tempfile.mkdtemp(prefix="kvfs-front-")
        self.addCleanup(shutil.rmtree, folder)
        self.cert, key = certificate.make(folder)
        self.plain = Server().start()
        self.addCleanup(self.plain.stop)
        self.plain.store = self.server.store
        self.plain.api.store = self.server.store
        self.plain.quota.limit = None
        self.front = node.Child()
        self.front.spawn("node", os.path.join(node.SOURCES, "front.mjs"), str(self.plain.port), self.cert, key)
        self.addCleanup(self.report)
        self.there = {"endpoint": f"https://127.0.0.1:{int(self.front.line())}/client/v4", "ca": self.cert}
        self.said = None

    def report(self):
        """What the front has seen; it ends."""
        if not self.said:
            self.said = json.loads(self.front.stop())
        return self.said

    def test_many_streams_on_few_connections(self):
        pairs = self.fill(400)
        self.assertEqual(self.get(*pairs, **self.there).values(), list(pairs.values()))
        large = os.urandom(3 << 20)
        self.assertEqual(self.bulk_put([("large", large, 0, '{"m":1}')], **self.there).rc, "0")
        self.assertTrue(self.ns.get(b"large").value == large)
        self.assertTrue(self.get("large", **self.there).values() == [large])
        items = [(f"n{i}", b"v%d" % i) for i in range(3000)]
        self.assertEqual(self.bulk_put(items, **self.there).rc, "0")
        self.assertEqual(len(self.list("n", **self.there).keys()), 3000)
        seen = self.report()
        self.assertEqual(set(seen["versions"]), {"2.0"})
        self.assertGreaterEqual(seen["versions"]["2.0"], 406)
        self.assertLessEqual(seen["connections"], 5)  # one for each run of the tool

    def test_a_stream_that_is_reset(self):
        """It is tried again."""
        self.ns.put(b"k", b"v")
        self.plain.faults.add("reset", at="before", on="get", next=2)
        got = self.get("k", **self.there)
        self.assertEqual((got.values(), got.stats["retries"]), ([b"v"], 2))


class Proxy(NetworkCase):
    """An endpoint elsewhere: only a proxy knows where."""
    tls = True

    def setUp(self):
        super().setUp()
        folder = tempfile.mkdtemp(prefix="kvfs-proxy-")
        self.addCleanup(shutil.rmtree, folder)
        cert, key = certificate.make(folder, f"DNS:{NAME}")
        self.server.tls_context = certificate.context(cert, key)
        self.there = {"endpoint": f"https://{NAME}/client/v4", "ca": cert, "timeout": 3}
        self.proxy = self.relay(self.server.port, proxy=True)
        self.ns.put(b"k", b"v")

    def through(self, **more):
        return self.get("k", **self.there, **more)

    def check_secret(self):
        """Nothing but TLS went through the proxy, to the right place."""
        self.assertTrue(self.proxy.heads)
        for head in self.proxy.heads:
            self.assertTrue(head.startswith(f"CONNECT {NAME}:443 HTTP/1.1\r\n".encode()), head)
            self.assertNotIn(b"Bearer", head)
            self.assertNotIn(self.server.token.encode(), head)
        self.assertNotIn(self.server.token.encode(), self.proxy.seen)
        self.assertNotIn(b"/client/v4", self.proxy.seen)

    def test_https_proxy(self):
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            got = self.run_with({name: f"http://user:secret@127.0.0.1:{self.proxy.port}"})
            self.assertEqual(got.values(), [b"v"], name)
        self.check_secret()
        self.assertIn(b"\r\nProxy-Authorization: Basic ", self.proxy.heads[0])
        self.assertEqual({"Proxy-Authorization" in r.headers for r in self.server.log.records()}, {False})

    def run_with(self, variables):
        """A get with these in the environment, names as they are."""
        environment = {**self.environment(**self.there), **variables}
        process = subprocess.run([TOOL, "get", self.ns.id, hexed("k")], env=environment,
                                 capture_output=True, text=True, timeout=60)
        self.assertNotIn(self.server.token, process.stdout + process.stderr)
        return Outcome(process)

    def test_no_proxy(self):
        got = self.run_with({"https_proxy": f"http://127.0.0.1:{self.proxy.port}", "no_proxy": "kvfs.test"})
        self.assertEqual(got.rc, "ETIMEDOUT")
        self.assertEqual(self.proxy.heads, [])

    def test_http_proxy_is_for_http(self):
        got = self.run_with({"http_proxy": f"http://127.0.0.1:{self.proxy.port}"})
        self.assertEqual(got.rc, "ETIMEDOUT")
        self.assertEqual(self.proxy.heads, [])

    def test_a_name_that_nobody_knows(self):
        got = self.run_with({})
        self.assertEqual(got.rc, "ETIMEDOUT")
        self.assertIn("Could not resolve host: " + NAME, got.errors)
        self.assertTrue(got.stats["offline"])

    def test_a_certificate_for_another_name(self):
        self.there["endpoint"] = "https://other.kvfs.test/client/v4"
        got = self.run_with({"https_proxy": f"http://127.0.0.1:{self.proxy.port}"})
        self.assertEqual(got.rc, "EIO")
        self.assertEqual(self.counts(), {})
        self.assertNotIn(self.server.token.encode(), self.proxy.seen)


class Addresses(NetworkCase):
    def test_ipv6_loopback(self):
        try:
            relay = self.relay(self.server.port, family=socket.AF_INET6)
        except OSError:
            self.skipTest("needs IPv6")
        self.ns.put(b"k", b"v")
        self.assertEqual(self.get("k", endpoint=f"http://[::1]:{relay.port}/client/v4").values(), [b"v"])

    def test_localhost(self):
        self.ns.put(b"k", b"v")
        self.assertEqual(self.get("k", endpoint=f"http://localhost:{self.server.port}/client/v4").values(), [b"v"])


class BulkAnswers(Case):
    """What a bulk write's answer must say to be believed."""

    def answered(self, result, call="put"):
        self.server.faults.clear()
        body = {"success": True, "errors": [], "messages": [], "result": result}
        self.server.faults.add("body", on="bulk", body=json.dumps(body).encode())
        got = self.bulk_put([("a", b"1"), ("b", b"2")]) if call == "put" else self.bulk_delete(["a", "b"])
        return [row["error"] for row in got.rows]

    def test_what_is_believed(self):
        for result in ({"successful_key_count": 2, "unsuccessful_keys": []}, {"successful_key_count": 2},
                       {"successful_key_count": 2, "unsuccessful_keys": None, "more": 1}):
            self.assertEqual(self.answered(result), ["0", "0"], result)
        self.assertEqual(self.answered({"successful_key_count": 1, "unsuccessful_keys": ["b"]}), ["0", "EAGAIN"])
        self.assertEqual(self.answered({"successful_key_count": 0, "unsuccessful_keys": ["b", "a"]}), ["EAGAIN"] * 2)
        # Keys that were not there may not be counted.
        self.assertEqual(self.answered({"successful_key_count": 1, "unsuccessful_keys": []}, "delete"), ["0", "0"])

    def test_what_is_not(self):
        for result in ({"successful_key_count": 1, "unsuccessful_keys": []}, {"successful_key_count": 3},
                       {"successful_key_count": 2, "unsuccessful_keys": ["b"]}, {"successful_key_count": -1},
                       {"successful_key_count": "2"}, {"successful_key_count": 2.5}, {"successful_key_count": True},
                       {"successful_key_count": 1, "unsuccessful_keys": ["c"]},
                       {"successful_key_count": 1, "unsuccessful_keys": "b"},
                       {"successful_key_count": 1, "unsuccessful_keys": [7]},
                       {"successful_key_count": 1, "unsuccessful_keys": {"b": 1}},
                       {"successful_key_count": 0, "unsuccessful_keys": ["a", "b", "c"]}, [], "done", 2):
            self.assertEqual(self.answered(result), ["EIO", "EIO"], result)
        for result in ({"successful_key_count": 3}, {"unsuccessful_keys": ["c"]}, {"successful_key_count": "2"}):
            self.assertEqual(self.answered(result, "delete"), ["EIO", "EIO"], result)


if __name__ == "__main__":
    unittest.main()
