"""The commands among themselves: one mount after another, other people's mounts, what they say."""

import os
import select
import signal
import subprocess

from harness import (KVFS, Test, eventually, exists, is_mounted, read, reap, root_only, run, write)


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
