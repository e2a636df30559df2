"""A hundred thousand keys under the quota that Workers KV really has: 1,200 requests in five minutes,
of which not one may be refused. Full size with KVFS_TEST_LONG=1, in a program without sanitizers; else
what its time allows.
"""

import contextlib
import os

from harness import FULL, read, run, sanitized, write
from remote import RemoteTest, beside

LONG = os.environ.get("KVFS_TEST_LONG") == "1"
KEYS = 100_000 if LONG else 10_000 if FULL and not sanitized() else 3_000
RAW = 5_000 if LONG else 1_500  # more than a window allows
STEP = 2  # virtual seconds that pass whenever nothing has been asked for a moment


class Quota(RemoteTest):
    virtual = True
    LIMIT = 600

    def tearDown(self):
        self.assertEqual(self.server.quota.refusals, 0)

    @contextlib.contextmanager
    def waits_are_short(self):
        """Time passes while the daemon waits, and stands still while it asks."""
        def pass_time(ended):
            seen, quiet = -1, 0
            while not ended.wait(0.02):
                asked = len(self.log.records())
                quiet = quiet + 1 if asked == seen else 0
                if quiet > 3:  # nothing is on its way
                    self.clock.advance(STEP)
                    quiet = 3 if asked == seen else 0
                seen = asked
        with beside(pass_time):
            yield

    def windows(self):
        """How many requests were made in each window of the quota."""
        found = []
        for r in self.log.records():
            if not found or r.time >= found[-1][0] + self.server.quota.window:
                found.append([r.time, 0])
            found[-1][1] += 1
        return [n for _, n in found]

    def test_out(self):
        """By rsync, from a cache that knows nothing."""
        pairs = self.many(KEYS, "r/{:06d}")
        m = self.mount("max_age=86400")
        out = self.folder("out")
        with self.asked(list=KEYS // 1000, bulk_get=KEYS // 100), self.waits_are_short():
            run("rsync", "-a", m.root + "/", out, timeout=500)
        self.assertEqual({b"r/" + os.fsencode(n): read(f"{out}/r/{n}") for n in os.listdir(out + "/r")}, pairs)
        self.assertLess(max(self.windows()), self.server.quota.limit)

    def test_in(self):
        """By rsync, with one request for ten thousand keys."""
        source = self.folder("in")
        os.mkdir(source + "/d")
        for i in range(KEYS):
            write(f"{source}/d/{i:06d}", f"value {i}")
        m = self.mount("max_age=86400")
        with self.asked(list=1, bulk_put=-(KEYS // 10_000 + 2)):
            with self.time_passes(1):
                run("rsync", "-a", source + "/", m.root, timeout=500)
            self.uploaded(m, 120)
        self.assertEqual(self.content(), {b"d/%06d" % i: b"value %d" % i for i in range(KEYS)})

    def test_binary_values(self):
        """One request for each: more than a window allows, so that some have to wait for the next."""
        pairs = {b"b%05d" % i: bytes([i % 251, 255, 0, 128]) * 20 for i in range(RAW)}
        self.fill(pairs)
        m = self.mount("timeout=400", "max_age=86400")
        lists, bulks = -(-RAW // 1000), -(-RAW // 100)
        with self.asked(list=lists, bulk_get=bulks, get=RAW), self.waits_are_short():
            os.listdir(m.root)
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)
        self.assertGreater(len(self.windows()), 1)
        self.assertLess(max(self.windows()), self.server.quota.limit)
