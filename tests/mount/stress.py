"""Many threads on few names: what a test of races does to a mount, and what must hold meanwhile.

Stress(root, seed).run(seconds) lets THREADS threads do what their random numbers say. The name of
a file says what is done to it, and what therefore holds whenever somebody looks:

    a0..   replaced, exchanged, removed; never written in place: whoever opens one reads one whole value
    p0..   rewritten in place, by one write: who asks the daemon reads a whole value, or nothing yet; the
           store has a whole value
    e0..   as a0.., and they expire
    l0..   symbolic links, replaced likewise
    d0..   directories: made, removed, renamed, exchanged, put into each other, with files as a0.. in them
    s/     entries that stay, of which each listing has each once, among others that come and go
    t0..   all the rest: appended to, cut, mapped, copied, reserved; nothing is said of their content
    .w*    a thread's own, on the way to one of the others

A whole value says itself how long it is and what must be in it (value(), is_whole()). An errno that
the state of the names does not explain is a problem, and the first problem ends the run.
"""

import collections
import errno
import fcntl
import json
import mmap
import os
import random
import re
import struct
import sys
import threading
import time

from syscalls import FALLOC_KEEP_SIZE, RENAME_EXCHANGE, RENAME_NOREPLACE, Dir, change_mapped, fallocate, renameat2

THREADS = 32
STABLE = 40  # entries that stay
IN_PLACE = 3000  # bytes of a value that is rewritten in place: one page, one write
JOIN_SECONDS = 90
NAMES_ERRORS = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL,
                errno.ELOOP}
SIZES = (60, 60, 300, 4096, 5000, 20_000, 140_000)

HEAD = re.compile(rb"<(\S+) (\d+) (\d+)>")


def filled(head, size):
    return (head * (size // len(head) + 1))[:size]


def value(who, number, size):
    """The one value of this thread, number and size."""
    return filled(b"<%s %d %d>" % (who.encode(), number, size), size)


def is_whole(data):
    head = HEAD.match(data)
    return bool(head) and int(head[3]) == len(data) and data == filled(head[0], len(data))


class Problem(Exception):
    pass


class Stress:
    A, P, E, L, D, T = 6, 4, 4, 3, 5, 5
    errors = set()  # beyond NAMES_ERRORS: a store that fails by itself
    ttl = 2
    without = ()  # what this store has not

    def __init__(self, root, seed):
        self.root, self.seed = root, seed
        self.stop = threading.Event()
        self.problems = []
        self.done = collections.Counter()  # operations that went well, by name
        self.others = []  # what runs beside: functions that are called until it stops
        names = [n for n in dir(self) if n.startswith("do_") and n not in self.without]
        self.kinds = [(getattr(self, n), getattr(getattr(self, n), "weight", 2)) for n in sorted(names)]

    # --- running

    def prepare(self):
        os.mkdir(self / "s")
        for i in range(STABLE):
            with open(self / f"s/s{i:02d}", "wb") as f:
                f.write(value("s", i, 100))

    def __truediv__(self, name):
        return os.path.join(self.root, name)

    def run(self, seconds):
        threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(THREADS)]
        threads += [threading.Thread(target=self.beside, args=(f,), daemon=True) for f in self.others]
        for t in threads:
            t.start()
        self.stop.wait(seconds)
        self.stop.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for t in threads:
            t.join(max(0, deadline - time.monotonic()))
        hanging = sum(t.is_alive() for t in threads)
        if hanging:
            self.problem(f"{hanging} threads hang")
        return self.problems

    def problem(self, text):
        self.problems.append(text)
        self.stop.set()

    def work(self, number):
        rng = random.Random(f"{self.seed} {number}")
        kinds, weights = zip(*self.kinds)
        me = Worker(self, number, rng)
        while not self.stop.is_set():
            kind = rng.choices(kinds, weights)[0]
            try:
                if kind(me) is not False:
                    self.done[kind.__name__] += 1
            except OSError as e:
                if e.errno not in NAMES_ERRORS | self.errors:
                    self.problem(f"{kind.__name__}: {e!r} by {number}")
            except Exception as e:  # also what ends a thread is told
                self.problem(f"{kind.__name__}: {e!r} by {number}")

    def beside(self, job):
        try:
            while not self.stop.is_set():
                job()
        except Exception as e:
            self.problem(f"{job.__name__}: {e!r}")

    def unused(self):
        """What never went well: a stress without it would say less than it seems to."""
        return [f.__name__ for f, _ in self.kinds if not self.done[f.__name__]]

    # --- whole values

    def read(self, path, flags=0):
        fd = os.open(path, os.O_RDONLY | flags)
        try:
            parts = []
            while part := os.read(fd, 1 << 17):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def expect_whole(self, path, data):
        if not is_whole(data):
            raise Problem(f"{path} has {len(data)} bytes: {data[:80]!r}...{data[-40:]!r}")

    def do_read(self, me):
        path = self / me.one("aaaaed")
        self.expect_whole(path, self.read(path))
    do_read.weight = 8

    def do_replace(self, me):
        os.rename(me.write_own(), self / me.one("aaaed"))
    do_replace.weight = 6

    def do_put_unless_there(self, me):
        own = me.write_own()
        try:
            renameat2(own, self / me.one("aad"), RENAME_NOREPLACE)
        finally:
            if os.path.lexists(own):
                os.unlink(own)

    def do_exchange(self, me):
        renameat2(self / me.one("a"), self / me.one("aad"), RENAME_EXCHANGE)

    def do_rename(self, me):
        os.rename(self / me.one("ad"), self / me.one("ad"))

    def do_remove(self, me):
        os.unlink(self / me.one("aaed"))
    do_remove.weight = 1

    def do_remove_while_open(self, me):
        path = self / me.one("a")
        with open(path, "rb", buffering=0) as f:
            os.unlink(path)
            self.expect_whole(path, f.read())
            if os.fstat(f.fileno()).st_nlink > 1:
                raise Problem(f"{path} has more links than one")

    # --- in place

    def do_rewrite(self, me):
        fd = os.open(self / me.one("p"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, me.value(IN_PLACE))
            if me.rng.random() < 0.2:
                os.fsync(fd)
        finally:
            os.close(fd)
    do_rewrite.weight = 5

    def do_overwrite(self, me):
        fd = os.open(self / me.one("p"), os.O_WRONLY)
        try:
            os.pwrite(fd, me.value(IN_PLACE), 0)
        finally:
            os.close(fd)
    do_overwrite.weight = 3

    def do_read_in_place(self, me):
        """Past the page cache, in which Linux lets who reads see half a write."""
        path = self / me.one("p")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 8192)
        try:
            n = os.preadv(fd, [buffer], 0)
            if n:
                self.expect_whole(path, buffer[:n])
        finally:
            buffer.close()
            os.close(fd)
    do_read_in_place.weight = 5

    def do_move_in_place(self, me):
        flags = me.rng.choice((0, RENAME_NOREPLACE, RENAME_EXCHANGE))
        renameat2(self / me.one("p"), self / me.one("p"), flags)

    def do_remove_in_place(self, me):
        os.unlink(self / me.one("p"))
    do_remove_in_place.weight = 1

    # --- directories

    def do_mkdir(self, me):
        os.mkdir(self / me.folder())

    def do_rmdir(self, me):
        os.rmdir(self / me.folder())

    def do_move_folder(self, me):
        os.rename(self / me.folder(), self / me.folder())

    def do_exchange_folders(self, me):
        renameat2(self / me.folder(), self / me.folder(), RENAME_EXCHANGE)

    def do_empty_folder(self, me):
        folder = self / me.folder()
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    do_empty_folder.weight = 1

    def do_walk(self, me):
        for folder, dirs, files in os.walk(self.root, onerror=self.walk_error):
            if len({*dirs, *files}) != len(dirs) + len(files):
                raise Problem(f"{folder} lists a name twice: {sorted(dirs + files)}")
            for name in files[:5]:
                try:
                    os.lstat(os.path.join(folder, name))
                except FileNotFoundError:
                    pass
    do_walk.weight = 1

    def walk_error(self, e):
        if e.errno not in NAMES_ERRORS | self.errors:
            raise e

    # --- a directory with what stays and what does not

    def do_come(self, me):
        path = self / f"s/c{me.rng.randrange(30)}"
        with open(path, "wb") as f:
            f.write(me.value(200))
    do_come.weight = 3

    def do_go(self, me):
        os.unlink(self / f"s/c{me.rng.randrange(30)}")

    def do_pass(self, me):
        os.rename(self / f"s/c{me.rng.randrange(30)}", self / f"s/c{me.rng.randrange(30)}")

    def do_list(self, me):
        with Dir(self / "s") as d:
            names = d.rest()
        twice = [n for n, count in collections.Counter(names).items() if count > 1]
        missing = {f"s{i:02d}" for i in range(STABLE)} - set(names)
        if twice or missing:
            raise Problem(f"a listing has {twice} twice, and lacks {sorted(missing)}")
    do_list.weight = 3

    def do_look_at_stable(self, me):
        i = me.rng.randrange(STABLE)
        path = self / f"s/s{i:02d}"
        if self.read(path) != value("s", i, 100) or os.stat(path).st_nlink != 1:
            raise Problem(f"{path} has changed")

    # --- attributes

    def do_chmod(self, me):
        os.chmod(self / me.one("apsdt"), me.rng.choice((0o600, 0o644, 0o755)))

    def do_utime(self, me):
        os.utime(self / me.one("apsdt"), ns=(me.rng.randrange(1 << 60), me.rng.randrange(1 << 60)))

    def do_set_metadata(self, me):
        size = me.rng.randrange(500)
        text = json.dumps({"size": size, "pad": "x" * size})
        os.setxattr(self / me.one("apsd"), "user.kv.metadata", text.encode())

    def do_get_metadata(self, me):
        path = self / me.one("apsd")
        try:
            data = json.loads(os.getxattr(path, "user.kv.metadata"))
        except OSError as e:
            if e.errno == errno.ENODATA:
                return False
            raise
        if len(data["pad"]) != data["size"]:
            raise Problem(f"{path} has {data}")
    do_get_metadata.weight = 3

    def do_other_attributes(self, me):
        path = self / me.one("apsdt")
        for name in os.listxattr(path):
            try:
                os.getxattr(path, name)
                if name == "user.kv.metadata" and me.rng.random() < 0.3:
                    os.removexattr(path, name)
            except OSError as e:
                if e.errno != errno.ENODATA:
                    raise
        for name in ("user.kv.key", "user.kv.state"):
            os.getxattr(path, name)

    def do_stat(self, me):
        os.lstat(self / me.one("apedslt"))
        os.statvfs(self.root)

    def do_expire(self, me):
        path = self / me.one("e")
        os.setxattr(path, "user.kv.ttl", b"%d" % (self.ttl * me.rng.randrange(1, 3)))

    def do_born_to_expire(self, me):
        own = me.write_own()
        os.setxattr(own, "user.kv.ttl", b"%d" % self.ttl)
        os.rename(own, self / me.one("e"))

    # --- links and everything else

    def do_link(self, me):
        own = self / f".w{me.number}l"
        os.symlink(f"to-{me.number:02d}", own)
        os.rename(own, self / me.one("l"))

    def do_read_link(self, me):
        target = os.readlink(self / me.one("l"))
        if not re.fullmatch(r"to-\d\d", target):
            raise Problem(f"a link to {target!r}")

    def do_append(self, me):
        with open(self / me.one("t"), "ab", buffering=0) as f:
            f.write(me.value(100))
            if me.rng.random() < 0.2:
                os.fdatasync(f.fileno())

    def do_cut(self, me):
        path, size = self / me.one("t"), me.rng.choice((0, 0, 10, 5000, 100_000))
        if me.rng.random() < 0.5:
            os.truncate(path, size)
        else:
            with open(path, "r+b", buffering=0) as f:
                f.truncate(size)

    def do_write_anywhere(self, me):
        fd = os.open(self / me.one("t"), os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(fd, me.value(me.rng.choice(SIZES)), me.rng.randrange(200_000))
            os.pread(fd, 10_000, me.rng.randrange(200_000))
            os.lseek(fd, 0, me.rng.choice((os.SEEK_DATA, os.SEEK_HOLE)))
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
        finally:
            os.close(fd)

    def do_reserve(self, me):
        with open(self / me.one("t"), "r+b", buffering=0) as f:
            fallocate(f.fileno(), me.rng.choice((0, FALLOC_KEEP_SIZE)), 0, me.rng.randrange(1, 50_000))

    def do_map(self, me):
        """A file of its own: who cuts one that is mapped ends who writes to it (SIGBUS)."""
        path = me.write_own()
        with open(path, "r+b", buffering=0) as f:
            change_mapped(f.fileno(), me.value(60))
        os.rename(path, self / me.one("t"))

    def do_copy(self, me):
        with open(self / me.one("at"), "rb", buffering=0) as a, \
                open(self / me.one("t"), "r+b", buffering=0) as b:
            os.copy_file_range(a.fileno(), b.fileno(), 10_000)

    def do_move_anything(self, me):
        os.rename(self / me.one("t"), self / me.one("t"))

    def do_remove_anything(self, me):
        os.unlink(self / me.one("t"))
    do_remove_anything.weight = 1

    def do_lock(self, me):
        with open(self / me.one("ts"), "r+b", buffering=0) as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, me.rng.randrange(100))
                fcntl.fcntl(f, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            except BlockingIOError:
                return False
        return True

    def do_fsync_folder(self, me):
        fd = os.open(self / me.one("d").split("/")[0], os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    do_fsync_folder.weight = 1


class Worker:
    """One thread: its random numbers, and values that nobody else writes."""

    def __init__(self, stress, number, rng):
        self.stress, self.number, self.rng = stress, number, rng
        self.values = 0

    def value(self, size):
        self.values += 1
        return value(f"w{self.number}", self.values, size)

    def write_own(self):
        path = self.stress / f".w{self.number}"
        with open(path, "wb", buffering=0) as f:
            data = memoryview(self.value(self.rng.choice(SIZES)))
            while data:
                data = data[f.write(data):]
        return path

    def folder(self):
        name = f"d{self.rng.randrange(self.stress.D)}"
        return name if self.rng.random() < 0.8 else f"{name}/d{self.rng.randrange(self.stress.D)}"

    def one(self, sorts):
        """A name of one of these sorts."""
        sort = self.rng.choice(sorts)
        if sort == "s":
            return f"s/s{self.rng.randrange(STABLE):02d}"
        if sort == "d":
            return f"{self.folder()}/x{self.rng.randrange(4)}"
        return sort + str(self.rng.randrange(getattr(self.stress, sort.upper())))


class RemoteStress(Stress):
    """A Workers KV namespace keeps no modes and no links, and what expires lives for a minute at least."""
    without = ("do_link", "do_read_link", "do_expire", "do_born_to_expire")


def main():
    """stress.py ROOT SECONDS SEED: says in JSON what the problems are, and what never went well. By itself, so that
    nothing that it waits for waits for it: neither a server nor a program that this process starts."""
    root, seconds, seed = sys.argv[1:]
    s = RemoteStress(root, int(seed))
    s.prepare()
    problems = s.run(float(seconds))
    print(json.dumps({"problems": problems, "unused": s.unused()}), flush=True)
    os._exit(0)  # whatever hangs


if __name__ == "__main__":
    main()
