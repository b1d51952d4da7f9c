"""Single writes and reads: every gateway in turn, in a different order each round."""

import contextlib
import json
import pathlib
import shutil
import time

from .gateways import Vendor, fresh
from .machine import OTHER_CORE, OUT, PEERS, Fault, Peak, needed, run, say

HERE = pathlib.Path(__file__).parent
CONNECTIONS = 32


def saturate(gateway, prefix, seconds, keyed=False, ids=""):
    command = [needed("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "wrk.lua",
               f"http://{gateway.address}", "--", prefix, "yes" if keyed else "no", ids]
    output = run(command, OTHER_CORE, timeout=seconds + 60)
    result = json.loads(output.split("RESULT ", 1)[1].splitlines()[0])
    if result["failed"] or not result["requests"]:
        raise Fault(f"{gateway.name}: {result['failed']} of {result['requests']} requests failed")
    return result


def saturation(gateway, prefix, options, keyed=False, ids=""):
    """A warm-up, then the measurement: requests, CPU of the gateway's whole tree, largest resident size."""
    saturate(gateway, f"{prefix}-warm", options.warm_up, keyed, ids)
    if gateway.child is None:
        result = saturate(gateway, prefix, options.seconds, keyed, ids)
        return {"rate": result["requests"] / result["seconds"], "requests": result["requests"], "p50": result["p50"], "p99": result["p99"]}
    before = gateway.child.cpu()
    with Peak(gateway.child) as peak:
        result = saturate(gateway, prefix, options.seconds, keyed, ids)
    cpu = gateway.child.cpu() - before
    return {
        "rate": result["requests"] / result["seconds"], "requests": result["requests"], "p50": result["p50"], "p99": result["p99"],
        "cpuPer1000": 1000 * cpu / result["requests"], "busy": cpu / result["seconds"], "loaded": peak.value,
    }


def fixed(address, prefix, rate, options, keyed=False, ids=""):
    command = [PEERS / "load", "fixed", "--to", address, "--rate", rate, "--seconds", options.fixed_seconds, "--warm-up",
               options.warm_up / 2, "--connections", 16, "--prefix", prefix, "--keyed", "yes" if keyed else "no"]
    if ids:
        command += ["--ids", ids]
    return json.loads(run(command, OTHER_CORE, timeout=options.fixed_seconds + 120))


def kept(result):
    return result["achieved"] >= 0.97 * result["rate"]


def rates(gateway, vendor, prefix, saturated, options, wanted, keyed=False, ids=""):
    """Latency at fixed rates; right after each, the same rate without a gateway, to be subtracted."""
    answer = {}
    half = saturated / 2
    for name, rate in [*((str(rate), rate) for rate in wanted), ("half", round(half))]:
        if rate > 0.8 * saturated:
            continue
        through = fixed(gateway.address, f"{prefix}-{name}", rate, options, keyed, ids)
        direct = fixed(vendor.address, f"{prefix}-{name}-direct", rate, options, keyed, ids)
        answer[name] = {**through, "directP50": direct["p50"], "directP99": direct["p99"],
                        "kept": kept(through) and kept(direct)}
        # If the load could not keep its rate, latency measures the load: keep such figures in the result only.
        if answer[name]["kept"]:
            answer[name] |= {"addedP50": through["p50"] - direct["p50"], "addedP99": through["p99"] - direct["p99"]}
    return answer


@contextlib.contextmanager
def vendor_and_place(gateway, base):
    """A fresh vendor and a fresh directory for a gateway; both are removed afterwards, and the gateway is stopped."""
    vendor, place = Vendor(), fresh(base, gateway.name)
    try:
        yield vendor, place
        # Check again, for rejections since the last check.
        vendor.stats()
    finally:
        gateway.end()
        vendor.end()
        shutil.rmtree(place, ignore_errors=True)


def single(gateway, number, base, options):
    """One gateway's writes of one round."""
    with vendor_and_place(gateway, base) as (vendor, place):
        result = {"start": gateway.start(vendor, place)}
        if gateway.child:
            time.sleep(1)
            result["idle"] = gateway.child.resident()
        prefix = f"{options.mark}-{number}-{gateway.name}"
        result["keyed"] = saturation(gateway, f"{prefix}-k", options, keyed=True)
        if gateway.durable:
            result["plain"] = saturation(gateway, f"{prefix}-p", options)
        answered = sum(result[kind]["requests"] for kind in ("keyed", "plain") if kind in result)
        seen = vendor.stats()["calls"]
        if seen < answered:
            raise Fault(f"{gateway.name}: {answered} writes got responses, the vendor saw {seen}")
        if gateway.child:
            result["fixed"] = rates(gateway, vendor, f"{prefix}-f", result["keyed"]["rate"], options, (300, 2000), keyed=True)
        return result


def reads(gateway, number, base, options):
    """One gateway's reads of one round; examgate with traces on."""
    with vendor_and_place(gateway, base) as (vendor, place):
        gateway.start(vendor, place, traces=True)
        ids = place / "ids"
        ids.write_text("\n".join(gateway.ids(200)) + "\n")
        prefix = f"{options.mark}-{number}-{gateway.name}-r"
        result = {"reads": saturation(gateway, prefix, options, ids=str(ids))}
        if gateway.child:
            result["fixed"] = rates(gateway, vendor, prefix, result["reads"]["rate"], options, (2000,), ids=str(ids))
        return result


def all_rounds(kind, gateways, base, options, chance):
    measure = {"single": single, "reads": reads}[kind]
    rounds = []
    for number in range(options.rounds):
        order = gateways[:]
        chance.shuffle(order)
        results = {}
        for gateway in order:
            results[gateway.name] = measure(gateway, number, base, options)
            figure = results[gateway.name].get("keyed") or results[gateway.name]["reads"]
            say(f"{kind}, round {number + 1}: {gateway.label}: {figure['rate']:.0f}/s")
        rounds.append({"order": [gateway.name for gateway in order], "results": results})
    return rounds
