"""Requests and answers between the sockets (wire.py) and the calls, with Cloudflare's envelope."""

import json


class Request:
    """One request, decoded as far as routing needs. `asked` is the path and query as sent."""

    def __init__(self, method, asked, headers, body):
        self.method, self.asked, self.headers, self.body = method, asked, headers, body
        self.kind = "other"
        self.namespace = None
        self.key = None
        self.query = {}
        self.keys = 0  # how many keys it names
        self.auth = "none"
        self.token = None
        self.faults = []  # those that apply to it

    def fault(self, name):
        """The parameters of the fault with that name, None when it does not apply."""
        for fault in self.faults:
            if fault.name == name:
                return fault.params
        return None


class Reply:
    def __init__(self, status=200, body=b"", headers=(), content_type="application/json"):
        self.status, self.body = status, body
        self.headers = {"Content-Type": content_type, **dict(headers)}


class Refusal(Exception):
    """An answer that is an error: (status, code, message)."""

    def __init__(self, status, code, message, **headers):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def text(value):
    """JSON as Go's encoder writes it: UTF-8 as it is, the bytes that mean something in HTML escaped."""
    out = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return out.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def envelope(result, info=None):
    """A success; `result` and `info` are JSON text."""
    tail = "" if info is None else f',"result_info":{info}'
    body = f'{{"result":{result},"success":true,"errors":[],"messages":[]{tail}}}'
    return Reply(body=body.encode("utf-8"))


def failure(status, code, message, headers=()):
    body = {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
    return Reply(status, text(body).encode("utf-8"), headers)


def decoded(request):
    """The JSON of a request's body."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, 10029, "invalid request: the Content-Type is not application/json")
    try:
        return json.loads(request.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refusal(400, 10029, "invalid request: the body is not JSON") from None
