"""Real clients against the test server, and our client against Cloudflare's own KV in workerd.

What one side accepts and the other sends is what the API is; where the two disagree, the test
server is the one to mend.
"""

import json
import os
import shutil
import tempfile
import time
import unittest

import node
from client import Client, form, segment
from server import Server


class RealClients(unittest.TestCase):
    LIMIT = 180

    def setUp(self):
        node.need(self)
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.kv = self.server.namespace("main")

    def wrangler(self, *argv):
        return node.wrangler(self.server, "kv", *argv, "--namespace-id", self.kv.id, "--remote", cwd=self.folder())

    def folder(self):
        if not hasattr(self, "tmp"):
            self.tmp = tempfile.mkdtemp(prefix="kvfs-wrangler-")
            self.addCleanup(shutil.rmtree, self.tmp)
        return self.tmp

    def file(self, name, content):
        path = os.path.join(self.folder(), name)
        with open(path, "w") as f:
            f.write(content)
        return path

    def test_the_sdk(self):
        self.assertGreater(node.sdk(self.server, self.kv.id)["calls"], 9)
        self.assertEqual({r.auth for r in self.server.log.records()}, {"good"})
        self.assertEqual(set(self.server.log.counts()), {
            "namespaces.list", "namespaces.create", "namespaces.get", "namespaces.rename", "namespaces.delete",
            "list", "get", "put", "delete", "metadata", "bulk.put", "bulk.delete", "bulk.get"})
        self.assertEqual(list(self.kv.entries()), [b"sdk/a:b%2F?"])

    def test_the_sdk_retries_what_it_is_told_to(self):
        self.server.faults.add("status", on="bulk.put", status=429, retry_after=0, next=1)
        self.server.faults.add("status", on="bulk.get", status=503, next=1)
        self.server.faults.add("reset", on="list", next=1)
        node.sdk(self.server, self.kv.id)
        self.assertEqual(self.server.log.counts()["bulk.put"], 2)

    def test_wrangler_keys(self):
        self.wrangler("key", "put", "a/b:ü", "value", "--metadata", '{"m":1}', "--ttl", "3600")
        entry = self.kv.get("a/b:ü")
        self.assertEqual((entry.value, entry.metadata), (b"value", '{"m":1}'))
        self.assertAlmostEqual(entry.expiration, time.time() + 3600, delta=60)
        self.assertEqual(self.wrangler("key", "get", "a/b:ü", "--text"), "value\n")
        rows = json.loads(self.wrangler("key", "list"))
        self.assertEqual(rows, [{"name": "a/b:ü", "expiration": entry.expiration, "metadata": {"m": 1}}])
        self.wrangler("key", "delete", "a/b:ü")
        self.assertEqual(self.kv.entries(), {})

    def test_wrangler_bulk(self):
        pairs = [{"key": "a", "value": "1", "metadata": {"m": 1}}, {"key": "b", "value": "AP8=", "base64": True}]
        self.wrangler("bulk", "put", self.file("pairs.json", json.dumps(pairs)))
        self.assertEqual(self.kv.entries(), {b"a": (b"1", None, '{"m":1}'), b"b": (b"\0\xff", None, None)})
        self.assertIn('"1"', self.wrangler("bulk", "get", self.file("keys.json", '["a", "no"]')))
        self.wrangler("bulk", "delete", self.file("gone.json", '["a", "b"]'), "--force")
        self.assertEqual(self.kv.entries(), {})

    def test_wrangler_namespaces(self):
        rows = json.loads(node.wrangler(self.server, "kv", "namespace", "list", cwd=self.folder()))
        self.assertEqual(rows, [{"id": self.kv.id, "title": "main", "supports_url_encoding": True}])


class RealStore(unittest.TestCase):
    """miniflare: the Worker and the REST routes stand before one KV namespace."""

    LIMIT = 180

    def setUp(self):
        node.need(self)
        if not hasattr(RealStore, "real"):  # one for all: it takes seconds to start
            RealStore.real = node.Miniflare().start()
            self.addClassCleanup(RealStore.real.stop)
        self.client = Client(self.real)
        self.addCleanup(self.client.close)
        self.ns = "/" + self.real.namespaces["main"]
        keys = [row["name"] for row in self.client.json("GET", self.ns + "/keys")["result"]]
        if keys:
            self.client.json("POST", self.ns + "/bulk/delete", keys)

    def value(self, key):
        return f"{self.ns}/values/{segment(key)}"

    def worker(self, method, path, body=None):
        status, _, answer = self.real.ask(method, path, body)
        return status, json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    def test_the_sdk(self):
        node.sdk(self.real, self.real.namespaces["main"])

    def test_feature_flags(self):
        self.client.json("PUT", self.value("feature-flags"), b'{"new": true}')
        self.assertEqual(self.worker("GET", "/flags"), (200, {"flags": {"new": True}, "from": "store"}))
        self.assertEqual(self.worker("GET", "/flags"), (200, {"flags": {"new": True}, "from": "cache"}))
        rows = self.client.json("GET", self.ns + "/keys")["result"]
        self.assertEqual([row["name"] for row in rows], ["feature-flags", "feature-flags:cache"])
        self.assertAlmostEqual(rows[1]["expiration"], time.time() + 60, delta=30)

    def test_sessions(self):
        self.assertEqual(self.worker("POST", "/session?token=t1", '{"user": 1}'), (200, {"token": "t1"}))
        answer = self.client.ask("GET", self.value("session:t1"))
        self.assertEqual(answer.body, b'{"user":1}')
        self.assertAlmostEqual(int(answer.headers["expiration"]), time.time() + 7 * 86400, delta=60)
        self.client.json("DELETE", self.value("session:t1"))
        self.assertEqual(self.worker("GET", "/session/t1")[0], 404)

    def test_rate_limits(self):
        answers = [self.worker("GET", "/limited/10.0.0.1?limit=2&window=100000")[0] for _ in range(3)]
        self.assertEqual(answers, [200, 200, 429])
        (row,) = self.client.json("GET", self.ns + "/keys", prefix="rate:")["result"]
        self.assertEqual(self.client.ask("GET", self.value(row["name"])).body, b"2")

    def test_maintenance(self):
        self.assertEqual(self.worker("GET", "/app"), (200, b"ok\n"))
        self.client.json("PUT", self.value("maintenance-mode"), b"true")
        self.assertEqual(self.worker("GET", "/app")[0], 503)

    def test_bytes_metadata_and_keys(self):
        value, key = bytes(range(256)) * 40, "images/a:ü%2F?.png"
        body, headers = form(value=value, metadata='{"type":"image/png"}')
        self.assertEqual(self.client.ask("PUT", self.value(key), body, headers).status, 200)
        status, headers, got = self.real.ask("GET", "/raw/" + segment(key))
        self.assertEqual((status, headers["X-Metadata"], got), (200, "%7B%22type%22%3A%22image%2Fpng%22%7D", value))
        self.assertEqual(self.client.ask("GET", self.value(key)).body, value)
        self.assertEqual(self.client.json("GET", f"{self.ns}/metadata/{segment(key)}")["result"], {"type": "image/png"})

    def test_largest(self):
        value = bytes(25 * 1024 * 1024)
        self.client.json("PUT", self.value("large"), value)
        self.assertEqual(len(self.client.ask("GET", self.value("large")).body), len(value))
        self.assertEqual(self.client.error("PUT", self.value("large"), value + b"x")[0], 413)

    def test_its_refusals_are_ours(self):
        """Each of these is answered by both with the same status."""
        with Server() as ours:
            kv, client = ours.namespace("main"), Client(ours)
            self.addCleanup(client.close)
            large, headers = form(value=b"v", metadata=json.dumps("x" * 1023))
            for method, path, body, query in (
                    ("PUT", "/values/k", b"v", {"expiration_ttl": 59}), ("PUT", "/values/k", b"v", {"expiration": 1}),
                    ("PUT", "/values/k", b"v", {"expiration_ttl": "x"}), ("PUT", "/values/" + "k" * 513, b"v", {}),
                    ("PUT", "/values/%2E", b"v", {}), ("PUT", "/values/%ff", b"v", {}), ("GET", "/values/no", None, {}),
                    ("GET", "/keys", None, {"limit": 9}), ("GET", "/keys", None, {"limit": 1001}),
                    ("POST", "/bulk/get", b'{"keys": []}', {}), ("PUT", "/bulk", b"{}", {})):
                there = self.client.error(method, self.ns + path, body, **query)[0]
                self.assertEqual(client.error(method, f"/{kv.id}{path}", body, **query)[0], there, (method, path, query))
            there = self.client.error("PUT", self.value("k"), large, headers)[0]
            self.assertEqual(client.error("PUT", f"/{kv.id}/values/k", large, headers)[0], there)

    def test_its_order_is_ours(self):
        keys = ["a", "a!", "a/b", "aa", "ü", "￿", "😀", "<&>", "%"]
        self.client.json("PUT", self.ns + "/bulk", [{"key": key, "value": "v"} for key in keys])
        names = [row["name"] for row in self.client.json("GET", self.ns + "/keys")["result"]]
        self.assertEqual(names, sorted(keys, key=str.encode))

    def test_what_bulk_gets_make_of_bytes_is_ours(self):
        values = {"bom": b"\xef\xbb\xbfx", "bad": b"a\xff\xc3b", "empty": b"", "nul": b"a\0b", "cut": b"\xe2\x82",
                  "surrogate": b"\xed\xa0\x80", "marked": b"\xef\xbb\xbf"}
        with Server() as ours:
            kv, client = ours.namespace("main"), Client(ours)
            self.addCleanup(client.close)
            ours.faults.add("bom_stripped")
            for key, value in values.items():
                kv.put(key, value)
                self.client.json("PUT", self.value(key), value)
            for more in ({}, {"withMetadata": True}):
                asked = {"keys": [*values, "absent"], **more}
                self.assertEqual(client.json("POST", f"/{kv.id}/bulk/get", asked)["result"],
                                 self.client.json("POST", self.ns + "/bulk/get", asked)["result"])

    def test_the_explorer(self):
        port = int(self.real.explorer.split(":")[2].split("/")[0])
        there = type("There", (), {"port": port, "token": "", "account": None})
        client = Client(there, "/cdn-cgi/explorer/api", account=False)
        self.addCleanup(client.close)
        self.assertIn({"id": self.ns[1:], "title": "KV"},
                      [{"id": n["id"], "title": n["title"]} for n in client.json("GET")["result"]])
        client.json("PUT", self.value("a/b"), b"v", expiration_ttl=60)
        self.assertEqual(self.client.json("GET", self.ns + "/keys")["result"], [{"name": "a/b"}])
        self.assertEqual(client.ask("GET", self.value("a/b")).body, b"v")
        self.assertEqual(client.json("POST", self.ns + "/bulk/get", {"keys": ["a/b"]})["result"], {"values": {"a/b": "v"}})


class RealTime(unittest.TestCase):
    LIMIT = 120

    def setUp(self):
        node.need(self)

    def test_expiry_without_waiting(self):
        with node.Miniflare() as real:
            client, ns = Client(real), "/" + real.namespaces["main"]
            self.addCleanup(client.close)
            real.clock(set=2_000_000_000)
            client.json("PUT", ns + "/values/key", b"v", expiration_ttl=60)
            self.assertEqual(client.json("GET", ns + "/keys")["result"], [{"name": "key", "expiration": 2_000_000_060}])
            real.clock(advance=59)
            self.assertEqual(client.ask("GET", ns + "/values/key").body, b"v")
            self.assertEqual(real.clock(advance=2), 2_000_000_061)
            self.assertEqual(client.error("GET", ns + "/values/key"), (404, 10009))
            self.assertEqual(real.ask("GET", "/raw/key")[0], 404)

    def test_content_that_outlives_it(self):
        with tempfile.TemporaryDirectory(prefix="kvfs-miniflare-") as content:
            for answer in (404, 200):
                with node.Miniflare(content) as real:
                    client, ns = Client(real), "/" + real.namespaces["main"]
                    self.assertEqual(client.ask("GET", ns + "/values/key").status, answer)
                    client.json("PUT", ns + "/values/key", b"v")
                    client.close()
