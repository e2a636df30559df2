"""What work on a mounted Workers KV namespace costs in requests, to the last one."""

import os

from harness import read, run, sanitized, write
from remote import RemoteTest

LARGE = 2000 if sanitized() else 10000


def sizes(folder):
    with os.scandir(folder) as entries:
        return sum(e.stat().st_size for e in entries)


class Reading(RemoteTest):
    virtual = True
    LIMIT = 200

    def test_list_stat_read(self):
        pairs = self.many(2500)
        m = self.mount()
        with self.asked(list=3):
            self.assertEqual(sorted(os.listdir(m.root)), sorted(k.decode() for k in pairs))
        with self.asked(bulk_get=25):
            self.assertEqual(sizes(m.root), sum(map(len, pairs.values())))
        for _ in range(2):
            with self.asked():
                self.assertEqual({k: read(m / k) for k in pairs}, pairs)
                self.assertEqual(len(os.listdir(m.root)), 2500)
                self.assertEqual(sizes(m.root), sum(map(len, pairs.values())))
        self.clock.advance(61)
        with self.asked(list=3, bulk_get=25):
            os.listdir(m.root)
            sizes(m.root)
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)
        m.remount()
        with self.asked():
            self.assertEqual(len(os.listdir(m.root)), 2500)
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)

    def test_read_without_listing(self):
        pairs = self.many(300)
        m = self.mount()
        with self.asked(list=1, bulk_get=3):
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)

    def test_one_folder_of_many(self):
        self.many(LARGE, "d{:05d}/k")
        self.many(100, "m/k{:05d}")
        m = self.mount()
        with self.asked(list=1):
            self.assertEqual(len(os.listdir(m / "m")), 100)

    def test_deep_file(self):
        self.fill({b"a/b/c/d/e": b"deep", b"a/b/c/x": b"x", b"z": b"z"})
        m = self.mount()
        with self.asked(list=1, bulk_get=1):
            self.assertEqual(read(m / "a/b/c/d/e"), b"deep")
        self.fill({b"p/q/r": b"other"})
        n = self.mount(cache="other")
        os.listdir(n.root)
        os.listdir(n / "a/b/c/d")
        with self.asked(bulk_get=1):
            self.assertEqual(read(n / "a/b/c/d/e"), b"deep")

    def test_deep_file_of_many(self):
        pairs = self.many(LARGE, "r/{:05d}")
        self.fill({b"r/%02d/%03d/k" % (i, j): b"%d" % i for i in range(10) for j in range(30)})
        m = self.mount()
        with self.asked(list=1, bulk_get=1):
            self.assertEqual(read(m / "r/00005"), pairs[b"r/00005"])
        n = self.mount(cache="other")
        with self.asked(list=2, bulk_get=1):
            self.assertEqual(read(n / "r/07/011/k"), b"7")

    def test_some_of_many(self):
        """Names that nothing is known of, in a folder too large for a page."""
        self.many(LARGE, "k{:05d}x")
        m = self.mount()
        with self.asked(list=1, bulk_get=1):
            self.assertTrue(os.path.exists(m / "k00000x"))
        with self.asked(list=-4, bulk_get=1):
            self.assertTrue(os.path.exists(m / f"k{LARGE - 1:05d}x"))
            self.assertFalse(os.path.exists(m / f"k{LARGE - 1:05d}y"))
        with self.asked(list=-2 * LARGE // 1000, bulk_get=-40):
            for i in range(0, LARGE, LARGE // 40):
                self.assertTrue(os.path.exists(m / f"k{i:05d}x"))

    def test_names_without_numbers(self):
        names = [a + b + "name" for a in "abcdefgh" for b in "lmnopqrs"]
        self.fill({n.encode(): n.encode() for n in names})
        m = self.mount()
        with self.asked(list=2, bulk_get=2):
            for n in names:
                self.assertEqual(read(m / n), n.encode())

    def test_grep(self):
        self.many(1000, "g/{:03d}/k")
        m = self.mount()
        with self.asked(list=1, bulk_get=10):
            run("grep", "-r", "value 77$", m.root)

    def test_binary_values(self):
        pairs = {b"b%03d" % i: bytes([i, 255, 0, 128]) * 50 for i in range(150)}
        self.fill(pairs)
        m = self.mount()
        with self.asked(list=1, bulk_get=2, get=150):
            os.listdir(m.root)
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)
        with self.asked():
            self.assertEqual({k: read(m / k) for k in pairs}, pairs)

    def test_one_binary_value(self):
        self.fill({b"b%03d" % i: bytes([i, 255, 0, 128]) * 50 for i in range(150)})
        m = self.mount()
        os.listdir(m.root)
        with self.asked(bulk_get=1, get=1):
            read(m / "b070")
        with self.asked(get=1):
            read(m / "b120")

    def test_what_is_absent(self):
        self.many(50, "a/k{}")
        m = self.mount()
        os.listdir(m.root)
        with self.asked():
            for name in ("nothing", "a/nothing", "a/k1x", "b/c/d"):
                for _ in range(2):
                    self.assertFalse(os.path.lexists(m / name))

    def test_rsync_out(self):
        pairs = self.many(LARGE, "r/{:05d}")
        m = self.mount()
        out = self.folder("out")
        with self.asked(list=LARGE // 1000, bulk_get=LARGE // 100):
            run("rsync", "-a", m.root + "/", out, timeout=150)
        self.assertEqual({b"r/" + os.fsencode(n): read(f"{out}/r/{n}") for n in os.listdir(out + "/r")}, pairs)
        self.clock.advance(100)
        done = run("rsync", "-ai", m.root + "/", out, timeout=150)
        self.assertEqual(done.stdout, "")


class Writing(RemoteTest):
    virtual = True
    LIMIT = 200

    def test_rsync_in(self):
        source = self.folder("in")
        os.mkdir(source + "/d")
        for i in range(LARGE):
            write(f"{source}/d/{i:05d}", f"value {i}")
        os.setxattr(source + "/d/00007", "user.kv.metadata", b'{"a":1}')
        self.fill({b"old": b"1"})
        m = self.mount()
        with self.asked(list=1, bulk_put=-2):
            run("rsync", "-aX", source + "/", m.root, timeout=150)
            self.uploaded(m, 60)
        self.assertEqual(self.ns.get(b"d/00007").metadata, '{"a":1}')
        self.assertEqual(self.content(), {b"old": b"1", **{b"d/%05d" % i: b"value %d" % i for i in range(LARGE)}})

    def test_rm(self):
        self.many(LARGE, "r/{:05d}")
        m = self.mount()
        with self.asked(list=LARGE // 1000, bulk_delete=1):
            run("rm", "-r", m / "r", timeout=150)
            self.uploaded(m, 60)
        self.assertEqual(self.content(), {})

    def test_mv_folder_of_many(self):
        self.many(LARGE, "r/{:05d}")
        m = self.mount()
        with self.asked(list=LARGE // 1000 + 1, bulk_get=LARGE // 100, bulk_put=1, bulk_delete=1):
            os.rename(m / "r", m / "s")
            self.uploaded(m, 60)
        self.assertEqual(len(self.content()), LARGE)

    def test_mv_folder(self):
        self.many(1000, "r/{:05d}")
        m = self.mount()
        with self.asked(list=2, bulk_get=10, bulk_put=1, bulk_delete=1):
            os.rename(m / "r", m / "s")
            self.uploaded(m, 60)
        self.assertEqual(self.content(), {b"s/%05d" % i: b"value %d" % i for i in range(1000)})

    def edited(self, m, **more):
        self.uploaded(m)
        counts = self.counts()
        writes = {k: v for k, v in counts.items() if "put" in k or "delete" in k}
        self.assertEqual(sum(writes.values()), 1, counts)
        self.assertEqual(self.log.keys()["put"] + self.log.keys()["bulk.put"], 1)

    def test_editors(self):
        self.fill({b"f": b"red\n", b"g": b"x"})
        self.ns.put(b"f", b"red\n", metadata={"kept": 1}, expiration=4_000_000_000)
        m = self.mount()
        commands = [["sed", "-i", "s/red/green/", m / "f"],
                    ["vim", "-Nu", "NONE", "-es", "-c", "set backup backupcopy=no", "-c", "%s/green/blue/", "-c", "wq", m / "f"],
                    ["sh", "-ec", 'sed s/blue/black/ <"$1" >"$1.tmp~"; mv "$1.tmp~" "$1"', "sh", m / "f"]]
        for command, value in zip(commands, (b"green\n", b"blue\n", b"black\n")):
            self.log.clear()
            run(*command, env={**os.environ, "HOME": self.tmp, "TERM": "dumb"})
            self.edited(m)
            entry = self.ns.get(b"f")
            self.assertEqual(entry.value, value)
            self.assertEqual((entry.metadata, entry.expiration), ('{"kept":1}', 4_000_000_000))
        self.assertEqual(set(self.content()), {b"f", b"g"})
