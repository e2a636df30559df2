#!/usr/bin/python3 -B
"""Runs the tests of the counterparts themselves, and those of kvfs mounted on the real ones:

    selftest.py [--kvfs FILE] [--node FOLDER] [--results FILE] [NAME...]

One line per test, as the mount tests have it; with --results a line for each in a file. With --node
the real clients and miniflare are installed there, by npm, and their tests run too.
"""

import argparse
import glob
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "mount")]

from run import Lines, flatten, full_name  # noqa: E402

NODES = ("test_real.", "test_workers.", "test_agreement.", "test_clients.")  # where some need npm


def prepare(folder):
    import node
    why = node.install(folder)
    if why:
        print(f"No real counterparts: {why}", flush=True)
    else:
        os.environ["KVFS_TEST_NODE"] = folder


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--label", default="cloudflare")
    p.add_argument("--results")
    p.add_argument("--node")
    p.add_argument("--kvfs", default="kvfs")
    p.add_argument("names", nargs="*")
    args = p.parse_args()
    os.environ.update(KVFS_TEST_BINARY=os.path.abspath(args.kvfs), LC_ALL="C.UTF-8")
    modules = sorted(os.path.basename(f)[:-3] for f in glob.glob(HERE + "/test_*.py"))
    tests = [t for t in flatten(unittest.defaultTestLoader.loadTestsFromNames(modules))
             if not args.names or any(name in full_name(args.label, t) for name in args.names)]
    if args.node and any(t.id().startswith(NODES) for t in tests):
        prepare(os.path.abspath(args.node))
    lines = Lines(args)
    unittest.TestSuite(tests).run(lines)
    if args.results:
        print("end", file=lines.file, flush=True)
    else:
        print(f"{lines.good} passed, {lines.bad} failed")
    sys.exit(1 if lines.bad else 0)


if __name__ == "__main__":
    main()
