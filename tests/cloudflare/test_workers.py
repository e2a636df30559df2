"""kvfs and a Worker on one namespace: what people's Workers keep in Workers KV, edited as files.

The Worker (node/worker.mjs) runs in workerd, on Cloudflare's own KV.
"""

import json
import os
import time

from harness import eventually, read, run, write
from real import SOON, RealTest

DAY = 86400
JPEG = bytes(range(256)) * 300 + b"\xff\xd9"


class Flags(RealTest):
    FLAGS = {"new": False, "max": 3}

    def flags(self, answer):
        """What the Worker says of the flags."""
        return 200, {"flags": answer, "from": "store"}

    def test_a_flag_that_sed_changes(self):
        self.worker("PUT", "/flags", json.dumps(self.FLAGS))
        m = self.mount("separator=:", "upload_delay=1")  # as it is for everybody
        run("sed", "-i", "s/false/true/", m / "feature-flags")
        self.answers("/raw/feature-flags", (200, json.dumps({**self.FLAGS, "new": True}, separators=(",", ":")).encode()))
        self.assertEqual(self.worker("GET", "/flags"), self.flags({**self.FLAGS, "new": True}))

    def test_the_cached_copy(self):
        """It is a file with its time to live, and the flags are a directory then. Whoever does not want to
        wait for its end removes it."""
        self.worker("PUT", "/flags", json.dumps(self.FLAGS))
        self.assertEqual(self.worker("GET", "/flags"), self.flags(self.FLAGS))
        m = self.mount("separator=:")
        flags, cache = m / "feature-flags/%value", m / "feature-flags/cache"
        self.assertEqual(read(flags), read(cache))
        self.assertEqual(self.attributes(flags), {})
        left = int(os.getxattr(cache, "user.kv.ttl"))
        self.assertTrue(0 < left <= 60, left)
        self.shell("""jq -c '.max = 4' "$1" >"$1.new~" && mv "$1.new~" "$1" """, flags)
        self.answers("/raw/feature-flags", (200, b'{"new":false,"max":4}\n'))
        self.assertEqual(self.worker("GET", "/flags"), (200, {"flags": self.FLAGS, "from": "cache"}))
        os.unlink(cache)
        self.answers("/raw/feature-flags%3Acache", (404, b"absent\n"))
        self.assertEqual(self.worker("GET", "/flags"), self.flags({"new": False, "max": 4}))

    def test_every_tool(self):
        self.put("feature-flags", b'{"v":0}\n', metadata='{"by":"worker"}', expiration=2_000_000_000)
        m = self.mount("separator=:")
        out = self.folder("out")
        tools = (
            ("sed", """sed -i s/0/1/ "$1" """),
            ("vim", """vim -Nu NONE -es -c 'set backup backupcopy=no' -c %s/1/2/ -c wq "$1" """),
            ("vim in place", """vim -Nu NONE -es -c 'set backupcopy=yes' -c %s/2/3/ -c wq "$1" """),
            ("jq and mv", """jq -c .v=4 "$1" >"$1.t~"; mv "$1.t~" "$1" """),
            ("cp -a", """cp -a "$1" "$2/k"; sed -i s/4/5/ "$2/k"; cp -a "$2/k" "$1" """),
            ("rsync -aX", """rsync -aX "$1" "$2/feature-flags"; sed -i s/5/6/ "$2/feature-flags"
                          rsync -aX "$2/feature-flags" "$1" """),
            ("echo", """echo '{"v":7}' >"$1" """),
            ("dd", """echo 8 | dd of="$1" bs=1 seek=5 count=1 conv=notrunc status=none"""),
            ("mv of a copy", """cp -a "$1" "$2/m"; echo '{"v":9}' >"$2/m"; mv "$2/m" "$1" """),
        )
        for i, (tool, script) in enumerate(tools):
            with self.subTest(tool):
                self.shell(script, m / "feature-flags", out)
                self.answers("/raw/feature-flags", (200, b'{"v":%d}\n' % (i + 1)))
                self.assertEqual(list(self.listed()), ["feature-flags"])
                self.assertEqual(self.listed()["feature-flags"],
                                 {"expiration": 2_000_000_000, "metadata": {"by": "worker"}})

    def test_what_the_worker_changes(self):
        self.worker("PUT", "/flags", '{"v":1}')
        m = self.mount("separator=:")
        self.assertEqual(read(m / "feature-flags"), b'{"v":1}')
        self.worker("PUT", "/flags", '{"v":2}')
        self.shows(m / "feature-flags", b'{"v":2}')
        self.worker("DELETE", "/raw/feature-flags")
        self.shows(m / "feature-flags", None)


class Sessions(RealTest):
    def test_life(self):
        m = self.mount("separator=:")
        self.assertEqual(self.worker("POST", "/session?token=t1", '{"user": 1}'), (200, {"token": "t1"}))
        path = m / "session/t1"
        self.shows(path, b'{"user":1}')
        expiration = self.listed()["session:t1"]["expiration"]
        self.assertEqual(self.attributes(path), {"expiration": b"%d" % expiration})
        self.assertAlmostEqual(int(os.getxattr(path, "user.kv.ttl")), 7 * DAY, delta=60)
        self.shell("""jq -c '.admin = true' "$1" >"$1~" && mv "$1~" "$1" """, path)
        self.answers("/session/t1", (200, {"user": 1, "admin": True}))
        self.assertEqual(self.listed()["session:t1"], {"expiration": expiration})
        os.setxattr(path, "user.kv.ttl", b"3600")
        self.uploaded(m)
        self.assertAlmostEqual(self.listed()["session:t1"]["expiration"], time.time() + 3600, delta=30)
        os.unlink(path)
        self.answers("/session/t1", (404, b"absent\n"))

    def test_logged_out(self):
        self.worker("POST", "/session?token=t1", '{"user": 1}')
        self.worker("POST", "/session?token=t2", '{"user": 2}')
        m = self.mount("separator=:")
        self.assertEqual(sorted(os.listdir(m / "session")), ["t1", "t2"])
        self.worker("DELETE", "/session/t1")
        self.shows(m / "session/t1", None)
        self.assertEqual(read(m / "session/t2"), b'{"user":2}')

    def test_many_that_are_restored(self):
        source = self.folder("in")
        for i in range(200):
            write(f"{source}/{i:03}", json.dumps({"user": i}))
            os.setxattr(f"{source}/{i:03}", "user.kv.expiration", b"%d" % (2_000_000_000 + i))
        m = self.mount("separator=:")
        run("rsync", "-aX", source + "/", m / "session/")
        self.uploaded(m)
        self.assertEqual(self.listed(), {f"session:{i:03}": {"expiration": 2_000_000_000 + i} for i in range(200)})
        self.assertEqual(self.worker("GET", "/session/199"), (200, {"user": 199}))

    def test_one_that_a_mount_makes(self):
        m = self.mount("separator=:", "ttl=600")
        os.mkdir(m / "session")
        write(m / "session/new", b'{"user":3}')
        self.answers("/session/new", (200, {"user": 3}))
        self.assertAlmostEqual(self.listed()["session:new"]["expiration"], time.time() + 600, delta=60)


class Limits(RealTest):
    PATH = "/limited/10.0.0.1?limit=2&window=100000"

    def test_counter(self):
        m = self.mount("separator=:")
        answers = [self.worker("GET", self.PATH)[0] for _ in range(3)]
        self.assertEqual(answers, [200, 200, 429])
        folder = m / "rate/10.0.0.1"
        (window,) = eventually(lambda: os.listdir(folder), SOON)
        self.assertEqual(read(f"{folder}/{window}"), b"2")
        self.assertAlmostEqual(int(os.getxattr(f"{folder}/{window}", "user.kv.ttl")), 200000, delta=60)
        write(f"{folder}/{window}", b"1")
        self.uploaded(m)
        self.assertEqual([self.worker("GET", self.PATH)[0] for _ in range(2)], [200, 429])
        self.shows(f"{folder}/{window}", b"2")
        run("rm", "-r", m / "rate")
        self.uploaded(m)
        self.assertEqual(self.listed(), {})
        self.assertEqual(self.worker("GET", self.PATH)[0], 200)


class Maintenance(RealTest):
    def test_on_and_off(self):
        m = self.mount("separator=:")
        self.assertEqual(self.worker("GET", "/app"), (200, b"ok\n"))
        write(m / "maintenance-mode", b"true")
        self.answers("/app", (503, b"down for maintenance\n"))
        os.rename(m / "maintenance-mode", m / "maintenance-mode.off")
        self.answers("/app", (200, b"ok\n"))
        os.rename(m / "maintenance-mode.off", m / "maintenance-mode")
        self.answers("/app", (503, b"down for maintenance\n"))
        os.unlink(m / "maintenance-mode")
        self.answers("/app", (200, b"ok\n"))
        self.assertEqual(self.listed(), {})


class Records(RealTest):
    """Users, which are files and directories; caches by URL; assets."""

    def test_users(self):
        self.put("user:42", b'{"name":"Ada"}')
        self.put("user:42:profile", b'{"bio":""}')
        m = self.mount("separator=:")
        self.assertEqual({k: read(p) for k, p in self.tree(m).items()},
                         {b"user:42": b'{"name":"Ada"}', b"user:42:profile": b'{"bio":""}'})
        self.shell("""sed -i s/Ada/Grace/ "$1/%value"; mkdir "$1/a"; echo x >"$1/a/b" """, m / "user/42")
        self.uploaded(m)
        self.assertEqual(self.stored("user:42")[0], b'{"name":"Grace"}')
        self.assertEqual(self.stored("user:42:a:b")[0], b"x\n")
        os.rename(m / "user/42", m / "user/43")
        self.uploaded(m)
        self.assertEqual(set(self.listed()), {"user:43", "user:43:profile", "user:43:a:b"})

    def test_cached_urls(self):
        urls = ["https://example.org/", "https://example.org/a/b?c=d&e=%2F#f", "http://[::1]:8080//x/../y",
                "https://example.org/%7Euser/100%25", "https://example.org/grün/日本?q=a+b"]
        for url in urls:
            self.put("cache:" + url, url.encode(), ttl=3600)
        for separator in ("separator=:", "separator=/"):
            m = self.mount(separator, cache=separator[-1:].replace("/", "s"))
            found = self.tree(m)
            self.assertEqual({k: read(p) for k, p in found.items()}, {f"cache:{u}".encode(): u.encode() for u in urls})
            for key, path in found.items():
                write(path, b"new " + key)
            self.uploaded(m)
            for url in urls:
                self.assertEqual(self.stored("cache:" + url)[0], f"new cache:{url}".encode())
                self.assertAlmostEqual(self.listed()["cache:" + url]["expiration"], time.time() + 3600, delta=60)
                self.put("cache:" + url, url.encode(), ttl=3600)
            m.umount()

    def test_assets(self):
        out = self.folder("out")
        write(out + "/logo.png", JPEG)
        m = self.mount()
        os.mkdir(m / "images")
        run("cp", out + "/logo.png", m / "images/logo.png")
        self.answers("/asset/images%2Flogo.png", (200, JPEG))
        self.put("images/photo.jpg", JPEG[::-1])
        self.shows(m / "images/photo.jpg", JPEG[::-1])
        run("cmp", out + "/logo.png", m / "images/logo.png")

    def test_backup_and_restore(self):
        self.put("feature-flags", b"{}")
        self.put("feature-flags:cache", b"{}", ttl=3600)
        self.put("session:t", b'{"user":1}', expiration=2_000_000_000, metadata='{"ip":"10.0.0.1","n":[1,2]}')
        self.put("assets/logo.png", JPEG, metadata='"image/png"')
        self.put("empty", b"")
        before, values = self.listed(), {k: self.stored(k) for k in self.listed()}
        m = self.mount("separator=:")
        for command in (["rsync", "-aX"], ["cp", "-a"]):
            with self.subTest(command):
                out = self.folder(command[0])
                run(*command, m.root + "/.", out)
                run("find", m.root, "-mindepth", "1", "-delete")
                self.uploaded(m)
                self.assertEqual(self.listed(), {})
                run(*command, out + "/.", m.root)
                self.uploaded(m)
                self.assertEqual(self.listed(), before)
                self.assertEqual({k: self.stored(k) for k in self.listed()}, values)
