"""The life of a mount: beginning, options, status, every way to fail to begin."""

import glob
import json
import os
import signal
import struct
import subprocess
import threading

from harness import (KVFS, LMDBTOOL, Clock, Test, eventually, exists, is_mounted, ordinary_only,
                     read, reap, root_only, run, write)


class Begin(Test):
    def test_usable_when_it_returns(self):
        for i in range(20):
            m = self.mount(name=f"m{i}")
            write(m / "hello", b"hi\n")
            self.assertEqual(read(m / "hello"), b"hi\n")
            m.umount()

    def test_sources(self):
        for source in (f"lmdb:{self.env}#ns", f"{self.env}#ns"):
            m = self.mount(source=source)
            write(m / "k", b"v")
            m.umount()
            self.assertEqual(self.store.dump("ns"), {b"k": b"v"})
        m = self.mount(source=self.env)
        self.assertEqual(os.listdir(m.root), ["ns"])

    def test_relative_paths(self):
        self.folder("mp")
        run(KVFS, "mount", "-o", "log=relative.log", "lmdb:relative#x", "mp", cwd=self.tmp)
        try:
            self.addCleanup(run, "fusermount3", "-uz", os.path.join(self.tmp, "mp"), check=False)
            write(os.path.join(self.tmp, "mp/k"), b"v")
        finally:
            run(KVFS, "umount", "mp", cwd=self.tmp)
        self.assertTrue(exists(os.path.join(self.tmp, "relative/data.mdb")))
        self.assertTrue(exists(os.path.join(self.tmp, "relative.log")))

    def test_the_environment_is_private(self):
        self.mount()
        self.assertMode(self.env, 0o700)
        self.assertEqual(os.stat(self.env + "/data.mdb").st_mode & 0o077, 0)

    def test_an_environment_cannot_be_mounted_twice(self):
        m = self.mount()
        line = self.assertFails(1, "mount", f"lmdb:{self.env}#main", self.folder("second"))
        self.assertRegex(line, r"(?i)mounted|use|held|lock")
        write(m / "f", b"first goes on")
        m.umount()
        self.mount(name="second")

    def test_the_daemon_holds_nothing_of_its_parent(self):
        m = self.mount()
        self.assertEqual(os.readlink(f"/proc/{m.pid}/cwd"), "/")
        for fd in ("0", "1", "2"):
            self.assertEqual(os.readlink(f"/proc/{m.pid}/fd/{fd}"), "/dev/null")
        self.assertNotEqual(os.getsid(m.pid), os.getsid(0))


class Foreground(Test):
    def foreground(self, *options):
        folder = self.folder("mp")
        argv = [KVFS, "mount", "-f", *options, f"lmdb:{self.env}#main", folder]
        p = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end, p, folder)
        eventually(lambda: is_mounted(folder), seconds=10)
        return p, folder

    def end(self, p, folder):
        if p.poll() is None:
            p.kill()
        p.wait()
        p.stderr.close()
        run("fusermount3", "-uz", folder, check=False)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                p, folder = self.foreground()
                write(f"{folder}/f", b"committed")
                p.send_signal(number)
                self.assertEqual(p.wait(30), 0)
                self.assertFalse(is_mounted(folder))
                self.assertEqual(self.store.dump(), {b"f": b"committed"})
                os.rmdir(folder)

    def test_umount(self):
        p, folder = self.foreground()
        run(KVFS, "umount", folder)
        self.assertEqual(p.wait(30), 0)

    def test_logs_to_standard_error(self):
        p, folder = self.foreground("-o", "debug")
        write(f"{folder}/f")
        p.send_signal(signal.SIGTERM)
        out = p.communicate(timeout=30)[1]
        self.assertIn("kvfs: ", out)


@root_only
class Killed(Test):
    """A daemon that is killed while the kernel takes a notification of it, and has to wait with that for an
    answer of the same daemon: only whoever aborts the connection ends them."""

    def wait_for(self, what, threads):
        def waits():
            for name in threads():
                with open(f"{name}/wchan") as f:
                    if f.read() == what:
                        return True
        eventually(waits, 20, what)

    def finish(self, process):
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()

    def hang(self, m, clock):
        """Who asked, and who keeps the answer back."""
        write(m / "e", b"ends soon")
        os.setxattr(m / "e", "user.kv.ttl", b"5")
        locked = subprocess.Popen([LMDBTOOL, self.env, "lock"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.finish, locked)
        self.assertEqual(locked.stdout.readline(), "ready\n")
        asking = subprocess.Popen(["setfattr", "-n", "user.asks", "-v", "it", m.root], stderr=subprocess.PIPE)
        self.addCleanup(self.finish, asking)
        self.wait_for("request_wait_answer", lambda: [f"/proc/{asking.pid}"])
        clock.advance(10)
        self.wait_for("fuse_reverse_inval_entry", lambda: glob.glob(f"/proc/{m.pid}/task/*"))
        os.kill(m.pid, signal.SIGKILL)
        eventually(lambda: read(f"/proc/{m.pid}/stat").rsplit(b") ")[1][:1] == b"Z")
        return asking, locked

    def end(self, m, asking, locked):
        self.assertNotEqual(asking.wait(20), 0)
        self.assertEqual(reap(m.pid), -signal.SIGKILL)
        m.forget()
        locked.stdin.close()
        locked.wait(20)

    def test_its_mount_ends(self):
        clock = Clock(self.tmp)
        m = self.mount("sync", clock=clock)
        asking, locked = self.hang(m, clock)
        run(KVFS, "umount", m.root, timeout=20)
        self.assertFalse(is_mounted(m.root))
        self.end(m, asking, locked)

    def test_another_takes_its_place(self):
        clock = Clock(self.tmp)
        m = self.mount("sync", clock=clock)
        asking, locked = self.hang(m, clock)
        killed, m.pid = m.pid, None
        again = threading.Thread(target=m.start)
        again.start()
        self.assertNotEqual(asking.wait(20), 0)
        locked.stdin.close()
        again.join(30)
        self.assertEqual(reap(killed), -signal.SIGKILL)
        eventually(lambda: os.listdir(m.root) == [])

    def test_a_test_ends_too(self):
        clock = Clock(self.tmp)
        m = self.mount("sync", clock=clock)
        asking, locked = self.hang(m, clock)
        m.abandon()
        self.assertNotEqual(asking.wait(20), 0)
        locked.stdin.close()


class Refusals(Test):
    def refused(self, *argv):
        return self.assertFails(1, "mount", *argv)

    def test_mount_points(self):
        source, full = f"lmdb:{self.env}#main", self.folder("full")
        file = os.path.join(self.tmp, "file")
        write(file)
        write(f"{full}/inside")
        self.refused(source, os.path.join(self.tmp, "absent"))
        self.refused(source, file)
        self.assertRegex(self.refused(source, full), "(?i)empty")
        self.assertFalse(exists(self.env), "a store was made for a mount that cannot be")
        m = self.mount("nonempty", name="full")
        self.assertEqual(os.listdir(m.root), [])

    def test_sources(self):
        mp = self.folder("mp")
        write(os.path.join(self.tmp, "file"), b"not a directory")
        for source in ("", "lmdb:", "lmdb:#ns", "nonsense:x", "http://example.com",
                       f"lmdb:{self.tmp}/file", f"lmdb:{self.tmp}/file/below", f"lmdb:{self.env}#",
                       f"lmdb:{self.env}#" + "n" * 600):
            with self.subTest(source):
                done = run(KVFS, "mount", source, mp, check=False)
                self.assertIn(done.returncode, (1, 2))
                self.assertRegex(done.stderr, r"\Akvfs: mount: [^\n]+: [^\n]+\n\Z")
                self.assertFalse(is_mounted(mp))
        self.assertEqual(read(os.path.join(self.tmp, "file")), b"not a directory")

    def test_read_only_makes_nothing(self):
        mp = self.folder("mp")
        self.refused("-r", f"lmdb:{self.env}", mp)
        self.refused("-o", "ro", f"lmdb:{self.env}#main", mp)
        self.assertFalse(exists(self.env))
        self.store.create("other")
        self.refused("-r", f"lmdb:{self.env}#main", mp)
        self.assertEqual(self.store.names(), ["other"])

    def broken(self, name, data):
        folder = self.folder(name)
        write(f"{folder}/data.mdb", data)
        self.refused(f"lmdb:{folder}#main", self.folder(name + "-mp"))
        self.assertEqual(read(f"{folder}/data.mdb"), data, "a broken environment was changed")

    def test_broken_environments(self):
        self.store.put({b"%d" % i: b"v" * 500 for i in range(2000)})
        self.store.put({b"more": b"v"})  # now the first page is not that of an empty store
        good = read(self.env + "/data.mdb")
        self.broken("random", os.urandom(100_000))
        self.broken("text", b"this is a text file\n" * 1000)
        self.broken("short", good[:4000])
        self.broken("one-page", good[:4096])
        self.broken("cut", good[:len(good) // 2])
        self.broken("zeroes", bytes(len(good)))
        self.broken("old-version", good[:20] + b"\x63\0\0\0" + good[24:4096] + good[4096:4116]
                    + b"\x63\0\0\0" + good[4120:])

    def test_a_tree_without_an_end(self):
        """Pages that all lead to one page, on many levels: reading it would take for ever."""
        size, levels, wide = 4096, 12, 100

        def page(number, flags, entries):
            at, offsets, body = size, b"", b""
            for entry in entries:
                at -= len(entry)
                offsets, body = offsets + struct.pack("<H", at), entry + body
            head = struct.pack("<QHHHH", number, 0, flags, 16 + len(offsets), at)
            return head + offsets + bytes(at - 16 - len(offsets)) + body

        def meta(number):
            free = struct.pack("<IHHQQQQQ", size, 8, 0, 0, 0, 0, 0, 2**64 - 1)
            main = struct.pack("<IHHQQQQQ", 0, 0, levels + 1, levels, 1, 0, 1000, 2)
            what = struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 30) + free + main
            what += struct.pack("<QQ", 1000, 6 + number)
            return (struct.pack("<QHHI", number, 0, 8, 0) + what).ljust(size, b"\0")

        def branch(to):
            return [struct.pack("<HHHH", to, 0, 0, 2 * (i > 0)) + (b"%02d" % i if i else b"")
                    for i in range(wide)]

        leaf = struct.pack("<HHHH", 2, 0, 0, 2) + b"kkvv"
        data = meta(0) + meta(1) + b"".join(page(2 + i, 1, branch(3 + i)) for i in range(levels))
        self.broken("endless", data + page(2 + levels, 2, [leaf]))

    def test_data_file_that_is_a_directory(self):
        os.makedirs(self.env + "/data.mdb")
        self.refused(f"lmdb:{self.env}#main", self.folder("mp"))
        self.assertEqual(os.listdir(self.env + "/data.mdb"), [])

    @ordinary_only
    def test_no_permission(self):
        self.store.put({b"k": b"v"})
        mp = self.folder("mp")
        os.chmod(self.env + "/data.mdb", 0o000)
        self.assertRegex(self.refused(f"lmdb:{self.env}#main", mp), "(?i)permission")
        os.chmod(self.env + "/data.mdb", 0o600)
        os.chmod(self.env, 0o000)
        self.assertRegex(self.refused(f"lmdb:{self.env}#main", mp), "(?i)permission")
        os.chmod(self.env, 0o700)
        self.refused("lmdb:/proc/kvfs#main", mp)
        os.chmod(mp, 0o555)
        self.refused(f"lmdb:{self.env}#main", mp)
        self.assertEqual(self.store.dump(), {b"k": b"v"})

    @ordinary_only
    def test_allow_other_needs_user_allow_other(self):
        with open("/etc/fuse.conf") as f:
            if any(line.strip() == "user_allow_other" for line in f):
                self.skipTest("/etc/fuse.conf has user_allow_other")
        line = self.refused("-o", "allow_other", f"lmdb:{self.env}#main", self.folder("mp"))
        self.assertIn("user_allow_other", line)

    @root_only
    def test_no_fuse_device(self):
        mp = self.folder("mp")
        hide = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
        done = run("unshare", "-m", "sh", "-c", hide, "sh",
                   KVFS, "mount", f"lmdb:{self.env}#main", mp, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Akvfs: mount: [^\n]*fuse[^\n]*: [^\n]+\n\Z")

    def test_logs_that_cannot_be(self):
        mp = self.folder("mp")
        self.refused("-o", f"log={self.tmp}/no/such/folder", f"lmdb:{self.env}#main", mp)
        os.symlink("elsewhere", os.path.join(self.tmp, "link"))
        self.refused("-o", f"log={self.tmp}/link", f"lmdb:{self.env}#main", mp)
        self.assertFalse(exists(os.path.join(self.tmp, "elsewhere")))


class Usage(Test):
    def test_help_and_version(self):
        for argv in (["--help"], ["mount", "--help"], ["umount", "--help"], ["status", "--help"],
                     ["sync", "--help"], ["path", "--help"], ["key", "--help"]):
            done = run(KVFS, *argv)
            self.assertRegex(done.stdout, r"(?i)usage")
            self.assertEqual(done.stderr, "")
        self.assertRegex(run(KVFS, "--version").stdout, r"\Akvfs \d+\.\d+\.\d+\n\Z")

    def test_wrong_arguments(self):
        for argv in ([], ["frobnicate"], ["--nonsense"], ["mount"], ["mount", "lmdb:x"],
                     ["mount", "lmdb:x", "y", "z"], ["mount", "--nonsense", "lmdb:x", "y"],
                     ["mount", "-o"], ["umount"], ["umount", "a", "b"], ["status"], ["sync"],
                     ["status", "--xml", "x"], ["sync", "a", "b"]):
            self.assertUsage(*argv)

    def test_wrong_options(self):
        mp = self.folder("mp")
        for option in ("nonsense", "nonsense=1", "ttl=x", "ttl=-1", "ttl=", "umask=9",
                       "umask=01777", "uid=x", "gid=-1", "commit_interval=x", "commit_interval=-1",
                       "separator=", "ro=yes", "sync=1"):
            with self.subTest(option):
                done = run(KVFS, "mount", "-o", option, f"lmdb:{self.env}#main", mp, check=False)
                self.assertIn(done.returncode, (1, 2))
                self.assertIn(option.split("=")[0], done.stderr)
                self.assertFalse(is_mounted(mp))
        self.assertFalse(exists(self.env))

    def test_not_a_kvfs_mount(self):
        folder = self.folder("plain")
        for command in ("umount", "status", "sync"):
            self.assertFails(1, command, folder)
            self.assertFails(1, command, os.path.join(self.tmp, "absent"))
        for command in ("status", "sync"):
            self.assertFails(1, command, "/proc")

    @root_only
    def test_umount_takes_away_no_other_filesystem(self):
        folder = self.folder("tmpfs")
        run("mount", "-t", "tmpfs", "tmpfs", folder)
        self.addCleanup(run, "umount", folder)
        self.assertFails(1, "umount", folder)
        self.assertTrue(is_mounted(folder))


class Options(Test):
    def test_status(self):
        m = self.mount(source=f"lmdb:{self.env}", name="mp")
        os.mkdir(m / "ns")
        write(m / "ns/f", b"x" * 1000)
        m.sync()
        st = m.status()
        self.assertEqual(st["source"], f"lmdb:{self.env}")
        self.assertEqual(st["mountpoint"], m.root)
        self.assertEqual(st["namespaces"], ["ns"])
        self.assertEqual((st["pending"], st["pending_bytes"], st["error"]), (0, 0, None))
        self.assertGreater(st["store_bytes"], 1000)
        self.assertGreater(st["commits"], 0)
        self.assertIn("kvfs", read(f"/proc/{st['pid']}/comm").decode())
        read(m / "ns/f")
        write(m / "ns/g", b"y")
        m.sync()
        later = m.status()
        self.assertGreater(later["writes"], st["writes"])
        self.assertGreater(later["commits"], st["commits"])
        self.assertGreaterEqual(later["reads"], st["reads"])
        self.assertEqual(run(KVFS, "--version").stdout.split()[1], st["version"])
        text = run(KVFS, "status", m.root).stdout
        self.assertIn(f"lmdb:{self.env}", text)
        self.assertIn(m.root, text)

    def test_status_from_within_and_with_a_slash(self):
        m = self.mount()
        os.mkdir(m / "d")
        for path in (m.root + "/", os.path.join(self.tmp, ".", os.path.basename(m.root))):
            self.assertEqual(json.loads(run(KVFS, "status", "--json", path).stdout)["pid"], m.pid)
        run(KVFS, "umount", m.root + "/")
        self.assertFalse(is_mounted(m.root))
        m.forget()

    def test_log_file(self):
        m = self.mount("debug")
        write(m / "f")
        m.umount()
        self.assertMode(m.log, 0o600)
        self.assertIn(b"kvfs: ", read(m.log))

    @root_only
    def test_owner_of_foreign_keys(self):
        self.store.put({b"k": b"v"})
        m = self.mount("uid=1234", "gid=4321", "umask=077")
        st = os.stat(m / "k")
        self.assertEqual((st.st_uid, st.st_gid), (1234, 4321))
        self.assertMode(m / "k", 0o600)
        self.assertMode(m.root, 0o700)

    def test_options_add_up(self):
        m = self.mount("separator=:", "ttl=100", "noinherit", "sync", "commit_interval=10",
                       "umask=022")
        os.mkdir(m / "d")
        write(m / "d/f", b"v")
        self.assertEqual(self.store.dump(), {b"d:f": b"v"})
        self.assertIn(int(os.getxattr(m / "d/f", "user.kv.ttl")), range(90, 101))

    @root_only
    def test_allow_other(self):
        m = self.mount("allow_other", "umask=022")
        write(m / "f", b"for all")
        os.chmod(m.root, 0o755)
        out = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat",
                  m / "f").stdout
        self.assertEqual(out, "for all")

    def test_in_the_mount_table(self):
        m = self.mount()
        lines = [x.split() for x in read("/proc/self/mounts").decode().splitlines()]
        line = next(x for x in lines if x[1] == m.root)
        self.assertEqual(line[2], "fuse.kvfs")
        self.assertLessEqual({"nosuid", "nodev"}, set(line[3].split(",")))
