"""Keys and paths: the names of a mount are the keys of the store, one to one."""

import errno
import os
import random

from harness import KVFS, Test, eventually, exists, read, run, walk, write

COLON = {  # with separator ':'
    b"feature-flags": "feature-flags",
    b"maintenance-mode": "maintenance-mode",
    b"session:7f3a": "session/7f3a",
    b"rate:10.0.0.1:29512345": "rate/10.0.0.1/29512345",
    b"user:42": "user/42/%value",
    b"user:42:profile": "user/42/profile",
    b"user:": "user/%empty",
    b"a::b": "a/%empty/b",
    b"assets/logo.png": "assets:logo.png",
    b"images/logo.png": "images:logo.png",
    b"img/a:b": "img:a/b",
    b"100%": "100%",
    b"100%25": "100%2525",
    b"cache:https://example.com/a%20b?x=1&y=%2F": "cache/https/::example.com:a%20b?x=1&y=%2F",
    b"cache:https://example.com/..": "cache/https/::example.com:..",
    b"dots:..": "dots/%2E.",
    b"dots:.:x": "dots/%2E/x",
    b"nul\0": "nul%00",
    b"plus:a%+": "plus/a%25+",
    b"word:%empty": "word/%25empty",
    b"word:%value": "word/%25value",
    b"long:" + b"k" * 300: "long/" + "k" * 253 + "%+/" + "k" * 47,
    "wide:".encode() + "é".encode() * 200: "wide/" + "é" * 126 + "%+/" + "é" * 74,
}


class Mapping(Test):
    def test_written_names_become_keys(self):
        m = self.mount("separator=:")
        for path in COLON.values():
            os.makedirs(os.path.dirname(m / path), exist_ok=True)
            write(m / path, path)
        m.sync()
        expected = {k: p.encode() for k, p in COLON.items()}
        self.assertEqual({k: v for k, v in self.store.dump().items()}, expected)

    def test_foreign_keys_become_names(self):
        self.store.put({k: p.encode() for k, p in COLON.items()})
        m = self.mount("separator=:")
        files = {p.decode() for p, folder in walk(m.root).items() if not folder}
        self.assertEqual(files, set(COLON.values()))
        for key, path in COLON.items():
            self.assertEqual(read(m / path), path.encode())
            self.assertEqual(os.getxattr(m / path, "user.kv.key"), key)

    def test_no_key_is_unreachable(self):
        rng = random.Random(20)
        words = [b"%", b"0", b"2", b"5", b"E", b".", b"/", b":", b"+", b"\0",
                 "é".encode(), b"\xff", b"empty", b"value", b"%empty", b"%value", b"%+", b"%25",
                 b"a"]
        keys = {bytes([i]) for i in range(256)}
        keys |= {b"".join(rng.choices(words, k=rng.randrange(1, 7))) for _ in range(1500)}
        keys |= {rng.choice(words) * rng.randrange(80, 500) for _ in range(150)}
        keys |= {rng.randbytes(rng.randrange(1, 511)) for _ in range(150)}
        keys = {k[:511] for k in keys}
        self.store.put({k: b"=" + k for k in keys})
        for sep in ("/", ":", "|"):
            m = self.mount(f"separator={sep}")
            seen = {}
            for path, folder in walk(m.root).items():
                self.assertLessEqual(max(map(len, path.split(b"/"))), 255)
                if not folder:
                    key = os.getxattr(m / path, "user.kv.key")
                    self.assertNotIn(key, seen)
                    seen[key] = path
                    self.assertEqual(read(m / path), b"=" + key)
            self.assertEqual(set(seen), keys)
            m.umount()

    def test_every_separator(self):
        for sep in "/:|_-#!~@^;&=$*?<>()[]{}\"'`":
            m = self.mount(f"separator={sep}", name=f"m{ord(sep)}",
                           source=f"lmdb:{self.env}#n{ord(sep)}")
            os.mkdir(m / "dir")
            write(m / "dir/f", b"v")
            m.sync()
            self.assertEqual(self.store.dump(f"n{ord(sep)}"), {b"dir" + sep.encode() + b"f": b"v"})
            m.umount()

    def test_key_of_512_bytes(self):
        m = self.mount("separator=:")
        path = "/".join(["k" * 253 + "%+", "k" * 253 + "%+", "k" * 6])
        os.makedirs(os.path.dirname(m / path))
        write(m / path, b"the longest")
        os.mkdir(m / "d")
        self.assertEqual(os.getxattr(m / path, "user.kv.key"), b"k" * 512)
        m.remount()
        self.assertEqual(read(m / path), b"the longest")
        self.assertErrno(errno.ENAMETOOLONG, os.open, m / (path + "k"), os.O_CREAT | os.O_WRONLY)
        self.assertErrno(errno.ENAMETOOLONG, os.rename, m / path, m / (path + "kk"))
        self.assertEqual(read(m / path), b"the longest")
        os.unlink(m / path)
        m.remount()
        self.assertFalse(exists(m / path))

    def test_a_directory_that_would_lengthen_keys_too_much(self):
        m = self.mount("separator=:")
        path = m / ("d/" + "x" * 250 + "/" + "y" * 250)
        os.makedirs(os.path.dirname(path))
        write(path, b"kept")
        self.assertErrno(errno.ENAMETOOLONG, os.rename, m / "d", m / ("long" * 5))
        self.assertEqual(read(path), b"kept")

    def test_names_that_the_rules_write_differently(self):
        m = self.mount("separator=:")
        os.mkdir(m / "d")
        write(m / "f")
        for name in ("%25", "%25x", "x%2E", "a%2Eb", "%2E%2E", ".%2E", "abc%+", "%+", "%value",
                     "%25Value"):
            for path in (name, f"d/{name}"):
                if path == "d/%value":
                    continue
                self.assertFalse(exists(m / path), path)
                self.assertErrno(errno.EINVAL, os.open, m / path, os.O_CREAT | os.O_WRONLY)
                self.assertErrno(errno.EINVAL, os.mkdir, m / path)
                self.assertErrno(errno.EINVAL, os.symlink, "t", m / path)
                self.assertErrno(errno.EINVAL, os.rename, m / "f", m / path)
                self.assertErrno(errno.ENOENT, os.unlink, m / path)
        self.assertErrno(errno.EINVAL, os.open, m / "%empty", os.O_CREAT | os.O_WRONLY)
        self.assertErrno(errno.EINVAL, os.mkdir, m / "d/%value")
        for name in ("100%", "%", "%%", "%2", "%2e", "%26", "%emptyx", "x%value", "%+x", "%00",
                     "%2E", "%2E.", "%2525", "%2500", "%25empty", "..."):
            write(m / f"d/{name}", name)
        self.assertEqual(len(os.listdir(m / "d")), 16)
        m.sync()
        self.assertEqual(len(self.store.dump()), 17)

    def test_bad_separators(self):
        for sep in ("%", "+", ".", "a", "1", "::", " ", "\x7f", "é"):
            done = run(KVFS, "mount", "-o", f"separator={sep}", f"lmdb:{self.env}#main",
                       self.folder(f"bad{sep.encode().hex()}"), check=False)
            self.assertIn(done.returncode, (1, 2), sep)
            self.assertIn("separator", done.stderr)
        self.assertFalse(exists(self.env))


class Values(Test):
    """Keys that are directories too."""

    def test_foreign_flags_and_cache(self):
        self.store.put({b"feature-flags": b"{}", b"feature-flags:cache": b"cached"})
        m = self.mount("separator=:")
        self.assertEqual(os.listdir(m.root), ["feature-flags"])
        self.assertEqual(sorted(os.listdir(m / "feature-flags")), ["%value", "cache"])
        self.assertEqual(read(m / "feature-flags/%value"), b"{}")
        os.unlink(m / "feature-flags/cache")
        self.assertEqual(os.listdir(m / "feature-flags"), ["%value"])
        write(m / "feature-flags/%value", b"{1}")
        m.sync()
        self.assertEqual(self.store.dump(), {b"feature-flags": b"{1}"})

    def test_a_file_becomes_a_directory_when_a_key_comes_below_it(self):
        m = self.mount("separator=:")
        write(m / "feature-flags", b"{}")
        m.sync()
        self.assertTrue(os.path.isfile(m / "feature-flags"))
        self.store.put({b"feature-flags:cache": b"c"})
        eventually(lambda: os.path.isdir(m / "feature-flags"))
        self.assertEqual(read(m / "feature-flags/%value"), b"{}")
        self.assertEqual(read(m / "feature-flags/cache"), b"c")

    def test_making_room(self):
        m = self.mount("separator=:")
        write(m / "a", b"value of a")
        self.assertErrno(errno.ENOTDIR, os.open, m / "a/b", os.O_CREAT | os.O_WRONLY)
        self.assertErrno(errno.EEXIST, os.mkdir, m / "a")
        os.rename(m / "a", m / "t")
        os.mkdir(m / "a")
        os.rename(m / "t", m / "a/%value")
        write(m / "a/b", b"below")
        self.assertErrno(errno.EISDIR, os.open, m / "a", os.O_CREAT | os.O_WRONLY)
        m.sync()
        self.assertEqual(self.store.dump(), {b"a": b"value of a", b"a:b": b"below"})
        m.remount()
        self.assertEqual(sorted(os.listdir(m / "a")), ["%value", "b"])
        os.unlink(m / "a/b")
        os.rename(m / "a/%value", m / "t")
        os.rmdir(m / "a")
        os.rename(m / "t", m / "a")
        self.assertEqual(read(m / "a"), b"value of a")

    def test_value_of_a_made_directory(self):
        m = self.mount()
        os.mkdir(m / "d")
        self.assertFalse(exists(m / "d/%value"))
        write(m / "d/%value", b"its own")
        self.assertErrno(errno.ENOTEMPTY, os.rmdir, m / "d")
        self.assertEqual(os.getxattr(m / "d/%value", "user.kv.key"), b"d")
        os.rename(m / "d", m / "e")
        m.sync()
        self.assertEqual(self.store.dump(), {b"e": b"its own"})
        os.unlink(m / "e/%value")
        os.rmdir(m / "e")

    def test_a_directory_of_keys_only_moves_whole(self):
        self.store.put({b"s:1": b"1", b"s:2:x": b"2", b"s": b"0", b"s2": b"not", b"s;": b"not"})
        m = self.mount("separator=:")
        os.rename(m / "s", m / "t")
        m.sync()
        self.assertEqual(self.store.dump(), {b"t:1": b"1", b"t:2:x": b"2", b"t": b"0",
                                             b"s2": b"not", b"s;": b"not"})


class Commands(Test):
    """kvfs path and kvfs key."""

    def test_both_ways(self):
        for key, path in COLON.items():
            if b"\0" in key:
                continue
            file_path = path.removesuffix("/%value")
            out = run(KVFS, "path", "-s", ":", "--", os.fsdecode(key)).stdout
            self.assertEqual(out, file_path + "\n")
            out = run(KVFS, "key", "-s", ":", "--", path, text=False).stdout
            self.assertEqual(out, key + b"\n")

    def test_default_separator_and_several(self):
        self.assertEqual(run(KVFS, "path", "a//b", "x").stdout, "a/%empty/b\nx\n")
        self.assertEqual(run(KVFS, "key", "a/%empty/b", "x").stdout, "a//b\nx\n")

    def test_errors(self):
        self.assertFails(1, "path", "k" * 513)
        self.assertFails(1, "path", "")
        self.assertFails(1, "key", "a%2Eb")
        self.assertFails(1, "key", "")
        self.assertFails(1, "key", "/absolute")
        self.assertFails(1, "key", "a/../b")
        self.assertUsage("path")
        self.assertUsage("key")
        self.assertUsage("path", "-s", "%", "x")
        self.assertUsage("key", "-s")
