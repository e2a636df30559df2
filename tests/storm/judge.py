"""What may not have happened: the server's own record of every write, and everything that the
processes saw, against what they have done.

Own keys (below w0/, w1/ ...): every write of the mount is a state that the key has been in, in the
order in which it was, and one that no crash took back.
Shared keys (s/): the same of values. What is seen there is the own latest, or what others wrote after
that was uploaded.
Others' keys (o/): what is seen has been the truth at some moment that is recent enough.
"""

from collections import namedtuple
from fnmatch import fnmatchcase

from model import Seen, Stored, same_files, shown, stored

# A write as the server did it. request: None where it was somebody else's doing.
Write = namedtuple("Write", "real time key entry request life")

# A state that a key was brought into by the mount, between two real times. lost_at: when a crash took
# it back. unsure: a crash may have taken it back, which nothing tells.
Row = namedtuple("Row", "began ended state lost_at event unsure", defaults=(False,))

PUT_OFF = 60 + 64 + 1  # seconds ahead at most to which an expiration is put off that has come near on the way
REQUESTS = ["list", "get", "bulk.get", "put", "bulk.put", "delete", "bulk.delete", "namespaces.list"]
BUDGET, BUDGET_FREE = 0.5, 200  # requests a second, and besides
LOCAL = ["*~", ".*.swp", ".*.??????", "4913"]
DURABLE_WITHIN = 3.0  # real seconds: 0.1 by the contract, and room for a sanitizer on a busy machine


class Verdict(Exception):
    """Something that must not be."""


def same_expiration(row, entry, time):
    if row.expiration == entry.expiration:
        return True
    return bool(row.expiration and entry.expiration and row.expiration < entry.expiration <= time + PUT_OFF)


def is_state(row, entry, time, values_only):
    """Whether the server was brought into this state of the key."""
    if entry is None or row is None:
        return row is entry or (entry is None and row.expiration is not None and row.expiration <= time + 1)
    if values_only:
        return row.value == entry.value
    return row.value == entry.value and row.metadata == entry.metadata and same_expiration(row, entry, time)


def near(rows, write, values_only):
    """For a person: which states come near."""
    lines = [f"    {'lost ' if r.lost_at else ''}{r.event} {r.began:.3f}-{r.ended or 0:.3f}: {shown(r.state)}"
             for r in around(rows, write.real, 12, lambda r: r.began)]
    return f"at {write.real:.3f} (time {write.time:.1f}): {shown(write.entry)}\n" + "\n".join(lines)


def around(rows, real, most, when):
    """Those about a moment."""
    at = next((i for i, r in enumerate(rows) if when(r) > real), len(rows))
    return rows[max(0, at - most // 2 - 1):at + most // 2]


def carried_out(world, key, real):
    """For a person: what the server has done to a key."""
    rows = around([w for w in world.writes if w.key == key], real, 10, lambda w: w.real)
    return "\n".join(f"    server {w.real:.3f} (time {w.time:.1f}) life {w.life}, {by(w.request)}: {shown(w.entry)}"
                     for w in rows)


def by(request):
    if request is None:
        return "others"
    return f"{request.kind} {[f.name for f in request.faults] or ''}{' cut' if request.cut else ''}"


class Order:
    """Follows what the mount writes to one key."""

    def __init__(self, key, rows, values_only, expirations):
        self.key, self.rows, self.values_only = key, rows, values_only
        self.expirations = expirations  # that others gave it, and a rewritten value keeps
        self.at = 0
        self.last = None

    def find(self, write, start, lost=False):
        for i in range(start, len(self.rows)):
            row = self.rows[i]
            if row.began <= write.real and bool(row.lost_at and row.lost_at < write.real + 60) == lost and \
                    (is_state(row.state, write.entry, write.time, self.values_only) or self.has_expired(write)):
                return i
        return None

    def has_expired(self, write):
        return self.values_only and write.entry is None and any(e <= write.time + 1 for e in self.expirations)

    def take(self, write):
        found = self.find(write, self.at)
        if found is None:
            self.refuse(write)
        again = found == self.at and self.last is not None and self.find(write, found + 1) is None
        if again and write.entry is not None and is_clean(self.last) and self.last.life == write.life:
            raise Verdict(f"{self.key}: sent again, although it had arrived\n" + near(self.rows, write, self.values_only))
        self.at, self.last = found, write

    def refuse(self, write):
        if self.find(write, 0) is not None:
            what = "an older state was written over a newer one"
        elif self.find(write, 0, lost=True) is not None:
            what = "what was written is a state that a crash took back"
        else:
            what = "what was written has never been a state of the key"
        raise Verdict(f"{self.key}: {what}\n" + near(self.rows, write, self.values_only))


def is_clean(write):
    """Whether whoever sent it must have heard of its success."""
    return not write.request.faults and not write.request.cut


def judge_writes(world):
    """Every write that the mount has made."""
    orders = {}
    for write in world.writes:
        if write.request is None:
            continue
        name = write.key.rpartition("/")[2]
        if any(fnmatchcase(name, glob) for glob in LOCAL):
            raise Verdict(f"{write.key}: a local name was written")
        if write.key.startswith("o/"):
            raise Verdict(f"{write.key}: nobody here has changed it\n{carried_out(world, write.key, write.real)}")
        if write.key not in orders:
            given = [e.expiration for _, e in world.foreign.get(write.key, []) if e is not None and e.expiration]
            orders[write.key] = Order(write.key, world.history.get(write.key, []), write.key.startswith("s/"), given)
        try:
            orders[write.key].take(write)
        except Verdict as e:
            raise Verdict(f"{e}\n{carried_out(world, write.key, write.real)}") from e


def judge_pace(world):
    """Two writes of a key within a second."""
    if world.refused_writes:
        time, key, request, before = world.refused_writes[0]
        raise Verdict(f"{key}: written twice within a second, at {time:.2f}: {request.kind} {request.asked}, "
                      f"{time - before:.2f} s after the last ({len(world.refused_writes)} such)")
    if world.server.quota.refusals:
        raise Verdict(f"{world.server.quota.refusals} requests beyond the quota")


def judge_budget(tally):
    """How many requests all of it has cost: changes are gathered, and what is known is not asked for."""
    asked = sum(n for kind, n in tally.items() if kind in REQUESTS)
    if asked > BUDGET_FREE + BUDGET * tally["virtual seconds"]:
        raise Verdict(f"{asked} requests in {tally['virtual seconds']} s")


# --- what was seen ---------------------------------------------------------------------------------

def states_between(world, key, began, ended):
    """Every state that the store had of the key in a span of virtual time."""
    found, current = [], None
    for time, entry in world.foreign.get(key, []):
        if time <= began:
            current = entry
        elif time <= ended:
            found.append(entry)
    states = [current, *found]
    if any(e is not None and e.expiration is not None and e.expiration <= ended + 1 for e in states):
        states.append(None)
    return states


def judge_others(world, seen, since):
    states = states_between(world, seen.key, since, seen.ended)
    if seen.value is None:
        good = None in states
    else:
        there = [s for s in states if s is not None]
        good = (seen.value in [s.value for s in there] and seen.expiration in [s.expiration for s in there] and
                seen.metadata in [s.metadata for s in there])
    if not good:
        rows = "\n".join(f"    {t:.1f}: {shown(e)}" for t, e in world.foreign.get(seen.key, [])[-8:])
        raise Verdict(f"{seen.key}: seen from {seen.began:.1f} to {seen.ended:.1f}: "
                      f"{shown(seen if seen.value is not None else None)}; nothing since {since:.1f} is that\n{rows}")


def judge_listed(world, listed, since):
    prefix = listed.folder + "/"
    for key in list(world.foreign):
        name = key[len(prefix):]
        if not key.startswith(prefix) or "/" in name:
            continue
        states = states_between(world, key, since, listed.ended)
        if (name in listed.names and all(s is None for s in states)) or \
                (name not in listed.names and None not in states):
            raise Verdict(f"{key}: {'' if name in listed.names else 'not '}listed between {listed.began:.1f} and "
                          f"{listed.ended:.1f}: {[shown(s) for s in states]}")
    unknown = [n for n in listed.names if prefix + n not in world.foreign and "." in n]
    if unknown:
        raise Verdict(f"listed in {listed.folder}: {unknown}")


def foreign_after(world, seen, latest):
    """What others wrote after the own latest state was uploaded. Where that is an absence which nobody
    there needed to be told of, after what was told last."""
    writes = [w for w in world.writes if w.key == seen.key and w.real <= seen.real]
    own = [i for i, w in enumerate(writes) if w.request is not None]
    sent = [i for i in own if writes[i].real >= latest.began and
            is_state(latest.state, writes[i].entry, writes[i].time, True)]
    if not sent and latest.state is not None:
        return []
    start = sent[0] if sent else own[-1] if own else -1
    return [w.entry for w in writes[start + 1:] if w.request is None]


def judge_shared(world, seen):
    rows = [r for r in world.history.get(seen.key, [])
            if r.began < seen.real and not (r.lost_at and r.lost_at < seen.real)]
    sure = next((i for i in range(len(rows) - 1, -1, -1) if not rows[i].unsure), -1)
    allowed = states_between(world, seen.key, 0.0, seen.ended) if sure < 0 else []
    for latest in rows[max(sure, 0):]:
        allowed += [latest.state, *foreign_after(world, seen, latest)]
    # What is rewritten keeps its expiration, also one that others gave it.
    inherited = [e for _, e in world.foreign.get(seen.key, []) if e is not None and e.expiration]
    allowed += [None] if any(e.expiration <= seen.ended + 1 for e in inherited) else []
    if seen.value not in [None if a is None else a.value for a in allowed]:
        raise Verdict(f"{seen.key}: seen {seen.value and seen.value[:40]!r} at {seen.began:.1f} to {seen.ended:.1f} "
                      f"(real {seen.real:.3f}); it could be {[shown(a) for a in allowed]}\n"
                      + "\n".join(f"    {r.event} {r.began:.3f} {shown(r.state)}" for r in rows[-5:]) + "\n"
                      + carried_out(world, seen.key, seen.real))


def judge_seen(world, seen):
    for row in seen:
        if not isinstance(row, Seen):
            judge_listed(world, row, world.since(row.began))
        elif row.key.startswith("s/"):
            judge_shared(world, row)
        else:
            judge_others(world, row, world.since(row.began))


# --- crashes ---------------------------------------------------------------------------------------

Survivor = namedtuple("Survivor", "files dirs events snapshots")


def moments(survivor, now, durable):
    """The numbers of events that a process may have had when the moment was, each with the real time
    between which that was."""
    found, problem = [], None
    for n in range(len(survivor.snapshots) - 1, -1, -1):
        files, dirs = survivor.snapshots[n]
        began = survivor.events[n - 1].began if n else 0.0
        ended = survivor.events[n].ended if n < len(survivor.events) else None
        why = same_files(files, survivor.files, now)
        if why is None and dirs != survivor.dirs:
            why = f"directories {sorted(dirs)}, found {sorted(survivor.dirs)}"
        if why is None and ended is not None and ended <= durable:
            why = f"it is that of {durable - ended:.3f} s before what was durable ({survivor.events[n]._replace(changes={})})"
        if why is None:
            found.append((n, began, ended if ended is not None else float("inf")))
        problem = problem or why
    if not found:
        raise Verdict(f"no moment that it may have gone back to; the last would be wrong in that: {problem}")
    return found


def judge_crash(survivors, killed_at, now):
    """The moments that all processes may have gone back to: how many events each has had, at the latest
    and at the earliest."""
    durable = max([e.upto for s in survivors for e in s.events if e.upto is not None] + [killed_at - DURABLE_WITHIN])
    choices = [moments(s, now, durable) for s in survivors]
    found = []
    for _, moment, _ in sorted((c for choice in choices for c in choice), key=lambda c: -c[1]):
        picks = [next((c for c in choice if c[1] <= moment <= c[2]), None) for choice in choices]
        if all(picks):
            found.append([p[0] for p in picks])
    if found:
        return list(zip(found[0], found[-1]))
    raise Verdict("the processes have gone back to different moments: "
                  + "; ".join(f"{[(n, round(a, 3), round(b, 3)) for n, a, b in c]}" for c in choices))


def rows_of(events, lost_from, lost_at, unsure_from):
    """[(key, Row)] of a process's events; those from `lost_from` on were taken back, and of those before,
    from `unsure_from` on, it is not known where nothing of its own shows it."""
    for i, event in enumerate(events):
        lost = lost_at if i >= lost_from else None
        for key, file in event.changes.items():
            yield key, Row(event.began, event.ended, stored(file), lost, event.kind)
        if event.shared:
            key, value = event.shared
            yield key, Row(event.began, event.ended, None if value is None else Stored(value, None, None), lost,
                           event.kind, unsure_from <= i < lost_from)
