"""Directories, names, attributes and permissions as POSIX has them."""

import errno
import os
import stat
import subprocess
import sys
import time
import unittest

from harness import PLAIN, Test, eventually, exists, ordinary_only, read, root_only, run, write
from syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, Dir, renameat2

NOBODY = 65534


class Tree(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_mkdir_rmdir(self):
        m = self.m
        os.mkdir(m / "d", 0o750)
        self.assertMode(m / "d", 0o750)
        self.assertErrno(errno.EEXIST, os.mkdir, m / "d")
        self.assertErrno(errno.ENOENT, os.mkdir, m / "absent/d")
        self.assertErrno(errno.ENOENT, os.rmdir, m / "absent")
        write(m / "d/f")
        self.assertErrno(errno.ENOTEMPTY, os.rmdir, m / "d")
        self.assertErrno(errno.EISDIR, os.unlink, m / "d")
        self.assertErrno(errno.ENOTDIR, os.rmdir, m / "d/f")
        self.assertErrno(errno.ENOTDIR, os.mkdir, m / "d/f/x")
        self.assertErrno(errno.ENOTDIR, os.open, m / "d/f/x", os.O_CREAT | os.O_RDWR)
        self.assertErrno(errno.EEXIST, os.mkdir, m / "d/f")
        self.assertErrno(errno.EISDIR, os.open, m / "d", os.O_WRONLY)
        self.assertErrno(errno.EISDIR, os.open, m / "d", os.O_CREAT | os.O_RDWR)
        self.assertErrno(errno.EINVAL, os.rmdir, m / "d/.")
        os.unlink(m / "d/f")
        os.rmdir(m / "d")
        self.assertFalse(exists(m / "d"))

    def test_name_too_long(self):
        long = "n" * 256
        for call in (os.lstat, os.mkdir, os.unlink):
            self.assertErrno(errno.ENAMETOOLONG, call, self.m / long)
        self.assertErrno(errno.ENAMETOOLONG, os.open, self.m / long, os.O_CREAT | os.O_RDWR)

    def test_directories_persist(self):
        os.makedirs(self.m / "a/b/c", 0o755)
        os.chmod(self.m / "a/b", 0o700)
        os.utime(self.m / "a/b", ns=(10**18 + 1, 10**18 + 2))
        self.m.remount()
        self.assertTrue(os.path.isdir(self.m / "a/b/c"))
        self.assertMode(self.m / "a/b", 0o700)
        self.assertEqual(os.stat(self.m / "a/b").st_mtime_ns, 10**18 + 2)

    def test_a_directory_survives_its_last_file(self):
        os.mkdir(self.m / "d")
        write(self.m / "d/f")
        self.m.remount()
        os.unlink(self.m / "d/f")
        self.assertEqual(os.listdir(self.m / "d"), [])
        self.m.remount()
        self.assertEqual(os.listdir(self.m / "d"), [])

    def test_link_count_of_directories(self):
        os.mkdir(self.m / "d")
        self.assertEqual(os.stat(self.m / "d").st_nlink, 2)
        for name in ("x", "y", "z"):
            os.mkdir(self.m / f"d/{name}")
            write(self.m / f"d/{name}.txt")
        self.assertEqual(os.stat(self.m / "d").st_nlink, 5)
        os.rmdir(self.m / "d/x")
        os.rename(self.m / "d/y", self.m / "y")
        self.assertEqual(os.stat(self.m / "d").st_nlink, 3)
        write(self.m / "f")
        self.assertEqual(os.stat(self.m / "f").st_nlink, 1)

    def test_inode_numbers_are_stable(self):
        os.mkdir(self.m / "d")
        write(self.m / "d/f")
        before = [os.stat(self.m / p).st_ino for p in ("d", "d/f")]
        self.assertEqual(len(set(before)), 2)
        os.rename(self.m / "d", self.m / "e")
        self.assertEqual([os.stat(self.m / p).st_ino for p in ("e", "e/f")], before)
        self.m.remount()
        self.assertEqual([os.stat(self.m / p).st_ino for p in ("e", "e/f")], before)
        with Dir(self.m / "e") as d:
            listed = {}
            while (entry := d.next()) is not None:
                listed[entry[0]] = entry[1]
        self.assertEqual(listed["f"], before[1])

    def test_statfs(self):
        st = os.statvfs(self.m.root)
        self.assertEqual(st.f_namemax, 255)
        self.assertGreater(st.f_blocks, 0)
        self.assertGreater(st.f_bavail, 0)
        self.assertGreaterEqual(st.f_blocks, st.f_bavail)
        self.assertGreaterEqual(st.f_frsize, 512)


class Rename(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_files(self):
        m = self.m
        write(m / "a", b"a")
        os.rename(m / "a", m / "b")
        self.assertFalse(exists(m / "a"))
        write(m / "c", b"c")
        os.rename(m / "c", m / "b")
        self.assertEqual(read(m / "b"), b"c")
        os.rename(m / "b", m / "b")
        self.assertEqual(read(m / "b"), b"c")
        self.assertErrno(errno.ENOENT, os.rename, m / "absent", m / "x")
        self.assertErrno(errno.ENOENT, os.rename, m / "b", m / "absent/x")
        if not PLAIN:
            self.assertErrno(errno.EXDEV, os.rename, m / "b", self.tmp + "/b")

    def test_directories(self):
        m = self.m
        os.makedirs(m / "d/sub")
        for i in range(50):
            write(m / f"d/sub/{i}", str(i))
        os.mkdir(m / "empty")
        os.mkdir(m / "full")
        write(m / "full/f")
        write(m / "file")
        self.assertErrno(errno.EINVAL, os.rename, m / "d", m / "d/sub/inside")
        self.assertErrno((errno.ENOTEMPTY, errno.EEXIST), os.rename, m / "d", m / "full")
        self.assertErrno(errno.ENOTDIR, os.rename, m / "d", m / "file")
        self.assertErrno(errno.EISDIR, os.rename, m / "file", m / "empty")
        os.rename(m / "d", m / "empty")
        os.rename(m / "empty/sub", m / "full/moved")
        m.remount()
        self.assertEqual(sorted(os.listdir(m.root)), ["empty", "file", "full"])
        self.assertEqual({n: read(m / f"full/moved/{n}") for n in os.listdir(m / "full/moved")},
                         {str(i): str(i).encode() for i in range(50)})

    def test_an_open_file_moves_with_its_directory(self):
        os.mkdir(self.m / "d")
        with open(self.m / "d/f", "w+b", buffering=0) as f:
            f.write(b"before ")
            os.rename(self.m / "d", self.m / "e")
            f.write(b"after")
            self.assertEqual(read(self.m / "e/f"), b"before after")
        self.m.remount()
        self.assertEqual(read(self.m / "e/f"), b"before after")

    def test_noreplace(self):
        write(self.m / "a", b"a")
        write(self.m / "b", b"b")
        self.assertErrno(errno.EEXIST, renameat2, self.m / "a", self.m / "b", RENAME_NOREPLACE)
        self.assertEqual(read(self.m / "b"), b"b")
        renameat2(self.m / "a", self.m / "c", RENAME_NOREPLACE)
        self.assertEqual(read(self.m / "c"), b"a")

    def test_exchange(self):
        m = self.m
        write(m / "a", b"a")
        write(m / "b", b"b")
        renameat2(m / "a", m / "b", RENAME_EXCHANGE)
        self.assertEqual((read(m / "a"), read(m / "b")), (b"b", b"a"))
        for d in ("x", "y"):
            os.mkdir(m / d)
            write(m / f"{d}/in-{d}", d)
        renameat2(m / "x", m / "y", RENAME_EXCHANGE)
        self.assertEqual(os.listdir(m / "x"), ["in-y"])
        renameat2(m / "a", m / "x", RENAME_EXCHANGE)
        m.remount()
        self.assertEqual(read(m / "x"), b"b")
        self.assertEqual(os.listdir(m / "a"), ["in-y"])
        self.assertEqual(os.listdir(m / "y"), ["in-x"])
        self.assertErrno(errno.ENOENT, renameat2, m / "a", m / "absent", RENAME_EXCHANGE)


class Times(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "f"

    def times(self, path=None):
        st = os.lstat(path or self.f)
        return st.st_mtime_ns, st.st_ctime_ns

    def changes(self, call, path=None):
        """Which of mtime and ctime `call` moves forward, as "m", "c", "mc" or ""."""
        before = self.times(path)
        tick = time.time_ns()
        eventually(lambda: time.time_ns() > tick + 20_000_000)
        call()
        after = self.times(path)
        return "".join(n for n, b, a in zip("mc", before, after) if a > b)

    def test_utime_to_the_nanosecond(self):
        write(self.f)
        for ns in (0, 1, 1_234_567_890_123_456_789, 4_102_444_800_000_000_001):
            os.utime(self.f, ns=(ns + 7, ns))
            st = os.stat(self.f)
            self.assertEqual((st.st_atime_ns, st.st_mtime_ns), (ns + 7, ns))
        self.m.remount()
        st = os.stat(self.f)
        self.assertEqual((st.st_atime_ns, st.st_mtime_ns), (ns + 7, ns))
        os.symlink("t", self.m / "l")
        os.utime(self.m / "l", ns=(5, 6), follow_symlinks=False)
        self.assertEqual(os.lstat(self.m / "l").st_mtime_ns, 6)

    def test_what_changes_a_file(self):
        write(self.f, b"abc")
        self.assertEqual(self.changes(lambda: write(self.f, b"def")), "mc")
        self.assertEqual(self.changes(lambda: os.chmod(self.f, 0o600)), "c")
        self.assertEqual(self.changes(lambda: os.truncate(self.f, 1)), "mc")
        self.assertEqual(self.changes(lambda: os.setxattr(self.f, "user.a", b"1")), "c")
        self.assertEqual(self.changes(lambda: read(self.f)), "")
        self.assertEqual(self.changes(lambda: os.stat(self.f)), "")
        self.assertEqual(self.changes(lambda: os.chown(self.f, os.getuid(), os.getgid())), "c")
        g = self.m / "g"
        self.assertIn(self.changes(lambda: os.rename(self.f, g) or os.rename(g, self.f)), ("c", ""))

    def test_what_changes_a_directory(self):
        d = self.m / "d"
        os.mkdir(d)
        for call in (lambda: write(f"{d}/f"), lambda: os.rename(f"{d}/f", f"{d}/g"),
                     lambda: os.unlink(f"{d}/g"), lambda: os.mkdir(f"{d}/s"),
                     lambda: os.rmdir(f"{d}/s"), lambda: os.symlink("x", f"{d}/l")):
            self.assertEqual(self.changes(call, d), "mc")
        self.assertEqual(self.changes(lambda: os.listdir(d), d), "")

    def test_mtime_of_a_mapping_and_of_close(self):
        write(self.f, b"abc")
        before = self.times()
        os.close(os.open(self.f, os.O_RDWR))
        self.assertEqual(self.times(), before)


class Permissions(Test):
    def test_chmod_persists(self):
        m = self.mount()
        write(m / "f")
        for mode in (0o4711, 0o644, 0o000, 0o777):
            os.chmod(m / "f", mode)
            self.assertMode(m / "f", mode)
        os.chmod(m / "f", 0o640)
        m.remount()
        self.assertMode(m / "f", 0o640)

    @ordinary_only
    def test_modes_are_enforced(self):
        m = self.mount()
        write(m / "f", b"secret")
        os.chmod(m / "f", 0)
        self.assertErrno(errno.EACCES, open, m / "f")
        os.mkdir(m / "d")
        write(m / "d/f")
        os.chmod(m / "d", 0o500)
        self.assertErrno(errno.EACCES, os.unlink, m / "d/f")
        self.assertErrno(errno.EACCES, os.rename, m / "d/f", m / "g")
        self.assertErrno(errno.EACCES, os.mkdir, m / "d/s")
        os.chmod(m / "d", 0o600)
        self.assertErrno(errno.EACCES, os.stat, m / "d/f")
        self.assertErrno(errno.EPERM, os.chown, m / "f", 0, 0)

    def as_nobody(self, code, *argv):
        return run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--",
                   sys.executable, "-c", "import os,sys\n" + code, *argv, check=False)

    @root_only
    def test_other_users(self):
        m = self.mount("allow_other")
        os.chmod(m.root, 0o1777)
        write(m / "mine", b"x")
        os.chmod(m / "mine", 0o600)
        done = self.as_nobody("open(sys.argv[1])", m / "mine")
        self.assertIn("PermissionError", done.stderr)
        done = self.as_nobody("os.unlink(sys.argv[1])", m / "mine")
        self.assertIn("Operation not permitted", done.stderr)
        done = self.as_nobody("open(sys.argv[1], 'w').write('theirs')", m / "theirs")
        self.assertEqual(done.returncode, 0, done.stderr)
        st = os.stat(m / "theirs")
        self.assertEqual((st.st_uid, st.st_gid), (NOBODY, NOBODY))
        m.remount()
        self.assertEqual(os.stat(m / "theirs").st_uid, NOBODY)

    @root_only
    @unittest.skipIf(PLAIN, "about kvfs")
    def test_private_without_allow_other(self):
        m = self.mount()
        write(m / "f")
        os.chmod(m.root, 0o777)
        self.assertIn("PermissionError", self.as_nobody("os.stat(sys.argv[1])", m / "f").stderr)

    @root_only
    def test_set_id_bits(self):
        m = self.mount("allow_other")
        os.chmod(m.root, 0o777)
        write(m / "f", b"abc")
        os.chmod(m / "f", 0o6777)
        self.as_nobody("open(sys.argv[1], 'r+').write('x')", m / "f")
        self.assertEqual(read(m / "f"), b"xbc")
        self.assertMode(m / "f", 0o777)
        os.chmod(m / "f", 0o6755)
        os.chown(m / "f", NOBODY, NOBODY)
        self.assertMode(m / "f", 0o755)

    @root_only
    def test_group_of_a_setgid_directory(self):
        m = self.mount()
        os.mkdir(m / "d")
        os.chown(m / "d", 0, NOBODY)
        os.chmod(m / "d", 0o2775)
        write(m / "d/f")
        os.mkdir(m / "d/s")
        os.symlink("f", m / "d/l")
        self.assertEqual([os.lstat(m / p).st_gid for p in ("d/f", "d/s", "d/l")], [NOBODY] * 3)
        self.assertTrue(os.stat(m / "d/s").st_mode & stat.S_ISGID)
        self.assertFalse(os.stat(m / "d/f").st_mode & stat.S_ISGID)


class Listing(Test):
    LIMIT = 240

    def fill(self, names, folder=b""):
        self.store.put({folder + n.encode(): b"v" for n in names})

    def plain_fill(self, m, names):
        for n in names:
            write(m / n)

    def test_seek(self):
        m = self.mount()
        self.plain_fill(m, [f"file-{i:03d}" for i in range(500)])
        with Dir(m.root) as d:
            first = [d.next()[0] for _ in range(50)]
            at = d.tell()
            rest = d.rest()
            d.seek(at)
            self.assertEqual(d.rest(), rest)
            self.assertEqual(len(set(first) | set(rest)), 502)
            self.assertEqual(len(first) + len(rest), 502)
            self.assertLessEqual({".", ".."}, set(first) | set(rest))
            d.rewind()
            self.assertEqual(len(d.rest()), 502)

    def test_removal_while_listing(self):
        m = self.mount()
        self.plain_fill(m, [f"file-{i:04d}" for i in range(1500)])
        with Dir(m.root) as d:
            removed = 0
            while (entry := d.next()) is not None:
                if entry[0] not in (".", ".."):
                    os.unlink(m / entry[0])
                    removed += 1
        self.assertEqual(removed, 1500)
        self.assertEqual(os.listdir(m.root), [])

    def test_hundred_thousand_while_others_come_and_go(self):
        names = {f"key-{i:06d}" for i in range(100_000)}
        if PLAIN:
            self.skipTest("about kvfs")
        self.fill(names)
        m = self.mount()
        churn = ("import os,sys\ni=0\nwhile True:\n"
                 " p=f'{sys.argv[1]}/key-{i*7919%100000:06d}-{i}'\n open(p,'w').close()\n"
                 " if i%3: os.unlink(p)\n i+=1\n"
                 " if i==50: print('going',flush=True)\n")
        child = subprocess.Popen([sys.executable, "-c", churn, m.root], stdout=subprocess.PIPE)
        try:
            self.assertEqual(child.stdout.readline(), b"going\n")
            with Dir(m.root) as d:
                listed = d.rest()
            self.assertIsNone(child.poll())
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        self.assertEqual(len(listed), len(set(listed)), "a name was listed twice")
        missing = sorted(names - set(listed))
        self.assertEqual((len(missing), missing[:5]), (0, []))

    def test_subdirectories_are_skipped_not_scanned(self):
        if PLAIN:
            self.skipTest("about kvfs")
        for prefix in ("a", "b", "c"):
            self.fill([f"{prefix}/{i:06d}" for i in range(50_000)])
        m = self.mount()
        before = m.status()["reads"]
        self.assertEqual(sorted(os.listdir(m.root)), ["a", "b", "c"])
        self.assertLess(m.status()["reads"] - before, 100)
        self.assertEqual(len(os.listdir(m / "b")), 50_000)

    def test_a_key_and_neighbours_of_a_directory(self):
        if PLAIN:
            self.skipTest("about kvfs")
        self.fill(["a", "a!", "a/x", "a/y/z", "a0", "ab"])
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.root)), ["a", "a!", "a0", "ab"])
        self.assertEqual(sorted(os.listdir(m / "a")), ["%value", "x", "y"])
