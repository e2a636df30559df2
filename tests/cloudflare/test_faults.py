"""The test server's faults do what they say, and nothing is broken once they are over."""

import http.client
import json
import os
import unittest

import faults
import test_rules
from client import Client
from server import Server

LOST = (http.client.HTTPException, OSError)


class FaultCase(test_rules.Case):
    def setUp(self):
        super().setUp()
        self.add = self.server.faults.add
        for i in range(12):
            self.kv.put(f"p/{i:02}", f"v{i}")

    def get(self, key="p/00"):
        return self.client.ask("GET", self.value(key))

    def lost(self):
        """Whether a GET ends without a whole answer; the next one is good again."""
        try:
            self.get()
        except LOST:
            self.client.close()
            self.server.faults.clear()
            self.assertEqual(self.get().body, b"v0")
            return True
        return False

    def spoiled(self, name, path=None, method="GET", sent=None, **settings):
        """The body of a call, a listing unless told otherwise, under a fault."""
        self.add(name, next=1, **settings)
        return self.client.ask(method, self.ns + (path or "/keys"), sent).body


class Choice(FaultCase):
    def statuses(self, count):
        return [self.get().status for _ in range(count)]

    def test_next_and_skip(self):
        self.add("status", status=503, next=2, skip=1)
        self.assertEqual(self.statuses(5), [200, 503, 503, 200, 200])

    def test_by_kind(self):
        rule = self.add("status", on="bulk")
        self.add("status", on=("put", "delete"), status=502)
        self.assertEqual(self.get().status, 200)
        self.assertEqual(self.client.ask("POST", self.ns + "/bulk/get", {"keys": ["p/00"]}).status, 500)
        self.assertEqual(self.client.ask("PUT", self.value("x"), b"v").status, 502)
        self.assertEqual(rule.applied, 1)

    def test_by_key(self):
        self.add("status", key="p%2F01$")
        self.assertEqual([self.get(k).status for k in ("p/00", "p/01")], [200, 500])

    def test_by_probability_and_repeatably(self):
        runs = []
        for _ in range(2):
            self.server.faults.clear()
            self.add("status", probability=0.5, seed=3)
            runs.append(self.statuses(40))
        self.assertEqual(runs[0], runs[1])
        self.assertTrue(5 < runs[0].count(500) < 35)

    def test_unknown(self):
        self.assertRaises(ValueError, self.add, "nonsense")

    def test_all_are_described(self):
        missing = [name for name in faults.NAMES if name not in faults.__doc__]
        self.assertEqual(missing, [])


class Instead(FaultCase):
    def test_status(self):
        self.add("status", on="put", status=429, retry_after=7, next=1)
        answer = self.client.ask("PUT", self.value("new"), b"v")
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "7"))
        self.assertEqual(json.loads(answer.body)["errors"][0]["code"], 971)
        self.assertIsNone(self.kv.get("new"))

    def test_applied_and_lost(self):
        self.add("status", on="put", status=500, applied=True, next=1)
        self.assertEqual(self.client.ask("PUT", self.value("new"), b"v").status, 500)
        self.assertEqual(self.kv.get("new").value, b"v")

    def test_body_and_date(self):
        self.add("status", status=520, body=b"<html>", retry_after="Wed, 21 Oct 2026 07:28:00 GMT", next=1)
        answer = self.get()
        self.assertEqual((answer.status, answer.body), (520, b"<html>"))
        self.assertTrue(answer.headers["Retry-After"].endswith("GMT"))

    def test_auth(self):
        for status in (403, 401):
            self.add("auth", status=status, next=1)
            self.assertEqual(self.client.error("GET", self.value("p/00")), (status, 10000))

    def test_redirect_to_another_host(self):
        with Server() as other:
            self.add("redirect", location=other.origin + "/steal", status=307, next=1)
            answer = self.get()
            self.assertEqual((answer.status, answer.headers["Location"]), (307, other.origin + "/steal"))
            there = Client(other)
            there.raw("GET", "/steal", headers={"Authorization": None})
            there.close()
            self.assertEqual([r.auth for r in other.log.records()], ["none"])

    def test_resets(self):
        for at in ("arrival", "before", "after"):
            self.add("reset", at=at)
            self.assertTrue(self.lost(), at)
        self.add("reset", rst=False)
        with self.assertRaises(http.client.RemoteDisconnected):
            self.get()

    def test_a_reset_after_the_call(self):
        for at, there in (("before", None), ("after", b"v")):
            self.add("reset", on="put", at=at, next=1)
            with self.assertRaises(LOST):
                self.client.ask("PUT", self.value("new"), b"v")
            self.client.close()
            entry = self.kv.get("new")
            self.assertEqual(entry and entry.value, there)
        self.assertEqual([r.status for r in self.server.log.records("put")], [0, 0])

    def test_hang(self):
        self.add("hang", next=1, seconds=0.2)
        self.assertTrue(self.lost())


class InCall(FaultCase):
    def test_unsuccessful(self):
        self.add("unsuccessful", keys=["b"], next=1)
        pairs = [{"key": k, "value": "v"} for k in "abc"]
        done = self.client.json("PUT", self.ns + "/bulk", pairs)["result"]
        self.assertEqual(done, {"successful_key_count": 2, "unsuccessful_keys": ["b"]})
        self.assertIsNone(self.kv.get("b"))
        self.assertIsNotNone(self.kv.get("c"))

    def test_unsuccessful_deletes_by_share(self):
        keys = [f"p/{i:02}" for i in range(12)]
        self.add("unsuccessful", fraction=0.5, seed=1, next=1)
        failed = self.client.json("POST", self.ns + "/bulk/delete", keys)["result"]["unsuccessful_keys"]
        self.assertTrue(0 < len(failed) < 12)
        self.assertEqual(list(self.kv.entries()), [k.encode() for k in failed])

    def test_an_empty_page_has_a_successor(self):
        page = json.loads(self.spoiled("empty_page"))
        self.assertEqual(page["result"], [])
        self.assertEqual(len(self.names(cursor=page["result_info"]["cursor"])), 12)

    def test_short_pages(self):
        self.add("short_page", keys=5)
        names, cursor = [], None
        for _ in range(3):
            page = self.list(**({"cursor": cursor} if cursor else {}))
            names += [r["name"] for r in page["result"]]
            cursor = page["result_info"]["cursor"]
        self.assertEqual((len(names), cursor), (12, ""))


class Content(FaultCase):
    def test_wrong_types_are_all_json_and_all_different(self):
        self.add("wrong_types")
        seen = [self.client.ask("GET", self.ns + "/keys").body for _ in faults.WRONG_TYPES]
        for body in seen:
            json.loads(body)
        self.assertEqual(len(set(seen)), len(seen))

    def test_invalid_utf8(self):
        self.assertRaises(UnicodeDecodeError, self.spoiled("invalid_utf8").decode)

    def test_nul(self):
        self.assertIn(b'"name":"\\u0000p/00"', self.spoiled("nul"))
        self.assertIn(b'"name":"\0p/00"', self.spoiled("nul", raw=True))

    def test_foreign_keys(self):
        names = [r["name"] for r in json.loads(self.spoiled("foreign_keys", "/keys?prefix=p"))["result"]]
        self.assertFalse([n for n in names if n.startswith("p")])
        body = self.spoiled("foreign_keys", "/bulk/get", "POST", {"keys": ["p/00"]})
        self.assertEqual(json.loads(body)["result"]["values"], {"\x01foreign-p/00": "v0"})

    def test_order_and_repetition(self):
        rows = json.loads(self.spoiled("unordered"))["result"]
        self.assertEqual(rows[0]["name"], "p/11")
        self.assertEqual(len(json.loads(self.spoiled("duplicates"))["result"]), 24)

    def test_cursors(self):
        page = json.loads(self.spoiled("endless_cursor"))
        self.assertTrue(page["result_info"]["cursor"])
        self.assertIsNone(json.loads(self.spoiled("end_cursor", **{"as": "null"}))["result_info"]["cursor"])
        self.assertNotIn("cursor", json.loads(self.spoiled("end_cursor"))["result_info"])
        self.assertNotIn("result_info", json.loads(self.spoiled("end_cursor", **{"as": "no_info"})))

    def test_wrong_value(self):
        self.add("wrong_value", next=1, value=b"other")
        self.assertEqual(self.get().body, b"other")
        body = self.spoiled("wrong_value", "/bulk/get", "POST", {"keys": ["p/00", "p/01"]})
        self.assertEqual(json.loads(body)["result"]["values"], {"p/00": "v1", "p/01": "v0"})

    def test_not_json(self):
        for name in ("truncated_json", "html", "deep"):
            self.assertRaises((ValueError, RecursionError), json.loads, self.spoiled(name))
        self.assertIs(json.loads(self.spoiled("success_false"))["success"], False)
        self.assertEqual(self.spoiled("body", body=b"x"), b"x")

    def test_headers(self):
        self.add("header", field="Ratelimit", text='"default";r=-5;t=never', next=1)
        self.add("header", field="Ratelimit-Policy", text=None, next=1)
        headers = self.get().headers
        self.assertEqual(headers["Ratelimit"], '"default";r=-5;t=never')
        self.assertNotIn("Ratelimit-Policy", headers)


class Wire(FaultCase):
    def test_lost_answers(self):
        for name, settings in (("cut", {}), ("cut", {"after": 0, "rst": True}), ("garbage", {}),
                               ("stall", {"seconds": 0.2}), ("huge_header", {}), ("many_headers", {})):
            self.add(name, **settings)
            self.assertTrue(self.lost(), name)

    def test_cut_is_recorded(self):
        self.add("cut", after=1)
        self.assertTrue(self.lost())
        self.assertTrue(self.server.log.wait(lambda rs: [r for r in rs if (r.fault, r.sent) == ("cut", 1)]))

    def test_slow_and_late_answers_are_whole(self):
        self.kv.put("p/00", b"x" * 5000)
        self.add("slow", pause=0.001, next=1)
        self.add("latency", seconds=0.01, next=1)
        self.assertEqual(len(self.get().body), 5000)

    def test_legal_variants_are_whole(self):
        self.kv.put("p/00", b"x" * 5000)
        for name in ("chunked", "close", "interim"):
            self.add(name, next=1, status=100)
            answer = self.get()
            self.assertEqual((answer.status, len(answer.body)), (200, 5000), name)

    def test_trailing_bytes(self):
        self.add("trailing", next=1)
        self.client.connection.connect()
        self.client.connection.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        with self.client.connection.sock.makefile("rb") as f:
            self.assertRegex(f.read(), rb"(?s)\}unasked for\r\n\r\nHTTP/1.1 400 .*\}$")

    def test_endless(self):
        for framing in ("chunked", "close"):
            self.add("endless", on="list", framing=framing, next=1)
            self.client.connection.request("GET", self.client.namespaces + self.ns + "/keys", headers={
                "Authorization": "Bearer " + self.server.token})
            answer = self.client.connection.getresponse()
            self.assertEqual(len(answer.read(1 << 22)), 1 << 22)
            self.client.close()

    def test_stopping_ends_what_waits(self):
        self.add("latency", seconds=60)
        self.client.connection.request("GET", "/")
        self.assertTrue(self.server.log.wait(lambda rs: True))
        self.server.stop()
        self.assertRaises(LOST, self.client.connection.getresponse)


class Command(unittest.TestCase):
    """The server as a program."""

    def test_it_says_where_it_is_and_ends_with_its_input(self):
        import subprocess
        import sys
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server.py")
        child = subprocess.Popen([sys.executable, "-B", program, "one", "two"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        try:
            ready = json.loads(child.stdout.readline())
            self.assertEqual(list(ready["namespaces"]), ["one", "two"])
            connection = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=20)
            connection.request("GET", "/-/counts")
            self.assertEqual(connection.getresponse().read(), b"{}")
            connection.close()
            child.stdin.close()
            self.assertEqual(child.wait(20), 0)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
