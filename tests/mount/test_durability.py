"""What close, fsync, umount and signals promise: daemons are killed and disks filled."""

import errno
import os
import signal
import subprocess
import sys
import threading

from harness import KVFS, Test, eventually, exists, is_mounted, read, reap, root_only, run, write
from syscalls import fallocate


class Crash(Test):
    LIMIT = 240

    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_an_idle_store_is_durable_by_itself(self):
        os.mkdir(self.m / "d")
        write(self.m / "d/f", b"closed")
        os.setxattr(self.m / "d/f", "user.kv.metadata", b"[1]")
        os.chmod(self.m / "d/f", 0o600)
        eventually(lambda: self.m.status()["pending"] == 0)
        self.m.kill()
        self.assertEqual(self.store.dump(), {b"d/f": b"closed"})
        self.m.start()
        self.assertEqual(read(self.m / "d/f"), b"closed")
        self.assertEqual(os.getxattr(self.m / "d/f", "user.kv.metadata"), b"[1]")
        self.assertMode(self.m / "d/f", 0o600)

    def durable_at_once(self, save):
        for i in range(10):
            save(self.m / f"f{i}", b"number %d" % i)
            self.m.kill()
            self.assertEqual(self.store.dump()[b"f%d" % i], b"number %d" % i)
            self.m.start()
            self.assertEqual(read(self.m / f"f{i}"), b"number %d" % i)

    def test_fsync(self):
        def save(path, data):
            with open(path, "wb", buffering=0) as f:
                f.write(data)
                os.fsync(f.fileno())
        self.durable_at_once(save)

    def test_fdatasync(self):
        def save(path, data):
            with open(path, "wb", buffering=0) as f:
                f.write(data)
                os.fdatasync(f.fileno())
        self.durable_at_once(save)

    def test_o_sync(self):
        def save(path, data):
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_SYNC)
            os.write(fd, data)
            os.close(fd)
        self.durable_at_once(save)

    def test_fsync_of_a_directory(self):
        def save(path, data):
            write(path + ".tmp", data)
            os.rename(path + ".tmp", path)
            fd = os.open(self.m.root, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        self.durable_at_once(save)

    def test_option_sync(self):
        self.m.umount()
        self.m.options.append("sync")
        self.m.start()
        self.durable_at_once(write)
        os.mkdir(self.m / "d")
        os.rename(self.m / "f0", self.m / "d/f0")
        self.m.kill()
        self.assertEqual(self.store.dump()[b"d/f0"], b"number 0")

    def test_option_sync_of_an_open_file(self):
        """Each write is on the disk when it returns, as with O_SYNC."""
        self.m.umount()
        self.m.options.append("sync")
        for change, value in ((lambda fd: os.write(fd, b"value"), b"value"),
                              (lambda fd: os.ftruncate(fd, 3), b"val"),
                              (lambda fd: fallocate(fd, 0, 0, 4), b"val\0")):
            self.m.start()
            fd = os.open(self.m / "f", os.O_WRONLY | os.O_CREAT)
            change(fd)
            self.m.kill()
            try:
                os.close(fd)
            except OSError:
                pass
            self.assertEqual(self.store.dump(), {b"f": value})

    def test_kvfs_sync(self):
        def save(path, data):
            write(path, data)
            self.m.sync()
        self.durable_at_once(save)

    def test_an_open_file_that_was_synced_is_in_the_store(self):
        with open(self.m / "f", "wb", buffering=0) as f:
            f.write(b"part one")
            os.fsync(f.fileno())
            self.assertEqual(self.store.dump(), {b"f": b"part one"})
            f.write(b", part two")
        self.assertStored(b"f", b"part one, part two")

    def test_killed_in_the_middle_of_writing(self):
        write(self.m / "f", b"old" * 100_000)
        self.m.sync()
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_TRUNC):
            fd = os.open(self.m / "f", flags)
            for _ in range(64):
                os.write(fd, b"half" * 50_000)
            self.assertEqual(self.store.dump()[b"f"], b"old" * 100_000, "half a value in the store")
            self.m.kill()
            self.assertErrno((errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), os.write, fd, b"x")
            try:
                os.close(fd)
            except OSError:
                pass
            self.m.start()
            self.assertEqual(read(self.m / "f"), b"old" * 100_000)

    def test_times_do_not_go_ahead_of_what_they_belong_to(self):
        write(self.m / "f", b"AAAA")
        os.utime(self.m / "f", (1000, 1000))
        fd = os.open(self.m / "f", os.O_RDWR)
        os.write(fd, b"BBBB")
        os.utime(fd, (2000, 2000))
        os.fchmod(fd, 0o600)
        self.assertEqual(os.fstat(fd).st_mtime, 2000)
        self.m.sync()
        self.m.kill()
        try:
            os.close(fd)
        except OSError:
            pass
        self.m.start()
        self.assertEqual(read(self.m / "f"), b"AAAA")
        self.assertEqual(os.stat(self.m / "f").st_mtime, 1000)
        self.assertMode(self.m / "f", 0o600)
        with open(self.m / "f", "r+b", buffering=0) as f:
            f.write(b"BBBB")
            os.utime(f.fileno(), (2000, 2000))
        self.m.sync()
        self.m.kill()
        self.m.start()
        self.assertEqual(read(self.m / "f"), b"BBBB")
        self.assertEqual(os.stat(self.m / "f").st_mtime, 2000)

    def test_a_crash_leaves_a_beginning_of_the_history(self):
        """Operations become durable in the order in which they were made."""
        for round_number in range(6):
            acknowledged = []

            def writer():
                try:
                    for i in range(100_000):
                        write(self.m / "tmp", b"%06d" % i * 20)
                        os.rename(self.m / "tmp", self.m / f"{round_number}-{i:06d}")
                        acknowledged.append(i)
                except OSError:
                    pass
            t = threading.Thread(target=writer)
            t.start()
            eventually(lambda: len(acknowledged) > 40 * (round_number + 1), seconds=30)
            self.m.kill()
            t.join()
            self.m.start()
            names = sorted(n for n in os.listdir(self.m.root) if n.startswith(f"{round_number}-"))
            self.assertEqual(names, [f"{round_number}-{i:06d}" for i in range(len(names))])
            for i, name in enumerate(names):
                self.assertEqual(read(self.m / name), b"%06d" % i * 20)

    def test_a_directory_outlives_the_last_one_in_it(self):
        """Also if the crash comes right after the rename, which is durable by itself."""
        self.m.umount()
        m = self.mount("commit_interval=60000")
        self.store.put({b"x/a/k": b"v"})
        eventually(lambda: exists(m / "x/a/k"))
        os.rename(m / "x/a", m / "y")
        m.kill()
        m.start()
        self.assertEqual(sorted(os.listdir(m.root)), ["x", "y"])
        self.assertEqual(os.listdir(m / "x"), [])
        self.assertEqual(read(m / "y/k"), b"v")

    def test_stale_mount_point_is_cleared_by_mount(self):
        write(self.m / "f", b"x")
        self.m.sync()
        self.m.kill()
        self.assertErrno(errno.ENOTCONN, os.listdir, self.m.root)
        self.m.start()
        self.assertEqual(read(self.m / "f"), b"x")
        self.m.umount()
        self.assertFalse(is_mounted(self.m.root))

    def test_stale_mount_point_is_cleared_by_umount(self):
        self.m.kill()
        self.assertTrue(is_mounted(self.m.root))
        run(KVFS, "umount", self.m.root)
        self.assertFalse(is_mounted(self.m.root))
        self.assertEqual(os.listdir(self.m.root), [])


class Ends(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount("commit_interval=100")
        for i in range(300):
            write(self.m / f"f{i}", b"%d" % i)

    def assertAllThere(self):
        self.assertEqual(self.store.dump(), {b"f%d" % i: b"%d" % i for i in range(300)})
        self.assertFalse(is_mounted(self.m.root))

    def test_umount(self):
        self.m.umount()
        self.assertAllThere()

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            pid = self.m.pid
            os.kill(pid, number)
            self.assertEqual(reap(pid), 0)
            self.m.forget()
            self.assertAllThere()
            self.m.complain()
            self.m.start()

    def test_fusermount(self):
        run("fusermount3", "-u", self.m.root)
        pid = self.m.pid
        self.assertEqual(reap(pid), 0)
        self.m.forget()
        self.assertAllThere()

    @root_only
    def test_umount_while_another_mount_namespace_has_it(self):
        """It says so, and does not wait for what may take for ever."""
        pid = self.m.pid
        with subprocess.Popen(["unshare", "-m", "cat"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as holder:
            holder.stdin.write(b"x")
            holder.stdin.flush()
            holder.stdout.read(1)  # it has its copies now
            done = run(KVFS, "umount", self.m.root)
            self.assertIn(f"process {holder.pid} ", done.stderr)
            holder.stdin.close()
        self.assertEqual(reap(pid), 0)
        self.m.forget()
        self.assertAllThere()

    def test_umount_while_busy_says_so_and_loses_nothing(self):
        with open(self.m / "f0"):
            self.assertFails(1, "umount", self.m.root)
            self.assertTrue(is_mounted(self.m.root))
            write(self.m / "after", b"goes on")
        os.unlink(self.m / "after")
        self.m.umount()
        self.assertAllThere()

    def test_sigterm_with_files_open_for_writing(self):
        """What was not closed is not complete: what was there before stays, and the log says so."""
        files = [open(self.m / "f0", "r+b", buffering=0), open(self.m / "f1", "wb", buffering=0),
                 open(self.m / "new", "wb", buffering=0), open(self.m / "tmp", "wb", buffering=0),
                 open(self.m / "f3", "wb", buffering=0)]
        for f in files[1:]:
            f.write(b"half")
        os.rename(self.m / "tmp", self.m / "f2")
        os.fsync(files[4].fileno())
        pid = self.m.pid
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(reap(pid), 0)
        self.m.forget()
        for f in files:
            try:
                f.close()
            except OSError:
                pass
        wanted = {b"f%d" % i: b"%d" % i for i in range(300)}
        wanted[b"f3"] = b"half"
        self.assertEqual(self.store.dump(), wanted)
        log = read(self.m.log).decode()
        for name in ("f1", "new", "f2"):
            self.assertIn(f"{name}: was open and not closed", log)
        self.assertNotIn("f0:", log)
        self.assertNotIn("f3:", log)


class FullDisk(Test):
    LIMIT = 240
    SIZE = 24 << 20

    def setUp(self):
        super().setUp()
        os.makedirs(self.env, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", self.env)

    def clean(self):
        """The mounts end before the disk below them does."""
        try:
            for m in self.mounts:
                m.umount()
        finally:
            run("umount", "-l", self.env, check=False)
        super().clean()

    @root_only
    def test_full_disk(self):
        m = self.mount()
        kept, block = [], os.urandom(1 << 20)
        with self.assertRaises(OSError) as caught:
            for i in range(60):
                with open(m / f"f{i}", "wb", buffering=0) as f:
                    f.write(bytes([i]) + block[1:])
                    os.fsync(f.fileno())
                kept.append(i)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertGreater(len(kept), 5)
        for i in kept:
            self.assertEqual(read(m / f"f{i}"), bytes([i]) + block[1:])
        for i in kept[:4]:
            os.unlink(m / f"f{i}")
        for name in os.listdir(m.root):
            if int(name[1:]) not in kept:
                os.unlink(m / name)
        m.sync()
        write(m / "again", b"there is room now")
        m.remount()
        self.assertEqual(read(m / "again"), b"there is room now")
        for i in kept[4:]:
            self.assertEqual(read(m / f"f{i}"), bytes([i]) + block[1:])

    @root_only
    def test_what_close_refused_is_not_shown(self):
        m = self.mount()
        write(m / "k", b"old content")
        m.sync()
        for name in ("k", "new"):
            fd = os.open(m / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with self.assertRaises(OSError) as caught:
                try:
                    for _ in range(self.SIZE >> 20):
                        os.write(fd, b"N" * (1 << 20))
                finally:
                    os.close(fd)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            # What it took on the disk is given back by then, so that the next one meets the same.
            eventually(lambda: f"{name}: its last changes are lost" in read(m.log).decode(),
                       seconds=30)
        eventually(lambda: not exists(m / "new"))
        eventually(lambda: os.stat(m / "k").st_size == len(b"old content"))
        self.assertEqual(read(m / "k"), b"old content")
        self.assertEqual(os.listdir(m.root), ["k"])
        self.assertEqual(os.getxattr(m / "k", "user.kv.state"), b"synced")
        self.assertEqual(self.store.dump(), {b"k": b"old content"})

    @root_only
    def test_what_close_acknowledged_is_kept(self):
        m = self.mount()
        code = ("import os,sys\nfor i in range(4000):\n"
                " try:\n  fd=os.open(f'{sys.argv[1]}/f{i}',os.O_CREAT|os.O_WRONLY)\n"
                " except OSError as e: print('error',e.errno); break\n"
                " try:\n  os.write(fd,b'%06d'%i*3000)\n"
                " except OSError as e: print('error',e.errno); break\n"
                " try: os.close(fd)\n"
                " except OSError as e: print('error',e.errno); break\n"
                " print(i)\n")
        done = run(sys.executable, "-c", code, m.root).stdout.split("\n")
        self.assertIn(f"error {errno.ENOSPC}", done)
        acknowledged = [int(line) for line in done if line.isdigit()]
        self.assertGreater(len(acknowledged), 100)
        for i in acknowledged:
            self.assertEqual(read(m / f"f{i}"), b"%06d" % i * 3000, "lost after close")
        for i in acknowledged[:50]:
            os.unlink(m / f"f{i}")
        run("sync")
        m.sync()
        m.remount()
        for i in acknowledged[50:]:
            self.assertEqual(read(m / f"f{i}"), b"%06d" % i * 3000, "lost after umount")


class Throttle(Test):
    def test_pending_changes_are_bounded(self):
        """A writer faster than the disk waits; the daemon does not grow."""
        m = self.mount()
        p = subprocess.Popen(["dd", "if=/dev/zero", f"of={m / 'big'}", "bs=1M", "count=400",
                              "status=none"])
        peak = 0
        while p.poll() is None:
            with open(f"/proc/{m.pid}/status") as f:
                peak = max(peak, int(next(x for x in f if x.startswith("RssAnon")).split()[1]))
        self.assertEqual(p.wait(), 0)
        for i in range(300):
            write(m / f"f{i}", bytes(1 << 20))
        with open(f"/proc/{m.pid}/status") as f:
            peak = max(peak, int(next(x for x in f if x.startswith("RssAnon")).split()[1]))
        self.assertLess(peak, 400_000, "KiB of anonymous memory")
        self.assertEqual(os.stat(m / "big").st_size, 400 << 20)
        self.assertTrue(exists(m / "f299"))
