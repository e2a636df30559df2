"""What kvfs does for each operation, counted: scripts/bench --counts.

Every workload is done three times on a fresh mount, since each way of counting changes the others:

  requests  with -o debug, from libfuse's log: by operation
  calls     the daemon's system calls, by strace; what it writes to the store's file, and how often it
            makes it durable
  memory    allocations and locks taken, by a preloaded library (tally.c)

Preparation is not counted. All is of a mount with the default options.
"""

import collections
import os
import re
import struct
import subprocess
import time

import peers
import workloads

FILES, DIRS, SIZE = 500, 5, 1024
TALLIES = ("malloc", "calloc", "realloc", "free", "mutex", "contended", "rwlock", "cond", "written")

# name, arguments of load (after ROOT: tree), what has to be there before, remounted before?,
# operations, the least requests per operation that FUSE allows, in words
TREE = [str(DIRS), str(FILES)]
MADE = [["create", *TREE, SIZE]]

# name, arguments of load, what has to be there before, remounted before?, operations, the fewest
# requests per operation; the numbers in brackets are FACTS.md's
WORK = [
    ("create", ["create", *TREE, SIZE], [], False, FILES,
     "5: LOOKUP CREATE WRITE FLUSH RELEASE; 7 with default_permissions and attributes (1, 2)"),
    ("stat, remounted", ["find"], MADE, True, FILES,
     "READDIRPLUS per about 20 entries of 4 KiB"),
    ("stat, warm", ["find"], [*MADE, ["find"]], False, FILES,
     "READDIR per about 100 entries of 4 KiB"),
    ("read, remounted", ["read", *TREE, SIZE], MADE, True, FILES,
     "4: LOOKUP OPEN READ RELEASE"),
    ("read, warm", ["read", *TREE, SIZE], [*MADE, ["read", *TREE, SIZE]], False, FILES,
     "2: OPEN RELEASE"),
    ("rewrite", ["rewrite", *TREE, SIZE, FILES], MADE, False, FILES,
     "4: OPEN WRITE FLUSH RELEASE; 6 with attributes (2)"),
    ("setxattr", ["setxattr", *TREE, FILES, "user.kv.ttl", "36000"], MADE, False, FILES,
     "1"),
    ("rename", ["rename", *TREE, FILES], MADE, False, FILES,
     "2: LOOKUP of the new name, RENAME; 3 with (1)"),
    ("delete", ["delete", DIRS], MADE, False, FILES,
     "1: UNLINK, and FORGETs, which have no answer; 3 with (1)"),
    ("fsync, 1 writer", ["fsync", 1, 100, SIZE], [], False, 100,
     "6: as create, and FSYNC; 8 with (1, 2). One commit each"),
    ("fsync, 16 writers", ["fsync", 16, 160, SIZE], [], False, 160,
     "as with 1. One commit per 16: 10"),
    ("write 20 MiB", ["write", 20], [], False, 20,
     "1: WRITE of 1 MiB; 2 with (2)"),
    ("read 20 MiB, remounted", ["slurp", 20], [["write", 20]], True, 20,
     "1: READ of 1 MiB; 8 with (3)"),
]


class Counted(peers.Kvfs):
    """A mount whose environment depends on what is counted."""

    more = None

    def environ(self):
        return {**os.environ, **self.more} if self.more else None


class Talking(peers.Kvfs):
    """A mount in the foreground, where libfuse tells of every request."""

    def command(self):
        return [self.tools.kvfs, "mount", "-f", "-o", f"debug,log={self.log_file}", self.source(),
                self.root]

    def mount(self):
        peers.Fuse.mount(self)

    def umount(self):
        peers.Fuse.umount(self)

    def abandon(self):
        peers.Fuse.abandon(self)


def command(tools, peer, argv):
    what, rest = argv[0], [str(a) for a in argv[1:]]
    if what == "find":
        return ["find", peer.root, "-printf", "%s %T@\n"]
    where = peer.root + ("/file" if what in ("write", "slurp") else "")
    return [tools.load, what, where, *rest]


def mounted(tools, folder, before, remount, kind=Counted, more=None):
    peer = kind(folder, tools)
    peer.more = more
    peer.mount()
    for argv in before:
        peers.run(*command(tools, peer, argv))
    peer.settle()
    if remount:
        peer.remount()
    return peer


def ended(peer):
    peer.umount()
    peer.abandon()


# --- requests ---------------------------------------------------------------------------------


def count_requests(tools, folder, name, argv, before, remount):
    peer = mounted(tools, folder, before, remount, kind=Talking)
    try:
        began = os.path.getsize(peer.log_file)
        peers.run(*command(tools, peer, argv))
        peers.run(tools.kvfs, "sync", peer.root)
    finally:
        ended(peer)
    with open(peer.log_file) as f:
        f.seek(began)
        text = f.read()
    found = collections.Counter(re.findall(r"opcode: (\w+) ", text))
    for extra in ("STATFS", "DESTROY", "IOCTL"):
        found.pop(extra, None)
    return dict(found)


# --- system calls -----------------------------------------------------------------------------


def traced(peer, out):
    """strace on the running daemon, once it has said that it is attached."""
    child = subprocess.Popen(["strace", "-f", "-y", "-o", out, "-p", str(peer.pid)],
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    line = child.stderr.readline()
    if "attached" not in line:
        child.kill()
        raise RuntimeError(f"strace: {line}")
    return child


def read_trace(path):
    """Counts by call; sizes of what is written to the data file."""
    calls, sizes, begun = collections.Counter(), [], {}
    with open(path, errors="replace") as f:
        for line in f:
            pid, _, rest = line.rstrip().partition(" ")
            rest = rest.lstrip()
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest
                continue
            if rest.startswith("<..."):
                rest = begun.pop(pid, "") + rest
            name = re.match(r"(\w+)\(", rest)
            if not name:
                continue
            calls[name[1]] += 1
            result = re.search(r"= (\d+)$", rest)
            if "write" in name[1] and result and "data.mdb" in rest:
                sizes.append(int(result[1]))
    return calls, sizes


def commits_of(tools, peer):
    text = peers.run(tools.kvfs, "status", peer.root)
    return int(re.search(r"^commits +(\d+)", text, re.M)[1])


def count_calls(tools, folder, name, argv, before, remount):
    peer = mounted(tools, folder, before, remount)
    out = os.path.join(folder, "trace")
    try:
        began = commits_of(tools, peer)
        child = traced(peer, out)
        try:
            peers.run(*command(tools, peer, argv))
            peers.run(tools.kvfs, "sync", peer.root)
        finally:
            child.terminate()
            child.wait()
        commits = commits_of(tools, peer) - began
    finally:
        ended(peer)
    calls, sizes = read_trace(out)
    return {"calls": dict(calls), "commits": commits, "written": sum(sizes), "writes": len(sizes)}


# --- allocations and locks ----------------------------------------------------------------------


def tallies(path):
    with open(path, "rb") as f:
        return struct.unpack(f"{len(TALLIES)}Q", f.read())


def count_memory(tools, folder, name, argv, before, remount):
    path = os.path.join(folder, "tally")
    os.mkdir(folder)
    peer = mounted(tools, os.path.join(folder, "peer"), before, remount,
                   more={"LD_PRELOAD": tools.tally, "TALLY": path})
    try:
        began = tallies(path)
        # The client is not preloaded: its environment is ours.
        peers.run(*command(tools, peer, argv))
        ended_at = tallies(path)
    finally:
        ended(peer)
    return dict(zip(TALLIES, (b - a for a, b in zip(began, ended_at))))


# --- all ----------------------------------------------------------------------------------------


def counts(args, folder):
    import run as driver
    tools, rows = driver.Tools(args.build, folder), []
    progress = driver.Progress()
    chosen = [w for w in WORK if not args.names or any(n in w[0] for n in args.names)]
    for i, (name, argv, before, remount, operations, least) in enumerate(chosen):
        row = {"name": name, "operations": operations, "least": least}
        for part, count in (("requests", count_requests), ("calls", count_calls),
                            ("memory", count_memory)):
            progress.say(f"{name}: {part}")
            row[part] = count(tools, os.path.join(folder, f"{i}-{part}"), name, argv, before,
                              remount)
        rows.append(row)
    progress.end()
    return {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rows": rows}


def per(n, operations):
    value = n / max(operations, 1)
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def by_kind(found, operations, floor=0.005):
    pairs = sorted(found.items(), key=lambda x: -x[1])
    return ", ".join(f"{k} {per(v, operations)}" for k, v in pairs if v / operations >= floor)


IDLE = {"futex", "restart_syscall", "rt_sigtimedwait", "poll", "epoll_wait", "nanosleep",
        "clock_nanosleep"}


def table(result):
    """Markdown: per operation, but for what is per commit."""
    lines = ["| workload | requests per operation | least | system calls per request | allocations "
             "per request | locks per request (contended) | commits | KiB written per commit |",
             "|---|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        n, requests = row["operations"], sum(row["requests"].values())
        calls, memory = row["calls"]["calls"], row["memory"]
        busy = {k: v for k, v in calls.items() if k not in IDLE}
        futex = calls.get("futex", 0)
        allocations = memory["malloc"] + memory["calloc"] + memory["realloc"]
        locks = memory["mutex"] + memory["rwlock"]
        commits = row["calls"]["commits"]
        written = row["calls"]["written"] / 1024
        lines.append(
            f"| {row['name']} ({n}) | {per(requests, n)}: {by_kind(row['requests'], n)} "
            f"| {row['least']} "
            f"| {per(sum(busy.values()) + futex, requests)}: "
            f"{by_kind({**busy, 'futex': futex}, requests, 0.02)} "
            f"| {per(allocations, requests)} | {per(locks, requests)} "
            f"({per(memory['contended'], requests)}) | {commits} "
            f"| {per(written, commits) if commits else '-'} |")
    return "\n".join(lines)
