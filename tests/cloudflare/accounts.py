"""The calls of the API on an account's namespaces."""

from reply import Refusal, decoded, envelope, text

MOST_PER_PAGE = 100
MAX_TITLE = 512


def described(namespace):
    return {"id": namespace.id, "title": namespace.title, "supports_url_encoding": True}


def whole(request, name, default, least, most):
    try:
        value = int(request.query.get(name, default))
        if not least <= value <= most:
            raise ValueError
    except ValueError:
        raise Refusal(400, 10029, f"list namespaces: 'invalid {name}'") from None
    return value


def list_namespaces(api, request):
    page = whole(request, "page", 1, 1, 10**9)
    # wrangler asks for 1,000: more than the most is not refused, and the answer says what it was cut to.
    per_page = min(MOST_PER_PAGE, whole(request, "per_page", 20, 1, 10**9))
    order, direction = request.query.get("order", "id"), request.query.get("direction", "asc")
    if order not in ("id", "title") or direction not in ("asc", "desc"):
        raise Refusal(400, 10029, "list namespaces: 'invalid order'")
    rows = sorted(api.store.namespaces.values(), key=lambda n: (getattr(n, order).encode(), n.id),
                  reverse=direction == "desc")
    part = rows[(page - 1) * per_page:page * per_page]
    info = {"page": page, "per_page": per_page, "count": len(part), "total_count": len(rows),
            "total_pages": -(-len(rows) // per_page)}
    return envelope(text([described(n) for n in part]), text(info))


def title_of(api, request):
    asked = decoded(request)
    title = asked.get("title") if isinstance(asked, dict) else None
    if not isinstance(title, str) or not title:
        raise Refusal(400, 10019, "the namespace title is missing")
    if len(title.encode("utf-8", "surrogatepass")) > MAX_TITLE:
        raise Refusal(400, 10029, "the namespace title is too long")
    if any(n.title == title and n is not request.namespace for n in api.store.namespaces.values()):
        raise Refusal(400, 10014, f"a namespace with this account ID and title already exists: {title}")
    return title


def create(api, request):
    return envelope(text(described(api.store.create(title_of(api, request)))))


def get(api, request):
    return envelope(text(described(request.namespace)))


def rename(api, request):
    request.namespace.title = title_of(api, request)
    return get(api, request)


def delete(api, request):
    api.store.drop(request.namespace)
    return envelope("null")
