#!/usr/bin/python3 -B
"""Runs the mount tests: run.py --kvfs FILE --lmdbtool FILE --posix FILE [options] [NAME...]

Every module test_*.py of this folder whose theme fits, and in it every test whose name contains
one of the NAMEs. One line per test; the output of one that fails; with --results, a line "pass
NAME", "fail NAME" or "skip NAME: WHY" for each in a file. As root, --user UID gives root away
first.
"""

import argparse
import faulthandler
import glob
import os
import shutil
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
GRACE = 30  # seconds between the end of a test's limit, which kills its daemons, and our own end


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--kvfs", default="kvfs")
    p.add_argument("--lmdbtool", default="lmdbtool")
    p.add_argument("--posix", default="posix")
    p.add_argument("--model", default="model", help="the model checker")
    p.add_argument("--tally", help="the library that counts what a daemon does")
    p.add_argument("--faulty", help="the library that makes a daemon's disk a bad one")
    p.add_argument("--user", type=int)
    p.add_argument("--full", action="store_true", help="the long tests too")
    p.add_argument("--plain", action="store_true", help="a plain folder instead of a mount")
    p.add_argument("--themes", default="", help="comma-separated modules without test_ (all)")
    p.add_argument("--label", default="mount")
    p.add_argument("--results")
    p.add_argument("--build", help="the build folder, for the test of the installation")
    p.add_argument("names", nargs="*")
    return p.parse_args()


def fuse_for_all(folder):
    """A command prefix: where /dev/fuse is for root only (udev makes it 0666, some containers do
    not), the tests see one for everybody, in a mount namespace of their own. It must not hold on
    to its copies of the mounts that others have at this moment."""
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        return []
    script = ('while read -r _ at type _; do '
              '[ "$type" != fuse.kvfs ] || umount -l "$(printf %b "$at")"; '
              'done </proc/self/mounts; mkdir -m 755 "$0" && mount -t tmpfs -o mode=755 none "$0" && '
              'mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && exec "$@"')
    return ["unshare", "--mount", "sh", "-c", script, folder + "/dev"]


def become(uid):
    """Starts this program again as an ordinary user, with a home of its own."""
    home = tempfile.mkdtemp(prefix="kvfs-home-", dir="/tmp")
    os.chown(home, uid, uid)
    argv = [a for i, a in enumerate(sys.argv) if a != "--user" and sys.argv[i - 1] != "--user"]
    os.environ.update(HOME=home, USER="kvfs-test", LOGNAME="kvfs-test", XDG_RUNTIME_DIR=home)
    child = [*fuse_for_all(home), "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--",
             sys.executable, "-B", *argv]
    status = os.spawnvp(os.P_WAIT, child[0], child)
    shutil.rmtree(home)
    sys.exit(status if status >= 0 else 1)


def full_name(label, test):
    return label + " " + test.id().removeprefix("test_")


class Lines(unittest.TestResult):
    """One line per test."""

    def __init__(self, args):
        super().__init__()
        self.label, self.file = args.label, args.results and open(args.results, "a")
        self.good = self.bad = 0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.problems, self.why = [], None
        limit = getattr(test, "LIMIT", 60)
        faulthandler.dump_traceback_later(limit + GRACE, exit=True)

    def addError(self, test, err):
        self.problems.append(self._exc_info_to_string(err, test))

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err:
            self.problems.append(str(subtest) + "\n" + self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self.why = reason

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        name = full_name(self.label, test)
        took = time.monotonic() - self.began
        word = "fail" if self.problems else "skip" if self.why else "pass"
        self.good += word == "pass"
        self.bad += word == "fail"
        note = f": {self.why}" if word == "skip" else ""
        print(f"{word} {took:7.2f} s  {name}{note}", flush=True)
        for text in self.problems:
            print("    " + text.replace("\n", "\n    "), flush=True)
        if self.file:
            print(f"{word} {name}{note}", file=self.file, flush=True)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main():
    args = arguments()
    if args.user is not None and os.geteuid() == 0:
        become(args.user)
    os.environ.update(KVFS_TEST_BINARY=os.path.abspath(args.kvfs),
                      KVFS_TEST_LMDBTOOL=os.path.abspath(args.lmdbtool),
                      KVFS_TEST_POSIX=os.path.abspath(args.posix),
                      KVFS_TEST_MODEL=shutil.which(args.model) or os.path.abspath(args.model),
                      KVFS_TEST_TALLY=args.tally and os.path.abspath(args.tally) or "",
                      KVFS_TEST_FAULTY=args.faulty and os.path.abspath(args.faulty) or "",
                      KVFS_TEST_PLAIN="1" if args.plain else "", LC_ALL="C.UTF-8",
                      KVFS_TEST_FULL="1" if args.full else "",
                      KVFS_TEST_BUILD=args.build and os.path.abspath(args.build) or "")
    os.umask(0o022)
    os.chdir("/")
    sys.path.insert(0, HERE)
    themes = args.themes.split(",") if args.themes else sorted(
        os.path.basename(f)[5:-3] for f in glob.glob(f"{HERE}/test_*.py"))
    result = Lines(args)
    for theme in themes:
        suite = unittest.defaultTestLoader.loadTestsFromName(f"test_{theme}")
        chosen = [t for t in flatten(suite)
                  if not args.names or any(n in full_name(args.label, t) for n in args.names)]
        unittest.TestSuite(chosen).run(result)
    if result.file:
        print("end", file=result.file, flush=True)
    else:
        print(f"{result.good} passed, {result.bad} failed")
    sys.exit(1 if result.bad else 0)


if __name__ == "__main__":
    main()
