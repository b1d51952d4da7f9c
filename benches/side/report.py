"""The report of a result: the table of targets, the measured tables, and the plot."""

import statistics
import subprocess

from .machine import OUT, ROOT

BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"
PAGE, PLOT = ROOT / "docs/PERFORMANCE.md", ROOT / "docs/performance.svg"


def values(result, kind, name, *path):
    """One figure of a gateway, from every round that has it."""
    found = []
    for one in result.get(kind, []):
        value = one["results"].get(name, {})
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(value)
    return found


def middle(found):
    return statistics.median(found) if found else None


def shown(found, digits=0, unit=1):
    """The median, minimum and maximum of all rounds."""
    if not found:
        return "–"
    low, high = min(found) / unit, max(found) / unit
    text = f"{middle(found) / unit:,.{digits}f}"
    return text if len(found) == 1 else f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"


def ratios(result, kind, path, name, other):
    """The ratio of two gateways' figures from the same round."""
    found = []
    for one in result.get(kind, []):
        pair = []
        for which, keys in ((name, path[0]), (other, path[1])):
            value = one["results"].get(which, {})
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            pair.append(value)
        if pair[0] and pair[1]:
            found.append(pair[0] / pair[1])
    return found


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
                      *("| " + " | ".join(row) + " |" for row in rows)])


def targets(result):
    """The targets, the measured values, and whether they were met."""
    rows = []

    def line(what, wanted, found, good, text=None, digits=2):
        value = middle(found)
        rows.append([what, wanted, text or shown(found, digits),
                     "not measured" if value is None else "yes" if good(value) else "**no**"])

    keyed = (("keyed", "rate"), ("keyed", "rate"))
    for other, wanted, least in (("fastify", "≥ 0.7 × fastify (aim 1.0)", 0.7), ("aiohttp", "≥ 3 × FastAPI + aiohttp", 3),
                                 ("httpx", "≥ 15 × FastAPI + httpx", 15), ("bare", "≥ 0.33 × axum + reqwest (aim 0.45)", 0.33)):
        line("durable write at saturation, SQLite", wanted, ratios(result, "single", keyed, "sqlite", other),
             lambda v, least=least: v >= least)
    line("read at saturation, traces on", "≥ 0.5 × axum's constant",
         ratios(result, "reads", (("reads", "rate"),) * 2, "sqlite", "bare"), lambda v: v >= 0.5)
    found = [v / 1000 for v in values(result, "reads", "sqlite", "fixed", "2000", "addedP99")]
    line("read at 2,000/s, p99 added, ms", "≤ 1", found, lambda v: v <= 1)
    nginx = middle(values(result, "single", "nginx", "fixed", "300", "addedP50"))
    half = [v / 1000 for v in values(result, "single", "sqlite", "fixed", "300", "addedP50")]
    tail = [v / 1000 for v in values(result, "single", "sqlite", "fixed", "300", "addedP99")]
    line("durable write at 300/s, p50 added, ms", "≤ 0.8" + (f", or ≤ 4 × nginx's {nginx / 1000:.2f}" if nginx else ""), half,
         lambda v: v <= 0.8 or (nginx and v * 1000 <= 4 * nginx))
    line("durable write at 300/s, p99 added, ms", "≤ 3", tail, lambda v: v <= 3)
    drains = [one for one in result.get("bulk", {}).get("drain", []) if one["gateway"] == "sqlite"]
    rows_of = f"{drains[0]['rows']:,} rows" if drains else "50,000 rows"
    line(f"bulk, {rows_of} accepted, s", "≤ 1", [one["accepted"] for one in drains], lambda v: v <= 1)
    line("its growth until then, MiB", "≤ 32", [one["acceptedGrowth"] for one in drains], lambda v: v <= 32, digits=1)
    line("drained, vendor of 2 ms, 32 in flight, rows/s", "≥ 3,000", [one["drain"] for one in drains], lambda v: v >= 3000,
         digits=0)
    limits = result.get("bulk", {}).get("limit", [])
    line("a vendor's rate limit, share used", "≥ 0.98", [one["used"] for one in limits], lambda v: v >= 0.98, digits=3)
    line("most calls in any second over the limit", "≤ 1", [one["most"] / one["rate"] for one in limits], lambda v: v <= 1)
    scale = result.get("scale", {})
    line("ExamTesting rows, 20 ms, 32 in flight", "≤ 1.15 × ideal",
         [one["seconds"] / one["ideal"] for one in scale.get("latency", []) if one["latency"] == 20], lambda v: v <= 1.15)
    for in_flight in (1, 4):
        line(f"StartExam bookings, 200 ms, {in_flight} in flight", "≤ 1.3 × the bare calls",
             [one["seconds"] / one["bare"] for one in scale.get("bookings", []) if one["inFlight"] == in_flight],
             lambda v: v <= 1.3)
    line("resident when idle, MiB", "≤ 25", values(result, "single", "sqlite", "idle"), lambda v: v <= 25, digits=1)
    line("resident under full load, MiB", "≤ 64", values(result, "single", "sqlite", "keyed", "loaded"), lambda v: v <= 64,
         digits=1)
    again = scale.get("restart")
    line(f"start to ready with {again['rows']:,} candidates, ms" if again else "start to ready on a full store, ms", "≤ 150",
         [1000 * v for v in again["starts"]] if again else [], lambda v: v <= 150, digits=0)
    line("stripped binary, MB", "≤ 25", [scale["binary"]] if scale else [], lambda v: v <= 25, digits=1)
    return table(["what", "target", "measured", "met"], rows)


def measured(result):
    parts, labels = [], result["labels"]
    if "single" in result:
        rows = []
        for name, label in labels.items():
            get = lambda *path, name=name: values(result, "single", name, *path)  # noqa: E731
            rows.append([label, shown(get("keyed", "rate")), shown(get("plain", "rate")), shown(get("keyed", "cpuPer1000"), 3),
                         shown(get("keyed", "busy"), 2), shown(get("idle"), 1), shown(get("keyed", "loaded"), 1),
                         shown(get("start"), 0, 0.001)])
        parts.append("### Single writes\n\n" + table(
            ["between caller and vendor", "requests/s", "without key", "CPU s / 1,000", "busy cores", "idle MiB", "loaded MiB",
             "start ms"], rows))
        parts.append("### Latency added to a write, ms\n\n" + latencies(result, "single", ("300", "2000", "half")))
    if "reads" in result:
        rows = [[label, shown(values(result, "reads", name, "reads", "rate")),
                 shown(values(result, "reads", name, "reads", "cpuPer1000"), 3)] for name, label in labels.items()]
        parts.append("### Reads\n\n" + table(["", "requests/s", "CPU s / 1,000"], rows))
        parts.append("### Latency added to a read, ms\n\n" + latencies(result, "reads", ("2000", "half")))
    if "bulk" in result:
        rows = [[labels[one["gateway"]], f"{one['rows']:,}", f"{one['accepted']:.2f}", f"{one['acceptedGrowth']:.1f}",
                 f"{one['drain']:,.0f}", f"{one['cpu']:.2f}", f"{one['peak']:.1f}"] for one in result["bulk"]["drain"]]
        parts.append("### Bulk\n\n" + table(["", "rows", "accepted s", "growth MiB", "rows/s", "CPU s", "peak MiB"], rows))
    if "scale" in result:
        rows = [[one["vendor"], f"{one['rows']:,}", f"{one['seconds']:.2f}", f"{one['cpu']:.2f}", f"{one['peak']:.1f}"]
                for one in result["scale"]["rows"]]
        parts.append("### Rows, vendor without latency\n\n" + table(["vendor", "rows", "s", "CPU s", "peak MiB"], rows))
        rows = [[str(one["latency"]), f"{one['rows']:,}", f"{one['seconds']:.2f}", f"{one['ideal']:.2f}"]
                for one in result["scale"]["latency"]]
        parts.append("### The vendor's latency, 32 in flight\n\n" + table(["ms", "rows", "s", "ideal s"], rows))
    return "\n\n".join(parts)


def latencies(result, kind, names):
    rows = []
    for gateway, label in result["labels"].items():
        if gateway != "direct":
            rows.append([label, *(shown(values(result, kind, gateway, "fixed", name, which), 2, 1000)
                                  for name in names for which in ("addedP50", "addedP99"))])
    heads = {"half": "half load"}
    return table(["", *(f"{heads.get(name, name + '/s')}, {which}" for name in names for which in ("p50", "p99"))], rows)


def conditions(result):
    of, options = result["conditions"], result["options"]
    pins = "vendor, load and PostgreSQL on one core, the gateway on the other" if of["pinned"] else "one core for all"
    quick = " **This is a smoke run of one short round, not a measurement.**" if options["quick"] else ""
    rounds = f"{options['rounds']} rounds" if options["rounds"] > 1 else "one round, so without spread,"
    lines = [f"{of['date']}, commit {of['commit']}, {rounds} of {options['seconds']} s.{quick}", "",
             f"* {of['processor']}, {of['cores']} cores ({pins}), {of['memory']}, Linux {of['kernel']}, stores on {of['disk']}",
             f"* fdatasync of 4 KiB, p50 and p99 in ms: before {of.get('sync')}, after {of.get('syncAfter')}",
             f"* load average before {of['load']:.2f}, after {of.get('loadAfter', 0):.2f}"]
    return "\n".join(lines + [f"* {name}: {version}" for name, version in of["versions"].items()])


def page(result):
    plot = "![requests a second and CPU for each gateway](performance.svg)\n\n" if "single" in result else ""
    return (f"{conditions(result)}\n\n### Targets\n\n{targets(result)}\n\n{plot}{measured(result)}\n")


def write(result):
    text = PAGE.read_text()
    before, rest = text.split(BEGIN, 1)
    PAGE.write_text(f"{before}{BEGIN}\n{page(result)}{rest[rest.index(END):]}")
    if "single" in result:
        subprocess.run([OUT / "venv/bin/python", ROOT / "benches/side/plot.py", OUT / "result.json", PLOT], check=True)
