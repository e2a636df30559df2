// The official SDK as a tool that makes one call after the other:
//
//   node ask.mjs ENDPOINT ACCOUNT TOKEN NAMESPACE_ID
//
// Each line of its input is a call [NAME, ARGUMENT...], each line of its output what came of it: {result},
// or {status, code} where the server refused. Values are base64.
//
//   ["put", KEY, VALUE, {expiration?, expiration_ttl?, metadata?}]   metadata: JSON text
//   ["get", KEY]           {value, expiration}
//   ["metadata", KEY]      ["delete", KEY]      ["list", PREFIX]
//   ["bulkPut", PAIRS]     ["bulkGet", KEYS]    ["bulkDelete", KEYS]

import { createInterface } from "node:readline";
import Cloudflare, { toFile } from "cloudflare";

const [endpoint, account_id, apiToken, ns] = process.argv.slice(2);
const kv = new Cloudflare({ baseURL: endpoint, apiToken, maxRetries: 3 }).kv.namespaces;
const at = { account_id, namespace_id: ns };

const calls = {
  async put(key, value, more) {
    const file = await toFile(Buffer.from(value, "base64"), "value");
    return kv.values.update(key, { ...at, ...more, value: file });
  },

  async get(key) {
    const answer = await kv.values.get(key, at);
    const value = Buffer.from(await answer.arrayBuffer()).toString("base64");
    return { value, expiration: Number(answer.headers.get("expiration")) || null };
  },

  metadata: (key) => kv.metadata.get(key, at),
  delete: (key) => kv.values.delete(key, at),

  async list(prefix) {
    const found = [];
    for await (const key of kv.keys.list(ns, { account_id, prefix })) found.push(key);
    return found;
  },

  bulkPut: (body) => kv.bulkUpdate(ns, { account_id, body }),
  bulkGet: async (keys) => (await kv.bulkGet(ns, { account_id, keys, withMetadata: true })).values,
  bulkDelete: (body) => kv.bulkDelete(ns, { account_id, body }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line);
  let said;
  try {
    said = { result: (await calls[name](...args)) ?? null };
  } catch (e) {
    said = { status: e.status ?? 0, code: e.errors?.[0]?.code ?? 0, message: e.message };
  }
  console.log(JSON.stringify(said));
}
