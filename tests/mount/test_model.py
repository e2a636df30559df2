"""Files against a model: random operations on a mount and on a plain folder, which must agree.

The operations are the model checker's (tests/model). A seed that failed once is here for ever, as
the smallest list of steps that did: tests/model/cases.
"""

import glob
import os
import subprocess
import unittest

from harness import HERE, KVFS, PLAIN, ROOT, SANITIZER_WORDS, Mount, Test, full_only, read

MODEL = os.environ.get("KVFS_TEST_MODEL", "model")
CASES = os.path.join(os.path.dirname(os.path.dirname(MODEL)), "model", "cases")


@unittest.skipIf(PLAIN, "it compares with a plain folder itself")
class Model(Test):
    LIMIT = 240

    def check(self, *argv):
        folder = self.folder(f"model{len(os.listdir(self.tmp))}")
        environ = Mount("", "", [], folder).environ()
        done = subprocess.run([MODEL, "--kvfs", KVFS, "--dir", folder, *argv], env=environ, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=self.LIMIT - 20)
        reports = [read(f).decode(errors="replace") for f in glob.glob(f"{folder}/sanitizer.*")]
        bad = [r for r in reports if SANITIZER_WORDS.search(r)]
        self.assertEqual(bad, [], done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_failed_once(self):
        for case in sorted(glob.glob(f"{CASES}/*.steps")):
            with self.subTest(os.path.basename(case)):
                self.check("--replay", case, "--minimise", "0")

    def test_in_step(self):
        self.check("--seeds", "1-4", "--steps", "1500", "--minimise", "30")

    def test_at_once(self):
        self.check("--concurrent", "--seeds", "5-6", "--steps", "1000", "--workers", "4")

    @full_only
    def test_in_step_for_longer(self):
        self.check("--seeds", "11-13", "--steps", "4000", "--minimise", "60",
                   *(["--drop"] if ROOT else []))
