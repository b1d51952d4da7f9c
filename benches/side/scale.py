"""Bulk operations: the cost of a number of rows, against the vendor's latency, its rate limit and an ideal."""

import json
import math
import shutil
import subprocess
import time

from .gateways import BEARER, Examgate, Vendor, fresh
from .machine import OTHER_CORE, PEERS, Fault, Peak, ask, run, say

CONNECTION = {"startexam": "startexam-main", "examtesting": "examtesting-main"}
BATCH = {"startexam": 500, "examtesting": 1}


def people(rows):
    return "".join(
        json.dumps({"externalId": f"row-{n}", "name": {"givenName": "Ines", "familyName": "Costa"},
                    "email": f"row-{n}@example.com"}, separators=(",", ":")) + "\n" for n in range(rows)).encode()


def bookings(rows):
    return "".join(json.dumps({"candidate": {"externalId": f"row-{n}"}, "assessment": "rust-101", "ifExists": "reuse"},
                              separators=(",", ":")) + "\n" for n in range(rows)).encode()


def bulk(gateway, path, body, rows, seconds=600):
    """Sends one bulk request and waits until its operation ends."""
    before, idle, start = gateway.child.cpu(), gateway.child.resident(), time.perf_counter()
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
            time.sleep(0.01)
        took = time.perf_counter() - start
    if state["progress"]["applied"] != rows:
        raise Fault(f"rows were not applied: {state['progress']}")
    return {"rows": rows, "accepted": accepted, "acceptedGrowth": accepted_peak - idle, "seconds": took,
            "drain": rows / (took - accepted), "cpu": gateway.child.cpu() - before, "peak": peak.value, "idle": idle}


def case(gateway, base, latency, path, body, rows, **connection):
    vendor, place = Vendor(latency), fresh(base, gateway.name)
    try:
        gateway.start(vendor, place, **connection)
        result = bulk(gateway, path, body, rows)
        return {**result, "latency": latency, "stats": vendor.stats()}
    finally:
        gateway.end()
        vendor.end()
        shutil.rmtree(place, ignore_errors=True)


def upload(vendor):
    return f"/candidates/bulk?connection={CONNECTION[vendor]}"


def ideal(rows, latency, in_flight, batch):
    return math.ceil(math.ceil(rows / batch) / in_flight) * latency / 1000


def all_bulks(binary, postgres, base, options):
    """Accepting and draining rows, and respecting a vendor's rate limit."""
    rows = 2_000 if options.quick else 50_000
    results = {"accept": [], "drain": [], "limit": []}
    for number in range(options.rounds):
        for gateway in (Examgate("sqlite", "", binary), Examgate("postgres", "", binary, postgres)):
            result = case(gateway, base, 2, upload("examtesting"), people(rows), rows, max_in_flight=32)
            results["drain"].append({"gateway": gateway.name, **result})
            say(f"bulk, round {number + 1}: {gateway.name}: {rows} rows accepted in {result['accepted']:.2f} s, {result['drain']:.0f} rows/s")
    seconds, rate = (5, 50) if options.quick else (60, 50)
    result = case(Examgate("sqlite", "", binary), base, 2, upload("examtesting"), people(rate * seconds), rate * seconds,
                  max_in_flight=32, requests_per_second=rate)
    stats = result["stats"]
    span = (stats["lastMicros"] - stats["firstMicros"]) / 1e6
    results["limit"].append({**result, "rate": rate, "used": (stats["calls"] - 1) / span / rate, "most": stats["mostInASecond"]})
    return results


def all_scales(binary, base, options):
    """Rows, latencies, ideals, and starting on a full store."""
    sizes = (200, 1_000) if options.quick else (1_000, 10_000, 100_000)
    gateway = Examgate("sqlite", "", binary)
    results = {"rows": [], "latency": [], "ideal": [], "bookings": []}
    for vendor in ("startexam", "examtesting"):
        for rows in sizes:
            result = case(gateway, base, 0, upload(vendor), people(rows), rows, max_in_flight=32)
            results["rows"].append({"vendor": vendor, **result})
            say(f"scale: {vendor}, {rows} rows: {result['seconds']:.2f} s, CPU {result['cpu']:.2f} s, {result['peak']:.1f} MiB")
    rows = 500 if options.quick else 10_000
    for number in range(options.rounds):
        for latency in (0, 20, 200) if number == 0 else (20,):
            some = min(rows, 2_000) if latency == 200 else rows
            result = case(gateway, base, latency, upload("examtesting"), people(some), some, max_in_flight=32)
            results["latency"].append({"vendor": "examtesting", **result, "ideal": ideal(some, latency, 32, 1)})
            say(f"scale: latency {latency} ms, {some} rows: {result['seconds']:.2f} s")
    calls = 4 if options.quick else 20
    for in_flight in (1, 4):
        for _ in range(options.rounds):
            fake = Vendor(200)
            try:
                bare = json.loads(run([PEERS / "load", "bookings", "--to", fake.address, "--calls", calls, "--rows", 500,
                                       "--in-flight", in_flight], OTHER_CORE))["seconds"]
            finally:
                fake.end()
            result = case(gateway, base, 200, "/assignments/bulk?connection=startexam-main", bookings(500 * calls),
                          500 * calls, max_in_flight=in_flight, existing_registration="repeated")
            results["bookings"].append({**result, "inFlight": in_flight, "bare": bare, "calls": result["stats"]["calls"]})
            say(f"scale: bookings, {in_flight} in flight: {result['seconds']:.2f} s, bare {bare:.2f} s, {result['stats']['calls']} calls")
    results["restart"] = restart(gateway, base, options)
    results["binary"] = stripped(binary, base)
    return results


def restart(gateway, base, options):
    rows = 1_000 if options.quick else 100_000
    vendor, place = Vendor(), fresh(base, gateway.name)
    try:
        gateway.start(vendor, place, max_in_flight=32)
        bulk(gateway, upload("startexam"), people(rows), rows)
        starts = []
        for _ in range(5):
            gateway.end()
            starts.append(gateway.again(place))
        return {"rows": rows, "starts": starts, "idle": gateway.child.resident()}
    finally:
        gateway.end()
        vendor.end()
        shutil.rmtree(place, ignore_errors=True)


def stripped(binary, base):
    """Size of the stripped binary in MB."""
    copy = base / "stripped"
    shutil.copy(binary, copy)
    if shutil.which("strip"):
        subprocess.run(["strip", str(copy)], check=True, timeout=60)
    return copy.stat().st_size / 1e6
