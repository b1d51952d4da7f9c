"""Figures of a result, and the targets they are held against."""

import statistics


def at(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def values(rounds, name, *path):
    """One figure of a gateway, from every round that has it."""
    found = [at(one["results"].get(name), path) for one in rounds]
    return [value for value in found if value is not None]


def ratios(rounds, name, other, *path):
    """The ratio of two gateways' figures, each from one round."""
    pairs = [(at(one["results"].get(name), path), at(one["results"].get(other), path)) for one in rounds]
    return [mine / theirs for mine, theirs in pairs if mine and theirs]


def shown(found, digits=0, unit=1):
    """The median, minimum and maximum of all rounds."""
    if not found:
        return "–"
    low, high = min(found) / unit, max(found) / unit
    text = f"{statistics.median(found) / unit:,.{digits}f}"
    return text if len(found) == 1 else f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"


def targets(result):
    """Rows of what, target, measured, and whether the median meets it."""
    single, reads = result.get("single", []), result.get("reads", [])
    bulk, scale = result.get("bulk", {}), result.get("scale", {})
    rate, cpu = ("keyed", "rate"), ("keyed", "cpu", "all")
    rows = []

    def line(what, found, least=None, most=None, aim=None, digits=2, of=""):
        bound = f"≥ {least:g}" if most is None else f"≤ {most:g}"
        wanted = f"{bound}{of}" + (f" (aim {aim:g})" if aim is not None else "")
        middle = statistics.median(found) if found else None
        met = "not measured" if middle is None else "yes" if (middle >= least if most is None else middle <= most) else "**no**"
        rows.append([what, wanted, shown(found, digits), met])

    line("keyed writes/s, SQLite", ratios(single, "sqlite", "fastify-group", *rate), 0.65, aim=0.8,
         of=" × fastify + better-sqlite3, group commit")
    line("keyed writes/s, SQLite", ratios(single, "sqlite", "fastify-sqlite", *rate), 3.2, aim=4, of=" × the same, a commit each")
    line("keyed writes/s, SQLite", ratios(single, "sqlite", "restate", *rate), 6, of=" × Restate, one partition")
    line("keyed writes/s, SQLite", ratios(single, "sqlite", "dbos", *rate), 20, of=" × DBOS")
    line("CPU a keyed write, SQLite", ratios(single, "sqlite", "bare", *cpu), most=4, aim=3.5,
         of=" × axum + reqwest, which keeps nothing")
    for name in ("p50", "p99"):
        line(f"{name} at 300 writes/s, SQLite", ratios(single, "sqlite", "fastify-group", "fixed", "300", name), most=1,
             of=" × fastify + better-sqlite3, group commit")
    line("keyed writes/s, PostgreSQL", ratios(single, "postgres", "fastify-pg", *rate), 1.2, aim=1.5, of=" × fastify + pg")
    line("CPU a keyed write, gateway and database", ratios(single, "postgres", "fastify-pg", *cpu), most=0.8, aim=0.6,
         of=" × fastify + pg")
    line("bulk rows/s, PostgreSQL", ratios(bulk.get("drain", []), "postgres", "sqlite", "drain"), 0.6, aim=0.8, of=" × SQLite")
    line("keyed writes/s, PostgreSQL, at 100,000 records", [one["ratio"] for one in scale.get("growth", [])], 0.9,
         of=" × those at 1,000")
    line("CPU a read at 2,000/s, SQLite, traces on", ratios(reads, "sqlite", "bare", "fixed", "2000", "cpu", "all"), most=2.3,
         aim=2, of=" × axum's constant")
    line("10,000 ExamTesting rows, 20 ms, 32 in flight", [one["seconds"] / one["ideal"] for one in scale.get("latency", [])],
         most=1.15, of=" × ideal")
    for in_flight in (1, 4):
        line(f"10,000 StartExam bookings, 200 ms, {in_flight} in flight",
             [one["seconds"] / one["bare"] for one in scale.get("bookings", []) if one["inFlight"] == in_flight],
             most=1.3, of=" × the bare calls")
    line("a vendor's limit of 50/s, share used", [one["used"] for one in bulk.get("limit", [])], 0.98, digits=3)
    line("resident when idle, SQLite, MiB", values(single, "sqlite", "idle", "gateway"), most=25, digits=1)
    line("resident at saturation, SQLite, MiB", values(single, "sqlite", "keyed", "loaded", "gateway"), most=64, digits=1)
    line("start to ready with 100,000 candidates, ms", [1000 * v for v in scale["restart"]["starts"]] if scale else [],
         most=150, digits=0)
    line("stripped binary, MB", [scale["binary"]] if scale else [], most=27, digits=1)
    return rows
