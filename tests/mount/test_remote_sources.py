"""Sources on a network: what is wrong with one is said in one line; and who can see the token."""

import os
import re

from harness import KVFS, eventually, is_mounted, mount_points, read, root_only, run, write
from remote import RemoteTest


class SourceTest(RemoteTest):
    def setUp(self):
        super().setUp()
        self.mountpoint = self.folder("mp")
        self.cache = os.path.join(self.tmp, "cache")
        self.account = self.server.account

    def environment(self, token):
        env = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDFLARE_")}
        env["HOME"] = self.tmp
        return {**env, "CLOUDFLARE_API_TOKEN": token} if token else env

    def refused(self, source, *options, token=True, endpoint=True):
        """The reason that a mount is refused with."""
        options = [f"cache={self.cache}", f"log={self.tmp}/log", "timeout=2", *options]
        if endpoint:
            options.append(f"endpoint={self.server.endpoint}")
        token = self.server.token if token is True else token
        line = self.assertFails(1, "mount", "-o", ",".join(options), source, self.mountpoint,
                                env=self.environment(token))
        self.assertNotIn(self.mountpoint, mount_points())
        if token:
            self.assertNotIn(token, line)
        return line

    def source(self, ns="main"):
        return f"cloudflare:{self.account}#{ns}"

    def wrangler(self, text, name="wrangler.toml"):
        path = os.path.join(self.tmp, name)
        write(path, text)
        return f"wrangler:{path}"


class Token(SourceTest):
    def test_none(self):
        self.assertIn("no API token: set CLOUDFLARE_API_TOKEN",
                      self.refused(self.source(), token=None, endpoint=False))

    def test_wrong(self):
        self.assertIn("the token is refused", self.refused(self.source(), token="another-token"))
        self.assertIn("the token is refused",
                      self.refused(f"cf:{self.account}", token="another-token"))

    def test_file_that_others_can_read(self):
        path = os.path.join(self.tmp, "token")
        write(path, self.server.token + "\n")
        for mode in (0o640, 0o604, 0o620):
            os.chmod(path, mode)
            self.assertIn("chmod 600", self.refused(self.source(), f"token_file={path}", token=None))
        self.assertIn("No such file", self.refused(self.source(), f"token_file={path}.not"))
        self.assertIn("it is no file", self.refused(self.source(), f"token_file={self.tmp}"))

    def test_file(self):
        path = os.path.join(self.tmp, "token")
        write(path, self.server.token + "\n")
        os.chmod(path, 0o600)
        self.fill({b"k": b"value"})
        m = self.mount(f"token_file={path}")
        self.assertEqual(read(m / "k"), b"value")

    def test_is_seen_nowhere(self):
        """Not even where the server itself repeats it."""
        m = self.mount("debug", "upload_delay=0")
        token = self.server.token.encode()
        write(m / "k", b"value")
        self.faults.add("status", on=["put", "bulk.put"], status=400, code=10033,
                        message=f"what is Bearer {self.server.token}?")
        write(m / "refused", b"value")
        done = run(KVFS, "sync", m.root, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertNotIn(self.server.token, done.stderr)
        for command in (["status", m.root], ["status", "--json", m.root]):
            self.assertNotIn(self.server.token, run(KVFS, *command).stdout)
        self.assertNotIn(token, os.getxattr(m.root, "kvfs.status"))
        for name in ("environ", "cmdline", "comm", "auxv"):
            try:
                self.assertNotIn(token, read(f"/proc/{m.pid}/{name}"), name)
            except PermissionError:
                pass
        m.umount()
        self.assertNotIn(token, read(m.log))
        files = [os.path.join(folder, f) for folder, _, names in os.walk(self.cache) for f in names]
        self.assertTrue(any(f.endswith("data.mdb") for f in files), files)
        for f in files:
            self.assertNotIn(token, read(f), f)


class Namespace(SourceTest):
    def test_no_account(self):
        self.assertIn("it names no account", self.refused("cloudflare:#main", endpoint=False))
        line = self.refused("cloudflare:ffffffffffffffffffffffffffffffff#main")
        self.assertRegex(line, "no such account|the token is refused")

    def test_none_of_this_title(self):
        self.assertIn("no namespace of this title or id", self.refused(self.source("other")))
        self.assertIn("nothing after '#'", self.refused(f"cf:{self.account}#"))

    def test_title_of_two(self):
        ids = [self.server.store.create("twin").id for _ in range(2)]
        line = self.refused(self.source("twin"))
        for i in ids:
            self.assertIn(i, line)
        self.server.store.namespaces[ids[0]].put(b"k", b"value")
        m = self.mount(title=ids[0])
        self.assertEqual(read(m / "k"), b"value")

    def test_all(self):
        self.fill({b"k": b"value"})
        self.server.namespace("other")
        m = self.mount(title=None)
        self.assertEqual(sorted(os.listdir(m.root)), ["main", "other"])
        self.assertEqual(read(m / "main/k"), b"value")

    def test_endpoint(self):
        for url in ("http://192.0.2.1/client/v4", "ftp://127.0.0.1/", "nothing"):
            self.assertIn("endpoint", self.refused(self.source(), f"endpoint={url}", endpoint=False))

    def test_malformed_options(self):
        for option in ("max_age=0", "max_age=-1", "cache_size=1X", "cache_size=16777216T",
                       "cache_size=99999999999999999999", "timeout=0", "fsync=never", "conflict=ask",
                       "token_file=", "upload_delay=soon"):
            self.assertUsage("mount", "-o", option, self.source(), self.mountpoint)

    def test_offline_without_cache(self):
        self.server.stop()
        self.assertIn("nobody answers", self.refused(self.source()))

    def test_offline_with_cache(self):
        self.fill({b"k": b"value"})
        m = self.mount()
        self.assertEqual(read(m / "k"), b"value")
        m.umount()
        self.server.stop()
        m = self.mount("timeout=1")
        self.assertEqual(read(m / "k"), b"value")


class Wrangler(SourceTest):
    BINDING = '[[kv_namespaces]]\nbinding = "KV"\n'

    def test_file_is_missing(self):
        self.assertIn("No such file", self.refused(f"wrangler:{self.tmp}/none.toml"))
        self.assertIn("names no file", self.refused("wrangler:"))

    def test_syntax(self):
        source = self.wrangler('account_id = "a"\n[[kv_namespaces]\nbinding = "KV"\n')
        self.assertRegex(self.refused(source), r"wrangler\.toml:2: ")
        source = self.wrangler('{\n"kv_namespaces": [}\n', "wrangler.json")
        self.assertRegex(self.refused(source), r"wrangler\.json:2: ")

    def test_no_account(self):
        source = self.wrangler(self.BINDING + f'id = "{self.ns.id}"\n')
        self.assertIn("account_id", self.refused(source, endpoint=False))

    def test_no_such_binding(self):
        top = f'account_id = "{self.account}"\n'
        source = self.wrangler(top + self.BINDING + f'id = "{self.ns.id}"\n')
        self.assertIn("binds no KV namespace as OTHER", self.refused(source + "#OTHER"))
        self.assertIn("in env.stage", self.refused(source, "env=stage"))
        self.assertIn("binds no KV namespace", self.refused(self.wrangler(top, "empty.toml")))

    def test_no_id(self):
        source = self.wrangler(f'account_id = "{self.account}"\n' + self.BINDING)
        self.assertRegex(self.refused(source + "#KV"), r"wrangler\.toml:\d+: binding KV has no id")

    def test_binding(self):
        self.fill({b"k": b"value"})
        text = (f'account_id = "{self.account}"\n' + self.BINDING + f'id = "{self.ns.id}"\n')
        source = self.wrangler(text)
        for ask, path in ((source, "KV/k"), (source + "#KV", "k")):
            run(KVFS, "mount", "-o", f"endpoint={self.server.endpoint},cache={self.cache},log={self.tmp}/log",
                ask, self.mountpoint, env=self.environment(self.server.token))
            try:
                self.assertEqual(read(f"{self.mountpoint}/{path}"), b"value")
            finally:
                run(KVFS, "umount", self.mountpoint)
            self.assertFalse(is_mounted(self.mountpoint))


class Cache(SourceTest):
    def test_that_others_can_enter(self):
        folder = os.path.join(self.cache, "cloudflare")
        os.makedirs(folder)
        os.chmod(folder, 0o755)
        self.assertIn("chmod 700", self.refused(self.source()))
        os.chmod(folder, 0o700)
        self.mount()
        for inside, names, _ in os.walk(folder):
            self.assertEqual(os.stat(inside).st_mode & 0o77, 0, inside)

    @root_only
    def test_of_somebody_else(self):
        folder = os.path.join(self.cache, "cloudflare")
        os.makedirs(folder, 0o700)
        os.chown(folder, 65534, 65534)
        self.assertIn("not a folder of yours alone", self.refused(self.source()))

    def test_cannot_be_made(self):
        write(self.cache, b"a file")
        self.assertRegex(self.refused(self.source()), re.escape(self.cache))

    def test_two_mounts_of_one_namespace(self):
        self.server.namespace("other")
        m = self.mount()
        self.assertIn("mounted by another kvfs", self.refused(self.source()))
        self.assertIn("mounted by itself already", self.refused(f"cf:{self.account}"))
        other = self.mount(title="other")
        write(m / "k", b"value")
        write(other / "k", b"value")
        self.assertEqual(read(m / "k"), b"value")

    def test_one_of_all_that_are_mounted(self):
        self.mount(title=None)
        self.assertIn("mounted together already", self.refused(self.source()))

    def test_another_cache(self):
        """Two caches of one namespace see each other as they see any other client."""
        m, other = self.mount("upload_delay=0"), self.mount("max_age=1", cache="cache2")
        write(m / "k", b"value")
        eventually(lambda: read(other / "k") == b"value", 10)
