// The REST API of Workers KV in front of miniflare's namespaces: a node request listener.
//
// Routes, envelope, status and codes as in the API (server.py beside it keeps every rule; this keeps
// what clients need, on top of the real KV). Metadata, expirations and their limits are workerd's own.

import { parts } from "./form.mjs";

const BASE = "/client/v4/accounts/";
const MIB = 1024 * 1024;
const MAX_BODY = 101e6;

class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

const notFound = () => new Refusal(404, 10009, "get: 'key not found'");

// What workerd says of a bad request: "KV PUT failed: 400 Invalid expiration_ttl of 5. ..."
function translated(error) {
  if (error instanceof Refusal) return error;
  const found = /failed: (\d{3}) (.*)/s.exec(error.message);
  if (found) return new Refusal(Number(found[1]), found[1] === "413" ? 10024 : 10029, found[2]);
  return error instanceof TypeError ? new Refusal(400, 10029, error.message) : new Refusal(500, 10001, error.message);
}

function number(text, name) {
  if (text === null || text === undefined) return undefined;
  if (!/^\d+$/.test(String(text))) throw new Refusal(400, 10029, `Invalid ${name} of ${text}.`);
  return Number(text);
}

function options(source, metadata) {
  const made = {};
  const ttl = number(source.expiration_ttl, "expiration_ttl");
  const expiration = number(source.expiration, "expiration");
  if (ttl !== undefined) made.expirationTtl = ttl;
  else if (expiration !== undefined) made.expiration = expiration;
  if (metadata !== undefined && metadata !== null) made.metadata = metadata;
  return made;
}

// Workers learn a key's expiration from listings only.
async function expirationOf(kv, key) {
  const { keys } = await kv.list({ prefix: key, limit: 1 });
  return keys[0]?.name === key ? keys[0].expiration : undefined;
}

const done = (items) => ({ result: { successful_key_count: items.length, unsuccessful_keys: [] } });

// What a bulk get with metadata says of a key. miniflare takes an empty value for none there.
async function withAll(kv, key, found) {
  if (found?.value == null) {
    const empty = await kv.get(key);
    if (!empty) return null;
    found = { value: "", metadata: empty.metadata };
  }
  return { ...found, expiration: await expirationOf(kv, key) };
}

const calls = {
  async "GET values"({ kv, key }) {
    const found = await kv.get(key);
    if (!found) throw notFound();
    const expiration = await expirationOf(kv, key);
    const headers = { "Content-Type": "application/octet-stream" };
    if (expiration !== undefined) headers.expiration = String(expiration);
    return { raw: found.value, headers };
  },

  async "PUT values"({ kv, key, body, query, type }) {
    let value = body, metadata;
    if (/^multipart\/form-data/i.test(type)) {
      const form = parts(type, body);
      if (!form?.value) throw new Refusal(400, 10029, "invalid request: malformed multipart body");
      value = form.value;
      if (form.metadata) metadata = parsed(form.metadata);
    }
    await kv.put(key, value, options(Object.fromEntries(query), metadata));
    return { result: {} };
  },

  async "DELETE values"({ kv, key }) {
    await kv.deletes([key]);
    return { result: {} };
  },

  async "GET metadata"({ kv, key }) {
    const found = await kv.get(key);
    if (!found) throw notFound();
    return { result: found.metadata };
  },

  async "GET keys"({ kv, query }) {
    const limit = number(query.get("limit") || 1000, "limit");
    if (limit < 10 || limit > 1000) throw new Refusal(400, 10028, `Invalid limit of ${limit}.`);
    const page = await kv.list({ prefix: query.get("prefix") ?? "", cursor: query.get("cursor") || undefined, limit });
    const result = page.keys.map(({ name, expiration, metadata }) => ({ name, expiration, metadata }));
    return { result, result_info: { count: result.length, cursor: page.list_complete ? "" : page.cursor } };
  },

  async "PUT bulk"({ kv, body }) {
    const pairs = array(body);
    for (const pair of pairs)
      if (typeof pair?.key !== "string" || typeof pair?.value !== "string")
        throw new Refusal(400, 10029, "bulk put: 'each pair needs a key and a value'");
    const base64 = ({ value, base64 }) => (base64 ? value : Buffer.from(value).toString("base64"));
    await kv.puts(pairs.map((pair) => [pair.key, base64(pair), options(pair, pair.metadata)]));
    return done(pairs);
  },

  async "POST bulk/delete"({ kv, body }) {
    const keys = array(body);
    await kv.deletes(keys);
    return done(keys);
  },

  async "POST bulk/get"({ kv, body }) {
    const { keys, type = "text", withMetadata } = parsed(body);
    if (!Array.isArray(keys) || keys.length < 1 || keys.length > 100)
      throw new Refusal(400, 10029, "bulk get keys: 'You can request a maximum of 100 keys'");
    const found = await kv.gets(keys, type);
    const values = {};
    for (const key of keys) {
      const all = await withAll(kv, key, found[key]);
      values[key] = withMetadata ? all : (all?.value ?? null);
    }
    return { result: { values } };
  },
};
calls["DELETE bulk"] = calls["POST bulk/delete"];

function parsed(body) {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new Refusal(400, 10029, "invalid request: not JSON");
  }
}

function array(body) {
  const rows = parsed(body);
  if (!Array.isArray(rows) || rows.length === 0) throw new Refusal(400, 10029, "an array is expected");
  if (rows.length > 10000) throw new Refusal(400, 10012, "too many pairs");
  return rows;
}

const described = ({ id, title }) => ({ id, title, supports_url_encoding: true });

// The namespaces' own calls; `pool` is what miniflare.mjs keeps.
const accountCalls = {
  GET({ pool, query, namespace }) {
    if (namespace) return { result: described(namespace) };
    const page = Number(query.get("page") ?? 1), size = Number(query.get("per_page") ?? 20);
    const order = query.get("order") === "title" ? "title" : "id";
    const rows = pool.list().sort((a, b) => (a[order] < b[order] ? -1 : 1));
    if (query.get("direction") === "desc") rows.reverse();
    const part = rows.slice((page - 1) * size, page * size).map(described);
    return { result: part, result_info: { page, per_page: size, count: part.length, total_count: rows.length } };
  },

  POST({ pool, body }) {
    return { result: described(pool.create(title(pool, body))) };
  },

  PUT({ pool, body, namespace }) {
    namespace.title = title(pool, body, namespace);
    return { result: described(namespace) };
  },

  async DELETE({ pool, namespace, kv }) {
    for (let page = await kv.list(); page.keys.length; page = await kv.list())
      await kv.deletes(page.keys.map(({ name }) => name));
    pool.drop(namespace);
    return { result: null };
  },
};

function title(pool, body, except) {
  const name = parsed(body)?.title;
  if (typeof name !== "string" || !name) throw new Refusal(400, 10019, "the namespace title is missing");
  if (pool.list().some((n) => n.title === name && n !== except))
    throw new Refusal(400, 10014, "a namespace with this account ID and title already exists");
  return name;
}

async function bodyOf(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= MAX_BODY) chunks.push(chunk);
  }
  if (size > MAX_BODY) throw new Refusal(413, 10024, "payload too large");
  return Buffer.concat(chunks);
}

function authorize(header, token) {
  if (header === undefined) throw new Refusal(400, 9106, "Missing Authorization header");
  if (!/^Bearer [\x21-\x7e]+$/.test(header)) throw new Refusal(400, 6003, "Invalid request headers");
  if (header !== `Bearer ${token}`) throw new Refusal(403, 10000, "Authentication error");
}

async function answer(request, { account, token, pool }) {
  const [path, search = ""] = request.url.split("?");
  const body = await bodyOf(request);
  authorize(request.headers.authorization, token);
  const [id, ...segments] = path.startsWith(BASE) ? path.slice(BASE.length).split("/") : [];
  if (!/^[0-9a-f]{32}$/.test(id ?? "")) throw new Refusal(404, 7003, "Could not route to this path");
  if (id !== account) throw new Refusal(403, 10000, "Authentication error");
  if (segments.slice(0, 3).join("/") !== "storage/kv/namespaces") throw new Refusal(404, 7000, "No route for that URI");
  const [ns, ...rest] = segments.slice(3);
  const call = { body, pool, query: new URLSearchParams(search), type: request.headers["content-type"] ?? "" };
  if (ns !== undefined) {
    if (!/^[0-9a-f]{32}$/.test(ns)) throw new Refusal(400, 10011, "could not parse UUID from request's namespace_id");
    call.namespace = pool.find(ns);
    if (!call.namespace) throw new Refusal(404, 10013, "namespace not found");
    call.kv = await pool.kv(call.namespace);
  }
  const keyed = rest.length === 2 && (rest[0] === "values" || rest[0] === "metadata");
  if (keyed) call.key = keyOf(rest[1]);
  const action = rest.length === 0 ? accountCalls[request.method] : calls[`${request.method} ${keyed ? rest[0] : rest.join("/")}`];
  if (!action || (rest.length === 0 && !ns !== (request.method === "POST") && request.method !== "GET"))
    throw new Refusal(405, 10000, `${request.method} method not allowed for the api_token authentication scheme`);
  return action(call);
}

function keyOf(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new Refusal(400, 10029, "invalid request: key names must be UTF-8");
  }
}

const LIMITS = { Ratelimit: '"default";r=1199;t=300', "Ratelimit-Policy": '"default";q=1200;w=300' };

// The listener for http.createServer(); `home` has account, token and pool.
export function listener(home) {
  return async (request, response) => {
    let status = 200, headers = { "Content-Type": "application/json" }, data;
    try {
      const { raw, headers: own, ...rest } = await answer(request, home);
      if (own) headers = own;
      data = raw ?? JSON.stringify({ success: true, errors: [], messages: [], ...rest });
    } catch (e) {
      const { status: refused, code, message } = translated(e);
      status = refused;
      data = JSON.stringify({ success: false, errors: [{ code, message }], messages: [], result: null });
    }
    response.writeHead(status, { ...LIMITS, ...headers, "Content-Length": Buffer.byteLength(data) });
    response.end(data);
  };
}
