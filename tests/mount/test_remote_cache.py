"""What the cache of a mounted Workers KV namespace, and the kernel's, keep and give up."""

import errno
import mmap
import os
import time

from harness import KVFS, eventually, exists, read, run, write
from remote import RemoteTest

LONG = "max_age=600"


class Offline(RemoteTest):
    def setUp(self):
        super().setUp()
        self.values = {b"a": b"one", b"d/b": b"two", b"e/f/c": b"three"}
        self.fill({**self.values, b"never": b"\xff never read"})
        self.m = self.mount("timeout=2", "max_age=1")
        os.listdir(self.m.root)
        for key in self.values:
            read(self.m / key)

    def cut(self):
        """The server is no more, which is noticed when what is known has become old."""
        port = self.server.port
        self.server.stop()
        eventually(lambda: os.listdir(self.m.root) and "offline_since" in self.m.status(), 20)
        return port

    def check_cached(self, m):
        self.assertEqual(sorted(os.listdir(m.root)), ["a", "d", "e", "never"])
        self.assertEqual(os.listdir(m / "e"), ["f"])
        for key, value in self.values.items():
            self.assertEqual(read(m / key), value)
            self.assertEqual(os.stat(m / key).st_size, len(value))
        for name in ("none", "d/none", "e/f/none"):
            self.assertFalse(exists(m / name))

    def test_served_whatever_its_age(self):
        port = self.cut()
        self.check_cached(self.m)
        self.assertErrno(errno.ETIMEDOUT, read, self.m / "never")
        began = time.monotonic()
        self.check_cached(self.m)
        self.assertLess(time.monotonic() - began, 2)  # nobody waits for what is known
        write(self.m / "d/new", b"mine")
        write(self.m / "a", b"changed")
        os.unlink(self.m / "d/b")
        self.assertEqual(os.listdir(self.m / "d"), ["new"])
        self.assertEqual(read(self.m / "a"), b"changed")
        self.ns.put(b"e/f/c", b"by others")
        self.server.start(port)
        eventually(lambda: read(self.m / "never") == b"\xff never read", 20)
        eventually(lambda: "offline_since" not in self.m.status(), 20)
        eventually(lambda: read(self.m / "e/f/c") == b"by others", 20)
        self.uploaded(self.m)
        self.assertEqual(self.content(), {b"a": b"changed", b"d/new": b"mine", b"e/f/c": b"by others",
                                          b"never": b"\xff never read"})

    def test_mounted_then(self):
        self.m.umount()
        self.server.stop()
        self.m.start()
        self.check_cached(self.m)
        self.assertErrno(errno.ETIMEDOUT, read, self.m / "never")


class Kernel(RemoteTest):
    """In true time, in which the kernel keeps what it is told."""

    def look(self, m):
        names = sorted(os.listdir(m.root)), sorted(os.listdir(m / "d"))
        return names, read(m / "a"), os.stat(m / "a").st_size, os.listxattr(m / "a"), exists(m / "gone"), exists(m / "x/y")

    def change(self):
        self.ns.put(b"a", b"eno", metadata={"k": 1})
        self.ns.put(b"d/new", b"1")
        self.ns.delete(b"d/old")
        self.ns.delete(b"gone")
        self.ns.put(b"x/y", b"1")

    CHANGED = ((["a", "d", "x"], ["b", "new"]), b"eno", 3, ["user.kv.metadata"], False, True)

    def setUp(self):
        super().setUp()
        self.fill({b"a": b"one", b"d/b": b"two", b"d/old": b"1", b"gone": b"1"})

    def test_refresh(self):
        m = self.mount(LONG)
        first = self.look(m)
        self.assertEqual(first, ((["a", "d", "gone"], ["b", "old"]), b"one", 3, [], True, False))
        self.change()
        with self.asked():
            self.assertEqual(self.look(m), first)
        run(KVFS, "refresh", m.root)
        eventually(lambda: self.look(m) == self.CHANGED, what=str(self.look(m)))

    def test_refresh_one(self):
        m = self.mount(LONG)
        self.look(m)
        self.ns.put(b"a", b"eno")
        self.ns.put(b"d/b", b"owt")
        run(KVFS, "refresh", m.root, "a")
        self.assertEqual(read(m / "a"), b"eno")
        self.assertEqual(read(m / "d/b"), b"two")
        run(KVFS, "refresh", m.root, "d")
        self.assertEqual(read(m / "d/b"), b"owt")

    def test_by_age(self):
        m = self.mount("max_age=1")
        self.look(m)
        self.change()
        eventually(lambda: self.look(m) == self.CHANGED, 10)

    def test_mapped(self):
        """A mapping is an open file; another one shows what there is now."""
        m = self.mount("max_age=1")
        fd = os.open(m / "a", os.O_RDONLY)
        with mmap.mmap(fd, 3, mmap.MAP_SHARED, mmap.PROT_READ) as old:
            os.close(fd)
            self.assertEqual(old[:], b"one")
            self.change()

            def mapped():
                with open(m / "a", "rb") as f, mmap.mmap(f.fileno(), 3, prot=mmap.PROT_READ) as new:
                    return new[:]
            eventually(lambda: mapped() == b"eno", 10)
            self.assertEqual(old[:], b"one")


class Expiry(RemoteTest):
    virtual = True

    def test_of_what_was_never_read(self):
        at = int(self.clock.now) + 100
        self.ns.put(b"a", b"\xff", expiration=at)
        self.ns.put(b"d/b", b"\xff", expiration=at)
        self.ns.put(b"e/c", b"kept")
        m = self.mount("max_age=1000")
        self.assertEqual(sorted(os.listdir(m.root)), ["a", "d", "e"])
        with self.asked():
            self.clock.advance(101)
            eventually(lambda: os.listdir(m.root) == ["e"])
            self.assertFalse(exists(m / "a") or exists(m / "d/b"))
        self.ns.put(b"a", b"again")
        self.clock.advance(1000)
        eventually(lambda: read(m / "a") == b"again")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"again", b"e/c": b"kept"})


class Size(RemoteTest):
    LIMIT = 200
    SIZE, EACH, COUNT = 2 << 20, 100_000, 200

    def used(self):
        return sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(self.tmp + "/cache") for name in names if name == "data.mdb")

    def test_kept_within(self):
        """Ten times as much is read as the cache may have."""
        values = {b"k%03d" % i: b"%05d" % i * (self.EACH // 5) for i in range(self.COUNT)}
        self.fill(values)
        m = self.mount(f"cache_size={self.SIZE}", LONG, "upload_delay=600")
        write(m / "own", b"x" * self.EACH)
        for key, value in values.items():
            self.assertTrue(read(m / key) == value, key)
        self.assertLess(self.used(), 10 * self.SIZE)
        for key in list(values)[::7]:
            self.assertTrue(read(m / key) == values[key], key)
        with self.asked():
            self.assertEqual(read(m / "own"), b"x" * self.EACH)
            self.assertEqual(read(m / key), values[key])
        self.uploaded(m)

    def test_renamed_with_more_than_fits(self):
        values = {b"d/k%03d" % i: b"%05d" % i * (self.EACH // 5) for i in range(50)}
        self.fill(values)
        m = self.mount(f"cache_size={self.SIZE}", LONG)
        os.rename(m / "d", m / "e")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"e" + k[1:]: v for k, v in values.items()})
