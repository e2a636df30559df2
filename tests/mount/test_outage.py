"""Workers KV is gone for minutes, or the time jumps, or the disk under cache and journal is full: what was
changed meanwhile goes out once, in order, and nothing stalls afterwards. Time is virtual but on the full disk."""

import contextlib
import errno
import os
import shutil

from harness import KVFS, eventually, exists, read, root_only, run, write
from remote import RemoteTest


class Gone(RemoteTest):
    virtual = True
    LIMIT = 90

    @contextlib.contextmanager
    def outage(self):
        port = self.server.port
        self.server.stop()
        try:
            yield
        finally:
            self.server.start(port)

    def test_for_minutes(self):
        pairs = self.many(40, "old/{:02d}")
        pairs |= self.many(30, "tree/a/{:02d}")
        m = self.mount("timeout=2", "max_age=30")
        for folder in ("", "old", "tree", "tree/a"):
            for name in os.listdir(m / folder):
                if not os.path.isdir(m / folder + "/" + name):
                    read(m / folder + "/" + name)
        with self.outage(), self.time_passes():
            model = dict(pairs)
            for minute in range(10):
                self.clock.advance(61)
                for i in range(4):  # rewritten every minute: the last one counts
                    write(m / f"old/{i:02d}", b"%d at %d" % (i, minute))
                    model[b"old/%02d" % i] = b"%d at %d" % (i, minute)
                write(m / f"new{minute}", b"\xff%d" % minute)
                os.rename(m / f"new{minute}", m / f"moved{minute}")
                model[b"moved%d" % minute] = b"\xff%d" % minute
                os.unlink(m / f"old/{10 + minute}")
                del model[b"old/%d" % (10 + minute)]
                write(m / f"gone{minute}", b"gone")
                self.assertEqual(read(m / f"old/{minute:02d}"), model[b"old/%02d" % minute])
                os.unlink(m / f"gone{minute}")
            shutil.rmtree(m / "tree")
            for i in range(30):
                del model[b"tree/a/%02d" % i]
            os.rename(m / "old/30", m / "old/new")
            model[b"old/new"] = model.pop(b"old/30")
            self.assertEqual(sorted(os.listdir(m.root)), [*(f"moved{i}" for i in range(10)), "old"])
            self.assertTrue(m.status()["offline_since"])
            self.log.clear()
        self.uploaded(m, 60)
        self.assertEqual(self.content(), model)
        # Stored: 4 rewritten, 10 moved, 1 renamed. Removed: 10, 1 renamed, 30 of the folder. Each once;
        # a key that is text goes in another request than one that is not.
        keys = self.log.keys()
        self.assertEqual(keys["bulk.put"] + keys["put"], 15, keys)
        self.assertEqual(keys["bulk.delete"] + keys["delete"], 41, keys)
        self.assertLessEqual(sum(self.counts().values()), 6, self.counts())
        m.remount()
        with self.time_passes():
            self.assertEqual(read(m / "old/00"), b"0 at 9")
        self.assertEqual(self.content(), model)


class Jumps(RemoteTest):
    virtual = True
    LIMIT = 90

    def test_back_and_forth(self):
        """Whichever way it jumps: no request more than without, and none that does not come."""
        uploaded = {"list": 1, "bulk.get": 1, "put": 1}
        seen = {"list": 2, "bulk.get": 2, "put": 1}
        self.many(200, "d/{:03d}")
        m = self.mount("max_age=60", "timeout=5")
        model = {b"d/%03d" % i: b"value %d" % i for i in range(200)}
        for name in os.listdir(m / "d"):
            read(m / "d/" + name)
        for number, jump in enumerate((-86_400, 86_400, -1_000_000, 3600, 2_000_000, -59, -1_000_000)):
            self.clock.advance(jump)
            self.log.clear()
            key = b"d/%03d" % number
            model[key] = b"after jump %d" % number
            write(m / key, model[key])
            self.assertEqual(read(m / key), model[key])
            self.uploaded(m, 20)
            self.assertEqual(self.content(), model, f"after {jump} s")
            self.assertEqual(self.counts(), uploaded, f"after {jump} s")
            foreign = b"d/%03d" % (100 + number)
            model[foreign] = b"by another %d" % number
            self.ns.put(foreign, model[foreign])
            self.clock.advance(130)  # twice max_age
            with self.time_passes():
                eventually(lambda: read(m / foreign) == model[foreign], 10, f"another's change after {jump} s")
            self.assertEqual(self.counts(), seen, f"after {jump} s")
        self.assertEqual({n: read(m / b"d/" + n) for n in os.listdir(os.fsencode(m / "d"))},
                         {k[2:]: v for k, v in model.items()})

    def test_expiry(self):
        m = self.mount("max_age=60")
        write(m / "k", b"v")
        os.setxattr(m / "k", "user.kv.expiration", b"%d" % (self.clock.now + 1000))
        self.uploaded(m)
        left = int(os.getxattr(m / "k", "user.kv.ttl"))
        self.clock.advance(-500)
        self.assertGreaterEqual(int(os.getxattr(m / "k", "user.kv.ttl")), left + 499)
        self.assertEqual(read(m / "k"), b"v")
        self.clock.advance(2000)
        eventually(lambda: not exists(m / "k"))


class FullCache(RemoteTest):
    """The journal and the cache are on a disk that is full."""
    LIMIT = 90
    SIZE = 24 << 20

    def setUp(self):
        super().setUp()
        self.cache = self.folder("cache")
        run("mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tmpfs", self.cache)

    def clean(self):
        try:
            with self.time_passes():
                for m in self.mounts:
                    m.umount()
        finally:
            run("umount", "-l", self.cache, check=False)
        super().clean()

    @root_only
    def test_full(self):
        self.fill({b"read": b"value", b"big": os.urandom(3 << 20)})
        m = self.mount("upload_delay=3600", "timeout=5")
        self.assertEqual(read(m / "read"), b"value")
        kept, refused = {}, None
        for i in range(80):
            data = b"%03d" % i + os.urandom(700_000)
            try:
                with open(m / f"f{i}", "wb", buffering=0) as f:
                    done = 0
                    while done < len(data):
                        done += f.write(data[done:])
                    os.fsync(f.fileno())
            except OSError as e:
                refused = e
                break
            kept[b"f%d" % i] = data
        self.assertEqual(refused.errno, errno.ENOSPC)
        self.assertGreater(len(kept), 5)
        last = f"f{len(kept)}"
        eventually(lambda: not exists(m / last) or read(m / last) == b"")  # nothing is there half
        for key, data in kept.items():  # reads go on
            self.assertEqual(read(m / key), data)
        self.assertEqual(read(m / "read"), b"value")
        self.assertErrno(errno.ENOSPC, read, m / "big")  # which was never read, and has no room in the cache
        self.assertIn("No space left", run(KVFS, "status", m.root).stdout + read(m.log).decode())
        m.kill()  # the journal is there
        m.start()
        for key, data in kept.items():
            self.assertEqual(read(m / key), data)
        self.uploaded(m, 60)
        found = self.content()
        self.assertEqual({k: found.get(k) for k in kept}, kept)
        self.assertIn(found.get(last.encode()), (None, b""))
        run("mount", "-o", f"remount,size={4 * self.SIZE}", self.cache)  # somebody makes room
        write(m / "again", b"there is room" * 100_000)
        self.assertEqual(read(m / "big"), self.content()[b"big"])
        self.uploaded(m, 60)
        self.assertEqual(self.content()[b"again"], b"there is room" * 100_000)
        m.remount()
        self.assertEqual({k: read(m / k) for k in kept}, kept)
