"""What a kill does to writes that are at the vendor, and to their repeats."""

import collections
import json
import threading
import time

from .gateways import BEARER
from .machine import Fault, ask, say
from .rounds import vendor_and_place

WRITES, LATENCY, PAUSE = 20, 600, 4


def write(gateway, name, answers):
    body = {"connection": "startexam-main", "externalId": name, "email": f"{name}@example.com",
            "name": {"givenName": "Ines", "familyName": "Costa"}}
    headers = {**BEARER, "Content-Type": "application/json", "Idempotency-Key": name}
    try:
        status, text, _ = ask(gateway.address, "POST", "/candidates", json.dumps(body), headers, 30)
        document = json.loads(text)
        code = str(document.get("type", "")).rsplit("/", 1)[-1]
        answers.append(" ".join(filter(None, (str(status), code, f"`{document.get('outcome', '–')}`"))))
    except OSError:
        answers.append("no response")


def all_writes(gateway, prefix):
    """Threads that send the writes at once, and the list their answers go to."""
    answers = []
    threads = [threading.Thread(target=write, args=(gateway, f"{prefix}-{number}", answers)) for number in range(WRITES)]
    for thread in threads:
        thread.start()
    return threads, answers


def joined(threads, answers):
    for thread in threads:
        thread.join(40)
    if len(answers) != WRITES:
        raise Fault(f"{WRITES - len(answers)} writes got neither a response nor an error")
    return answers


def kill(gateway, base, mark):
    """Kills a gateway while all writes are at the vendor, starts it again and repeats them under their keys.

    Returns nothing if they were not all there."""
    with vendor_and_place(gateway, base, LATENCY) as (vendor, place):
        gateway.start(vendor, place)
        # The first requests of a process are slow, and all writes must be at the vendor at once.
        warm = joined(*all_writes(gateway, f"{mark}-{gateway.name}-warm"))
        again = joined(*all_writes(gateway, f"{mark}-{gateway.name}-warm"))
        if set(warm + again) != {"201 `applied`"} or vendor.stats()["calls"] != WRITES:
            raise Fault(f"{gateway.name}: {vendor.stats()['calls']} calls for {WRITES} keys; {collections.Counter(warm + again)}")
        vendor.reset()
        first = all_writes(gateway, f"{mark}-{gateway.name}")
        end = time.monotonic() + 10
        while vendor.stats()["calls"] < WRITES and time.monotonic() < end:
            time.sleep(0.005)
        gateway.kill()
        sent = vendor.stats()["calls"]
        lost = collections.Counter(joined(*first))
        if sent != WRITES or lost["no response"] != WRITES:
            say(f"{gateway.name}: killed too early or too late: {sent} calls, {dict(lost)}")
            return None
        gateway.again(place)
        time.sleep(PAUSE)
        repeats = joined(*all_writes(gateway, f"{mark}-{gateway.name}"))
        time.sleep(2 * LATENCY / 1000)
        return {"calls": vendor.stats()["calls"], "repeats": dict(collections.Counter(repeats))}


def all_kills(gateways, base, options):
    results = {}
    for gateway in gateways:
        if gateway.keeps != "nothing":
            tries = (kill(gateway, base, f"{options.mark}-{number}") for number in range(5))
            results[gateway.name] = next(filter(None, tries), None)
            if not results[gateway.name]:
                raise Fault(f"{gateway.name}: never killed while all writes were at the vendor")
            say(f"kill: {gateway.label.strip('*')}: {results[gateway.name]}")
    return results
