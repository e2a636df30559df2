"""What every mount test stands on: a daemon that is started, watched and ended.

Model. A test owns one temporary folder (Test.tmp). In it are the LMDB environment (Test.env), the
mount points, the daemons' logs and whatever the sanitizers have to say. Test.mount() starts a
real `kvfs mount` and gives back a Mount, which is ended after the test in every case: by `kvfs
umount` when all goes well, otherwise by ending the daemon (that pid and no other) and detaching
the mount point.

Whoever ends a Mount also judges it: the daemon's exit status is 0 and no sanitizer wrote a
report. The process is a "subreaper", so that daemons become its children and it learns how they
ended.

Waiting is always for something (eventually()), never for time to pass, and always bounded. A test
that exceeds its LIMIT has its daemons killed, which ends every call that hangs in them; and so has one
whose mount does not end. What their threads were doing is part of the failure.
"""

import ctypes
import errno
import glob
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
KVFS = os.environ.get("KVFS_TEST_BINARY", "kvfs")
LMDBTOOL = os.environ.get("KVFS_TEST_LMDBTOOL", "lmdbtool")
POSIX = os.environ.get("KVFS_TEST_POSIX", "posix")
PLAIN = os.environ.get("KVFS_TEST_PLAIN") == "1"  # a plain folder in the mount's place
FULL = os.environ.get("KVFS_TEST_FULL") == "1"
ROOT = os.geteuid() == 0

# What the contract says happens "within a second", with room for a sanitizer on a busy machine.
SECOND = 3.0
SANITIZER_WORDS = re.compile(r"(Address|Leak|Thread|Memory)Sanitizer|runtime error:|lock (order|watchdog):")
WATCHDOG = 45  # seconds that a daemon's thread may wait for a lock, in a build that looks (base/lock.h)

live_mounts = []  # started and not ended: what a test's watchdog kills

PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

root_only = unittest.skipUnless(ROOT, "needs root")
ordinary_only = unittest.skipIf(ROOT, "about an ordinary user")
full_only = unittest.skipUnless(FULL, "in a full run only")


def run(*argv, check=True, timeout=60, text=True, **more):
    """Runs a command to its end; raises, with its output, where it fails or takes too long."""
    more.setdefault("stdin", None if "input" in more else subprocess.DEVNULL)
    if more["stdin"] is None:
        del more["stdin"]
    argv = [os.fspath(a) for a in argv]
    done = subprocess.run(argv, capture_output=True, timeout=timeout, text=text, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{argv} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def sanitized():
    """Whether the kvfs under test was built with a sanitizer."""
    with open(shutil.which(KVFS) or KVFS, "rb") as f:
        program = f.read()
    return b"__asan_init" in program or b"__tsan_init" in program


def eventually(condition, seconds=SECOND, what=None):
    """Waits until condition() is true (AssertionError, OSError: not yet); its value."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        try:
            value = condition()
            if value:
                return value
            problem = f"last value: {value!r}"
        except (AssertionError, OSError) as e:
            problem = f"last error: {e}"
        if late:
            raise AssertionError(f"not within {seconds} s: {what or 'condition'}; {problem}")
        time.sleep(0.02)


def exists(path):
    """Whether the path is there; any answer but "yes" and "no such file" is an error."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def write(path, data=b"", mode="wb"):
    with open(path, mode) as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def read(path):
    with open(path, "rb") as f:
        return f.read()


def walk(top):
    """Every path below `top`, relative to it, as bytes: {path: is it a directory}."""
    top, found = os.fsencode(top), {}
    for folder, dirs, files in os.walk(top):
        for name in dirs:
            found[os.path.relpath(os.path.join(folder, name), top)] = True
        for name in files:
            found[os.path.relpath(os.path.join(folder, name), top)] = False
    return found


def mount_points():
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4] for line in f]


def is_mounted(path):
    return os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path) in mount_points()


def detach(path):
    """Takes a mount point away whatever state its daemon is in."""
    for argv in (["fusermount3", "-uz", path], ["umount", "-l", path]):
        if is_mounted(path):
            run(*argv, check=False)


def abort(path):
    """Ends the kernel's questions to the daemon of a mount, and the daemon's to the kernel, as far as we may.
    Else a daemon that is killed while it notifies the kernel, which waits for it, hangs for ever, as all
    who use the mount do."""
    path = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    with open("/proc/self/mountinfo") as f:
        numbers = [line.split()[2].split(":")[1] for line in f
                   if line.split()[4] == path and " - fuse.kvfs " in line]
    for number in numbers:
        file = f"/sys/fs/fuse/connections/{number}/abort"
        if os.access(file, os.W_OK):
            fd = os.open(file, os.O_WRONLY)
            try:
                os.write(fd, b"1")
            finally:
                os.close(fd)
        elif ROOT:
            run("unshare", "--mount", "--propagation", "private", "sh", "-c",
                f"mount -t fusectl none /sys/fs/fuse/connections && echo 1 >{file}", check=False)


def stacks(pid):
    """What every thread of a process is doing, as far as one can tell."""
    try:
        done = run("eu-stack", "-i", "-p", str(pid), check=False, timeout=30)
        return f"threads of {pid}:\n{done.stdout}{done.stderr}"
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"threads of {pid}: {e}"


def reap(pid, seconds=30):
    """The exit status of a daemon that is ending (negative: the signal that killed it)."""
    def ended():
        try:
            got, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None if os.path.exists(f"/proc/{pid}") else ("unknown",)
        return (os.waitstatus_to_exitcode(status),) if got else None
    return eventually(ended, seconds, f"the end of daemon {pid}")[0]


class Clock:
    """The time that a daemon sees (KVFS_CLOCK)."""

    def __init__(self, folder, now=1_800_000_000):
        self.file = os.path.join(folder, "clock")
        self.set(now)

    def set(self, now):
        self.now = now
        write(self.file + ".new", f"{now}\n")
        os.rename(self.file + ".new", self.file)

    def advance(self, seconds):
        self.set(self.now + seconds)


class Store:
    """An LMDB environment as other programs see it."""

    def __init__(self, folder):
        self.folder = folder

    def tool(self, *argv, lines=(), **more):
        text = "".join(f"{k.hex()} {v.hex()}\n" for k, v in lines)
        os.makedirs(self.folder, exist_ok=True)
        return run(LMDBTOOL, self.folder, *argv, input=text, **more).stdout

    def put(self, pairs, ns="main"):
        self.tool("put", ns, lines=pairs.items())

    def delete(self, *keys, ns="main"):
        self.tool("del", ns, lines=[(k, b"") for k in keys])

    def create(self, ns, kind="plain"):
        self.tool("create", ns, kind)

    def drop(self, ns):
        self.tool("drop", ns)

    def dump(self, ns="main"):
        """Every key and value, as mdb_dump says."""
        out = run("mdb_dump", "-s", ns, self.folder).stdout
        body = out.split("HEADER=END\n", 1)[1].split("DATA=END", 1)[0].split("\n")
        data = [bytes.fromhex(line.strip()) for line in body if line.startswith(" ")]
        return dict(zip(data[::2], data[1::2]))

    def names(self):
        return run("mdb_dump", "-l", self.folder).stdout.splitlines()


class Mount:
    """A running `kvfs mount`. m / "a/b" is a path in it."""

    def __init__(self, source, root, options, folder, clock=None, wrapper=()):
        self.source, self.root, self.options = source, root, list(options)
        self.folder, self.clock, self.wrapper = folder, clock, list(wrapper)
        self.pid = None
        self.log = os.path.join(folder, "log")
        self.reports = os.path.join(folder, "sanitizer")

    def __truediv__(self, path):
        if isinstance(path, bytes):
            return os.path.join(os.fsencode(self.root), path)
        return os.path.join(self.root, path)

    def environ(self):
        more = dict(os.environ)
        rest = f"log_path={self.reports}:exitcode=99"
        more["ASAN_OPTIONS"] = f"{rest}:quarantine_size_mb=16:detect_stack_use_after_return=1"
        more["UBSAN_OPTIONS"] = f"{rest}:print_stacktrace=1:halt_on_error=1"
        more["TSAN_OPTIONS"] = f"{rest}:halt_on_error=1:second_deadlock_stack=1"
        more["LSAN_OPTIONS"] = (f"exitcode=99:log_path={self.reports}:print_suppressions=0:"
                                f"suppressions={HERE}/../lsan.supp")
        more["KVFS_WATCHDOG"] = str(WATCHDOG)
        if self.clock:
            more["KVFS_CLOCK"] = self.clock.file
        return more

    def command(self, *flags):
        options = ",".join(self.options + [f"log={self.log}"])
        return [*self.wrapper, KVFS, "mount", *flags, "-o", options, self.source, self.root]

    def start(self):
        if not is_mounted(self.root):  # a stale mount point is for kvfs to clear
            os.makedirs(self.root, exist_ok=True)
        if PLAIN:
            return self
        live_mounts.append(self)
        try:
            run(*self.command(), env=self.environ())
            self.pid = self.status()["pid"]
        except BaseException:
            live_mounts.remove(self)
            detach(self.root)
            self.complain()
            raise
        return self

    def status(self):
        return json.loads(run(KVFS, "status", "--json", self.root).stdout)

    def sync(self):
        if not PLAIN:
            run(KVFS, "sync", self.root)

    def umount(self):
        """A clean end; everything about it is checked."""
        if PLAIN or self.pid is None:
            return
        try:
            try:
                run(KVFS, "umount", self.root)
                status = reap(self.pid)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                raise AssertionError(f"it does not end: {e}\n{stacks(self.pid)}\n{self.tail()}") from e
            self.forget()
            if status != 0:
                self.complain()
                raise AssertionError(f"the daemon exited {status}\n{self.tail()}")
            if is_mounted(self.root):
                raise AssertionError("still mounted after umount")
        finally:
            self.abandon()
        self.complain()

    def remount(self):
        self.umount()
        return self.start()

    def kill(self):
        """What a crash leaves behind: no daemon, a mount point that is stale."""
        os.kill(self.pid, signal.SIGKILL)
        reap(self.pid)
        self.forget()

    def abandon(self):
        """Whatever happened, no daemon and no mount remain."""
        if self.pid is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                abort(self.root)
                reap(self.pid)
            except ProcessLookupError:
                pass
            self.forget()
        detach(self.root)

    def forget(self):
        self.pid = None
        if self in live_mounts:
            live_mounts.remove(self)

    def tail(self):
        lines = read(self.log).decode(errors="replace").splitlines() if exists(self.log) else []
        return "log:\n" + "\n".join(lines[-30:])

    def complain(self):
        """Raises when a sanitizer has found something in any daemon of this mount."""
        files = glob.glob(glob.escape(self.reports) + ".*") + glob.glob(glob.escape(self.log))
        texts = [read(f).decode(errors="replace") for f in files]
        bad = [t for t in texts if SANITIZER_WORDS.search(t)]
        if bad:
            raise AssertionError("sanitizer report:\n" + "\n".join(bad)[:20000])


class Test(unittest.TestCase):
    """One temporary folder per test, one environment, any number of mounts."""

    LIMIT = 120  # seconds that a test may take
    maxDiff = 2000

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="kvfs-test-", dir="/tmp")
        os.chmod(self.tmp, 0o755)
        self.env = os.path.join(self.tmp, "env")
        self.store = Store(self.env)
        self.mounts = []
        self.hung = []  # what was found when the time was over
        self.addCleanup(self.clean)
        self.watchdog = threading.Timer(self.LIMIT, self.give_up)
        self.watchdog.daemon = True
        self.watchdog.start()

    def give_up(self):
        for m in list(live_mounts):
            if m.pid is not None:
                self.hung.append(stacks(m.pid) + "\n" + m.tail())
                os.kill(m.pid, signal.SIGKILL)
                abort(m.root)
            detach(m.root)

    def clean(self):
        try:
            self.end_mounts()
        finally:
            self.watchdog.cancel()
            for m in self.mounts:
                m.abandon()
            for path in mount_points():  # of a `kvfs mount` that should have failed
                if path.startswith(self.tmp + "/"):
                    detach(path)
            self.remove_tmp()
            if self.hung:
                raise AssertionError(f"it took longer than {self.LIMIT} s\n" + "\n".join(self.hung))

    def end_mounts(self):
        for m in self.mounts:
            m.umount()

    def remove_tmp(self):
        for folder, dirs, _ in os.walk(self.tmp):
            for d in dirs:
                path = os.path.join(folder, d)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(self.tmp)

    def mount(self, *options, source=None, clock=None, name=None, wrapper=()):
        """A mount of the test's environment (namespace "main" unless `source` says otherwise)."""
        number = len(self.mounts)
        folder = os.path.join(self.tmp, f"daemon{number}")
        os.mkdir(folder)
        m = Mount(source or f"lmdb:{self.env}#main", os.path.join(self.tmp, name or f"mnt{number}"),
                  options, folder, clock, wrapper)
        self.mounts.append(m)
        return m.start()

    def folder(self, name):
        path = os.path.join(self.tmp, name)
        os.mkdir(path)
        return path

    def assertErrno(self, codes, call, *args, **more):
        """call(*args) fails with this errno (or one of these)."""
        codes = codes if isinstance(codes, (tuple, list)) else (codes,)
        names = [errno.errorcode[c] for c in codes]
        try:
            value = call(*args, **more)
        except OSError as e:
            got = errno.errorcode.get(e.errno, e.errno)
            self.assertIn(got, names, f"{getattr(call, '__name__', call)}{args}")
        else:
            self.fail(f"{getattr(call, '__name__', call)}{args} gave {value!r} instead of {names}")

    def assertFails(self, status, command, *argv, **more):
        """kvfs fails with this exit status and its one line; that line."""
        done = run(KVFS, command, *argv, check=False, **more)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertRegex(done.stderr, rf"\Akvfs: {command}: [^\n]+: [^\n]+\n\Z")
        self.assertEqual(done.stdout, "")
        return done.stderr

    def assertUsage(self, *argv):
        done = run(KVFS, *argv, check=False)
        self.assertEqual(done.returncode, 2, f"{argv}: {done.stderr}")
        self.assertRegex(done.stderr, r"(?i)usage|kvfs:")
        self.assertEqual(done.stdout, "")

    def assertMode(self, path, mode):
        self.assertEqual(oct(stat.S_IMODE(os.lstat(path).st_mode)), oct(mode), path)

    def assertStored(self, key, value, ns="main"):
        """The store holds exactly this value (None: no such key), now or after the next commit."""
        eventually(lambda: self.store.dump(ns).get(key) == value, what=f"{key!r} in the store")
