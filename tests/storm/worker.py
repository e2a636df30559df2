"""One process that works on the mount: random operations on what is its own, each compared with its
model, and looks at what others write.

worker.py SEED NUMBER MOUNTPOINT CLOCK: commands come, and answers go, as pickles on the standard
streams (Worker.run, recover, check: see storm.py for when).

Errors. In bad weather what has to be asked for may fail; then the operation has not been. Where that
is not certain the process looks which it was. When the daemon dies, the operation under way is one
that may have been.
"""

import errno
import os
import pickle
import random
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from model import MARGIN, Event, File, Listed, Model, Seen, difference, is_alive, renamed, same_files  # noqa: E402

DEAD = {errno.ENOTCONN, errno.ECONNABORTED}
WEATHER = {errno.ETIMEDOUT, errno.EIO}  # what cannot be asked for
LONG = 10_000_000  # seconds: an expiration that the run does not come to


class Dead(Exception):
    """The daemon is not there any more."""


class Wrong(Exception):
    """The mount is not what it must be."""


def is_binary(rng):
    return rng.random() < 0.3


class Worker:
    def __init__(self, seed, number, root, clock):
        self.rng = random.Random(f"{seed}/{number}")
        self.number, self.root, self.clock = number, root, clock
        self.base = f"w{number}"
        self.count = 0
        self.seen = []
        self.held = {}  # key: (fd, what is in it now, file that it was)
        self.rough = False
        self.mortal = False  # the daemon is about to be killed
        self.trace = []

    # --- the world ---------------------------------------------------------------------------

    def now(self):
        for _ in range(100):
            try:
                with open(self.clock) as f:
                    return float(f.read())
            except (OSError, ValueError):
                time.sleep(0.001)
        raise Wrong("no clock")

    def path(self, key):
        return os.path.join(self.root, key)

    def value(self, large=True):
        """Bytes that nobody else writes, ever."""
        self.count += 1
        rng, tag = self.rng, f"{self.number}.{self.count}:".encode()
        size = rng.choice([0, 5, 40, 40, 300, 300, rng.randrange(5000), rng.randrange(70000) if large else 9])
        body = rng.randbytes(size) if is_binary(rng) else (b"text of a value \xc3\xbc " * (size // 18 + 1))[:size]
        body = body if is_binary(rng) else body.decode("utf-8", "ignore").encode()
        return (b"\xef\xbb\xbf" if rng.random() < 0.05 else b"") + tag + body

    def metadata(self):
        self.count += 1
        return f'{{"m":"{self.number}.{self.count}"}}'

    def call(self, function, *args, **more):
        try:
            return function(*args, **more)
        except OSError as e:
            if e.errno in DEAD or (e.errno == errno.EIO and self.mortal and self.is_dead()):
                raise Dead from e
            raise

    def is_dead(self):
        """Whether the daemon is, soon: EIO is what the kernel says of a request that it was just reading."""
        for _ in range(20):
            try:
                os.statvfs(self.root)
            except OSError as e:
                if e.errno in DEAD:
                    return True
            time.sleep(0.01)
        return False

    # --- changes -----------------------------------------------------------------------------

    def record(self, kind, began, ended, changes, dirs=None, upto=None, shared=None):
        self.model.add(Event(kind, began, ended, changes, upto, shared), dirs)

    def change(self, kind, changes, dirs, function, *args):
        """One call that makes one change, or none. `changes` may be a function of (before, after),
        the virtual times about the call."""
        began, before = time.monotonic(), self.now()
        self.trace.append((kind, sorted(changes) if isinstance(changes, dict) else "..."))
        try:
            self.call(function, *args)
        except Dead:
            made = changes if isinstance(changes, dict) else changes(before, self.now())
            self.record(kind, began, None, made, dirs)
            raise
        except OSError as e:
            if not self.rough or e.errno not in WEATHER:
                raise Wrong(f"{kind} {sorted(changes) if isinstance(changes, dict) else ''}: {e}\n"
                            + self.past(changes)) from e
            return self.find_out(kind, began, changes, dirs, before)
        ended = time.monotonic()
        if not isinstance(changes, dict):
            changes = changes(before, self.now())
        self.record(kind, began, ended, changes, dirs)
        return True

    def past(self, keys):
        """The latest that was done to some keys, for a person."""
        rows = [(e.kind, round(e.began, 3), sorted(set(e.changes) & set(keys))) for e in self.model.events
                if set(e.changes) & set(keys)] if isinstance(keys, (dict, set)) else []
        return f"  done to it: {rows[-8:]}"

    def find_out(self, kind, began, changes, dirs, before):
        """Whether an operation that failed has been: it must have been whole, or not at all."""
        if not isinstance(changes, dict):
            changes = changes(before, self.now())
        keys = set(changes) | {k for k in self.model.files if k in changes}
        found = {key: self.look(key, patient=True) for key in keys}
        now = self.now()
        old = {k: self.model.files[k] for k in keys if k in self.model.files}
        new = {k: f for k, f in changes.items() if f is not None}
        found = {k: f for k, f in found.items() if f is not None}
        if same_files(old, found, now) is None:
            return False
        if same_files(new, found, now) is None:
            self.record(kind, began, time.monotonic(), changes, dirs)
            return True
        raise Wrong(f"{kind} failed, and did a part: {same_files(old, found, now)}; {same_files(new, found, now)}")

    # --- looking -----------------------------------------------------------------------------

    def read_all(self, path):
        with open(path, "rb", buffering=0) as f:
            size, parts = os.fstat(f.fileno()).st_size, []
            while part := f.read(1 << 17):
                parts.append(part)
        value = b"".join(parts)
        return value, size

    def attribute(self, path, name):
        try:
            return os.getxattr(path, "user.kv." + name)
        except OSError as e:
            if e.errno == errno.ENODATA:
                return None
            raise

    def look_once(self, path):
        """(value, expiration, metadata) or None."""
        try:
            value, _ = self.read_all(path)
            expiration, metadata = self.attribute(path, "expiration"), self.attribute(path, "metadata")
        except FileNotFoundError:
            return None
        return File(value, expiration and int(expiration), metadata and metadata.decode())

    def look(self, key, patient=False):
        """What is there; in bad weather an OSError is for the caller unless `patient`."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.call(self.look_once, self.path(key))
            except OSError as e:
                if e.errno not in WEATHER or not patient or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def look_in_weather(self, key):
        """What is there; None, False: the weather is too bad to know."""
        try:
            return self.look(key), True
        except OSError as e:
            if self.rough and e.errno in WEATHER:
                return None, False
            raise Wrong(f"looking at {key}: {e}") from e

    def verify(self, key):
        """Read your writes: it is exactly what it must be."""
        began = self.now()
        found, known = self.look_in_weather(key)
        if not known:
            return
        want = self.model.files.get(key)
        alive = is_alive(want, began), is_alive(want, self.now())
        if None in alive or alive[0] != alive[1]:
            return
        problem = same_files({key: want} if alive[0] else {}, {key: found} if found else {}, self.now())
        if problem:
            if want and found and want.value != found.value:
                problem += "; " + difference(want.value, found.value)
            raise Wrong(f"read: {problem}\n{self.past({key})}")

    def verify_list(self, folder):
        began = self.now()
        try:
            with self.call(os.scandir, self.path(folder)) as entries:
                found = {e.name: e.is_dir() for e in self.call(list, entries)}
        except OSError as e:
            if self.rough and e.errno in WEATHER:
                return
            raise Wrong(f"listing {folder}: {e}") from e
        ended = self.now()
        want = self.model.children(folder)
        for name in sorted(set(want) | set(found)):
            key = f"{folder}/{name}"
            if key in self.held:
                continue
            alive = {True} if want.get(name) else {is_alive(self.model.files.get(key), t) for t in (began, ended)}
            if None in alive or len(alive) > 1:
                continue
            if (name in found) != alive.pop() or (name in found and found[name] != want[name]):
                raise Wrong(f"listing {folder}: {sorted(found)} instead of {sorted(want)} ({name})")

    # --- choosing ----------------------------------------------------------------------------

    def touchable(self, key):
        """Not one that others of our operations are in the middle of, nor one about to expire."""
        file = self.model.files.get(key)
        return key not in self.held and (file is None or file.expiration is None or
                                         file.expiration > self.now() + LONG / 2)

    def some_file(self, local=None):
        keys = [k for k in sorted(self.model.files) if self.touchable(k) and k.startswith(self.base + "/") and
                (local is None or self.model.files[k].local == local)]
        return self.rng.choice(keys) if keys else None

    def some_dir(self):
        return self.rng.choice(sorted(d for d in self.model.dirs if d.startswith(self.base)))

    def some_name(self, local=False):
        """A name for a file, which may exist."""
        for _ in range(50):
            stem = f"f{self.rng.randrange(5)}"
            name = self.rng.choice([stem + "~", f".{stem}.swp", f".{stem}.Xy12Zz"]) if local else stem
            key = f"{self.some_dir()}/{name}"
            if self.touchable(key):
                return key
        return None

    def is_local(self, key):
        name = key.rpartition("/")[2]
        return name.endswith("~") or name.startswith(".")

    # --- operations --------------------------------------------------------------------------

    def kept(self, key, value):
        """The file after its value was rewritten in place."""
        old = self.model.files.get(key)
        return old._replace(value=value) if old else File(value, local=self.is_local(key))

    def open(self, key, flags):
        """A descriptor, or None where the weather does not allow it."""
        try:
            return self.call(os.open, self.path(key), flags, 0o644)
        except OSError as e:
            if self.rough and e.errno in WEATHER:
                return None
            raise Wrong(f"open {key}: {e}") from e

    def publish(self, kind, key, fd, value, function, upto=None):
        """close(2) or fsync(2), of a file that has this content."""
        return self.change(kind, {key: self.kept(key, value)}, None, function, fd)

    def fill(self, fd, value, at=0):
        """Writes in pieces; False where the weather does not allow it."""
        while at is not None and value:
            size = self.rng.choice([len(value), max(1, len(value) // 2), 4096])
            try:
                self.call(os.pwrite, fd, value[:size], at)
            except OSError as e:
                if self.rough and e.errno in WEATHER:
                    return False
                raise Wrong(f"write: {e}") from e
            at, value = at + len(value[:size]), value[size:]
        return True

    def finish(self, key, fd, value, sync):
        """Closes what was written, with an fsync before where asked."""
        if sync:
            began = time.monotonic()
            if self.publish("fsync", key, fd, value, os.fsync):
                self.model.events[-1] = self.model.events[-1]._replace(upto=began)
        self.publish("close", key, fd, value, os.close)

    def op_write(self, key=None, local=False):
        key = key or self.some_name(local)
        if not key:
            return
        value, sync = self.value(), self.rng.random() < 0.25
        fd = self.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if fd is None:
            return self.settle(key)
        self.fill_new(fd, value)
        self.finish(key, fd, value, sync)

    def fill_new(self, fd, value):
        """Nothing has to be asked for where all of it is new."""
        if not self.fill(fd, value):
            raise Wrong("a new value cannot be written")

    def settle(self, key):
        """After an open that failed: it may have created the file."""
        old = self.model.files.get(key)
        found = self.look(key, patient=True)
        problem = same_files({key: old} if old else {}, {key: found} if found else {}, self.now())
        if problem and not (found and found.value == b"" and old is None):
            raise Wrong(f"after an open that failed: {problem}")
        if problem:
            self.change("remove", {key: None}, None, os.unlink, self.path(key))

    def op_local(self):
        self.op_write(local=True)

    def op_patch(self):
        key = self.some_file()
        if not key:
            return
        old = self.model.files[key].value
        fd = self.open(key, os.O_RDWR)
        if fd is None:
            return
        piece = self.value(large=False)
        at = self.rng.randrange(len(old) + 100) if self.rng.random() < 0.7 else len(old)
        new = old[:at].ljust(at, b"\0") + piece + old[at + len(piece):]
        if not self.fill(fd, piece, at):
            return self.give_up(key, fd, old)
        self.finish(key, fd, new, self.rng.random() < 0.2)

    def give_up(self, key, fd, old):
        """A write failed: what the file has then is looked at, and restored."""
        try:
            self.call(os.close, fd)
        except OSError:
            pass
        found = self.look(key, patient=True)
        self.record("gave up", time.monotonic(), time.monotonic(),
                    {key: self.model.files[key]._replace(value=found.value)})
        self.op_write(key)

    def op_append(self):
        key = self.some_file()
        if not key:
            return
        old = self.model.files[key].value
        fd = self.open(key, os.O_WRONLY | os.O_APPEND)
        if fd is None:
            return
        piece = self.value(large=False)
        if not self.fill(fd, piece):
            return self.give_up(key, fd, old)
        self.finish(key, fd, old + piece, False)

    def op_truncate(self):
        key = self.some_file()
        if not key:
            return
        old = self.model.files[key]
        size = self.rng.randrange(len(old.value) + 50)
        value = old.value[:size].ljust(size, b"\0")
        self.change("truncate", {key: old._replace(value=value)}, None, os.truncate, self.path(key), size)

    def op_hold(self):
        """Opens a file and leaves it open with a part written; or goes on with one."""
        if self.held and (len(self.held) > 1 or self.rng.random() < 0.6):
            key = self.rng.choice(sorted(self.held))
            fd, value = self.held[key]
            more = self.value(large=False)
            if self.rng.random() < 0.3:
                began = time.monotonic()
                if self.publish("fsync", key, fd, value, os.fsync):
                    self.model.events[-1] = self.model.events[-1]._replace(upto=began)
            if self.fill(fd, more, len(value)):
                value += more
            else:
                return  # it stays as it is
            del self.held[key]
            self.publish("close", key, fd, value, os.close)
            return
        key = self.some_name()
        if not key:
            return
        fd = self.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if fd is None:
            return self.settle(key)
        value = self.value()
        self.fill_new(fd, value)
        self.held[key] = (fd, value)

    def op_rename(self):
        old = self.some_file()
        new = self.some_name(local=self.rng.random() < 0.2)
        if not old or not new or old == new:
            return
        file = renamed(self.model.files[old], self.model.files.get(new), self.is_local(new))
        self.change("rename", {old: None, new: file}, None, os.rename, self.path(old), self.path(new))

    def op_replace(self):
        """As an editor saves: a backup by rename, a new file beside, and a rename over it."""
        key = self.some_file(local=False)
        if not key:
            return
        folder, _, name = key.rpartition("/")
        temporary = f"{folder}/.{name}.Ab12Cd"
        if not self.touchable(temporary):
            return
        self.op_write(temporary)
        if temporary not in self.model.files:
            return
        file = renamed(self.model.files[temporary], self.model.files[key], False)
        self.change("replace", {temporary: None, key: file}, None, os.rename, self.path(temporary), self.path(key))

    def op_unlink(self):
        key = self.some_file()
        if key:
            self.change("unlink", {key: None}, None, os.unlink, self.path(key))

    def op_mkdir(self):
        name = f"{self.some_dir()}/d{self.rng.randrange(3)}"
        if name not in self.model.dirs and name.count("/") <= 3:
            self.change("mkdir", {}, self.model.dirs | {name}, os.mkdir, self.path(name))

    def below(self, folder):
        return [k for k in [*self.model.files, *self.model.dirs, *self.held] if k.startswith(folder + "/")]

    def op_rmdir(self):
        folders = [d for d in sorted(self.model.dirs) if d != self.base and not self.below(d)]
        if folders:
            folder = self.rng.choice(folders)
            self.change("rmdir", {}, self.model.dirs - {folder}, os.rmdir, self.path(folder))

    def op_rename_dir(self):
        old = self.some_dir()
        new = f"{self.some_dir()}/d{self.rng.randrange(4)}"
        if old == self.base or new == old or (new + "/").startswith(old + "/") or new in self.model.dirs or \
                new.count("/") > 3 or any(k.startswith(old + "/") for k in self.held):
            return
        now = self.now()
        inside = {k: f for k, f in self.model.files.items() if k.startswith(old + "/")}
        if any(f.expiration and f.expiration < now + 4 * MARGIN for f in inside.values()):
            return
        changes = {k: None for k in inside}
        changes.update({new + k[len(old):]: f for k, f in inside.items()})
        dirs = {new + d[len(old):] if (d + "/").startswith(old + "/") else d for d in self.model.dirs}
        self.change("rename dir", changes, dirs, os.rename, self.path(old), self.path(new))

    def op_attribute(self):
        key = self.some_file()
        if not key:
            return
        file, path = self.model.files[key], self.path(key)
        what = self.rng.choice(["metadata", "metadata", "expiration", "no metadata", "no expiration"])
        if what == "metadata":
            text = self.metadata()
            self.change("metadata", {key: file._replace(metadata=text, own_metadata=True)}, None,
                        os.setxattr, path, "user.kv.metadata", text.encode())
        elif what == "expiration":
            when = int(self.now()) + LONG + self.rng.randrange(LONG)
            self.change("expiration", {key: file._replace(expiration=when, own_expiration=True)}, None,
                        os.setxattr, path, "user.kv.expiration", str(when).encode())
        elif what == "no metadata" and file.metadata is not None:
            self.change(what, {key: file._replace(metadata=None, own_metadata=True)}, None,
                        os.removexattr, path, "user.kv.metadata")
        elif what == "no expiration" and file.expiration is not None:
            self.change(what, {key: file._replace(expiration=None, own_expiration=True)}, None,
                        os.removexattr, path, "user.kv.expiration")

    def op_mortal(self):
        """A time to live that the run comes to."""
        key = self.some_file(local=False)
        if not key:
            return
        file, when = self.model.files[key], int(self.now()) + self.rng.randrange(300, 900)
        self.change("mortal", {key: file._replace(expiration=when, own_expiration=True)}, None,
                    os.setxattr, self.path(key), "user.kv.expiration", str(when).encode())

    def op_bury(self):
        """What has expired is gone, and its name is free."""
        now = self.now()
        for key, file in sorted(self.model.files.items()):
            if is_alive(file, now) is False:
                self.verify(key)
                self.record("expired", time.monotonic(), time.monotonic(), {key: None})

    def op_fsync(self):
        """Of a directory: all that was done before is durable."""
        fd = self.open(self.base, os.O_RDONLY)
        if fd is None:
            return
        began = time.monotonic()
        try:
            self.call(os.fsync, fd)
            self.record("fsync dir", began, time.monotonic(), {}, upto=began)
        except OSError as e:
            if not self.rough or e.errno not in WEATHER:
                raise Wrong(f"fsync {self.base}: {e}") from e
        finally:
            try:
                os.close(fd)
            except OSError:
                pass

    def op_verify(self):
        key = self.some_file()
        if key:
            self.verify(key)

    def op_list(self):
        self.verify_list(self.some_dir())

    def op_absent(self):
        key = self.some_name()
        if key and key not in self.model.files:
            self.verify(key)

    # --- what others write -------------------------------------------------------------------

    def see(self, key):
        began = self.now()
        found, known = self.look_in_weather(key)
        if not known:
            return
        row = found or File(None)
        self.seen.append(Seen(key, began, self.now(), time.monotonic(), row.value, row.expiration, row.metadata))

    def op_see(self):
        self.see(f"o/k{self.rng.randrange(12):02d}")

    def op_see_list(self):
        began = self.now()
        try:
            names = self.call(os.listdir, self.path("o"))
        except OSError as e:
            if self.rough and e.errno in WEATHER:
                return
            raise Wrong(f"listing o: {e}") from e
        self.seen.append(Listed("o", began, self.now(), names))

    # Keys that others write too, one process of the mount each. Values are written as a whole.

    def shared_key(self):
        return f"s/{self.number}-{self.rng.randrange(3)}"

    def op_share(self):
        key, value = self.shared_key(), self.value()
        try:
            fd = self.call(os.open, self.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except FileNotFoundError:  # others have removed it between the look and the opening
            return
        except OSError as e:
            if not self.rough or e.errno not in WEATHER:
                raise Wrong(f"open {key}: {e}") from e
            return
        self.fill_new(fd, value)
        began = time.monotonic()
        try:
            self.call(os.close, fd)
        except Dead:
            self.record("share", began, None, {}, shared=(key, value))
            raise
        self.record("share", began, time.monotonic(), {}, shared=(key, value))

    def op_unshare(self):
        key, began = self.shared_key(), time.monotonic()
        try:
            self.call(os.unlink, self.path(key))
        except FileNotFoundError:
            return
        except Dead:
            self.record("unshare", began, None, {}, shared=(key, None))
            raise
        except OSError as e:
            if not self.rough or e.errno not in WEATHER:
                raise Wrong(f"unlink {key}: {e}") from e
            return
        self.record("unshare", began, time.monotonic(), {}, shared=(key, None))

    def op_see_shared(self):
        self.see(self.shared_key())

    OPERATIONS = {
        "op_write": 14, "op_patch": 6, "op_append": 6, "op_truncate": 4, "op_hold": 6, "op_rename": 7,
        "op_replace": 7, "op_unlink": 6, "op_mkdir": 3, "op_rmdir": 2, "op_rename_dir": 2, "op_attribute": 8,
        "op_mortal": 2, "op_bury": 2, "op_fsync": 3, "op_verify": 10, "op_list": 5, "op_absent": 3, "op_local": 4,
        "op_see": 8, "op_see_list": 3, "op_share": 4, "op_unshare": 1, "op_see_shared": 4,
    }

    # --- commands ----------------------------------------------------------------------------

    def start(self, files, dirs):
        self.model = Model(files, dirs)
        for folder in sorted(dirs):
            if folder == self.base or not any(k.startswith(folder + "/") for k in files):
                os.makedirs(self.path(folder), exist_ok=True)
        return None

    def answer(self, alive, began):
        seen, self.seen = self.seen, []
        return {"alive": alive, "events": self.model.events[began:], "seen": seen, "count": self.done,
                "trace": self.trace[-30:]}

    def run(self, seconds, rough, mortal):
        """Works for so long."""
        self.rough, self.mortal, self.done, began = rough, mortal, 0, len(self.model.events)
        names, weights = zip(*self.OPERATIONS.items())
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                getattr(self, self.rng.choices(names, weights)[0])()
                self.done += 1
        except Dead:
            for fd, _ in self.held.values():
                try:
                    os.close(fd)
                except OSError:
                    pass
            self.held = {}
            return self.answer(False, began)
        return self.answer(True, began)

    def let_go(self):
        """Closes what is open."""
        self.done, began = 0, len(self.model.events)
        try:
            for key, (fd, value) in sorted(self.held.items()):
                self.publish("close", key, fd, value, os.close)
                del self.held[key]
        except Dead:
            self.held = {}
            return self.answer(False, began)
        return self.answer(True, began)

    def recover(self):
        """Everything of its own that is there."""
        files, dirs, todo = {}, set(), [self.base]
        while todo:
            folder = todo.pop()
            dirs.add(folder)
            for name in self.patiently(os.listdir, self.path(folder)):
                key = f"{folder}/{name}"
                if os.path.isdir(self.path(key)):
                    todo.append(key)
                elif (file := self.look(key, patient=True)) is not None:
                    files[key] = file
        return files, dirs, self.model.events, self.model.snapshots

    def patiently(self, function, *args):
        deadline = time.monotonic() + 30
        while True:
            try:
                return function(*args)
            except OSError as e:
                if e.errno not in WEATHER or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def go_back(self, to):
        self.model.go_back(to)
        self.model.forget_past()

    def forget_past(self):
        self.model.forget_past()

    def files(self):
        return self.model.files, self.model.dirs


def main():
    seed, number, root, clock = sys.argv[1:]
    worker = Worker(seed, int(number), root, clock)
    commands, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            name, args = pickle.load(commands)
        except EOFError:
            return
        try:
            answer = (True, getattr(worker, name)(*args))
        except Wrong as e:
            answer = (False, f"process {number}: {e}\n  before: {worker.trace[-12:]}")
        except Exception:  # noqa: BLE001: whatever it is, whoever waits must hear of it
            answer = (False, f"process {number}:\n{traceback.format_exc()}")
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
