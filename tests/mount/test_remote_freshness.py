"""What others change in a Workers KV namespace, and what a server that is behind may say."""

import errno
import os

from harness import eventually, exists, read, run, write
from remote import RemoteTest


class Behind(RemoteTest):
    """The server answers as of a minute ago."""
    virtual = True

    def test_own_changes_stay(self):
        self.fill({b"changed": b"old", b"removed": b"old", b"moved/a": b"old"})
        self.ns.settle()
        m = self.mount()
        for name in ("changed", "removed", "moved/a"):
            read(m / name)
        self.server.store.lag = self.server.store.list_lag = 60
        write(m / "changed", b"new")
        write(m / "made", b"new")
        os.unlink(m / "removed")
        os.rename(m / "moved", m / "there")
        for _ in range(60):
            self.assertEqual(sorted(os.listdir(m.root)), ["changed", "made", "there"])
            self.assertEqual((read(m / "changed"), read(m / "made"), read(m / "there/a")), (b"new", b"new", b"old"))
            self.assertFalse(exists(m / "removed") or exists(m / "moved/a"))
            self.clock.advance(4)
        self.assertEqual(self.content(), {b"changed": b"new", b"made": b"new", b"there/a": b"old"})

    def test_remount_within_the_lag(self):
        self.fill({b"f": b"old", b"g": b"old"})
        self.ns.settle()
        m = self.mount()
        read(m / "f"), read(m / "g")
        self.server.store.lag = self.server.store.list_lag = 60
        write(m / "f", b"new")
        os.unlink(m / "g")
        self.uploaded(m)
        m.kill()
        m.start()
        self.assertEqual(read(m / "f"), b"new")
        self.assertEqual(os.listdir(m.root), ["f"])


class Foreign(RemoteTest):
    virtual = True

    def setUp(self):
        super().setUp()
        self.fill({b"a": b"one", b"b": b"two", b"d/c": b"three"})
        self.m = self.mount()
        for name in ("a", "b", "d/c"):
            read(self.m / name)

    def test_changes_are_seen(self):
        self.ns.put(b"a", b"changed by others")
        self.ns.put(b"n", b"new")
        self.ns.delete(b"d/c")
        self.assertEqual(read(self.m / "a"), b"one")
        self.clock.advance(61)
        eventually(lambda: read(self.m / "a") == b"changed by others")
        self.assertEqual(os.stat(self.m / "a").st_size, 17)
        self.assertEqual(sorted(os.listdir(self.m.root)), ["a", "b", "n"])
        self.assertFalse(exists(self.m / "d/c"))
        self.assertEqual(read(self.m / "n"), b"new")

    def test_removed_while_open(self):
        with open(self.m / "a", "rb", buffering=0) as f:
            self.ns.delete(b"a")
            self.clock.advance(61)
            eventually(lambda: not exists(self.m / "a"))
            self.assertEqual(f.read(), b"one")

    def test_expiry(self):
        self.ns.put(b"a", b"one", expiration=int(self.clock.now) + 120)
        self.clock.advance(61)
        os.listdir(self.m.root)
        self.assertEqual(os.getxattr(self.m / "a", "user.kv.expiration"), b"%d" % (self.clock.now + 59))
        self.clock.advance(60)
        eventually(lambda: not exists(self.m / "a"))

    def test_times_stay(self):
        out = self.folder("out")
        run("rsync", "-a", self.m.root + "/", out)
        for _ in range(3):
            self.clock.advance(100)
            self.assertEqual(run("rsync", "-ai", self.m.root + "/", out).stdout, "")
        self.m.remount()
        self.assertEqual(run("rsync", "-ai", self.m.root + "/", out).stdout, "")
        self.ns.put(b"a", b"eno")
        self.clock.advance(100)
        self.assertIn(" a\n", run("rsync", "-ai", self.m.root + "/", out).stdout)
        self.assertEqual(read(out + "/a"), b"eno")


class Namespaces(RemoteTest):
    virtual = True

    def test_removed_long_after_it_was_listed(self):
        """Whether it is empty is asked again where what is known of it is old."""
        m = self.mount(title=None)
        self.assertEqual(os.listdir(m / "main"), [])
        self.clock.advance(100)
        self.fill({b"theirs": b"v"})
        with self.asked(list=1, namespaces_list=-1):
            self.assertErrno(errno.ENOTEMPTY, os.rmdir, m / "main")
        self.ns.delete(b"theirs")
        self.clock.advance(100)
        with self.asked(list=1, namespaces_list=-1, namespaces_delete=1):
            os.rmdir(m / "main")
        self.assertEqual(os.listdir(m.root), [])
