"""The figures of a result in sentences; one whose figures were not measured is left out."""

import statistics

from .targets import ratios, values


def median(found, digits=0):
    return f"{statistics.median(found):,.{digits}f}"


def against(rounds, name, others, *path):
    """The factors between a gateway and others, in words."""
    found = [(ratios(rounds, name, other, *path), text) for other, text in others]
    return [f"{median(ratio, 1 if statistics.median(ratio) >= 10 else 2)} × {text}" for ratio, text in found if ratio]


def listed(parts):
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def of_writes(rounds):
    rate, cpu = ("keyed", "rate"), ("keyed", "cpu")
    peers = {"sqlite": [("fastify-group", "fastify + better-sqlite3 with group commit"), ("fastify-sqlite", "the same with a commit each"),
                        ("restate", "Restate (one partition)"), ("dbos", "DBOS")],
             "postgres": [("fastify-pg", "fastify + pg"), ("fastapi-pg", "FastAPI + asyncpg"), ("dbos", "DBOS")]}
    lines = []
    for name, store, where in (("sqlite", "SQLite", "one core"), ("postgres", "PostgreSQL", "one core, which the database shares,")):
        if not values(rounds, name, *rate):
            continue
        parts = against(rounds, name, peers[name], *rate)
        spent = median(values(rounds, name, *cpu, "gateway"))
        engine = values(rounds, name, *cpu, "engine")
        spent += f" µs of CPU and {median(engine)} µs of the database's" if engine else " µs of CPU"
        lines.append(f"On {store}, {where} answers **{median(values(rounds, name, *rate))} keyed writes a second**, at {spent} each"
                     + (f": {listed(parts)}." if parts else "."))
    kept = against(rounds, "sqlite", [("bare", "the CPU of a gateway in axum + reqwest that keeps nothing")], *cpu, "all")
    if kept:
        lines.append(f"With sealing, audit record, log line and both commits, a write on SQLite costs {kept[0]}.")
    for name, store in (("sqlite", "SQLite"), ("postgres", "PostgreSQL")):
        late = [values(rounds, name, "fixed", "300", which) for which in ("p50", "p99")]
        if all(late):
            lines.append(f"At 300 writes a second on {store}, half are answered within {median([v / 1000 for v in late[0]], 2)} ms, "
                         f"99 % within {median([v / 1000 for v in late[1]], 1)} ms, from when they were due.")
    return lines


def of_kills(kills, labels, writes):
    again = [labels[name].strip("*") for name, one in kills.items() if one["calls"] > writes]
    once = [name for name, one in kills.items() if one["calls"] == writes]
    lines = []
    if {"sqlite", "postgres"} & set(once):
        lines.append(f"Killed while {writes} writes were at the vendor and asked again under their keys, examgate sent none a second time.")
    if again:
        lines.append(f"{listed(again)}, as they come, sent them again.")
    return [" ".join(lines)] if lines else []


def of_rows(result):
    drains, scale = result.get("bulk", {}).get("drain", []), result.get("scale", {})
    parts = [f"{median(values(drains, name, 'drain'))} rows a second on {store}"
             for name, store in (("sqlite", "SQLite"), ("postgres", "PostgreSQL")) if values(drains, name, "drain")]
    lines = [f"In bulk, one row a call (ExamTesting): {listed(parts)}."] if parts else []
    if scale:
        lines.append(f"In bulk, 500 rows a call (StartExam): {scale['restart']['filled']:,.0f} rows a second on SQLite, "
                     f"{median([one['filled'] for one in scale['growth']])} on PostgreSQL.")
    return lines


def of_reads(rounds):
    cpu = values(rounds, "sqlite", "fixed", "2000", "cpu", "all")
    ratio = against(rounds, "sqlite", [("bare", "axum answering a constant at the same rate")], "fixed", "2000", "cpu", "all")
    return [f"At 2,000 reads a second, traces on, a read costs {median(cpu)} µs of CPU, {ratio[0]}."] if ratio else []


def sentences(result, writes):
    return [*of_writes(result.get("single", [])), *of_kills(result.get("kill", {}), result["labels"], writes), *of_rows(result),
            *of_reads(result.get("reads", []))]
