"""One environment, several programs: what other LMDB programs see and do while it is mounted."""

import errno
import os
import re
import subprocess
import threading

from harness import (LMDBTOOL, Test, eventually, exists, full_only, read, run, sanitized,
                     write)


class Shared(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_mdb_dump_shows_what_was_written(self):
        os.mkdir(self.m / "d")
        values = {b"a": b"text\n", b"d/b": bytes(range(256)), b"d/empty": b"",
                  b"big": os.urandom(300_000)}
        for key, value in values.items():
            write(self.m / key, value)
            os.setxattr(self.m / key, "user.kv.ttl", b"90000")
        eventually(lambda: self.store.dump() == values, what="all values in the store")
        os.unlink(self.m / "a")
        self.assertStored(b"a", None)

    def test_mdb_load_into_a_mounted_store(self):
        text = ("VERSION=3\nformat=print\ntype=btree\ndatabase=main\nHEADER=END\n"
                " loaded\n by mdb_load\nDATA=END\n")
        run("mdb_load", "-s", "main", self.env, input=text)
        eventually(lambda: read(self.m / "loaded") == b"by mdb_load")

    def test_a_new_foreign_key(self):
        self.assertFalse(exists(self.m / "k"))  # the kernel now knows that it is absent
        self.assertEqual(os.listdir(self.m.root), [])
        self.store.put({b"k": b"foreign", b"dir/k": b"deep"})
        eventually(lambda: exists(self.m / "k"))
        self.assertEqual(read(self.m / "k"), b"foreign")
        self.assertEqual(sorted(os.listdir(self.m.root)), ["dir", "k"])
        self.assertEqual(read(self.m / "dir/k"), b"deep")

    def test_opening_what_another_program_has_just_made(self):
        """However long ago the kernel looked for it, and found nothing."""
        for i, flags in enumerate((0, os.O_TRUNC, os.O_EXCL)):
            key = b"n%d" % i
            self.assertFalse(exists(self.m / key))
            self.store.put({key: b"foreign"})
            if flags == os.O_EXCL:
                self.assertErrno(errno.EEXIST, os.open, self.m / key, os.O_CREAT | os.O_RDWR | flags)
                continue
            fd = os.open(self.m / key, os.O_CREAT | os.O_RDWR | flags)
            self.assertEqual(os.read(fd, 100), b"" if flags else b"foreign")
            os.close(fd)

    def test_a_changed_foreign_value_of_the_same_size(self):
        write(self.m / "k", b"value one")
        self.m.sync()
        with open(self.m / "k", "rb", buffering=0) as f:
            self.assertEqual(os.pread(f.fileno(), 100, 0), b"value one")  # pages are cached
            before = os.stat(self.m / "k")
            self.store.put({b"k": b"value two"})
            eventually(lambda: os.pread(f.fileno(), 100, 0) == b"value two")
        self.assertEqual(read(self.m / "k"), b"value two")
        after = os.stat(self.m / "k")
        self.assertEqual(after.st_ino, before.st_ino)
        self.assertGreater(after.st_mtime_ns, before.st_mtime_ns)

    def test_a_changed_foreign_value_of_another_size(self):
        write(self.m / "k", b"short")
        os.setxattr(self.m / "k", "user.kv.metadata", b'"kept"')
        self.m.sync()
        self.store.put({b"k": b"much longer than before" * 1000})
        eventually(lambda: os.stat(self.m / "k").st_size == 23_000)
        self.assertEqual(read(self.m / "k"), b"much longer than before" * 1000)
        self.assertEqual(os.getxattr(self.m / "k", "user.kv.metadata"), b'"kept"')
        self.store.put({b"k": b""})
        eventually(lambda: read(self.m / "k") == b"")

    def test_a_deleted_foreign_key(self):
        write(self.m / "k", b"x")
        os.mkdir(self.m / "d")
        write(self.m / "d/k", b"x")
        self.m.sync()
        self.assertEqual(read(self.m / "k"), b"x")
        self.store.delete(b"k", b"d/k")
        eventually(lambda: not exists(self.m / "k"))
        eventually(lambda: os.listdir(self.m / "d") == [])
        self.assertErrno(errno.ENOENT, open, self.m / "k")
        self.assertEqual(os.listdir(self.m.root), ["d"])

    def test_damaged_records(self):
        for name in "abc":
            write(self.m / name, name.encode())
        self.m.umount()
        nodes = self.store.dump("kvfs:nodes")
        self.store.put({k: b"\xff" + v[1:] for k, v in nodes.items() if v}, ns="kvfs:nodes")
        self.m.start()
        self.assertEqual(sorted(os.listdir(self.m.root)), ["a", "b", "c"])
        self.assertEqual(read(self.m / "a"), b"a")
        write(self.m / "b", b"new")
        os.unlink(self.m / "c")
        self.m.remount()
        self.assertEqual(sorted(os.listdir(self.m.root)), ["a", "b"])
        self.assertEqual(read(self.m / "b"), b"new")
        self.assertEqual(self.m.tail().count("the record of a is damaged"), 1)

    def test_foreign_keys_come_and_go_below_a_directory(self):
        self.store.put({b"d/a": b"1"})
        eventually(lambda: os.listdir(self.m / "d") == ["a"])
        self.store.put({b"d/b": b"2", b"d": b"0"})
        eventually(lambda: sorted(os.listdir(self.m / "d")) == ["%value", "a", "b"])
        self.store.delete(b"d/a", b"d/b")
        eventually(lambda: os.path.isfile(self.m / "d"))
        self.assertEqual(read(self.m / "d"), b"0")

    def test_a_reader_that_died_is_no_hindrance(self):
        for _ in range(3):
            p = subprocess.Popen([LMDBTOOL, self.env, "hold"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
            self.assertEqual(p.stdout.readline(), "ready\n")
            p.kill()
            p.wait()
            p.stdin.close()
            p.stdout.close()
        for _ in range(60):
            write(self.m / "k", os.urandom(1 << 20))
            self.m.sync()
        self.assertLess(self.m.status()["store_bytes"], 40 << 20)

    def test_a_reader_that_lives(self):
        with subprocess.Popen([LMDBTOOL, self.env, "hold"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as p:
            self.assertEqual(p.stdout.readline(), "ready\n")
            for i in range(50):
                write(self.m / f"k{i}", b"x" * 10_000)
            self.m.sync()
            self.assertEqual(len(self.store.dump()), 50)
            p.stdin.close()


class Whole(Test):
    """Other programs see whole values only, whatever comes and goes while one is written."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        write(self.m / "k", b"old")
        self.m.sync()

    def assertWholeWhile(self, script):
        """The shell's script writes one\\n, waits for its standard input, and writes two\\n."""
        with subprocess.Popen(["bash", "-c", script, "bash", self.m / "k"],
                              stdin=subprocess.PIPE) as shell:
            eventually(lambda: read(self.m / "k") == b"one\n", what="the first half in the mount")
            self.m.sync()
            self.assertEqual(self.store.dump(), {b"k": b"old"})
            shell.stdin.close()
            self.assertEqual(shell.wait(), 0)
        self.m.sync()  # although the kernel may not have told of the shell's end yet
        self.assertEqual(self.store.dump(), {b"k": b"one\ntwo\n"})

    def test_commands_that_write_to_one_file(self):
        self.assertWholeWhile('{ echo one; /bin/true; read x; echo two; } >"$1"; true')

    def test_a_descriptor_that_commands_inherit(self):
        self.assertWholeWhile('exec 3>"$1"; /bin/echo one >&3; read x; /bin/echo two >&3')

    def test_a_command_that_has_written_nothing_yet(self):
        with subprocess.Popen(["bash", "-c", 'cat >"$1"', "bash", self.m / "k"],
                              stdin=subprocess.PIPE) as shell:
            eventually(lambda: os.stat(self.m / "k").st_size == 0, what="the file emptied")
            self.m.sync()
            self.assertEqual(self.store.dump(), {b"k": b"old"})
            shell.stdin.close()
            self.assertEqual(shell.wait(), 0)
        self.m.sync()
        self.assertEqual(self.store.dump(), {b"k": b""})

    def test_a_rewrite_that_begins_as_another_ends(self):
        for i in range(20):
            value = b"%d" % (i % 10) * 200_000
            with open(self.m / "k", "wb", buffering=0) as first:
                first.write(value)
            with open(self.m / "k", "wb", buffering=0) as second:
                second.write(b"half")
                self.m.sync()
                self.assertEqual(self.store.dump()[b"k"], value)


class Foreign(Test):
    """Environments that another program made."""

    def test_defaults_of_foreign_keys(self):
        self.store.put({b"k": b"v", b"d/k": b"v"})
        m = self.mount("umask=027")
        st = os.stat(m / "k")
        self.assertMode(m / "k", 0o640)
        self.assertEqual((st.st_uid, st.st_gid), (os.geteuid(), os.getegid()))
        self.assertTrue(os.path.isdir(m / "d"))
        m.remount()
        self.assertEqual(os.stat(m / "k").st_mtime_ns, st.st_mtime_ns)
        self.assertEqual(os.stat(m / "k").st_ino, st.st_ino)

    def test_everything_can_be_done_to_foreign_keys(self):
        self.store.put({b"%d" % i: b"v" for i in range(5)})
        m = self.mount()
        os.chmod(m / "0", 0o600)
        os.setxattr(m / "1", "user.kv.ttl", b"1000")
        os.rename(m / "2", m / "two")
        os.unlink(m / "3")
        write(m / "4", b"w", mode="ab")
        m.remount()
        self.assertMode(m / "0", 0o600)
        self.assertEqual(os.listxattr(m / "1"), ["user.kv.expiration"])
        self.assertEqual(self.store.dump(), {b"0": b"v", b"1": b"v", b"two": b"v", b"4": b"vw"})

    def test_maps_that_are_no_plain_maps_are_left_alone(self):
        self.store.put({b"k": b"v"}, ns="plain")
        self.store.create("dup", "dupsort")
        self.store.create("int", "integerkey")
        def dump(name):
            text = run("mdb_dump", "-s", name, self.env).stdout
            # A dump's header also tells how many readers the lock file has room for.
            return re.sub(r"(?m)^maxreaders=.*\n", "", text)

        before = {n: dump(n) for n in ("dup", "int")}
        m = self.mount(source=f"lmdb:{self.env}")
        self.assertEqual(os.listdir(m.root), ["plain"])
        for name in ("dup", "int"):
            self.assertErrno((errno.ENOENT, errno.EOPNOTSUPP), os.stat, m / name)
            self.assertErrno((errno.EEXIST, errno.EOPNOTSUPP, errno.EPERM), os.mkdir, m / name)
        m.umount()
        for name in ("dup", "int"):
            source = f"lmdb:{self.env}#{name}"
            line = self.assertFails(1, "mount", source, self.folder("no-" + name))
            self.assertRegex(line, r"(?i)dupsort|integerkey|flags|key-value")
        self.assertEqual({n: dump(n) for n in before}, before)

    def test_read_only(self):
        self.store.put({b"k": b"v"})
        m = self.mount("ro")
        self.assertEqual(read(m / "k"), b"v")
        self.assertErrno(errno.EROFS, open, m / "k", "w")
        self.assertErrno(errno.EROFS, open, m / "new", "w")
        self.assertErrno(errno.EROFS, os.unlink, m / "k")
        self.assertErrno(errno.EROFS, os.mkdir, m / "d")
        self.assertErrno(errno.EROFS, os.rename, m / "k", m / "l")
        self.assertErrno(errno.EROFS, os.chmod, m / "k", 0o600)
        self.assertErrno(errno.EROFS, os.setxattr, m / "k", "user.kv.ttl", b"9")
        self.store.put({b"k": b"changed", b"other": b"new"})
        eventually(lambda: read(m / "k") == b"changed")
        self.assertEqual(sorted(os.listdir(m.root)), ["k", "other"])
        m.umount()
        self.assertEqual(self.store.names(), ["main"])

    def test_read_only_leaves_no_trace(self):
        self.store.put({b"k": b"v"})
        before = read(self.env + "/data.mdb")
        m = self.mount("ro")
        self.assertEqual(read(m / "k"), b"v")
        self.assertEqual(os.listdir(m.root), ["k"])
        m.umount()
        self.assertEqual(read(self.env + "/data.mdb"), before)

    def test_a_store_is_unharmed_by_another_separator(self):
        m = self.mount("separator=:")
        os.mkdir(m / "a")
        write(m / "a/b", b"1")
        m.umount()
        other = self.mount("separator=/")
        self.assertEqual(read(other / "a:b"), b"1")
        write(other / "x:y", b"2")
        other.umount()
        m.start()
        self.assertEqual(read(m / "x/y"), b"2")


class Namespaces(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount(source=f"lmdb:{self.env}")

    def test_directories_of_the_root(self):
        m = self.m
        self.assertEqual(os.listdir(m.root), [])
        os.mkdir(m / "one")
        os.mkdir(m / "two")
        self.assertErrno(errno.EEXIST, os.mkdir, m / "one")
        write(m / "one/k", b"1")
        write(m / "two/k", b"2")
        m.sync()
        self.assertLessEqual({"one", "two"}, set(self.store.names()))
        self.assertEqual(self.store.dump("one"), {b"k": b"1"})
        self.assertEqual(self.store.dump("two"), {b"k": b"2"})
        self.assertErrno(errno.ENOTEMPTY, os.rmdir, m / "one")
        os.rename(m / "one", m / "eins")
        self.assertEqual(read(m / "eins/k"), b"1")
        self.assertNotIn("one", self.store.names())
        self.assertErrno(errno.ENOTEMPTY, os.rename, m / "eins", m / "two")
        os.unlink(m / "eins/k")
        os.rmdir(m / "eins")
        self.assertErrno(errno.ENOENT, os.rmdir, m / "eins")
        m.remount()
        self.assertEqual(os.listdir(m.root), ["two"])
        self.assertNotIn("eins", self.store.names())

    def test_directories_of_another_separator_go_along(self):
        os.mkdir(self.m / "one")
        os.mkdir(self.m / "two")
        for name in ("one", "two"):
            os.mkdir(self.m / f"{name}/d")
        self.assertErrno(errno.ENOTEMPTY, os.rmdir, self.m / "one")
        self.assertErrno(errno.ENOTEMPTY, os.rename, self.m / "one", self.m / "two")
        self.m.umount()
        m = self.mount("separator=:", source=f"lmdb:{self.env}")
        self.assertEqual(os.listdir(m / "one"), [])
        os.rename(m / "two", m / "one")
        self.assertEqual(os.listdir(m.root), ["one"])
        os.rmdir(m / "one")
        self.assertEqual(os.listdir(m.root), [])

    def test_no_files_in_the_root(self):
        os.mkdir(self.m / "ns")
        write(self.m / "ns/f")
        self.assertErrno(errno.EPERM, os.open, self.m / "f", os.O_CREAT | os.O_WRONLY)
        self.assertErrno(errno.EPERM, os.symlink, "x", self.m / "l")
        self.assertErrno(errno.EPERM, os.mkfifo, self.m / "p")
        self.assertErrno((errno.EPERM, errno.EXDEV), os.rename, self.m / "ns/f", self.m / "f")
        self.assertEqual(os.listdir(self.m.root), ["ns"])

    def test_names(self):
        for name in ("a%2Fb", "%empty1", "100%", "ü", "a:b", "%2E", "%25empty", "%252F"):
            os.mkdir(self.m / name)
            self.assertIn(name, os.listdir(self.m.root))
        for name in ("a%25b", "x%2E", "%252e"):
            self.assertFalse(exists(self.m / name))
            self.assertErrno(errno.EINVAL, os.mkdir, self.m / name)
        stored = self.store.names()
        self.assertLessEqual({"a/b", "%empty1", "100%", "a:b", ".", "%empty", "%2F"}, set(stored))
        write(self.m / "a%2Fb/k", b"v")
        self.m.remount()
        self.assertEqual(read(self.m / "a%2Fb/k"), b"v")

    def test_a_foreign_namespace_appears(self):
        self.assertFalse(exists(self.m / "later"))
        self.store.put({b"k": b"v"}, ns="later")
        eventually(lambda: os.path.isdir(self.m / "later"))
        self.assertEqual(read(self.m / "later/k"), b"v")
        self.assertEqual(os.listdir(self.m.root), ["later"])

    def test_moving_between_namespaces(self):
        os.mkdir(self.m / "one")
        os.mkdir(self.m / "two")
        write(self.m / "one/k", b"moved")
        run("mv", self.m / "one/k", self.m / "two/k")
        self.assertEqual(read(self.m / "two/k"), b"moved")
        self.assertEqual(os.listdir(self.m / "one"), [])

    def test_files_in_a_namespace_behave(self):
        os.mkdir(self.m / "ns")
        os.makedirs(self.m / "ns/d/e")
        write(self.m / "ns/d/e/f", b"x")
        os.rename(self.m / "ns/d", self.m / "ns/g")
        self.m.remount()
        self.assertEqual(read(self.m / "ns/g/e/f"), b"x")
        self.m.sync()
        self.assertEqual(self.store.dump("ns"), {b"g/e/f": b"x"})


class Large(Test):
    LIMIT = 600

    @full_only
    def test_a_gibibyte_in_bounded_memory(self):
        m = self.mount()
        peak, done = [0], threading.Event()

        def watch():
            while not done.wait(0.05):
                with open(f"/proc/{m.pid}/status") as f:
                    anon = next(line for line in f if line.startswith("RssAnon"))
                peak[0] = max(peak[0], int(anon.split()[1]))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            block = os.urandom(1 << 20)
            with open(m / "big", "wb", buffering=0) as f:
                for i in range(1024):
                    f.write(i.to_bytes(8, "big") + block[8:])
                os.fsync(f.fileno())
            with open(m / "big", "rb", buffering=0) as f:
                for i in range(1024):
                    self.assertEqual(f.read(1 << 20), i.to_bytes(8, "big") + block[8:], f"MiB {i}")
            with open(m / "big", "r+b") as f:
                f.seek(500 << 20)
                f.write(b"changed")
            m.sync()
        finally:
            done.set()
            watcher.join()
        if not sanitized():  # with sanitizers the store copies instead of mapping; release_tests looks
            self.assertLess(peak[0], 100_000, "KiB of anonymous memory")
        m.umount()
        self.assertGreater(os.stat(self.env + "/data.mdb").st_size, 1 << 30)
        m.start()
        with open(m / "big", "rb") as f:
            f.seek(500 << 20)
            self.assertEqual(f.read(7), b"changed")
        os.unlink(m / "big")
        m.sync()
        self.assertEqual(self.store.dump(), {})
