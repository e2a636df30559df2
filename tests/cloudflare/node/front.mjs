// TLS with HTTP/2 in front of a plain HTTP/1.1 server on this machine, as a content network has it:
//
//   node front.mjs PORT CERTIFICATE KEY
//
// Prints its own port. At the end of its input: {connections, versions: {"2.0": N, "1.1": N}}, the
// connections that were made and the requests in each version of HTTP, as JSON.

import { readFileSync } from "node:fs";
import { Agent, request as ask } from "node:http";
import { createSecureServer } from "node:http2";

const [port, cert, key] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const versions = {};
let connections = 0;

// Headers that belong to a connection, and those that begin with ':', end here.
function passed(headers) {
  const ours = /^(:|connection$|keep-alive$|transfer-encoding$|host$)/;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !ours.test(name)));
}

function pass(request, response) {
  versions[request.httpVersion] = (versions[request.httpVersion] ?? 0) + 1;
  const { method, url: path, headers } = request;
  const behind = ask({ host: "127.0.0.1", port, method, path, headers: passed(headers), agent });
  behind.on("response", (answer) => {
    response.writeHead(answer.statusCode, passed(answer.headers));
    answer.pipe(response);
  });
  behind.on("error", () => response.destroy());
  request.pipe(behind);
}

const server = createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), allowHTTP1: true }, pass);
server.on("secureConnection", () => connections++);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => {
  console.log(JSON.stringify({ connections, versions }));
  process.exit(0);
}).resume();
