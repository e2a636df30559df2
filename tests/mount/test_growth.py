"""A day's work in minutes: what a daemon holds - memory, descriptors, threads, the store's pages, LMDB's
readers - is the same after each round of it, and what the kernel has forgotten is given back.

In a full run on a build without sanitizers (they keep memory of their own). For longer, by itself, also
as `scripts/test --soak` does: test_growth.py --seconds N --seed N --kvfs FILE --lmdbtool FILE
"""

import os
import random
import re
import shutil
import sys
import time
import unittest

if __name__ == "__main__":
    os.environ["KVFS_TEST_FULL"] = "1"
import harness  # noqa: E402
from harness import Test, eventually, full_only, read, root_only, run, sanitized, write

ROUND = 30_000  # operations, as programs count them: calls
ROUNDS = 6
WARM = 3  # rounds after which nothing grows any more


class Held:
    """What a daemon holds at this moment."""

    def __init__(self, m, env):
        status = read(f"/proc/{m.pid}/status").decode()
        self.memory = int(re.search(r"RssAnon:\s+(\d+)", status)[1])  # KiB
        self.threads = int(re.search(r"Threads:\s+(\d+)", status)[1])
        self.descriptors = len(os.listdir(f"/proc/{m.pid}/fd"))
        self.file = os.stat(env + "/data.mdb").st_size
        self.readers = len(re.findall(r"(?m)^ *\d+ [0-9a-f]+ ", run("mdb_stat", "-r", env, check=False).stdout))
        info = run("mdb_stat", "-e", "-f", env).stdout
        self.pages = (int(re.search(r"Number of pages used: (\d+)", info)[1])
                      - int(re.search(r"Free pages: (\d+)", info)[1]))

    def __repr__(self):
        return str(vars(self))


class Work:
    """Operations of all kinds on a mount, which leave nothing behind."""

    def __init__(self, m, store, seed):
        self.m, self.store, self.random, self.done = m, store, random.Random(seed), 0

    def calls(self, *calls):
        for call, *args in calls:
            call(*args)
        self.done += len(calls)

    def put(self, path, size):
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.write(fd, self.random.randbytes(size))
        os.close(fd)
        self.done += 3

    def folder(self, top):
        os.mkdir(top)
        names = [os.path.join(top, f"k{i}") for i in range(60)]
        for name in names:
            self.put(name, self.random.choice((1, 100, 1000, 5000)))
        for name in names[:20]:
            self.calls((os.setxattr, name, "user.kv.ttl", b"1000"), (os.stat, name), (os.chmod, name, 0o600),
                       (os.setxattr, name, "user.kv.metadata", b'{"a":1}'), (read, name),
                       (os.truncate, name, 7), (os.listxattr, name), (os.utime, name, (5, 5)))
        for name in names[20:30]:
            self.put(name + "~", 50)
            self.calls((os.rename, name + "~", name), (os.symlink, "x", name + "l"), (os.unlink, name + "l"))
        for name in names[30:33]:
            fd = os.open(name, os.O_RDWR)
            os.unlink(name)
            os.pwrite(fd, b"gone", 3)
            os.close(fd)
            self.done += 4
        self.calls((os.listdir, top), (os.mkdir, top + "/d"), (write, top + "/d/f", b"x"),
                   (os.rename, top + "/d", top + "/e"), (os.rename, top, top + "-moved"))

    def round(self, count):
        end = self.done + count
        while self.done < end:
            top = os.path.join(self.m.root, f"dir{self.random.randrange(1000)}")
            self.folder(top)
            self.store.put({b"foreign": b"%d" % self.done})
            self.put(self.m / "large", 2 << 20)
            shutil.rmtree(top + "-moved")
            self.done += 70
        for name in os.listdir(self.m.root):
            os.unlink(self.m / name)
        self.m.sync()


class Growth(Test):
    LIMIT = 600
    SECONDS, SEED = 0, 1

    def assertSteady(self, before, now):
        # How many threads serve the kernel depends on what else the machine does; each keeps some.
        more = max(now.threads - before.threads, 0) * (4 << 10)
        self.assertLess(now.memory, before.memory + more + (16 << 10), f"{before} {now}")
        self.assertLessEqual(now.descriptors, before.descriptors + 4, f"{before} {now}")
        self.assertLessEqual(now.threads, max(before.threads, 40), f"{before} {now}")
        self.assertLessEqual(now.readers, max(before.readers, 48), f"{before} {now}")
        self.assertLess(now.pages, before.pages + 100, f"{before} {now}")
        self.assertLess(now.file, before.file * 1.5 + (8 << 20), f"{before} {now}")

    @full_only
    def test_work(self):
        if sanitized():
            self.skipTest("sanitizers keep memory of their own")
        m = self.mount()
        work = Work(m, self.store, self.SEED)
        end, rounds, warm = time.monotonic() + self.SECONDS, 0, None
        while rounds < ROUNDS or time.monotonic() < end:
            work.round(ROUND)
            rounds += 1
            now = Held(m, self.env)
            if os.environ.get("KVFS_TEST_TELL"):
                print(f"{work.done}: {now}", file=sys.stderr, flush=True)
            if rounds == WARM:
                warm = now
            if rounds > WARM:
                self.assertSteady(warm, now)
        print(f"{work.done} operations: {warm} {now}", file=sys.stderr)

    @full_only
    @root_only
    def test_what_the_kernel_forgets(self):
        """After a walk over very many files, and memory pressure, nothing of it is left."""
        if sanitized():
            self.skipTest("sanitizers keep memory of their own")
        count = 1_000_000 if self.SECONDS else 100_000
        self.store.tool("put", "main", lines=((b"d%03d/k%07d" % (i % 1000, i), b"v") for i in range(count)))
        m = self.mount()
        before = Held(m, self.env)
        run("find", m.root, "-size", "+100", timeout=400)
        m.sync()
        full = Held(m, self.env)
        self.assertLess(full.memory, (64 << 10) + count * 200 // 1024, f"{before} {full}")

        def forgotten():
            write("/proc/sys/vm/drop_caches", "2\n")
            now = Held(m, self.env)
            # The threads that have come to serve it keep their buffers.
            buffers = (now.threads - before.threads) * (3 << 9)
            return now.memory < before.memory + buffers + (16 << 10)
        eventually(forgotten, 60, "memory given back")
        print(f"{count} files: {before} {full} {Held(m, self.env)}", file=sys.stderr)


def main():
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    harness.KVFS = options["--kvfs"]
    harness.LMDBTOOL = options["--lmdbtool"]
    Growth.SECONDS, Growth.SEED = int(options["--seconds"]), int(options["--seed"])
    Growth.LIMIT = Growth.SECONDS + 900
    unittest.main(argv=[sys.argv[0]])


if __name__ == "__main__":
    main()
