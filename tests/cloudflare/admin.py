"""The control plane over HTTP, below /-/: for tests that are not in this process.

    GET /-/log    DELETE /-/log    GET /-/counts
    GET /-/clock  POST /-/clock    {"set": T, "advance": S, "rate": R, "step": S}
    POST /-/faults {"name": ..., "on": ..., ...}   DELETE /-/faults
    POST /-/quota {"limit": N|null, "window": S, "key_interval": S, "daily": {...}|null}
    POST /-/lag   {"lag": S, "list_lag": S, "lag_seed": N}
    POST /-/namespaces {"title": ..., "id": ...}   also a title that exists; answers {"id": ...}
    GET /-/store/NAMESPACE                         {key: {base64, expiration, metadata}}
    GET, PUT, DELETE /-/store/NAMESPACE/KEY        raw value; PUT ?expiration=N&metadata=JSON

NAMESPACE is a title or an id. These requests are neither logged nor counted, and need no token.
"""

import base64
import json
import urllib.parse


class Admin:
    def __init__(self, home):
        self.home = home

    def handle(self, handler):
        """Answers one request of a wire.Handler."""
        body = handler.rfile.read(handler.declared())
        path, _, query = handler.path.partition("?")
        first, *rest = path[len("/-/"):].split("/")
        action = getattr(self, f"{handler.command.lower()}_{first}", None)
        try:
            status, answer = (404, b"") if action is None else \
                (200, action(rest, dict(urllib.parse.parse_qsl(query)), body))
        except (KeyError, ValueError, TypeError, AttributeError) as e:
            status, answer = 400, f"{type(e).__name__}: {e}\n".encode()
        if not isinstance(answer, bytes):
            answer = json.dumps(answer).encode()
        if answer == b"null":
            status, answer = 404, b""
        head = f"HTTP/1.1 {status} {handler.responses[status][0]}\r\nContent-Length: {len(answer)}\r\n\r\n"
        handler.wfile.write(head.encode() + answer)
        handler.wfile.flush()

    def get_log(self, rest, query, body):
        return [record._asdict() for record in self.home.log.records()]

    def delete_log(self, rest, query, body):
        self.home.log.clear()
        return {}

    def get_counts(self, rest, query, body):
        return dict(self.home.log.counts())

    def get_clock(self, rest, query, body):
        return {"now": self.home.clock.now(), "rate": self.home.clock.rate}

    def post_clock(self, rest, query, body):
        asked, clock = json.loads(body), self.home.clock
        if "set" in asked:
            clock.set(asked["set"])
        clock.advance(asked.get("advance", 0))
        clock.rate = asked.get("rate", clock.rate)
        clock.step = asked.get("step", clock.step)
        return self.get_clock(rest, query, body)

    def post_faults(self, rest, query, body):
        asked = json.loads(body)
        for name in ("body", "value"):
            if isinstance(asked.get(name), str):
                asked[name] = asked[name].encode()
        self.home.faults.add(asked.pop("name"), **asked)
        return {}

    def delete_faults(self, rest, query, body):
        self.home.faults.clear()
        return {}

    def fields(self, target, body, names):
        asked = json.loads(body)
        if set(asked) - set(names):
            raise ValueError(f"unknown: {sorted(set(asked) - set(names))}")
        for name, value in asked.items():
            setattr(target, name, value)
        return {}

    def post_quota(self, rest, query, body):
        return self.fields(self.home.quota, body, ("limit", "window", "key_interval", "paces_deletes", "daily"))

    def post_lag(self, rest, query, body):
        return self.fields(self.home.store, body, ("lag", "list_lag", "lag_seed"))

    def post_namespaces(self, rest, query, body):
        asked = json.loads(body)
        return {"id": self.home.store.create(asked["title"], asked.get("id")).id}

    def place(self, rest):
        namespace = self.home.store.named(urllib.parse.unquote(rest[0]))
        if namespace is None:
            raise KeyError(rest[0])
        return namespace, urllib.parse.unquote_to_bytes("/".join(rest[1:]))

    def get_store(self, rest, query, body):
        namespace, key = self.place(rest)
        if key:
            entry = namespace.get(key)
            return None if entry is None else entry.value
        return {key.decode("utf-8", "replace"): {"base64": base64.b64encode(entry.value).decode(),
                                                 "expiration": entry.expiration, "metadata": entry.metadata}
                for key, entry in namespace.entries().items()}

    def put_store(self, rest, query, body):
        namespace, key = self.place(rest)
        expiration = int(query["expiration"]) if "expiration" in query else None
        namespace.put(key, body, expiration, query.get("metadata"))
        return {}

    def delete_store(self, rest, query, body):
        namespace, key = self.place(rest)
        namespace.delete(key)
        return {}
