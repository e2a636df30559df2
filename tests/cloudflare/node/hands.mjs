// A Worker that carries out what rest.mjs wants of the namespaces. Through miniflare's own proxy to node
// a put takes tens of milliseconds and a megabyte half a second; here both are the KV's own speed.
//
//   GET  /BINDING/get?key=              the bytes; 404 when absent; the header X-Metadata
//   PUT  /BINDING/put?key=&options=     options: JSON, as KVNamespace.put() takes them
//   POST /BINDING/puts                  [[key, base64, options]]
//   POST /BINDING/deletes               [key]
//   POST /BINDING/gets?type=            [key]: {key: {value, metadata}}, null where absent
//
// 500 with the error's name and message as JSON when the KV refuses.

const AT_ONCE = 100;

async function all(items, action) {
  for (let at = 0; at < items.length; at += AT_ONCE) await Promise.all(items.slice(at, at + AT_ONCE).map(action));
  return new Response(null, { status: 204 });
}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function carryOut(request, kv, verb, query) {
  const key = query.get("key");
  if (verb === "put") {
    await kv.put(key, await request.arrayBuffer(), JSON.parse(query.get("options")));
    return new Response(null, { status: 204 });
  }
  if (verb === "puts") return all(await request.json(), ([name, value, options]) => kv.put(name, bytes(value), options));
  if (verb === "gets") {
    const found = await kv.getWithMetadata(await request.json(), query.get("type"));
    return Response.json(Object.fromEntries(found));
  }
  if (verb === "deletes") return all(await request.json(), (name) => kv.delete(name));
  const { value, metadata } = await kv.getWithMetadata(key, "arrayBuffer");
  if (value === null) return new Response(null, { status: 404 });
  return new Response(value, { headers: { "X-Metadata": encodeURIComponent(JSON.stringify(metadata)) } });
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url), [, binding, verb] = url.pathname.split("/");
    try {
      return await carryOut(request, env[binding], verb, url.searchParams);
    } catch (e) {
      return Response.json({ name: e.name, message: e.message }, { status: 500 });
    }
  },
};
