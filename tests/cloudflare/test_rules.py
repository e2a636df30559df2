"""The test server keeps the rules of the Workers KV REST API: one assertion or more for each."""

import json
import time
import unittest

from client import Client, form, segment
from server import Server

NO_SUCH = "0" * 32
MIB = 1024 * 1024


class Case(unittest.TestCase):
    """A server and a client per test; the time stands still."""

    TLS = False

    def setUp(self):
        self.server = Server(self.TLS).start()
        self.addCleanup(self.server.stop)
        self.server.clock.freeze()
        self.server.clock.set(2_000_000_000)
        self.server.quota.key_interval = 0
        self.kv = self.server.namespace("main")
        self.client = Client(self.server)
        self.addCleanup(self.client.close)
        self.ns = "/" + self.kv.id

    def value(self, key):
        return f"{self.ns}/values/{segment(key)}"

    def put(self, key, value=b"v", **query):
        return self.client.json("PUT", self.value(key), value, **query)

    def list(self, **query):
        return self.client.json("GET", self.ns + "/keys", **query)

    def names(self, **query):
        return [row["name"] for row in self.list(**query)["result"]]

    def bulk_get(self, *keys, **more):
        return self.client.json("POST", self.ns + "/bulk/get", {"keys": keys, **more})["result"]["values"]


class Authorization(Case):
    def refused(self, header):
        return self.client.error("GET", headers={"Authorization": header})

    def test_missing(self):
        self.assertEqual(self.refused(None), (400, 9106))

    def test_malformed(self):
        for header in ("Bearer", "Bearer ", "Basic x", "Bearer a b", "Bearer é", self.server.token):
            self.assertEqual(self.refused(header), (400, 6003), header)

    def test_wrong_token(self):
        self.assertEqual(self.refused("Bearer wrong"), (403, 10000))
        self.server.api.wrong_token_status = 401
        self.assertEqual(self.refused("Bearer wrong"), (401, 10000))

    def test_wrong_account(self):
        for account, expected in (("short", (404, 7003)), ("f" * 32, (403, 10000))):
            self.client.namespaces = f"/client/v4/accounts/{account}/storage/kv/namespaces"
            self.assertEqual(self.client.error("GET"), expected)

    def test_the_log_never_holds_the_token(self):
        self.client.json("GET")
        self.refused("Bearer wrong-secret")
        log = self.server.log.dump()
        self.assertNotIn(self.server.token, log)
        self.assertNotIn("wrong-secret", log)
        self.assertEqual([r.auth for r in self.server.log.records()], ["good", "wrong"])


class Namespaces(Case):
    def test_create_get_rename_delete(self):
        made = self.client.json("POST", "", {"title": "a/ü"})["result"]
        self.assertEqual((made["title"], made["supports_url_encoding"], len(made["id"])), ("a/ü", True, 32))
        self.assertEqual(self.client.json("GET", "/" + made["id"])["result"], made)
        self.assertEqual(self.client.json("PUT", "/" + made["id"], {"title": "b"})["result"]["title"], "b")
        self.server.store.named("b").put("key", b"v")
        self.assertTrue(self.client.json("DELETE", "/" + made["id"])["success"])
        self.assertIsNone(self.server.store.named("b"))
        self.assertEqual(self.client.error("GET", f"/{made['id']}/values/key"), (404, 10013))

    def test_titles(self):
        self.assertEqual(self.client.error("POST", "", {"title": "main"}), (400, 10014))
        for body in ({}, {"title": ""}, {"title": 5}, []):
            self.assertEqual(self.client.error("POST", "", body), (400, 10019))
        self.assertEqual(self.client.error("POST", "", b"{"), (400, 10029))
        self.server.namespace("other")
        self.assertEqual(self.client.error("PUT", self.ns, {"title": "other"}), (400, 10014))
        self.client.json("PUT", self.ns, {"title": "main"})

    def test_two_with_one_title(self):
        self.server.store.create("main")
        self.assertEqual([n["title"] for n in self.client.json("GET")["result"]], ["main", "main"])

    def test_ids(self):
        self.assertEqual(self.client.error("GET", "/" + NO_SUCH), (404, 10013))
        for path in ("/nonsense", "/nonsense/keys", "/nonsense/values/x"):
            self.assertEqual(self.client.error("GET", path), (400, 10011), path)

    def test_pages(self):
        for i in range(24):
            self.server.namespace(f"n{i:02}")
        first = self.client.json("GET", order="title", direction="asc")
        self.assertEqual(first["result_info"], {"page": 1, "per_page": 20, "count": 20, "total_count": 25,
                                                "total_pages": 2})
        self.assertEqual(first["result"][0]["title"], "main")
        last = self.client.json("GET", page=3, per_page=10, order="title", direction="desc")
        self.assertEqual([n["title"] for n in last["result"]], ["n03", "n02", "n01", "n00", "main"])
        self.assertEqual(self.client.json("GET", page=9)["result"], [])
        ids = [n["id"] for n in self.client.json("GET", per_page=100)["result"]]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(self.client.json("GET", per_page=1000)["result_info"]["per_page"], 100)
        for query in ({"per_page": 0}, {"page": 0}, {"order": "size"}, {"direction": "up"}):
            self.assertEqual(self.client.error("GET", **query)[0], 400, query)


class Values(Case):
    def test_bytes_are_exact(self):
        for value in (b"", b"\0\xff\xfe\r\n", bytes(range(256)) * 5000):
            self.put("key", value)
            answer = self.client.ask("GET", self.value("key"))
            self.assertEqual((answer.status, answer.body), (200, value))
            self.assertEqual(answer.headers["Content-Type"], "application/octet-stream")
            self.assertNotIn("expiration", answer.headers)

    def test_absent(self):
        self.assertEqual(self.client.error("GET", self.value("no")), (404, 10009))
        self.assertEqual(self.client.error("GET", self.ns + "/metadata/no"), (404, 10009))
        self.assertTrue(self.client.json("DELETE", self.value("no"))["success"])

    def test_delete(self):
        self.put("key")
        self.client.json("DELETE", self.value("key"))
        self.assertEqual(self.client.error("GET", self.value("key")), (404, 10009))

    def test_keys_are_one_segment(self):
        for key in ("a/b", "a:b", "100%", "%2F", "a?b#c", " +&=", "ü/☃", "x\0y", "...", "./a", "a/../b", "a//b", "é" * 256):
            self.put(key, key.encode())
            self.assertEqual(self.kv.get(key).value, key.encode())
            self.assertEqual(self.client.ask("GET", self.value(key)).body, key.encode())
        self.assertEqual(self.client.error("GET", self.ns + "/values/a/b"), (404, 7000))

    def test_plus_is_itself_in_a_path(self):
        self.client.json("PUT", self.ns + "/values/a+b", b"v")
        self.assertIn(b"a+b", self.kv.entries())

    def test_impossible_keys(self):
        for escaped in (".", "..", "%2E", "%2e%2E", "%ff", "%ed%a0%80", ""):
            self.assertEqual(self.client.error("PUT", f"{self.ns}/values/{escaped}", b"v"), (400, 10029), escaped)
        self.put("k" * 512)
        self.assertEqual(self.client.error("PUT", self.value("k" * 513), b"v"), (414, 10030))

    def test_largest_value(self):
        self.put("key", bytes(25 * MIB))
        self.assertEqual(self.client.error("PUT", self.value("key"), bytes(25 * MIB + 1)), (413, 10024))
        self.assertEqual(len(self.kv.get("key").value), 25 * MIB)

    def test_a_put_replaces_all_three(self):
        self.kv.put("key", b"old", 2_000_009_999, {"a": 1})
        self.put("key", b"new")
        self.assertEqual(self.kv.get("key"), (b"new", None, None))

    def test_methods(self):
        self.assertEqual(self.client.error("POST", self.value("key"), b"v"), (405, 10000))
        self.assertEqual(self.client.error("GET", self.ns + "/nothing"), (404, 7000))


class Metadata(Case):
    def put_form(self, headers=None, **parts):
        body, headers = form(**parts)
        return self.client.ask("PUT", self.value("key"), body, headers)

    def code(self, **parts):
        answer = self.put_form(**parts)
        return answer.status, json.loads(answer.body)["errors"][0]["code"]

    def test_put_with_metadata(self):
        value = b"\r\n--limi\0\xff\r\n"
        self.assertEqual(self.put_form(value=value, metadata=' {"a": [1, 1e2, "x y"]}\n').status, 200)
        self.assertEqual(self.kv.get("key"), (value, None, '{"a":[1,1e2,"x y"]}'))
        self.assertEqual(self.client.json("GET", self.ns + "/metadata/key")["result"], {"a": [1, 100, "x y"]})
        self.assertEqual(self.list()["result"], [{"name": "key", "metadata": {"a": [1, 100, "x y"]}}])

    def test_without_or_null(self):
        self.put_form(value=b"v", metadata="null")
        self.assertIsNone(self.kv.get("key").metadata)
        self.assertIsNone(self.client.json("GET", self.ns + "/metadata/key")["result"])
        self.assertEqual(self.list()["result"], [{"name": "key"}])

    def test_largest(self):
        self.assertEqual(self.put_form(value=b"v", metadata=json.dumps("x" * 1022)).status, 200)
        self.assertEqual(self.code(value=b"v", metadata=json.dumps("x" * 1023)), (413, 10024))

    def test_malformed(self):
        self.assertEqual(self.code(value=b"v", metadata="{"), (400, 10029))
        self.assertEqual(self.code(metadata="{}"), (400, 10029))
        self.assertEqual(self.code(value=b"v", other="x"), (400, 10029))
        bad = {"Content-Type": "multipart/form-data"}
        self.assertEqual(self.client.error("PUT", self.value("key"), b"x", bad), (400, 10029))


class Expiration(Case):
    NOW = 2_000_000_000

    def test_ttl_and_expiration(self):
        self.put("a", expiration_ttl=60)
        self.put("b", expiration=self.NOW + 60)
        self.put("c", expiration_ttl=100, expiration=self.NOW + 5000)
        self.assertEqual([self.kv.get(k).expiration - self.NOW for k in "abc"], [60, 60, 100])

    def test_too_soon_or_malformed(self):
        for query in ({"expiration_ttl": 59}, {"expiration_ttl": "x"}, {"expiration_ttl": -1},
                      {"expiration_ttl": 59, "expiration": self.NOW + 500}):
            self.assertEqual(self.client.error("PUT", self.value("k"), b"v", **query), (400, 10034), query)
        for query in ({"expiration": self.NOW + 59}, {"expiration": 0}, {"expiration": "soon"}):
            self.assertEqual(self.client.error("PUT", self.value("k"), b"v", **query), (400, 10033), query)

    def test_shown_everywhere(self):
        self.put("key", expiration_ttl=60)
        self.assertEqual(self.client.ask("GET", self.value("key")).headers["expiration"], str(self.NOW + 60))
        self.assertEqual(self.list()["result"], [{"name": "key", "expiration": self.NOW + 60}])
        self.assertEqual(self.bulk_get("key", withMetadata=True),
                         {"key": {"value": "v", "metadata": None, "expiration": self.NOW + 60}})

    def test_expired_is_absent(self):
        self.put("key", expiration_ttl=60)
        self.server.clock.advance(59.9)
        self.assertEqual(self.client.ask("GET", self.value("key")).status, 200)
        self.server.clock.advance(0.1)
        self.assertEqual(self.client.error("GET", self.value("key")), (404, 10009))
        self.assertEqual(self.client.error("GET", self.ns + "/metadata/key"), (404, 10009))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.bulk_get("key"), {"key": None})
        self.assertEqual(self.kv.entries(), {})


class Listing(Case):
    def test_byte_order(self):
        keys = ["a", "a!", "a/b", "aa", "b", "ü", "￿", "😀", "\x01", "<&>"]
        for key in keys:
            self.kv.put(key, b"v")
        self.assertEqual(self.names(), sorted(keys, key=str.encode))
        self.assertEqual(self.names(prefix="a"), ["a", "a!", "a/b", "aa"])
        self.assertEqual(self.names(prefix="ü"), ["ü"])
        self.assertEqual(self.names(prefix="no"), [])

    def test_pages_and_cursors(self):
        for i in range(2005):
            self.kv.put(f"k{i:04}", b"v")
        page, names, pages = self.list(prefix="k"), [], 0
        while True:
            names += [row["name"] for row in page["result"]]
            pages += 1
            self.assertEqual(page["result_info"]["count"], len(page["result"]))
            if not page["result_info"]["cursor"]:
                break
            page = self.list(prefix="k", cursor=page["result_info"]["cursor"])
        self.assertEqual((pages, names), (3, [f"k{i:04}" for i in range(2005)]))
        self.assertEqual(page["result_info"], {"count": 5, "cursor": ""})

    def test_an_exact_last_page_has_no_successor(self):
        for i in range(10):
            self.kv.put(f"k{i}", b"v")
        self.assertEqual(self.list(limit=10)["result_info"], {"count": 10, "cursor": ""})

    def test_cursors_need_escaping_and_belong_to_a_prefix(self):
        for i in range(11):
            self.kv.put(f"k{i:02}", b"v")
        cursor = self.list(limit=10)["result_info"]["cursor"]
        self.assertTrue(set(cursor) & set("+/="))
        self.assertEqual(self.client.ask("GET", f"{self.ns}/keys?cursor={cursor}").status, 400)
        self.assertEqual(self.client.error("GET", self.ns + "/keys", prefix="k", cursor=cursor)[0], 400)
        self.assertEqual(self.client.error("GET", self.ns + "/keys", cursor="nonsense")[0], 400)
        self.assertEqual(self.names(cursor=cursor), ["k10"])

    def test_limits(self):
        for limit in (9, 0, -1, 1001, "x"):
            self.assertEqual(self.client.error("GET", self.ns + "/keys", limit=limit), (400, 10028), limit)
        self.assertEqual(self.client.error("GET", self.ns + "/keys", prefix="p" * 513)[0], 414)


class Bulk(Case):
    def bulk_put(self, *pairs):
        return self.client.json("PUT", self.ns + "/bulk", pairs)["result"]

    def refused(self, pairs):
        return self.client.error("PUT", self.ns + "/bulk", pairs)

    def test_put(self):
        done = self.bulk_put({"key": "a", "value": "ü"}, {"key": "b", "value": "AP8=", "base64": True},
                             {"key": "c", "value": "x", "expiration_ttl": 60, "metadata": {"m": [1]}},
                             {"key": "d", "value": "", "expiration": 2_000_000_060})
        self.assertEqual(done, {"successful_key_count": 4, "unsuccessful_keys": []})
        self.assertEqual(self.kv.entries(), {
            b"a": ("ü".encode(), None, None), b"b": (b"\0\xff", None, None),
            b"c": (b"x", 2_000_000_060, '{"m":[1]}'), b"d": (b"", 2_000_000_060, None)})

    def test_put_is_all_checked_before_it_is_done(self):
        good = {"key": "good", "value": "v"}
        for bad in ({}, {"key": "k"}, {"key": 5, "value": "v"}, {"key": "k", "value": 5},
                    {"key": "k", "value": "?", "base64": True}, {"key": "k", "value": "v", "ttl": 5},
                    {"key": ".", "value": "v"}, {"key": "", "value": "v"}, {"key": "k" * 513, "value": "v"},
                    {"key": "k", "value": "v", "expiration_ttl": 59}, {"key": "k", "value": "v", "expiration": 1},
                    {"key": "k", "value": "v", "metadata": "x" * 1023}, "k", None):
            self.assertIn(self.refused([good, bad])[0], (400, 413, 414), bad)
        for body in ([], {}, "x", None):
            self.assertEqual(self.refused(body if body is not None else b"nonsense"), (400, 10029))
        self.assertEqual(self.kv.entries(), {})

    def test_most_pairs(self):
        pairs = [{"key": f"k{i}", "value": "v"} for i in range(10001)]
        self.assertEqual(self.refused(pairs), (400, 10012))
        self.assertEqual(self.bulk_put(*pairs[1:])["successful_key_count"], 10000)
        self.assertEqual(self.client.error("POST", self.ns + "/bulk/delete", [p["key"] for p in pairs]), (400, 10012))

    def test_largest_body(self):
        pair = json.dumps([{"key": "k", "value": "v"}]).encode()
        self.client.json("PUT", self.ns + "/bulk", pair + b" " * (100_000_000 - len(pair)))
        self.assertEqual(self.refused(pair + b" " * (100_000_001 - len(pair))), (413, 10024))
        self.assertEqual(self.refused(b" " * 110_000_000), (413, 10024))

    def test_a_body_too_large_is_refused_before_it_is_sent(self):
        c = self.client.connection
        c.putrequest("PUT", self.client.namespaces + self.ns + "/bulk")
        for name, value in (("Authorization", "Bearer x"), ("Content-Length", "110000000"), ("Expect", "100-continue")):
            c.putheader(name, value)
        c.endheaders()
        self.assertEqual(c.getresponse().status, 413)

    def test_delete_in_both_forms(self):
        for method, path in (("POST", "/bulk/delete"), ("DELETE", "/bulk")):
            for key in "abc":
                self.kv.put(key, b"v")
            done = self.client.json(method, self.ns + path, ["a", "b", "absent"])["result"]
            self.assertEqual(done, {"successful_key_count": 3, "unsuccessful_keys": []})
            self.assertEqual(list(self.kv.entries()), [b"c"])
        self.assertEqual(self.client.error("POST", self.ns + "/bulk/delete", [5]), (400, 10029))

    def test_get(self):
        self.kv.put("a", "ü\0")
        self.kv.put("b/1", b"\xff<", None, '{"m":1}')
        self.assertEqual(self.bulk_get("a", "b/1", "no"), {"a": "ü\0", "b/1": "�<", "no": None})
        self.assertEqual(self.bulk_get("a", "b/1", "no", withMetadata=True),
                         {"a": {"value": "ü\0", "metadata": None}, "b/1": {"value": "�<", "metadata": {"m": 1}},
                          "no": None})

    def test_get_json(self):
        self.kv.put("j", b'{"a": 1}')
        self.kv.put("t", b"text")
        self.assertEqual(self.bulk_get("j", type="json"), {"j": {"a": 1}})
        self.assertEqual(self.client.error("POST", self.ns + "/bulk/get", {"keys": ["t"], "type": "json"}), (400, 10029))

    def test_get_limits(self):
        for body in ({"keys": [f"k{i}" for i in range(101)]}, {"keys": []}, {}, {"keys": ["k"], "type": "bytes"},
                     {"keys": [5]}, []):
            self.assertEqual(self.client.error("POST", self.ns + "/bulk/get", body), (400, 10029))
        self.assertEqual(len(self.bulk_get(*[f"k{i}" for i in range(100)])), 100)

    def test_get_of_too_much(self):
        for key in "ab":
            self.kv.put(key, b"x" * (13 * MIB))
        self.assertEqual(len(self.bulk_get("a")["a"]), 13 * MIB)
        self.assertEqual(self.client.error("POST", self.ns + "/bulk/get", {"keys": ["a", "b"]}), (413, 10024))

    def test_byte_order_marks(self):
        self.kv.put("k", b"\xef\xbb\xbfx")
        self.assertEqual(self.bulk_get("k"), {"k": "\ufeffx"})
        self.server.faults.add("bom_stripped")
        self.assertEqual(self.bulk_get("k"), {"k": "x"})


class Secure(Case):
    TLS = True

    def test_over_tls(self):
        self.put("key")
        self.assertTrue(self.server.endpoint.startswith("https://"))
        self.assertEqual(self.client.ask("GET", self.value("key")).body, b"v")
        self.assertEqual(self.server.log.connections, 1)


class Explorer(Case):
    def setUp(self):
        super().setUp()
        self.local = Client(self.server, "/cdn-cgi/explorer/api", account=False)
        self.local.token = ""
        self.addCleanup(self.local.close)

    def test_what_it_has(self):
        self.assertEqual(self.local.json("GET")["result"][0]["title"], "main")
        self.local.json("PUT", self.value("key"), b"v", expiration_ttl=60)
        self.assertEqual(self.kv.get("key"), (b"v", None, None))
        self.assertEqual(self.local.json("GET", self.ns + "/keys")["result"], [{"name": "key"}])
        self.assertEqual(self.local.ask("GET", self.value("key")).body, b"v")
        bulk = self.local.json("POST", self.ns + "/bulk/get", {"keys": ["key"]})
        self.assertEqual(bulk["result"], {"values": {"key": "v"}})
        self.local.json("DELETE", self.value("key"))
        self.assertEqual(self.kv.entries(), {})

    def test_what_it_has_not(self):
        for method, path in (("PUT", "/bulk"), ("DELETE", "/bulk"), ("POST", "/bulk/delete")):
            self.assertIn(self.local.error(method, self.ns + path, [])[0], (404, 405))
        self.assertIn(self.local.error("POST", "", {"title": "new"})[0], (404, 405))


class Life(Case):
    def test_json_says_that_it_is(self):
        for content_type in (None, "text/plain"):
            headers = {"Content-Type": content_type}
            self.assertEqual(self.client.error("POST", self.ns + "/bulk/delete", b'["a"]', headers), (400, 10029))

    def test_kept_alive_and_counted(self):
        self.put("a")
        self.client.ask("GET", self.value("a"))
        self.bulk_get("a", "b", "c")
        self.assertEqual(self.server.log.connections, 1)
        self.assertEqual(self.server.log.counts(), {"put": 1, "get": 1, "bulk.get": 1})
        self.assertEqual(self.server.log.keys(), {"put": 1, "get": 1, "bulk.get": 3})
        record = self.server.log.records("put")[0]
        self.assertEqual((record.method, record.status, record.received, record.time), ("PUT", 200, 1, 2_000_000_000))
        self.assertTrue(record.path.endswith("/values/a"))
        self.server.log.clear()
        self.assertEqual(self.server.log.records(), [])

    def test_chunked_requests(self):
        self.client.connection.request("PUT", self.client.namespaces + self.value("key"), iter([b"abc", b"de"]),
                                       {"Authorization": "Bearer " + self.server.token}, encode_chunked=True)
        self.assertEqual(self.client.connection.getresponse().status, 200)
        self.assertEqual(self.kv.get("key").value, b"abcde")

    def test_it_comes_back_with_its_content(self):
        self.put("key")
        port = self.server.port
        self.server.stop()
        with self.assertRaises(OSError):
            Client(self.server).ask("GET")
        self.server.start(port)
        self.client.close()
        self.assertEqual(self.client.ask("GET", self.value("key")).body, b"v")

    def test_parallel_connections(self):
        clients = [Client(self.server) for _ in range(20)]
        for c in clients:
            self.addCleanup(c.close)
            c.json("GET")
        self.assertEqual((self.server.log.connections, self.server.log.open), (20, 20))

    def test_date_is_virtual(self):
        self.assertEqual(self.client.ask("GET").headers["Date"], "Wed, 18 May 2033 03:33:20 GMT")


class Control(Case):
    """The control plane over HTTP."""

    def admin(self, method, path, body=None):
        answer = self.client.raw(method, "/-/" + path, json.dumps(body).encode() if body is not None else None)
        self.assertEqual(answer.status, 200, answer)
        return json.loads(answer.body) if answer.body[:1] in (b"[", b"{") else answer.body

    def test_log_and_counts(self):
        self.put("a")
        self.assertEqual(self.admin("GET", "counts"), {"put": 1})
        self.assertEqual([r["kind"] for r in self.admin("GET", "log")], ["put"])
        self.admin("DELETE", "log")
        self.assertEqual(self.admin("GET", "counts"), {})

    def test_clock(self):
        self.assertEqual(self.admin("POST", "clock", {"set": 5000, "advance": 5}), {"now": 5005, "rate": 0})

    def test_faults_quota_and_lag(self):
        self.admin("POST", "faults", {"name": "status", "status": 503, "on": "get", "next": 1})
        self.assertEqual([self.client.ask("GET", self.value("k")).status for _ in range(2)], [503, 404])
        self.admin("POST", "faults", {"name": "auth"})
        self.admin("DELETE", "faults")
        self.admin("POST", "quota", {"limit": 5})
        self.admin("POST", "lag", {"lag": 30})
        self.assertEqual((self.server.quota.limit, self.server.store.lag), (5, 30))

    def test_store(self):
        made = self.admin("POST", "namespaces", {"title": "main"})["id"]
        self.assertEqual(len(self.server.store.namespaces), 2)
        self.client.raw("PUT", f"/-/store/{made}/a%2Fb?expiration=2000000100&metadata=%7B%7D", b"\0v")
        self.assertEqual(self.server.store.namespaces[made].entries(), {b"a/b": (b"\0v", 2_000_000_100, "{}")})
        self.assertEqual(self.admin("GET", f"store/{made}"),
                         {"a/b": {"base64": "AHY=", "expiration": 2_000_000_100, "metadata": "{}"}})
        self.assertEqual(self.admin("GET", f"store/{made}/a%2Fb"), b"\0v")
        self.admin("DELETE", f"store/{made}/a%2Fb")
        self.assertEqual(self.client.raw("GET", f"/-/store/{made}/a%2Fb").status, 404)


class Speed(Case):
    def test_a_large_namespace(self):
        for i in range(20000):
            self.kv.put(f"session:{i:05}", b"v")
        began, cursor = time.monotonic(), None
        for _ in range(20):
            cursor = self.list(**({"cursor": cursor} if cursor else {}))["result_info"]["cursor"]
        self.assertEqual(cursor, "")
        self.assertLess(time.monotonic() - began, 10)
