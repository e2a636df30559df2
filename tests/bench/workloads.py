"""What is measured. A scenario is a chain of steps on one set of files; each step is one row.

A step is a method scenario.step_x(peer) that returns seconds (what is timed is only the work; what
prepares it is not), or raises Skip with the reason why this peer has no figure. The order of the
methods is the order of the steps. Their docstring is the row's explanation: what is done, and
what was cold or cached. Terms:

  cold      unmounted, the machine's page cache, dentries and inodes dropped, mounted again: all
            of it comes from the disk
  remounted the mount has forgotten all, the backing store is in memory; on disk and tmpfs dentries
            and inodes were dropped
  warm      a pass that is not counted went before
"""

import json
import os
import shutil
import time

from peers import Fuse, Kvfs, RawLmdb, Tmpfs, processor_seconds, run, syncfs

VALUE = 1024
SMALL = 100  # bytes of a value where there are very many


class Skip(Exception):
    pass


def drop_caches(what, tools):
    syncfs(tools.folder)  # what is dirty cannot be dropped
    if os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write(f"{what}\n")
    elif tools.sudo:
        run("sudo", "-n", "sh", "-c", f"echo {what} >/proc/sys/vm/drop_caches")
    else:
        raise Skip("only root can drop the caches")


class Scenario:
    """once: the files are made in the first round and kept for all."""

    name = ""
    once = False

    def __init__(self, tools, sizes):
        self.tools, self.sizes = tools, sizes
        self.peer = self.used = None  # whose step is under way, and its daemon's processor time

    def steps(self):
        return [n for n in vars(type(self)) if n.startswith("step_")]

    def dir(self, peer):
        return os.path.join(peer.root, self.name)

    def begin(self, peer):
        if not isinstance(peer, RawLmdb):
            os.mkdir(self.dir(peer))

    def end(self, peer):
        if isinstance(peer, RawLmdb):
            shutil.rmtree(peer.env, ignore_errors=True)
        else:
            run("rm", "-rf", self.dir(peer))

    def load(self, *argv):
        return float(self.watched(self.tools.load, *argv)[0].split()[0])

    def watched(self, *argv):
        """Runs what is measured: its output, its time; what the peer's daemon used meanwhile is
        left in self.used."""
        pid = self.peer.daemon() if self.peer else None
        used = processor_seconds(pid) if pid else 0
        began = time.perf_counter()
        out = run(*argv)
        took = time.perf_counter() - began
        self.used = processor_seconds(pid) - used if pid else None
        return out, took

    def raw(self, *argv):
        return float(run(self.tools.rawlmdb, *argv).split()[0])

    def timed(self, *argv):
        return self.watched(*argv)[1]

    def find(self, folder):
        return self.timed("find", folder, "-printf", "%s %T@\n")

    def no_lmdb(self, peer):
        if isinstance(peer, RawLmdb):
            raise Skip("no filesystem")

    def remount(self, peer):
        if peer.fuse:
            peer.settle()
            peer.remount()
        else:
            drop_caches(2, self.tools)

    def cold(self, peer):
        if isinstance(peer, Tmpfs):
            raise Skip("always in memory")
        if peer.fuse:
            peer.settle()
            peer.umount()
        try:
            drop_caches(3, self.tools)
        finally:
            peer.mount()


class Tree(Scenario):
    """Files of 1 KiB, 100 to a directory, from their making to their end."""

    name = "tree"

    def tree(self, peer):
        return [self.dir(peer), self.sizes.dirs, self.sizes.files]

    def keys(self, peer):
        return [peer.env, self.sizes.dirs, self.sizes.files]

    def step_create(self, peer):
        """mkdir, then open, write, close per file. lmdb: puts in one transaction, durable"""
        if isinstance(peer, RawLmdb):
            return self.raw("put", *self.keys(peer), VALUE, self.sizes.files)
        return self.load("create", *self.tree(peer), VALUE)

    def step_stat_cold(self, peer):
        """find -printf, cold. lmdb: every key by cursor, cold"""
        self.cold(peer)
        return self.raw("scan", peer.env) if isinstance(peer, RawLmdb) else self.find(self.dir(peer))

    def step_stat_remounted(self, peer):
        """find -printf, remounted"""
        self.no_lmdb(peer)
        self.remount(peer)
        return self.find(self.dir(peer))

    def step_stat_warm(self, peer):
        """find -printf, warm. lmdb: every key by cursor"""
        if isinstance(peer, RawLmdb):
            return self.raw("scan", peer.env)
        self.find(self.dir(peer))
        return self.find(self.dir(peer))

    def read(self, peer):
        if isinstance(peer, RawLmdb):
            return self.raw("get", *self.keys(peer), VALUE)
        return self.load("read", *self.tree(peer), VALUE)

    def step_read_cold(self, peer):
        """open, read, close per file, cold. lmdb: one get per transaction"""
        self.cold(peer)
        return self.read(peer)

    def step_read_remounted(self, peer):
        """open, read, close per file, remounted"""
        self.no_lmdb(peer)
        self.remount(peer)
        return self.read(peer)

    def step_read_warm(self, peer):
        """open, read, close per file, warm. lmdb: one get per transaction"""
        self.read(peer)
        return self.read(peer)

    def step_rewrite(self, peer):
        """open with O_TRUNC, write, close; warm. lmdb: puts in one transaction, durable"""
        n = self.sizes.some
        if isinstance(peer, RawLmdb):
            return self.raw("put", peer.env, n // 100, n, VALUE, n)
        return self.load("rewrite", *self.tree(peer), VALUE, n)

    def step_setxattr(self, peer):
        """setxattr of user.kv.ttl; elsewhere it is a name like any other"""
        self.no_lmdb(peer)
        if not peer.xattrs:
            raise Skip("no xattrs")
        return self.load("setxattr", *self.tree(peer), self.sizes.some, "user.kv.ttl", "36000")

    def step_rename(self, peer):
        """rename within the directory; warm"""
        self.no_lmdb(peer)
        return self.load("rename", *self.tree(peer), self.sizes.some)

    def step_delete(self, peer):
        """list, unlink all, rmdir; warm. lmdb: all in one transaction, durable"""
        if isinstance(peer, RawLmdb):
            return self.raw("del", peer.env)
        peer.settle()
        return self.load("delete", self.dir(peer), self.sizes.dirs)


class Durable(Scenario):
    """The same files, made durable."""

    name = "durable"

    def step_create_durable(self, peer):
        """create, then all of it made durable (kvfs, fuse2fs: fsync of the root; others: syncfs
        of the disk). lmdb: durable transactions of 100 puts"""
        if isinstance(peer, RawLmdb):
            return self.raw("put", peer.env, self.sizes.dirs, self.sizes.files, VALUE, 100)
        how = peer.durable()
        if not how:
            raise Skip("promises none")
        peer.settle()
        return self.load("create", self.dir(peer), self.sizes.dirs, self.sizes.files, VALUE, *how)


class Copies(Scenario):
    """The same files by common tools, from memory."""

    name = "copies"

    def step_tar_x(self, peer):
        """tar x from an archive in memory"""
        self.no_lmdb(peer)
        os.mkdir(self.dir(peer) + "/tar")
        return self.timed("tar", "x", "-f", self.tools.archive, "-C", self.dir(peer) + "/tar")

    def step_rsync(self, peer):
        """rsync -a from a folder in memory, to an empty one"""
        self.no_lmdb(peer)
        peer.settle()
        return self.timed("rsync", "-a", self.tools.source + "/", self.dir(peer) + "/rsync/")

    def step_rsync_again(self, peer):
        """rsync -a again: nothing to do; warm"""
        self.no_lmdb(peer)
        peer.settle()
        return self.timed("rsync", "-a", self.tools.source + "/", self.dir(peer) + "/rsync/")


class Large(Scenario):
    """One large file."""

    name = "large"

    def file(self, peer):
        return self.dir(peer) + "/file"

    def step_write_20m(self, peer):
        """write of 1 MiB each into a new file, close"""
        self.no_lmdb(peer)
        return self.load("write", self.file(peer), self.sizes.large)

    def step_read_20m_cold(self, peer):
        """read of 1 MiB each, cold"""
        self.no_lmdb(peer)
        self.cold(peer)
        return self.load("slurp", self.file(peer), self.sizes.large)

    def step_read_20m_remounted(self, peer):
        """read of 1 MiB each, remounted (disk, tmpfs: cached)"""
        self.no_lmdb(peer)
        self.remount(peer)
        return self.load("slurp", self.file(peer), self.sizes.large)

    def step_read_20m_warm(self, peer):
        """read of 1 MiB each, warm"""
        self.no_lmdb(peer)
        self.load("slurp", self.file(peer), self.sizes.large)
        return self.load("slurp", self.file(peer), self.sizes.large)

    def fio(self, peer, kind):
        out = run("fio", "--name=x", f"--filename={self.file(peer)}", f"--rw=rand{kind}", "--bs=4k",
                  f"--size={self.sizes.large}M", "--ioengine=psync", "--fallocate=none",
                  "--output-format=json")
        job = json.loads(out[out.index("{"):])["jobs"][0][kind]
        return job["total_ios"] / job["iops"]

    def step_fio_read(self, peer):
        """fio: every 4 KiB of the file once in random order; its pages dropped before"""
        self.no_lmdb(peer)
        return self.fio(peer, "read")

    def step_fio_write(self, peer):
        """fio: every 4 KiB of the file rewritten once in random order; before close"""
        self.no_lmdb(peer)
        peer.settle()
        return self.fio(peer, "write")


class Fsync(Scenario):
    """Small files, each made durable; by one writer and by sixteen."""

    name = "fsync"

    def fsync(self, peer, writers):
        count = self.sizes.fsyncs // writers * writers
        if isinstance(peer, RawLmdb):
            return self.raw("sync", peer.env, writers, count, VALUE)
        folder = f"{self.dir(peer)}/{writers}"
        os.mkdir(folder)
        peer.settle()
        return self.load("fsync", folder, writers, count, VALUE)

    def step_fsync_1(self, peer):
        """create, write, fsync, close, by 1 process. lmdb: a transaction each"""
        return self.fsync(peer, 1)

    def step_fsync_16(self, peer):
        """the same number, by 16 processes at once. lmdb: a transaction each"""
        return self.fsync(peer, 16)


class Parallel(Scenario):
    """Processes at once, each in its own directory: all create, then read back (warm)."""

    name = "parallel"

    def parallel(self, peer, processes):
        self.no_lmdb(peer)
        folder = f"{self.dir(peer)}/{processes}"
        os.mkdir(folder)
        peer.settle()
        return self.load("parallel", folder, processes, self.sizes.parallel, VALUE)

    def step_parallel_1(self, peer):
        """1 process creates all files, then reads them back"""
        return self.parallel(peer, 1)

    def step_parallel_4(self, peer):
        """the same number, by 4 processes"""
        return self.parallel(peer, 4)

    def step_parallel_16(self, peer):
        """the same number, by 16 processes"""
        return self.parallel(peer, 16)


class List(Scenario):
    """One directory of very many files of 16 bytes."""

    name = "list"
    once = True

    def begin(self, peer):
        if isinstance(peer, RawLmdb):
            self.raw("put", peer.env, 1, self.sizes.list, 16, self.sizes.list)
            return
        where = os.path.join(peer.back or peer.root, self.name)
        os.mkdir(where)
        self.load("create", where, 1, self.sizes.list, 16)

    def step_list_remounted(self, peer):
        """getdents of all names, remounted; the kernel asks for attributes at first"""
        self.no_lmdb(peer)
        self.remount(peer)
        return self.load("list", self.dir(peer) + "/d000", 1)

    def step_list_warm(self, peer):
        """getdents of all names, warm. lmdb: every key by cursor"""
        if isinstance(peer, RawLmdb):
            return self.raw("scan", peer.env)
        self.load("list", self.dir(peer) + "/d000", 1)
        return self.load("list", self.dir(peer) + "/d000", 1)

    def step_list_stat_remounted(self, peer):
        """find -printf, remounted"""
        self.no_lmdb(peer)
        self.remount(peer)
        return self.find(self.dir(peer))

    def step_list_stat_warm(self, peer):
        """find -printf, warm"""
        self.no_lmdb(peer)
        self.find(self.dir(peer))
        return self.find(self.dir(peer))


class Filled(Scenario):
    """Mounts of their own: of kvfs, over an environment that another program has filled with
    keys like p0000:k0000000; of the others, over a folder with as many directories."""

    once = True
    mounts = ()  # (name, prefixes, keys)

    def begin(self, peer):
        if isinstance(peer, RawLmdb):
            return
        peer.filled = {}
        for name, prefixes, keys in self.mounts_of(self.sizes):
            own = type(peer)(os.path.join(peer.folder, name), self.tools)
            peer.filled[name] = own
            if isinstance(peer, Kvfs):
                own.options = ("separator=:",)
                self.raw("fill", own.env, prefixes, keys, SMALL)
            own.mount()
            if not isinstance(peer, Kvfs):
                for i in range(prefixes):
                    os.mkdir(f"{own.root}/p{i:04}")

    def end(self, peer):
        for own in getattr(peer, "filled", {}).values():
            own.umount()
            own.abandon()
        peer.filled = {}


class Root(Filled):
    """Three directories, whatever lies below them."""

    name = "root"

    def mounts_of(self, sizes):
        return [("few", 3, 30), ("many", 3, sizes.root)]

    def step_root_few(self, peer):
        """one listing (of 200) of 3 directories; kvfs: 3 prefixes of 10 keys"""
        self.no_lmdb(peer)
        self.peer = peer.filled["few"]
        return self.load("list", self.peer.root, 200)

    def step_root_many(self, peer):
        """the same; kvfs: 3 prefixes of a third of a million each (--quick: 30,000)"""
        self.no_lmdb(peer)
        self.peer = peer.filled["many"]
        return self.load("list", self.peer.root, 200)


class Million(Filled):
    """Mounting a store of a million keys."""

    name = "million"

    def mounts_of(self, sizes):
        return [("million", 100, sizes.million)]

    def both(self, peer, cold):
        if not isinstance(peer, Fuse):
            raise Skip("not a mount")
        own = peer.filled["million"]
        own.settle()
        own.umount()
        if cold:
            drop_caches(3, self.tools)
        began = time.perf_counter()
        own.mount()
        mounted = time.perf_counter()
        run("ls", own.root)
        ended = time.perf_counter()
        return ended - began, ended - mounted

    def step_mount_ls(self, peer):
        """start of the mount to the end of the first ls (100 directories); in memory. Others:
        a folder of 100 empty directories"""
        return self.both(peer, False)[0]

    def step_first_ls(self, peer):
        """return of the mount to the end of the first ls; in memory"""
        return self.both(peer, False)[1]

    def step_mount_ls_cold(self, peer):
        """start of the mount to the end of the first ls, cold"""
        return self.both(peer, True)[0]


ALL = [Tree, Durable, Copies, Large, Fsync, Parallel, List, Root, Million]

# Rows made of two others' medians: name, dividend, divisor, explanation.
RATIOS = [
    ("fsync 16/1", "fsync_1", "fsync_16", "how many times as fast 16 writers are as one"),
    ("parallel 16/1", "parallel_1", "parallel_16", "how many times as fast 16 processes are"),
    ("root many/few", "root_many", "root_few", "a listing's time must not depend on what is below"),
]
