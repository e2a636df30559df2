"""What depends on the test server's time: quotas, paces and staleness."""

import tempfile

import test_rules


class Quota(test_rules.Case):
    def test_headers_on_every_answer(self):
        for path in ("", self.value("no")):
            headers = self.client.ask("GET", path).headers
            self.assertRegex(headers["Ratelimit"], r'^"default";r=\d+;t=300$')
            self.assertEqual(headers["Ratelimit-Policy"], '"default";q=1200;w=300')
            self.assertNotIn("Retry-After", headers)

    def test_window(self):
        self.server.quota.limit = 3
        self.assertEqual([self.client.ask("GET").headers["Ratelimit"] for _ in range(3)],
                         ['"default";r=2;t=300', '"default";r=1;t=300', '"default";r=0;t=300'])
        self.server.clock.advance(100)
        answer = self.client.ask("GET")
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "200"))
        self.assertEqual(self.client.error("GET"), (429, 971))
        self.server.clock.advance(200)
        self.assertEqual(self.client.ask("GET").status, 200)
        self.assertEqual(self.server.quota.refusals, 2)

    def test_each_token_has_its_own(self):
        self.server.quota.limit = 1
        self.client.ask("GET")
        self.assertEqual(self.client.error("GET", headers={"Authorization": "Bearer other"}), (403, 10000))

    def test_one_write_per_second_and_key(self):
        self.server.quota.key_interval = 1
        self.put("key")
        answer = self.client.ask("PUT", self.value("key"), b"2")
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "1"))
        self.put("other")
        bulk = self.client.json("PUT", self.ns + "/bulk", [{"key": k, "value": "3"} for k in ("key", "third")])
        self.assertEqual(bulk["result"], {"successful_key_count": 1, "unsuccessful_keys": ["key"]})
        self.server.clock.advance(1)
        self.put("key", b"4")
        self.assertEqual(self.kv.get("key").value, b"4")

    def test_free_plan(self):
        self.server.quota.daily = {"write": 3}
        self.client.json("PUT", self.ns + "/bulk", [{"key": k, "value": "v"} for k in "ab"])
        self.put("c")
        self.assertEqual(self.client.error("PUT", self.value("d"), b"v"), (429, 10048))
        self.server.clock.advance(86400)
        self.put("d")

    def test_a_fast_clock_tells_short_waits(self):
        self.server.quota.limit = 0
        self.server.clock.rate = 60
        self.assertLessEqual(int(self.client.ask("GET").headers["Retry-After"]), 5)

    def test_a_time_shared_with_a_daemon(self):
        with tempfile.NamedTemporaryFile("w+") as f:
            for now in (2_100_000_000, 2_100_000_000.5, "", 2_000_000_000):
                f.seek(0)
                f.truncate()
                f.write(str(now))
                f.flush()
                self.server.clock.follow(f.name)
                self.assertEqual(self.server.clock.now(), now or 2_100_000_000.5)
        self.server.clock.follow(None)
        self.server.clock.advance(5)
        self.assertEqual(self.server.clock.now(), 2_000_000_005)

    def test_each_request_can_take_time(self):
        self.server.clock.step = 0.25
        before = self.server.clock.now()
        for _ in range(4):
            self.client.ask("GET")
        self.assertEqual(self.server.clock.now() - before, 1)


class Staleness(test_rules.Case):
    def test_stale_values(self):
        self.server.store.lag = 60
        self.put("key", b"1")
        self.assertEqual(self.client.error("GET", self.value("key")), (404, 10009))
        self.server.clock.advance(60)
        self.put("key", b"2")
        self.assertEqual(self.client.ask("GET", self.value("key")).body, b"1")
        self.assertEqual(self.names(), ["key"])
        self.server.clock.advance(60)
        self.client.json("DELETE", self.value("key"))
        self.assertEqual(self.bulk_get("key"), {"key": "2"})
        self.assertIsNone(self.kv.get("key"))

    def test_stale_listings(self):
        self.put("old")
        self.server.clock.advance(100)
        self.server.store.list_lag = 30
        self.put("new")
        self.client.json("DELETE", self.value("old"))
        self.assertEqual(self.names(), ["old"])
        self.assertEqual(self.client.ask("GET", self.value("new")).status, 200)
        self.server.clock.advance(30)
        self.assertEqual(self.names(), ["new"])

    def test_a_lag_of_each_read_s_own(self):
        self.put("key", b"1")
        self.server.clock.advance(100)
        self.put("key", b"2")
        self.server.clock.advance(30)
        self.server.store.lag, self.server.store.lag_seed = 60, 1
        seen = {self.client.ask("GET", self.value("key")).body for _ in range(40)}
        self.assertEqual(seen, {b"1", b"2"})

    def test_settled(self):
        self.server.store.lag = self.server.store.list_lag = 60
        self.kv.put("key", b"v")
        self.kv.settle()
        self.assertEqual((self.names(), self.client.ask("GET", self.value("key")).body), (["key"], b"v"))
