"""A disk that fails below the store: calls that say EIO, once or always; no room; no permission to write.

What an application was told is what counts: what fsync acknowledged is there after a kill, what was refused
is not half there, and when the disk is well again everything is as it was, without a new mount. (Each
single call fails in tests/crash, without a mount.)"""

import errno
import mmap
import os
import signal
import struct
import unittest

from harness import KVFS, Mount, Test, eventually, exists, read, reap, run, write

FAULTY = os.environ.get("KVFS_TEST_FAULTY", "")
WRITE, SYNC, READ = 1, 2, 4
ALWAYS = 1 << 30


class Disk:
    """What the calls of the daemons that run on it do (faulty.c)."""

    def __init__(self, path):
        self.path = path
        write(path, bytes(4096))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)

    def fail(self, kinds, skip=0, times=ALWAYS, error=errno.EIO):
        struct.pack_into("=IIiiII", self.map, 0, 0, error, skip, times, 0, 0)
        struct.pack_into("=I", self.map, 0, kinds)

    def heal(self):
        """How many calls have failed."""
        struct.pack_into("=I", self.map, 0, 0)
        return struct.unpack_from("=I", self.map, 16)[0]


class OnDisk(Mount):
    disk = None

    def environ(self):
        more = super().environ()
        more["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        return {**more, "LD_PRELOAD": FAULTY, "FAULTY": self.disk.path}


def save(path, data):
    """Written and synced; the errno of what failed, or 0."""
    try:
        with open(path, "wb", buffering=0) as f:
            done = 0
            while done < len(data):  # a write may be a short one where its rest fails
                done += f.write(data[done:])
            os.fsync(f.fileno())
    except OSError as e:
        return e.errno
    return 0


@unittest.skipUnless(FAULTY, "needs --faulty")
class Errors(Test):
    LIMIT = 240

    def setUp(self):
        super().setUp()
        self.disk = Disk(os.path.join(self.tmp, "disk"))

    def mount(self, *options):
        m = OnDisk(f"lmdb:{self.env}#main", os.path.join(self.tmp, "mnt"), options,
                   self.folder(f"daemon{len(self.mounts)}"))
        m.disk = self.disk
        self.mounts.append(m)
        return m.start()

    def clean(self):
        self.disk.heal()
        super().clean()

    def settled(self, m):
        eventually(lambda: m.status()["pending"] == 0, 20)

    def once(self, kinds, moments, size):
        """One call fails, at one moment after the other. fsync says so or the retry has made it good."""
        m = self.mount()
        write(m / "before", b"before")
        m.sync()
        model, refused, fired = {"before": b"before"}, 0, 0
        for number, moment in enumerate(moments):
            name, data = f"f{number % 3}", b"%d," % number * size
            self.disk.fail(kinds, skip=moment, times=1)
            code = save(m / name, data)
            fired += self.disk.heal()
            self.assertIn(code, (0, errno.EIO), f"moment {moment}")
            refused += code != 0
            if code:  # what is there now is the old or the new, whole
                self.assertIn(read(m / name) if exists(m / name) else None, (data, b"", model.get(name)))
                self.assertEqual(save(m / name, data), 0, f"moment {moment}")
            model[name] = data
            self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, model)
            if number % 2:
                m.kill()
                m.start()
                self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, model)
        self.assertGreater(refused, 0)
        self.assertGreater(fired, len(moments) // 3)
        m.remount()
        self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, model)

    def test_a_write_fails_once(self):
        self.once(WRITE, range(8), 100)

    def test_a_sync_fails_once(self):
        self.once(SYNC, (0, 0, 1, 0), 100)

    def test_a_write_of_a_large_value_fails_once(self):
        self.once(WRITE, (0, 0, 1, 2, 3, 5, 8, 13), 1_000_000)

    def test_a_read_of_a_large_value_fails_once(self):
        """On its way from the file that it waits in to the store."""
        self.once(READ, (0, 0, 1, 0), 1_000_000)

    def always(self, kinds):
        m = self.mount()
        old = {f"f{i}": b"old %d" % i for i in range(20)}
        for name, data in old.items():
            write(m / name, data)
        m.sync()
        self.disk.fail(kinds)
        new = dict(old)
        for i in range(5):
            self.assertEqual(save(m / f"f{i}", b"new %d" % i), errno.EIO)
            new[f"f{i}"] = b"new %d" % i
        os.rename(m / "f10", m / "g10")
        new["g10"] = new.pop("f10")
        self.assertErrno(errno.EIO, os.fsync, os.open(m.root, os.O_RDONLY))
        self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, new)  # reads go on
        self.assertEqual(self.store.dump(), {n.encode(): v for n, v in old.items()})  # nothing is there half
        self.assertIn("Input/output error", run(KVFS, "status", m.root).stdout)
        self.assertIn("changes cannot be made durable: Input/output error; check the medium", read(m.log).decode())
        self.assertFails(1, "sync", m.root)
        self.assertGreater(self.disk.heal(), 5)
        self.settled(m)
        self.assertIn("changes are made durable again", read(m.log).decode())
        self.assertEqual(save(m / "after", b"after"), 0)
        new["after"] = b"after"
        m.kill()
        m.start()
        self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, new)

    def test_writes_fail_for_long(self):
        self.always(WRITE)

    def test_syncs_fail_for_long(self):
        self.always(SYNC)

    def test_large_values_are_refused_at_once(self):
        """Their bytes go to the disk as they are written; what was there before stays."""
        m = self.mount()
        write(m / "f", b"old" * 700_000)
        m.sync()
        self.disk.fail(WRITE)
        with self.assertRaises(OSError) as caught:
            with open(m / "f", "wb", buffering=0) as f:
                for _ in range(40):
                    f.write(bytes(128 << 10))
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.disk.heal()
        eventually(lambda: m.status()["pending"] == 0)
        self.assertIn(len(self.store.dump()[b"f"]) % (128 << 10), (0, 2_100_000 % (128 << 10)))
        write(m / "f", b"new" * 700_000)
        m.remount()
        self.assertEqual(read(m / "f"), b"new" * 700_000)

    def test_who_ends_it_is_told_what_is_lost(self):
        m = self.mount("commit_interval=60000")
        write(m / "kept", b"kept")
        m.sync()
        write(m / "lost", b"lost")
        os.unlink(m / "kept")
        self.disk.fail(WRITE | SYNC)
        line = self.assertFails(1, "umount", m.root)
        self.assertIn("Input/output error; nothing is lost, the mount stays and tries again", line)
        self.assertEqual(os.listdir(m.root), ["lost"])
        os.kill(m.pid, signal.SIGTERM)
        self.assertEqual(reap(m.pid), 1)
        m.forget()
        self.disk.heal()
        log = read(m.log).decode()
        self.assertIn("the new value or attributes of lost in namespace main is lost: Input/output error", log)
        self.assertIn("the removal of kept in namespace main is lost: Input/output error", log)
        m.start()
        self.assertEqual({n: read(m / n) for n in os.listdir(m.root)}, {"kept": b"kept"})
