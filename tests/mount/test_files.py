"""The contents of files: every way of writing and reading them that POSIX and Linux know."""

import errno
import fcntl
import mmap
import os
import random
import stat
import sys
import unittest

from harness import PLAIN, Test, exists, read, run, write
from syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate


class Contents(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "f"

    def test_write_read_empty_and_binary(self):
        every = bytes(range(256)) * 300
        for data in (b"", b"x", b"\0", every):
            write(self.f, data)
            self.assertEqual(read(self.f), data)
            self.assertEqual(os.stat(self.f).st_size, len(data))
        self.m.remount()
        self.assertEqual(read(self.f), every)

    def test_random_writes_equal_a_plain_file(self):
        plain, rng = os.path.join(self.tmp, "plain"), random.Random(7)
        with open(self.f, "w+b", buffering=0) as a, open(plain, "w+b", buffering=0) as b:
            for _ in range(400):
                what, at = rng.randrange(6), rng.randrange(200_000)
                data = rng.randbytes(rng.randrange(1, 9000))
                for f in (a, b):
                    if what < 4:
                        os.pwrite(f.fileno(), data, at)
                    else:
                        os.ftruncate(f.fileno(), at)
                self.assertEqual(os.pread(a.fileno(), 5000, at // 2),
                                 os.pread(b.fileno(), 5000, at // 2))
        self.assertEqual(read(self.f), read(plain))
        self.m.remount()
        self.assertEqual(read(self.f), read(plain))

    def test_create_flags(self):
        fd = os.open(self.f, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(fd, b"one")
        os.close(fd)
        self.assertMode(self.f, 0o640)
        self.assertErrno(errno.EEXIST, os.open, self.f, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        self.assertErrno(errno.ENOENT, os.open, self.m / "absent", os.O_RDWR)
        os.close(os.open(self.f, os.O_WRONLY | os.O_CREAT))
        self.assertEqual(read(self.f), b"one")
        os.close(os.open(self.f, os.O_WRONLY | os.O_TRUNC))
        self.assertEqual(read(self.f), b"")

    def test_access_mode_of_a_descriptor(self):
        write(self.f, b"data")
        fd = os.open(self.f, os.O_RDONLY)
        self.assertErrno(errno.EBADF, os.write, fd, b"x")
        os.close(fd)
        fd = os.open(self.f, os.O_WRONLY)
        self.assertErrno(errno.EBADF, os.read, fd, 1)
        os.close(fd)

    def test_create_without_write_permission_still_writes(self):
        fd = os.open(self.f, os.O_CREAT | os.O_WRONLY, 0o444)
        os.write(fd, b"written once")
        os.close(fd)
        self.assertEqual(read(self.f), b"written once")
        self.assertMode(self.f, 0o444)

    def test_append(self):
        write(self.f, b"head")
        a = os.open(self.f, os.O_WRONLY | os.O_APPEND)
        b = os.open(self.f, os.O_WRONLY | os.O_APPEND)
        for fd, text in ((a, b"-a1"), (b, b"-b1"), (a, b"-a2")):
            os.write(fd, text)
        os.close(a)
        os.close(b)
        self.assertEqual(read(self.f), b"head-a1-b1-a2")

    def test_truncate(self):
        write(self.f, b"0123456789")
        os.truncate(self.f, 4)
        self.assertEqual(read(self.f), b"0123")
        os.truncate(self.f, 8)
        self.assertEqual(read(self.f), b"0123\0\0\0\0")
        os.truncate(self.f, 0)
        self.assertEqual(os.stat(self.f).st_size, 0)
        self.assertErrno(errno.EINVAL, os.truncate, self.f, -1)

    def test_sparse(self):
        with open(self.f, "wb") as f:
            f.seek(3_000_000)
            f.write(b"end")
        data = read(self.f)
        self.assertEqual(len(data), 3_000_003)
        self.assertEqual(data.strip(b"\0"), b"end")

    def test_large_value(self):
        block = os.urandom(1 << 20)
        with open(self.f, "wb") as f:
            for _ in range(40):
                f.write(block)
        self.m.remount()
        with open(self.f, "rb") as f:
            for i in range(40):
                self.assertEqual(f.read(1 << 20), block, f"megabyte {i}")
            self.assertEqual(f.read(1), b"")

    def test_unlink_while_open(self):
        with open(self.f, "w+b", buffering=0) as f:
            f.write(b"before")
            os.unlink(self.f)
            self.assertFalse(exists(self.f))
            f.write(b" after")
            self.assertEqual(os.pread(f.fileno(), 100, 0), b"before after")
            self.assertEqual(os.fstat(f.fileno()).st_nlink, 0)
            os.fchmod(f.fileno(), 0o600)
            os.fsync(f.fileno())
        self.assertEqual(os.listdir(self.m.root), [])
        self.m.remount()
        self.assertEqual(os.listdir(self.m.root), [])

    def test_unlink_while_open_and_create_again(self):
        write(self.f, b"old")
        with open(self.f, "r+b", buffering=0) as old:
            os.unlink(self.f)
            write(self.f, b"new one")
            old.write(b"OLD!")
            self.assertEqual(os.pread(old.fileno(), 100, 0), b"OLD!")
        self.assertEqual(read(self.f), b"new one")

    def test_rename_over_an_open_file(self):
        write(self.f, b"old")
        write(self.m / "g", b"new")
        with open(self.f, "r+b", buffering=0) as old:
            os.rename(self.m / "g", self.f)
            old.write(b"lost")
            self.assertEqual(os.pread(old.fileno(), 10, 0), b"lost")
        self.assertEqual(read(self.f), b"new")

    def test_a_replaced_file_is_whole_for_whoever_has_found_it(self):
        """What every open() by path goes through when a rename comes between its two halves."""
        write(self.f, b"old value")
        write(self.m / "g", b"new")
        found = os.open(self.f, os.O_PATH)
        self.addCleanup(os.close, found)
        os.rename(self.m / "g", self.f)
        self.assertEqual(os.fstat(found).st_size, 9)
        self.assertEqual(read(f"/proc/self/fd/{found}"), b"old value")
        self.assertEqual(read(self.f), b"new")

    def test_write_after_rename_of_an_open_file(self):
        with open(self.f, "wb", buffering=0) as f:
            f.write(b"one ")
            os.rename(self.f, self.m / "moved")
            f.write(b"two")
        self.assertEqual(read(self.m / "moved"), b"one two")
        self.assertFalse(exists(self.f))
        self.m.remount()
        self.assertEqual(read(self.m / "moved"), b"one two")

    def test_two_descriptors_see_one_file(self):
        with open(self.f, "w+b", buffering=0) as a, open(self.f, "r+b", buffering=0) as b:
            a.write(b"from a")
            self.assertEqual(b.read(), b"from a")
            os.pwrite(b.fileno(), b"FROM", 0)
            self.assertEqual(os.pread(a.fileno(), 10, 0), b"FROM a")
            self.assertEqual(os.stat(self.f).st_size, 6)

    def test_temporary_file_without_a_name(self):
        try:
            fd = os.open(self.m.root, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as e:
            self.assertEqual(e.errno, errno.EOPNOTSUPP)
            self.skipTest("libfuse has no operation for O_TMPFILE here")
        os.write(fd, b"nameless")
        self.assertEqual(os.pread(fd, 20, 0), b"nameless")
        os.close(fd)
        self.assertEqual(os.listdir(self.m.root), [])


class Ranges(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "f"

    def test_fallocate(self):
        with open(self.f, "w+b", buffering=0) as f:
            f.write(b"abc")
            fallocate(f.fileno(), 0, 0, 10)
            self.assertEqual(os.fstat(f.fileno()).st_size, 10)
            fallocate(f.fileno(), FALLOC_KEEP_SIZE, 0, 100)
            self.assertEqual(os.fstat(f.fileno()).st_size, 10)
            fallocate(f.fileno(), 0, 0, 2)
            self.assertEqual(os.pread(f.fileno(), 20, 0), b"abc" + bytes(7))
            self.assertErrno(errno.EINVAL, fallocate, f.fileno(), 0, 0, 0)
            if not PLAIN:
                self.assertErrno(errno.EOPNOTSUPP, fallocate, f.fileno(),
                                 FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 2)

    def test_lseek(self):
        write(self.f, b"0123456789")
        fd = os.open(self.f, os.O_RDONLY)
        self.assertEqual(os.lseek(fd, -3, os.SEEK_END), 7)
        self.assertEqual(os.read(fd, 10), b"789")
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 0)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_HOLE), 10)
        self.assertErrno(errno.ENXIO, os.lseek, fd, 10, os.SEEK_DATA)
        self.assertErrno(errno.ENXIO, os.lseek, fd, 11, os.SEEK_HOLE)
        self.assertErrno(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
        os.close(fd)

    def test_copy_file_range(self):
        data = os.urandom(300_000)
        write(self.f, data)
        with open(self.f, "rb") as a, open(self.m / "g", "w+b", buffering=0) as b:
            left = len(data)
            while left:
                n = os.copy_file_range(a.fileno(), b.fileno(), left)
                self.assertGreater(n, 0)
                left -= n
            self.assertEqual(os.copy_file_range(a.fileno(), b.fileno(), 10), 0)
            n = os.copy_file_range(a.fileno(), b.fileno(), 100, 50, 10)
            self.assertEqual(n, 100)
        self.assertEqual(read(self.m / "g"), data[:10] + data[50:150] + data[110:])

    def test_shared_mapping(self):
        write(self.f, bytes(20_000))
        with open(self.f, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[10_000:10_004] = b"here"
            self.assertEqual(read(self.f)[10_000:10_004], b"here")
            m.flush()
        with open(self.f, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[0:2] = b"go"
        self.m.remount()
        self.assertEqual(read(self.f)[:2] + read(self.f)[10_000:10_004], b"gohere")

    def test_two_processes_with_a_shared_mapping(self):
        write(self.f, bytes(1 << 16))
        child = ("import mmap,sys\n"
                 "f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0)\n"
                 "for i in range(int(sys.argv[2]),1<<16,2): m[i]=int(sys.argv[2])+1\n")
        for start in ("0", "1"):
            run(sys.executable, "-c", child, self.f, start)
        self.assertEqual(read(self.f), b"\1\2" * (1 << 15))
        self.m.remount()
        self.assertEqual(read(self.f), b"\1\2" * (1 << 15))

    def test_private_mapping(self):
        write(self.f, b"original")
        with open(self.f, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY) as m:
            m[:] = b"scribble"
        self.assertEqual(read(self.f), b"original")

    def test_mapping_sees_writes(self):
        write(self.f, b"before")
        with open(self.f, "r+b", buffering=0) as f:
            with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
                self.assertEqual(m[:], b"before")
                f.write(b"after!")
                self.assertEqual(m[:], b"after!")

    def test_record_locks(self):
        write(self.f, b"0123456789")
        child = ("import fcntl,sys\nf=open(sys.argv[1],'r+b')\n"
                 "fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,3,int(sys.argv[2]))\n")
        with open(self.f, "r+b") as f:
            fcntl.lockf(f, fcntl.LOCK_EX, 5, 0)
            done = run(sys.executable, "-c", child, self.f, "2", check=False)
            self.assertIn("BlockingIOError", done.stderr)
            run(sys.executable, "-c", child, self.f, "6")
            fcntl.lockf(f, fcntl.LOCK_UN, 5, 0)
            run(sys.executable, "-c", child, self.f, "2")

    def test_flock(self):
        write(self.f)
        with open(self.f) as a, open(self.f) as b:
            fcntl.flock(a, fcntl.LOCK_EX)
            self.assertErrno(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(a, fcntl.LOCK_SH)
            fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(a, fcntl.LOCK_UN)
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Special(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_symbolic_links(self):
        for target in ("plain", "../up/and/away", "/etc/hostname", "ü" * 200, "x" * 4000):
            link = self.m / "link"
            os.symlink(target, link)
            self.assertEqual(os.readlink(link), target)
            self.assertEqual(os.lstat(link).st_size, len(target.encode()))
            self.assertTrue(stat.S_ISLNK(os.lstat(link).st_mode))
            self.m.remount()
            self.assertEqual(os.readlink(link), target)
            os.unlink(link)

    def test_links_are_followed(self):
        write(self.m / "f", b"behind")
        os.symlink("f", self.m / "link")
        os.symlink("a", self.m / "b")
        os.symlink("b", self.m / "a")
        self.assertEqual(read(self.m / "link"), b"behind")
        self.assertErrno(errno.ELOOP, os.open, self.m / "a", os.O_RDONLY)
        self.assertErrno(errno.ELOOP, os.open, self.m / "link", os.O_RDONLY | os.O_NOFOLLOW)
        self.assertErrno(errno.EINVAL, os.readlink, self.m / "f")
        self.assertErrno(errno.EEXIST, os.symlink, "x", self.m / "link")

    def test_fifo(self):
        os.mkfifo(self.m / "pipe", 0o620)
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.m / "pipe").st_mode))
        child = "import sys; open(sys.argv[1],'wb').write(b'through')"
        reader = os.open(self.m / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        run(sys.executable, "-c", child, self.m / "pipe")
        self.assertEqual(os.read(reader, 20), b"through")
        os.close(reader)
        self.m.remount()
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.m / "pipe").st_mode))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_device(self):
        os.mknod(self.m / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        st = os.lstat(self.m / "null")
        self.assertTrue(stat.S_ISCHR(st.st_mode))
        self.assertEqual(st.st_rdev, os.makedev(1, 3))

    def test_mknod_of_a_plain_file(self):
        os.mknod(self.m / "f", stat.S_IFREG | 0o604)
        self.assertMode(self.m / "f", 0o604)
        self.assertEqual(read(self.m / "f"), b"")
        self.assertErrno(errno.EEXIST, os.mknod, self.m / "f", stat.S_IFREG | 0o600)

    @unittest.skipIf(PLAIN, "about kvfs")
    def test_hard_link_is_refused(self):
        write(self.m / "f")
        self.assertErrno(errno.EPERM, os.link, self.m / "f", self.m / "g")
