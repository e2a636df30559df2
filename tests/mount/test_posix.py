"""The system calls of tests/posix, in a mount and in a plain folder: what differs is a mistake.

Each file tests/posix/*.cases is one test. tests/posix/posix runs it twice, once in a folder of the
machine's own filesystem, whose behaviour is right by definition, and once in a mount, and gives two
transcripts: each call's result, and what it changed anywhere. Steps whose transcripts differ fail
the test, unless one of ALLOWED says why they may; one of ALLOWED that differs no more fails it too.
"""

import glob
import itertools
import os
import re
import shutil
import subprocess
import tempfile

from harness import HERE, PLAIN, POSIX, ROOT, Test

FOLDER = os.path.join(HERE, "..", "posix")
MOST_SHOWN = 20  # differences of one test


class Step:
    """One step of a transcript: its text, its result, what it changed."""

    def __init__(self, text):
        self.text, self.said, self.result, self.changes = text, "", None, []

    def add(self, line):
        if line.startswith("  = "):
            self.said, _, self.result = line[4:].rpartition("-> ")
        else:
            self.changes.append(line.strip())

    def key(self):
        return self.text, self.said, self.result, self.changes

    def lines(self):
        return [f"{self.said}-> {self.result}", *self.changes]


def parse(transcript):
    """{case: [Step]} of a transcript. What is said outside a step is a step's change."""
    cases, steps = {}, [Step("(before the first case)")]
    for line in transcript.splitlines():
        if line.startswith("case "):
            if line[5:] in cases:
                raise AssertionError(f"two cases of one name: {line[5:]}")
            steps = cases[line[5:]] = []
        elif line.startswith("> "):
            steps.append(Step(line[2:]))
        else:
            if not steps:
                steps.append(Step("(before the first step)"))
            steps[-1].add(line)
    return cases


def refused(error, pattern):
    """The mount refuses what `pattern` matches, and nothing is changed."""
    def judge(case, plain, mount):
        return (re.search(pattern, plain.text) and mount.result == error
                and not [c for c in mount.changes if not c.startswith("~ . a=")])
    return judge


def without(changes, token):
    """The changes without the token; those that say no more then are left out."""
    left = [c.replace(token, "") for c in changes]
    return [c for c in left if not re.fullmatch(r"~ \S+", c)]


def reserved_name(case, plain, mount):
    error = "ENOENT" if plain.text.startswith("stat") else "EINVAL"
    return (case.startswith("names that stand for bytes") and re.search(r"%25|%\+", plain.text)
            and mount.result == error and not mount.changes)


def pipe_times(case, plain, mount):
    gone = [c for c in plain.changes if c not in mount.changes]
    return (re.search("fifo|pipes", case) and (plain.said, plain.result) == (mount.said, mount.result)
            and gone and all(re.fullmatch(r"~ (p|a|@1) m=now c=now", c) for c in gone)
            and all(c in plain.changes for c in mount.changes))


def large_folder(case, plain, mount):
    links = [[re.sub(r"~ d n\d+ ", "~ d ", c) for c in s.changes] for s in (plain, mount)]
    return re.match("(fill|filldirs|removewhile) ", plain.text) and links[0] == links[1]


# (name, the tests in which it must occur, whether a step's difference is this one, and why it is
# none). Access times go first: they are taken out, and the rest of a step is judged without them.
ALLOWED = [
    ("hard links", {"unlink", "names"}, refused("EPERM", r"^(u\d )?link "),
     "a key has one name"),
    ("reserved names", {"names"}, reserved_name,
     "a path that the rules of names would write differently is no second name of a key"),
    ("long keys", {"names"}, refused("ENAMETOOLONG", r"^create \{d\*200\}/\{e\*200\}/"),
     "a key has 512 bytes"),
    ("other attributes", {"xattr"} if ROOT else set(), refused("EOPNOTSUPP", r" trusted\."),
     "only user.* is kept"),
    ("large folders", {"listing"}, large_folder,
     "the links of folders of more than 100 entries are not counted, and said to be 1"),
    ("times of pipes", {"io", "open"}, pipe_times,
     "Linux writes to pipes by itself and does not tell a FUSE filesystem"),
    ("nameless files", {"open", "chmod"}, refused("EOPNOTSUPP", r"TMPFILE"),
     "libfuse before 3.17 does not pass O_TMPFILE on"),
]
ACCESS_TIMES = ("access times", {"access", "io", "times"},
                "times of reading are not kept: a read would be a write to the store")


def of_reading(step, change):
    """Whether the change has an access time that nobody set: also that of a link on the way."""
    return (re.fullmatch(r"~ \S+ a=now", change) or "utimens " not in step.text
            and re.match(r"~ \S+ .*a=now|\+ \S+ \(was .* a=now", change))


class Differences:
    """Compares two transcripts."""

    def __init__(self):
        self.used, self.wrong = set(), []

    def step(self, case, plain, mount):
        if plain.key() == mount.key():
            return
        # What differs in nothing but that is none; what differs in more is judged without.
        read = [c for c in plain.changes if c not in mount.changes and of_reading(plain, c)]
        if read:
            self.used.add(ACCESS_TIMES[0])
            plain.changes = [c for x in plain.changes
                             for c in (without([x], " a=now") if x in read else [x])]
        if plain.key() == mount.key():
            return
        for name, _, judge, _ in ALLOWED:
            if judge(case, plain, mount):
                self.used.add(name)
                return
        self.wrong.append("\n    ".join([f"case {case}\n  > {plain.text}"]
                          + [f"- {x}" for x in plain.lines() if x not in mount.lines()]
                          + [f"+ {x}" for x in mount.lines() if x not in plain.lines()]))

    def cases(self, plain, mount):
        for case in plain:
            pairs = itertools.zip_longest(plain[case], mount.get(case, []), fillvalue=Step("missing"))
            for a, b in pairs:
                self.step(case, a, b)


class Posix(Test):
    def start(self, group, folder):
        """The program, running, and where its transcript goes."""
        os.chmod(folder, 0o755)
        with tempfile.TemporaryFile(dir=self.tmp) as out:
            process = subprocess.Popen([POSIX, folder, os.path.join(FOLDER, group + ".cases")],
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            return process, os.fdopen(os.dup(out.fileno()), "rb")

    def finish(self, process, out):
        with out:
            status = process.wait(self.LIMIT)
            out.seek(0)
            text = out.read().decode(errors="backslashreplace")
        broken = re.findall(r"^(?:case|failed|posix:).*", text, re.M)
        self.assertEqual(status, 0, [a for a in itertools.pairwise(broken) if a[1][:4] != "case"])
        return parse(text)

    def environment(self):
        """In memory where there is room for it: what is durable is not asked here."""
        self.memory = tempfile.mkdtemp(prefix="kvfs-posix-", dir="/dev/shm"
                                       if os.access("/dev/shm", os.W_OK) else self.tmp)
        return f"lmdb:{self.memory}#main"

    def clean(self):
        try:
            super().clean()
        finally:
            shutil.rmtree(self.memory, ignore_errors=True)

    def compare(self, group):
        source = self.environment()
        m = self.mount(*(["allow_other", "dev", "suid"] if ROOT else []), source=source)
        runs = [self.start(group, folder) for folder in (self.folder("plain"), m.root)]
        try:
            plain, mount = [self.finish(*r) for r in runs]
        finally:
            for process, _ in runs:
                process.kill()
                process.wait()
        d = Differences()
        d.cases(plain, mount)
        self.assertGreater(len(plain), 3)
        if d.wrong:
            self.fail(f"{len(d.wrong)} differences (- plain, + mount)\n"
                      + "\n".join(d.wrong[:MOST_SHOWN]))
        must = {a[0] for a in [*ALLOWED, ACCESS_TIMES] if group in a[1]}
        self.assertEqual(set() if PLAIN else must - d.used, set(), "allowed, but different no more")


def add_tests():
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.cases"))):
        group = os.path.basename(path).removesuffix(".cases")
        setattr(Posix, f"test_{group}", lambda self, group=group: self.compare(group))


add_tests()
