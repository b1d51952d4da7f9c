"""Bulk operations against the vendor's latency, its rate limit and an ideal; stores as they grow."""

import json
import math
import shutil
import subprocess
import time

from .engines import Vendor
from .gateways import BEARER, Examgate
from .machine import OTHER_CORE, PEERS, Fault, Peak, ask, run, say
from .rounds import saturation, vendor_and_place

CONNECTION = {"startexam": "startexam-main", "examtesting": "examtesting-main"}


def people(rows, first=0):
    return "".join(
        json.dumps({"externalId": f"row-{n}", "name": {"givenName": "Ines", "familyName": "Costa"},
                    "email": f"row-{n}@example.com"}, separators=(",", ":")) + "\n" for n in range(first, first + rows)).encode()


def bookings(rows):
    return "".join(json.dumps({"candidate": {"externalId": f"row-{n}"}, "assessment": "rust-101", "ifExists": "reuse"},
                              separators=(",", ":")) + "\n" for n in range(rows)).encode()


def bulk(gateway, path, body, rows, seconds=600):
    """Sends one bulk request and waits until its operation ends."""
    engine = gateway.engine and gateway.engine.child
    before, idle = [child.cpu() for child in (gateway.child, engine) if child], gateway.child.resident()
    start = time.perf_counter()
    with Peak(gateway.child, 0.02) as peak:
        status, answer, _ = ask(gateway.address, "POST", path, body,
                                {**BEARER, "Content-Type": "application/x-ndjson", "Prefer": "respond-async"}, seconds)
        accepted, accepted_peak = time.perf_counter() - start, peak.value
        if status != 202:
            raise Fault(f"a bulk request got {status}: {answer[:500]}")
        operation = json.loads(answer)["id"]
        end = time.monotonic() + seconds
        while True:
            status, answer, _ = ask(gateway.address, "GET", f"/operations/{operation}", headers=BEARER)
            state = json.loads(answer)
            if status == 200 and state["state"] == "completed":
                break
            if status != 200 or time.monotonic() > end:
                raise Fault(f"an operation did not end: {answer[:500]}")
            time.sleep(0.02)
        took = time.perf_counter() - start
    if state["progress"]["applied"] != rows:
        raise Fault(f"rows were not applied: {state['progress']}")
    spent = [child.cpu() - earlier for child, earlier in zip((gateway.child, engine), before)]
    return {"rows": rows, "accepted": accepted, "acceptedGrowth": accepted_peak - idle, "seconds": took,
            "drain": rows / (took - accepted), "cpu": [1e6 * value / rows for value in spent], "peak": peak.value}


def case(gateway, base, latency, path, body, rows, **connection):
    with vendor_and_place(gateway, base, latency) as (vendor, place):
        gateway.start(vendor, place, **connection)
        result = bulk(gateway, path, body, rows)
        gateway.check(rows, path[1:].split("/")[0])
        return {**result, "latency": latency, "stats": vendor.stats()}


def upload(vendor):
    return f"/candidates/bulk?connection={CONNECTION[vendor]}"


def ideal(rows, latency, in_flight, batch):
    return math.ceil(math.ceil(rows / batch) / in_flight) * latency / 1000


def all_bulks(binary, template, base, options):
    """Accepting and draining rows on both stores, and respecting a vendor's rate limit."""
    rows = 500 if options.quick else 20_000
    results = {"drain": [], "limit": []}
    for number in range(options.rounds):
        drained = {}
        for gateway in (Examgate("sqlite", "", binary), Examgate("postgres", "", binary, template)):
            result = case(gateway, base, 2, upload("examtesting"), people(rows), rows, max_in_flight=32)
            drained[gateway.name] = result
            say(f"bulk, round {number + 1}: {gateway.name}: {rows} rows accepted in {result['accepted']:.2f} s, {result['drain']:.0f} rows/s")
        results["drain"].append({"results": drained})
    seconds, rate = (2, 50) if options.quick else (20, 50)
    result = case(Examgate("sqlite", "", binary), base, 2, upload("examtesting"), people(rate * seconds), rate * seconds,
                  max_in_flight=32, requests_per_second=rate)
    stats = result["stats"]
    span = (stats["lastMicros"] - stats["firstMicros"]) / 1e6
    results["limit"].append({**result, "rate": rate, "used": (stats["calls"] - 1) / span / rate, "most": stats["mostInASecond"]})
    return results


def all_scales(binary, template, base, options):
    """Ideals of both vendors, and full stores: writes to them, and starting on them."""
    gateway = Examgate("sqlite", "", binary)
    results = {"latency": [], "bookings": [], "growth": []}
    rows, calls = (200, 4) if options.quick else (10_000, 20)
    for _ in range(options.rounds):
        result = case(gateway, base, 20, upload("examtesting"), people(rows), rows, max_in_flight=32)
        results["latency"].append({**result, "ideal": ideal(rows, 20, 32, 1)})
        say(f"scale: {rows} rows at 20 ms: {result['seconds']:.2f} s, ideal {results['latency'][-1]['ideal']:.2f} s")
    for in_flight in (1, 4):
        fake = Vendor(200)
        try:
            bare = json.loads(run([PEERS / "load", "bookings", "--to", fake.address, "--calls", calls, "--rows", 500,
                                   "--in-flight", in_flight], OTHER_CORE))["seconds"]
        finally:
            fake.end()
        result = case(gateway, base, 200, "/assignments/bulk?connection=startexam-main", bookings(500 * calls),
                      500 * calls, max_in_flight=in_flight, existing_registration="repeated")
        results["bookings"].append({**result, "inFlight": in_flight, "bare": bare})
        say(f"scale: bookings, {in_flight} in flight: {result['seconds']:.2f} s, bare {bare:.2f} s")
    results["growth"].append(growth(Examgate("postgres", "", binary, template), base, options))
    results["restart"] = restart(gateway, base, options)
    results["binary"] = stripped(binary, base)
    return results


def growth(gateway, base, options):
    """Keyed writes a second at 1,000 and at 100,000 records of one store."""
    sizes, stored, found = (200, 1_000) if options.quick else (1_000, 100_000), 0, {}
    with vendor_and_place(gateway, base) as (vendor, place):
        gateway.start(vendor, place)
        for size in sizes:
            rows = max(size - stored, 1)
            filled = bulk(gateway, upload("startexam"), people(rows, stored), rows)
            written = saturation(gateway, f"{options.mark}-growth-{size}", options, keyed=True)
            stored += rows + written["warmUp"] + written["requests"]
            found[str(size)] = written["rate"]
            say(f"scale: {gateway.name} at {size} records: {written['rate']:,.0f}/s")
        gateway.check(stored)
    return {"sizes": sizes, "rates": found, "filled": filled["drain"], "ratio": found[str(sizes[1])] / found[str(sizes[0])]}


def restart(gateway, base, options):
    rows = 1_000 if options.quick else 100_000
    with vendor_and_place(gateway, base) as (vendor, place):
        gateway.start(vendor, place, max_in_flight=32)
        filled = bulk(gateway, upload("startexam"), people(rows), rows)
        starts = []
        for _ in range(5):
            gateway.child.end()
            starts.append(gateway.again(place))
        return {"rows": rows, "starts": starts, "filled": filled["drain"]}


def stripped(binary, base):
    """Size of the stripped binary in MB."""
    copy = base / "stripped"
    shutil.copy(binary, copy)
    if shutil.which("strip"):
        subprocess.run(["strip", str(copy)], check=True, timeout=60)
    return copy.stat().st_size / 1e6
