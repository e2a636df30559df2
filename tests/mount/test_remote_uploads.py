"""When, in what order and how often changes go to a Workers KV namespace, and what becomes of them when
that fails."""

import errno
import os
import random
import subprocess
import sys
import time

from harness import KVFS, eventually, exists, read, run, write
from remote import RemoteTest


def state(path):
    return os.getxattr(path, "user.kv.state").decode()


class Order(RemoteTest):
    virtual = True

    def test_delay_and_coalescing(self):
        m = self.mount("upload_delay=5")
        for i in range(10):
            write(m / "f", b"%d" % i)
            self.clock.advance(1)
        self.clock.advance(3)
        time.sleep(0.3)
        self.assertEqual(self.counts().get("put", 0), 0)
        self.assertEqual(state(m / "f"), "pending")
        self.clock.advance(2)
        eventually(lambda: state(m / "f") == "synced")
        self.assertEqual(self.content(), {b"f": b"9"})
        self.assertEqual(self.log.keys()["put"] + self.log.keys()["bulk.put"], 1)

    def test_not_while_open(self):
        m = self.mount()
        with open(m / "f", "wb", buffering=0) as f:
            f.write(b"part")
            other = os.dup(f.fileno())
            os.close(other)  # a flush
            with self.time_passes():
                time.sleep(0.5)
            self.assertEqual(self.content(), {})
            f.write(b"whole")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"f": b"partwhole"})

    def test_made_and_removed(self):
        m = self.mount()
        os.listdir(m.root)
        with self.asked():
            write(m / "f", b"1")
            os.rename(m / "f", m / "g")
            os.unlink(m / "g")
            self.uploaded(m)
            write(m / "x~", b"local")
            write(m / ".f.swp", b"local")
            write(m / "4913", b"local")
            self.uploaded(m)
        self.assertEqual(state(m / "x~"), "synced")
        m.remount()
        self.assertEqual(read(m / "x~"), b"local")
        os.rename(m / "x~", m / "x")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"x": b"local"})

    def test_tried_again_in_the_time_that_a_test_sets(self):
        """One who waits alone for a repetition is woken by nobody else."""
        self.fill({b"f": b"1"})
        m = self.mount()
        self.faults.add("status", on="list", status=503, next=2)
        with self.time_passes():
            self.assertEqual(read(m / "f"), b"1")

    def test_own_local_names(self):
        m = self.mount("local=*.tmp secret*")
        for name in ("a.tmp", "secret", "b~"):
            write(m / name, b"1")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"b~": b"1"})

    def test_one_write_a_second(self):
        m = self.mount("upload_delay=0")
        with self.time_passes(1):
            for i in range(60):
                write(m / "f", b"%d" % i)
                time.sleep(0.05)
        self.uploaded(m)
        self.assertEqual(self.content(), {b"f": b"59"})
        times = [r.time for r in self.log.records() if "put" in r.kind]
        self.assertFalse([r for r in self.log.records() if r.status == 429], times)
        self.assertTrue(all(b - a >= 1 for a, b in zip(times, times[1:])), times)

    def test_fsync_remote(self):
        m = self.mount("fsync=remote", "upload_delay=60")
        with open(m / "f", "wb") as f:
            f.write(b"1")
            f.flush()
            os.fsync(f.fileno())
            self.assertEqual(self.content(), {b"f": b"1"})
        with open(m / "g", "wb") as f:
            f.write(b"2")
        with open(m / "g", "rb") as f:
            os.fsync(f.fileno())
        self.assertEqual(self.content(), {b"f": b"1", b"g": b"2"})

    def test_fsync_remote_of_one_of_many(self):
        """It waits for the file's own changes, and says what became of those."""
        self.faults.add("status", on=["put", "bulk.put"], status=400, code=10033, message="no", next=50)
        m = self.mount("fsync=remote", "upload_delay=60")
        with open(m / "bad", "wb", buffering=0) as f:
            f.write(b"1")
            self.assertErrno(errno.EIO, os.fsync, f.fileno())
        self.faults.clear()
        write(m / "other", b"1")
        with open(m / "good", "wb", buffering=0) as f:
            f.write(b"1")
            os.fsync(f.fileno())
        self.assertEqual(self.content(), {b"good": b"1"})
        self.assertEqual(state(m / "other"), "pending")
        with open(m / "bad", "rb") as f:
            self.assertErrno(errno.EIO, os.fsync, f.fileno())

    def test_conflict_is_kept_though_it_was_seen(self):
        """What a writer has found is what it overwrites, also where others have looked since."""
        self.fill({b"f": b"found"})
        m = self.mount("conflict=keep")
        with open(m / "f", "r+b", buffering=0) as f:
            self.assertEqual(f.read(), b"found")
            self.ns.put(b"f", b"theirs")
            run(KVFS, "refresh", m.root)
            os.listdir(m.root)
            self.assertEqual(read(m / "f"), b"found")  # it is one file for everybody
            f.seek(0)
            f.write(b"mine!")
        self.uploaded(m)
        content = self.content()
        self.assertEqual(content.pop(b"f"), b"mine!")
        self.assertEqual(list(content.values()), [b"theirs"])

    def test_others_value_is_seen_when_nothing_was_written(self):
        self.fill({b"f": b"found"})
        m = self.mount("conflict=keep")
        with open(m / "f", "r+b", buffering=0) as f:
            self.ns.put(b"f", b"theirs")
            run(KVFS, "refresh", m.root)
            self.assertEqual(read(m / "f"), b"found")
        run(KVFS, "refresh", m.root)
        self.assertEqual(read(m / "f"), b"theirs")

    def test_conflict_is_kept(self):
        self.fill({b"f": b"base", b"g": b"base", b"b": b"\xef\xbb\xbfbase"})
        self.faults.add("bom_stripped")
        m = self.mount("conflict=keep")
        self.assertEqual(read(m / "f"), b"base")
        read(m / "g")
        write(m / "f", b"mine")
        write(m / "g", b"mine")
        write(m / "n", b"mine")
        self.ns.put(b"f", b"theirs", metadata={"a": 1})
        self.ns.put(b"n", b"theirs")
        self.uploaded(m)
        kept = {k: v for k, v in self.content().items() if b".conflict-" in k}
        self.assertEqual(sorted(k.split(b".conflict-")[0] for k in kept), [b"f", b"n"])
        self.assertEqual(set(kept.values()), {b"theirs"})
        self.assertEqual([self.content()[k] for k in (b"f", b"g", b"n")], [b"mine"] * 3)


class Trouble(RemoteTest):
    LIMIT = 200

    def test_partial_failure(self):
        self.faults.add("unsuccessful", on="bulk", fraction=0.4, seed=3, next=2)
        m = self.mount()
        pairs = {b"k%03d" % i: b"v%d" % i for i in range(200)}
        for k, v in pairs.items():
            write(m / k, v)
        self.uploaded(m, 40)
        self.assertEqual(self.content(), pairs)

    def test_permanent_failure(self):
        rule = self.faults.add("status", on=["put", "bulk.put"], status=400, code=10033, message="no", next=50)
        m = self.mount()
        write(m / "bad", b"1")
        eventually(lambda: state(m / "bad").startswith("failed: "), 20)
        with open(m / "bad", "rb") as f:
            self.assertErrno(errno.EIO, os.fsync, f.fileno())
        self.faults.clear()
        write(m / "good", b"2")
        eventually(lambda: state(m / "good") == "synced", 20)
        with open(m / "good", "rb") as f:
            os.fsync(f.fileno())
        self.assertEqual(self.content(), {b"good": b"2"})
        m.kill()
        m.start()
        self.assertTrue(state(m / "bad").startswith("failed: "))
        self.assertEqual(read(m / "bad"), b"1")
        write(m / "bad", b"mended")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"good": b"2", b"bad": b"mended"})

    def test_bad_weather(self):
        for i, (name, more) in enumerate([("status", {"status": 503}), ("status", {"status": 429, "retry_after": 1}),
                                          ("reset", {"at": "arrival"}), ("reset", {"at": "after"}), ("cut", {})]):
            self.faults.add(name, probability=0.06, seed=i, **more)
        self.many(300, "old/{:03d}")
        m = self.mount("timeout=60")
        pairs = {b"old/%03d" % i: b"value %d" % i for i in range(300)}
        for k, v in pairs.items():
            self.assertEqual(read(m / k), v)
        for i in range(100):
            os.unlink(m / b"old/%03d" % i)
            del pairs[b"old/%03d" % i]
            write(m / b"new%03d" % i, b"\xff%d" % i)
            pairs[b"new%03d" % i] = b"\xff%d" % i
        self.uploaded(m, 90)
        self.assertEqual(self.content(), pairs)

    def test_offline_and_back(self):
        self.fill({b"a": b"1", b"d/b": b"2", b"unread": b"3"})
        m = self.mount("timeout=2", "max_age=1")
        os.listdir(m.root)
        os.mkdir(m / "made")
        os.listdir(m / "made")
        self.assertEqual((read(m / "a"), read(m / "d/b")), (b"1", b"2"))
        port = self.server.port
        self.server.stop()
        try:
            time.sleep(1.1)
            self.assertEqual(read(m / "a"), b"1")  # may wait for the timeout, once
            began = time.monotonic()
            self.assertEqual(read(m / "d/b"), b"2")
            self.assertEqual(sorted(os.listdir(m.root)), ["a", "d", "made", "unread"])
            self.assertEqual(os.listdir(m / "made"), [])
            self.assertFalse(exists(m / "nothing"))
            write(m / "new", b"new")
            write(m / "made/x", b"x")
            write(m / "a", b"changed")
            os.rename(m / "d/b", m / "d/c")
            self.assertEqual(read(m / "a"), b"changed")
            self.assertLess(time.monotonic() - began, 8)
        finally:
            self.server.start(port)
        self.uploaded(m, 60)
        self.assertEqual(self.content(), {b"a": b"changed", b"d/c": b"2", b"unread": b"3", b"new": b"new", b"made/x": b"x"})
        self.ns.put(b"later", b"1")
        eventually(lambda: exists(m / "later"), 20)

    def test_fsync_remote_in_trouble(self):
        m = self.mount("fsync=remote", "timeout=2")
        self.faults.add("status", on=["put"], status=429, retry_after=1)
        sleeper = "import os, sys; f = open(sys.argv[1], 'wb', 0); f.write(b'1'); print(1, flush=True); os.fsync(f)"
        p = subprocess.Popen([sys.executable, "-c", sleeper, os.fsdecode(m / "f")], stdout=subprocess.PIPE)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        p.stdout.readline()
        self.assertRaises(subprocess.TimeoutExpired, p.wait, 4)
        p.kill()  # it can be interrupted
        p.wait(5)
        p.stdout.close()
        self.faults.clear()
        eventually(lambda: self.content() == {b"f": b"1"}, 20)
        os.listdir(m.root)
        port = self.server.port
        self.server.stop()
        try:
            with open(m / "g", "wb", buffering=0) as f:
                f.write(b"1")
                began = time.monotonic()
                self.assertErrno(errno.ETIMEDOUT, os.fsync, f.fileno())
                self.assertLess(time.monotonic() - began, 15)
        finally:
            self.server.start(port)
        self.uploaded(m, 60)
        self.assertEqual(self.content(), {b"f": b"1", b"g": b"1"})

    def test_offline_mount(self):
        self.fill({b"a": b"1"})
        m = self.mount("timeout=2")
        os.listdir(m.root)
        read(m / "a")
        m.umount()
        port = self.server.port
        self.server.stop()
        try:
            m.start()
            self.assertEqual(read(m / "a"), b"1")
            write(m / "b", b"2")
        finally:
            self.server.start(port)
        self.uploaded(m, 60)
        self.assertEqual(self.content(), {b"a": b"1", b"b": b"2"})


class Kills(RemoteTest):
    LIMIT = 300

    def test_fsynced_is_uploaded(self):
        self.fill({b"old/%d" % i: b"v" for i in range(20)})
        m = self.mount("timeout=5")
        rng = random.Random(7)
        model = {b"old/%d" % i: b"v" for i in range(20)}
        for round in range(6):
            for _ in range(12):
                key = b"old/%d" % rng.randrange(20)
                if key in model and rng.random() < 0.4:
                    os.unlink(m / key)
                    del model[key]
                else:
                    value = b"%d %d" % (round, rng.randrange(1000))
                    write(m / key, value)
                    model[key] = value
            fd = os.open(m / "old", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            time.sleep(rng.random() * 2)
            m.kill()
            m.start()
            found = {b"old/" + n: read(os.path.join(m / b"old", n)) for n in os.listdir(m / b"old")}
            self.assertEqual(found, model)
        self.uploaded(m, 60)
        self.assertEqual(self.content(), model)

    def test_folder_rename(self):
        pairs = self.many(300, "r/{:05d}")
        for delay in (0.0, 0.9, 1.1, 1.3):
            m = self.mount(cache=f"cache{delay}")
            self.ns.clear()
            self.fill(pairs)
            os.rename(m / "r", m / "s")
            time.sleep(delay)
            m.kill()
            m.start()
            self.uploaded(m, 60)
            self.assertEqual(self.content(), {b"s" + k[1:]: v for k, v in pairs.items()})
            m.umount()
