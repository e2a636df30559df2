"""The result as text: one table of medians and ratios, what the rows mean, and where kvfs is
behind."""

import workloads

def figure(seconds):
    """Milliseconds, with three digits that mean something."""
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else \
        f"{ms:.3f}"


def ratio(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def cell(medians, name):
    """A peer's median, and kvfs's divided by it."""
    if name not in medians:
        return "-"
    text = figure(medians[name])
    if name != "kvfs" and "kvfs" in medians:
        text += f" x{ratio(medians['kvfs'] / medians[name])}"
    return text


def columns(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        yield "  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:]))])


def order(result):
    """kvfs first."""
    names = list(result["peers"])
    return sorted(names, key=lambda n: n != "kvfs")


def table(result):
    names = order(result)
    rows = [["milliseconds", *names]]
    for row in result["rows"]:
        rows.append([row["name"], *(cell(result["medians"][row["name"]], n) for n in names)])
    for name, above, below, _ in workloads.RATIOS:
        a, b = (result["medians"].get(x, {}) for x in (above, below))
        if a and b:
            rows.append([name, *("x" + ratio(a[n] / b[n]) if n in a and n in b else "-"
                                 for n in names)])
    return columns(rows)


def processor_table(result):
    """What each daemon used: less noisy than time on a busy machine."""
    used = result["processor"]
    names = [n for n in order(result) if result["peers"][n]["fuse"]]
    rows = [["daemon's processor ms", *names]]
    rows += [[r["name"], *(cell(used[r["name"]], n) for n in names)] for r in result["rows"]
             if "kvfs" in used[r["name"]]]
    return columns(rows)


def behind(result):
    """Rows in which another FUSE filesystem is faster by more than noise, worst first."""
    found = []
    for row, medians in result["medians"].items():
        for name, value in medians.items():
            if result["peers"][name]["fuse"] and name != "kvfs" and "kvfs" in medians and \
                    medians["kvfs"] > value * 1.05:
                found.append((medians["kvfs"] / value, row, name))
    return [f"  {row}: {name} x{ratio(x)}" for x, row, name in sorted(found, reverse=True)]


def explanations(result):
    yield from (line for line in workloads.__doc__.split("Terms:\n\n")[1].rstrip().split("\n"))
    yield ""
    for row in result["rows"]:
        yield f"  {row['name']}: {row['explain']}"
        reasons = {}
        for peer, why in row["skipped"].items():
            reasons.setdefault(why, []).append(peer)
        for why, who in reasons.items():
            yield f"      no figure for {', '.join(who)}: {why}"
    for name, *_, why in workloads.RATIOS:
        yield f"  {name}: {why}"
    yield "  daemon's processor ms: of its threads, user and system, while the step was timed"


def text(result):
    s, m = result["sizes"], result["machine"]
    lines = [
        f"Medians of {result['rounds']} interleaved rounds, Linux {m['kernel']}, "
        f"{m['cpus']} processor{'s' if m['cpus'] > 1 else ''}, load {m['load'][0]:.1f}. "
        "xN: kvfs's time divided by this one's (below 1: kvfs is faster).",
        f"{s['files']} files of 1 KiB in {s['dirs']} directories, {s['some']} of them rewritten, "
        f"renamed, given attributes; {s['large']} MiB; {s['fsyncs']} fsyncs; {s['parallel']} files in "
        f"parallel; a directory of {s['list']}; mounts of {s['root']} and {s['million']} keys.",
        "", *table(result), "", *processor_table(result), "", *explanations(result), "",
        "What a peer does not promise:",
        *(f"  {n}: {p['lacks']}" for n, p in result["peers"].items() if p["lacks"]), ""]
    late = behind(result)
    lines += ["Faster FUSE filesystems (by more than 5 %):", *late] if late else \
        ["No FUSE filesystem here is faster than kvfs in any row by more than 5 %."]
    return "\n".join(lines)
