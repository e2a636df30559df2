// A Worker that does with its KV namespace what people's Workers do; tests watch kvfs from here.
//
//   GET /flags            the feature flags, by way of feature-flags:cache (TTL 60): {flags, from}
//   PUT /flags            a JSON body becomes feature-flags; the cache is dropped
//   POST /session         a JSON body becomes session:TOKEN with a TTL of 7 days (?ttl=): {token}; ?token= names it
//   GET, DELETE /session/TOKEN
//   GET /limited/ID       a fixed-window rate limit, ?limit= (10) ?window= seconds (60): {count}, or 429
//   GET /app              "ok", or 503 while maintenance-mode holds true
//   GET /asset/KEY        an asset's bytes, the path's rest being the key
//   GET, PUT, DELETE /raw/KEY   any key, one escaped segment; the headers X-Metadata and X-Found tell more
//                         (PUT: ?ttl= ?expiration= ?metadata=)
//   GET /list?prefix=     every key: [{name, expiration?, metadata?}]

const WEEK = 7 * 24 * 3600;
const absent = () => new Response("absent\n", { status: 404 });

async function flags(request, kv) {
  if (request.method === "PUT") {
    await kv.put("feature-flags", JSON.stringify(await request.json()));
    await kv.delete("feature-flags:cache");
    return new Response(null, { status: 204 });
  }
  const cached = await kv.get("feature-flags:cache");
  if (cached !== null) return Response.json({ flags: JSON.parse(cached), from: "cache" });
  const stored = await kv.get("feature-flags");
  if (stored === null) return absent();
  await kv.put("feature-flags:cache", stored, { expirationTtl: 60 });
  return Response.json({ flags: JSON.parse(stored), from: "store" });
}

async function session(request, kv, token, query) {
  if (request.method === "POST") {
    const made = query.get("token") ?? crypto.randomUUID();
    await kv.put(`session:${made}`, JSON.stringify(await request.json()), { expirationTtl: Number(query.get("ttl") ?? WEEK) });
    return Response.json({ token: made });
  }
  if (request.method === "DELETE") {
    await kv.delete(`session:${token}`);
    return new Response(null, { status: 204 });
  }
  const found = await kv.get(`session:${token}`, "json");
  return found === null ? absent() : Response.json(found);
}

async function limited(kv, id, query) {
  const limit = Number(query.get("limit") ?? 10), length = Number(query.get("window") ?? 60);
  const key = `rate:${id}:${Math.floor(Date.now() / 1000 / length)}`;
  const count = Number((await kv.get(key)) ?? 0) + 1;
  if (count > limit) return new Response("too many requests\n", { status: 429 });
  await kv.put(key, String(count), { expirationTtl: Math.max(60, 2 * length) });
  return Response.json({ count, key });
}

async function raw(request, kv, key, query) {
  if (request.method === "PUT") {
    const options = {};
    if (query.has("ttl")) options.expirationTtl = Number(query.get("ttl"));
    if (query.has("expiration")) options.expiration = Number(query.get("expiration"));
    if (query.has("metadata")) options.metadata = JSON.parse(query.get("metadata"));
    await kv.put(key, await request.arrayBuffer(), options);
    return new Response(null, { status: 204 });
  }
  if (request.method === "DELETE") {
    await kv.delete(key);
    return new Response(null, { status: 204 });
  }
  const { value, metadata } = await kv.getWithMetadata(key, "arrayBuffer");
  if (value === null) return absent();
  return new Response(value, { headers: { "X-Metadata": encodeURIComponent(JSON.stringify(metadata)) } });
}

async function list(kv, query) {
  const rows = [];
  for (let cursor, done = false; !done; ) {
    const page = await kv.list({ prefix: query.get("prefix") ?? "", cursor });
    rows.push(...page.keys);
    ({ cursor, list_complete: done } = page);
  }
  return Response.json(rows);
}

async function route(request, env) {
  const url = new URL(request.url), query = url.searchParams, kv = env.KV;
  const [, first, ...rest] = url.pathname.split("/");
  if (first === "flags") return flags(request, kv);
  if (first === "session") return session(request, kv, decodeURIComponent(rest[0] ?? ""), query);
  if (first === "limited") return limited(kv, decodeURIComponent(rest[0]), query);
  if (first === "raw") return raw(request, kv, decodeURIComponent(rest.join("/")), query);
  if (first === "list") return list(kv, query);
  if (first === "asset") {
    const found = await kv.get(decodeURIComponent(rest.join("/")), "arrayBuffer");
    return found === null ? absent() : new Response(found);
  }
  if (first !== "app") return absent();
  if ((await kv.get("maintenance-mode")) === "true") return new Response("down for maintenance\n", { status: 503 });
  return new Response("ok\n");
}

export default {
  async fetch(request, env) {
    try {
      return await route(request, env);
    } catch (e) {
      return new Response(`${e.message}\n`, { status: 500 });
    }
  },
};
