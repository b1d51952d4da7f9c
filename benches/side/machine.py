"""Child processes on their cores, their resource use, and the machine. No process outlives the run."""

import atexit
import glob
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target" / "bench"
PEERS = OUT / "peers" / "release"
CORES = sorted(os.sched_getaffinity(0))
# The gateway alone on one core; everything else, which in production runs on other machines, on the other.
GATEWAY_CORE, OTHER_CORE = ({CORES[1]}, {CORES[0]}) if len(CORES) > 1 else (set(CORES), set(CORES))
TICK = os.sysconf("SC_CLK_TCK")


class Fault(Exception):
    """An error that invalidates the figures; it ends the run."""


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Child:
    """A process that ends with the run."""

    alive = []

    def __init__(self, command, cores, log, env=None, cwd=None, stop=signal.SIGTERM, output=True):
        self.command, self.stop = [str(part) for part in command], stop
        self.log = pathlib.Path(log)
        self.errors = open(self.log, "ab")
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE if output else subprocess.DEVNULL, stderr=self.errors, stdin=subprocess.DEVNULL, cwd=cwd,
            env={**os.environ, **(env or {})}, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        self.pid = self.process.pid
        Child.alive.append(self)

    def first_line(self, seconds=20):
        """The first line on stdout; later output is discarded so that the pipe never fills."""
        lines = []

        def read():
            lines.append(self.process.stdout.readline().decode().strip())
            for _ in self.process.stdout:
                pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        end = time.monotonic() + seconds
        while not lines and time.monotonic() < end:
            time.sleep(0.0005)
        if not lines or not lines[0]:
            raise Fault(f"{self.command[0]} printed nothing; {self.log}:\n{self.log.read_text(errors='replace')[-2000:]}")
        return lines[0]

    def end(self):
        if self in Child.alive:
            Child.alive.remove(self)
        if self.process.poll() is None:
            self.process.send_signal(self.stop)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self.errors.close()

    def tree(self):
        """The process and all its descendants."""
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for file in glob.glob(f"/proc/{pid}/task/*/children"):
                try:
                    left.extend(int(child) for child in pathlib.Path(file).read_text().split())
                except OSError:
                    pass
        return found

    def cpu(self):
        """CPU seconds so far, of the whole tree and of the children that have ended."""
        spent = 0.0
        for pid in self.tree():
            try:
                # Linux's clock of another process's CPU time, in nanoseconds (clock_getcpuclockid(3)).
                spent += time.clock_gettime((~pid << 3) | 2)
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                spent += (int(fields[13]) + int(fields[14])) / TICK
            except OSError:
                pass
        return spent

    def resident(self):
        """MiB of memory of the whole tree; shared pages count proportionally (PSS)."""
        kib = 0
        for pid in self.tree():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                kib += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
            except (OSError, AttributeError):
                pass
        return kib / 1024


def end_all():
    for child in reversed(Child.alive[:]):
        child.end()


atexit.register(end_all)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(1))


class Peak:
    """The largest resident size while the block runs."""

    def __init__(self, child, every=0.1):
        self.child, self.every, self.value, self.done = child, every, child.resident(), threading.Event()

    def __enter__(self):
        def watch():
            while not self.done.wait(self.every):
                self.value = max(self.value, self.child.resident())
        self.thread = threading.Thread(target=watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.value = max(self.value, self.child.resident())


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def ask(address, method, path, body=None, headers=None, timeout=60):
    """Status, body and headers of one request."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def ready(address, path, child, seconds=30):
    """Seconds from the child's start to its first 2xx."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ask(address, "GET", path)[0] < 300:
                return time.perf_counter() - child.started
        except OSError:
            pass
        if child.process.poll() is not None:
            break
        time.sleep(0.002)
    raise Fault(f"{child.command[0]} is not ready; {child.log}:\n{child.log.read_text(errors='replace')[-2000:]}")


def run(command, cores, timeout=600, env=None, cwd=None):
    """The output of a command that must succeed within its time-out."""
    child = Child(command, cores, OUT / "commands.log", env=env, cwd=cwd)
    try:
        output = child.process.communicate(timeout=timeout)[0].decode()
    except subprocess.TimeoutExpired as error:
        raise Fault(f"{command[0]} took more than {timeout} s") from error
    finally:
        child.end()
    if child.process.returncode:
        tail = child.log.read_text(errors="replace")[-2000:]
        raise Fault(f"{' '.join(map(str, command))[:300]}: exit code {child.process.returncode}\n{output[-1000:]}\n{tail}")
    return output


def needed(program, package):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise Fault(f"{program} is missing; Debian has it in the package {package}")
    return found


def postgres_programs():
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    places += [str(pathlib.Path(shutil.which("postgres") or "/").resolve().parent)]
    for place in places:
        if os.path.exists(f"{place}/initdb") and os.path.exists(f"{place}/postgres"):
            return pathlib.Path(place)
    raise Fault("PostgreSQL is missing; Debian has it in the package postgresql")


def version(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "?"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "?"


def sync_millis():
    """Time this disk takes to sync 4 KiB (fdatasync): median and 99th percentile of 200, in ms."""
    path, taken = OUT / "sync-probe", []
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        for _ in range(200):
            os.write(file, b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(file)
            taken.append(1000 * (time.perf_counter() - start))
    finally:
        os.close(file)
        path.unlink()
    taken.sort()
    return [round(taken[100], 2), round(taken[197], 2)]


def conditions(binary):
    """The conditions of the measurement."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1))
    done = subprocess.run(["df", "--output=fstype", str(OUT)], capture_output=True, text=True, check=False)
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    python, sources = OUT / "venv/bin/python", ROOT / "benches/peers"
    packages = version(str(python), "-c",
                       "from importlib.metadata import version as v;print(', '.join(n+' '+v(n) for n in "
                       "('fastapi','uvicorn','uvloop','httptools','pydantic','aiohttp','asyncpg')))")
    lock = (sources / "bare/Cargo.lock").read_text()
    found = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    node = {}
    for name in ("fastify", "dbos", "restate"):
        node |= json.loads((sources / name / "package.json").read_text())["dependencies"]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "processor": cpu.group(1) if cpu else platform.processor() or platform.machine(),
        "cores": len(CORES),
        "pinned": len(CORES) > 1,
        "memory": f"{memory / 2**20:.0f} GiB",
        "kernel": ".".join(platform.release().split(".")[:2]),
        "disk": (done.stdout.split() or ["?"])[-1],
        "sync": sync_millis(),
        "commit": commit.stdout.strip() or "?",
        "load": os.getloadavg()[0],
        "versions": {
            "examgate": version(str(binary), "--version"),
            "rustc": version("rustc", "--version"),
            "bare": ", ".join(f"{name} {found[name]}" for name in ("axum", "reqwest", "hyper", "tokio")),
            "node": f"Node.js {version('node', '--version')}",
            "npm": ", ".join(f"{name} {number}" for name, number in node.items()),
            "Python": version(str(python), "--version"),
            "PyPI": packages,
            "nginx": version(needed("nginx", "nginx-light"), "-v").removeprefix("nginx version: "),
            "wrk": " ".join(version("wrk", "-v").split()[:2]),
            "PostgreSQL": version(str(postgres_programs() / "postgres"), "--version"),
        },
    }
