"""The Workers KV client of backends/cloudflare against the test server: cftool makes the calls.

KVFS_TEST_CFTOOL names the program; without it, that of the usual build folder is taken.
"""

import json
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
import unittest

from server import Server

HOUSE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.environ.get("KVFS_TEST_CFTOOL", os.path.join(HOUSE, "build/test/tests/cloudflare/cftool"))
LIMIT = 100  # seconds for one run of the tool


def allow_core_dumps():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)


def wait_for(event, seconds=20):
    end = time.monotonic() + seconds
    while not event() and time.monotonic() < end:
        time.sleep(0.01)
    return event()


def hexed(value):
    return (value.encode() if isinstance(value, str) else value).hex()


class Outcome:
    def __init__(self, process):
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        if not lines or process.returncode not in (0, 1):
            raise AssertionError(f"cftool: {process.returncode}: {process.stdout}\n{process.stderr}")
        self.errors = process.stderr
        self.rows = [row for row in lines if "rc" not in row]
        self.rc = lines[-1].get("rc", lines[-1].get("error"))
        self.stats = lines[-1].get("stats", {})
        if "ERROR: " in self.errors or "runtime error" in self.errors:
            raise AssertionError(self.errors)

    def values(self):
        return [bytes.fromhex(row["value"]) if row["error"] == "0" else row["error"] for row in self.rows]

    def keys(self):
        return [bytes.fromhex(row["key"]) for row in self.rows]


@unittest.skipUnless(os.path.exists(TOOL), f"{TOOL} is not built")
class Case(unittest.TestCase):
    tls = False

    def setUp(self):
        self.server = Server(tls=self.tls)
        self.server.start()
        self.addCleanup(self.server.stop)
        self.ns = self.server.namespace("main")

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env.update(CF_ENDPOINT=self.server.endpoint, CF_ACCOUNT=self.server.account,
                   CF_TOKEN=self.server.token, CF_TIMEOUT="20")
        if self.tls:
            env["CF_CA"] = self.server.certificate
        for name, value in more.items():
            name = "CF_" + name.upper() if name.islower() else name
            env.pop(name, None)
            if value is not None:
                env[name] = str(value)
        return env

    def run_tool(self, *args, input=None, **env):
        process = subprocess.run([TOOL, *map(str, args)], env=self.environment(**env), input=input,
                                 capture_output=True, text=True, errors="replace", timeout=LIMIT)
        outcome = Outcome(process)
        self.assertNotIn(self.server.token, process.stdout + process.stderr)
        return outcome

    def timeless(self, *args, **more):
        """Where waiting takes no time: the client's clock and the server's jump together."""
        self.server.clock.freeze()
        return self.run_tool(*args, control=self.server.port, **more)

    def get(self, *keys, **env):
        return self.run_tool("get", self.ns.id, *map(hexed, keys), **env)

    def bulk_get(self, *keys, **env):
        return self.run_tool("bulk-get", self.ns.id, *map(hexed, keys), **env)

    def put(self, key, value, expiration=0, metadata="", **env):
        return self.run_tool("put", self.ns.id, hexed(key), hexed(value), expiration, hexed(metadata), **env)

    def list(self, prefix="", limit=0, **env):
        return self.run_tool("keys", self.ns.id, hexed(prefix), limit, **env)

    def bulk_put(self, items, **env):
        lines = [" ".join([hexed(k), hexed(v), *map(str, rest[:1] or [0]), *map(hexed, rest[1:])])
                 for k, v, *rest in items]
        return self.run_tool("bulk-put", self.ns.id, input="\n".join(lines) + "\n", **env)

    def bulk_delete(self, keys, **env):
        return self.run_tool("bulk-delete", self.ns.id, input="".join(hexed(k) + "\n" for k in keys), **env)

    def counts(self):
        return dict(self.server.log.counts())


KEYS = ["a/b", "a//b", "a:b", "100%25", "?query#x", "ä€𝄞", "x" * 512, "a\0b", ". ", "...", "a/../b", " ", "+", "\ufffd"]
VALUES = [b"", b"text", b"\0\1\2", bytes(range(256)), "ä\u2028\ufffd".encode(), b'"\\\n', b"\xff", b"\xef\xbf\xbd", b"null"]


class Values(Case):
    def test_bytes_are_exact_by_every_way(self):
        pairs = {key: VALUES[i % len(VALUES)] for i, key in enumerate(KEYS)}
        for key, value in list(pairs.items())[:7]:
            self.assertEqual(self.put(key, value).rc, "0", key)
        self.assertEqual(self.bulk_put(list(pairs.items())[7:]).rc, "0")
        for key, value in pairs.items():
            self.assertEqual(self.ns.get(key.encode()).value, value, key)
        self.assertEqual(self.get(*pairs).values(), list(pairs.values()))
        self.assertEqual(self.bulk_get(*pairs).values(), list(pairs.values()))
        self.assertEqual(self.list(limit=10).keys(), sorted(key.encode() for key in pairs))

    def test_metadata_is_as_written(self):
        for text in ['{"b":1.10,"a":12345678901234567890123}', '[1e400,-0.0]', '"\\ud83d"', '"a\\u0000b"', '0']:
            self.ns.put(b"m", b"v", 1999999999, text)
            row = self.bulk_get("m").rows[0]
            self.assertEqual((bytes.fromhex(row["metadata"]).decode(), row["expiration"]), (text, 1999999999))
            row = self.list().rows[0]
            self.assertEqual((bytes.fromhex(row["metadata"]).decode(), row["expiration"]), (text, 1999999999))

    def test_put_replaces_expiration_and_metadata(self):
        soon = int(self.server.clock.now()) + 1000
        self.assertEqual(self.put("k", b"\xff1", soon, '{"a": 1}').rc, "0")
        self.assertEqual((self.ns.get(b"k").value, self.ns.get(b"k").expiration, self.ns.get(b"k").metadata),
                         (b"\xff1", soon, '{"a":1}'))
        self.assertEqual(self.get("k").rows[0]["expiration"], soon)
        self.server.clock.advance(2)
        self.assertEqual(self.put("k", b"2").rc, "0")
        self.assertEqual((self.ns.get(b"k").expiration, self.ns.get(b"k").metadata), (None, None))

    def test_bulk_get_fetches_raw_what_is_not_text(self):
        for i in range(250):
            self.ns.put(b"k%03d" % i, b"\xff%d" % i if i % 50 == 0 else b"%d" % i)
        got = self.bulk_get(*[f"k{i:03}" for i in range(250)])
        self.assertEqual(got.values(), [b"\xff%d" % i if i % 50 == 0 else b"%d" % i for i in range(250)])
        self.assertEqual(got.stats["requests"], {"bulk get": 3, "get": 5})
        self.assertEqual({row["via"] for row in got.rows}, {"bulk", "both"})

    def test_bulk_get_halves_what_is_too_large(self):
        big = [b"x" * (10 << 20), b"y" * (10 << 20), b"\xfe" + b"z" * (10 << 20)]
        for i, value in enumerate(big):
            self.ns.put(b"%d" % i, value)
        self.assertEqual(self.bulk_get("0", "1", "2", "none").values(), [*big, "ENOENT"])

    def test_greatest_value(self):
        value = random.Random(1).randbytes(25 << 20)
        self.ns.put(b"great", value)
        got = self.get("great")
        self.assertEqual(got.values(), [value])
        self.server.faults.add("endless", on="get", framing="chunked")
        self.assertEqual(self.get("great").rc, "EFBIG")

    def test_keys_that_cannot_be(self):
        got = self.get("", ".", "..", "x" * 513, b"\xff", "good")
        self.assertEqual(got.values(), ["EINVAL", "EINVAL", "EINVAL", "EINVAL", "EILSEQ", "ENOENT"])
        self.assertEqual(self.put(".", b"").rc, "EINVAL")
        self.assertEqual(self.put("k", b"", 0, "{").rc, "EINVAL")
        self.assertEqual(self.put("k", b"", 0, '"' + "x" * 1023 + '"').rc, "ERANGE")
        self.assertEqual(self.put("k", b"", 5).rc, "EINVAL")

    def test_keys_that_nobody_is_asked_for_are_logged(self):
        for call, name in ((self.get, "get"), (self.bulk_get, "bulk get")):
            got = call("good", "a/\0" + "b" * 511, "..", b"bad \xff")
            self.assertEqual(got.values(), ["ENOENT", "EINVAL", "EINVAL", "EILSEQ"])
            lines = got.errors.splitlines()
            self.assertEqual(len(lines), 2, lines)  # repetitions are counted
            self.assertIn(f"cloudflare: {name} of key a/", lines[0])
            self.assertIn(f"cloudflare: {name} of key bad ", lines[1])
            self.assertIn("names must be UTF-8", lines[1])
            self.assertIn(self.ns.id, lines[1])


class ValuesOverTls(Values):
    tls = True


class Namespaces(Case):
    def test_life(self):
        made = self.run_tool("ns-create", hexed("ä title"))
        ident = made.rows[0]["id"]
        self.assertEqual(self.run_tool("ns-create", hexed("ä title")).rc, "EEXIST")
        self.assertEqual(self.run_tool("ns-rename", ident, hexed("new")).rc, "0")
        titles = {row["id"]: bytes.fromhex(row["title"]).decode() for row in self.run_tool("ns-list").rows}
        self.assertEqual(titles, {ident: "new", self.ns.id: "main"})
        self.assertEqual(self.run_tool("ns-delete", ident).rc, "0")
        self.assertEqual(self.run_tool("ns-delete", ident).rc, "ENODEV")
        self.assertEqual(self.run_tool("get", ident, hexed("k")).rc, "ENODEV")

    def test_more_than_a_page(self):
        for i in range(250):
            self.server.namespace(f"n{i}")
        got = self.run_tool("ns-list")
        self.assertEqual((len(got.rows), got.stats["requests"]), (251, {"listing namespaces": 3}))

    def test_creation_whose_answer_is_lost(self):
        self.server.faults.add("reset", at="after", next=1)
        made = self.run_tool("ns-create", hexed("once"))
        self.assertEqual((made.rc, made.rows), ("0", [{"id": self.server.namespace("once").id}]))

    def test_renaming_whose_answer_is_lost(self):
        self.server.faults.add("reset", at="after", next=1)
        self.assertEqual(self.run_tool("ns-rename", self.ns.id, hexed("new")).rc, "0")
        self.assertEqual(self.server.namespace("new").id, self.ns.id)


MORE = {"cut": {"after": 20}, "endless": {"framing": "chunked"}, "many_headers": {"count": 100000},
        "huge_header": {"size": 1 << 20}}


class Listings(Case):
    def test_pages_with_a_prefix(self):
        for i in range(2500):
            self.ns.put(b"p/%04d" % i, b"")
        self.ns.put(b"o", b"")
        self.ns.put(b"q", b"")
        got = self.list("p/")
        self.assertEqual(got.keys(), [b"p/%04d" % i for i in range(2500)])
        self.assertEqual(got.stats["requests"], {"listing keys": 3})

    def test_an_empty_page_may_have_a_successor(self):
        for i in range(30):
            self.ns.put(b"%02d" % i, b"")
        self.server.faults.add("short_page", keys=3)
        self.assertEqual(len(self.list(limit=10).keys()), 30)

    def test_every_form_of_an_end(self):
        for end in ("missing", "null", "no_info"):
            self.ns.put(b"k", b"")
            self.server.faults.clear()
            self.server.faults.add("end_cursor", **{"as": end})
            self.assertEqual(self.list().keys(), [b"k"], end)

    def test_what_breaks_the_protocol_is_an_error(self):
        for i in range(30):
            self.ns.put(b"k%02d" % i, b"")
        for name in ("foreign_keys", "unordered", "duplicates", "endless_cursor", "invalid_utf8", "nul", "deep",
                     "truncated_json", "html", "success_false", "garbage", "many_headers", "huge_header",
                     "endless", "redirect", "cut", "wrong_types"):
            with self.subTest(name):
                self.server.faults.clear()
                self.server.faults.add(name, on="list", **MORE.get(name, {}))
                outcome = self.list("k", limit=10, timeout=2)
                self.assertIn(outcome.rc, ("EIO", "ETIMEDOUT", "EFBIG", "EINVAL"))
                self.assertIn("listing keys", outcome.errors)


class Bulk(Case):
    def test_each_request_is_as_full_as_can_be(self):
        items = [(f"k{i:05}", b"v%d" % i) for i in range(20001)]
        self.assertEqual(self.bulk_put(items).rc, "0")
        self.assertEqual(self.ns.get(b"k20000").value, b"v20000")
        got = self.bulk_delete([key for key, _ in items])
        self.assertEqual((got.rc, got.stats["requests"]), ("0", {"bulk delete": 3}))
        self.assertIsNone(self.ns.get(b"k00000"))

    def test_a_hundred_megabytes(self):
        value = random.Random(2).randbytes(20 << 20)
        got = self.bulk_put([(f"k{i}", value) for i in range(5)])
        self.assertEqual((got.rc, got.stats["requests"]), ("0", {"bulk put": 2}))
        for i in range(5):
            self.assertEqual(self.ns.get(b"k%d" % i).value, value)

    def test_unsuccessful_keys(self):
        self.server.faults.add("unsuccessful", keys=["b"])
        got = self.bulk_put([("a", b""), ("b", b""), ("c", b"")])
        self.assertEqual([row["error"] for row in got.rows], ["0", "EAGAIN", "0"])
        got = self.bulk_delete(["a", "b", "c"])
        self.assertEqual([row["error"] for row in got.rows], ["0", "EAGAIN", "0"])

    def test_one_bad_item_does_not_take_the_others_down(self):
        items = [(f"k{i:04}", b"v") for i in range(1000)]
        items[777] = ("k0777", b"v", int(self.server.clock.now()) + 5)
        got = self.bulk_put(items)
        self.assertEqual([i for i, row in enumerate(got.rows) if row["error"] != "0"], [777])
        self.assertEqual(got.rows[777]["error"], "EINVAL")
        self.assertLessEqual(got.stats["requests"]["bulk put"], 21)

    def test_what_the_answers_get_wrong(self):
        for name in ("wrong_types", "success_false", "truncated_json", "invalid_utf8"):
            with self.subTest(name):
                self.server.faults.clear()
                self.server.faults.add(name, on="bulk")
                self.assertEqual(self.bulk_put([("a", b"1"), ("b", b"2")]).rc, "EIO")
                self.assertEqual(self.bulk_get("a", "b").rc, "EIO")


class Trouble(Case):
    def test_errors_by_meaning(self):
        self.ns.put(b"k", b"v")
        self.assertEqual(self.get("k", token="wrong-token-of-another").rc, "EACCES")
        self.assertEqual(self.get("k", token=None).rc, "EACCES")
        self.assertEqual(self.get("k", account="f" * 32).rc in ("ENODEV", "EACCES"), True)
        self.assertEqual(self.run_tool("get", "0" * 32, hexed("k")).rc, "ENODEV")
        self.assertEqual(self.run_tool("keys", "malformed", "", 0).rc, "ENODEV")
        self.server.faults.add("html", on="get", status=404)
        self.assertEqual(self.get("k").rc, "EIO")

    def test_lines_say_what_is_wrong_and_never_the_token(self):
        self.server.faults.add("status", status=403, code=10000, message="no " + self.server.token)
        got = self.get("some/key")
        for part in ("get of key some/key", self.ns.id, "status 403", "code 10000", "token is refused"):
            self.assertIn(part, got.errors)

    def test_tries_again(self):
        self.ns.put(b"k", b"v")
        for fault in ({"name": "reset", "at": "before"}, {"name": "status", "status": 500}, {"name": "cut"},
                      {"name": "status", "status": 408}, {"name": "status", "status": 409}):
            with self.subTest(fault):
                self.server.faults.clear()
                self.server.faults.add(next=2, on="get", **fault)
                got = self.timeless("get", self.ns.id, hexed("k"))
                self.assertEqual((got.rc, got.stats["retries"]), ("0", 2))

    def test_a_server_that_is_gone(self):
        self.server.stop()
        began = time.monotonic()
        got = self.get("a", "b", "c", timeout=2)
        self.assertEqual(got.rc, "ETIMEDOUT")
        self.assertTrue(got.stats["offline"])
        self.assertLess(time.monotonic() - began, 15)

    def test_a_server_that_never_answers(self):
        self.server.faults.add("hang", seconds=30)
        began = time.monotonic()
        self.assertEqual(self.get("a", timeout=2).rc, "ETIMEDOUT")
        self.assertLess(time.monotonic() - began, 15)

    def test_cancelled_calls_return_at_once(self):
        self.server.faults.add("hang", seconds=30)
        began = time.monotonic()
        self.assertEqual(self.run_tool("cancel", self.ns.id, hexed("k")).rc, "ECANCELED")
        self.assertLess(time.monotonic() - began, 10)

    def test_a_core_dump_does_not_hold_the_token(self):
        with open("/proc/sys/kernel/core_pattern") as f:
            if f.read().strip() not in ("core", "core.%p"):
                self.skipTest("core dumps go elsewhere")
        with open(TOOL, "rb") as f:
            if b"__tsan_init" in f.read() or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
                self.skipTest("no core dumps here")
        self.server.quota.limit = None
        self.server.faults.add("hang", seconds=30, skip=50)
        with tempfile.TemporaryDirectory() as folder:
            options = os.environ.get("ASAN_OPTIONS", "") + ":disable_coredump=0"
            process = subprocess.Popen([TOOL, "storm", self.ns.id, "4", "1000"], cwd=folder, stdout=subprocess.DEVNULL,
                                       env=self.environment(ASAN_OPTIONS=options), preexec_fn=allow_core_dumps)
            try:
                self.assertTrue(wait_for(lambda: sum(self.counts().values()) >= 50))
                process.send_signal(signal.SIGQUIT)
            finally:
                wait_for(lambda: process.poll() is not None)
                process.kill()
                process.wait()
            cores = [os.path.join(folder, name) for name in os.listdir(folder)]
            self.assertEqual(len(cores), 1)
            with open(cores[0], "rb") as f:
                core = f.read()
            self.assertIn(b"CORE", core)
            self.assertNotIn(self.server.token.encode(), core)

    def test_credentials_never_follow_a_redirect(self):
        with Server() as other:
            self.server.faults.add("redirect", location=other.endpoint + "/stolen")
            self.assertEqual(self.get("k").rc, "EIO")
            self.assertEqual(dict(other.log.counts()), {})

    def test_no_proxy_for_loopback(self):
        self.ns.put(b"k", b"v")
        self.assertEqual(self.get("k", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9",
                                  ALL_PROXY="http://127.0.0.1:9").values(), [b"v"])

    def test_endpoints_that_are_refused(self):
        for endpoint in ("http://example.com/client/v4", "http://127.0.0.1.example.com", "ftp://localhost",
                         "https://user:word@localhost/", "http://localhost:1/?x"):
            self.assertEqual(self.run_tool("ns-list", endpoint=endpoint).rc, "EINVAL", endpoint)

    def test_legal_framings(self):
        self.ns.put(b"k", b"value")
        for name in ("chunked", "close", "interim"):
            self.server.faults.clear()
            self.server.faults.add(name)
            self.assertEqual(self.get("k").values(), [b"value"], name)
            self.assertEqual(self.bulk_get("k").values(), [b"value"], name)


class Tls(Case):
    tls = True

    def test_an_unknown_authority_is_refused(self):
        got = self.get("k", ca=None, timeout=3)
        self.assertIn(got.rc, ("EIO", "ETIMEDOUT"))
        self.assertEqual(self.counts(), {})


class Pace(Case):
    def test_the_block_is_never_run_into(self):
        self.server.quota.limit, self.server.quota.window = 60, 300
        for i in range(200):
            self.ns.put(b"%03d" % i, b"\xff%d" % i)
        for background in (None, 1):
            got = self.timeless("get", self.ns.id, *[hexed(f"{i:03}") for i in range(200)], background=background,
                                timeout=3000)
            self.assertEqual(got.rc, "0")
            self.assertEqual(got.stats["rate_limited"], 0)
            self.assertGreater(got.stats["waits"], 0)
        self.assertEqual(self.server.quota.refusals, 0)

    def test_a_block_that_was_there_already(self):
        self.ns.put(b"k", b"v")
        self.server.quota.limit = 1
        self.server.clock.freeze()
        self.assertEqual(self.run_tool("get", self.ns.id, hexed("k")).rc, "0")
        got = self.timeless("get", self.ns.id, hexed("k"), background=1)
        self.assertEqual((got.rc, got.stats["rate_limited"]), ("0", 1))

    def test_the_quota_of_the_day(self):
        self.server.faults.add("status", status=429, code=10048, message="you have exceeded the daily KV limit")
        got = self.put("k", b"v")
        self.assertEqual((got.rc, got.stats["requests"]), ("EDQUOT", {"put": 1}))

    def test_one_write_per_second_to_a_key(self):
        self.server.clock.freeze()
        for i in range(3):
            got = self.timeless("put", self.ns.id, hexed("k"), hexed(b"%d" % i), 0)
            self.assertEqual(got.rc, "0")
        self.assertEqual(self.ns.get(b"k").value, b"2")

    def test_a_write_is_not_repeated_behind_its_back(self):
        """A kept connection breaks after a write was carried out: it must not go out again at once."""
        env = {"endpoint": self.server.explorer, "account": None, "token": None}
        keys = [f"k{i:02}" for i in range(40)]  # more than there are connections
        for kind, call in (("put", lambda: self.bulk_put([(k, b"v") for k in keys], **env)),
                           ("delete", lambda: self.bulk_delete(keys, **env))):
            with self.subTest(kind):
                self.server.log.clear()
                self.server.faults.clear()
                self.server.faults.add("reset", at="after", on=kind, skip=38, next=1)
                got = call()
                self.assertEqual((got.rc, got.stats["retries"], got.stats["requests"]), ("0", 1, {kind: 41}))
                self.assertEqual(self.counts(), {kind: 41})
                times = {}
                for r in self.server.log.records(kind):
                    times.setdefault(r.path, []).append(r.time)
                twice = [t for t in times.values() if len(t) > 1]
                self.assertEqual(len(twice), 1)
                self.assertGreaterEqual(twice[0][1] - twice[0][0], 1)

    def test_retry_after_in_every_form(self):
        self.ns.put(b"k", b"v")
        for text in ("2", "0", "Sun, 06 Nov 1994 08:49:37 GMT", "nonsense", "-5"):
            with self.subTest(text):
                self.server.faults.clear()
                self.server.faults.add("status", status=503, retry_after=text, next=2)
                self.assertEqual(self.timeless("get", self.ns.id, hexed("k")).rc, "0")


class Development(Case):
    """The part of the API that a development server has."""

    def test_what_it_has(self):
        env = {"endpoint": self.server.explorer, "account": None, "token": None}
        self.assertEqual(self.put("k", b"\xff", 1999999999, '{"a":1}', **env).rc, "0")
        self.assertEqual(self.bulk_put([("a", b"1"), ("b", b"2")], **env).rc, "0")
        self.assertEqual(self.list(**env).keys(), [b"a", b"b", b"k"])
        self.assertEqual(self.get("a", "k", **env).values(), [b"1", b"\xff"])
        self.assertEqual(self.bulk_get("a", "k", "none", **env).values(), [b"1", b"\xff", "ENOENT"])
        self.assertEqual(self.bulk_delete(["a", "b"], **env).rc, "0")
        self.assertEqual(self.counts().get("bulk.get", 0), 0)
        self.assertEqual(self.list(**env).keys(), [b"k"])
        self.assertEqual(len(self.run_tool("ns-list", **env).rows), 1)
        self.assertEqual(self.run_tool("ns-create", hexed("x"), **env).rc, "EOPNOTSUPP")


class Threads(Case):
    def test_a_storm(self):
        self.server.quota.limit = None
        self.server.faults.add("reset", at="before", probability=0.02, seed=3)
        got = self.run_tool("storm", self.ns.id, 8, 20)
        self.assertEqual(got.rc, "0")


if __name__ == "__main__":
    unittest.main()
