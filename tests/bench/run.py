"""The driver of scripts/bench: rounds of every step over every peer, interleaved, and the tables.

In each round each step is done by one peer after the other, so that whatever else the machine does
meets them alike. A figure is the median of the rounds. A step that takes a peer longer than SLOW is
done by it once only.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import peers
import report
import workloads

SLOW = 20  # seconds


class Sizes:
    def __init__(self, quick):
        self.files, self.dirs = (2000, 20) if quick else (10000, 100)
        self.some = 500 if quick else 1000
        self.large = 20
        self.fsyncs = 200 if quick else 1000
        self.parallel = 1600 if quick else 4000
        self.list = 10000 if quick else 100000
        self.root = 90000 if quick else 900000
        self.million = 100000 if quick else 1000000


class Tools:
    """Programs, and what they read."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.kvfs = os.path.join(build, "fs/kvfs")
        self.load = os.path.join(build, "tests/bench/load")
        self.rawlmdb = os.path.join(build, "tests/bench/rawlmdb")
        self.tally = os.path.join(build, "tests/bench/libtally.so")
        self.sudo = subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0 \
            if shutil.which("sudo") else False

    def example(self, name):
        """libfuse's example of that name, built when it is not there yet."""
        program = os.path.join(self.build, name)
        if not os.path.exists(program):
            flags = peers.run("pkg-config", "--cflags", "--libs", "fuse3").split()
            peers.run("cc", "-O2", "-w", "-DHAVE_UTIMENSAT", "-DHAVE_SETXATTR", "-o", program,
                      f"{peers.EXAMPLES}/{name}.c", *flags)
        return program

    def make_source(self, sizes):
        """The files that are copied, in memory."""
        self.memory = tempfile.mkdtemp(prefix="kvfs-bench-", dir="/dev/shm")
        self.source = os.path.join(self.memory, "source")
        self.archive = os.path.join(self.memory, "archive.tar")
        os.mkdir(self.source)
        peers.run(self.load, "create", self.source, sizes.dirs, sizes.files, workloads.VALUE)
        peers.run("tar", "c", "-f", self.archive, "-C", self.source, ".")

    def close(self):
        shutil.rmtree(getattr(self, "memory", ""), ignore_errors=True)


class Progress:
    """One line on a terminal; nothing elsewhere."""

    def __init__(self):
        self.on, self.began = sys.stderr.isatty(), time.monotonic()

    def say(self, text):
        if self.on:
            took = int(time.monotonic() - self.began)
            print(f"\r\033[K{took // 60:3}:{took % 60:02}  {text}", end="", file=sys.stderr, flush=True)

    def end(self):
        if self.on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def medians(samples, rows):
    return {r: {p: statistics.median(v) for p, v in samples.get(r, {}).items()} for r in rows}


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.sizes = Sizes(args.quick)
        self.tools = Tools(args.build, folder)
        self.progress = Progress()
        self.peers, self.samples, self.used, self.skips = [], {}, {}, {}
        self.interrupted = False
        self.scenarios = [s for s in (c(self.tools, self.sizes) for c in workloads.ALL)
                          if self.wanted(s)]

    def wanted(self, scenario):
        return not self.args.names or any(self.reported(scenario, s) for s in scenario.steps())

    def reported(self, scenario, step):
        name = step.removeprefix("step_")
        return not self.args.names or any(n == scenario.name or n.replace("-", "_") in name
                                          for n in self.args.names)

    def open(self):
        chosen = self.args.peers.split(",") if self.args.peers else \
            peers.QUICK if self.args.quick else [p.name for p in peers.ALL]
        self.tools.make_source(self.sizes)
        for kind in peers.ALL:
            if kind.name in chosen:
                self.progress.say(f"mounting {kind.name}")
                peer = kind(os.path.join(self.folder, kind.name), self.tools)
                self.peers.append(peer)
                peer.mount()

    def close(self):
        """Ends every daemon, whatever state it is in."""
        for peer in self.peers:
            for one in [*getattr(peer, "filled", {}).values(), peer]:
                try:
                    one.abandon()
                except Exception as e:
                    print(f"bench: {one.name}: {e}", file=sys.stderr)
        self.tools.close()

    def skip(self, peer, row, why):
        self.skips.setdefault(row, {})[peer.name] = str(why)

    def attempt(self, peer, row, call):
        """Notes what fails, and goes on with the others; None then."""
        if peer.name in self.skips.get(row, {}):
            return None
        try:
            return call(peer)
        except workloads.Skip as e:
            self.skip(peer, row, e)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            print(f"bench: {row}: {peer.name}: {e}", file=sys.stderr)
            self.skip(peer, row, "failed: " + str(e)[:200])
        return None

    def step(self, scenario, step, round_no):
        row = step.removeprefix("step_")
        for peer in self.peers:
            had = self.samples.get(row, {}).get(peer.name, [])
            if had and had[0] > SLOW and scenario.once:
                continue
            self.progress.say(f"round {round_no} of {self.args.rounds}  {row}  {peer.name}")
            scenario.peer, scenario.used = peer, None
            value = self.attempt(peer, row, getattr(scenario, step))
            if value is not None and self.reported(scenario, step):
                self.samples.setdefault(row, {}).setdefault(peer.name, []).append(value)
                if scenario.used is not None:
                    self.used.setdefault(row, {}).setdefault(peer.name, []).append(scenario.used)
            if value is not None:
                self.attempt(peer, row + " settle", lambda p: p.settle())

    def scenario(self, scenario, rounds):
        for round_no in rounds:
            first, last = round_no == rounds[0], round_no == rounds[-1]
            for peer in self.peers:
                self.progress.say(f"round {round_no}  preparing {scenario.name}  {peer.name}")
                if first or not scenario.once:
                    self.attempt(peer, scenario.name, scenario.begin)
                    self.attempt(peer, scenario.name, lambda p: p.settle())
            for step in scenario.steps():
                self.step(scenario, step, round_no)
            for peer in self.peers:
                self.progress.say(f"round {round_no}  removing {scenario.name}  {peer.name}")
                if last or not scenario.once:
                    self.attempt(peer, scenario.name, scenario.end)

    def measure(self):
        """All scenarios in each round, but for those whose files are made once."""
        rounds = range(1, self.args.rounds + 1)
        for n in rounds:
            for s in self.scenarios:
                if not s.once:
                    self.scenario(s, [n])
        for s in self.scenarios:
            if s.once:
                self.scenario(s, list(rounds))
        self.progress.end()

    def result(self):
        rows = [s.removeprefix("step_") for c in self.scenarios for s in c.steps()
                if self.reported(c, s)]
        explain = {s.removeprefix("step_"): " ".join(getattr(c, s).__doc__.split())
                   for c in self.scenarios for s in c.steps()}
        return {
            "machine": {"kernel": platform.release(), "cpus": len(os.sched_getaffinity(0)),
                        "load": os.getloadavg()},
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "sizes": vars(self.sizes), "rounds": self.args.rounds, "whole": not self.interrupted,
            "peers": {p.name: {"lacks": p.lacks, "fuse": p.fuse} for p in self.peers},
            "rows": [{"name": r, "explain": explain[r], "seconds": self.samples.get(r, {}),
                      "processor": self.used.get(r, {}), "skipped": self.skips.get(r, {})}
                     for r in rows],
            "medians": medians(self.samples, rows), "processor": medians(self.used, rows),
        }


def arguments():
    p = argparse.ArgumentParser(prog="scripts/bench", description="""Measures kvfs beside what
        people would otherwise use, in one run: medians of interleaved rounds, and kvfs's time
        divided by each peer's (below 1: kvfs is faster).""")
    p.add_argument("--quick", action="store_true", help="fewer files and peers: below two minutes")
    p.add_argument("--counts", action="store_true",
                   help="counts what kvfs does for each operation instead of measuring time")
    p.add_argument("--json", metavar="FILE", help="the result (build/bench.json, build/counts.json)")
    p.add_argument("--rounds", type=int, help="default 5; 3 with --quick")
    p.add_argument("--peers", metavar="NAMES", help="only these, e.g. disk,kvfs,bindfs")
    p.add_argument("--one-core", action="store_true",
                   help="everything on one processor, so that none has to be woken")
    p.add_argument("--dir", default="build", help="a folder on the disk to measure (build)")
    p.add_argument("--build", default="build/bench", help=argparse.SUPPRESS)
    p.add_argument("names", nargs="*", metavar="WORKLOAD",
                   help="rows whose name contains it, or a group: " +
                   " ".join(s.name for s in workloads.ALL))
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    args.rounds = args.rounds or (3 if args.quick else 5)
    return args


def interrupted(*_):
    raise KeyboardInterrupt


def write_json(path, result):
    with open(path, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


def bench(args, folder):
    b = Bench(args, folder)
    if not b.scenarios:
        raise RuntimeError(f"no workload has one of these names: {' '.join(args.names)}")
    try:
        b.open()
        b.measure()
    except KeyboardInterrupt:
        if not b.samples:
            raise
        b.interrupted = True
    finally:
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        b.progress.say("cleaning up")
        b.close()
        b.progress.end()
    return b.result()


def main():
    args = arguments()
    if args.counts:
        import counts
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupted)
    if os.geteuid() == 0:
        peers.own_namespace()
    if args.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = tempfile.mkdtemp(prefix="bench-", dir=os.path.abspath(args.dir))
    try:
        result = counts.counts(args, folder) if args.counts else bench(args, folder)
        path = args.json or ("build/counts.json" if args.counts else "build/bench.json")
        write_json(path, result)
        print(counts.table(result) if args.counts else report.text(result))
        print(f"In full: {path}")
        if not result.get("whole", True):
            sys.exit("bench: interrupted; these are the figures until then")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    except (RuntimeError, OSError) as e:
        sys.exit(f"bench: {e}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
