"""What tests of mounted Workers KV namespaces stand on: the test server in this process, a mount of
one of its namespaces, and the exact account of what was asked.

    class Something(RemoteTest):
        def test_it(self):
            self.fill({b"a/b": b"value"})
            m = self.mount()
            with self.asked(list=1):            # exactly these requests while this runs
                os.listdir(m.root)

`virtual = True` puts server and daemons into one time that only the test moves (self.clock).
"""

import contextlib
import os
import sys
import threading

from harness import HERE, KVFS, Clock, Mount, Test, eventually, run

sys.path.append(os.path.join(os.path.dirname(HERE), "cloudflare"))

from server import Server  # noqa: E402

class RemoteMount(Mount):
    def __init__(self, token, *args):
        super().__init__(*args)
        self.token = token

    def environ(self):
        return {**super().environ(), "CLOUDFLARE_API_TOKEN": self.token}

    def pending(self):
        return self.status()["pending"]


@contextlib.contextmanager
def beside(job):
    """A thread runs job(ended) meanwhile, until the event `ended` is set."""
    ended = threading.Event()
    thread = threading.Thread(target=job, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class RemoteTest(Test):
    virtual = False

    def setUp(self):
        super().setUp()
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.clock = None
        if self.virtual:
            self.clock = Clock(self.tmp)
            self.server.clock.follow(self.clock.file)
        self.ns = self.server.namespace("main")
        self.log, self.faults = self.server.log, self.server.faults

    def clean(self):
        self.server.faults.clear()
        super().clean()

    def end_mounts(self):
        with self.time_passes():
            super().end_mounts()

    def mount(self, *options, title="main", name=None, cache="cache"):
        """A mount of the namespace."""
        number = len(self.mounts)
        folder = os.path.join(self.tmp, f"daemon{number}")
        os.mkdir(folder)
        options = [f"endpoint={self.server.endpoint}", f"cache={os.path.join(self.tmp, cache)}", *options]
        m = RemoteMount(self.server.token, f"cloudflare:{self.server.account}" + (f"#{title}" if title else ""),
                        os.path.join(self.tmp, name or f"mnt{number}"), options, folder, self.clock)
        self.mounts.append(m)
        m.start()
        self.log.clear()
        return m

    def fill(self, pairs):
        for key, value in pairs.items():
            self.ns.put(key, value)

    def many(self, count, form="k{:05d}", value="value {}"):
        pairs = {form.format(i).encode(): value.format(i).encode() for i in range(count)}
        self.fill(pairs)
        return pairs

    @contextlib.contextmanager
    def time_passes(self, rate=20):
        """Virtual time goes on by itself meanwhile, `rate` times as fast as the real one."""
        if not self.clock:
            yield
            return

        def pass_time(ended):
            while not ended.wait(0.02):
                self.clock.advance(0.02 * rate)
        with beside(pass_time):
            yield

    def uploaded(self, m, seconds=20):
        """Waits until nothing is left to be uploaded."""
        with self.time_passes():
            run(KVFS, "sync", m.root, timeout=seconds + 40)
            eventually(lambda: m.pending() == 0, seconds, "uploads")

    def counts(self):
        return {k: v for k, v in self.log.counts().items() if v}

    @contextlib.contextmanager
    def asked(self, **expected):
        """Exactly these requests are made within; "at most" where the number is negative."""
        self.log.clear()
        yield
        counts = self.counts()
        for name, number in expected.items():
            got = counts.pop(name.replace("_", "."), 0)
            if number < 0:
                self.assertLessEqual(got, -number, f"{name}: {self.counts()}")
            else:
                self.assertEqual(got, number, f"{name}: {self.counts()}")
        self.assertEqual(counts, {}, "other requests")

    def content(self):
        """What the server truly holds."""
        return {key: entry.value for key, entry in self.ns.entries().items()}
