"""Bytes, names, expiry and metadata between a mount and a Workers KV namespace."""

import errno
import os

from harness import eventually, read, run, write
from remote import RemoteTest

MIB = 1 << 20
BOM = b"\xef\xbb\xbf"


class Bytes(RemoteTest):
    LIMIT = 200
    VALUES = {b"empty": b"", b"text": "grün\n".encode(), b"nul": b"a\0b", b"all": bytes(range(256)) * 300,
              b"cr": b"a\r\nb\r", b"bad": b"\xff\xfe\xed\xa0\x80", b"replaced": "\ufffd".encode(),
              b"json": b'{"value": null}', b"null": b"null", b"bom": BOM + b"text", b"quote": b'"\\\x01\x7f\xc2\x80'}

    def test_written(self):
        m = self.mount()
        for key, value in self.VALUES.items():
            write(m / key, value)
        self.uploaded(m)
        self.assertEqual(self.content(), self.VALUES)

    def test_read(self):
        self.fill(self.VALUES)
        m = self.mount()
        for _ in range(2):
            self.assertEqual({k: read(m / k) for k in self.VALUES}, self.VALUES)
            self.assertEqual({k: os.stat(m / k).st_size for k in self.VALUES},
                             {k: len(v) for k, v in self.VALUES.items()})

    def test_large(self):
        value = os.urandom(25 * MIB - 3) + b"end"
        m = self.mount()
        write(m / "large", value)
        self.uploaded(m, 60)
        self.assertTrue(self.ns.get(b"large").value == value)
        n = self.mount(cache="other")
        self.assertTrue(read(n / "large") == value)

    def test_append_to_what_was_never_read(self):
        values = {b"text": b"0123456789", b"one": b"1", b"none": b"", b"page": b"p" * 4096, b"more": b"m" * 4097,
                  b"binary": bytes([255, 0]) * 5000}
        self.fill(values)
        m = self.mount()
        for key in values:
            fd = os.open(m / key, os.O_WRONLY | os.O_APPEND)
            os.write(fd, b"end")
            os.close(fd)
            self.assertEqual(read(m / key), values[key] + b"end")
        self.uploaded(m)
        self.assertEqual(self.content(), {k: v + b"end" for k, v in values.items()})

    def test_endless_answer(self):
        """A server whose bulk gets do not end costs whoever reads one of them, not one for each key."""
        values = self.many(12)
        m = self.mount()
        self.assertEqual(len(os.listdir(m.root)), 12)
        self.faults.add("endless", on="bulk.get", framing="close")
        with self.asked(bulk_get=1, get=1):
            self.assertEqual(read(m / b"k00003"), values[b"k00003"])
        self.faults.clear()
        self.assertEqual({k: read(m / k) for k in values}, values)

    def test_too_large(self):
        m = self.mount()
        with open(m / "f", "wb", buffering=0) as f:
            os.pwrite(f.fileno(), b"x", 25 * MIB - 1)
            self.assertErrno(errno.EFBIG, os.pwrite, f.fileno(), b"xy", 25 * MIB)
            self.assertErrno(errno.EFBIG, os.ftruncate, f.fileno(), 25 * MIB + 1)
            os.ftruncate(f.fileno(), 5)
        self.uploaded(m)
        self.assertEqual(self.content(), {b"f": bytes(5)})


class Marks(RemoteTest):
    """A byte order mark, which a bulk get may lose."""
    virtual = True

    def check(self, m, keys):
        for _ in range(4):
            self.clock.advance(130)
            os.listdir(m.root)
            for key in keys:
                self.assertEqual(os.stat(m / key).st_size, len(self.ns.get(key).value), key)
                self.assertEqual(read(m / key), self.ns.get(key).value, key)

    def test_of_own_values(self):
        self.faults.add("bom_stripped")
        m = self.mount()
        self.fill({b"a%d" % i: b"text" for i in range(5)})
        write(m / "f", BOM + b"text")
        write(m / "g", BOM)
        self.uploaded(m)
        self.check(m, [b"f", b"g", b"a1"])
        self.ns.put(b"f", BOM + b"other")
        self.check(m, [b"f", b"g", b"a1"])
        self.ns.put(b"f", b"none")
        self.check(m, [b"f", b"g", b"a1"])


class Attributes(RemoteTest):
    virtual = True
    EXPIRATION = 4_000_000_000

    def attributes(self, path):
        return {n: os.getxattr(path, n) for n in os.listxattr(path)}

    def test_shown(self):
        self.ns.put(b"a", b"1", metadata={"k": "ü"}, expiration=self.EXPIRATION)
        self.ns.put(b"b", b"\xff", metadata=[1], expiration=self.EXPIRATION)
        self.ns.put(b"c", b"3")
        m = self.mount()
        for _ in range(2):
            self.assertEqual(self.attributes(m / "a"), {"user.kv.metadata": '{"k":"ü"}'.encode(),
                                                        "user.kv.expiration": b"4000000000"})
            self.assertEqual(self.attributes(m / "b"), {"user.kv.metadata": b"[1]", "user.kv.expiration": b"4000000000"})
            self.assertEqual(self.attributes(m / "c"), {})
            for name in "abc":
                read(m / name)

    def test_kept_on_rewrite(self):
        for key in (b"a", b"b", b"c", b"d/e"):
            self.ns.put(key, b"old", metadata={"k": 1}, expiration=self.EXPIRATION)
        m = self.mount()
        write(m / "a", b"new")
        write(m / "b", b"more", mode="ab")
        write(m / "t", b"renamed")
        os.rename(m / "t", m / "c")
        os.rename(m / "d", m / "x")
        self.uploaded(m)
        self.assertEqual({k: (e.value, e.metadata, e.expiration) for k, e in self.ns.entries().items()},
                         {k: (v, '{"k":1}', self.EXPIRATION) for k, v in
                          {b"a": b"new", b"b": b"oldmore", b"c": b"renamed", b"x/e": b"old"}.items()})

    def test_kept_when_renamed_over_another(self):
        """What others gave a key is its own, and goes along; what it has not is inherited."""
        self.ns.put(b"a", b"1", metadata={"k": "a"}, expiration=self.EXPIRATION)
        self.ns.put(b"b", b"2", metadata={"k": "b"}, expiration=self.EXPIRATION + 1)
        self.ns.put(b"c", b"3")
        self.ns.put(b"d", b"4", metadata={"k": "d"})
        self.ns.put(b"e", b"5", expiration=self.EXPIRATION)
        m = self.mount()
        os.listdir(m.root)
        os.rename(m / "a", m / "b")
        os.rename(m / "c", m / "d")
        os.rename(m / "b", m / "e")
        self.uploaded(m)
        self.assertEqual({k: tuple(e) for k, e in self.ns.entries().items()},
                         {b"e": (b"1", self.EXPIRATION, '{"k":"a"}'), b"d": (b"3", None, '{"k":"d"}')})
        self.ns.put(b"e", b"1")
        self.clock.advance(130)
        self.assertEqual(self.attributes(m / "e"), {})
        os.rename(m / "e", m / "d")
        self.uploaded(m)
        self.assertEqual(tuple(self.ns.get(b"d")), (b"1", None, '{"k":"d"}'))

    def test_attribute_alone(self):
        """The value goes with it, also where it was never here."""
        values = {b"a": b"text", b"b": b"\xff\x00" * 1000, b"c": b""}
        self.fill(values)
        m = self.mount()
        os.listdir(m.root)
        for key in values:
            os.setxattr(m / key, "user.kv.metadata", b'{"k":1}')
        self.assertEqual({k: read(m / k) for k in values}, values)
        self.uploaded(m)
        self.assertEqual(self.content(), values)
        self.assertEqual({e.metadata for e in self.ns.entries().values()}, {'{"k":1}'})
        os.setxattr(m / "a", "user.kv.expiration", b"4000000000")
        os.removexattr(m / "b", "user.kv.metadata")
        self.uploaded(m)
        self.assertEqual(self.content(), values)
        self.assertEqual(self.ns.get(b"a")[1:], (self.EXPIRATION, '{"k":1}'))
        self.assertEqual(self.ns.get(b"b")[1:], (None, None))

    def test_attribute_of_an_evicted_value(self):
        """A fresh mount knows names and attributes only; what is set waits for nobody."""
        self.fill({b"k%d" % i: b"v%d" % i for i in range(10)})
        m = self.mount()
        os.listdir(m.root)
        for i in range(10):
            os.setxattr(m / f"k{i}", "user.kv.ttl", b"3600")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"k%d" % i: b"v%d" % i for i in range(10)})
        for entry in self.ns.entries().values():
            self.assertAlmostEqual(entry.expiration, self.server.clock.now() + 3600, delta=30)

    def test_foreign_removal_before_an_attribute_is_sent(self):
        """Own changes win, also where they changed an attribute only: the value comes back with it."""
        self.fill({b"a": b"text"})
        m = self.mount()
        read(m / "a")
        os.setxattr(m / "a", "user.kv.metadata", b"1")
        self.ns.delete(b"a")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"text"})

    def test_refused(self):
        self.fill({b"a": b"1"})
        m = self.mount()
        a = m / "a"
        self.assertErrno(errno.EINVAL, os.setxattr, a, "user.kv.ttl", b"59")
        self.assertErrno(errno.EINVAL, os.setxattr, a, "user.kv.ttl", b"x")
        self.assertErrno(errno.ERANGE, os.setxattr, a, "user.kv.metadata", b'"' + b"x" * 1023 + b'"')
        os.setxattr(a, "user.kv.metadata", b'"' + b"x" * 1022 + b'"')
        self.assertErrno(errno.EINVAL, os.setxattr, a, "user.kv.metadata", b"{")
        log = read(m.log).decode()
        self.assertRegex(log, "a: user.kv.ttl refused: .* less than 60 s ahead\n")
        self.assertRegex(log, "a: user.kv.metadata refused: metadata has more than 1024 bytes\n")
        self.assertRegex(log, "a: user.kv.metadata refused: metadata must be JSON\n")
        self.assertErrno(errno.ENOTSUP, os.setxattr, a, "user.other", b"1")
        self.assertErrno(errno.EPERM, os.symlink, "a", m / "s")
        self.assertErrno(errno.EPERM, os.mkfifo, m / "p")
        self.assertErrno(errno.EPERM, os.link, a, m / "l")
        self.assertErrno(errno.EILSEQ, write, m / b"\xff", b"")
        self.assertErrno(errno.EILSEQ, os.rename, a, m / b"x\xff")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"1"})
        self.assertEqual(len(self.ns.get(b"a").metadata), 1024)

    def test_expired_before_it_was_sent(self):
        """A key whose time is over when its turn comes is not brought back."""
        m = self.mount("upload_delay=60")
        write(m / "a", b"1")
        os.setxattr(m / "a", "user.kv.expiration", b"%d" % (self.server.clock.now() + 500))
        write(m / "b", b"2")
        os.setxattr(m / "b", "user.kv.expiration", b"1000")
        with self.time_passes():
            eventually(lambda: not os.path.lexists(m / "b"), what="its end")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"1"})

    def test_restored_after_its_expiration(self):
        source = self.folder("in")
        write(source + "/a", b"1")
        os.setxattr(source + "/a", "user.kv.expiration", b"1000")
        m = self.mount()
        run("rsync", "-aX", source + "/", m.root)
        self.uploaded(m)
        self.assertEqual(self.content(), {})


class Names(RemoteTest):
    KEYS = [b"a b", "grün/ß".encode(), b"a%2Fb", b"?q=1&x#y", b"https://x.org/a?b=c", b"a::b", b"user:", b":", b"%",
            b"100%25", b"+", b".hidden", b"..x", b"a/./b", b"a/../b", b"%empty", b"x" * 512, b"\x01\x7f", b"\\", b'"', b"'"]

    def check(self, *options):
        self.fill({k: b"v" + k for k in self.KEYS})
        m = self.mount(*options)
        found = {}
        for folder, _, files in os.walk(os.fsencode(m.root)):
            for name in files:
                path = os.path.join(folder, name)
                found[os.getxattr(path, "user.kv.key")] = read(path)
                write(path, b"new" + found[os.getxattr(path, "user.kv.key")])
        self.assertEqual(found, {k: b"v" + k for k in self.KEYS})
        self.uploaded(m)
        self.assertEqual(self.content(), {k: b"newv" + k for k in self.KEYS})
        for folder, _, files in os.walk(os.fsencode(m.root)):
            for name in files:
                os.unlink(os.path.join(folder, name))
        self.uploaded(m)
        self.assertEqual(self.content(), {})

    def test_slash(self):
        self.check()

    def test_colon(self):
        self.check("separator=:")

    def test_value_beside_folder(self):
        self.fill({b"a": b"1", b"a/b": b"2"})
        m = self.mount()
        self.assertEqual(read(m / "a/%value"), b"1")
        write(m / "a/%value", b"new")
        os.unlink(m / "a/b")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"new"})
