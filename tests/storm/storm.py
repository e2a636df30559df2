#!/usr/bin/python3 -B
"""A mount of Workers KV in bad weather: several processes, others' changes, failing requests, stale
answers, a clock that jumps, kills of the daemon; and in the end store, mount and model are equal.

    storm.py --kvfs PROGRAM --seed N [--rounds N]      one storm, to be looked at again
    storm.py --kvfs PROGRAM --seed N --storms N        so many, from that seed on
    storm.py --kvfs PROGRAM --seed N --seconds N       one after the other, from that seed on

Rounds. The processes (worker.py) work for about a second, beside whatever the round brings: calm,
storm (a third of all requests fails in some way) or no server at all; in half of them the daemon is
killed, mounted again, and every process compared with the moments that it may have gone back to.
After that everything is judged (judge.py). At the end the weather clears: `kvfs sync`, and store and
mount must be what the models say; once more with a cache that knows nothing.

Time is virtual, and runs by itself RATE times as fast as the real one, with jumps.
"""

import argparse
import bisect
import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "mount")]

import harness  # noqa: E402
from harness import Clock, eventually, run  # noqa: E402
from judge import (PUT_OFF, Row, Survivor, Verdict, Write, judge_budget, judge_crash, judge_pace, judge_seen, judge_writes,  # noqa: E402
                   rows_of)
from model import File, is_alive, same_files, shown, stored  # noqa: E402
from remote import RemoteMount, Server  # noqa: E402

PROCESSES = 3
RATE = 40  # virtual seconds in a real one
ROUND = 1.1  # real seconds
ANSWER = 40  # real seconds that a process may take for a command
JSON_CALLS = ["list", "bulk", "put", "delete"]


class Process:
    """A worker.py."""

    def __init__(self, seed, number, root, clock):
        self.number = number
        self.child = subprocess.Popen([sys.executable, "-B", os.path.join(HERE, "worker.py"), str(seed), str(number),
                                       root, clock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, name, *args):
        pickle.dump((name, args), self.child.stdin)
        self.child.stdin.flush()

    def answer(self):
        if not select.select([self.child.stdout], [], [], ANSWER)[0]:
            raise Verdict(f"process {self.number} has not come back within {ANSWER} s")
        good, value = pickle.load(self.child.stdout)
        if not good:
            raise Verdict(value)
        return value

    def end(self):
        self.child.kill()
        self.child.wait()


class World:
    """Server, daemon, processes, and the record of everything."""

    max_age, most_lag = 60, 60
    believed = 4  # real seconds for which the kernel goes on to show a name, and some

    def __init__(self, kvfs, seed, folder, say=lambda text: None):
        self.rng = random.Random(seed)
        self.seed, self.folder, self.say = seed, folder, say
        self.clock, self.time_lock = Clock(folder), threading.Lock()
        self.times = [(time.monotonic(), self.clock.now)]
        self.server = Server().start()
        self.server.clock.follow(self.clock.file)
        self.ns = self.server.namespace("main")
        self.writes, self.refused_writes = [], []
        self.asked = deque(maxlen=1000)
        self.away = False  # the server: what it is still working at is never answered
        self.foreign, self.history = {}, {}
        self.life, self.number, self.tally = 0, 0, Counter()
        self.calm_since = self.clock.now
        self.request = threading.local()
        self.ended = threading.Event()
        self.processes = []
        self.watch_server()
        options = [f"endpoint={self.server.endpoint}", f"cache={folder}/cache", "timeout=60"]
        os.mkdir(f"{folder}/daemon")
        self.mount = RemoteMount(self.server.token, f"cloudflare:{self.server.account}#main", f"{folder}/mnt",
                                 options, f"{folder}/daemon", self.clock)
        self.timer = threading.Thread(target=self.pass_time, daemon=True)
        self.timer.start()

    # --- the record --------------------------------------------------------------------------

    def watch_server(self):
        """Notes every write that the server carries out, and every one that comes too early."""
        ns, api, quota = self.ns, self.server.api, self.server.quota
        put, delete, answer, allow = ns.put, ns.delete, api.answer, quota.write

        def note(key, entry):
            key = key.decode() if isinstance(key, bytes) else key
            request, now = getattr(self.request, "now", None), self.server.clock.now()
            self.writes.append(Write(time.monotonic(), now, key, entry, request, self.life))
            self.foreign.setdefault(key, []).append((now, entry))

        def noted_put(key, *args, **more):
            with self.server.lock:
                put(key, *args, **more)
                note(key, ns.get(key))

        def noted_delete(key):
            with self.server.lock:
                delete(key)
                note(key, None)

        def noted_answer(request):
            request.cut = self.away
            self.request.now = request
            self.tally[request.kind] += 1
            self.asked.append((round(time.monotonic(), 3), request))
            request.cut |= self.away
            try:
                return answer(request)
            finally:
                self.request.now = None

        def noted_allow(namespace, key, is_delete=False):
            good = allow(namespace, key, is_delete)
            if not good:
                self.refused_writes.append((self.server.clock.now(), key.decode(), self.request.now,
                                            quota._writes[(namespace.id, key)]))
            return good
        ns.put, ns.delete, api.answer, quota.write = noted_put, noted_delete, noted_answer, noted_allow

    # --- time --------------------------------------------------------------------------------

    def pass_time(self):
        last = time.monotonic()
        while not self.ended.wait(0.01):
            now = time.monotonic()
            self.advance((now - last) * RATE)
            last = now

    def advance(self, seconds):
        with self.time_lock:
            self.clock.advance(seconds)
            self.times.append((time.monotonic(), self.clock.now))

    def since(self, began):
        """The virtual time of which something may be shown that was looked at at another."""
        times = self.times
        real = times[bisect.bisect_right(times, began, key=lambda t: t[1]) - 1][0] - self.believed
        before = times[max(0, bisect.bisect_right(times, real, key=lambda t: t[0]) - 1)][1]
        since = before - self.max_age - self.most_lag
        return since if since > self.calm_since else 0.0

    # --- weather -----------------------------------------------------------------------------

    def storm(self):
        """About a third of all requests."""
        faults, rng = self.server.faults, self.rng
        seed = rng.randrange(1 << 30)
        kinds = [
            ("latency", {"seconds": 0.03}), ("latency", {"seconds": 0.12}),
            ("status", {"status": 429, "retry_after": rng.choice([1, 5, 20])}),
            ("status", {"status": 503}), ("status", {"status": 500, "applied": True}),
            ("reset", {"at": "arrival"}), ("reset", {"at": "before"}), ("reset", {"at": "after"}),
            ("cut", {}), ("garbage", {}), ("close", {}),
            ("truncated_json", {"on": JSON_CALLS}), ("html", {"on": JSON_CALLS}),
            ("success_false", {"on": JSON_CALLS}), ("wrong_types", {"on": JSON_CALLS}),
            # Where no prefix was asked for, nothing tells others' names from what is there.
            ("unordered", {"on": "list"}), ("foreign_keys", {"on": ["list", "bulk.get"], "key": "prefix=|bulk/get"}),
            ("empty_page", {"on": "list"}), ("short_page", {"on": "list", "keys": 2}),
            ("bom_stripped", {"on": "bulk.get"}),
        ]
        for i, (name, more) in enumerate(rng.sample(kinds, 12)):
            faults.add(name, probability=0.04, seed=seed + i, **more)
        for i in range(2):
            faults.add("unsuccessful", on="bulk", probability=0.3, fraction=0.4, seed=seed + 100 + i)

    def stale(self):
        self.server.store.lag = self.rng.choice([0, 5, 60])
        self.server.store.list_lag = self.rng.choice([0, 5, 60])
        self.server.store.lag_seed = self.rng.randrange(1 << 30)

    def clear_up(self):
        self.server.faults.clear()
        self.server.store.lag = self.server.store.list_lag = 0

    # --- what others do ----------------------------------------------------------------------

    def others_value(self):
        self.number += 1
        rng = self.rng
        body = rng.randbytes(rng.choice([3, 200, 3000])) if rng.random() < 0.4 else b"text " * rng.choice([1, 50, 2000])
        return f"x{self.number}:".encode() + body

    def others(self):
        """One change from outside."""
        rng = self.rng
        key = f"o/k{rng.randrange(12):02d}" if rng.random() < 0.8 else f"s/{rng.randrange(PROCESSES)}-{rng.randrange(3)}"
        if rng.random() < 0.25:
            self.ns.delete(key)
            return
        self.number += 1
        expiration = int(self.clock.now) + rng.randrange(100, 900) if rng.random() < 0.15 else None
        metadata = {"o": self.number} if rng.random() < 0.4 else None
        old = self.ns.get(key)
        value = old.value if old and rng.random() < 0.2 else self.others_value()
        self.ns.put(key, value, expiration, metadata)

    # --- the daemon --------------------------------------------------------------------------

    def start(self):
        """Mounts; in bad weather at the third attempt at last."""
        for left in (2, 1, 0):
            try:
                self.mount.start()
                return
            except AssertionError:
                if not left or not self.rough:
                    raise
                self.tally["failed mounts"] += 1

    def kill(self):
        self.mount.kill()
        self.tally["kills"] += 1
        killed_at = time.monotonic()
        # What it has sent is on its way no more: no connection of it is left.
        eventually(lambda: self.server.log.open == 0, 10, "the end of the daemon's connections")
        self.life += 1
        return killed_at

    # --- the story ---------------------------------------------------------------------------

    def prepare(self):
        """What is there before anything is mounted."""
        self.ns.put("s/keep", b"kept")
        self.ns.put("o/keep", b"kept")
        for _ in range(20):
            self.others()
        self.own = []
        for number in range(PROCESSES):
            files = {}
            for i in range(8):
                key, value = f"w{number}/p/f{i}", self.others_value()
                metadata = f'{{"p":{i}}}' if i % 3 == 0 else None
                expiration = int(self.clock.now) + 50_000_000 if i % 4 == 0 else None
                self.ns.put(key, value, expiration, metadata)
                files[key] = File(value, expiration, metadata)
            self.own.append((files, {f"w{number}", f"w{number}/p"}))
        for write in self.writes:
            if write.key.startswith("w"):
                self.history[write.key] = [Row(0.0, 0.0, stored(File(*write.entry)), None, "at first")]
        self.advance(2 * self.most_lag)

    def ask_all(self, name, *args):
        """Has all processes do something at once."""
        for p in self.processes:
            p.ask(name, *args)
        return [p.answer() for p in self.processes]

    def add_history(self, events, lost_from=1 << 60, lost_at=None, unsure_from=1 << 60):
        for key, row in rows_of(events, lost_from, lost_at, unsure_from):
            self.history.setdefault(key, []).append(row)

    def round(self, kind, kill):
        self.rough = kind != "calm"
        if self.rough:
            self.calm_since = float("inf")
        elif self.calm_since == float("inf"):
            self.calm_since = self.clock.now
        self.clear_up()
        if self.rng.random() < 0.7:
            self.stale()
        if kind == "storm":
            self.storm()
        for p in self.processes:
            p.ask("run", ROUND, self.rough, kill)
        killed_at = self.happen(kind, kill)
        answers = [p.answer() for p in self.processes]
        if not kill and not all(a["alive"] for a in answers):
            raise Verdict(f"the daemon has ended\n{self.mount.tail()}")
        self.tally["operations"] += sum(a["count"] for a in answers)
        if kill:
            self.recover(killed_at, [a["events"] for a in answers], kind)
        else:
            for a in answers:
                self.add_history(a["events"])
        self.judge([row for a in answers for row in a["seen"]])

    def happen(self, kind, kill):
        """What goes on beside the processes' work; when the daemon was killed."""
        rng, began = self.rng, time.monotonic()
        kill_after = rng.uniform(0.1, ROUND - 0.1) if kill else None
        offline = sorted(rng.uniform(0, ROUND) for _ in range(2)) if kind == "offline" else None
        port, killed_at = self.server.port, None
        while (passed := time.monotonic() - began) < ROUND:
            if offline and passed >= offline[0]:
                self.go_offline()
            if offline and passed >= offline[0]:
                time.sleep(min(offline[1], kill_after or 9) - passed if min(offline[1], kill_after or 9) > passed else 0)
                passed = time.monotonic() - began
            if kill and not killed_at and passed >= kill_after:
                killed_at = self.kill()
            if offline and passed >= offline[1]:
                self.come_back(port)
                offline = None
            if not offline or passed < offline[0]:
                self.others()
            if rng.random() < 0.03:
                self.advance(rng.choice([3, 30, 61, 130]))
                self.tally["jumps"] += 1
            time.sleep(rng.uniform(0, 0.03))
        if offline:
            self.come_back(port)
        return killed_at or (self.kill() if kill else None)

    def come_back(self, port):
        """Unless somebody has just got the port."""
        def start():
            try:
                self.away = False
                self.server.start(port)
                return True
            except OSError:
                return False
        eventually(start, 20, "the server's port")

    def go_offline(self):
        if self.server._listener:
            self.tally["offline"] += 1
            began = time.monotonic()
            self.away = True
            self.server.stop()
            for at, request in list(self.asked):
                if at > began - 1:
                    request.cut = True

    def recover(self, killed_at, new_events, kind):
        """After a kill: mounts again, and finds out which moment it has gone back to."""
        self.start()
        survivors = [Survivor(*found) for found in self.ask_all("recover")]
        numbers = judge_crash(survivors, killed_at, self.clock.now)
        for p, survivor, events, (n, earliest) in zip(self.processes, survivors, new_events, numbers):
            before = len(survivor.events) - len(events)
            self.tally["taken back"] += len(survivor.events) - n
            self.take_back(survivor.events[:before], n, killed_at, earliest)
            self.add_history(events, n - before, killed_at, earliest - before)
            p.ask("go_back", n)
            p.answer()

    def take_back(self, events, n, killed_at, earliest):
        """Older events than this round's, too."""
        lost = {(e.began, key) for e in events[n:] for key in [*e.changes, *([e.shared[0]] if e.shared else [])]}
        for e in [e for e in events[earliest:n] if e.shared]:
            self.history[e.shared[0]] = [r._replace(unsure=True) if r.began == e.began else r
                                         for r in self.history[e.shared[0]]]
        for _, key in lost:
            self.history[key] = [r._replace(lost_at=killed_at) if (r.began, key) in lost else r
                                 for r in self.history[key]]

    def judge(self, seen):
        judge_seen(self, seen)
        self.tally["seen"] += len(seen)

    def settle(self):
        """Good weather: everything is uploaded, and is what it must be."""
        self.rough = False
        self.clear_up()
        self.round("calm", False)
        for a in self.ask_all("let_go"):
            self.add_history(a["events"])
        run(harness.KVFS, "sync", self.mount.root, timeout=120)
        self.ask_all("forget_past")
        self.compare_store()
        judge_writes(self)
        judge_pace(self)

    def compare_store(self):
        """What the store has of the processes' keys."""
        want = {}
        for files, _ in self.ask_all("files"):
            want.update({k: f for k, f in files.items() if not f.local})
        have = {k.decode(): File(*e) for k, e in self.ns.entries().items()}
        own = {k: f for k, f in have.items() if k.startswith("w")}
        now = self.clock.now
        for key, file in want.items():  # one whose time was near was put off
            if file.expiration and key in own and file.expiration != own[key].expiration:
                if any(w.key == key and w.entry and w.entry.expiration == own[key].expiration and
                       file.expiration < w.time + PUT_OFF for w in self.writes):
                    own[key] = own[key]._replace(expiration=file.expiration)
        problem = same_files(want, own, now)
        if problem:
            raise Verdict(f"after sync the store has not what it must: {problem}")

    def compare_mount(self, mount):
        """The mount shows what the store has, all of it and nothing else (but local names)."""
        def look():
            shown_files = self.all_files(mount)
            have = {k.decode(): File(*e) for k, e in self.ns.entries().items()}
            problem = same_files(have, shown_files, self.clock.now)
            assert problem is None, problem
            return True
        eventually(look, 40, "the mount shows what the store has")

    def all_files(self, mount):
        found = {}
        for folder, _, names in os.walk(mount.root):
            for name in names:
                path = os.path.join(folder, name)
                key = os.path.relpath(path, mount.root)
                if key.startswith("w") and (name.endswith("~") or name.startswith(".")):
                    continue
                try:
                    value, what = harness.read(path), {n: os.getxattr(path, n) for n in os.listxattr(path)}
                except FileNotFoundError:
                    continue
                when, metadata = what.get("user.kv.expiration"), what.get("user.kv.metadata")
                found[key] = File(value, when and int(when), metadata and metadata.decode())
        return found

    def run(self, rounds):
        self.prepare()
        self.rough = False
        self.start()
        for number, (files, dirs) in enumerate(self.own):
            p = Process(self.seed, number, self.mount.root, self.clock.file)
            self.processes.append(p)
            p.ask("start", files, dirs)
            p.answer()
        for i in range(rounds):
            kind = self.rng.choice(["calm", "storm", "storm", "offline"])
            kill = self.rng.random() < 0.5
            self.say(f"round {i}: {kind}{', killed' if kill else ''}")
            self.tally[kind] += 1
            self.round(kind, kill)
            if self.rng.random() < 0.2:
                self.settle()
        self.settle()
        self.advance(1000)
        self.compare_mount(self.mount)
        self.compare_store()
        self.mount.umount()
        self.fresh()
        self.tally["virtual seconds"] = round(self.clock.now - self.times[0][1])
        judge_budget(self.tally)

    def fresh(self):
        """A cache that knows nothing shows the same."""
        os.mkdir(f"{self.folder}/daemon2")
        other = RemoteMount(self.server.token, self.mount.source, f"{self.folder}/mnt2",
                            [*self.mount.options, f"cache={self.folder}/cache2"], f"{self.folder}/daemon2", self.clock)
        try:
            other.start()
            self.compare_mount(other)
            other.umount()
        finally:
            other.abandon()

    def listings(self):
        """For a person: the last listings."""
        return "\n".join(f"  {at} {r.kind} {r.asked.partition('/keys')[2]} {[f.name for f in r.faults] or ''}"
                         for at, r in list(self.asked)[-100:] if r.kind == "list")

    def end(self):
        self.ended.set()
        self.timer.join()
        self.mount.abandon()
        for p in self.processes:
            p.end()
        self.server.stop()


def storm(seed, rounds, keep=None, say=lambda text: None):
    """One storm; its tally. Raises Verdict, or AssertionError."""
    folder = tempfile.mkdtemp(prefix="kvfs-storm-", dir="/tmp")
    world = World(harness.KVFS, seed, folder, say)
    try:
        world.run(rounds)
        world.mount.complain()
        return world.tally
    except (Verdict, AssertionError, OSError, EOFError) as e:
        try:
            world.mount.complain()
            report = ""
        except AssertionError as r:
            report = f"\n{r}"
        raise Verdict(f"seed {seed}: {e}{report}\n  life {world.life}, {dict(world.tally)}\n{world.listings()}\n  {world.mount.tail()}\n"
                      f"  again: tests/storm/storm.py --kvfs PROGRAM --seed {seed} --rounds {rounds}") from e
    finally:
        world.end()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kvfs", default="kvfs")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rounds", type=int, default=8)
    p.add_argument("--seconds", type=int)
    p.add_argument("--storms", type=int, default=1, help="so many at least")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    harness.KVFS = os.path.abspath(args.kvfs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began, total, seed = time.monotonic(), Counter(), args.seed
    while True:
        try:
            tally = storm(seed, args.rounds, say=print if args.verbose else lambda text: None)
        except Verdict as e:
            print(e)
            sys.exit(1)
        total += tally
        total["storms"] += 1
        seed += 1
        if total["storms"] >= args.storms and time.monotonic() - began > (args.seconds or 0):
            break
    print(", ".join(f"{name} {n}" for name, n in sorted(total.items())))


if __name__ == "__main__":
    main()
