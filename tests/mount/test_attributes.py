"""Extended attributes apart from expiry: metadata, key, state, the user's own, and foreign ones."""

import errno
import json
import os

from harness import ROOT, Test, eventually, read, run, write

METADATA = "user.kv.metadata"


class Metadata(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "f"
        write(self.f, b"value")

    def test_kept_byte_for_byte(self):
        for text in (b'{"a": [1, 2.50, "x"], "b":null}', b"[]", b'"just text"', b"12.0", b"true",
                     '{"ü": "\\u00fc 😀"}'.encode(), b' { "spaces" : 1 } '):
            os.setxattr(self.f, METADATA, text)
            self.m.remount()
            self.assertEqual(os.getxattr(self.f, METADATA), text)
            self.assertEqual(os.listxattr(self.f), [METADATA])
        os.removexattr(self.f, METADATA)
        self.assertEqual(os.listxattr(self.f), [])
        self.assertErrno(errno.ENODATA, os.getxattr, self.f, METADATA)
        self.assertErrno(errno.ENODATA, os.removexattr, self.f, METADATA)

    def test_not_json(self):
        os.setxattr(self.f, METADATA, b"{}")
        for bad in (b"", b" ", b"{", b"{'a': 1}", b"nul", b"[1,]", b"{} {}", b'"\xff"', b"{}\0",
                    b"01"):
            self.assertErrno(errno.EINVAL, os.setxattr, self.f, METADATA, bad)
        self.assertEqual(os.getxattr(self.f, METADATA), b"{}")

    def test_size(self):
        fits = json.dumps("x" * 60_000).encode()
        os.setxattr(self.f, METADATA, fits)
        self.m.remount()
        self.assertEqual(os.getxattr(self.f, METADATA), fits)
        too_large = json.dumps("x" * 65_535).encode()
        self.assertErrno((errno.ERANGE, errno.E2BIG), os.setxattr, self.f, METADATA, too_large)
        self.assertEqual(os.getxattr(self.f, METADATA), fits)

    def test_a_name_cannot_forge_a_line_of_the_log(self):
        name = b"user.kv.x\n2026-01-01T00:00:00+0000 kvfs: forged\x1b[31m"
        self.assertErrno(errno.EINVAL, os.setxattr, self.f, name, b"1")
        log = read(self.m.log)
        self.assertIn(b"user.kv.x\\x0a2026-01-01T00:00:00+0000 kvfs: forged\\x1b[31m", log)
        self.assertEqual([line for line in log.split(b"\n") if line.startswith(b"2026-01-01T")], [])

    def test_deep_nesting_is_harmless(self):
        try:
            os.setxattr(self.f, METADATA, b"[" * 30_000 + b"]" * 30_000)
        except OSError as e:
            self.assertEqual(e.errno, errno.EINVAL)
        self.assertEqual(os.stat(self.f).st_size, 5)


class Own(Test):
    def test_what_can_be_set_can_be_listed(self):
        os.setxattr(self.f, METADATA, b"{}")
        os.setxattr(self.f, "user.kv.ttl", b"1000")
        names = {METADATA, "user.kv.expiration"}
        with self.assertRaises(OSError) as full:
            for i in range(400):
                os.setxattr(self.f, f"user.{i:0240}", b"")
                names.add(f"user.{i:0240}")
        self.assertEqual(full.exception.errno, errno.ENOSPC)
        self.assertGreater(len(names), 250)
        self.assertEqual(set(os.listxattr(self.f)), names)

    def setUp(self):
        super().setUp()
        self.m = self.mount("separator=:")
        os.mkdir(self.m / "d")
        self.f = self.m / "d/f"
        write(self.f, b"value")

    def test_key(self):
        self.assertEqual(os.getxattr(self.f, "user.kv.key"), b"d:f")
        write(self.m / "d/%00a:b", b"")
        self.assertEqual(os.getxattr(self.m / "d/%00a:b", "user.kv.key"), b"d:\0a/b")
        os.rename(self.f, self.m / "d/g")
        self.assertEqual(os.getxattr(self.m / "d/g", "user.kv.key"), b"d:g")

    def test_state(self):
        self.assertIn(os.getxattr(self.f, "user.kv.state"), (b"synced", b"pending"))
        eventually(lambda: os.getxattr(self.f, "user.kv.state") == b"synced")
        write(self.f, b"again")
        self.m.sync()
        self.assertEqual(os.getxattr(self.f, "user.kv.state"), b"synced")

    def test_read_only(self):
        for name in ("user.kv.key", "user.kv.state"):
            self.assertErrno(errno.EPERM, os.setxattr, self.f, name, b"x")
            self.assertErrno(errno.EPERM, os.removexattr, self.f, name)
        self.assertEqual(os.listxattr(self.f), [])


class Others(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.f = self.m / "f"
        write(self.f, b"value")

    def test_kept(self):
        values = {"user.a": b"", "user.bin": bytes(range(256)), "user." + "n" * 250: b"long name",
                  "user.ü": "ü".encode(), "user.kvish": b"not ours", "user.big": b"x" * 20_000}
        for name, value in values.items():
            os.setxattr(self.f, name, value)
        os.mkdir(self.m / "d")
        os.setxattr(self.m / "d", "user.of-directory", b"1")
        write(self.f, b"rewritten")
        for _ in range(2):
            self.assertEqual(set(os.listxattr(self.f)), set(values))
            self.assertEqual({n: os.getxattr(self.f, n) for n in values}, values)
            self.assertEqual(os.getxattr(self.m / "d", "user.of-directory"), b"1")
            self.m.remount()
        for name in values:
            os.removexattr(self.f, name)
        self.assertEqual(os.listxattr(self.f), [])
        self.assertErrno(errno.ENODATA, os.removexattr, self.f, "user.a")

    def test_flags(self):
        self.assertErrno(errno.ENODATA, os.setxattr, self.f, "user.a", b"", os.XATTR_REPLACE)
        os.setxattr(self.f, "user.a", b"1", os.XATTR_CREATE)
        self.assertErrno(errno.EEXIST, os.setxattr, self.f, "user.a", b"2", os.XATTR_CREATE)
        os.setxattr(self.f, "user.a", b"3", os.XATTR_REPLACE)
        self.assertEqual(os.getxattr(self.f, "user.a"), b"3")

    def test_limit_per_key(self):
        """64 KiB in all."""
        stored = 0
        with self.assertRaises(OSError) as caught:
            for i in range(10):
                os.setxattr(self.f, f"user.{i}", b"x" * 10_000)
                stored += 1
        self.assertIn(caught.exception.errno, (errno.ENOSPC, errno.ERANGE, errno.E2BIG))
        self.assertIn(stored, (5, 6))
        self.assertEqual(len(os.listxattr(self.f)), stored)
        os.removexattr(self.f, "user.0")
        os.setxattr(self.f, "user.again", b"x" * 9_000)

    def test_a_directory_can_be_copied_by_setfacl_users(self):
        """No ACLs: tools that look for them are told so."""
        acl = "system.posix_acl_access"
        self.assertErrno((errno.ENOTSUP, errno.ENODATA), os.getxattr, self.f, acl)
        self.assertErrno(errno.ENOTSUP, os.setxattr, self.f, acl, bytes.fromhex("02000000"))

    def test_other_namespaces_do_not_reach_the_store(self):
        self.m.sync()
        os.stat(self.f)
        before = self.m.status()
        for _ in range(300):
            for name in ("security.capability", "security.selinux"):
                self.assertErrno((errno.ENODATA, errno.ENOTSUP), os.getxattr, self.f, name)
        if ROOT:
            self.assertErrno((errno.ENOTSUP, errno.EPERM), os.setxattr, self.f, "trusted.x", b"1")
            self.assertErrno((errno.ENOTSUP, errno.EPERM), os.setxattr, self.f, "security.x", b"1")
        after = self.m.status()
        self.assertLess(after["reads"] - before["reads"], 50)
        self.assertEqual(after["writes"], before["writes"])

    def test_on_a_symbolic_link(self):
        os.symlink("f", self.m / "l")
        self.assertErrno(errno.EPERM, os.setxattr, self.m / "l", "user.a", b"1",
                         follow_symlinks=False)

    def test_rename_keeps_the_moved_files_own(self):
        os.setxattr(self.f, "user.a", b"1")
        os.rename(self.f, self.m / "g")
        self.assertEqual(os.getxattr(self.m / "g", "user.a"), b"1")

    def test_tools_show_them(self):
        os.setxattr(self.f, "user.a", b"1")
        self.assertIn('user.a="1"', run("getfattr", "-d", "-m", "-", self.f).stdout)
