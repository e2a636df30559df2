"""What tests of kvfs on real counterparts stand on: a mount of the KV namespace that a Worker has.

    class Something(RealTest):
        def test_it(self):
            self.worker("PUT", "/raw/key", b"value")
            m = self.mount("separator=:")
            self.shows(m / "key", b"value")

kvfs asks the REST routes that node/rest.mjs has in front of miniflare's KV; the Worker is asked over HTTP
and has the same namespace as its binding.
"""

import json
import os
import sys
import unittest
from urllib.parse import quote, unquote

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))

import node
from client import Client, segment
from harness import KVFS, Test, eventually, read, run
from remote import RemoteMount

SOON = 15  # seconds for what kvfs does by itself within some: upload_delay, max_age, a busy machine


def need_kvfs(test):
    if not os.path.exists(KVFS):
        test.skipTest("needs kvfs: selftest.py --kvfs FILE")


class CounterpartTest(Test):
    """Mounts of what some server has."""

    def setUp(self):
        need_kvfs(self)
        node.need(self)
        super().setUp()

    def mounted(self, source, endpoint, token, *options, cache="cache", clock=None):
        number = len(self.mounts)
        folder = self.folder(f"daemon{number}")
        options = [f"endpoint={endpoint}", f"cache={os.path.join(self.tmp, cache)}", *options]
        m = RemoteMount(token, source, os.path.join(self.tmp, f"mnt{number}"), options, folder, clock)
        self.mounts.append(m)
        return m.start()

    def uploaded(self, m, seconds=60):
        """Everything is, and that is said."""
        run(KVFS, "sync", m.root, timeout=seconds)
        eventually(lambda: m.pending() == 0, SOON, "uploads")

    def tree(self, m):
        """Every key that the mount shows: {key: path}."""
        found = {}
        for folder, _, files in os.walk(os.fsencode(m.root)):
            for name in files:
                path = os.path.join(folder, name)
                key = os.getxattr(path, "user.kv.key")
                self.assertNotIn(key, found)
                found[key] = path
        return found

    def attributes(self, path):
        return {n.removeprefix("user.kv."): os.getxattr(path, n) for n in os.listxattr(path)}

    def shows(self, path, value, seconds=SOON):
        """The mount shows this value, None for no file, now or soon."""
        def same():
            try:
                return read(path) == value
            except (FileNotFoundError, NotADirectoryError):
                return value is None
        eventually(same, seconds, f"{value!r:.100} in {path!r}")

    def shell(self, script, *args):
        """sh -ec, with $1, $2... What it said."""
        return run("sh", "-ec", script, "sh", *args, env={**os.environ, "HOME": self.tmp, "TERM": "dumb"}).stdout


class RealTest(CounterpartTest):
    """One miniflare for all tests, the Worker's namespace empty before each."""

    real = None

    @classmethod
    def started(cls):
        if RealTest.real is None:
            RealTest.real = node.Miniflare().start()
            unittest.addModuleCleanup(RealTest.ended)
        return RealTest.real

    @staticmethod
    def ended():
        RealTest.real.stop()
        RealTest.real = None

    def setUp(self):
        super().setUp()
        self.real = self.started()
        self.clear()

    def clear(self):
        keys = list(self.listed())
        if keys:
            client = Client(self.real)
            client.json("POST", f"/{self.real.namespaces['main']}/bulk/delete", keys)
            client.close()

    def mount(self, *options, title="main", **more):
        return self.mounted(f"cloudflare:{self.real.account}#{title}", self.real.endpoint, self.real.token,
                            "max_age=1", "upload_delay=0.2", *options, **more)

    def worker(self, method, path, body=None):
        """(status, body) of the Worker's answer; JSON is decoded."""
        status, headers, answer = self.real.ask(method, path, body)
        return status, json.loads(answer) if headers.get_content_type() == "application/json" else answer

    def answers(self, path, answer, seconds=SOON):
        """The Worker answers so, now or soon."""
        eventually(lambda: self.worker("GET", path) == answer, seconds, f"{answer} from {path}")

    def put(self, key, value, **query):
        """The Worker puts a value. metadata: JSON text."""
        more = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        status, answer = self.worker("PUT", f"/raw/{segment(key)}?{more}", value)
        self.assertEqual(status, 204, answer)

    def stored(self, key):
        """(value, metadata) as the Worker gets them with getWithMetadata(), None when it finds no key."""
        status, headers, answer = self.real.ask("GET", "/raw/" + segment(key))
        if status == 404:
            return None
        self.assertEqual(status, 200, answer)
        return answer, json.loads(unquote(headers["X-Metadata"]))

    def listed(self):
        """{key: {expiration?, metadata?}} as the Worker lists them."""
        status, rows = self.worker("GET", "/list")
        self.assertEqual(status, 200, rows)
        return {row.pop("name"): row for row in rows}
