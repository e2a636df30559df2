"""Expiry: user.kv.ttl and user.kv.expiration, inheritance and defaults, and what "gone" means.

Time is the test's own (Clock): it stands still until a test moves it.
"""

import errno
import os

from harness import Clock, Test, eventually, exists, read, run, write

NOW = 1_800_000_000
TTL, EXPIRATION, METADATA = "user.kv.ttl", "user.kv.expiration", "user.kv.metadata"


class ExpiryTest(Test):
    OPTIONS = ()

    def setUp(self):
        super().setUp()
        self.clock = Clock(self.tmp, NOW)
        self.m = self.mount(*self.OPTIONS, clock=self.clock)
        self.f = self.m / "f"

    def make(self, name, data=b"v", ttl=None):
        write(self.m / name, data)
        if ttl is not None:
            os.setxattr(self.m / name, TTL, b"%d" % ttl)

    def expiration(self, name):
        """Seconds from the test's beginning to the end of this key, None for never."""
        try:
            return int(os.getxattr(self.m / name, EXPIRATION)) - NOW
        except OSError as e:
            self.assertEqual(e.errno, errno.ENODATA)
            self.assertErrno(errno.ENODATA, os.getxattr, self.m / name, TTL)
            return None


class Setting(ExpiryTest):
    def test_ttl_and_expiration_are_two_views_of_one_thing(self):
        self.make("f", ttl=100)
        self.assertEqual(os.getxattr(self.f, EXPIRATION), b"%d" % (NOW + 100))
        self.assertEqual(os.getxattr(self.f, TTL), b"100")
        self.clock.advance(30)
        eventually(lambda: os.getxattr(self.f, TTL) == b"70")
        os.setxattr(self.f, EXPIRATION, b"%d" % (NOW + 90))
        self.assertEqual(os.getxattr(self.f, TTL), b"60")
        self.m.remount()
        self.assertEqual(self.expiration("f"), 90)

    def test_never(self):
        for stop in (lambda: os.setxattr(self.f, TTL, b"0"),
                     lambda: os.setxattr(self.f, EXPIRATION, b"0"),
                     lambda: os.removexattr(self.f, TTL),
                     lambda: os.removexattr(self.f, EXPIRATION)):
            self.make("f", ttl=50)
            stop()
            self.assertIsNone(self.expiration("f"))
            self.assertEqual(os.listxattr(self.f), [])
        self.clock.advance(1000)
        self.assertEqual(read(self.f), b"v")
        self.m.remount()
        self.assertEqual(read(self.f), b"v")
        self.assertErrno(errno.ENODATA, os.removexattr, self.f, TTL)
        self.assertErrno(errno.ENODATA, os.removexattr, self.f, EXPIRATION)

    def test_listed_is_only_what_is_absolute(self):
        self.make("f", ttl=50)
        self.assertEqual(os.listxattr(self.f), [EXPIRATION])
        os.setxattr(self.f, METADATA, b"{}")
        self.assertEqual(sorted(os.listxattr(self.f)), [EXPIRATION, METADATA])
        out = run("getfattr", "-d", self.f).stdout
        for hidden in ("kv.ttl", "kv.key", "kv.state"):
            self.assertNotIn(hidden, out)

    def test_malformed(self):
        self.make("f", ttl=50)
        for name in (TTL, EXPIRATION):
            for bad in (b"", b"abc", b"-1", b"-5", b"1.5", b"5s", b" 5", b"5 ", b"0x10", b"1e3",
                        b"\xff", b"5\0", b"9" * 30):
                self.assertErrno((errno.EINVAL, errno.ERANGE) if len(bad) == 30 else errno.EINVAL,
                                 os.setxattr, self.f, name, bad)
        self.assertEqual(self.expiration("f"), 50)

    def test_flags_of_setxattr(self):
        write(self.f)
        self.assertErrno(errno.ENODATA, os.setxattr, self.f, TTL, b"5", os.XATTR_REPLACE)
        os.setxattr(self.f, TTL, b"500", os.XATTR_CREATE)
        self.assertErrno(errno.EEXIST, os.setxattr, self.f, EXPIRATION, b"5", os.XATTR_CREATE)
        os.setxattr(self.f, TTL, b"600", os.XATTR_REPLACE)
        self.assertEqual(self.expiration("f"), 600)


class Gone(ExpiryTest):
    def test_invisible_at_once_and_removed_from_the_store(self):
        for name in ("f", "g", "stays"):
            self.make(name, name.encode(), 1000 if name == "stays" else 60)
        self.assertEqual(os.stat(self.f).st_size, 1)
        self.assertEqual(len(os.listdir(self.m.root)), 3)
        self.m.sync()
        self.assertIn(b"f", self.store.dump())
        self.clock.advance(60)
        eventually(lambda: not exists(self.f))
        eventually(lambda: not exists(self.m / "g"))
        eventually(lambda: os.listdir(self.m.root) == ["stays"])
        self.assertErrno(errno.ENOENT, open, self.f)
        self.assertErrno(errno.ENOENT, os.getxattr, self.m / "g", EXPIRATION)
        self.assertErrno(errno.ENOENT, os.rename, self.m / "g", self.m / "h")
        self.assertErrno(errno.ENOENT, os.unlink, self.m / "g")
        eventually(lambda: self.store.dump() == {b"stays": b"stays"}, seconds=10)

    def test_while_not_mounted(self):
        self.make("f", ttl=60)
        self.make("g")
        self.m.umount()
        self.clock.advance(61)
        self.m.start()
        self.assertEqual(os.listdir(self.m.root), ["g"])
        self.assertFalse(exists(self.f))
        eventually(lambda: self.store.dump() == {b"g": b"v"}, seconds=10)

    def test_what_another_program_wrote_after_the_expiry_stays(self):
        self.make("f", ttl=60)
        os.setxattr(self.f, METADATA, b"1")
        self.m.umount()
        self.clock.advance(61)
        self.store.put({b"f": b"new"})
        self.m.start()
        self.assertEqual(read(self.f), b"new")
        eventually(lambda: self.expiration("f") is None, seconds=10)
        self.clock.advance(1000)
        self.make("g", ttl=5)  # when this one has been swept, so would "f" have been
        self.clock.advance(6)
        eventually(lambda: b"g" not in self.store.dump(), seconds=10)
        self.assertEqual(self.store.dump(), {b"f": b"new"})

    def test_removed_and_made_again_by_another_program(self):
        self.make("f", ttl=60)
        os.setxattr(self.f, METADATA, b"1")
        os.chmod(self.f, 0o600)
        self.m.sync()
        commits = self.m.status()["commits"]
        self.store.delete(b"f")
        eventually(lambda: not exists(self.f), seconds=10)
        # A commit takes away what was remembered of the key; it may have come already.
        eventually(lambda: self.m.status()["commits"] > commits, seconds=10)
        self.store.put({b"f": b"new"})
        eventually(lambda: exists(self.f), seconds=10)
        self.assertMode(self.f, 0o644)
        self.assertIsNone(self.expiration("f"))
        self.assertErrno(errno.ENODATA, os.getxattr, self.f, METADATA)

    def test_removed_and_made_again_while_nobody_looks(self):
        for n in range(200):  # more than are swept at a time
            self.make(f"gone{n}", ttl=60)
        self.make("f", ttl=60)
        self.make("g", ttl=61)
        self.m.remount()
        self.store.delete(b"f", *(b"gone%d" % n for n in range(200)))
        eventually(lambda: len(self.store.dump("kvfs:expiry")) == 1, seconds=10)
        self.store.put({b"f": b"new"})
        self.clock.advance(62)
        eventually(lambda: b"g" not in self.store.dump(), seconds=10)
        self.assertEqual(self.store.dump(), {b"f": b"new"})
        self.assertEqual(read(self.f), b"new")
        self.assertIsNone(self.expiration("f"))

    def test_rewritten_by_another_program_before_the_expiry(self):
        for name in ("seen", "unseen"):
            self.make(name, ttl=60)
        self.m.remount()
        def records():
            return {k: v for k, v in self.store.dump("kvfs:nodes").items() if k.endswith(b"seen")}

        before = records()
        self.assertEqual(len(before), 2)
        self.store.put({b"seen": b"new", b"unseen": b"new"})
        eventually(lambda: os.stat(self.m / "seen").st_size == 3)
        self.clock.advance(59)
        eventually(lambda: not before.items() & records().items(), seconds=10)
        self.clock.advance(2)
        eventually(lambda: self.store.dump() == {}, seconds=10)
        self.assertEqual(os.listdir(self.m.root), [])

    def test_of_a_namespace_that_is_gone(self):
        m = self.mount(source=f"lmdb:{self.store.folder}2", clock=self.clock, name="all")
        store = type(self.store)(self.store.folder + "2")
        for ns in "ab":
            os.mkdir(m / ns)
            write(m / f"{ns}/k", b"v")
            os.setxattr(m / f"{ns}/k", TTL, b"60")
        m.umount()
        store.drop("a")
        m.start()
        self.clock.advance(61)
        eventually(lambda: store.dump("b") == {}, seconds=10)
        eventually(lambda: store.dump("kvfs:expiry") == {}, seconds=10)

    def test_not_a_moment_early(self):
        self.make("f", ttl=60)
        self.clock.set(NOW + 59.5)
        self.make("later", ttl=1)
        self.assertEqual(read(self.f), b"v")
        self.assertEqual(len(os.listdir(self.m.root)), 2)

    def test_an_open_file_stays_readable(self):
        self.make("f", b"still here", 60)
        with open(self.f, "rb", buffering=0) as f:
            self.clock.advance(61)
            eventually(lambda: not exists(self.f))
            eventually(lambda: self.store.dump() == {}, seconds=10)
            self.assertEqual(os.pread(f.fileno(), 100, 0), b"still here")
            self.assertEqual(os.fstat(f.fileno()).st_size, 10)
        self.assertFalse(exists(self.f))

    def test_a_new_key_of_that_name_is_new(self):
        self.make("f", b"old", 60)
        os.setxattr(self.f, METADATA, b'"old"')
        os.setxattr(self.f, "user.other", b"old")
        self.clock.advance(61)
        eventually(lambda: not exists(self.f))
        fd = os.open(self.f, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.close(fd)
        self.assertEqual(read(self.f), b"")
        self.assertEqual(os.listxattr(self.f), [])
        self.clock.advance(10_000)
        self.m.remount()
        self.assertTrue(exists(self.f))

    def test_rewritten_just_in_time(self):
        self.make("f", ttl=60)
        self.clock.advance(59)
        os.setxattr(self.f, TTL, b"60")
        self.clock.advance(30)
        self.make("g", ttl=1)
        self.clock.advance(2)
        eventually(lambda: not exists(self.m / "g"))
        self.assertEqual(read(self.f), b"v")

    def test_directories(self):
        os.mkdir(self.m / "made")
        self.make("made/f", ttl=60)
        self.store.put({b"implied/deep/f": b"v"})
        eventually(lambda: exists(self.m / "implied/deep/f"))
        os.setxattr(self.m / "implied/deep/f", TTL, b"60")
        self.clock.advance(61)
        eventually(lambda: os.listdir(self.m.root) == ["made"])
        self.assertEqual(os.listdir(self.m / "made"), [])
        eventually(lambda: not exists(self.m / "implied"))
        os.rmdir(self.m / "made")

    def test_rmdir_of_a_directory_of_expired_keys(self):
        os.mkdir(self.m / "d")
        self.make("d/f", ttl=60)
        self.assertErrno(errno.ENOTEMPTY, os.rmdir, self.m / "d")
        self.clock.advance(61)
        eventually(lambda: os.rmdir(self.m / "d") is None)
        self.m.remount()
        self.assertEqual(os.listdir(self.m.root), [])

    def test_many(self):
        for i in range(1000):
            self.make(f"k{i}", ttl=60 if i % 2 else 600)
        self.clock.advance(61)
        eventually(lambda: len(os.listdir(self.m.root)) == 500)
        eventually(lambda: len(self.store.dump()) == 500, seconds=20)
        self.clock.advance(600)
        eventually(lambda: os.listdir(self.m.root) == [])
        eventually(lambda: self.store.dump() == {}, seconds=20)

    def test_rename_carries_expiry(self):
        os.mkdir(self.m / "d")
        self.make("d/f", ttl=60)
        os.rename(self.m / "d", self.m / "e")
        os.rename(self.m / "e/f", self.m / "e/g")
        self.assertEqual(self.expiration("e/g"), 60)
        self.clock.advance(61)
        eventually(lambda: os.listdir(self.m / "e") == [])

    def test_setting_what_has_passed(self):
        self.make("f")
        os.setxattr(self.f, EXPIRATION, b"%d" % (NOW - 1))
        self.clock.advance(5)
        eventually(lambda: not exists(self.f))
        eventually(lambda: self.store.dump() == {}, seconds=10)


    def test_restoring_what_has_passed_slowly(self):
        """A restore may take its time, as long as it is under way."""
        with open(self.m / "tmp", "wb", buffering=0) as f:
            os.setxattr(f.fileno(), EXPIRATION, b"%d" % (NOW - 1))
            for _ in range(5):
                f.write(b"part")
                self.clock.advance(5)
                os.listdir(self.m.root)
            self.assertEqual(os.fstat(f.fileno()).st_nlink, 1)
        for _ in range(4):
            self.clock.advance(0.5)
            os.utime(self.m / "tmp", (NOW, NOW))
        os.rename(self.m / "tmp", self.f)
        self.clock.advance(0.5)
        self.assertEqual(read(self.f), b"part" * 5)
        self.clock.advance(5)
        eventually(lambda: not exists(self.f))
        eventually(lambda: self.store.dump() == {}, seconds=10)


class Inheritance(ExpiryTest):
    def setUp(self):
        super().setUp()
        self.make("f", b"old", 100)
        os.setxattr(self.f, METADATA, b'{"a": 1}')

    def assertInherited(self, data):
        for _ in range(2):
            self.assertEqual(read(self.f), data)
            self.assertEqual(self.expiration("f"), 100)
            self.assertEqual(os.getxattr(self.f, METADATA), b'{"a": 1}')
            self.m.remount()

    def test_rewritten_in_place(self):
        write(self.f, b"new")
        write(self.f, b" and more", mode="ab")
        self.assertInherited(b"new and more")

    def test_truncated(self):
        os.truncate(self.f, 1)
        self.assertInherited(b"o")

    def test_replaced_by_rename(self):
        write(self.m / "new", b"new")
        os.rename(self.m / "new", self.f)
        self.assertInherited(b"new")

    def test_replaced_by_rename_while_open(self):
        with open(self.m / "new", "wb", buffering=0) as f:
            f.write(b"ne")
            os.rename(self.m / "new", self.f)
            f.write(b"w")
        self.assertInherited(b"new")

    def test_tools(self):
        run("sed", "-i", "s/old/new/", self.f)
        self.assertInherited(b"new")
        run("vim", "-Nu", "NONE", "-es", "-c", "set backupcopy=no", "-c", "%s/new/vim/", "-c", "wq",
            self.f, env={**os.environ, "HOME": self.tmp, "TERM": "dumb"})
        self.assertInherited(b"vim\n")
        source = os.path.join(self.tmp, "f")
        write(source, b"by rsync")
        run("rsync", "-a", source, self.f)
        self.assertInherited(b"by rsync")
        run("cp", source, self.f)
        self.assertInherited(b"by rsync")

    def test_own_attributes_win(self):
        self.make("new", b"new", 7000)
        os.setxattr(self.m / "new", METADATA, b'"mine"')
        os.rename(self.m / "new", self.f)
        self.assertEqual(self.expiration("f"), 7000)
        self.assertEqual(os.getxattr(self.f, METADATA), b'"mine"')

    def test_never_set_by_hand_wins_too(self):
        self.make("new", b"new", 0)
        os.rename(self.m / "new", self.f)
        self.assertIsNone(self.expiration("f"))

    def test_rename_to_a_free_name_inherits_nothing(self):
        os.rename(self.f, self.m / "g")
        self.make("f", b"new")
        self.assertIsNone(self.expiration("f"))
        self.assertEqual(self.expiration("g"), 100)

    def test_removed_and_made_again_inherits_nothing(self):
        os.unlink(self.f)
        self.make("f", b"new")
        self.assertIsNone(self.expiration("f"))
        self.assertEqual(os.listxattr(self.f), [])

    def test_an_expiration_that_has_passed_is_not_inherited(self):
        self.make("f")
        os.setxattr(self.f, EXPIRATION, b"1000")
        write(self.m / "new", b"new")
        os.rename(self.m / "new", self.f)
        self.clock.advance(5)
        self.make("g", ttl=5)
        self.clock.advance(6)
        eventually(lambda: b"g" not in self.store.dump(), seconds=10)
        self.assertEqual(read(self.f), b"new")
        self.assertIsNone(self.expiration("f"))

    def test_expired_target_gives_nothing(self):
        self.clock.advance(101)
        eventually(lambda: not exists(self.f))
        self.make("new", b"new")
        os.rename(self.m / "new", self.f)
        self.assertIsNone(self.expiration("f"))
        self.assertEqual(os.listxattr(self.f), [])


class NoInherit(ExpiryTest):
    OPTIONS = ("noinherit",)

    def test_rename_starts_afresh_rewriting_keeps(self):
        self.make("f", b"old", 100)
        os.setxattr(self.f, METADATA, b"[]")
        write(self.f, b"rewritten")
        self.assertEqual(self.expiration("f"), 100)
        self.make("new", b"new")
        os.rename(self.m / "new", self.f)
        self.assertIsNone(self.expiration("f"))
        self.assertEqual(os.listxattr(self.f), [])


class DirectoryDefault(ExpiryTest):
    def test_keys_created_below(self):
        self.make("f")
        os.mkdir(self.m / "d")
        self.make("d/before")
        os.setxattr(self.m / "d", TTL, b"500")
        self.assertEqual(os.getxattr(self.m / "d", TTL), b"500")
        self.assertEqual(os.listxattr(self.m / "d"), [])
        self.m.remount()
        os.mkdir(self.m / "d/sub")
        for name in ("d/f", "d/sub/f"):
            self.make(name)
            self.assertEqual(self.expiration(name), 500)
        self.assertIsNone(self.expiration("d/before"))
        self.make("g")
        self.assertIsNone(self.expiration("g"))
        self.clock.advance(501)
        eventually(lambda: os.listdir(self.m / "d/sub") == [])
        self.assertEqual(sorted(os.listdir(self.m / "d")), ["before", "sub"])

    def test_the_nearest_counts(self):
        os.makedirs(self.m / "a/b")
        os.setxattr(self.m / "a", TTL, b"500")
        os.setxattr(self.m / "a/b", TTL, b"70")
        self.make("a/b/f")
        self.assertEqual(self.expiration("a/b/f"), 70)
        os.removexattr(self.m / "a/b", TTL)
        self.make("a/b/g")
        self.assertEqual(self.expiration("a/b/g"), 500)
        self.assertErrno(errno.ENODATA, os.getxattr, self.m / "a/b", TTL)

    def test_an_existing_key_keeps_its_own_through_an_editor(self):
        os.mkdir(self.m / "d")
        self.make("d/f", b"old\n", 9000)
        os.setxattr(self.m / "d", TTL, b"500")
        run("sed", "-i", "s/old/new/", self.m / "d/f")
        self.assertEqual(read(self.m / "d/f"), b"new\n")
        self.assertEqual(self.expiration("d/f"), 9000)

    def test_malformed(self):
        os.mkdir(self.m / "d")
        for bad in (b"", b"x", b"-1"):
            self.assertErrno(errno.EINVAL, os.setxattr, self.m / "d", TTL, bad)


class VanishedDirectory(ExpiryTest):
    def test_what_was_set_stays(self):
        """A directory that exists by its keys only goes with them, and comes again as it was."""
        self.store.put({b"s/a": b"1", b"t/a": b"1"})
        eventually(lambda: exists(self.m / "s/a") and exists(self.m / "t/a"))
        os.chmod(self.m / "s", 0o700)
        os.setxattr(self.m / "s", TTL, b"3600")
        for name in "st":
            os.stat(self.m / name)
            os.setxattr(self.m / f"{name}/a", TTL, b"10")
        self.clock.advance(20)
        eventually(lambda: os.listdir(self.m.root) == [])
        eventually(lambda: not exists(self.m / "s"))
        self.m.sync()
        self.assertEqual([k[5:] for k in self.store.dump("kvfs:nodes") if k.endswith(b"/")],
                         [b"s/"])
        self.store.put({b"s/b": b"2"})
        eventually(lambda: exists(self.m / "s"))
        self.assertMode(self.m / "s", 0o700)
        self.assertEqual(os.getxattr(self.m / "s", TTL), b"3600")


class MountDefault(ExpiryTest):
    OPTIONS = ("ttl=300",)

    def test_keys_created_on_the_mount(self):
        self.make("f")
        os.mkdir(self.m / "forever")
        os.mkdir(self.m / "short")
        os.setxattr(self.m / "forever", TTL, b"0")
        os.setxattr(self.m / "short", TTL, b"20")
        for name in ("forever/f", "short/f", "g"):
            self.make(name)
        self.assertEqual(self.expiration("f"), 300)
        self.assertIsNone(self.expiration("forever/f"))
        self.assertEqual(self.expiration("short/f"), 20)
        self.clock.advance(100)
        write(self.m / "g", b"rewritten")
        self.assertEqual(self.expiration("g"), 300)
        os.setxattr(self.m / "g", TTL, b"0")
        write(self.m / "g", b"rewritten")
        self.assertIsNone(self.expiration("g"))
