"""The test server's time: what expiry, quota windows, staleness and the Date header follow.

Virtual time starts as real time. A test may set it, advance it, stop it (rate 0), let it run faster
(rate 60: a five-minute window lasts five seconds) or let every request advance it (step). What a
client is told to wait is in its own seconds: patience() divides by the rate.

follow(file) takes the time from a file of Unix seconds, the one that a daemon under test is given as
KVFS_CLOCK: both then live in one time, and the test moves it there.
"""

import math
import threading
import time


class Clock:
    def __init__(self):
        self._lock = threading.Lock()
        self._virtual = time.time()
        self._real = time.monotonic()
        self._rate = 1.0
        self._file = None
        self.step = 0.0  # virtual seconds that each request takes

    def follow(self, file):
        """The time is what the file says from now on; None ends that."""
        with self._lock:
            self._file = file

    def _read(self):
        """Moves the time to the file's; where it says nothing, being rewritten, the time stands still."""
        self._rate = 0.0
        try:
            with open(self._file) as f:
                self._virtual = float(f.read())
        except (OSError, ValueError):
            pass

    def _now(self):
        if self._file:
            self._read()
        return self._virtual + (time.monotonic() - self._real) * self._rate

    def now(self):
        """Virtual seconds since the epoch, a float."""
        with self._lock:
            return self._now()

    def set(self, seconds):
        with self._lock:
            self._virtual, self._real = float(seconds), time.monotonic()

    def advance(self, seconds):
        with self._lock:
            self._virtual += seconds

    def tick(self):
        """What the server calls for each request."""
        if self.step:
            self.advance(self.step)

    @property
    def rate(self):
        return self._rate

    @rate.setter
    def rate(self, rate):
        """Virtual seconds that pass in a real one; 0 stops the time."""
        with self._lock:
            self._virtual, self._real = self._now(), time.monotonic()
            self._rate = float(rate)

    def freeze(self):
        self.rate = 0

    def patience(self, seconds):
        """Virtual seconds as whole real ones, rounded up (unscaled where the time stands still)."""
        return max(0, math.ceil(seconds / self._rate if self._rate > 0 else seconds))
