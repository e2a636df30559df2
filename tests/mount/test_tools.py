"""Programs that people use."""

import os
import subprocess
import unittest
import zlib

from harness import PLAIN, ROOT, Test, exists, read, run, write


class Editors(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "config.json"
        write(self.f, b'{"color": "red", "n": 1}\n')

    def check(self, text, others=()):
        for _ in range(2):
            self.assertEqual(read(self.f).decode(), text)
            self.assertEqual(sorted(os.listdir(self.m.root)), sorted(["config.json", *others]))
            self.m.remount()

    def test_vim(self):
        for setting in ("backup backupcopy=no", "backupcopy=yes", "nobackup nowritebackup"):
            write(self.f, b"red\n")
            run("vim", "-Nu", "NONE", "-es", "-c", "set " + setting, "-c", "%s/red/green/",
                "-c", "wq", self.f, env={**os.environ, "HOME": self.tmp, "TERM": "dumb"})
            self.assertEqual(read(self.f), b"green\n")
        self.assertFalse([n for n in os.listdir(self.m.root) if n.endswith(".swp")])

    def test_sed_and_perl(self):
        os.chmod(self.f, 0o640)
        run("sed", "-i", "s/red/blue/", self.f)
        run("perl", "-pi", "-e", "s/1/2/", self.f)
        self.assertMode(self.f, 0o640)
        self.check('{"color": "blue", "n": 2}\n')

    def test_sed_with_backup(self):
        run("sed", "-i.bak", "s/red/blue/", self.f)
        self.check('{"color": "blue", "n": 1}\n', ["config.json.bak"])

    def test_jq_to_a_temporary_file(self):
        run("sh", "-ec", 'jq -c ".n += 41" "$1" > "$1.tmp" && mv "$1.tmp" "$1"', "sh", self.f)
        self.check('{"color":"red","n":42}\n')

    def test_shell(self):
        run("sh", "-ec", 'cd "$1"; echo hi > a; echo ho >> a; cat a a > b; cp b c; ln -s a l; '
            'test "$(cat l)" = "$(printf "hi\\nho")"; truncate -s 3 c; install -m 600 c d; '
            'mktemp -p . >/dev/null; touch -d @99 d; rm config.json; ls -la', "sh", self.m.root)
        self.assertEqual(read(self.m / "b"), b"hi\nho\nhi\nho\n")
        self.assertEqual(read(self.m / "d"), b"hi\n")
        self.assertEqual(os.stat(self.m / "d").st_mtime, 99)


class Programs(Test):
    LIMIT = 300

    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_git(self):
        home = self.folder("home")
        env = {**os.environ, "HOME": home, "GIT_CONFIG_NOSYSTEM": "1"}
        for key, value in (("user.name", "A"), ("user.email", "a@b"), ("gc.autoDetach", "false"),
                           ("safe.directory", "*"), ("init.defaultBranch", "main")):
            run("git", "config", "--global", key, value, env=env)

        def git(*argv, at="repo"):
            cwd = self.m / at if at else self.m.root
            return run("git", *argv, cwd=cwd, env=env, timeout=120).stdout
        git("init", "-q", "repo", at=None)
        for i in range(120):
            os.makedirs(self.m / f"repo/dir{i % 7}", exist_ok=True)
            write(self.m / f"repo/dir{i % 7}/file{i}", f"text {i}\n" * 50)
        git("add", ".")
        git("commit", "-qm", "first")
        write(self.m / "repo/dir0/file0", b"changed\n")
        git("commit", "-qam", "second")
        self.assertEqual(git("status", "--porcelain"), "")
        git("clone", "-q", "repo", "copy", at=None)
        git("clone", "-q", "--no-local", "--bare", "repo", "bare", at=None)
        git("gc", "-q")
        git("checkout", "-q", "-b", "branch", "HEAD~1")
        git("checkout", "-q", "main")
        self.m.remount()
        for at in ("repo", "copy", "bare"):
            git("fsck", "--full", "--strict", at=at)
            self.assertEqual(git("log", "--format=%s", "main", at=at), "second\nfirst\n")
        self.assertEqual(git("status", "--porcelain", at="copy"), "")
        self.assertEqual(len(git("ls-files", at="copy").splitlines()), 120)

    def test_sqlite(self):
        for journal in ("delete", "wal", "truncate", "persist"):
            db = self.m / f"{journal}.db"
            out = run("sqlite3", db, f"PRAGMA journal_mode={journal};").stdout
            self.assertEqual(out, journal + "\n")
            sql = "CREATE TABLE t(a INTEGER PRIMARY KEY, b); BEGIN;" + "".join(
                f"INSERT INTO t VALUES({i}, hex(randomblob(200)));" for i in range(500)) + "COMMIT;"
            run("sqlite3", db, sql)
            for i in range(10):
                run("sqlite3", db, f"UPDATE t SET b='x{i}' WHERE a%10={i};")
            run("sqlite3", db, "BEGIN; DELETE FROM t; ROLLBACK; VACUUM;")
            self.m.remount()
            self.assertEqual(run("sqlite3", db, "PRAGMA integrity_check; SELECT count(*) FROM t "
                                 "WHERE b GLOB 'x?';").stdout, "ok\n500\n")

    def test_sqlite_by_two_processes(self):
        db = self.m / "shared.db"
        run("sqlite3", db, "CREATE TABLE t(who, n);")
        script = ".timeout 20000\n"
        script += "".join(f"INSERT INTO t VALUES('%s', {i});\n" for i in range(40))
        both = [subprocess.Popen(["sqlite3", "-bail", db], stdin=subprocess.PIPE, text=True)
                for _ in range(2)]
        for who, p in zip("ab", both):
            p.stdin.write(script.replace("%s", who))
            p.stdin.close()
        self.assertEqual([p.wait(90) for p in both], [0, 0])
        out = run("sqlite3", db, "PRAGMA integrity_check; SELECT count(*) FROM t;").stdout
        self.assertEqual(out, "ok\n80\n")

    def test_find_grep_du(self):
        for i in range(300):
            os.makedirs(self.m / f"d{i % 10}/e{i % 3}", exist_ok=True)
            write(self.m / f"d{i % 10}/e{i % 3}/f{i}", b"needle\n" if i % 50 == 0 else b"hay\n" * i)
        found = run("find", self.m.root, "-type", "f").stdout.splitlines()
        self.assertEqual(len(found), 300)
        self.assertEqual(len(run("find", self.m.root, "-type", "d").stdout.splitlines()), 41)
        self.assertEqual(len(run("find", self.m.root, "-name", "f1*", "-newer", "/etc/hostname",
                                 "-size", "+0").stdout.splitlines()), 111)
        hits = run("grep", "-rl", "needle", self.m.root).stdout.splitlines()
        self.assertEqual(sorted(os.path.basename(h) for h in hits),
                         ["f0", "f100", "f150", "f200", "f250", "f50"])
        size = sum(7 if i % 50 == 0 else 4 * i for i in range(300))
        apparent = int(run("du", "-sb", self.m.root).stdout.split()[0])
        folders = sum(os.stat(d).st_size for d, _, _ in os.walk(self.m.root))
        self.assertEqual(apparent, size + folders)
        blocks = run("du", "-s", "--block-size=1", self.m.root).stdout.split()[0]
        self.assertGreaterEqual(int(blocks), size)

    def test_dd_with_odd_blocks(self):
        source = os.path.join(self.tmp, "source")
        write(source, os.urandom(500_000))
        for size in (1, 7, 4095, 4097, 65_537, 131_073, 1_000_003):
            count = 3000 if size < 10 else 1000
            run("dd", f"if={source}", f"of={self.m / 'copy'}", f"bs={size}", f"count={count}",
                "status=none")
            expected = read(source)[:size * count]
            self.assertEqual(zlib.crc32(read(self.m / "copy")), zlib.crc32(expected), size)
        run("dd", f"if={source}", f"of={self.m / 'copy'}", "bs=1000", "seek=7", "skip=3", "count=5",
            "conv=notrunc", "status=none")
        expected = expected[:7000] + expected[3000:8000] + expected[12_000:]
        self.assertEqual(read(self.m / "copy"), expected)
        run("dd", f"if={source}", f"of={self.m / 'direct'}", "bs=64k", "oflag=dsync", "status=none")
        self.assertEqual(read(self.m / "direct"), read(source))

    def test_xattr_tools(self):
        write(self.m / "f")
        run("setfattr", "-n", "user.comment", "-v", "hello", self.m / "f")
        self.assertIn('user.comment="hello"', run("getfattr", "-d", self.m / "f").stdout)
        run("setfattr", "-x", "user.comment", self.m / "f")
        self.assertEqual(run("getfattr", "-d", self.m / "f").stdout, "")

    @unittest.skipIf(PLAIN, "about kvfs")
    def test_ttl_with_setfattr(self):
        write(self.m / "f")
        run("setfattr", "-n", "user.kv.ttl", "-v", "3600", self.m / "f")
        listed = run("getfattr", "-d", self.m / "f").stdout
        self.assertRegex(listed, r'(?m)^user.kv.expiration="\d{10}"$')
        self.assertNotIn("ttl", listed)
        left = run("getfattr", "-n", "user.kv.ttl", "--only-values", self.m / "f").stdout
        self.assertIn(int(left), range(3500, 3601))

    def test_removing_everything(self):
        for i in range(200):
            os.makedirs(self.m / f"a/b{i % 5}", exist_ok=True)
            write(self.m / f"a/b{i % 5}/{i}")
        run("rm", "-r", self.m / "a")
        self.assertEqual(os.listdir(self.m.root), [])
        self.m.remount()
        self.assertEqual(os.listdir(self.m.root), [])
        self.assertFalse(exists(self.m / "a"))

    @unittest.skipUnless(ROOT, "needs root")
    def test_chown_tool(self):
        write(self.m / "f")
        run("chown", "-R", "12345:54321", self.m.root)
        self.m.remount()
        st = os.stat(self.m / "f")
        self.assertEqual((st.st_uid, st.st_gid), (12345, 54321))
