"""The filesystems that are compared: how each is mounted, unmounted, and made to forget.

A Peer owns one folder below the run's temporary folder, and shows a folder `root` to work in. It
is mounted for the whole run, and remounted where a step wants its caches cold. `back` is where
its content can be made without it (None: only through it). What a peer does not promise stands
in `lacks`, for the table.

Daemons stay in the foreground as our children, except kvfs, whose mount command is part of what
is measured; so each can be waited for, and ended by its pid.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time

LIMIT = 60  # seconds for a daemon to come or go
EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"
libc = ctypes.CDLL(None, use_errno=True)


def run(*argv, timeout=600, **more):
    """Runs a command to its end; raises with what it said where it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def own_namespace():
    """From here on our mounts are seen by nobody else: a copy of one in another program's mount
    namespace would outlive its unmounting, and be waited for. Nor do we keep copies of others'.
    Root only."""
    CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 0x40000, 2
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "a mount namespace could not be made")
    with open("/proc/self/mountinfo") as f:
        mounts = [(line.split()[4], line.split(" - ")[1].split()[0]) for line in f]
    for path, kind in reversed(mounts):
        if kind.split(".")[0] in ("fuse", "fuseblk"):
            libc.umount2(path.encode().decode("unicode_escape").encode("latin-1"), MNT_DETACH)


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


def until(condition, what, limit=LIMIT):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {limit} s: {what}")
        time.sleep(0.001)


def processor_seconds(pid):
    """What the process's threads have used; those that have ended do not count."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
    except FileNotFoundError:
        pass
    return total / 1e9


def syncfs(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), "syncfs", path)
    finally:
        os.close(fd)


def count_files(top):
    return sum(len(files) for _, _, files in os.walk(top))


class Peer:
    """A plain folder on the disk; the others differ from it."""

    name = "disk"
    lacks = "close: nothing durable; no expiry"
    fuse = False
    xattrs = True

    def __init__(self, folder, tools):
        self.folder, self.tools = folder, tools
        self.root = os.path.join(folder, "root")
        self.back = self.root
        os.makedirs(self.root)
        self.setup()

    def setup(self):
        pass

    def mount(self):
        pass

    def umount(self):
        pass

    def abandon(self):
        """Whatever happened: nothing of ours remains mounted."""

    def remount(self):
        self.umount()
        self.mount()

    def settle(self):
        """What was begun is written, so that it does not run into the next measurement."""
        syncfs(self.folder)

    def daemon(self):
        """Its process, or None."""
        return None

    def durable(self):
        """Arguments of `load create`: how everything done so far is made durable."""
        return ["syncfs", self.back]


class Tmpfs(Peer):
    name = "tmpfs"
    lacks = "nothing is ever durable"

    def setup(self):
        self.mounted = os.geteuid() == 0
        if self.mounted:
            run("mount", "-t", "tmpfs", "-o", "size=4g", "none", self.root)
        else:
            self.root = self.back = f"/dev/shm/kvfs-bench-{os.getpid()}"
            os.mkdir(self.root)

    def abandon(self):
        if not self.mounted:
            shutil.rmtree(self.root, ignore_errors=True)
        elif is_mounted(self.root):
            run("umount", "-l", self.root)

    def settle(self):
        pass


class Fuse(Peer):
    """A daemon that mounts self.root, run by command() in the foreground."""

    fuse = True
    child = None

    def setup(self):
        self.back = os.path.join(self.folder, "back")
        os.makedirs(self.back)

    def environ(self):
        return None

    def mount(self):
        self.log = open(os.path.join(self.folder, "log"), "w")
        self.child = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log,
                                      stderr=self.log, start_new_session=True, env=self.environ())

        def up():
            if self.child.poll() is not None:
                with open(self.log.name) as f:
                    raise RuntimeError(f"{self.name} did not mount: {f.read()[-500:]}")
            return is_mounted(self.root)
        until(up, f"mount of {self.name}")
        os.stat(self.root)  # the daemon answers

    def daemon(self):
        return self.child and self.child.pid

    def umount(self):
        until(lambda: subprocess.run(["fusermount3", "-u", self.root], capture_output=True)
              .returncode == 0 or not is_mounted(self.root), f"unmount of {self.name}")
        if self.child:
            self.child.wait(LIMIT)
        self.child = None

    def abandon(self):
        if is_mounted(self.root):
            subprocess.run(["fusermount3", "-uz", self.root], capture_output=True)
        if self.child:
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Kvfs(Fuse):
    name = "kvfs"
    lacks = ""
    options = ()
    pid = None

    def setup(self):
        self.back = None
        self.env = os.path.join(self.folder, "env")
        self.log_file = os.path.join(self.folder, "log")

    def source(self):
        return f"lmdb:{self.env}#main"

    def mount(self):
        options = ",".join([*self.options, f"log={self.log_file}"])
        run(self.tools.kvfs, "mount", "-o", options, self.source(), self.root, env=self.environ())
        status = run(self.tools.kvfs, "status", self.root)
        self.pid = int(next(x for x in status.splitlines() if x.startswith("process")).split()[1])

    def daemon(self):
        return self.pid

    def umount(self):
        run(self.tools.kvfs, "umount", self.root)
        pid, self.pid = self.pid, None
        until(lambda: not os.path.exists(f"/proc/{pid}"), "end of kvfs")

    def abandon(self):
        if is_mounted(self.root):
            subprocess.run(["fusermount3", "-uz", self.root], capture_output=True)
        if self.pid and os.path.exists(f"/proc/{self.pid}"):
            os.kill(self.pid, signal.SIGTERM)
            until(lambda: not os.path.exists(f"/proc/{self.pid}"), "end of kvfs")

    def settle(self):
        run(self.tools.kvfs, "sync", self.root)
        syncfs(self.folder)

    def durable(self):
        return ["fsync", self.root]


class PassthroughLow(Fuse):
    name = "pass_ll"
    lacks = "as disk; finds inodes in a list: quadratic in large trees"

    def command(self):
        return [self.tools.example("passthrough_ll"), "-f", "-o", f"source={self.back},xattr",
                "-o", "cache=always", self.root]


class PassthroughHigh(Fuse):
    name = "pass_fh"
    lacks = "as disk"

    def command(self):
        return [self.tools.example("passthrough_fh"), "-f", "-o",
                f"modules=subdir,subdir={self.back}", self.root]


class Bindfs(Fuse):
    name = "bindfs"
    lacks = "as disk"

    def command(self):
        return ["bindfs", "-f", "--no-allow-other", self.back, self.root]


class Gocryptfs(Fuse):
    name = "gocryptfs"
    lacks = "as disk; encrypts"

    def setup(self):
        super().setup()
        self.cipher, self.back = self.back, None
        self.password = os.path.join(self.folder, "password")
        with open(self.password, "w") as f:
            f.write("benchmark\n")
        run("gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", self.password, self.cipher)

    def command(self):
        return ["gocryptfs", "-fg", "-q", "-nosyslog", "-passfile", self.password, self.cipher,
                self.root]

    def durable(self):
        return ["syncfs", self.cipher]


class Fuse2fs(Fuse):
    name = "fuse2fs"
    lacks = "fsync: of the whole image; one request at a time"

    def setup(self):
        self.back = None
        self.image = os.path.join(self.folder, "image")
        run("truncate", "-s", "4G", self.image)
        run("/sbin/mke2fs", "-q", "-t", "ext4", "-N", "400000", "-E", "lazy_itable_init=0",
            self.image)

    def command(self):
        return ["fuse2fs", "-f", "-o", "fakeroot", self.image, self.root]

    def durable(self):
        return ["fsync", self.root]


class Rclone(Fuse):
    name = "rclone"
    lacks = "close, fsync: nothing stored yet; no xattrs, modes"
    xattrs = False

    def command(self):
        return ["rclone", "mount", "--config", "/dev/null", "--vfs-cache-mode", "writes",
                "--vfs-write-back", "0s", "--cache-dir", os.path.join(self.folder, "cache"),
                self.back, self.root]

    def settle(self):
        """Uploads go on after close; the cache keeps what it has uploaded. That it has nothing to
        upload cannot be asked: a guess, for a while."""
        cache = os.path.join(self.folder, "cache", "vfs")
        try:
            until(lambda: count_files(cache) <= count_files(self.back), "rclone's uploads", 10)
        except RuntimeError:
            pass
        super().settle()

    def durable(self):
        return None


class RawLmdb(Peer):
    """No filesystem: the steps give it the same work as transactions."""

    name = "lmdb"
    lacks = "no names, modes, times, expiry; each get copies, no process between"

    def setup(self):
        self.env = os.path.join(self.folder, "env")


ALL = [Peer, Tmpfs, Kvfs, PassthroughLow, PassthroughHigh, Bindfs, Gocryptfs, Fuse2fs, Rclone,
       RawLmdb]
QUICK = ["disk", "tmpfs", "kvfs", "pass_ll", "pass_fh", "bindfs", "lmdb"]
