"""`meson install`, and what mount(8) and /etc/fstab make of it.

The installation goes into a folder, which a private mount namespace then shows as /usr/local; so
the machine's own /usr/local and /etc/fstab are never touched.
"""

import os

from harness import Test, read, root_only, run, write

BUILD = os.environ.get("KVFS_TEST_BUILD")
SCRIPT = r"""
set -e
mount --make-rprivate /
mount --bind "$TREE/usr/local" /usr/local
mount --bind "$FSTAB" /etc/fstab
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export ASAN_OPTIONS="log_path=$TREE/sanitizer"
kvfs --version
%s
"""


@root_only
class Install(Test):
    def setUp(self):
        if not BUILD:
            self.skipTest("no build folder was given")
        super().setUp()
        self.tree = self.folder("tree")
        self.mp = self.folder("mp")
        self.fstab = os.path.join(self.tmp, "fstab")
        write(self.fstab, f"lmdb:{self.env}#main {self.mp} fuse.kvfs "
                          "noauto,nofail,separator=:,ttl=1000 0 0\n")
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.tree, timeout=120)

    def inside(self, script):
        env = {**os.environ, "TREE": self.tree, "FSTAB": self.fstab, "MP": self.mp, "ENV": self.env}
        return run("unshare", "-m", "sh", "-c", SCRIPT % script, env=env).stdout

    def test_files(self):
        self.assertTrue(os.access(f"{self.tree}/usr/local/bin/kvfs", os.X_OK))
        pages = [f for d, _, fs in os.walk(self.tree) for f in fs if f.startswith("kvfs.1")]
        self.assertEqual(len(pages), 1)

    def test_mount_by_type(self):
        self.inside('mount -t fuse.kvfs -o separator=: "lmdb:$ENV#main" "$MP"\n'
                    'mkdir "$MP/a"; echo hi > "$MP/a/b"\n'
                    'getfattr -n user.kv.key "$MP/a/b" | grep -q "a:b"\numount "$MP"')
        self.assertStored(b"a:b", b"hi\n")

    def test_fstab(self):
        out = self.inside('mount "$MP"\nmkdir "$MP/a"; echo hi > "$MP/a/b"\n'
                          'getfattr -d "$MP/a/b"\nkvfs status "$MP"\nkvfs umount "$MP"\n'
                          'mount -r "$MP"\ncat "$MP/a/b"\numount "$MP"')
        self.assertIn("user.kv.expiration", out)
        self.assertIn("hi\n", out)
        self.assertStored(b"a:b", b"hi\n")

    def test_failure_is_reported_by_mount(self):
        write(self.fstab, read(self.fstab).replace(b"separator=:", b"separator=%%"))
        out = self.inside('if mount "$MP"; then exit 1; else echo "status $?"; fi')
        self.assertRegex(out, r"status [1-9]")
