"""What the account truly holds, and what an eventually consistent reader sees of it.

A Namespace keeps the recent versions of each key, so that a read can be answered as of an earlier
moment: `lag` for values, `list_lag` for listings (virtual seconds). What did not exist at that
moment is absent. With `lag_seed` each read has a lag of its own, from 0 up to the limit. Expiry is
by the present time however stale the read.

The methods put, delete, get, entries and clear are the truth, used by the calls and, without any
request, by tests ("foreign changes"). Values are bytes, keys are bytes or str, expiration is whole
seconds since the epoch or None, metadata is compact JSON text or None (anything else given is
turned into that). Not locked: the server's lock is held by whoever calls from a request; a test's
own calls take it too.
"""

import bisect
import functools
import json
import random
import re
import threading
import uuid
from collections import namedtuple

Entry = namedtuple("Entry", "value expiration metadata", defaults=(None, None))
Version = namedtuple("Version", "since entry")  # entry None: deleted

KEPT_SECONDS = 180.0  # how old a version can be and still be read by a stale read
KEPT_VERSIONS = 16

JSON_BITS = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+', re.DOTALL)


def compact(text):
    """JSON text without the white space between its tokens; everything else as it was written."""
    return "".join(JSON_BITS.findall(text))


def metadata_text(metadata):
    """Metadata as it is kept: None, JSON text as it is (str), or any other object serialised."""
    if metadata is None or isinstance(metadata, str):
        return metadata
    return json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)


def as_key(key):
    return key.encode() if isinstance(key, str) else bytes(key)


def locked(method):
    @functools.wraps(method)
    def inner(self, *args, **kwargs):
        with self.lock:
            return method(self, *args, **kwargs)
    return inner


class Namespace:
    def __init__(self, store, title, id):
        self.store, self.lock = store, store.lock
        self.title, self.id = title, id
        self._versions = {}  # key: [Version], oldest first
        self._sorted = []
        self._sorted_is_old = False

    def _alive(self, entry):
        if entry is None:
            return None
        if entry.expiration is not None and entry.expiration <= self.store.clock.now():
            return None
        return entry

    def _add(self, key, entry):
        now = self.store.clock.now()
        versions = self._versions.get(key)
        if versions is None:
            versions = self._versions[key] = []
            self._sorted_is_old = True
        versions.append(Version(now, entry))
        while len(versions) > 1 and (versions[1].since < now - KEPT_SECONDS or len(versions) > KEPT_VERSIONS):
            versions.pop(0)

    def _as_of(self, key, lag):
        """The entry that a reader sees who is `lag` seconds behind."""
        moment = self.store.clock.now() - lag
        for version in reversed(self._versions.get(key, ())):
            if lag == 0 or version.since <= moment:
                return self._alive(version.entry)
        return None

    @locked
    def put(self, key, value, expiration=None, metadata=None):
        value = value.encode() if isinstance(value, str) else bytes(value)
        self._add(as_key(key), Entry(value, expiration, metadata_text(metadata)))

    @locked
    def delete(self, key):
        if as_key(key) in self._versions:
            self._add(as_key(key), None)

    @locked
    def get(self, key):
        """The true Entry of a key, None when absent or expired."""
        return self._as_of(as_key(key), 0)

    @locked
    def entries(self):
        """The true content: {key: Entry}, in byte order."""
        found = {key: self._as_of(key, 0) for key in self._keys()}
        return {key: entry for key, entry in found.items() if entry is not None}

    @locked
    def clear(self):
        for key in self.entries():
            self.delete(key)

    @locked
    def settle(self):
        """Everything that was written becomes visible to stale readers at once."""
        for key, versions in self._versions.items():
            self._versions[key] = [Version(0.0, versions[-1].entry)]

    def _keys(self):
        if self._sorted_is_old:
            self._sorted, self._sorted_is_old = sorted(self._versions), False
        return self._sorted

    @locked
    def read(self, key):
        """What a request sees of a key."""
        return self._as_of(key, self.store.lag_now(self.store.lag))

    @locked
    def page(self, prefix, after, limit):
        """What a request sees of a listing: ([(key, Entry)], whether more follow)."""
        keys, lag = self._keys(), self.store.lag_now(self.store.list_lag)
        at = bisect.bisect_right(keys, after) if after else bisect.bisect_left(keys, prefix)
        found = []
        while at < len(keys) and keys[at].startswith(prefix):
            entry = self._as_of(keys[at], lag)
            if entry is not None:
                if len(found) == limit:
                    return found, True
                found.append((keys[at], entry))
            at += 1
        return found, False


class Store:
    def __init__(self, clock):
        self.clock = clock
        self.lock = threading.RLock()
        self.namespaces = {}  # id: Namespace
        self.lag = 0.0
        self.list_lag = 0.0
        self.lag_seed = None
        self._random = None

    def lag_now(self, limit):
        if not limit or self.lag_seed is None:
            return limit
        if self._random is None:
            self._random = random.Random(self.lag_seed)
        return self._random.uniform(0, limit)

    @locked
    def create(self, title, id=None):
        """A new namespace; unlike the API, this allows a title that exists."""
        namespace = Namespace(self, title, id or uuid.uuid4().hex)
        self.namespaces[namespace.id] = namespace
        return namespace

    @locked
    def drop(self, namespace):
        del self.namespaces[namespace.id]

    @locked
    def named(self, title):
        """The namespace with this title or id, None when there is none."""
        for namespace in self.namespaces.values():
            if namespace.title == title or namespace.id == title:
                return namespace
        return None
