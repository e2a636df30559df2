"""Counterparts that are not ours: miniflare (Cloudflare's own KV), the official SDK, wrangler.

    node.install(folder)             copies node/ there and has npm install what its lock names
    with node.Miniflare() as real:   real.endpoint, .account, .token, .worker, .explorer, .namespaces
    node.sdk(server, namespace)      runs node/sdk.mjs against a server
    node.wrangler(server, *argv)     runs a wrangler command against a server

All need KVFS_TEST_NODE, the folder that was installed; tests are skipped without it.
"""

import filecmp
import http.client
import json
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "node")
INSTALL_LIMIT = 600  # seconds
NEEDED = (20, 3)  # node's version


def folder():
    return os.environ.get("KVFS_TEST_NODE") or None


def need(test):
    """Skips a test where nothing was installed."""
    if not folder():
        test.skipTest("needs node's packages: selftest.py --node FOLDER")


def version():
    """Node's version, None when there is none or no npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30).stdout
    return tuple(int(n) for n in re.findall(r"\d+", said)[:2])


def install(target):
    """Makes `target` ready; why it could not, or None. Quick when the lock has not changed."""
    if (version() or (0,)) < NEEDED:
        return f"needs node {NEEDED[0]}.{NEEDED[1]} or later with npm"
    os.makedirs(target, exist_ok=True)
    lock, done = os.path.join(SOURCES, "package-lock.json"), os.path.join(target, "installed.json")
    for name in os.listdir(SOURCES):
        shutil.copy(os.path.join(SOURCES, name), target)
    if os.path.exists(done) and filecmp.cmp(lock, done, shallow=False):
        return None
    npm = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    if npm.returncode != 0:
        return "npm: " + (npm.stderr.strip().splitlines() or ["failed"])[-1]
    shutil.copy(lock, done)
    return None


class Miniflare:
    """A running node/miniflare.mjs. `content`: a folder that outlives it."""

    certificate = None

    def __init__(self, content=None):
        self.content = content

    def start(self):
        argv = ["node", os.path.join(folder(), "miniflare.mjs"), *([self.content] if self.content else [])]
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, cwd=folder())
        line = self.child.stdout.readline()
        if not line:
            raise AssertionError("miniflare did not start: " + self.child.communicate(timeout=30)[1])
        vars(self).update(json.loads(line))
        return self

    def stop(self):
        """Ends it; by force when it does not end by itself."""
        try:
            self.child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()

    __enter__ = start

    def __exit__(self, *error):
        self.stop()

    def ask(self, method, path, body=None, headers=()):
        """Asks the Worker: (status, headers, bytes)."""
        connection = http.client.HTTPConnection(self.worker.removeprefix("http://"), timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def clock(self, **move):
        """set= or advance= (seconds): the time that expirations follow. See node/miniflare.mjs."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/-/clock", json.dumps(move))
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise AssertionError(said.decode())
            return json.loads(said)["now"]
        finally:
            connection.close()


def run(argv, **more):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **more)
    if done.returncode != 0:
        raise AssertionError(f"{argv[:3]} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def sdk(server, namespace):
    """The official SDK, every call; raises when an answer is not what it expects."""
    return json.loads(run(["node", os.path.join(folder(), "sdk.mjs"), server.endpoint, server.account,
                           server.token, namespace]).splitlines()[-1])


def wrangler(server, *argv, cwd):
    """One wrangler command against a server, in a folder that is its home too; what it printed."""
    environment = {**os.environ, "CLOUDFLARE_API_BASE_URL": server.endpoint, "CLOUDFLARE_API_TOKEN": server.token,
                   "CLOUDFLARE_ACCOUNT_ID": server.account, "WRANGLER_SEND_METRICS": "false", "CI": "1",
                   "NO_COLOR": "1", "HOME": cwd, "XDG_CONFIG_HOME": cwd}
    return run(["node", os.path.join(folder(), "node_modules/wrangler/bin/wrangler.js"), *argv], env=environment,
               cwd=cwd)
