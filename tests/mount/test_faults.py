"""A daemon that is short of something, or whose time jumps: what it answers, and that it goes on.

Faults of every single call are made in tests/crash, without a mount."""

import errno
import os
import resource

from harness import Clock, Test, eventually, exists, read, write


class Shortage(Test):
    def test_too_many_open_files(self):
        """A large value waits in a file of its own, for which there is no descriptor."""
        m = self.mount()
        write(m / "small", b"before")
        hard = resource.prlimit(m.pid, resource.RLIMIT_NOFILE)[1]
        used = {int(fd) for fd in os.listdir(f"/proc/{m.pid}/fd")}
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(m.pid, resource.RLIMIT_NOFILE, (free, hard))
        f = open(m / "large", "wb", buffering=0)
        try:
            with self.assertRaises(OSError) as caught:
                for _ in range(40):
                    f.write(bytes(128 << 10))
            self.assertEqual(caught.exception.errno, errno.EMFILE)
        finally:
            f.close()
        for i in range(20):
            write(m / f"small{i}", b"%d" % i)
        os.rename(m / "small", m / "renamed")
        m.sync()
        resource.prlimit(m.pid, resource.RLIMIT_NOFILE, (hard, hard))
        write(m / "large", b"x" * (5 << 20))
        m.remount()
        self.assertEqual(read(m / "large"), b"x" * (5 << 20))
        self.assertEqual(read(m / "renamed"), b"before")
        for i in range(20):
            self.assertEqual(read(m / f"small{i}"), b"%d" % i)


class TimeJumps(Test):
    def test_back_and_forth(self):
        clock = Clock(self.tmp)
        m = self.mount(clock=clock)
        write(m / "stays", b"stays")
        write(m / "goes", b"goes")
        os.setxattr(m / "goes", "user.kv.expiration", b"%d" % (clock.now + 100))
        for jump in (-1_000_000, 999_999, 50, -40, -30_000_000, 30_000_000):
            clock.advance(jump)
            write(m / f"at{clock.now}", b"written")
            fd = os.open(m / "stays", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
            eventually(lambda: m.status()["pending"] == 0)
            self.assertEqual(read(m / "goes"), b"goes")
        clock.advance(100)
        eventually(lambda: not exists(m / "goes"))
        clock.advance(-1000)
        write(m / "goes", b"anew")
        eventually(lambda: m.status()["pending"] == 0)
        self.assertEqual(self.store.dump()[b"goes"], b"anew")
        self.assertNotIn("user.kv.expiration", os.listxattr(m / "goes"))
        m.remount()
        self.assertEqual(read(m / "stays"), b"stays")
        self.assertEqual(read(m / "goes"), b"anew")
