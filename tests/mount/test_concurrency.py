"""Several threads and processes at once. Also what the ThreadSanitizer build runs."""

import os
import random
import subprocess
import sys
import threading
import time
import unittest

from harness import LMDBTOOL, PLAIN, Test, eventually, exists, read, write
from syscalls import RENAME_EXCHANGE, renameat2


def together(*jobs):
    """Runs every job in a thread of its own; raises the first error."""
    problems = []

    def guarded(job):
        try:
            job()
        except BaseException as e:  # handed to the caller below
            problems.append(e)

    threads = [threading.Thread(target=guarded, args=(j,)) for j in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if problems:
        raise problems[0]


class Concurrency(Test):
    LIMIT = 240

    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_two_processes_append(self):
        code = ("import os,sys\nfd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
                "for i in range(1500): os.write(fd,b'%s %04d\\n'%(sys.argv[2].encode(),i))\n")
        both = [subprocess.Popen([sys.executable, "-c", code, self.m / "log", who])
                for who in ("a", "b")]
        self.assertEqual([p.wait(60) for p in both], [0, 0])
        for _ in range(2):
            lines = read(self.m / "log").decode().splitlines()
            for who in ("a", "b"):
                self.assertEqual([x for x in lines if x[0] == who],
                                 [f"{who} {i:04d}" for i in range(1500)])
            self.assertEqual(len(lines), 3000)
            self.m.remount()

    def test_many_files_by_many_threads(self):
        def job(n):
            rng = random.Random(n)
            os.mkdir(self.m / f"t{n}")
            for i in range(150):
                path = self.m / f"t{n}/{i}"
                write(path, f"{n} {i} " * rng.randrange(1, 300))
                if i % 3 == 0:
                    os.rename(path, path + "-moved")
                elif i % 3 == 1:
                    os.unlink(path)
        together(*[lambda n=n: job(n) for n in range(6)])
        for _ in range(2):
            for n in range(6):
                names = os.listdir(self.m / f"t{n}")
                self.assertEqual(set(names), {f"{i}-moved" if i % 3 == 0 else f"{i}"
                                              for i in range(150) if i % 3 != 1})
                for name in names:
                    i = name.removesuffix("-moved")
                    text = read(self.m / f"t{n}/{name}").decode()
                    self.assertEqual(text, f"{n} {i} " * text.count(f"{n} {i} "))
                    self.assertTrue(text)
            self.m.remount()

    def test_exclusive_create_has_one_winner(self):
        for round_number in range(40):
            wins = []

            def job():
                try:
                    fd = os.open(self.m / f"lock{round_number}",
                                 os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                    os.close(fd)
                    wins.append(1)
                except FileExistsError:
                    pass
            together(*[job] * 4)
            self.assertEqual(len(wins), 1)

    def test_rename_replaces_in_one_step(self):
        write(self.m / "f", b"0" * 5000)
        done = threading.Event()

        def writer():
            try:
                for i in range(200):
                    write(self.m / "tmp", b"%d" % (i % 10) * 5000)
                    os.rename(self.m / "tmp", self.m / "f")
            finally:
                done.set()

        def reader():
            while not done.is_set():
                self.assertEqual(os.stat(self.m / "f").st_size, 5000)
                data = read(self.m / "f")
                self.assertEqual(data, data[:1] * 5000)
        together(writer, reader, reader)

    def test_directories_move_under_writers(self):
        os.makedirs(self.m / "a/x")
        os.makedirs(self.m / "b/y")
        done = threading.Event()
        written = []

        def mover():
            try:
                for _ in range(60):
                    renameat2(self.m / "a", self.m / "b", RENAME_EXCHANGE)
                    os.rename(self.m / "a", self.m / "c")
                    os.rename(self.m / "c", self.m / "a")
            finally:
                done.set()

        def writer(n):
            i = 0
            while not done.is_set():
                for where in ("a/x", "b/x"):
                    try:
                        write(self.m / f"{where}/{n}-{i}", f"{n}-{i}")
                        written.append(f"{n}-{i}")
                        break
                    except (FileNotFoundError, NotADirectoryError):
                        pass
                i += 1
        together(mover, lambda: writer(1), lambda: writer(2))
        self.m.remount()
        where = next(p for p in ("a/x", "b/x") if exists(self.m / p))
        for name in set(written):
            self.assertEqual(read(self.m / f"{where}/{name}"), name.encode())

    def test_attributes_and_listings_while_files_change(self):
        done = threading.Event()

        def changer():
            try:
                for i in range(300):
                    write(self.m / f"k{i % 20}", f"{i}")
                    os.setxattr(self.m / f"k{i % 20}", "user.kv.ttl", b"1000")
                    os.setxattr(self.m / f"k{i % 20}", "user.n", b"%d" % i)
            finally:
                done.set()

        def looker():
            while not done.is_set():
                for entry in os.scandir(self.m.root):
                    entry.stat()
                    os.listxattr(entry.path)
        together(changer, looker, looker)
        self.assertEqual(len(os.listdir(self.m.root)), 20)
        self.m.remount()
        self.assertEqual(read(self.m / "k19"), b"299")
        self.assertEqual(os.getxattr(self.m / "k19", "user.n"), b"299")

    @unittest.skipIf(PLAIN, "about kvfs")
    def test_fsync_by_many_threads(self):
        def job(n):
            for i in range(30):
                with open(self.m / f"{n}-{i}", "wb", buffering=0) as f:
                    f.write(b"durable")
                    os.fsync(f.fileno())
        together(*[lambda n=n: job(n) for n in range(6)])
        self.assertEqual(len(self.store.dump()), 180)

    @unittest.skipIf(PLAIN, "about kvfs")
    def test_foreign_writers_meanwhile(self):
        def ours():
            for i in range(100):
                write(self.m / f"ours{i}", b"mine")

        def theirs():
            for i in range(40):
                self.store.put({b"theirs%d" % i: b"foreign"})
        together(ours, theirs)
        self.m.sync()
        eventually(lambda: len(os.listdir(self.m.root)) == 140)
        self.assertEqual(len(self.store.dump()), 140)
        self.assertEqual(read(self.m / "theirs39"), b"foreign")


def processor_seconds(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


@unittest.skipIf(PLAIN, "about kvfs")
class Waiting(Test):
    """Requests that wait hold up no others; and who waits for requests does not do so in vain."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        for i in range(20):
            write(self.m / f"k{i}", b"%d" % i)
        self.m.sync()

    def test_fsyncs(self):
        errors = []

        def job(i):
            try:
                with open(self.m / f"s{i}", "wb", buffering=0) as f:
                    f.write(b"durable")
                    os.fsync(f.fileno())
            except BaseException as e:
                errors.append(e)
        threads = [threading.Thread(target=job, args=(i,)) for i in range(20)]
        with subprocess.Popen([LMDBTOOL, self.env, "lock"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as p:
            self.assertEqual(p.stdout.readline(), "ready\n")
            for t in threads:
                t.start()
            time.sleep(0.3)  # so that they wait, if they are to; the rest holds if they do not yet
            began = time.monotonic()
            for i in range(20):
                self.assertEqual(read(self.m / f"k{i}"), b"%d" % i)
                write(self.m / f"new{i}", b"meanwhile")
            self.assertIn("new19", os.listdir(self.m.root))
            took = time.monotonic() - began
            waited = sum(t.is_alive() for t in threads)
            p.stdin.close()
        for t in threads:
            t.join(30)
            self.assertFalse(t.is_alive())
        self.assertEqual(errors, [])
        self.assertEqual(waited, 20)
        self.assertLess(took, 5)
        self.assertEqual(sum(k.startswith(b"s") for k in self.store.dump()), 20)

    def test_the_daemon_sleeps_when_it_is_idle(self):
        for _ in range(200):
            write(self.m / "k1", b"busy")
        self.m.sync()

        def idle():
            before = processor_seconds(self.m.pid)
            time.sleep(0.5)
            return processor_seconds(self.m.pid) - before < 0.01
        eventually(idle, 10, "half a second without work")
