"""The plainest client of the API there can be: what the tests of the counterparts ask with."""

import http.client
import json
import ssl
import urllib.parse
from collections import namedtuple

Answer = namedtuple("Answer", "status headers body")


class Client:
    """One kept connection to a Server (or anything with port, account, token and certificate)."""

    def __init__(self, server, base="/client/v4", account=True):
        self.server, self.token = server, server.token
        self.namespaces = base + (f"/accounts/{server.account}" if account else "") + "/storage/kv/namespaces"
        if getattr(server, "certificate", None):
            context = ssl.create_default_context(cafile=server.certificate)
            self.connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def raw(self, method, path, body=None, headers=()):
        headers = {"Authorization": "Bearer " + self.token, **dict(headers)}
        headers = {name: value for name, value in headers.items() if value is not None}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def ask(self, method, path="", body=None, headers=(), **query):
        """path: below .../namespaces, escaped already. A body that is not bytes is sent as JSON."""
        if body is not None:
            values = "/values/" in path
            headers = {"Content-Type": "application/octet-stream" if values else "application/json", **dict(headers)}
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        query = "?" + urllib.parse.urlencode(query) if query else ""
        return self.raw(method, self.namespaces + path + query, body, headers)

    def json(self, method, path="", body=None, **query):
        answer = self.ask(method, path, body, **query)
        if answer.status != 200:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body[:500]}")
        return json.loads(answer.body)

    def error(self, method, path="", body=None, headers=(), **query):
        """(status, code) of a call that must fail."""
        answer = self.ask(method, path, body, headers, **query)
        envelope = json.loads(answer.body)
        if envelope["success"] is not False or envelope["result"] is not None:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body[:500]}")
        return answer.status, envelope["errors"][0]["code"]

    def close(self):
        self.connection.close()


def segment(key):
    """A key as one segment of a path."""
    return urllib.parse.quote(key, safe="")


def form(**parts):
    """(body, headers) of a multipart/form-data request."""
    lines = []
    for name, value in parts.items():
        value = value.encode() if isinstance(value, str) else value
        lines += [b"--limit", b'Content-Disposition: form-data; name="%s"' % name.encode(), b"", value]
    return b"\r\n".join([*lines, b"--limit--", b""]), {"Content-Type": "multipart/form-data; boundary=limit"}
