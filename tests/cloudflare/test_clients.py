"""What the official SDK, wrangler and kvfs make of each other, on one namespace; and `wrangler dev` mounted."""

import base64
import errno
import json
import os
import time
import urllib.request

import node
from harness import eventually, read, run, write
from real import SOON, CounterpartTest
from server import Server
from test_agreement import KEYS, VALUES


def encoded(value):
    return base64.b64encode(value).decode()


class OneServer(CounterpartTest):
    """The test server, for those that need the API itself."""

    def setUp(self):
        super().setUp()
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.ns = self.server.namespace("main")

    def mount(self, *options):
        return self.mounted(f"cloudflare:{self.server.account}#main", self.server.endpoint, self.server.token,
                            "max_age=1", "upload_delay=0.2", *options)

    def entries(self):
        return {key: (e.value, e.expiration, e.metadata and json.loads(e.metadata)) for key, e in self.ns.entries().items()}


class Sdk(OneServer):
    EXPIRATION = 2_000_000_000

    def setUp(self):
        super().setUp()
        self.sdk = node.Sdk(self.server, self.ns.id).start()
        self.addCleanup(self.sdk.stop)

    def test_what_it_writes(self):
        m = self.mount("separator=:")
        more = {"expiration": self.EXPIRATION, "metadata": '{"by":"sdk"}'}
        for name, value in VALUES.items():
            self.sdk("put", "one:" + name, encoded(value), more)
        pairs = [{"key": "many:" + name, "value": encoded(value), "base64": True, "metadata": [name]}
                 for name, value in VALUES.items()]
        self.assertEqual(self.sdk("bulkPut", pairs), {"successful_key_count": len(pairs), "unsuccessful_keys": []})
        for name, value in VALUES.items():
            self.shows(m / f"one/{name}", value)
            self.assertEqual(self.attributes(m / f"one/{name}"),
                             {"metadata": b'{"by":"sdk"}', "expiration": b"%d" % self.EXPIRATION})
            self.shows(m / f"many/{name}", value)
            self.assertEqual(self.attributes(m / f"many/{name}"), {"metadata": json.dumps([name]).encode()})
        self.sdk("delete", "one:nul")
        self.sdk("bulkDelete", ["many:nul", "many:text"])
        self.shows(m / "one/nul", None)
        self.shows(m / "many/text", None)
        self.assertEqual(len(self.tree(m)), 2 * len(VALUES) - 3)

    def test_what_it_reads(self):
        m = self.mount()
        for name, value in VALUES.items():
            write(m / name, value)
            os.setxattr(m / name, "user.kv.metadata", json.dumps({"name": name}).encode())
            os.setxattr(m / name, "user.kv.expiration", b"%d" % self.EXPIRATION)
        self.uploaded(m)
        self.assertEqual(self.sdk("list", ""), [{"name": name, "expiration": self.EXPIRATION, "metadata": {"name": name}}
                                                for name in sorted(VALUES)])
        for name, value in VALUES.items():
            self.assertEqual(self.sdk("get", name), {"value": encoded(value), "expiration": self.EXPIRATION})
            self.assertEqual(self.sdk("metadata", name), {"name": name})
        texts = {name: {"value": value.decode(), "metadata": {"name": name}, "expiration": self.EXPIRATION}
                 for name, value in VALUES.items() if value.decode("utf-8", "ignore").encode() == value}
        self.assertEqual(self.sdk("bulkGet", [*texts, "absent"]), {**texts, "absent": None})
        run("find", m.root, "-mindepth", "1", "-delete")
        self.uploaded(m)
        self.assertEqual(self.sdk("list", ""), [])
        self.assertEqual(self.sdk.ask("get", "text")["status"], 404)

    def test_keys(self):
        m = self.mount("separator=:", "max_age=60")
        for key in KEYS:
            self.sdk("put", key, encoded(key.encode()), {})
        found = self.tree(m)
        self.assertEqual({k: read(p) for k, p in found.items()}, {k.encode(): k.encode() for k in KEYS})
        for path in found.values():
            write(path, b"new")
        self.uploaded(m)
        for key in KEYS:
            self.assertEqual(self.sdk("get", key)["value"], encoded(b"new"), key)


class Wrangler(OneServer):
    LIMIT = 180

    def kv(self, *argv):
        return node.wrangler(self.server, "kv", *argv, "--namespace-id", self.ns.id, "--remote", cwd=self.tmp)

    def test_commands(self):
        m = self.mount("separator=:")
        self.kv("key", "put", "user:1", "theirs", "--metadata", '{"m":1}', "--ttl", "3600")
        self.shows(m / "user/1", b"theirs")
        self.assertAlmostEqual(int(os.getxattr(m / "user/1", "user.kv.ttl")), 3600, delta=60)
        self.assertEqual(os.getxattr(m / "user/1", "user.kv.metadata"), b'{"m":1}')
        run("sed", "-i", "s/theirs/ours/", m / "user/1")
        write(m / "user/2", VALUES["all"])
        self.uploaded(m)
        self.assertEqual(self.kv("key", "get", "user:1", "--text"), "ours\n")
        rows = json.loads(self.kv("key", "list"))
        self.assertEqual([(r["name"], r.get("metadata")) for r in rows], [("user:1", {"m": 1}), ("user:2", None)])
        self.assertAlmostEqual(rows[0]["expiration"], time.time() + 3600, delta=60)
        pairs = os.path.join(self.tmp, "pairs.json")
        write(pairs, json.dumps([{"key": "b:1", "value": "1", "metadata": [1]}, {"key": "b:2", "value": "AP8=", "base64": True}]))
        self.kv("bulk", "put", pairs)
        self.shows(m / "b/1", b"1")
        self.shows(m / "b/2", b"\0\xff")
        self.assertEqual(os.getxattr(m / "b/1", "user.kv.metadata"), b"[1]")
        self.kv("key", "delete", "user:1")
        self.shows(m / "user/1", None)


class DevServer(CounterpartTest):
    """`wrangler dev`: its Worker, and its local explorer's part of the API as the mount's endpoint."""

    ID = "0f2ac74b498b48028cb68387c421e279"
    CONFIG = f"""name = "app"
main = "worker.mjs"
compatibility_date = "2025-10-01"
account_id = "0123456789abcdef0123456789abcdef"

[[kv_namespaces]]
binding = "KV"
id = "{ID}"
"""

    def setUp(self):
        super().setUp()
        self.app = self.folder("app")
        write(self.app + "/wrangler.toml", self.CONFIG)
        run("cp", os.path.join(node.folder(), "worker.mjs"), self.app)
        self.dev = node.Dev(self.app).start()
        self.addCleanup(self.dev.stop)

    def mount(self, source, *options):
        return self.mounted(source, self.dev.explorer, "", "separator=:", "max_age=1", "upload_delay=0.2", *options)

    def ask(self, path, method="GET", body=None):
        with urllib.request.urlopen(urllib.request.Request(self.dev.origin + path, body, method=method), timeout=30) as a:
            return a.read()

    def test_mounted(self):
        m = self.mount(f"wrangler:{self.app}/wrangler.toml#KV")
        self.ask("/flags", "PUT", b'{"new":false}')
        self.shows(m / "feature-flags", b'{"new":false}')
        run("sed", "-i", "s/false/true/", m / "feature-flags")
        eventually(lambda: self.ask("/raw/feature-flags") == b'{"new":true}', SOON)
        self.assertEqual(self.ask("/flags"), b'{"flags":{"new":true},"from":"store"}')
        for key, value in VALUES.items():
            write(m / key, value)
            os.setxattr(m / key, "user.kv.metadata", b'{"k":1}')
        self.uploaded(m)
        for key, value in VALUES.items():
            self.assertEqual(self.ask("/raw/" + key), value, key)
            self.ask("/raw/2" + key, "PUT", value)
        rows = {row["name"]: row for row in json.loads(self.ask("/list"))}
        self.assertEqual({rows[key]["metadata"]["k"] for key in VALUES}, {1})
        for key, value in VALUES.items():
            self.shows(m / ("2" + key), value)
        os.unlink(m / "text")
        os.rename(m / "nul", m / "moved")
        self.uploaded(m)
        self.assertEqual({row["name"] for row in json.loads(self.ask("/list"))} - {"2" + key for key in VALUES},
                         {"moved", *VALUES, "feature-flags", "feature-flags:cache"} - {"text", "nul"})
        requests = m.status()["requests_by_kind"]
        self.assertEqual([kind for kind in requests if "bulk" in kind], [])

    def test_what_it_cannot(self):
        """Each is refused with one errno and one line; and nothing waits for ever."""
        m = self.mount(f"cf:#{self.ID}")
        self.assertEqual(m.status()["namespaces"], ["KV"])
        write(m / "k", b"v")
        for name, value in (("ttl", b"3600"), ("expiration", b"2000000000")):
            self.assertErrno(errno.ENOTSUP, os.setxattr, m / "k", "user.kv." + name, value)
            self.assertIn(f" k: user.kv.{name} refused: this store cannot keep expirations\n", read(m.log).decode())
        self.uploaded(m)
        self.assertEqual(self.ask("/raw/k"), b"v")
        m.umount()
        m = self.mount("cf:")
        self.assertEqual(os.listdir(m.root), ["KV"])
        self.assertEqual(read(m / "KV/k"), b"v")
        self.assertErrno((errno.ENOTSUP, errno.EPERM), os.mkdir, m / "NEW")
        self.assertErrno((errno.ENOTSUP, errno.EPERM), os.rename, m / "KV", m / "NEW")
        os.unlink(m / "KV/k")
        self.uploaded(m)
        self.assertErrno((errno.ENOTSUP, errno.EPERM), os.rmdir, m / "KV")
        self.assertEqual(json.loads(self.ask("/list")), [])
