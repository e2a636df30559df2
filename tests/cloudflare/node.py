"""Counterparts that are not ours: miniflare (Cloudflare's own KV), the official SDK, wrangler.

    node.install(folder)             copies node/ there and has npm install what its lock names
    with node.Miniflare() as real:   real.endpoint, .account, .token, .worker, .explorer, .namespaces
    node.sdk(server, namespace)      runs node/sdk.mjs against a server
    with node.Sdk(server, ns) as k:  the SDK, call by call: k("get", "key")
    node.wrangler(server, *argv)     runs a wrangler command against a server
    with node.Dev(folder) as dev:    `wrangler dev` on a folder with a wrangler.toml: .origin, .explorer

All need KVFS_TEST_NODE, the folder that was installed; tests are skipped without it.
"""

import filecmp
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile

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


def wrangler_command():
    return ["node", os.path.join(folder(), "node_modules/wrangler/bin/wrangler.js")]


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


class Child:
    """A program that ends with its input."""

    def spawn(self, *argv, **more):
        self.errors = tempfile.TemporaryFile("w+")  # nobody need read them while it runs
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                      text=True, **more)

    def line(self):
        """Its next line; an error when it has ended."""
        line = self.child.stdout.readline()
        if not line:
            self.child.wait(30)
            self.errors.seek(0)
            raise AssertionError(f"{self.child.args[:3]} ended: {self.errors.read()}")
        return line

    def stop(self):
        """Ends it; by force when it does not end by itself. What it still said."""
        try:
            return self.child.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.communicate()[0]
        finally:
            self.errors.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()


class Miniflare(Child):
    """A running node/miniflare.mjs. `content`: a folder that outlives it."""

    certificate = None

    def __init__(self, content=None):
        self.content = content

    def start(self):
        self.spawn("node", os.path.join(folder(), "miniflare.mjs"), *([self.content] if self.content else []),
                   cwd=folder())
        vars(self).update(json.loads(self.line()))
        return self

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


class Sdk(Child):
    """A running node/ask.mjs."""

    def __init__(self, server, namespace):
        self.arguments = server.endpoint, server.account, server.token, namespace

    def start(self):
        self.spawn("node", os.path.join(folder(), "ask.mjs"), *self.arguments, cwd=folder())
        return self

    def ask(self, *call):
        """One call, with its answer as it is."""
        self.child.stdin.write(json.dumps(call) + "\n")
        self.child.stdin.flush()
        return json.loads(self.line())

    def __call__(self, *call):
        """One call that succeeds; its result."""
        said = self.ask(*call)
        if "result" not in said:
            raise AssertionError(f"{call}: {said}")
        return said["result"]


class Dev(Child):
    """A running `wrangler dev`, which keeps its content below its folder."""

    READY = re.compile(r"Ready on (http://\S+)")

    def __init__(self, cwd):
        self.cwd = cwd

    def start(self):
        self.spawn(*wrangler_command(), "dev", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0",
                   "--show-interactive-dev-session=false", cwd=self.cwd, env=wrangler_environment(self.cwd))
        while not (ready := self.READY.search(self.line())):
            pass
        self.origin = ready[1]
        self.explorer = self.origin + "/cdn-cgi/explorer/api"
        return self

    def stop(self):
        self.child.terminate()
        return super().stop()


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
    environment = {**wrangler_environment(cwd), "CLOUDFLARE_API_BASE_URL": server.endpoint,
                   "CLOUDFLARE_API_TOKEN": server.token, "CLOUDFLARE_ACCOUNT_ID": server.account}
    return run([*wrangler_command(), *argv], env=environment, cwd=cwd)


def wrangler_environment(home):
    return {**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1", "NO_COLOR": "1", "HOME": home,
            "XDG_CONFIG_HOME": home}
