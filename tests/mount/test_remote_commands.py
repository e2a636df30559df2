"""The commands on a mount of Workers KV: sync, umount, status, refresh, retry, drop."""

import errno
import json
import os
import pty
import re
import subprocess
import sys

from harness import KVFS, Test, eventually, is_mounted, read, reap, root_only, run, write
from remote import RemoteTest

LONG = "upload_delay=600"  # nothing goes by itself
REFUSED = {"status": 400, "code": 10033, "message": "no"}


def kvfs(*argv, **more):
    return run(KVFS, *argv, **more)


class CommandTest(RemoteTest):
    def offline(self, m):
        """The server is no more; what is in the mount is known, so that files can be made. Its port."""
        os.listdir(m.root)
        port = self.server.port
        self.server.stop()
        return port

    def umount(self, m, *options):
        """A clean end; what it says."""
        done = kvfs("umount", *options, m.root)
        self.assertFalse(is_mounted(m.root))
        self.assertEqual(reap(m.pid), 0)
        m.forget()
        m.complain()
        return done.stderr

    def refuse(self):
        """The server refuses every value from now on."""
        self.faults.add("status", on=["put", "bulk.put"], **REFUSED)

    def failing(self, m, *names):
        """Changes that have failed to be uploaded."""
        self.refuse()
        for name in names:
            os.makedirs(os.path.dirname(m / name), exist_ok=True)
            write(m / name, b"mine")
        done = kvfs("sync", m.root, check=False)
        self.assertEqual(done.returncode, 1)
        return done.stderr

    def failed(self, m):
        return sorted(f["key"] for f in m.status()["failed"])


class Sync(CommandTest):
    def test_uploads_now(self):
        m = self.mount(LONG)
        for i in range(30):
            write(m / f"k{i}", b"value")
        done = kvfs("sync", m.root)
        self.assertEqual(done.stdout + done.stderr, "")
        self.assertEqual(len(self.content()), 30)
        self.assertEqual(m.status()["uploads_pending"], 0)

    def test_nothing_to_do(self):
        m = self.mount(LONG)
        with self.asked():
            kvfs("sync", m.root)

    def test_progress_on_a_terminal(self):
        m = self.mount(LONG)
        for i in range(1200):
            write(m / f"k{i}", b"value")
        self.faults.add("latency", on="bulk.put", seconds=1)
        ours, theirs = pty.openpty()
        p = subprocess.Popen([KVFS, "sync", m.root], stderr=theirs)
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 4096):
                seen += data
        except OSError:  # how a terminal ends
            pass
        os.close(ours)
        self.assertEqual(p.wait(60), 0)
        self.assertRegex(seen, rb"\rkvfs: sync: [\d,]+ of 1,200 changes uploaded\x1b\[K")
        self.assertNotIn(b"\n", seen)

    def test_refused(self):
        m = self.mount(LONG)
        text = self.failing(m, "a", "b")
        self.assertRegex(text, r"\Akvfs: sync: a: [^\n]+ kvfs drop\nkvfs: sync: b: [^\n]+\n\Z")
        self.faults.clear()
        write(m / "a", b"better")
        write(m / "b", b"better")
        kvfs("sync", m.root)
        self.assertEqual(self.content(), {b"a": b"better", b"b": b"better"})

    def test_many_refused(self):
        m = self.mount(LONG)
        text = self.failing(m, *(f"k{i:02}" for i in range(25))).splitlines()
        self.assertEqual(len(text), 21)
        self.assertIn("5 more", text[-1])

    def test_offline(self):
        m = self.mount(LONG, "timeout=2")
        port = self.offline(m)
        write(m / "k", b"value")
        done = kvfs("sync", "--timeout", "1", m.root, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"1 change is not uploaded yet, since .* since \d\d:\d\d:\d\d")
        p = subprocess.Popen([KVFS, "sync", m.root], stderr=subprocess.PIPE, text=True)
        self.assertIn("has not answered since", p.stderr.readline())
        self.server.start(port)
        self.assertEqual(p.wait(60), 0)
        p.stderr.close()
        self.assertEqual(self.content(), {b"k": b"value"})
        self.assertNotIn("offline_since", m.status())

    def test_open_file(self):
        m = self.mount(LONG)
        with open(m / "k", "wb") as f:
            f.write(b"value")
            f.flush()
            os.fsync(f.fileno())
            done = kvfs("sync", "--timeout", "0.5", m.root, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(m.status()["uploads_open"], 1)
        kvfs("sync", m.root)
        self.assertEqual(self.content(), {b"k": b"value"})

    def test_usage(self):
        for argv in (["sync"], ["sync", "--timeout", "x", "/"], ["sync", "--timeout"], ["sync", "/", "/"],
                     ["umount", "--timeout", "-1", "/"], ["drop"], ["refresh"], ["retry", "a", "b", "c"]):
            self.assertUsage(*argv)


class Umount(CommandTest):
    def test_uploads(self):
        m = self.mount(LONG)
        write(m / "k", b"value")
        m.umount()
        self.assertEqual(self.content(), {b"k": b"value"})

    def test_offline_goes_on_later(self):
        m = self.mount(LONG, "timeout=2")
        port = self.offline(m)
        write(m / "k", b"value")
        said = self.umount(m, "--timeout", "0.5")
        self.assertIn("1 change is not uploaded yet", said)
        self.assertIn("the next mount goes on with it", said)
        self.server.start(port)
        m = self.mount()
        self.uploaded(m)
        self.assertEqual(self.content(), {b"k": b"value"})

    def test_offline_with_fsync_remote(self):
        """What the network keeps from being uploaded keeps nobody from unmounting."""
        m = self.mount(LONG, "timeout=1", "fsync=remote")
        self.offline(m)
        write(m / "k", b"value")
        self.umount(m)

    def test_with_failed_ones(self):
        m = self.mount(LONG)
        self.failing(m, "a")
        self.assertRegex(self.umount(m), r"\Akvfs: umount: a: [^\n]+\n\Z")
        m = self.mount(LONG)
        self.assertEqual(self.failed(m), ["a"])
        self.assertEqual(read(m / "a"), b"mine")


class Status(CommandTest):
    def test_json(self):
        m = self.mount(LONG)
        os.listdir(m.root)
        self.failing(m, "bad")
        self.faults.clear()
        write(m / "waiting", b"value")
        s = m.status()
        self.assertEqual((s["uploads_pending"], s["uploads_failed"]), (1, 1))
        self.assertEqual([set(f) for f in s["failed"]], [{"key", "reason"}])
        self.assertEqual(s["failed"][0]["key"], "bad")
        self.assertEqual(s["requests"], sum(s["requests_by_kind"].values()))
        self.assertEqual(s["quota"], 1200)
        self.assertLess(s["quota_left"], 1200)
        self.assertGreater(s["cache_bytes"], 0)
        self.assertEqual(s["cache_size"], 1 << 30)
        self.assertIn("10033", s["last_error"])

    def test_text(self):
        m = self.mount(LONG)
        self.failing(m, "bad")
        text = kvfs("status", m.root).stdout
        self.assertRegex(text, r"(?m)^uploads failed +1$")
        self.assertRegex(text, r"(?m)^bad: \S.*$")
        self.assertRegex(kvfs("status", "--failed", m.root).stdout, r"\Abad: [^\n]+\n\Z")
        listed = json.loads(kvfs("status", "--failed", "--json", m.root).stdout)
        self.assertEqual([f["key"] for f in listed], ["bad"])

    def test_bounded(self):
        """However many have failed and however long their keys are."""
        m = self.mount(LONG)
        self.failing(m, *("é" * 100 + f"{i:03}" for i in range(300)))
        s = m.status()
        self.assertEqual(s["uploads_failed"], 300)
        self.assertLessEqual(len(s["failed"]), 50)
        self.assertRegex(kvfs("status", "--failed", m.root).stdout, r"and 250 more\n\Z")

    def test_of_several_namespaces(self):
        other = self.server.namespace("other")
        m = self.mount(LONG, title=None)
        self.failing(m, "main/a", "other/a")
        self.assertEqual(sorted((f["namespace"], f["key"]) for f in m.status()["failed"]),
                         [("main", "a"), ("other", "a")])
        self.faults.clear()
        kvfs("retry", m.root, "other")
        kvfs("sync", m.root, check=False)
        self.assertEqual(other.get(b"a").value, b"mine")
        self.assertEqual(self.content(), {})

    def test_names_the_namespace_by_its_title(self):
        """However it was named, and also where that is remembered."""
        other = self.server.namespace("grün/x")
        for ask, title in (("main", "main"), (self.ns.id, "main"), (other.id, "grün%2Fx"), ("grün%2Fx", "grün%2Fx")):
            for _ in range(2):
                m = self.mount(title=ask)
                self.assertEqual(m.status()["namespaces"], [title])
                self.assertRegex(kvfs("status", m.root).stdout, rf"(?m)^namespaces +{title}$")
                m.umount()

    def test_offline_since(self):
        m = self.mount(LONG, "timeout=1")
        self.offline(m)
        write(m / "k", b"value")
        kvfs("sync", "--timeout", "1", m.root, check=False)
        self.assertRegex(kvfs("status", m.root).stdout, r"(?m)^offline since +\d\d:\d\d:\d\d$")
        self.assertIsInstance(m.status()["offline_since"], int)


class Refresh(CommandTest):
    def changed(self, m, *argv, path="a/k"):
        """Another client's change is seen after a refresh, and not before."""
        self.fill({path.encode(): b"before"})
        self.assertEqual(read(m / path), b"before")
        self.fill({path.encode(): b"behind our back"})
        self.assertEqual(read(m / path), b"before")
        kvfs("refresh", *argv)
        eventually(lambda: read(m / path) == b"behind our back")

    def test_file(self):
        m = self.mount("max_age=600")
        self.changed(m, m.root, "a/k")

    def test_folder(self):
        m = self.mount("max_age=600")
        self.changed(m, m.root, m / "a")

    def test_all_of_a_readonly_mount(self):
        m = self.mount("max_age=600", "ro")
        self.changed(m, m.root)

    def test_only_what_is_named(self):
        m = self.mount("max_age=600")
        self.fill({b"a": b"1", b"ab": b"1"})
        self.assertEqual((read(m / "a"), read(m / "ab")), (b"1", b"1"))
        self.fill({b"a": b"2", b"ab": b"2"})
        kvfs("refresh", m.root, "a")
        eventually(lambda: read(m / "a") == b"2")
        self.assertEqual(read(m / "ab"), b"1")

    def test_where_it_cannot_be(self):
        m = self.mount()
        self.assertIn("No such file", self.assertFails(1, "refresh", m.root, "nothing"))
        self.assertIn("not in this mount", self.assertFails(1, "refresh", m.root, "/tmp"))
        self.assertIn("not in this mount", self.assertFails(1, "refresh", m.root, ".."))
        self.assertIn("no kvfs", self.assertFails(1, "refresh", self.tmp))


class RetryAndDrop(CommandTest):
    def test_retry_one(self):
        m = self.mount(LONG)
        self.failing(m, "a", "ab")
        self.faults.clear()
        kvfs("retry", m.root, "a")
        eventually(lambda: self.content() == {b"a": b"mine"})
        self.assertEqual(self.failed(m), ["ab"])

    def test_retry_folder_with_its_own_value(self):
        m = self.mount(LONG)
        self.failing(m, "d/x", "d/%value", "dx")
        self.faults.clear()
        kvfs("retry", m.root, "d")
        eventually(lambda: self.content() == {b"d": b"mine", b"d/x": b"mine"})
        self.assertEqual(self.failed(m), ["dx"])

    def test_retry_all(self):
        m = self.mount(LONG)
        self.failing(m, "a", "b/c")
        self.faults.clear()
        kvfs("retry", m.root)
        eventually(lambda: self.content() == {b"a": b"mine", b"b/c": b"mine"})
        eventually(lambda: m.status()["uploads_failed"] == 0)

    def test_drop_one(self):
        self.fill({b"a": b"theirs"})
        m = self.mount(LONG)
        self.failing(m, "a", "ab")
        done = kvfs("drop", "--yes", m.root, "a")
        self.assertRegex(done.stdout, r"\Aa: failed: [^\n]+\n\Z")
        eventually(lambda: read(m / "a") == b"theirs")
        eventually(lambda: self.failed(m) == ["ab"])
        self.assertEqual(read(m / "ab"), b"mine")

    def test_drop_asks_first(self):
        m = self.mount(LONG)
        self.failing(m, "a")
        done = kvfs("drop", m.root, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--yes", done.stderr)
        self.assertEqual(self.failed(m), ["a"])
        for answer, left in ((b"n\n", ["a"]), (b"y\n", [])):
            ours, theirs = pty.openpty()
            p = subprocess.Popen([KVFS, "drop", m.root], stdin=theirs, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            os.write(ours, answer)
            out, _ = p.communicate(timeout=60)
            os.close(ours)
            os.close(theirs)
            self.assertIn(b"a: ", out)
            self.assertIn(b"[y/N]", out)
            eventually(lambda: self.failed(m) == left)
        eventually(lambda: os.listdir(m.root) == [])

    def test_nothing_failed(self):
        m = self.mount(LONG)
        write(m / "waiting", b"value")
        self.assertIn("Nothing has failed", kvfs("drop", m.root).stdout)
        self.assertEqual(read(m / "waiting"), b"value")
        kvfs("sync", m.root)

    def test_of_a_readonly_mount(self):
        m = self.mount("ro")
        self.assertIn("read-only", self.assertFails(1, "retry", m.root))

    @root_only
    def test_other_users_may_not(self):
        m = self.mount(LONG, "allow_other")
        self.failing(m, "a")
        os.chmod(m.root, 0o777)
        ask = ("import os, sys\ntry:\n os.{}\nexcept OSError as e:\n sys.exit(e.errno)")
        for call in (f"setxattr({m.root!r}, 'kvfs.control', b'drop')",
                     f"getxattr({m.root!r}, 'kvfs.refresh')"):
            done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable,
                       "-c", ask.format(call), check=False)
            self.assertEqual(done.returncode, errno.EPERM, call)
        self.assertEqual(self.failed(m), ["a"])

    def test_attributes_are_not_listed(self):
        m = self.mount()
        write(m / "a", b"value")
        for path in (m.root, m / "a"):
            self.assertFalse([n for n in os.listxattr(path) if n.startswith("kvfs.")])
        self.assertErrno(errno.EINVAL, os.setxattr, m.root, "kvfs.control", b"other")


class OnLmdb(Test):
    def test_nothing_of_the_kind(self):
        m = self.mount()
        write(m / "a", b"value")
        for argv in (["refresh", m.root], ["retry", m.root, "a"]):
            self.assertIn("on this machine", self.assertFails(1, *argv))
        self.assertIn("Nothing has failed", kvfs("drop", m.root).stdout)
        kvfs("sync", "--timeout", "5", m.root)
        self.assertStored(b"a", b"value")
        self.assertNotIn("failed", m.status())

    def test_options_of_other_sources(self):
        for option in ("cache=/tmp", "cache_size=1G", "max_age=1", "upload_delay=1", "fsync=remote", "local=*",
                       "endpoint=http://127.0.0.1:1", "token_file=/x", "timeout=3", "conflict=keep",
                       "env=x", "preview"):
            done = kvfs("mount", "-o", option, self.env, self.folder(re.sub(r"\W.*", "", option)),
                        check=False)
            self.assertEqual(done.returncode, 2, option)
            self.assertRegex(done.stderr.splitlines()[0], rf"option {option.split('=')[0]} is for .*wrangler")
