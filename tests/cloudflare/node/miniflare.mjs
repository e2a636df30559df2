// Cloudflare's own KV, in workerd on this machine: a Worker (worker.mjs) and the REST API (rest.mjs)
// in front of the same namespaces.
//
//   node miniflare.mjs [FOLDER]        the content stays in FOLDER; without one it ends with the program
//
// Prints one JSON line once it serves: {endpoint, port, account, token, namespaces: {title: id}, worker,
// explorer}. `endpoint` is the REST API's base, `worker` the Worker's origin, `explorer` the base of the
// API that `wrangler dev` serves, here by miniflare itself. All on 127.0.0.1, ports chosen by the kernel.
// Ends with its standard input or at SIGTERM.
//
// The namespace "main" is the Worker's; POST makes up to SPARES more.
//
// Its ways, not the API's: a bulk put takes some 3 ms for each key (use a thousand at most); a listing whose
// prefix holds a NUL is empty; there is no quota and no staleness.
//
// Time: POST /-/clock {"set": SECONDS} or {"advance": SECONDS} on the REST port moves the time that the
// namespaces' expirations follow (miniflare's own control endpoint), which stands still from then on.
// That mode is made for miniflare's tests: it also lowers the largest value to 1,024 bytes.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { _enableControlEndpoints, Miniflare } from "miniflare";
import { listener } from "./rest.mjs";

const account = "0123456789abcdef0123456789abcdef";
const token = "test-token-that-must-not-appear-anywhere";
const SPARES = 8;

const idOf = (n) => (0xa0 + n).toString(16).padStart(32, "0");

// One namespace, as rest.mjs uses it: listings by miniflare's proxy, the rest by hands.mjs.
class Namespace {
  #miniflare;
  #binding;

  constructor(miniflare, binding) {
    this.#miniflare = miniflare;
    this.#binding = binding;
  }

  async #ask(method, verb, query, body) {
    const hands = await this.#miniflare.getWorker("hands");
    const url = `http://hands/${this.#binding}/${verb}?${new URLSearchParams(query)}`;
    const answer = await hands.fetch(url, { method, body });
    if (answer.status === 500) {
      const { name, message } = await answer.json();
      throw new (name === "TypeError" ? TypeError : Error)(message);
    }
    return answer;
  }

  async get(key) {
    const answer = await this.#ask("GET", "get", { key });
    const value = Buffer.from(await answer.arrayBuffer());
    if (answer.status === 404) return null;
    return { value, metadata: JSON.parse(decodeURIComponent(answer.headers.get("X-Metadata"))) };
  }

  put = (key, value, options) => this.#ask("PUT", "put", { key, options: JSON.stringify(options) }, value);
  puts = (rows) => this.#ask("POST", "puts", {}, JSON.stringify(rows));
  deletes = (keys) => this.#ask("POST", "deletes", {}, JSON.stringify(keys));
  list = async (options) => (await this.#miniflare.getKVNamespace(this.#binding)).list(options);

  gets = async (keys, type) => (await this.#ask("POST", "gets", { type }, JSON.stringify(keys))).json();
}

class Pool {
  #miniflare;
  #used = new Map(); // id: {id, title, binding}
  #free = Array.from({ length: SPARES }, (_, i) => ({ id: idOf(i + 1), binding: `SPARE${i}` }));

  constructor(miniflare) {
    this.#miniflare = miniflare;
    this.#used.set(idOf(0), { id: idOf(0), title: "main", binding: "KV" });
  }

  list = () => [...this.#used.values()];
  find = (id) => this.#used.get(id);
  kv = ({ binding }) => new Namespace(this.#miniflare, binding);

  create(title) {
    const taken = this.#free.shift();
    if (!taken) throw new Error(`only ${SPARES} namespaces can be made here`);
    const made = { ...taken, title };
    this.#used.set(made.id, made);
    return made;
  }

  drop({ id, binding }) {
    this.#used.delete(id);
    this.#free.push({ id, binding });
  }
}

// One control operation on every namespace's object.
async function control(miniflare, ids, name, ...args) {
  const objects = await miniflare._getInternalDurableObjectNamespace("kv", "kv:ns", "KVNamespaceObject");
  for (const id of ids) {
    const stub = objects.get(objects.idFromName(id));
    const answer = await stub.fetch("http://placeholder/", { cf: { miniflare: { controlOp: { name, args } } } });
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`);
    await answer.arrayBuffer();
  }
}

let now = null; // seconds, once the time was moved

async function moveClock(miniflare, request, response) {
  let text = "";
  for await (const chunk of request) text += chunk;
  try {
    const { set, advance = 0 } = JSON.parse(text);
    now = (set ?? now ?? Date.now() / 1000) + advance;
    await control(miniflare, Array.from({ length: SPARES + 1 }, (_, n) => idOf(n)), "enableFakeTimers", now * 1000);
    response.end(JSON.stringify({ now }));
  } catch (e) {
    response.writeHead(400).end(`${e.stack}\n`);
  }
}

const bindings = { KV: idOf(0) };
for (let i = 0; i < SPARES; i++) bindings[`SPARE${i}`] = idOf(i + 1);

async function worker(name) {
  const contents = await readFile(new URL(`${name}.mjs`, import.meta.url), "utf8");
  const modules = [{ type: "ESModule", path: `${name}.mjs`, contents }];
  return { name, modules, compatibilityDate: "2025-10-01", kvNamespaces: bindings };
}

_enableControlEndpoints();
const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: 0,
  workers: [await worker("worker"), await worker("hands")],
  kvPersist: process.argv[2] ?? false,
  unsafeLocalExplorer: true,
  telemetry: { enabled: false },
});
const origin = (await miniflare.ready).origin;
const pool = new Pool(miniflare);
const rest = listener({ account, token, pool });
const server = createServer({ maxHeaderSize: 65536 }, (request, response) =>
  request.url === "/-/clock" ? moveClock(miniflare, request, response) : rest(request, response));
await new Promise((done) => server.listen(0, "127.0.0.1", done));

async function end() {
  server.closeAllConnections();
  server.close();
  await miniflare.dispose();
  process.exit(0);
}
process.on("SIGTERM", end);
process.stdin.on("end", end).resume();

const port = server.address().port;
console.log(JSON.stringify({
  endpoint: `http://127.0.0.1:${port}/client/v4`, port, account, token, namespaces: { main: idOf(0) },
  worker: origin, explorer: `${origin}/cdn-cgi/explorer/api`,
}));
