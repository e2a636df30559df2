"""Trees in and out: rsync, cp and tar, with everything that a key has."""

import os

from harness import Clock, Test, eventually, exists, read, run, write

RSYNC = ("rsync", "-aX")


class Trees(Test):
    LIMIT = 600

    def assertSame(self, source, target):
        """rsync by checksum and attributes finds nothing to do, and diff agrees."""
        out = run(*RSYNC, "-nc", "--delete", "--itemize-changes", f"{source}/", f"{target}/",
                  timeout=300).stdout
        self.assertEqual(out, "")
        run("diff", "-r", "--no-dereference", source, target, timeout=300)

    def copy(self, source, target):
        run(*RSYNC, f"{source}/", f"{target}/", timeout=300)

    def assertNothingToCopy(self, source, target):
        out = run(*RSYNC, "--itemize-changes", "--stats", f"{source}/", f"{target}/",
                  timeout=300).stdout
        self.assertIn("Number of regular files transferred: 0\n", out)
        self.assertNotRegex(out, r"(?m)^[<>ch.*][fdLDS][^ ]* ")

    def in_and_out(self, source):
        m = self.mount()
        self.assertGreater(sum(len(f) for _, _, f in os.walk(source)), 2000, "too small to test")
        self.copy(source, m / "tree")
        self.assertNothingToCopy(source, m / "tree")
        m.remount()
        self.assertSame(source, m / "tree")
        self.assertNothingToCopy(source, m / "tree")
        out = self.folder("out")
        self.copy(m / "tree", out)
        self.assertSame(source, out)

    def test_usr_include(self):
        self.in_and_out("/usr/include")

    def test_usr_share_doc(self):
        self.in_and_out("/usr/share/doc")


class Attributes(Test):
    LIMIT = 240
    NOW = 1_800_000_000

    def setUp(self):
        super().setUp()
        self.clock = Clock(self.tmp, self.NOW)
        self.m = self.mount("separator=:", clock=self.clock)
        os.makedirs(self.m / "src/user/42")
        write(self.m / "src/session", b"{}")
        os.setxattr(self.m / "src/session", "user.kv.ttl", b"1000")
        os.setxattr(self.m / "src/session", "user.kv.metadata", b'{"v": 1}')
        write(self.m / "src/user/42/profile", b"p" * 5000)
        os.setxattr(self.m / "src/user/42/profile", "user.note", b"\0binary\xff")
        write(self.m / "src/user/42/%value", b"42")
        os.symlink("session", self.m / "src/link")
        os.chmod(self.m / "src/user", 0o711)
        os.utime(self.m / "src/user", ns=(10**18, 10**18 + 123))

    def assertCopied(self, top):
        """`top` is what setUp() made, attributes included."""
        self.assertEqual(read(f"{top}/session"), b"{}")
        self.assertEqual(os.getxattr(f"{top}/session", "user.kv.expiration"), b"1800001000")
        self.assertEqual(os.getxattr(f"{top}/session", "user.kv.metadata"), b'{"v": 1}')
        self.assertEqual(read(f"{top}/user/42/%value"), b"42")
        self.assertEqual(os.getxattr(f"{top}/user/42/profile", "user.note"), b"\0binary\xff")
        self.assertEqual(os.readlink(f"{top}/link"), "session")
        self.assertMode(f"{top}/user", 0o711)
        self.assertEqual(os.stat(f"{top}/user").st_mtime_ns, 10**18 + 123)
        self.assertEqual(sorted(os.listxattr(f"{top}/session")),
                         ["user.kv.expiration", "user.kv.metadata"])

    def out_and_back(self, copy):
        out = os.path.join(self.tmp, "out")
        copy(self.m / "src", out)
        self.assertCopied(out)
        copy(out, self.m / "back")
        self.assertCopied(self.m / "back")
        self.m.remount()
        self.assertCopied(self.m / "back")
        self.clock.advance(1001)
        eventually(lambda: not exists(self.m / "back/session"))
        self.assertEqual(read(self.m / "back/user/42/%value"), b"42")

    def test_rsync(self):
        self.out_and_back(lambda a, b: run(*RSYNC, f"{a}/", f"{b}/"))

    def test_cp(self):
        self.out_and_back(lambda a, b: run("cp", "-a", a, b))

    def test_tar(self):
        def copy(a, b):
            file = os.path.join(self.tmp, "archive.tar")
            tar = ("tar", "--xattrs", "--xattrs-include=user.*")
            run(*tar, "--format=posix", "-C", a, "-cf", file, ".")
            os.makedirs(b)
            run(*tar, "-C", b, "-xpf", file)
        self.out_and_back(copy)

    def passed(self, restore):
        """Restoring a key whose expiration has passed succeeds and leaves no key."""
        old = self.folder("old")
        for name, when in (("gone", self.NOW - 5), ("stays", self.NOW + 5000)):
            write(f"{old}/{name}", name)
            os.setxattr(f"{old}/{name}", "user.kv.expiration", b"%d" % when)
        restore(old, self.m / "back")
        self.clock.advance(5)  # a tool may have had a moment to finish
        eventually(lambda: os.listdir(self.m / "back") == ["stays"], seconds=10)
        eventually(lambda: not exists(self.m / "back/gone"))
        self.assertEqual(read(self.m / "back/stays"), b"stays")
        self.m.sync()
        eventually(lambda: b"back:gone" not in self.store.dump(), seconds=10)
        self.assertEqual(self.store.dump()[b"back:stays"], b"stays")

    def test_rsync_of_passed_keys(self):
        self.passed(lambda a, b: run(*RSYNC, f"{a}/", f"{b}/"))

    def test_rsync_inplace_of_passed_keys(self):
        self.passed(lambda a, b: run(*RSYNC, "--inplace", f"{a}/", f"{b}/"))

    def test_cp_of_passed_keys(self):
        self.passed(lambda a, b: run("cp", "-a", a, b))

    def test_tar_of_passed_keys(self):
        def restore(a, b):
            os.mkdir(b)
            run("sh", "-ec", 'tar --xattrs --xattrs-include="user.*" -C "$1" -c . | '
                'tar --xattrs --xattrs-include="user.*" -C "$2" -xp', "sh", a, b)
        self.passed(restore)
