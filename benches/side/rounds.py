"""Single writes and reads: every gateway in turn, in a different order each round."""

import contextlib
import json
import pathlib
import shutil
import time

from .engines import Vendor
from .gateways import fresh
from .machine import OTHER_CORE, PEERS, Fault, Peak, needed, run, say

HERE = pathlib.Path(__file__).parent
CONNECTIONS = 32
# Requests a second under which the warm-up is longer.
SLOW = 1000
# Those without a target are measured in so many rounds only.
ROUNDS_OF_OTHERS = 2
OTHERS = ("direct", "nginx", "fastify", "fastapi")
READERS = ("bare", "sqlite", "postgres")


class Spent:
    """CPU and memory of a gateway and, apart from it, its engine: from its creation until `over`."""

    def __init__(self, gateway):
        self.parts = {"gateway": gateway.child, "engine": gateway.engine and gateway.engine.child}
        self.parts = {name: child for name, child in self.parts.items() if child}
        self.before = {name: child.cpu() for name, child in self.parts.items()}
        self.started = time.perf_counter()
        self.peaks = {name: Peak(child, 0.5) for name, child in self.parts.items()}
        for peak in self.peaks.values():
            peak.__enter__()

    def over(self, requests):
        """CPU in µs a request, busy cores, largest resident size in MiB."""
        took = time.perf_counter() - self.started
        spent = {name: child.cpu() - self.before[name] for name, child in self.parts.items()}
        for peak in self.peaks.values():
            peak.__exit__()
        cpu = {name: 1e6 * value / requests for name, value in spent.items()}
        return {"cpu": {**cpu, "all": sum(cpu.values())}, "busy": sum(spent.values()) / took,
                "loaded": {name: peak.value for name, peak in self.peaks.items()}}


def saturate(gateway, prefix, seconds, keyed=False, ids=""):
    command = [needed("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "wrk.lua",
               f"http://{gateway.address}", "--", prefix, "yes" if keyed else "no", ids]
    output = run(command, OTHER_CORE, timeout=seconds + 60)
    result = json.loads(output.split("RESULT ", 1)[1].splitlines()[0])
    if result["failed"] or not result["requests"]:
        raise Fault(f"{gateway.name}: {result['failed']} of {result['requests']} requests failed")
    return {"rate": result["requests"] / result["seconds"], **result}


def saturation(gateway, prefix, options, keyed=False, ids=""):
    """A warm-up, then the measurement: requests, their latency in µs, CPU and memory."""
    warm = saturate(gateway, f"{prefix}-warm", options.warm_up, keyed, ids)
    warmed = warm["requests"]
    if warm["rate"] < SLOW and options.warm_up > 1:
        # Slow ones in JavaScript have run too little code to be compiled.
        warmed += saturate(gateway, f"{prefix}-warmer", 2 * options.warm_up, keyed, ids)["requests"]
    spent = Spent(gateway) if gateway.child else None
    result = saturate(gateway, prefix, options.seconds, keyed, ids)
    return {**result, **(spent.over(result["requests"]) if spent else {}), "warmUp": warmed}


def fixed(gateway, prefix, rate, options, keyed=False, ids=""):
    """Latency in µs at a fixed rate, counted from when each request was due; CPU of all requests."""
    command = [PEERS / "load", "fixed", "--to", gateway.address, "--rate", rate, "--seconds", options.fixed_seconds,
               "--warm-up", options.warm_up / 4, "--connections", 16, "--prefix", prefix, "--keyed", "yes" if keyed else "no"]
    if ids:
        command += ["--ids", ids]
    spent = Spent(gateway) if gateway.child else None
    result = json.loads(run(command, OTHER_CORE, timeout=options.fixed_seconds + 120))
    result |= spent.over(result["requests"]) if spent else {}
    # If the load could not keep its rate, the latency is the load's.
    if result["achieved"] < 0.97 * rate:
        say(f"{gateway.name}: {result['achieved']:.0f}/s instead of {rate}/s; left out")
        return None
    return result


def fixed_rates(gateway, prefix, saturated, wanted, options, **kind):
    """The fixed rates a gateway can keep."""
    # What it put off under full load is not to be counted here.
    time.sleep(0.5)
    found = {str(rate): fixed(gateway, f"{prefix}-{rate}", rate, options, **kind) for rate in wanted if rate <= 0.8 * saturated}
    return {rate: result for rate, result in found.items() if result}


@contextlib.contextmanager
def vendor_and_place(gateway, base, latency=0):
    """A fresh vendor and a fresh directory for a gateway; both are removed afterwards, and the gateway is stopped."""
    vendor, place = Vendor(latency), fresh(base, gateway.name)
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
            parts = {"gateway": gateway.child, "engine": gateway.engine and gateway.engine.child}
            result["idle"] = {name: child.resident() for name, child in parts.items() if child}
        prefix = f"{options.mark}-{number}-{gateway.name}"
        keyed = result["keyed"] = saturation(gateway, f"{prefix}-k", options, keyed=True)
        wanted = (300,) if gateway.name in OTHERS else (100, 300)
        result["fixed"] = fixed_rates(gateway, f"{prefix}-f", keyed["rate"], wanted, options, keyed=True)
        answered = keyed["warmUp"] + keyed["requests"] + sum(one["requests"] for one in result["fixed"].values())
        seen = vendor.stats()["calls"]
        if seen < answered:
            raise Fault(f"{gateway.name}: {answered} writes got responses, the vendor saw {seen}")
        gateway.check(answered)
        return result


def reads(gateway, number, base, options):
    """One gateway's reads of one round; examgate with traces on."""
    with vendor_and_place(gateway, base) as (vendor, place):
        gateway.start(vendor, place, traces=True)
        ids = place / "ids"
        ids.write_text("\n".join(gateway.ids(200)) + "\n")
        prefix = f"{options.mark}-{number}-{gateway.name}-r"
        saturated = saturation(gateway, prefix, options, ids=str(ids))
        return {"reads": saturated, "fixed": fixed_rates(gateway, prefix, saturated["rate"], (2000,), options, ids=str(ids))}


def all_rounds(kind, gateways, base, options, chance):
    measure = {"single": single, "reads": reads}[kind]
    if kind == "reads":
        gateways = [gateway for gateway in gateways if gateway.name in READERS]
    rounds = []
    for number in range(options.rounds):
        order = [gateway for gateway in gateways if number < ROUNDS_OF_OTHERS or gateway.name not in OTHERS]
        chance.shuffle(order)
        results = {}
        for gateway in order:
            results[gateway.name] = measure(gateway, number, base, options)
            figure = results[gateway.name].get("keyed") or results[gateway.name]["reads"]
            say(f"{kind}, round {number + 1}: {gateway.label.strip('*')}: {figure['rate']:,.0f}/s")
        rounds.append({"order": [gateway.name for gateway in order], "results": results})
    return rounds
