"""Faults on demand: which request they apply to, and what they do to its answer.

    faults.add("status", on="put", status=503, next=2)        the next two PUTs
    faults.add("reset", on="bulk", probability=0.1, seed=7)   a tenth of the bulk calls, repeatably
    faults.add("unsuccessful", keys=["a", "b"])               always, until cleared

on: a kind of call (see api.py), the part of one before its dot, or several of them; all when left
out. skip: how many that fit are let through first. key: a regular expression that the path, as
sent, must match. Any other argument belongs to the fault:

In the place of the call, which is not made (with applied=True it is made, and only its answer lost):
    status    status=, code=, message=, retry_after= (seconds or any text), body= (bytes, no envelope)
    auth      status= (403): authentication error
    redirect  location=, status= (302)
    reset     at= "arrival" (before the body is read), "before" or "after" the call; rst=False: FIN only
    hang      no answer until the client gives up, at most seconds= (60)

In the call:
    unsuccessful  keys= [...], or fraction= and seed=: those keys of bulk calls are not done
    empty_page    listings are empty, with a cursor that goes on from the same place
    short_page    keys= (1): listings hold at most so many
    bom_stripped  bulk gets lose a byte order mark

In the content of a good answer:
    wrong_types   variant= (all in turn): JSON of another shape
    invalid_utf8, nul (raw=False), deep, truncated_json, html (status= 200), success_false
    foreign_keys  a listing's or bulk get's keys are not those that were asked for
    unordered, duplicates, endless_cursor (the same cursor for ever), end_cursor as= missing|null|no_info
    wrong_value   value=: another value than asked
    body          body= (bytes)
    header        field=, text= (None takes it away)

On the wire:
    latency       seconds= before the call
    cut           after= bytes of the body (half), rst=
    slow          chunk= bytes (1024), pause= seconds (0.05)
    stall         after= bytes of the body (0), then silence until the client gives up or seconds= (60)
    endless       no end of the body (or until limit= bytes); framing= "chunked" or "close"
    huge_header   size= (1 MiB); many_headers  count= (10000)
    garbage       bytes that are not HTTP; trailing  bytes after a good answer
    chunked       legal: chunked transfer; close  legal: Connection: close; interim  legal: status= (103) first
"""

import json
import random
import re

from reply import Reply, failure, text

TAKEN = ("on", "next", "skip", "probability", "seed", "key")

WRONG_TYPES = [
    lambda a: {**a, "success": "yes"}, lambda a: {**a, "result": 7}, lambda a: {**a, "result": "text"},
    lambda a: {**a, "result": [7, None, []]}, lambda a: {**a, "result": [{"name": 7}]},
    lambda a: {**a, "result": [{"name": "x", "expiration": "soon", "metadata": 5}]},
    lambda a: {**a, "result": {"values": [1]}}, lambda a: {**a, "result": {"values": {"k": {"value": []}}}},
    lambda a: {**a, "result": {"successful_key_count": "all", "unsuccessful_keys": "none"}},
    lambda a: {**a, "result_info": []}, lambda a: {**a, "result_info": {"cursor": 7, "count": "x"}},
    lambda a: {**a, "errors": "none"}, lambda a: [a], lambda a: None, lambda a: 7,
    lambda a: {k: v for k, v in a.items() if k != "result"},
]


class Fault:
    def __init__(self, name, settings):
        self.name = name
        self.on = settings.get("on")
        self.left = settings.get("next")
        self.skip = settings.get("skip", 0)
        self.probability = settings.get("probability")
        self.random = random.Random(settings.get("seed", 0))
        self.key = re.compile(settings["key"]) if settings.get("key") else None
        self.params = {k: v for k, v in settings.items() if k not in TAKEN}
        self.applied = 0

    def fits(self, request):
        kinds = [self.on] if isinstance(self.on, str) else self.on
        if kinds and not any(request.kind == k or request.kind.startswith(k + ".") for k in kinds):
            return False
        return not self.key or bool(self.key.search(request.asked))

    def take(self, request):
        """Whether it applies to this request, which is then counted."""
        if self.left == 0 or not self.fits(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability is not None and self.random.random() >= self.probability:
            return False
        if self.left is not None:
            self.left -= 1
        self.applied += 1
        return True


class Faults:
    def __init__(self, lock):
        self.lock = lock
        self.rules = []

    def add(self, name, **settings):
        if name not in NAMES:
            raise ValueError(f"no fault {name}")
        with self.lock:
            self.rules.append(Fault(name, settings))
            return self.rules[-1]

    def clear(self):
        with self.lock:
            self.rules = []

    def choose(self, request):
        with self.lock:
            request.faults = [rule for rule in self.rules if rule.take(request)]

    def unsuccessful(self, request, keys):
        """{key: True} for the keys of a bulk call that this server fails to do."""
        params = request.fault("unsuccessful")
        if params is None:
            return {}
        if "keys" in params:
            named = {k.encode() if isinstance(k, str) else k for k in params["keys"]}
            return {key: True for key in keys if key in named}
        choice = random.Random(params.get("seed", 0))
        return {key: True for key in keys if choice.random() < params.get("fraction", 1.0)}


def replacement(request):
    """The Reply that a fault puts in the call's place, and whether the call is made all the same."""
    for fault in request.faults:
        made = INSTEAD[fault.name](fault.params) if fault.name in INSTEAD else None
        if made is not None:
            return made, fault.params.get("applied", False)
    return None, True


def status(p):
    code = p.get("status", 500)
    headers = {} if "retry_after" not in p else {"Retry-After": str(p["retry_after"])}
    if "body" in p:
        return Reply(code, p["body"], headers, "text/html")
    return failure(code, p.get("code", 971 if code == 429 else 10001), p.get("message", "injected failure"), headers)


def auth(p):
    return failure(p.get("status", 403), 10000, "Authentication error")


def redirect(p):
    return Reply(p.get("status", 302), b"", {"Location": p["location"]}, "text/html")


INSTEAD = {"status": status, "auth": auth, "redirect": redirect}


def spoil(request, reply):
    """Applies the faults in content to a good answer."""
    for fault in request.faults:
        if fault.name in SPOIL and reply.status == 200:
            SPOIL[fault.name](request, reply, fault)


def edit(reply, change):
    """Changes the JSON of an answer; leaves alone what is not JSON."""
    try:
        answer = json.loads(reply.body)
    except ValueError:
        return
    if reply.headers["Content-Type"] == "application/json":
        reply.body = text(change(answer)).encode("utf-8", "surrogatepass")


def wrong_types(request, reply, fault):
    variant = fault.params.get("variant", fault.applied - 1)
    edit(reply, WRONG_TYPES[variant % len(WRONG_TYPES)])


def inject(reply, data):
    """Puts bytes into the first text value of the answer that holds one."""
    for mark in (b'"name":"', b'"value":"', b'"values":{"', b'"title":"', b'"message":"', b'":"'):
        if mark in reply.body:
            reply.body = reply.body.replace(mark, mark + data, 1)
            return
    reply.body = data + reply.body


def foreign_keys(request, reply, fault):
    def change(answer):
        result = answer.get("result")
        if isinstance(result, list):
            rows = result or [{"name": ""}]
            answer["result"] = [{**row, "name": "\u0001foreign-" + str(row.get("name"))} for row in rows]
        elif isinstance(result, dict) and isinstance(result.get("values"), dict):
            result["values"] = {"\u0001foreign-" + name: value for name, value in result["values"].items()}
        return answer
    edit(reply, change)


def rows_changed(reply, change):
    def inner(answer):
        if isinstance(answer.get("result"), list):
            answer["result"] = change(answer["result"])
        return answer
    edit(reply, inner)


def endless_cursor(request, reply, fault):
    def change(answer):
        answer["result_info"] = {"count": len(answer.get("result") or ()), "cursor": "+/the same for ever=="}
        return answer
    edit(reply, change)


def end_cursor(request, reply, fault):
    def change(answer):
        info = answer.get("result_info", {})
        if info.get("cursor") == "":
            how = fault.params.get("as", "missing")
            if how == "null":
                info["cursor"] = None
            elif how == "missing":
                del info["cursor"]
            else:
                del answer["result_info"]
        return answer
    edit(reply, change)


def wrong_value(request, reply, fault):
    def change(answer):
        values = answer["result"].get("values", {})
        names = list(values)
        answer["result"]["values"] = {n: values[names[i - 1]] for i, n in enumerate(names)}
        return answer
    if request.kind == "get":
        reply.body = fault.params.get("value", b"another value")
    elif request.kind == "bulk.get":
        edit(reply, change)


def header(request, reply, fault):
    reply.headers[fault.params["field"]] = fault.params["text"]


def content(make):
    def inner(request, reply, fault):
        reply.body = make(reply.body, fault.params)
    return inner


def html(request, reply, fault):
    reply.status, reply.body = fault.params.get("status", 200), b"<!DOCTYPE html><title>Error</title><h1>Oops</h1>"
    reply.headers["Content-Type"] = "text/html"


SPOIL = {
    "wrong_types": wrong_types,
    "invalid_utf8": lambda request, reply, fault: inject(reply, b"\xff\xfe\xc0\x80"),
    "nul": lambda request, reply, fault: inject(reply, b"\0" if fault.params.get("raw") else b"\\u0000"),
    "deep": content(lambda body, p: b"[" * p.get("depth", 200000)),
    "truncated_json": content(lambda body, p: body[:len(body) // 2]),
    "html": html,
    "success_false": lambda request, reply, fault: edit(
        reply, lambda a: {**a, "success": False, "errors": [{"code": 10001, "message": "injected failure"}]}),
    "foreign_keys": foreign_keys,
    "unordered": lambda request, reply, fault: rows_changed(reply, lambda rows: rows[::-1]),
    "duplicates": lambda request, reply, fault: rows_changed(reply, lambda rows: rows + rows),
    "endless_cursor": endless_cursor,
    "end_cursor": end_cursor,
    "wrong_value": wrong_value,
    "body": content(lambda body, p: p["body"]),
    "header": header,
}
IN_CALL = {"unsuccessful", "empty_page", "short_page", "bom_stripped"}
ON_WIRE = {"latency", "reset", "hang", "cut", "slow", "stall", "endless", "huge_header", "many_headers",
           "garbage", "trailing", "chunked", "close", "interim"}
NAMES = {*INSTEAD, *SPOIL, *IN_CALL, *ON_WIRE}
