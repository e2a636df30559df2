"""The commands among themselves: one mount after another, other people's mounts, what they say."""

import ctypes
import errno
import os
import select
import signal
import subprocess
import tempfile

from harness import (KVFS, Mount, Store, Test, eventually, exists, is_mounted, read, reap, root_only, run,
                     write)

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
libc = ctypes.CDLL(None)


class Daemon(Test):
    def test_keeps_nothing_of_its_callers_open(self):
        folder = self.folder("mp")
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        run(KVFS, "mount", "-o", f"log={self.tmp}/log", f"lmdb:{self.env}#main", folder,
            pass_fds=[theirs])
        try:
            os.close(theirs)
            ended, _, _ = select.select([ours], [], [], 5)
            self.assertTrue(ended, "the daemon has the pipe's other end")
        finally:
            run(KVFS, "umount", folder)
        self.assertIn(b"is mounted", read(f"{self.tmp}/log"))

    def test_killed_while_it_starts(self):
        """SIGTERM at any moment after the mount leaves no dead mount."""
        folder = self.folder("mp")
        for _ in range(30):
            p = subprocess.Popen([KVFS, "mount", "-f", f"lmdb:{self.env}#main", folder],
                                 stderr=subprocess.DEVNULL)
            try:
                while not is_mounted(folder) and p.poll() is None:
                    pass
                p.terminate()
                self.assertEqual(p.wait(30), 0)
                self.assertFalse(is_mounted(folder))
            finally:
                p.kill()
                p.wait()

    def test_failures_are_logged_too(self):
        """Nobody may be there to read standard error; and what did not happen is not claimed."""
        self.mount(name="first")
        log = f"{self.tmp}/log"
        line = self.assertFails(1, "mount", "-o", f"log={log}", self.env, self.folder("second"))
        text = read(log).decode()
        self.assertIn(line.split(": ", 2)[2], text)
        self.assertNotIn("is mounted at", text.replace(line.split(": ", 2)[2], ""))

    @root_only
    def test_a_mount_that_cannot_be_is_not_claimed(self):
        log, folder = f"{self.tmp}/log", self.folder("mp")
        hide = 'mount -t tmpfs none /dev && mknod -m 666 /dev/fuse c 1 3 && exec "$@"'
        done = run("unshare", "-m", "sh", "-c", hide, "sh", KVFS, "mount", "-o", f"log={log}",
                   self.env, folder, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(folder, read(log).decode())
        self.assertNotIn("is mounted at", read(log).decode())


@root_only
class OfAnotherUser(Test):
    """root looks after the mounts of users, which the kernel does not let it into."""

    USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    def setUp(self):
        if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
            self.share_fuse()
        super().setUp()
        os.chown(self.tmp, 65534, 65534)

    def share_fuse(self):
        """Some containers keep /dev/fuse for root: in a mount namespace of the test's own, not."""
        before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
        self.addCleanup(os.close, before)
        self.assertEqual(libc.unshare(CLONE_NEWNS | CLONE_FS), 0)
        self.addCleanup(libc.setns, before, CLONE_NEWNS)
        run("mount", "--make-rprivate", "/")
        for line in read("/proc/thread-self/mounts").decode().splitlines():
            if line.split()[2] == "fuse.kvfs":  # its daemon would not end before the test does
                run("umount", "-l", line.split()[1], check=False)
        folder = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, folder)
        run("mknod", "-m", "666", f"{folder}/fuse", "c", "10", "229")
        run("mount", "--bind", f"{folder}/fuse", "/dev/fuse")
        os.unlink(f"{folder}/fuse")

    def mount_theirs(self, *options):
        name = f"mnt{len(self.mounts)}"
        os.chown(self.folder(name), 65534, 65534)
        folder = os.path.join(self.tmp, f"daemon{len(self.mounts)}")
        m = Mount(f"lmdb:{self.env}#main", os.path.join(self.tmp, name), list(options), folder,
                  wrapper=self.USER)
        os.mkdir(folder)
        os.chown(folder, 65534, 65534)
        self.mounts.append(m)
        return m.start()

    def put(self, m, data):
        run(*self.USER, "sh", "-c", 'printf %s "$1" > "$0"', m / "k", data)

    def test_umount_waits(self):
        m = self.mount_theirs("commit_interval=60000")
        self.put(m, "value")
        self.assertErrno(13, os.listdir, m.root)  # EACCES: or there is nothing to test
        run(KVFS, "umount", m.root)
        self.assertEqual(self.store.dump(), {b"k": b"value"})
        self.assertFalse(os.path.exists(f"/proc/{m.pid}/exe"), "it did not wait for the daemon")
        self.assertEqual(reap(m.pid), 0)
        m.forget()

    def test_sync_and_status(self):
        m = self.mount_theirs("commit_interval=60000")
        self.put(m, "value")
        run(KVFS, "sync", m.root)
        self.assertEqual(self.store.dump(), {b"k": b"value"})
        self.assertIn(str(m.pid), run(KVFS, "status", m.root).stdout)

    def test_what_a_killed_daemon_left(self):
        m = self.mount_theirs()
        m.kill()
        self.assertTrue(is_mounted(m.root))
        run(KVFS, "umount", m.root)
        self.assertFalse(is_mounted(m.root))

    def test_another_ordinary_user(self):
        m = self.mount_theirs()
        other = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
        for command in ("sync", "status", "umount"):
            done = run(*other, KVFS, command, m.root, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("another user", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
        self.put(m, "goes on")


class Hashes(Test):
    def source_of(self, text):
        m = self.mount(source=text)
        write(m / "k", b"v")
        m.umount()

    def test_in_the_name_of_a_namespace(self):
        self.source_of(f"lmdb:{self.env}#x#y")  # both the first time and when it is there
        self.source_of(f"lmdb:{self.env}#x#y")
        self.assertEqual(self.store.dump("x#y"), {b"k": b"v"})
        self.assertEqual(sorted(n for n in os.listdir(self.tmp) if n.startswith("env")), ["env"])

    def test_in_the_name_of_a_folder(self):
        folder = self.folder("a#b")
        self.source_of(f"lmdb:{folder}#ns")
        self.source_of(f"lmdb:{folder}/new#ns")
        self.folder("a")
        self.source_of(f"lmdb:{folder}/#other")
        for env, names in ((folder, ["ns", "other"]), (f"{folder}/new", ["ns"])):
            found = [n for n in Store(env).names() if not n.startswith("kvfs:")]
            self.assertEqual(found, names)
        self.assertEqual(os.listdir(f"{self.tmp}/a"), [])


class Messages(Test):
    def test_who_keeps_a_mount(self):
        m = self.mount()
        with open(m / "k", "w"):
            line = self.assertFails(1, "umount", m.root)
        self.assertIn(f"process {os.getpid()}", line)

    @root_only
    def test_what_keeps_a_mount(self):
        m = self.mount()
        os.mkdir(m / "d")
        inner = self.mount(source=f"lmdb:{self.tmp}/inner#x", name=f"{os.path.basename(m.root)}/d")
        self.assertIn(f"unmount {inner.root}", self.assertFails(1, "umount", m.root))
        inner.umount()
        m.umount()

    def test_names(self):
        self.assertIn('path: "": a key has', self.assertFails(1, "path", ""))
        self.assertIn('mount: "": ', self.assertFails(1, "mount", "", self.folder("mp")))
        self.assertEqual(run(KVFS, "path", "a:b", "-s", ":").stdout, "a/b\n")
        self.assertEqual(run(KVFS, "key", "-s", ":", "--", "-s/b").stdout, "-s:b\n")

    def test_refused_attributes(self):
        m = self.mount()
        os.mkdir(m / "d")
        write(m / "k")
        self.assertErrno(errno.EINVAL, os.setxattr, m / "d", "user.kv.metadata", b"{}")
        self.assertErrno(errno.ENOSPC, self.fill, m / "k")
        log = read(m.log).decode()
        self.assertIn("d/: user.kv.metadata refused: of these a directory has user.kv.ttl", log)
        self.assertIn("k: user.b refused: all attributes of a key have at most 65,536", log)

    def test_refused_names_and_sizes(self):
        m = self.mount("separator=:")
        os.makedirs(m / f"d/{'e' * 250}")
        long = m / f"d/{'e' * 250}/{'f' * 250}"
        os.mkdir(long)
        self.assertErrno(errno.ENAMETOOLONG, write, f"{long}/{'g' * 100}")
        self.assertErrno(errno.EINVAL, write, m / "d/x%2F%2E")
        write(m / "d/k", b"v")
        self.assertErrno(errno.EFBIG, os.truncate, m / "d/k", 1 << 40)
        self.assertEqual(read(m / "d/k"), b"v")
        log = read(m.log).decode()
        self.assertRegex(log, r"d:e+:f+:g+: refused: its key would have more than 512 bytes")
        self.assertRegex(log, r"d:x%2F%2E: refused: no key has this name")
        self.assertRegex(log, r"d:k: refused: a value has at most \d+ bytes")
        for i in range(1000):
            self.assertErrno(errno.EINVAL, write, m / f"d/{i}%2E")
        self.assertLess(read(m.log).count(b"refused"), 50)

    def fill(self, path):
        os.setxattr(path, "user.a", bytes(40_000))
        os.setxattr(path, "user.b", bytes(40_000))


class NotShown(Test):
    RECORDS = "the records of its unnamed database are in no namespace"

    def test_the_unnamed_database(self):
        self.store.tool("put", "", lines=[(b"hello", b"world")])
        m = self.mount(source=self.env)
        self.assertEqual(os.listdir(m.root), [])
        self.assertEqual(m.status()["not_shown"], ["records of the unnamed database"])
        self.assertIn("unnamed", run(KVFS, "status", m.root).stdout)
        m.umount()
        done = run(*m.command())
        m.pid = m.status()["pid"]
        self.assertRegex(done.stderr, rf"\Akvfs: mount: [^\n]*{self.RECORDS}[^\n]*\n\Z")
        m.umount()
        line = self.assertFails(1, "mount", f"{self.env}#hello", self.folder("mp"))
        self.assertIn("a record of the unnamed database", line)

    def test_databases_of_other_kinds(self):
        kinds = "dupsort", "integerkey", "reversekey"
        for kind in kinds:
            self.store.create(kind, kind)
        self.store.put({b"k": b"v"})
        m = self.mount(source=self.env)
        self.assertEqual(os.listdir(m.root), ["main"])
        self.assertEqual(m.status()["not_shown"], ["3 databases of other kinds"])
        for kind in kinds:
            self.assertIn(f"database {kind} is no plain map", read(m.log).decode())
        m.umount()
        self.assertEqual(self.mount("ro").status()["not_shown"], ["3 databases of other kinds"])

    def test_nothing_to_tell(self):
        self.store.put({b"k": b"v"})
        m = self.mount(source=self.env)
        m.remount()  # with databases of kvfs's own
        self.assertEqual(m.status()["not_shown"], [])


class Again(Test):
    def test_while_the_last_one_still_stores(self):
        """umount(8) returns before the daemon has ended; the next mount waits for it."""
        for i in range(10):
            m = self.mount("commit_interval=60000", name=f"m{i}")
            write(m / "k", b"%d" % i)
            run("fusermount3", "-u", m.root)
            again = self.mount(name=f"again{i}")
            self.assertEqual(read(again / "k"), b"%d" % i)
            self.assertEqual(reap(m.pid), 0)
            m.forget()
            again.umount()

    def test_right_after_a_kill(self):
        m = self.mount(name="mp")
        for i in range(20):
            os.kill(m.pid, signal.SIGKILL)
            killed = m.pid
            m.start()
            reap(killed)
            write(m / "k", b"%d" % i)
            self.assertEqual(read(m / "k"), b"%d" % i)

    def test_elsewhere_right_after_a_kill(self):
        m = self.mount()
        os.kill(m.pid, signal.SIGKILL)
        self.mount(name="elsewhere").umount()
        reap(m.pid)
        m.forget()

    def test_who_has_it(self):
        m = self.mount(name="first place")
        for source in (f"lmdb:{self.env}#other", f"{self.env}", f"lmdb:{self.env}/../env#main"):
            mp = self.folder("second")
            line = self.assertFails(1, "mount", source, mp)
            self.assertIn(f"process {m.pid}", line)
            self.assertIn(m.root, line)
            self.assertIn("-o ro", line)
            os.rmdir(mp)
        self.mount("ro", name="beside")

    def test_relative_sources_are_shown_in_full(self):
        folder = self.folder("mp")
        run(KVFS, "mount", "-o", f"log={self.tmp}/log", "env#main", "mp", cwd=self.tmp)
        try:
            self.assertIn(f"lmdb:{self.env}#main", run(KVFS, "status", folder).stdout)
        finally:
            run(KVFS, "umount", folder)
