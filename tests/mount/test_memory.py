"""A daemon that may have little more memory than it has: what does not fit is refused with ENOMEM, and the
rest goes on. Without sanitizers, whose own memory is no less."""

import errno
import os
import resource
import unittest

from harness import Test, eventually, read, sanitized, write

MEGABYTE = 1 << 20


def memory_of(pid, name):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ":")) << 10


class Limits(Test):
    LIMIT = 300

    def setUp(self):
        super().setUp()
        if sanitized():
            raise unittest.SkipTest("a sanitizer's memory is not to be limited")

    def limit(self, m, which, name, more):
        """From now on it may have so many bytes more than it has."""
        hard = resource.prlimit(m.pid, which)[1]
        resource.prlimit(m.pid, which, (memory_of(m.pid, name) + more, hard))

    def free(self, m, which):
        hard = resource.prlimit(m.pid, which)[1]
        resource.prlimit(m.pid, which, (hard, hard))

    def attempt(self, call, tally):
        try:
            call()
        except OSError as e:
            self.assertIn(e.errno, (errno.ENOMEM, errno.EAGAIN), e)
            tally[0] += 1
            return False
        return True

    def under(self, which, name, more):
        m = self.mount()
        model = {f"old{i}": b"%d" % i * 100 for i in range(50)}
        for key, value in model.items():
            write(m / key, value)
        self.store.put({b"many/%06d" % i: b"x" for i in range(100_000)})
        eventually(lambda: len(os.listdir(m / "many")) == 100_000, 20)
        m.remount()
        self.limit(m, which, name, more)
        refused = [0]
        for i in range(40):
            value = b"%d," % i * 300_000
            if self.attempt(lambda: write(m / f"large{i}", value), refused):
                model[f"large{i}"] = value
        files = []
        for i in range(60):  # all in memory at the same time
            try:
                f = open(m / f"open{i}", "wb", buffering=0)
            except OSError as e:
                self.assertIn(e.errno, (errno.ENOMEM, errno.EAGAIN))
                refused[0] += 1
                continue
            files.append(f)
            self.attempt(lambda: f.write(bytes(900_000)), refused)
        for _ in range(3):
            self.attempt(lambda: self.assertEqual(len(os.listdir(m / "many")), 100_000), refused)
        for f in files:
            self.attempt(f.close, refused)
        for i in range(60):
            self.attempt(lambda: os.unlink(m / f"open{i}") if os.path.lexists(m / f"open{i}") else None, refused)
        self.assertEqual(m.status()["pid"], m.pid)
        self.free(m, which)
        for i in range(60):
            if os.path.lexists(m / f"open{i}"):
                os.unlink(m / f"open{i}")
        m.sync()
        write(m / "after", b"after")
        model["after"] = b"after"
        for when in ("then", "after a remount"):
            found = {n: read(m / n) for n in os.listdir(m.root) if n in model}
            for key in model:
                self.assertEqual(found.get(key), model[key], f"{key}, {when}")
            self.assertEqual(len(os.listdir(m / "many")), 100_000)
            m.remount()
        return refused[0]

    def test_little_memory(self):
        self.assertGreater(self.under(resource.RLIMIT_DATA, "VmData", 2 * MEGABYTE), 0)

    def test_enough_memory_for_listings(self):
        self.under(resource.RLIMIT_DATA, "VmData", 64 * MEGABYTE)

    def test_little_address_space(self):
        """The map of the environment cannot grow either."""
        self.assertGreater(self.under(resource.RLIMIT_AS, "VmSize", 4 * MEGABYTE), 0)
