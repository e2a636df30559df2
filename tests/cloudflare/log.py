"""The exact record of what was asked, for tests of thrift and of what was sent."""

import json
import threading
from collections import Counter, namedtuple

# kind: as in calls.py; keys: how many keys the call names; auth: good, wrong, malformed or none;
# fault: the faults that were applied; time is virtual; connection numbers the TCP connections;
# sent: bytes of the body, as they were meant to be until they were sent; status 0: no answer.
Record = namedtuple("Record", "number time connection method path kind keys received sent status auth fault headers")


class Log:
    def __init__(self):
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._records = []
        self._number = 0
        self.connections = 0  # ever accepted
        self.open = 0  # now

    def add(self, **fields):
        with self._lock:
            self._number += 1
            self._records.append(Record(number=self._number, **fields))
            self._arrived.notify_all()
            return self._number

    def amend(self, number, sent):
        """What was sent in truth, where it is not what was meant to be."""
        with self._lock:
            self._records = [r._replace(sent=sent) if r.number == number else r for r in self._records]

    def clear(self):
        with self._lock:
            self._records = []

    def records(self, kind=None, status=None):
        """The requests so far: one is here before its answer is, so that whoever has that finds it."""
        with self._lock:
            return [r for r in self._records
                    if (kind is None or r.kind == kind) and (status is None or r.status == status)]

    def counts(self):
        """How many requests of each kind."""
        return Counter(r.kind for r in self.records())

    def keys(self):
        """How many keys were named by the calls of each kind: what is billed."""
        total = Counter()
        for r in self.records():
            total[r.kind] += r.keys
        return total

    def wait(self, condition, seconds=10.0):
        """Waits until condition(records) is true; False when it is not in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: condition(list(self._records)), seconds)

    def connected(self, change):
        with self._lock:
            self.open += change
            if change > 0:
                self.connections += 1
            return self.connections

    def dump(self):
        return json.dumps([r._asdict() for r in self.records()])
