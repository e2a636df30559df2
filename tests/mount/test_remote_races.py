"""32 threads on few names at once in a mounted Workers KV namespace, while others change it, what is known of
it is refreshed, and the cache has room for a part only. What must hold meanwhile is in stress.py. For longer,
by itself, also as `scripts/test --soak` does: test_remote_races.py --seconds N --seed N --kvfs FILE
"""

import json
import os
import subprocess
import sys
import time
import unittest

import harness
import remote
from harness import HERE, eventually, read, run, stacks
from remote import RemoteTest
from stress import is_whole, value


class Races(RemoteTest):
    SECONDS, SEED = 12, 1
    LIMIT = SECONDS + 240

    def test_many_threads_on_few_names(self):
        self.m = self.mount("cache_size=200K", "max_age=1")
        stress = subprocess.Popen(
            [sys.executable, "-B", f"{HERE}/stress.py", self.m.root, str(self.SECONDS), str(self.SEED)],
            stdout=subprocess.PIPE, text=True)
        try:
            self.disturb(stress)
            said = json.loads(stress.communicate(timeout=120)[0])
        finally:
            stress.kill()
            stress.communicate()
        if any("hang" in p for p in said["problems"]):
            said["problems"].append(stacks(self.m.pid))
        self.assertEqual(said, {"problems": [], "unused": []})
        self.uploaded(self.m, 60)
        self.assertEqual(self.m.status()["failed"], [])
        content = self.content()
        self.assertEqual([k for k in content if k[:1] in b"afd" and not is_whole(content[k])], [])
        # What others wrote over an own change is seen when that has been pinned for twice max_age.
        for key in content:
            path = os.fsencode(self.m.root) + b"/" + key
            eventually(lambda p=path, k=key: read(p) == content[k], 10, f"{key} as the server has it")

    def disturb(self, stress):
        """What others do, and who asks, while it runs."""
        commands = (["status", "--json"], ["refresh"], ["retry"], ["sync", "--timeout", "2"], ["drop"])
        number, deadline = 0, time.monotonic() + self.SECONDS + 100
        while stress.poll() is None and time.monotonic() < deadline:
            number += 1
            for i in range(4):
                self.ns.put(b"f%d" % i, value("f", number, 500))
                self.ns.put(b"a%d" % i, value("f", number, 300 * (i + 1)))
            self.ns.delete(b"f%d" % (number % 4))
            self.ns.delete(b"d%d/x%d" % (number % 5, number % 4))
            command = commands[number % len(commands)]
            run(harness.KVFS, *command, self.m.root, check=False)


def main():
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    harness.KVFS = remote.KVFS = options["--kvfs"]
    Races.SECONDS, Races.SEED = int(options["--seconds"]), int(options["--seed"])
    Races.LIMIT = Races.SECONDS + 240
    unittest.main(argv=[sys.argv[0]])


if __name__ == "__main__":
    main()
