"""Bytes, metadata, keys and expirations that a Worker and a mount must agree about, to the last of them."""

import errno
import json
import os

import node
from harness import KVFS, Clock, eventually, read, run, write
from real import SOON, CounterpartTest, RealTest

MIB = 1 << 20
NFC, NFD = "caf\u00e9", "cafe\u0301"
KEYS = ["a", "a:", "a::b", "a:b", ":", "::", ":a", "a/b", "a//b", "/", "a/", "%", "%2F", "a%2Fb", "100%", "100%25",
        "%empty", "%value", "x%+", "..x", "a/./b", "a/../b", "a:.:b", "a:..:b", "with space", " ", "line\nfeed",
        "tab\t", "quote'\"`", "back\\slash", "$HOME *?[x]", "<b>&amp;</b>", "\u2028\u2029", NFC, NFD, "😀:👩‍👩‍👧", "日本/語",
        "\x01\x7f", "\ufffd", "\uffff", "\U0010ffff", "https://example.org/a?b=c&d=%2F#f", "k" * 512, "é" * 256,
        "d:" * 256, "😀" * 128, "x" * 256 + ":" + "y" * 255]
VALUES = {"empty": b"", "text": "grün\n".encode(), "nul": b"a\0b\0", "all": bytes(range(256)) * 40, "crlf": b"a\r\nb\r",
          "invalid": b"a\xff\xc3b\xe2\x82", "surrogates": b"\xed\xa0\x80\xed\xb0\x80", "bom": b"\xef\xbb\xbftext",
          "boms": b"\xef\xbb\xbf\xef\xbb\xbf", "marked": b"\xef\xbb\xbf", "utf16": "\ufeffx".encode("utf-16-le"),
          "replaced": "\ufffd".encode(), "json": b'{"value": null}', "null": b"null", "quote": b'"\\\x01\x7f\xc2\x80',
          "escapes": b"\\ud800 \\u0000 \\x00", "line": b"\n", "separators": "\u2028\u2029".encode()}
METADATA = ["{}", "[]", "0", "false", '""', '"x"', "-1.5e3", '{"price":1.10}', '[12345678901234567890123,1e400,-0.0]',
            '{"a":{"b":[1,2,{"c":null}]}}', '"\\ud83d\\ude00 \\u0000 \\/"', '{"ü":"日本","<":"&"}', '"' + "m" * 1022 + '"',
            '"' + "é" * 511 + '"', '{ "spaced" : [ 1 , 2 ] }']


class Keys(RealTest):
    def values(self):
        return {key: b"value of " + key.encode() for key in KEYS}

    def paths(self, separator):
        """What `kvfs path` says of every key."""
        lines = run(KVFS, "path", "-s", separator, *KEYS).stdout.replace("line\nfeed", "line\\feed").split("\n")
        self.assertEqual((len(lines), lines.pop()), (len(KEYS) + 1, ""))
        return {key: path.replace("line\\feed", "line\nfeed") for key, path in zip(KEYS, lines)}

    def check_all(self, m):
        self.assertEqual({k: read(p) for k, p in self.tree(m).items()},
                         {k.encode(): v for k, v in self.values().items()})

    def test_of_a_worker(self):
        for key, value in self.values().items():
            self.put(key, value)
        self.assertEqual(set(self.listed()), set(KEYS))
        for separator in "/:":
            m = self.mount(f"separator={separator}", "max_age=60", cache=f"cache{ord(separator)}")
            self.check_all(m)
            self.assertEqual({k.decode(): os.path.relpath(p, os.fsencode(m.root)).decode().removesuffix("/%value")
                              for k, p in self.tree(m).items()}, self.paths(separator))
            m.umount()

    def test_of_a_mount(self):
        """Written where `kvfs path` says, rewritten, removed."""
        m = self.mount("separator=:", "max_age=60")
        paths = self.paths(":")
        for key in sorted(KEYS, key=len, reverse=True):  # what is below a key makes it a directory first
            path = m / paths[key]
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write(path + "/%value" if os.path.isdir(path) else path, self.values()[key])
        self.uploaded(m)
        self.assertEqual(set(self.listed()), set(KEYS))
        self.assertEqual({k: self.stored(k)[0] for k in KEYS}, self.values())
        self.check_all(m)
        run("find", m.root, "-mindepth", "1", "-delete")
        self.uploaded(m)
        self.assertEqual(self.listed(), {})


class Values(RealTest):
    def test_of_a_worker(self):
        # miniflare's bulk get drops a single mark before text, and nothing tells that it was there.
        values = {k: v for k, v in VALUES.items() if k not in ("bom", "marked")}
        for key, value in values.items():
            self.put(key, value)
        m = self.mount()
        for _ in range(2):
            self.assertEqual({k: os.stat(m / k).st_size for k in values}, {k: len(v) for k, v in values.items()})
            self.assertEqual({k: read(m / k) for k in values}, values)
            run(KVFS, "refresh", m.root)

    def test_of_a_mount(self):
        m = self.mount()
        for key, value in VALUES.items():
            write(m / key, value)
            os.setxattr(m / key, "user.kv.metadata", b'{"k":1}')
            write(m / (key + "2"), value)
        self.uploaded(m)
        self.assertEqual({k: self.stored(k) for k in VALUES}, {k: (v, {"k": 1}) for k, v in VALUES.items()})
        self.assertEqual({k: self.stored(k + "2") for k in VALUES}, {k: (v, None) for k, v in VALUES.items()})
        run(KVFS, "refresh", m.root)
        self.assertEqual({k: read(m / k) for k in VALUES}, VALUES)

    def test_one_by_one(self):
        """A change of one key is a request of another form than a change of many."""
        m = self.mount()
        for key, value in VALUES.items():
            write(m / key, value)
            os.setxattr(m / key, "user.kv.metadata", json.dumps(key).encode())
            run(KVFS, "sync", m.root)
            self.assertEqual(self.stored(key), (value, key))

    def test_the_largest(self):
        value, text = os.urandom(MIB) * 24 + os.urandom(MIB - 3) + b"end", b"0123456789abcdef" * (25 * MIB // 16)
        self.put("theirs", text)
        status, answer = self.worker("PUT", "/raw/theirs", text + b"x")
        self.assertEqual((status, b"413" in answer), (500, True), answer)
        m = self.mount("max_age=600")
        write(m / "mine", value)
        self.assertErrno(errno.EFBIG, write, m / "mine", b"x", mode="ab")
        self.uploaded(m)
        self.assertTrue(self.stored("mine")[0] == value)
        self.assertTrue(read(m / "theirs") == text)
        self.assertTrue(read(m / "mine") == value)


class Metadata(RealTest):
    def seen(self, text):
        """What a Worker makes of JSON: numbers are JavaScript's, 1e400 is none."""
        seen = json.loads(text, parse_int=float, parse_float=float)
        return [None if n == float("inf") else n for n in seen] if isinstance(seen, list) else seen

    def test_of_a_mount(self):
        m = self.mount()
        for i, text in enumerate(METADATA):
            write(m / f"k{i:02}", b"v")
            os.setxattr(m / f"k{i:02}", "user.kv.metadata", text.encode())
        self.uploaded(m)
        listed = self.listed()
        for i, text in enumerate(METADATA):
            self.assertEqual(self.stored(f"k{i:02}"), (b"v", self.seen(text)), text)
            self.assertEqual(listed[f"k{i:02}"], {"metadata": self.seen(text)}, text)
        run(KVFS, "refresh", m.root)
        for i, text in enumerate(METADATA):
            self.assertEqual(self.seen(os.getxattr(m / f"k{i:02}", "user.kv.metadata")), self.seen(text))
        self.assertEqual(m.status()["uploads_failed"], 0)

    def test_of_a_worker(self):
        for i, text in enumerate(METADATA):
            self.put(f"k{i:02}", b"v" if i % 2 else b"\xff", metadata=text)
        m = self.mount()
        for _ in range(2):
            for i in range(len(METADATA)):
                path, (value, seen) = m / f"k{i:02}", self.stored(f"k{i:02}")
                self.assertEqual(json.loads(os.getxattr(path, "user.kv.metadata")), seen)
                self.assertEqual(os.listxattr(path), ["user.kv.metadata"])
                self.assertEqual(read(path), value)

    def test_too_long(self):
        m = self.mount()
        write(m / "k", b"v")
        for text in ('"' + "m" * 1023 + '"', '"' + "é" * 511 + 'm"'):
            self.assertErrno(errno.ERANGE, os.setxattr, m / "k", "user.kv.metadata", text.encode())
        self.uploaded(m)
        self.assertEqual(self.stored("k"), (b"v", None))

    def test_changes_alone(self):
        """The value goes with it; what is taken away is gone."""
        self.put("k", b"\xff\x00", metadata="[1]", ttl=3600)
        m = self.mount()
        os.setxattr(m / "k", "user.kv.metadata", b"[2]")
        self.uploaded(m)
        self.assertEqual(self.stored("k"), (b"\xff\x00", [2]))
        self.assertIn("expiration", self.listed()["k"])
        os.removexattr(m / "k", "user.kv.metadata")
        os.removexattr(m / "k", "user.kv.expiration")
        self.uploaded(m)
        self.assertEqual((self.stored("k"), self.listed()["k"]), ((b"\xff\x00", None), {}))


class Expiry(CounterpartTest):
    """In a time that the test moves, the same for the KV and the mount."""

    def test_a_session_of_a_minute(self):
        with node.Miniflare() as real:
            clock = Clock(self.tmp, 1_900_000_000)
            real.clock(set=clock.now)

            def advance(seconds):
                clock.advance(seconds)
                real.clock(advance=seconds)
            m = self.mounted(f"cloudflare:{real.account}#main", real.endpoint, real.token, "separator=:", "max_age=1",
                             clock=clock)
            real.ask("POST", "/session?token=t&ttl=60", '{"user":1}')
            advance(2)
            self.shows(m / "session/t", b'{"user":1}')
            self.assertEqual(os.getxattr(m / "session/t", "user.kv.expiration"), b"1900000060")
            self.assertEqual(os.getxattr(m / "session/t", "user.kv.ttl"), b"58")
            write(m / "session/mine", b'{"user":2}')
            os.setxattr(m / "session/mine", "user.kv.ttl", b"70")
            self.assertErrno(errno.EINVAL, os.setxattr, m / "session/mine", "user.kv.ttl", b"59")
            advance(2)
            eventually(lambda: (advance(1), real.ask("GET", "/session/mine")[2] == b'{"user":2}')[1], SOON)
            advance(1_900_000_059 - clock.now)
            self.assertEqual(read(m / "session/t"), b'{"user":1}')
            advance(1)
            self.shows(m / "session/t", None)
            self.assertEqual(os.listdir(m / "session"), ["mine"])
            self.assertEqual(real.ask("GET", "/session/t")[0], 404)
            advance(12)
            self.shows(m / "session/mine", None)
            self.assertEqual(real.ask("GET", "/session/mine")[0], 404)
            self.assertEqual(self.tree(m), {})
