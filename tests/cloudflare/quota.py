"""What Cloudflare allows: requests per window and token, writes per key, operations per day.

A window begins with the first request after the last one ended. Once its requests are used up,
every request is refused until it ends. The limits are plain fields, so that a test can switch
them off (None) or make them small.
"""

from collections import namedtuple

State = namedtuple("State", "refused remaining reset")  # reset: virtual seconds to the window's end

FREE_PLAN = {"read": 100000, "write": 1000, "delete": 1000, "list": 1000}
DAY = 86400


class Quota:
    def __init__(self, clock):
        self.clock = clock
        self.limit = 1200
        self.window = 300
        self.key_interval = 1.0  # seconds between two writes to one key
        self.paces_deletes = False  # whether a delete counts as such a write
        self.daily = None  # FREE_PLAN, or a dict like it
        self._windows = {}  # token: [end, used]
        self._writes = {}  # (namespace id, key): time of the last write that was accepted
        self._days = {}  # (day, operation): count
        self.refusals = 0

    def request(self, token):
        """Counts one request of a token."""
        now = self.clock.now()
        if self.limit is None:
            return State(False, 1200, self.window)
        window = self._windows.setdefault(token, [now + self.window, 0])
        if now >= window[0]:
            window[:] = [now + self.window, 0]
        refused = window[1] >= self.limit
        if refused:
            self.refusals += 1
        else:
            window[1] += 1
        return State(refused, self.limit - window[1], window[0] - now)

    def write(self, namespace, key, is_delete=False):
        """Counts a write to a key; False when it comes too early."""
        if not self.key_interval or (is_delete and not self.paces_deletes):
            return True
        now, name = self.clock.now(), (namespace.id, key)
        last = self._writes.get(name)
        if last is not None and last <= now < last + self.key_interval:
            return False
        self._writes[name] = now
        return True

    def operations(self, kind, count):
        """Counts what is billed; False when the day's share is used up."""
        if not self.daily or not kind:
            return True
        name = (int(self.clock.now()) // DAY, kind)
        if self._days.get(name, 0) + count > self.daily.get(kind, count):
            return False
        self._days[name] = self._days.get(name, 0) + count
        return True

    def used(self, token):
        window = self._windows.get(token)
        return window[1] if window and self.clock.now() < window[0] else 0

    def forget(self):
        self._windows.clear()
        self._writes.clear()
        self._days.clear()
        self.refusals = 0
