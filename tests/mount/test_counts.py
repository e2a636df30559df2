"""What an operation costs, counted: requests from the kernel, reads and writes, allocations, pages.

Counts do not depend on how busy the machine is, so they are asserted exactly: a number that has grown
is a loss of speed, however small; one that has become less is to be written down here. Each operation
is done COUNT times; what does not belong to it (the folder's own requests, threads that look at the
time) is less than half of COUNT in all and is rounded off. FORGET has no answer and comes when it
likes: it is not counted.

How many requests an operation has is the kernel's choice too. The numbers are those of Linux 6.18.
"""

import collections
import os
import re
import struct
import subprocess
import unittest

from harness import KVFS, ROOT, Mount, Test, eventually, live_mounts, read, run, sanitized, write

COUNT, SIZE, ROUNDS = 200, 1024, 8
TALLY = os.environ.get("KVFS_TEST_TALLY", "")
TALLIES = ("malloc", "calloc", "realloc", "free", "mutex", "contended", "rwlock", "cond", "written")
UNCOUNTED = ("FORGET", "BATCH_FORGET", "STATFS", "INTERRUPT", "IOCTL")
# A long while between commits, so that none falls into what is counted.
OPTIONS = ("commit_interval=60000",)


class Files:
    """A folder of COUNT files of SIZE bytes, and what is done with each."""

    def __init__(self, m, name="d"):
        self.folder = m / name
        os.makedirs(self.folder, exist_ok=True)
        self.paths = [f"{self.folder}/{i:05}" for i in range(COUNT)]

    def each(self, call):
        for path in self.paths:
            call(path)

    def create(self):
        self.each(lambda p: self.put(p, os.O_CREAT | os.O_EXCL))

    def rewrite(self):
        self.each(lambda p: self.put(p, os.O_TRUNC))

    def put(self, path, flags):
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        os.write(fd, b"x" * SIZE)
        os.close(fd)

    def stat(self):
        self.each(os.lstat)

    def read(self):
        def get(path):
            fd = os.open(path, os.O_RDONLY)
            assert len(os.read(fd, SIZE)) == SIZE
            os.close(fd)
        self.each(get)

    def rename(self):
        for path in self.paths:
            os.rename(path, path + "r")
        self.paths = [p + "r" for p in self.paths]

    def setxattr(self):
        self.each(lambda p: os.setxattr(p, "user.kv.ttl", b"36000"))

    def unlink(self):
        self.each(os.unlink)


class Talking(Mount):
    """In the foreground, where libfuse tells of every request in the log."""

    def start(self):
        os.makedirs(self.root, exist_ok=True)
        live_mounts.append(self)
        child = subprocess.Popen(self.command("-f"), env=self.environ(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid, self.child = child.pid, child
        eventually(lambda: run(KVFS, "status", self.root, check=False).returncode == 0, 20,
                   "the mount")
        return self

    def forget(self):
        super().forget()
        self.child.returncode = 0  # reap() has waited for it

    def requests(self, offset):
        found = collections.Counter(
            re.findall(r"opcode: (\w+) ", read(self.log)[offset:].decode(errors="replace")))
        for name in UNCOUNTED:
            found.pop(name, None)
        return found


class CountsTest(Test):
    def talking(self):
        folder = self.folder(f"talking{len(self.mounts)}")
        m = Talking(f"lmdb:{self.env}#main", folder + "/m", ("debug", *OPTIONS), folder)
        self.mounts.append(m)
        return m.start()

    def rounds(self, count, one, want):
        """Per operation, the least of all rounds: when the machine is busy libfuse starts threads and
        ends them, which counts too. one(i, measure) calls measure(call, name) for each operation of
        round i."""
        found = {}

        def settled():
            last = [-1]

            def same():
                now = count()
                rest, last[0] = now == last[0], now
                return rest
            eventually(same, 20, "rest")
            return last[0]

        def measure(call, name=None):
            before = settled()
            call()
            per = (settled() - before) / COUNT
            name = name or call.__name__
            found[name] = min(found.get(name, per), per)

        for i in range(ROUNDS):
            one(i, measure)
            self.assertEqual(found.keys(), want.keys())
            wrong = {k: n for k, n in found.items() if abs(n - want[k]) > 0.45}
            if not wrong:
                return
        self.fail(f"per operation: {wrong} instead of {({k: want[k] for k in wrong})}")


class Requests(CountsTest):
    """What the kernel asks for."""

    def expect(self, m, call, **want):
        """Per operation. RELEASE comes after close has returned."""
        before = os.path.getsize(m.log)
        call()

        def found():
            per = {k: round(n / COUNT) for k, n in m.requests(before).items()}
            per = {k: n for k, n in per.items() if n}
            self.assertEqual(per, want, call.__name__)
            return True
        eventually(found)

    def test_operations(self):
        m = self.talking()
        files = Files(m)
        os.stat(files.folder)
        self.expect(m, files.create, LOOKUP=1, GETATTR=1, CREATE=1, GETXATTR=1, WRITE=1, FLUSH=1,
                    RELEASE=1)
        self.expect(m, files.stat, GETATTR=1)
        self.expect(m, files.stat)
        self.expect(m, files.rewrite, OPEN=1, GETXATTR=2, WRITE=1, FLUSH=1, RELEASE=1)
        self.expect(m, files.setxattr, SETXATTR=1)
        self.expect(m, files.rename, GETATTR=1, LOOKUP=1, RENAME=1)
        self.expect(m, files.unlink, GETATTR=1, UNLINK=1)

    def test_looking(self):
        m = self.talking()
        Files(m).create()
        m.umount()
        m = self.talking()
        files = Files(m)
        self.expect(m, files.stat, LOOKUP=1)
        self.expect(m, files.stat)
        self.expect(m, files.read, OPEN=1, READ=1, RELEASE=1)
        self.expect(m, files.read, OPEN=1, RELEASE=1)

    def expect_listing(self, m, call, **want):
        before = os.path.getsize(m.log)
        call()
        eventually(lambda: self.assertEqual(m.requests(before), want) or True)

    def test_listing(self):
        m = self.talking()
        os.mkdir(m / "d")
        for i in range(1000):
            write(m / f"d/{i:05}")
        m.umount()
        m = self.talking()

        def names():
            self.assertEqual(len(os.listdir(m / "d")), 1000)

        def find():
            out = run("find", m / "d", "-type", "f", "-printf", "%s\n").stdout
            self.assertEqual(out.count("\n"), 1000)

        os.stat(m / "d")
        # An answer of 32 KiB has room for about 180 entries; the last one is empty.
        self.expect_listing(m, names, OPENDIR=1, READDIRPLUS=6, RELEASEDIR=1)
        # Reading has changed the access time, for all that the kernel knows.
        self.expect_listing(m, find, GETATTR=1, OPENDIR=1, READDIRPLUS=6, RELEASEDIR=1)
        m.umount()
        m = self.talking()
        os.stat(m / "d")
        self.expect_listing(m, find, OPENDIR=1, READDIRPLUS=6, RELEASEDIR=1)


class Calls(CountsTest):
    """The daemon's reads and writes: one each per request, and none of the store's."""

    def transfers(self, m):
        with open(f"/proc/{m.pid}/io") as f:
            found = dict(line.split(": ") for line in f)
        return int(found["syscr"]) + int(found["syscw"])

    def test_operations(self):
        m = self.mount(*OPTIONS)

        def one(i, measure):
            files = Files(m, f"d{i}")
            os.stat(files.folder)
            measure(files.create)
            measure(files.stat)
            measure(files.stat, "stat again")
            measure(files.read)
            measure(files.read, "read again")
            measure(files.rewrite)
            measure(files.setxattr)
            measure(files.rename)

        self.rounds(lambda: self.transfers(m), one, {
            "create": 14, "stat": 2, "stat again": 0, "read": 6, "read again": 4, "rewrite": 12,
            "setxattr": 2, "rename": 6})


@unittest.skipUnless(TALLY, "needs --tally")
@unittest.skipIf(sanitized(), "a sanitizer has an allocator of its own")
class Memory(CountsTest):
    """Allocations, of which libfuse makes one per request and one per answer of a listing; and pages
    that are written."""

    def mount(self, *options, **more):
        self.tally = os.path.join(self.tmp, f"tally{len(self.mounts)}")
        return super().mount(*options, wrapper=("env", f"LD_PRELOAD={TALLY}", f"TALLY={self.tally}"),
                             **more)

    def counts(self):
        numbers = struct.unpack(f"{len(TALLIES)}Q", read(self.tally))
        return dict(zip(TALLIES, numbers))

    def allocations(self):
        found = self.counts()
        return found["malloc"] + found["calloc"] + found["realloc"]

    def test_operations(self):
        m = self.mount(*OPTIONS)

        def one(i, measure):
            files = Files(m, f"d{i}")
            for call in (files.create, files.read, files.stat, files.rewrite, files.setxattr,
                         files.rename, files.unlink):
                measure(call)

        # Who is not root may have to lose set-id bits by truncating: the mode is looked at.
        self.rounds(self.allocations, one, {
            "create": 38.05, "read": 6, "stat": 2, "rewrite": 14 if ROOT else 15, "setxattr": 4,
            "rename": 39, "unlink": 17.86})

    def test_looking(self):
        m = self.mount(*OPTIONS)
        for i in range(ROUNDS):
            Files(m, f"d{i}").create()
        m.umount()
        m = self.mount(*OPTIONS)

        def one(i, measure):
            files = Files(m, f"d{i}")
            for call in (files.stat, files.read):
                measure(call)
                measure(call, call.__name__ + " again")

        self.rounds(self.allocations, one,
                    {"stat": 7, "stat again": 0, "read": 7, "read again": 5})

    def test_listing(self):
        m = self.mount(*OPTIONS)
        for i in range(ROUNDS):
            Files(m, f"d{i}").create()
        m.umount()
        m = self.mount(*OPTIONS)

        def one(i, measure):
            def names():
                self.assertEqual(len(os.listdir(m / f"d{i}")), COUNT)

            os.stat(m / f"d{i}")
            measure(names)
            measure(names, "again")

        # The node of each, and some for each answer.
        self.rounds(self.allocations, one, {"names": 1.2, "again": 0.2})

    def test_pages(self):
        """Of 4 KiB, for one small file in a transaction of its own: the value's tree and that of the
        attributes, and a page of each of LMDB's own. With a reader that looks at the state before,
        fewer pages can be used again; so the least counts."""
        m = self.mount(*OPTIONS)
        pages = []
        for i in range(30):
            before = self.counts()["written"]
            fd = os.open(m / f"{i:02}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"x" * SIZE)
            os.fsync(fd)
            os.close(fd)
            pages.append((self.counts()["written"] - before) // 4096)
        self.assertEqual(min(pages), 5, pages)
