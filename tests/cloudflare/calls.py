"""The calls of the API on one namespace's keys: what is checked, what is answered.

Each function takes the Api and a Request and gives a Reply or raises a Refusal. Limits are
Cloudflare's. Codes that Cloudflare does not document are the ones its answers were seen to carry,
or 10029 (invalid request).
"""

import base64
import binascii
import hashlib
import json

import multipart
from reply import Refusal, Reply, decoded, envelope, text
from store import compact

MAX_KEY = 512
MAX_VALUE = 25 * 1024 * 1024
MAX_METADATA = 1024
MAX_PAIRS = 10000
MAX_BULK_BODY = 100 * 1000 * 1000
MAX_BULK_GET = 100
MIN_TTL = 60
LEAST_LIMIT, MOST_LIMIT = 10, 1000


def checked_key(key):
    """The bytes of a key that came as text or bytes."""
    try:
        key = key.encode("utf-8") if isinstance(key, str) else key
        key.decode("utf-8")
    except UnicodeError:
        raise Refusal(400, 10029, "invalid request: key names must be UTF-8") from None
    if not key:
        raise Refusal(400, 10029, "invalid request: key names must not be empty")
    if len(key) > MAX_KEY:
        raise Refusal(414, 10030, f"UTF-8 encoded length of {len(key)} exceeds key length limit of {MAX_KEY}.")
    if key in (b".", b".."):
        raise Refusal(400, 10029, f'Illegal key name "{key.decode()}". Please use a different name.')
    return key


def whole(value, code, name):
    try:
        if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except (ValueError, TypeError):
        raise Refusal(400, code, f"Invalid {name} of {value}. Please specify integer greater than 0.") from None


def checked_expiration(api, expiration, ttl):
    """The absolute expiration that a write asks for; a TTL wins."""
    now = int(api.clock.now())
    if ttl is not None:
        ttl = whole(ttl, 10034, "expiration_ttl")
        if ttl < MIN_TTL:
            raise Refusal(400, 10034, f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {MIN_TTL}.")
        return now + ttl
    if expiration is None:
        return None
    expiration = whole(expiration, 10033, "expiration")
    if expiration < now + MIN_TTL:
        raise Refusal(400, 10033, f"Invalid expiration of {expiration}. Expiration times must be at least "
                      f"{MIN_TTL} seconds in the future.")
    return expiration


def checked_metadata(raw):
    """Metadata as the store keeps it; null is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal(400, 10029, "invalid request: metadata is not JSON") from None
    raw = compact(raw)
    if len(raw.encode("utf-8")) > MAX_METADATA:
        raise Refusal(413, 10024, f"Metadata length of {len(raw.encode())} exceeds limit of {MAX_METADATA}.")
    return None if value is None else raw


def checked_value(value):
    if len(value) > MAX_VALUE:
        raise Refusal(413, 10024, f"Value length of {len(value)} exceeds limit of {MAX_VALUE}.")
    return value


def missing():
    return Refusal(404, 10009, "get: 'key not found'")


def found(api, request):
    entry = request.namespace.read(checked_key(request.key))
    if entry is None:
        raise missing()
    return entry


def get(api, request):
    entry = found(api, request)
    headers = {} if entry.expiration is None else {"expiration": str(entry.expiration)}
    return Reply(200, entry.value, headers, "application/octet-stream")


def metadata(api, request):
    return envelope(found(api, request).metadata or "null")


def put(api, request):
    key, raw, value = checked_key(request.key), None, request.body
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        parts = multipart.parts(content_type, request.body)
        if "value" not in parts or set(parts) - {"value", "metadata"}:
            raise Refusal(400, 10029, f"invalid request: unexpected parts {sorted(parts)}")
        value = parts["value"]
        if "metadata" in parts:
            try:
                raw = checked_metadata(parts["metadata"].decode("utf-8"))
            except UnicodeError:
                raise Refusal(400, 10029, "invalid request: metadata is not UTF-8") from None
    checked_value(value)
    expiration = checked_expiration(api, request.query.get("expiration"), request.query.get("expiration_ttl"))
    if not api.explorer_keeps(request):
        expiration = None
    if not api.quota.write(request.namespace, key):
        raise Refusal(429, 10022, "put: 'too many writes to this key'", **{"Retry-After": str(api.clock.patience(1))})
    request.namespace.put(key, value, expiration, raw)
    return envelope("{}")


def delete(api, request):
    key = checked_key(request.key)
    if not api.quota.write(request.namespace, key, is_delete=True):
        raise Refusal(429, 10022, "delete: 'too many writes to this key'",
                      **{"Retry-After": str(api.clock.patience(1))})
    request.namespace.delete(key)
    return envelope("{}")


def signature(prefix, after):
    return hashlib.sha256(b"cursor" + prefix + b"\0" + after).digest()[:9]


def cursor_of(prefix, after):
    """Opaque, checked, and never free of characters that a URL must escape."""
    return "+/" + base64.b64encode(signature(prefix, after) + after).decode() + "=="


def position(prefix, cursor):
    try:
        if not (cursor.startswith("+/") and cursor.endswith("==")):
            raise ValueError
        data = base64.b64decode(cursor[2:-2], validate=True)
    except (ValueError, binascii.Error):
        raise Refusal(400, 10029, "list keys: 'malformed cursor'") from None
    if signature(prefix, data[9:]) != data[:9]:
        raise Refusal(400, 10029, "list keys: 'cursor does not belong to this prefix'")
    return data[9:]


def list_limit(request):
    limit = whole(request.query.get("limit") or MOST_LIMIT, 10028, "limit")
    if not LEAST_LIMIT <= limit <= MOST_LIMIT:
        raise Refusal(400, 10028, f"Invalid limit of {limit}. Please specify an integer from "
                      f"{LEAST_LIMIT} to {MOST_LIMIT}.")
    return limit


def listed(key, entry):
    line = f'{{"name":{text(key.decode("utf-8", "replace"))}'
    if entry.expiration is not None:
        line += f',"expiration":{entry.expiration}'
    if entry.metadata is not None:
        line += f',"metadata":{entry.metadata}'
    return line + "}"


def list_keys(api, request):
    limit, prefix = list_limit(request), request.query.get("prefix", "").encode("utf-8", "surrogateescape")
    if len(prefix) > MAX_KEY:
        raise Refusal(414, 10030, "list keys: 'prefix too long'")
    cursor = request.query.get("cursor")
    after = position(prefix, cursor) if cursor else b""
    short = request.fault("short_page")
    if short:
        limit = min(limit, short.get("keys", 1))
    if request.fault("empty_page") is not None:
        rows, more, last = [], True, after
    else:
        rows, more = request.namespace.page(prefix, after, limit)
        last = rows[-1][0] if rows else after
    request.keys = len(rows)
    end = {"count": len(rows), "cursor": cursor_of(prefix, last) if more else ""}
    return envelope("[" + ",".join(listed(*row) for row in rows) + "]", text(end))


def bulk_body(request, name):
    if len(request.body) > MAX_BULK_BODY:
        raise Refusal(413, 10024, f"{name}: 'payload too large'")
    rows = decoded(request)
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, 10029, f"{name}: 'invalid request: an array is expected'")
    if len(rows) > MAX_PAIRS:
        raise Refusal(400, 10012, f"{name}: 'You can {name.split()[1]} a maximum of {MAX_PAIRS} pairs'")
    request.keys = len(rows)
    return rows


PAIR_TYPES = {"key": str, "value": str, "base64": bool, "expiration": (int, float),
              "expiration_ttl": (int, float), "metadata": object}


def checked_pair(api, pair):
    """(key, value, expiration, metadata) of one element of a bulk put."""
    if not isinstance(pair, dict) or "key" not in pair or "value" not in pair:
        raise Refusal(400, 10029, "bulk put: 'each pair needs a key and a value'")
    for name, value in pair.items():
        if name not in PAIR_TYPES or value is not None and not isinstance(value, PAIR_TYPES[name]):
            raise Refusal(400, 10029, f"bulk put: 'unexpected {name}'")
    try:
        value = pair["value"].encode("utf-8")
        if pair.get("base64"):
            value = base64.b64decode(value, validate=True)
    except (UnicodeError, ValueError, AttributeError):
        raise Refusal(400, 10029, "bulk put: 'malformed value'") from None
    raw = pair.get("metadata")
    if raw is not None:
        raw = checked_metadata(json.dumps(raw, ensure_ascii=False, separators=(",", ":")))
    return (checked_key(pair["key"]), checked_value(value),
            checked_expiration(api, pair.get("expiration"), pair.get("expiration_ttl")), raw)


def counted(request, keys, unsuccessful):
    failed = [key.decode("utf-8", "replace") for key in unsuccessful]
    return envelope(text({"successful_key_count": len(keys) - len(failed), "unsuccessful_keys": failed}))


def bulk_put(api, request):
    pairs = [checked_pair(api, pair) for pair in bulk_body(request, "bulk put")]
    refused, seen = api.faults.unsuccessful(request, [pair[0] for pair in pairs]), set()
    for key, value, expiration, raw in pairs:
        if key not in refused and key not in seen and not api.quota.write(request.namespace, key):
            refused[key] = True
        seen.add(key)
        if key not in refused:
            request.namespace.put(key, value, expiration, raw)
    return counted(request, pairs, refused)


def bulk_delete(api, request):
    keys = bulk_body(request, "bulk delete")
    if not all(isinstance(key, str) for key in keys):
        raise Refusal(400, 10029, "bulk delete: 'an array of key names is expected'")
    keys = [checked_key(key) for key in keys]
    refused = api.faults.unsuccessful(request, keys)
    for key in dict.fromkeys(keys):
        if key not in refused and not api.quota.write(request.namespace, key, is_delete=True):
            refused[key] = True
        if key not in refused:
            request.namespace.delete(key)
    return counted(request, keys, refused)


def as_text(api, value, kind, stripped):
    """What is left of a value in a bulk get, as JSON text."""
    out = value.decode("utf-8", "replace")
    if (api.strips_bom or stripped) and out.startswith("\ufeff"):
        out = out[1:]
    if kind == "text":
        return text(out)
    try:
        return text(json.loads(out))
    except (ValueError, RecursionError):
        raise Refusal(400, 10029, "bulk get keys: 'At least one of the requested keys corresponds to a "
                      "non-json value'") from None


def bulk_get(api, request):
    asked = decoded(request)
    if not isinstance(asked, dict) or not isinstance(asked.get("keys"), list):
        raise Refusal(400, 10029, "bulk get keys: 'keys are expected'")
    keys, kind = asked["keys"], asked.get("type") or "text"
    if not 1 <= len(keys) <= MAX_BULK_GET:
        raise Refusal(400, 10029, f"bulk get keys: 'You can request a maximum of {MAX_BULK_GET} keys'")
    if kind not in ("text", "json") or not all(isinstance(key, str) for key in keys):
        raise Refusal(400, 10029, f'bulk get keys: "{kind}" is not a valid type. Use "json" or "text"')
    request.keys, size, lines = len(keys), 0, {}
    for name in keys:
        entry = request.namespace.read(checked_key(name))
        line = "null"
        if entry is not None:
            size += len(entry.value)
            if size > MAX_VALUE:
                raise Refusal(413, 10024, "bulk get keys: 'Total size of request exceeds the limit of 25MB'")
            line = as_text(api, entry.value, kind, request.fault("bom_stripped") is not None)
        if entry is not None and asked.get("withMetadata"):
            tail = "" if entry.expiration is None else f',"expiration":{entry.expiration}'
            line = f'{{"value":{line},"metadata":{entry.metadata or "null"}{tail}}}'
        lines[name] = line
    return envelope('{"values":{' + ",".join(f"{text(name)}:{line}" for name, line in lines.items()) + "}}")
