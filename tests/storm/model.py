"""What one process of the storm has made, and what must be there of it.

Each process owns a part of the namespace (below its own directory) that nobody else writes to, so
that its model is exact: for every file its bytes, expiration and metadata, and every directory.

Every change is an Event. A step of a process that can be seen by others is one change: a close or
fsync that publishes a value, a rename, an attribute. After each event the model keeps a snapshot, so
that a crash, which may take events away from the end only, can be compared with all moments that
it may have gone back to.
"""

from collections import namedtuple

# value: bytes; metadata: JSON text; own_*: set by the process itself, so that it goes along with a
# rename rather than being inherited; uploaded never where `local`.
File = namedtuple("File", "value expiration metadata own_expiration own_metadata local",
                  defaults=(None, None, False, False, False))

# What the store has of a key.
Stored = namedtuple("Stored", "value expiration metadata")

# One change of a process. began, ended: real (monotonic) seconds; ended None: it was under way when
# the daemon died. changes: {key: File or None}. upto: the newest moment from which on everything
# earlier is durable (what fsync has acknowledged), or None. shared: (key, value or None), of a key that
# others write too.
Event = namedtuple("Event", "kind began ended changes upto shared")

# What was seen of a key that others write, or of a directory of theirs. began, ended: virtual
# seconds; real: the monotonic time when it ended.
Seen = namedtuple("Seen", "key began ended real value expiration metadata")
Listed = namedtuple("Listed", "folder began ended names")

# Virtual seconds about an expiration in which nothing is said of the key: what has expired may be
# shown for a real second more, in which the clock may have jumped too.
MARGIN, GONE = 15, 400


def stored(file):
    """What the store is to have of a file; None: no such key."""
    if file is None or file.local:
        return None
    return Stored(file.value, file.expiration, file.metadata)


def renamed(file, replaced, local):
    """A file as it takes another's place: attributes that it does not bring are inherited."""
    file = file._replace(local=local)
    if replaced is None:
        return file
    if not file.own_expiration and file.expiration is None:
        file = file._replace(expiration=replaced.expiration, own_expiration=replaced.own_expiration)
    if not file.own_metadata and file.metadata is None:
        file = file._replace(metadata=replaced.metadata, own_metadata=replaced.own_metadata)
    return file


def is_alive(file, now):
    """True, False, or None: its expiration is so near that nothing is certain."""
    if file is None:
        return False
    if file.expiration is None or file.expiration > now + MARGIN:
        return True
    return False if file.expiration < now - GONE else None


class Model:
    """The files and directories of one process, by key and by prefix (without the separator)."""

    def __init__(self, files, dirs):
        self.files, self.dirs = dict(files), set(dirs)
        self.events = []
        self.snapshots = [(dict(files), set(dirs))]  # [i]: after i events

    def add(self, event, dirs=None):
        """Takes an event in: `dirs`, where it changes them, are those after it."""
        for key, file in event.changes.items():
            if file is None:
                self.files.pop(key, None)
            else:
                self.files[key] = file
        if dirs is not None:
            self.dirs = set(dirs)
        self.events.append(event)
        self.snapshots.append((dict(self.files), set(self.dirs)))

    def go_back(self, to):
        """Only the first `to` events have been."""
        self.files, self.dirs = dict(self.snapshots[to][0]), set(self.snapshots[to][1])
        del self.events[to:]
        del self.snapshots[to + 1:]

    def forget_past(self):
        """Nothing that has been until now can be taken back."""
        self.events = []
        self.snapshots = [(dict(self.files), set(self.dirs))]

    def children(self, folder):
        """{name: is it a directory} of what is in a directory."""
        found = {}
        for path, is_dir in [(d, True) for d in self.dirs] + [(f, False) for f in self.files]:
            parent, _, name = path.rpartition("/")
            if parent == folder:
                found[name] = is_dir
        return found


def same_files(expected, found, now):
    """The first difference between files that should be there and those that are, as text; None."""
    for key in sorted(set(expected) | set(found)):
        want, got = expected.get(key), found.get(key)
        alive = is_alive(want, now)
        if got is None and not alive:
            continue
        if got is not None and alive is False:
            return f"{key}: it should be gone ({shown(want)}), and is {shown(got)}"
        if got is None:
            return f"{key}: it is not there; it should be {shown(want)}"
        if (want.value, want.expiration, want.metadata) != (got.value, got.expiration, got.metadata):
            return f"{key}: {shown(got)} instead of {shown(want)}"
    return None


def shown(file):
    if file is None:
        return "absent"
    value = repr(file.value[:40]) + (f"... of {len(file.value)}" if len(file.value) > 40 else "")
    return f"({value}, expiration {file.expiration}, metadata {file.metadata})"


def difference(a, b):
    """Where two values begin to differ."""
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"{len(a)} and {len(b)} bytes differ from {at} on: {a[at:at + 24]!r}, {b[at:at + 24]!r}"
