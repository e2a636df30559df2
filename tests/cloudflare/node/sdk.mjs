// The official SDK as a client: node sdk.mjs ENDPOINT ACCOUNT TOKEN NAMESPACE_ID
//
// Does each call that kvfs may make, on keys below "sdk/", and checks what comes back. Ends with status
// 0 and one JSON line {"calls": N} when all was as the SDK expects it.

import assert from "node:assert/strict";
import Cloudflare, { toFile } from "cloudflare";

const [endpoint, account_id, apiToken, ns] = process.argv.slice(2);
const client = new Cloudflare({ baseURL: endpoint, apiToken, maxRetries: 3 });
const kv = client.kv.namespaces;
const at = { account_id, namespace_id: ns };
let calls = 0;

async function step(name, action) {
  try {
    calls++;
    return await action();
  } catch (e) {
    e.message = `${name}: ${e.message}`;
    throw e;
  }
}

const bytes = async (response) => Buffer.from(await response.arrayBuffer());
const refused = (status, code) => (e) => e.status === status && e.errors?.[0]?.code === code;

async function namespaces() {
  const titles = [];
  for await (const found of kv.list({ account_id, order: "title", direction: "asc" })) titles.push(found.title);
  assert.ok(titles.length >= 1);
  const made = await step("create", () => kv.create({ account_id, title: "made by the sdk" }));
  assert.equal((await kv.get(made.id, { account_id })).title, "made by the sdk");
  await assert.rejects(kv.create({ account_id, title: "made by the sdk" }), refused(400, 10014));
  await step("rename", () => kv.update(made.id, { account_id, title: "renamed" }));
  assert.equal((await kv.get(made.id, { account_id })).title, "renamed");
  await step("delete namespace", () => kv.delete(made.id, { account_id }));
  await assert.rejects(kv.get(made.id, { account_id }), refused(404, 10013));
}

async function values() {
  const binary = Buffer.from([0, 255, 13, 10, 45, 45, 0]);
  await step("put text", () => kv.values.update("sdk/a:b%2F?", { ...at, value: "ü", expiration_ttl: 3600 }));
  await step("put bytes", async () => kv.values.update("sdk/bin", {
    ...at, value: await toFile(binary, "value"), metadata: JSON.stringify({ m: [1, "x"] }) }));
  const text = await step("get", () => kv.values.get("sdk/a:b%2F?", at));
  assert.equal((await bytes(text)).toString(), "ü");
  const left = Number(text.headers.get("expiration")) - Date.now() / 1000;
  assert.ok(left > 3500 && left <= 3601, `expires in ${left} s`);
  assert.deepEqual(await bytes(await kv.values.get("sdk/bin", at)), binary);
  assert.deepEqual(await step("metadata", () => kv.metadata.get("sdk/bin", at)), { m: [1, "x"] });
  await assert.rejects(kv.values.get("sdk/absent", at), refused(404, 10009));
  await step("delete", () => kv.values.delete("sdk/bin", at));
  await assert.rejects(kv.values.get("sdk/bin", at), refused(404, 10009));
}

async function bulk() {
  const body = Array.from({ length: 1500 }, (_, i) => ({ key: `sdk/many/${String(i).padStart(4, "0")}`, value: `v${i}` }));
  body[0] = { ...body[0], base64: true, value: Buffer.from("v0").toString("base64"), metadata: { first: true } };
  body[1].expiration_ttl = 3600;
  const put = await step("bulk put", () => kv.bulkUpdate(ns, { account_id, body }));
  assert.deepEqual(put, { successful_key_count: 1500, unsuccessful_keys: [] });
  const names = [];
  for await (const key of kv.keys.list(ns, { account_id, prefix: "sdk/many/" })) names.push(key.name);
  assert.deepEqual(names, body.map((pair) => pair.key));
  const keys = [...names.slice(0, 3), "sdk/absent"];
  const got = await step("bulk get", () => kv.bulkGet(ns, { account_id, keys }));
  assert.deepEqual(got.values, { [keys[0]]: "v0", [keys[1]]: "v1", [keys[2]]: "v2", "sdk/absent": null });
  const more = await step("bulk get with metadata", () => kv.bulkGet(ns, { account_id, keys, withMetadata: true }));
  assert.equal(more.values[keys[0]].value, "v0");
  assert.deepEqual(more.values[keys[0]].metadata, { first: true });
  assert.ok(more.values[keys[1]].expiration > Date.now() / 1000 + 3500);
  assert.equal(more.values["sdk/absent"], null);
  const gone = await step("bulk delete", () => kv.bulkDelete(ns, { account_id, body: names }));
  assert.deepEqual(gone, { successful_key_count: 1500, unsuccessful_keys: [] });
  assert.equal((await kv.keys.list(ns, { account_id, prefix: "sdk/many/" })).result.length, 0);
}

await namespaces();
await values();
await bulk();
console.log(JSON.stringify({ calls }));
