"""A file that is open is one version of its value, to its end, whatever others write meanwhile."""

import errno
import mmap
import os
import threading

from harness import KVFS, eventually, exists, read, run, sanitized, write
from remote import RemoteTest

PAGE = 4096


class Versions(RemoteTest):
    virtual = True

    def replace(self, key, value):
        """Others write it, and it is old enough to be asked for again."""
        self.ns.put(key, value)
        self.clock.advance(61)

    def open(self, path, flags=os.O_RDONLY):
        fd = os.open(path, flags)
        self.addCleanup(os.close, fd)
        return fd

    def check(self, fd, value):
        self.assertEqual(os.fstat(fd).st_size, len(value))
        self.assertEqual(os.pread(fd, len(value) + 10, 0), value)

    def test_each_open_has_its_own(self):
        values = [b"one", b"another", b"2", b"x" * 3 * PAGE, b"y" * PAGE, b""]
        self.ns.put(b"a", values[0])
        m = self.mount()
        opened = []
        for i, value in enumerate(values):
            if i:
                self.replace(b"a", value)
            opened.append((self.open(m / "a"), value))
            for fd, version in opened:
                self.check(fd, version)
        eventually(lambda: os.stat(m / "a").st_size == 0)
        self.assertEqual(os.listdir(m.root), ["a"])

    def test_to_its_end(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        with open(m / "a", "rb", buffering=0) as f:
            self.assertEqual(f.read(1), b"o")
            self.replace(b"a", b"another")
            self.assertEqual(read(m / "a"), b"another")
            self.assertEqual(f.read(), b"ne")

    def test_noticed_without_an_open(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = self.open(m / "a")
        self.replace(b"a", b"another")
        eventually(lambda: os.stat(m / "a").st_size == 7)
        self.check(fd, b"one")
        self.assertEqual(read(m / "a"), b"another")

    def test_mapped(self):
        old, new = os.urandom(40 * PAGE), os.urandom(30 * PAGE + 5)
        self.ns.put(b"a", old)
        m = self.mount()
        fd = self.open(m / "a")
        maps = [mmap.mmap(fd, len(old), flags, mmap.PROT_READ) for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)]
        self.assertEqual(maps[0][:10], old[:10])
        self.replace(b"a", new)
        other = self.open(m / "a")
        with mmap.mmap(other, len(new), mmap.MAP_SHARED, mmap.PROT_READ) as now:
            self.assertTrue(now[:] == new)
            for mapped in maps:
                self.assertTrue(mapped[:] == old)
                mapped.close()
            self.assertTrue(now[:] == new)

    def test_large(self):
        """Old content is not kept in memory."""
        old, new = os.urandom(20 << 20), os.urandom(20 << 20)
        self.ns.put(b"a", old)
        m = self.mount()
        fds = [(self.open(m / "a"), old)]
        for value in (new, old, new):
            self.replace(b"a", value)
            fds.append((self.open(m / "a"), value))
        with open(f"/proc/{m.pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
        for fd, value in fds:
            self.assertTrue(os.pread(fd, len(value), 0) == value)
        self.assertLess(rss, (1 << 20) if sanitized() else (60 << 10))

    def test_opened_again_by_its_descriptor(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = self.open(m / "a")
        self.replace(b"a", b"another")
        self.assertEqual(read(m / "a"), b"another")
        self.assertEqual(read(f"/proc/self/fd/{fd}"), b"one")
        self.assertErrno(errno.ESTALE, os.open, f"/proc/self/fd/{fd}", os.O_RDWR)

    def test_written_while_an_old_one_is_open(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = self.open(m / "a")
        self.replace(b"a", b"another")
        with open(m / "a", "ab") as f:
            f.write(b" and more")
        self.check(fd, b"one")
        self.assertEqual(read(m / "a"), b"another and more")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a": b"another and more"})
        os.unlink(m / "a")
        self.check(fd, b"one")
        self.uploaded(m)
        self.assertEqual(self.content(), {})

    def test_open_for_writing(self):
        """One file for everybody, with the content that it had when it was opened."""
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd, reader = self.open(m / "a", os.O_RDWR), self.open(m / "a")
        self.replace(b"a", b"another")
        later = self.open(m / "a")
        for each in (fd, reader, later):
            self.check(each, b"one")
        os.pwrite(fd, b"O", 0)
        self.assertEqual(read(m / "a"), b"One")
        os.close(os.dup(fd))
        os.fsync(fd)
        self.check(later, b"One")
        self.assertEqual(m.pending(), 1)

    def test_after_the_writer_has_closed(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = os.open(m / "a", os.O_RDWR)
        reader = self.open(m / "a")
        self.replace(b"a", b"another")
        self.assertEqual(read(m / "a"), b"one")
        os.close(fd)
        eventually(lambda: read(m / "a") == b"another")
        self.check(reader, b"one")

    def test_own_content_is_kept_too(self):
        m = self.mount()
        write(m / "a", b"mine")
        fd = self.open(m / "a")
        self.uploaded(m)
        self.clock.advance(200)
        self.replace(b"a", b"theirs")
        self.assertEqual(read(m / "a"), b"theirs")
        self.check(fd, b"mine")

    def test_removed_and_made_again(self):
        self.ns.put(b"d/a", b"one")
        m = self.mount()
        fd = self.open(m / "d/a")
        self.ns.delete(b"d/a")
        self.clock.advance(61)
        eventually(lambda: not exists(m / "d/a"))
        self.replace(b"d/a", b"another")
        eventually(lambda: read(m / "d/a") == b"another")
        self.check(fd, b"one")

    def test_attributes_alone(self):
        """They belong to the key: who has it open sees them."""
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = self.open(m / "a")
        self.ns.put(b"a", b"one", metadata={"k": 1})
        self.clock.advance(61)
        os.listdir(m.root)
        eventually(lambda: os.listxattr(fd) == ["user.kv.metadata"])
        self.check(fd, b"one")

    def test_refresh(self):
        self.ns.put(b"a", b"one")
        m = self.mount()
        fd = self.open(m / "a")
        self.assertEqual(os.stat(m / "a").st_size, 3)
        self.ns.put(b"a", b"another")
        self.ns.put(b"b", b"new")
        run(KVFS, "refresh", m.root)
        self.assertEqual(read(m / "a"), b"another")
        self.assertEqual(sorted(os.listdir(m.root)), ["a", "b"])
        self.assertEqual(os.stat(m / "a").st_size, 7)
        self.check(fd, b"one")

    def test_many_readers(self):
        """While others replace it all the time, nobody sees a mixture, or something older than before."""
        size = 3 * PAGE + 7
        self.ns.put(b"a", b"%04d" % 0 * size)
        m = self.mount("max_age=1")
        problems, ended = [], threading.Event()

        def reader():
            last = 0
            while not ended.is_set():
                try:
                    value = read(m / "a")
                except OSError as e:
                    problems.append(e)
                    return
                number = int(value[:4])
                if value != b"%04d" % number * (size - number % 5 * PAGE // 2) or number < last:
                    problems.append((number, last, len(value)))
                last = number
        threads = [threading.Thread(target=reader) for _ in range(3)]
        for t in threads:
            t.start()
        try:
            for i in range(1, 60):
                self.ns.put(b"a", b"%04d" % i * (size - i % 5 * PAGE // 2))
                self.clock.advance(1.1)
                read(m / "a")
        finally:
            ended.set()
            for t in threads:
                t.join()
        self.assertEqual(problems, [])
