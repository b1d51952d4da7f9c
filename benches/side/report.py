"""The report of a result: the table of targets, the measured tables, and the plot."""

import subprocess

from .kill import WRITES
from .machine import OUT, ROOT
from .summary import sentences
from .targets import ratios, shown, targets, values

BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"
PAGE, PLOT = ROOT / "docs/PERFORMANCE.md", ROOT / "docs/performance.svg"
KEEPS = {"nothing": "nothing", "outcomes": "outcomes; resends", "promise": "the promise"}


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
                      *("| " + " | ".join(row) + " |" for row in rows)])


def both(rounds, name, path, digits=0):
    """A figure of the gateway and, if it has one, of its engine."""
    found = [shown(values(rounds, name, *path, part), digits) for part in ("gateway", "engine")]
    return found[0] if found[1] == "–" else " + ".join(found)


def writes(result):
    rounds, rows, late = result["single"], [], []
    for name, label in result["labels"].items():
        rows.append([label, KEEPS[result["keeps"][name]], shown(values(rounds, name, "keyed", "rate")),
                     *(shown(ratios(rounds, mine, name, "keyed", "rate"), 2) for mine in ("sqlite", "postgres")),
                     both(rounds, name, ("keyed", "cpu")), both(rounds, name, ("fixed", "300", "cpu")),
                     both(rounds, name, ("idle",)), both(rounds, name, ("keyed", "loaded"))])
        pairs = [("keyed",), ("fixed", "100"), ("fixed", "300")]
        late.append([label, *(shown(values(rounds, name, *pair, which), 2, 1000) for pair in pairs for which in ("p50", "p99"))])
    head = ["between caller and vendor", "keeps", "keyed writes/s", "examgate on SQLite ×", "on PostgreSQL ×", "CPU µs a write",
            "at 300/s", "MiB idle", "MiB loaded"]
    heads = [f"{load}, {which}" for load in ("saturation", "100/s", "300/s") for which in ("p50", "p99")]
    return ["### Keyed writes\n\nCPU and memory: gateway + database or engine.\n\n" + table(head, rows),
            "### Latency of a keyed write, ms\n\n" + table(["between caller and vendor", *heads], late)]


def reads(result):
    rounds = result["reads"]
    rows = [[label, shown(values(rounds, name, "reads", "rate")), both(rounds, name, ("reads", "cpu")),
             both(rounds, name, ("fixed", "2000", "cpu")),
             *(shown(values(rounds, name, "fixed", "2000", which), 2, 1000) for which in ("p50", "p99"))]
            for name, label in result["labels"].items() if values(rounds, name, "reads")]
    return "### Reads, traces on\n\n" + table(
        ["", "reads/s", "CPU µs a read", "at 2,000/s", "2,000/s, p50 ms", "2,000/s, p99 ms"], rows)


def bulks(result):
    rounds, rows = result["bulk"]["drain"], []
    for name in ("sqlite", "postgres"):
        cpu = [values([{"results": {name: {"cpu": one[at]}}} for one in values(rounds, name, "cpu") if len(one) > at], name, "cpu")
               for at in (0, 1)]
        rows.append([result["labels"].get(name, name), shown(values(rounds, name, "rows")[:1]),
                     shown(values(rounds, name, "accepted"), 2), shown(values(rounds, name, "acceptedGrowth"), 1),
                     shown(values(rounds, name, "drain")), " + ".join(shown(part) for part in cpu if part),
                     shown(values(rounds, name, "peak"), 1)])
    return "### Bulk: ExamTesting rows, one a call, vendor of 2 ms, 32 in flight\n\n" + table(
        ["", "rows", "accepted s", "growth MiB", "rows/s", "CPU µs a row", "peak MiB"], rows)


def kills(result):
    rows = [[result["labels"][name], str(one["calls"]),
             ", ".join(f"{count} × {answer}" for answer, count in sorted(one["repeats"].items()))]
            for name, one in result["kill"].items()]
    return ("### Killed with -9 while 20 writes are at a vendor of 600 ms; started again; repeated under their keys after "
            "4 s\n\n" + table(["", "calls the vendor saw", "answers to the repeats"], rows))


def measured(result):
    parts = ["\n".join(f"* {line}" for line in sentences(result, WRITES)), "### Targets\n\n" + table(["what", "target", "measured", "met"], targets(result))]
    if "single" in result:
        parts += ["![requests a second and CPU for each gateway](performance.svg)", *writes(result)]
    parts += [section(result) for kind, section in (("kill", kills), ("reads", reads), ("bulk", bulks)) if kind in result]
    return "\n\n".join(filter(None, parts))


def conditions(result):
    of, options = result["conditions"], result["options"]
    pins = "vendor and load on one core, the gateway with its database or engine on the other" if of["pinned"] else "one core for all"
    rounds = f"{options['rounds']} rounds" if options["rounds"] > 1 else "one round, so without spread,"
    lines = [f"{of['date']}, commit {of['commit']}, {rounds} of {options['seconds']} s.", "",
             f"* {of['processor']}, {of['cores']} cores ({pins}), {of['memory']}, Linux {of['kernel']}, {of['disk']}",
             f"* fdatasync of 4 KiB, p50 and p99 in ms: before {of.get('sync')}, after {of.get('syncAfter')}; "
             f"load average before {of['load']:.2f}, after {of.get('loadAfter', 0):.2f}",
             *(f"* left out: {name}: {reason}" for name, reason in result["skipped"].items())]
    if len(set(result["measuredAt"].values())) > 1:
        lines += [f"* {kind}: {when}" for kind, when in result["measuredAt"].items()]
    versions = "; ".join(version for version in of["versions"].values())
    return "\n".join([*lines, f"* {versions}"])


def page(result):
    smoke = "**This is a smoke run of one short round, not a measurement.**\n\n" if result["options"]["quick"] else ""
    return f"{smoke}{measured(result)}\n\n### Conditions\n\n{conditions(result)}\n"


def write(result):
    text = PAGE.read_text()
    before, rest = text.split(BEGIN, 1)
    PAGE.write_text(f"{before}{BEGIN}\n{page(result)}{rest[rest.index(END):]}")
    if "single" in result:
        subprocess.run([OUT / "venv/bin/python", ROOT / "benches/side/plot.py", OUT / "result.json", PLOT], check=True)
