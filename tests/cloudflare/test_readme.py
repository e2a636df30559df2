"""The README's lines about Workers KV, tried as a person would, against the test server; and the development
server's part of the API mounted, which test_clients.py does with a real `wrangler dev`.
"""

import errno
import os
import re

from harness import KVFS, is_mounted, read, run, write
from real import need_kvfs
from remote import RemoteTest
from server import Server

HOUSE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def lines():
    """The first block of code below its heading."""
    text = read(os.path.join(HOUSE, "README.md")).decode()
    return re.search(r"\n## Cloudflare Workers KV\n\n((?:    .*\n)+)", text)[1]


class Readme(RemoteTest):
    def setUp(self):
        need_kvfs(self)
        super().setUp()

    def test_its_lines(self):
        """As they are; only where the API is, the program `kvfs` here knows by itself."""
        self.ns.put(b"feature-flags", b"{}")
        self.ns.put(b"session:7f3a", b'{"user": 42}', metadata={"ip": "10.0.0.1"}, expiration=4_000_000_000)
        self.ns.put(b"assets/logo.png", bytes(range(256)))
        bin, place = self.folder("bin"), self.folder("place")
        write(bin + "/kvfs", f"""#!/bin/sh
if [ "$1" = mount ]; then shift; set -- mount -o endpoint={self.server.endpoint} -o cache={self.tmp}/cache "$@"; fi
exec {os.path.abspath(KVFS)} "$@"
""")
        os.chmod(bin + "/kvfs", 0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDFLARE_")}
        environment.update(PATH=f"{bin}:{os.environ['PATH']}", ACCOUNT_ID=self.server.account, HOME=self.tmp)
        try:
            done = run("bash", "-euc", "mkdir kv\n" + lines(), cwd=place, env=environment, input=self.server.token + "\n")
        finally:
            run(KVFS, "umount", place + "/kv", check=False)
        self.assertEqual(done.stdout + done.stderr, "")
        self.assertFalse(is_mounted(place + "/kv"))
        self.assertEqual(self.content(), {b"feature-flags": b'{"dark": true}\n', b"session:7f3a": b'{"user": 42}',
                                          b"assets/logo.png": bytes(range(256))})
        self.assertEqual(read(place + "/backup/session/7f3a"), b'{"user": 42}')
        self.assertEqual(os.getxattr(place + "/backup/session/7f3a", "user.kv.expiration"), b"4000000000")
        self.assertEqual(os.getxattr(place + "/backup/session/7f3a", "user.kv.metadata"), b'{"ip":"10.0.0.1"}')
        self.assertEqual(read(place + "/backup/assets:logo.png"), bytes(range(256)))


class Explorer(RemoteTest):
    """Its emulation by server.py."""

    def setUp(self):
        need_kvfs(self)
        super().setUp()

    def test_mounted(self):
        self.fill({b"a/b": b"\xff", b"empty": b""})
        m = self.mount(f"endpoint={self.server.explorer}")
        self.assertEqual((read(m / "a/b"), read(m / "empty")), (b"\xff", b""))
        write(m / "new", b"1")
        write(m / "a/c", b"2")
        os.setxattr(m / "new", "user.kv.metadata", b"[1]")
        self.assertErrno(errno.ENOTSUP, os.setxattr, m / "new", "user.kv.ttl", b"3600")
        os.unlink(m / "a/b")
        self.uploaded(m)
        self.assertEqual(self.content(), {b"a/c": b"2", b"empty": b"", b"new": b"1"})
        self.assertEqual(self.ns.get(b"new").metadata, "[1]")
        self.assertEqual({k for k in self.counts() if "bulk" in k}, set())
        self.assertRegex(read(m.log).decode(), r"new: user\.kv\.ttl refused: this store cannot keep expirations\n")


class Trust(RemoteTest):
    """Whom the mount of a TLS server trusts."""

    def setUp(self):
        need_kvfs(self)
        super().setUp()

    def test_authorities(self):
        with Server(tls=True) as server:
            server.namespace("main").put(b"k", b"v")
            here = self.folder("here")
            argv = [KVFS, "mount", "-o", f"endpoint={server.endpoint},cache={self.tmp}/cache,log={self.tmp}/log,timeout=2",
                    f"cf:{server.account}#main", here]
            for variables, trusted in (({}, False), ({"SSL_CERT_FILE": "/dev/null"}, False),
                                       ({"CURL_CA_BUNDLE": server.certificate}, True),
                                       ({"SSL_CERT_FILE": server.certificate}, True),
                                       ({"CURL_CA_BUNDLE": "", "SSL_CERT_FILE": server.certificate}, True)):
                with self.subTest(variables):
                    server.log.clear()
                    done = run(*argv, check=False, env={**os.environ, "CLOUDFLARE_API_TOKEN": server.token, **variables})
                    self.assertEqual(done.returncode == 0, trusted, done.stderr)
                    if trusted:
                        self.assertEqual(read(here + "/k"), b"v")
                        run(KVFS, "umount", here)
                    else:
                        self.assertIn("certificate", done.stderr)
                        self.assertEqual(server.log.records(), [])
