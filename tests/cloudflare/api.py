"""From a request's path to the call it is: authorization, quota, routing.

Kinds of call, as the log, the faults and the counts name them:

    namespaces.list namespaces.create namespaces.get namespaces.rename namespaces.delete
    list get put delete metadata bulk.put bulk.delete bulk.get other

Paths are taken as they were sent, segment by segment: no normalisation, a key is one segment.

Under EXPLORER is the dialect of a local `wrangler dev`: no account, no authorization, no quota, no
bulk writes, no changes of namespaces, and expirations are ignored.
"""

import re
import urllib.parse

import accounts
import calls
from reply import Refusal, decoded, failure

BASE = "/client/v4"
EXPLORER = "/cdn-cgi/explorer/api"
HEX_ID = re.compile(r"[0-9a-f]{32}")
BEARER = re.compile(r"Bearer [\x21-\x7e]+")

# (method, shape): (kind, function, what is billed). Shapes: "" the namespaces, "ns" one of them.
ROUTES = {
    ("GET", ""): ("namespaces.list", accounts.list_namespaces, None),
    ("POST", ""): ("namespaces.create", accounts.create, None),
    ("GET", "ns"): ("namespaces.get", accounts.get, None),
    ("PUT", "ns"): ("namespaces.rename", accounts.rename, None),
    ("DELETE", "ns"): ("namespaces.delete", accounts.delete, None),
    ("GET", "keys"): ("list", calls.list_keys, "list"),
    ("GET", "values"): ("get", calls.get, "read"),
    ("PUT", "values"): ("put", calls.put, "write"),
    ("DELETE", "values"): ("delete", calls.delete, "delete"),
    ("GET", "metadata"): ("metadata", calls.metadata, "read"),
    ("PUT", "bulk"): ("bulk.put", calls.bulk_put, "write"),
    ("DELETE", "bulk"): ("bulk.delete", calls.bulk_delete, "delete"),
    ("POST", "bulk/delete"): ("bulk.delete", calls.bulk_delete, "delete"),
    ("POST", "bulk/get"): ("bulk.get", calls.bulk_get, "read"),
}
EXPLORER_KINDS = {"namespaces.list", "list", "get", "put", "delete", "bulk.get"}


def shape_of(segments):
    """The shape of what follows .../namespaces, and the namespace's and the key's segment."""
    if not segments:
        return "", None, None
    if len(segments) == 1:
        return "ns", segments[0], None
    if len(segments) == 3 and segments[1] in ("values", "metadata"):
        return segments[1], segments[0], segments[2]
    return "/".join(segments[1:]), segments[0], None


def query_of(text):
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    return dict(pairs)


class Api:
    def __init__(self, account, token, store, quota, faults):
        self.account, self.token = account, token
        self.store, self.quota, self.faults = store, quota, faults
        self.clock = store.clock
        self.wrong_token_status = 403
        self.strips_bom = False  # whether a bulk get drops a byte order mark, as text decoders do

    def explorer_keeps(self, request):
        """Whether an expiration that this request asks for is kept."""
        return not request.asked.startswith(EXPLORER)

    def route(self, request):
        """Fills in what the path says; what it is not able to say is left to answer()."""
        path, _, query = request.asked.partition("?")
        request.query = query_of(query)
        request.shape, request.account, request.ns_id, request.in_explorer = None, None, None, False
        if path.startswith(EXPLORER + "/"):
            segments, request.in_explorer = path[len(EXPLORER) + 1:].split("/"), True
        elif path.startswith(BASE + "/accounts/"):
            request.account, *segments = path[len(BASE + "/accounts/"):].split("/")
        else:
            return
        if segments[:3] != ["storage", "kv", "namespaces"]:
            return
        request.shape, request.ns_id, key = shape_of(segments[3:])
        if key is not None:
            request.key, request.keys = urllib.parse.unquote_to_bytes(key), 1
        route = ROUTES.get((request.method, request.shape))
        if route and (not request.in_explorer or route[0] in EXPLORER_KINDS):
            request.kind = route[0]

    def authorize(self, request):
        """Judges the header; raises only for its form."""
        header = request.headers.get("Authorization")
        request.token = header
        if header is None:
            request.auth = "none"
            raise Refusal(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
        if not BEARER.fullmatch(header):
            request.auth = "malformed"
            raise Refusal(400, 6003, "Invalid request headers")
        request.auth = "good" if header == "Bearer " + self.token else "wrong"

    def check_account(self, request):
        if not request.account or not HEX_ID.fullmatch(request.account):
            raise Refusal(404, 7003, f"Could not route to {request.asked.partition('?')[0]}, "
                          "perhaps your object identifier is invalid?")
        if request.auth != "good" or request.account != self.account:
            raise Refusal(self.wrong_token_status, 10000, "Authentication error")

    def find_namespace(self, request):
        if not HEX_ID.fullmatch(request.ns_id.replace("-", "").lower()):
            raise Refusal(400, 10011, f"could not parse UUID from request's namespace_id: '{request.ns_id}'")
        request.namespace = self.store.namespaces.get(request.ns_id)
        if request.namespace is None:
            raise Refusal(404, 10013, f"{request.kind}: 'namespace not found'")

    def perform(self, request):
        if not request.in_explorer:
            self.check_account(request)
        if request.shape is None:
            raise Refusal(404, 7000, "No route for that URI")
        if request.kind == "other":
            known = any(shape == request.shape for _, shape in ROUTES)
            raise Refusal(405 if known else 404, 10000 if known else 7000,
                          f"{request.method} method not allowed for the api_token authentication scheme"
                          if known else "No route for that URI")
        if request.ns_id is not None:
            self.find_namespace(request)
        _, function, billed = ROUTES[(request.method, request.shape)]
        self.check_plan(request, billed)
        return function(self, request)

    def check_plan(self, request, billed):
        """The day's share of a free plan; each key of a bulk call counts."""
        if not self.quota.daily:
            return
        count = 1
        if request.kind.startswith("bulk."):
            asked = decoded(request)
            count = len(asked.get("keys", ()) if isinstance(asked, dict) else asked)
        if not self.quota.operations(billed, count):
            raise Refusal(429, 10048, "your account has reached the free usage limit for this operation for today")

    def answer(self, request):
        """The Reply to a request, faults in content included; under the store's lock."""
        headers = {}
        try:
            if not request.in_explorer:
                self.authorize(request)
                state = self.quota.request(request.token)
                wait = self.clock.patience(state.reset)
                headers = self.limit_headers(state.remaining, wait)
                if state.refused:
                    raise Refusal(429, 971, "Please wait and consider throttling your request speed",
                                  **{"Retry-After": str(max(1, wait))})
            reply = self.perform(request)
        except Refusal as r:
            reply = failure(r.status, r.code, r.message, r.headers)
        for name, value in headers.items():
            reply.headers.setdefault(name, value)
        return reply

    def limit_headers(self, remaining, wait):
        window = self.clock.patience(self.quota.window)
        limit = self.quota.limit if self.quota.limit is not None else 1200
        return {"Ratelimit": f'"default";r={remaining};t={wait}',
                "Ratelimit-Policy": f'"default";q={limit};w={window}'}
