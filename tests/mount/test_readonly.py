"""A store that may not be written to: a read-write mount says why, a read-only one works beside others."""

import errno
import os

from harness import Test, ordinary_only, read, root_only, run


class ReadOnlyStore(Test):
    def setUp(self):
        super().setUp()
        self.pairs = {b"k": b"v", b"d/large": b"large" * 500_000, b"long" * 100: b"x"}
        self.store.put(self.pairs)
        first = self.mount()  # makes what kvfs needs
        os.setxattr(first / "k", "user.kv.metadata", b"[1]")
        first.umount()
        self.files = sorted(os.listdir(self.env))

    def clean(self):
        for m in self.mounts:
            m.umount()
        if os.path.ismount(self.env):
            run("umount", "-l", self.env)
        os.chmod(self.env, 0o700)
        super().clean()

    def refused(self, reason):
        line = self.assertFails(1, "mount", f"lmdb:{self.env}#main", self.folder("refused"))
        self.assertIn(reason, line)
        self.assertEqual(sorted(os.listdir(self.env)), self.files)

    def read_only_works(self):
        """Twice at a time, with everything there is, and nothing is left behind."""
        before = read(self.env + "/data.mdb")
        one, two = self.mount("ro"), self.mount("ro")
        for m in (one, two):
            self.assertEqual(read(m / "k"), b"v")
            self.assertEqual(os.getxattr(m / "k", "user.kv.metadata"), b"[1]")
            self.assertEqual(read(m / "d/large"), self.pairs[b"d/large"])
            self.assertEqual(len(os.listdir(m.root)), 3)
            self.assertErrno(errno.EROFS, open, m / "new", "w")
            self.assertErrno(errno.EROFS, os.unlink, m / "k")
            m.sync()
        one.remount()
        one.umount()
        two.kill()
        two.start()
        self.assertEqual(read(two / "k"), b"v")
        two.umount()
        self.assertEqual(sorted(os.listdir(self.env)), self.files)
        self.assertEqual(read(self.env + "/data.mdb"), before)

    @ordinary_only
    def test_of_files_that_may_only_be_read(self):
        for name in self.files:
            os.chmod(os.path.join(self.env, name), 0o444)
        os.chmod(self.env, 0o555)
        self.refused("Permission denied")
        self.read_only_works()

    @ordinary_only
    def test_in_a_folder_that_may_only_be_read(self):
        """The lock file may be written to, but nothing may be made."""
        os.chmod(self.env, 0o555)
        m = self.mount()
        self.assertEqual(read(m / "k"), b"v")
        m.umount()
        self.read_only_works()

    @ordinary_only
    def test_without_a_lock_file(self):
        """Another program's backup, say: only the data."""
        os.unlink(self.env + "/lock.mdb")
        self.files.remove("lock.mdb")
        os.chmod(self.env + "/data.mdb", 0o444)
        os.chmod(self.env, 0o555)
        self.refused("Permission denied")
        self.read_only_works()

    @ordinary_only
    def test_beside_a_writer_it_is_refused(self):
        """Who cannot say what it reads would read what the writer puts in its place."""
        writer = self.mount()
        os.chmod(self.env + "/lock.mdb", 0o444)
        line = self.assertFails(1, "mount", "-o", "ro", f"lmdb:{self.env}#main", self.folder("refused"))
        self.assertRegex(line, "another program has it open, and its lock.mdb may not be written to")
        writer.umount()
        m = self.mount("ro")
        self.assertEqual(read(m / "k"), b"v")
        self.assertIn("it is read without locks", read(m.log).decode())

    @root_only
    def test_on_a_read_only_filesystem(self):
        run("mount", "--bind", self.env, self.env)
        run("mount", "-o", "remount,bind,ro", self.env)
        self.refused("Read-only file system")
        self.read_only_works()
        run("umount", self.env)
        m = self.mount()
        self.assertEqual(read(m / "k"), b"v")
