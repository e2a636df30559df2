"""What others can see, reach and do: other users of the machine, whoever can write to a folder that
kvfs uses, who answers in the API's place, who made the environment. One test for each claim; where a
claim rests on something that is not tested here, its comment says on what.

Elsewhere: the token in logs, messages, /proc and the cache (test_remote_sources.Token), redirects,
certificates and what a core dump of the client holds (tests/cloudflare/test_client.py), commands of
other users (test_commands.OfAnotherUser), root's mounts of folders of others: whoever can rename the
mount point's parent can have root mount elsewhere, as with mount(8).
"""

import errno
import gzip
import os
import re
import socket
import stat
import sys
import threading

from harness import KVFS, Test, eventually, mount_points, read, root_only, run, write
from remote import RemoteTest

# What the kernel dumps of a mapping: core(5), /proc/PID/coredump_filter.
DUMP_ANON, DUMP_ANON_SHARED, DUMP_FILE, DUMP_FILE_SHARED = 1, 2, 4, 8
NOBODY = [65534, 12345]


def as_user(uid, script, *argv):
    """What a small program of another user's prints."""
    return run("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", sys.executable, "-c", script, *argv)


class Dump(RemoteTest):
    def dumped(self, pid):
        """The mappings that a core dump of the process would hold, by the kernel's rules."""
        chosen = int(read(f"/proc/{pid}/coredump_filter"), 16)
        for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", read(f"/proc/{pid}/smaps").decode()):
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) *(.*)\n", part)
            flags = re.search(r"(?m)^VmFlags: (.*)$", part)
            if not head or not flags or "dd" in flags[1].split() or "io" in flags[1].split():
                continue
            shared, in_file = head[3].endswith("s"), head[4] != "0"
            bit = ((DUMP_FILE_SHARED if shared else DUMP_FILE) if in_file
                   else (DUMP_ANON_SHARED if shared else DUMP_ANON))
            if chosen & bit and not re.search(r"(?m)^Rss: +0 kB", part):
                yield int(head[1], 16), int(head[2], 16)

    def test_a_core_holds_no_token(self):
        """Its own page is left out of dumps, and so is all memory that a copy may be in (curl's)."""
        m = self.mount()
        write(m / "k", b"value")
        run(KVFS, "sync", m.root)
        token = self.server.token.encode()
        self.assertEqual(int(read(f"/proc/{m.pid}/coredump_filter"), 16) & DUMP_ANON, 0)
        with open(f"/proc/{m.pid}/mem", "rb", buffering=0) as memory:
            for begin, end in self.dumped(m.pid):
                while begin < end:
                    memory.seek(begin)
                    try:
                        part = memory.read(min(end - begin, 1 << 24))
                    except OSError:  # a mapped file's pages beyond its end
                        break
                    self.assertNotIn(token, part)
                    begin += len(part)

    def test_it_can_be_found_at_all(self):
        """Or the test above would say nothing."""
        m = self.mount()
        token, found = self.server.token.encode(), False
        with open(f"/proc/{m.pid}/maps") as maps, open(f"/proc/{m.pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                begin, end = (int(n, 16) for n in line.split()[0].split("-"))
                if "rw-p" not in line or end - begin > 1 << 26:
                    continue
                try:
                    memory.seek(begin)
                    found = found or token in memory.read(end - begin)
                except OSError:
                    pass
        self.assertTrue(found)


class Private(RemoteTest):
    def test_modes_under_any_umask(self):
        before = os.umask(0)
        try:
            m = self.mount("debug")
            write(m / "k", b"value")
            write(m / "large", bytes(3 << 20))
            run(KVFS, "sync", m.root)
            local = Test.mount(self, source=f"lmdb:{self.env}#main")
            write(local / "k", b"value")
        finally:
            os.umask(before)
        for top in (os.path.join(self.tmp, "cache", "cloudflare"), self.env):
            for folder, _, names in os.walk(top):
                self.assertMode(folder, 0o700)
                for name in names:
                    self.assertMode(os.path.join(folder, name), 0o600)
        self.assertMode(m.log, 0o600)
        self.assertMode(local.log, 0o600)
        # What is made in the mount is another matter: there the user's umask counts, 0 here.
        self.assertMode(m / "k", 0o666)

    @root_only
    def test_other_users_are_shut_out(self):
        """Of the mount by the kernel (no allow_other), of everything else by modes; root's own files."""
        m = self.mount("debug")
        write(m / "k", b"value")
        os.chmod(m / "k", 0o666)
        os.chmod(m.root, 0o777)
        run(KVFS, "sync", m.root)
        script = ("import os, sys\n"
                  "for path in sys.argv[1:]:\n"
                  "  for call in (os.listdir, lambda p: open(p, 'rb').read(1), lambda p: open(p, 'ab'),\n"
                  "               lambda p: os.unlink(p), lambda p: os.rename(p, p + '~')):\n"
                  "    try: call(path)\n"
                  "    except OSError as e: pass\n"
                  "    else: print('reached', path)\n")
        cache = os.path.join(self.tmp, "cache", "cloudflare")
        paths = [m.root, m / "k", m.log, cache]
        for folder, _, names in os.walk(cache):
            paths += [os.path.join(folder, n) for n in names]
        for uid in NOBODY:
            self.assertEqual(as_user(uid, script, *paths).stdout, "")

    def test_the_daemon_holds_no_strange_descriptor(self):
        """Nothing of its parent's, and nothing that it was not asked to open."""
        m = self.mount()
        allowed = re.compile(re.escape(self.tmp) + r"/|/dev/(fuse|null|cpu_dma_latency)$|socket:|pipe:|anon_inode:|/memfd:"
                             r"|/proc/")
        for fd in os.listdir(f"/proc/{m.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{m.pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            self.assertRegex(target, allowed)


class Files(RemoteTest):
    """Files and folders that kvfs is told to use, in places where others can write too."""

    def setUp(self):
        super().setUp()
        self.mp = self.folder("mp")

    def refused(self, *options, source=None):
        options = [f"endpoint={self.server.endpoint}", f"cache={self.tmp}/cache", *options]
        env = {**os.environ, "CLOUDFLARE_API_TOKEN": self.server.token}
        line = self.assertFails(1, "mount", "-o", ",".join(options), source or f"cf:{self.server.account}#main",
                                self.mp, env=env, timeout=20)
        self.assertNotIn(self.mp, mount_points())
        self.assertNotIn(self.server.token, line)
        return line

    def path(self, name):
        return os.path.join(self.tmp, name)

    def test_token_files_that_are_none(self):
        """Nothing hangs, and nothing but a file of its owner's alone is taken for one. A link is
        followed: where secrets are kept that way (Kubernetes) the file is what counts."""
        os.mkfifo(self.path("fifo"), 0o600)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path("socket"))
        self.addCleanup(sock.close)
        write(self.path("open"), self.server.token)
        os.chmod(self.path("open"), 0o644)
        os.symlink("open", self.path("link"))
        os.link(self.path("open"), self.path("other-name"))
        os.symlink("link-to-itself", self.path("link-to-itself"))
        for name, words in (("fifo", "no file"), ("socket", "token_file"), ("link", "chmod 600"),
                            ("other-name", "chmod 600"), ("link-to-itself", "symbolic links")):
            self.assertIn(words, self.refused(f"token_file={self.path(name)}"), name)
        self.assertIn("no file", self.refused("token_file=/dev/zero"))

    def test_token_files_that_hold_none(self):
        for text in (b"", b"\n", b"two words\n", b"x" * 5000, b"tok\x01en", "tök".encode()):
            write(self.path("token"), text)
            os.chmod(self.path("token"), 0o600)
            line = self.refused(f"token_file={self.path('token')}")
            self.assertRegex(line, "token")
            self.assertNotIn(text.decode(errors="replace").strip() or "\0", line)

    def test_logs_that_are_not_ours(self):
        """A log that somebody has put there: a pipe would hold us up, a link or another name of a
        file of ours would have us write to it."""
        os.mkfifo(self.path("fifo"))
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path("socket"))
        self.addCleanup(sock.close)
        write(self.path("profile"), b"mine\n")
        os.link(self.path("profile"), self.path("hard"))
        os.symlink("profile", self.path("soft"))
        for name in ("fifo", "socket", "hard", "soft", "cache-not-there/log", "mp"):
            self.assertIn("the log cannot be opened", self.refused(f"log={self.path(name)}"), name)
        self.assertEqual(read(self.path("profile")), b"mine\n")
        with_reader = os.open(self.path("fifo"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, with_reader)
        self.assertIn("the log cannot be opened", self.refused(f"log={self.path('fifo')}"))

    @root_only
    def test_logs_of_others(self):
        write(self.path("log"), b"")
        os.chmod(self.path("log"), 0o666)
        os.chown(self.path("log"), 65534, 65534)
        self.assertIn("the log cannot be opened", self.refused(f"log={self.path('log')}"))
        self.assertEqual(read(self.path("log")), b"")

    def test_cache_folders_that_others_lead_elsewhere(self):
        """In a folder that everybody may write to, as /tmp: what stands there already is not ours."""
        elsewhere = self.folder("elsewhere")
        os.chmod(elsewhere, 0o700)
        os.mkdir(self.path("cache"))
        os.chmod(self.path("cache"), 0o1777)
        os.symlink(elsewhere, self.path("cache/cloudflare"))
        self.assertIn("not a folder of yours alone", self.refused())
        os.unlink(self.path("cache/cloudflare"))
        os.mkdir(self.path("cache/cloudflare"), 0o700)
        # The account's own folder has a name that is known beforehand.
        m = self.mount()
        own = next(iter(os.listdir(self.path("cache/cloudflare"))))
        m.umount()
        os.rename(self.path(f"cache/cloudflare/{own}"), self.path("kept"))
        os.symlink(elsewhere, self.path(f"cache/cloudflare/{own}"))
        self.assertIn("not a folder of yours alone", self.refused())
        os.unlink(self.path(f"cache/cloudflare/{own}"))
        os.rename(self.path("kept"), self.path(f"cache/cloudflare/{own}"))
        # A lock that leads elsewhere would be made there.
        os.unlink(self.path(f"cache/cloudflare/{own}/lock"))
        os.symlink(os.path.join(elsewhere, "made"), self.path(f"cache/cloudflare/{own}/lock"))
        self.assertIn("lock cannot be opened", self.refused())
        self.assertEqual(os.listdir(elsewhere), [])

    def test_cache_folders_that_others_can_replace(self):
        """What was looked at could be another thing a moment later."""
        os.mkdir(self.path("cache"))
        os.chmod(self.path("cache"), 0o777)
        self.assertIn("others can replace", self.refused())
        os.chmod(self.path("cache"), 0o1777)
        self.mount()

    @root_only
    def test_cache_folders_of_others(self):
        os.mkdir(self.path("cache"))
        os.chown(self.path("cache"), 65534, 65534)
        self.assertIn("others can replace", self.refused())

    def test_environments_with_other_things_for_files(self):
        """Neither a hang nor a crash: data.mdb is a pipe, a device, a socket, a link to nothing."""
        for name, make in (("fifo", os.mkfifo), ("socket", lambda p: os.mknod(p, 0o600 | stat.S_IFSOCK)),
                           ("link", lambda p: os.symlink(p, p)), ("zero", lambda p: os.symlink("/dev/zero", p))):
            folder = self.folder("env-" + name)
            make(os.path.join(folder, "data.mdb"))
            self.assertFails(1, "mount", f"lmdb:{folder}#main", self.mp, timeout=20)
        self.assertNotIn(self.mp, mount_points())

    def test_a_damaged_cache(self):
        """It is left as it is, since what waits to be uploaded is in it, and the message says so."""
        self.server.faults.add("status", on=["put", "bulk.put"], status=503)
        m = self.mount("upload_delay=1000")
        for i in range(200):
            write(m / f"k{i}", b"%d" % i)
        with open(m / "k199", "rb") as f:  # and so all before it
            os.fsync(f.fileno())
        m.kill()
        self.server.faults.clear()
        data = next(os.path.join(f, n) for f, _, names in os.walk(self.path("cache")) for n in names
                    if n == "data.mdb")
        good = read(data)
        bad = bytearray(good)
        for page in range(2, len(good) // 4096):
            bad[page * 4096] ^= 0x40  # each page's number
        write(data, bytes(bad))
        run("fusermount3", "-u", m.root)
        line = self.refused()
        self.assertIn("damaged", line)
        self.assertIn("Move it away", line)
        self.assertEqual(read(data), bytes(bad))
        write(data, good)
        m.start()
        run(KVFS, "sync", m.root)
        self.assertEqual(self.content(), {b"k%d" % i: b"%d" % i for i in range(200)})


class Endpoints(RemoteTest):
    HOSTILE = [
        # plain http to what only looks like this machine
        "http://localhost.evil.example/", "http://127.0.0.1.evil.example/", "http://evil.example/127.0.0.1",
        "http://0/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://127.0.0.1./",
        "http://[::2]/", "http://[::ffff:192.0.2.1]/", "http://[::1/", "http://[::1]evil.example/",
        "http://xn--lcalhost-dbc/", "http://localhost%00.evil.example/", "http:///", "http://",
        # what one parser of URLs takes for a host, and another for something else
        "http://localhost@evil.example/", "http://user:word@localhost/", "https://user@api.example/",
        "http://localhost:80@evil.example/", "http://localhost\\@evil.example/", "http://localhost#@evil.example/",
        "http://localhost?@evil.example/", "http://localhost:80:80/", "http://localhost:999999/",
        "http://localhost:/", "http://localhost /", "http://localhost\t/", "http://localhost/\r\nHost: x",
        # other schemes
        "file:///etc/passwd", "ftp://localhost/", "gopher://localhost/", "HTTP://evil.example/", "//localhost/",
        "javascript:x", "http:localhost", "unix:/run/x",
    ]

    def test_none_that_is_not_what_it_seems(self):
        """Refused before anything is asked, also of a name server."""
        mp = self.folder("mp")
        env = {**os.environ, "CLOUDFLARE_API_TOKEN": self.server.token, "HOME": self.tmp}
        for url in self.HOSTILE:
            done = run(KVFS, "mount", "-o", f"endpoint={url},cache={self.tmp}/c,timeout=1", f"cf:{self.server.account}",
                       mp, check=False, env=env)
            self.assertIn(done.returncode, (1, 2), url)
            self.assertIn("endpoint", done.stderr, url)
            self.assertNotIn(self.server.token, done.stderr)
        self.assertEqual(self.counts(), {})
        self.assertNotIn(mp, mount_points())


class HostileServer(RemoteTest):
    """Whoever answers in the API's place: memory stays bounded, calls end, the mount goes on."""

    LIMIT = 200
    MEMORY = 220 << 10  # KiB that the daemon may take at most, over what it had
    LISTING = [
        ("endless", {}), ("endless", {"framing": "close"}), ("huge_header", {"size": 16 << 20}),
        ("many_headers", {}), ("deep", {"depth": 4 << 20}), ("endless_cursor", {}), ("empty_page", {}),
        ("foreign_keys", {}), ("duplicates", {}), ("unordered", {}), ("garbage", {}), ("wrong_types", {}),
        ("nul", {}), ("invalid_utf8", {}), ("truncated_json", {}), ("trailing", {}),
    ]

    def peak(self, m):
        status = read(f"/proc/{m.pid}/status").decode()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])

    def ends(self, what):
        """Calls it in a thread of its own; whether it came to an end in time."""
        thread = threading.Thread(target=what, daemon=True)
        thread.start()
        thread.join(15)
        self.assertFalse(thread.is_alive(), "it does not end")

    def looked_at(self, m, names):
        def look():
            for call in [lambda: os.listdir(m.root), *(lambda n=n: read(m / n) for n in names)]:
                try:
                    call()
                except OSError:
                    pass
        return look

    def million_keys(self):
        rows = b",".join(b'{"name":"k%07d","metadata":{"a":[1,2,3]}}' % i for i in range(300_000))
        return b'{"success":true,"errors":[],"messages":[],"result":[' + rows + b'],"result_info":{"cursor":""}}'

    def bomb(self):
        return gzip.compress(bytes(400 << 20), 1)

    def survives(self, m, names, faults):
        before = self.peak(m)
        for name, more in faults:
            with self.subTest(fault=name):
                run(KVFS, "refresh", m.root)
                self.faults.clear()
                self.faults.add(name, **{"on": ["list", "get", "bulk.get"], **more})
                self.ends(self.looked_at(m, names))
                self.assertEqual(m.status()["pid"], m.pid)
        self.assertLess(self.peak(m) - before, self.MEMORY)
        self.faults.clear()

    def healed(self, m, names):
        """Nothing of what was said is believed now."""
        run(KVFS, "refresh", m.root)
        eventually(lambda: sorted(os.listdir(m.root)) == sorted(names), 30, "the listing")
        for name in names:
            eventually(lambda: read(m / name) == b"value of " + name.encode(), 30, name)

    def prepared(self):
        names = ["k00", "k01", "k02"]
        self.fill({n.encode(): b"value of " + n.encode() for n in names})
        m = self.mount("timeout=1", "max_age=1")
        self.assertEqual(sorted(os.listdir(m.root)), names)
        return m, names

    def test_answers_that_are_too_much_or_nonsense(self):
        m, names = self.prepared()
        self.survives(m, names[:1], self.LISTING)
        self.healed(m, names)

    def test_a_page_of_very_many_keys(self):
        m, names = self.prepared()
        self.survives(m, names[:1], [("body", {"on": "list", "body": self.million_keys()})])
        self.healed(m, names)

    def test_a_bomb(self):
        m, names = self.prepared()
        before = self.peak(m)
        self.faults.add("body", on=["list", "get", "bulk.get"], body=self.bomb())
        self.faults.add("header", on=["list", "get", "bulk.get"], field="Content-Encoding", text="gzip")
        run(KVFS, "refresh", m.root)
        self.ends(self.looked_at(m, names[:1]))
        self.assertLess(self.peak(m) - before, self.MEMORY)
        self.faults.clear()
        self.healed(m, names)

    def test_an_answer_drop_by_drop(self):
        m, names = self.prepared()
        run(KVFS, "refresh", m.root)
        self.faults.add("slow", on=["list", "get", "bulk.get"], chunk=1, pause=0.2)
        self.ends(self.looked_at(m, names[:1]))
        self.faults.clear()
        self.healed(m, names)

    def test_keys_that_lead_out_of_the_folder(self):
        """They are names like any other, and nothing outside is touched."""
        keys = [b"../up", b"../../etc/passwd", b"a/../b", b"/", b"//", b"/abs", b"a\\b", b"..;/x", b".../x",
                b"%2e%2e/x", b"./x", b"x/.", b"x/.."]
        self.fill({k: b"value of " + k for k in keys})
        m = self.mount()
        found = {}
        for folder, _, files in os.walk(os.fsencode(m.root)):
            for name in files:
                path = os.path.join(folder, name)
                found[os.getxattr(path, "user.kv.key")] = read(path)
        self.assertEqual(found, {k: b"value of " + k for k in keys})
        self.assertEqual(sorted(os.listdir(self.tmp)), sorted({"cache", "daemon0", "mnt0"}))
