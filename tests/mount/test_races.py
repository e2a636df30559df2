"""32 threads on few names at once, on a build that tells of races and of locks out of order.

What is done and must hold meanwhile is in stress.py; here is what other programs do beside, and what must
hold when all is quiet. For longer, by itself, also as `scripts/test --soak` does:
test_races.py --seconds N --seed N --kvfs FILE --lmdbtool FILE
"""

import os
import stat
import sys
import unittest

import harness
from harness import PLAIN, ROOT, Clock, Test, eventually, run, stacks, walk
from stress import Stress, is_whole, value


def forget_names(root):
    """The kernel forgets every name and inode of this mount that nobody uses."""
    run("mount", "-o", "remount", root, check=False)


class LmdbStress(Stress):
    def __init__(self, test, m, seed):
        super().__init__(m.root, seed)
        self.test, self.mount, self.store = test, m, test.store
        self.round = 0
        self.others = [self.put_by_another, self.look_by_another, self.pass_time, self.ask]
        if ROOT:
            self.others.append(self.forget_names)

    def do_read_foreign(self, me):
        path = self / f"f{me.rng.randrange(4)}"
        self.expect_whole(path, self.read(path))

    def put_by_another(self):
        self.round += 1
        keys = [b"f%d" % i for i in range(4)]
        self.store.put({k: value("f", self.round, 500) for k in keys[self.round % 3:]})
        self.stop.wait(0.1)
        self.store.delete(keys[3])
        self.stop.wait(0.1)

    def look_by_another(self):
        for key, data in self.store.dump().items():
            if key[:1] in b"apefsd" and not is_whole(data):
                raise AssertionError(f"the store has {key!r}: {data[:80]!r}, {len(data)} bytes")
        self.stop.wait(0.3)

    def pass_time(self):
        self.test.clock.advance(1)
        self.stop.wait(0.2)

    def forget_names(self):
        forget_names(self.root)
        self.stop.wait(1)

    def ask(self):
        self.mount.status()
        self.mount.sync()
        self.stop.wait(0.5)


@unittest.skipIf(PLAIN, "about kvfs")
class Races(Test):
    SECONDS, SEED = 12, 1
    LIMIT = SECONDS + 240

    def test_many_threads_on_few_names(self):
        self.clock = Clock(self.tmp)
        self.m = self.mount(clock=self.clock)
        s = LmdbStress(self, self.m, self.SEED)
        s.prepare()
        before = self.descriptors()
        problems = s.run(self.SECONDS)
        if any("hang" in p for p in problems):
            problems.append(stacks(self.m.pid))
        self.assertEqual(problems, [], f"seed {self.SEED}")
        self.assertEqual(s.unused(), [], f"seed {self.SEED}: {s.done}")
        self.settle()
        eventually(lambda: self.descriptors() <= before + 2, what="descriptors are closed")
        for _ in range(2):
            self.check_quiet()
            self.m.remount()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.m.pid}/fd"))

    def settle(self):
        self.clock.advance(100)
        eventually(lambda: not [n for n in os.listdir(self.m.root) if n.startswith("e") and
                                "user.kv.expiration" in os.listxattr(self.m / n)], 10, "the end of what expires")
        self.m.sync()
        eventually(lambda: self.m.status()["pending"] == 0, 10)

    def check_quiet(self):
        """The mount and the store agree on names, bytes and links."""
        status = self.m.status()
        self.assertEqual((status["pending"], status["pending_bytes"], status.get("error")), (0, 0, None))
        stored, seen = self.store.dump(), {}
        for path, is_folder in walk(self.m.root).items():
            at = self.m / path
            st = os.lstat(at)
            if is_folder:
                inside = [e for e in os.scandir(at) if e.is_dir(follow_symlinks=False)]
                self.assertIn(st.st_nlink, (2 + len(inside), 1), path)  # 1: in a large one nobody counts
                continue
            self.assertEqual(st.st_nlink, 1, path)
            if stat.S_ISREG(st.st_mode):
                with open(at, "rb") as f:
                    seen[path] = f.read()
                self.assertEqual(os.getxattr(at, "user.kv.key"), path)
            else:
                seen[path] = stored[path]
        self.assertEqual(sorted(seen), sorted(stored))
        self.assertEqual([k for k in seen if seen[k] != stored[k]], [])
        self.assertEqual([k for k in stored if k[:1] in b"aefd" and not is_whole(stored[k])], [])


def main():
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    harness.KVFS, harness.LMDBTOOL = options["--kvfs"], options["--lmdbtool"]
    Races.SECONDS, Races.SEED = int(options["--seconds"]), int(options["--seed"])
    Races.LIMIT = Races.SECONDS + 240
    unittest.main(argv=[sys.argv[0]])


if __name__ == "__main__":
    main()
