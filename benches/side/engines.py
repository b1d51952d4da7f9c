"""The fake vendor, and what gateways keep their writes in: PostgreSQL and Restate. A gateway's engine has its core."""

import json
import os
import pwd
import signal
import subprocess
import time

from .machine import GATEWAY_CORE, OTHER_CORE, OUT, PEERS, ROOT, Child, Fault, ask, free_port, postgres_programs, ready, run


class Vendor:
    """The fake vendor, on the core that the gateway does not use."""

    def __init__(self, latency=0):
        self.child = Child([PEERS / "vendor", "--latency-ms", latency], OTHER_CORE, OUT / "vendor.log")
        self.address = self.child.first_line()

    def stats(self):
        stats = json.loads(ask(self.address, "GET", "/stats")[1])
        if stats["refused"] or stats["malformed"]:
            raise Fault(f"the vendor rejected calls: {stats}")
        return stats

    def reset(self):
        ask(self.address, "POST", "/reset")

    def end(self):
        self.child.end()


class PostgresTemplate:
    """An empty database cluster, made once; each gateway gets a server on a copy of its own."""

    def __init__(self, place):
        self.place, self.programs, self.prefix = place, postgres_programs(), []
        place.mkdir()
        if os.getuid() == 0:
            # The server refuses to run as root.
            user = next(name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()})
            entry = pwd.getpwnam(user)
            os.chown(place, entry.pw_uid, entry.pw_gid)
            self.prefix = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        run([*self.prefix, self.programs / "initdb", "-D", place / "data", "-U", "examgate", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8"], OTHER_CORE, cwd=place)


class Postgres:
    """A durable PostgreSQL with its defaults, on the gateway's core."""

    DURABILITY = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

    def __init__(self, template, place):
        self.template = template
        subprocess.run(["cp", "-a", str(template.place), str(place / "postgres")], check=True)
        home = place / "postgres"
        self.port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.DURABILITY}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*template.prefix, template.programs / "postgres", "-D", home / "data", "-p", self.port, *options]
        self.child = Child(command, GATEWAY_CORE, OUT / "postgres.log", cwd=home, stop=signal.SIGINT)
        self.url = f"postgres://examgate@127.0.0.1:{self.port}/bench"
        end = time.monotonic() + 30
        while True:
            try:
                self.sql("CREATE DATABASE bench", "postgres")
                return
            except Fault:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def sql(self, text, database="bench"):
        return run([self.template.programs / "psql", "-XAt", "-h", "127.0.0.1", "-p", self.port, "-U", "examgate", "-d",
                    database, "-c", text], OTHER_CORE).strip()

    def check(self):
        """Fails if the server, or a role or database in it, has lost a setting of durability."""
        for name, wanted in self.DURABILITY.items():
            if self.sql(f"SHOW {name}") != wanted:
                raise Fault(f"PostgreSQL runs with {name} = {self.sql(f'SHOW {name}')}")

    def end(self):
        self.child.end()


class Restate:
    """Restate's server with one partition and its default durability (its log is synced), on the gateway's core."""

    MODULES = ROOT / "benches/peers/restate/node_modules"

    def __init__(self, place):
        self.ingress, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        own = {name: value for name, value in os.environ.items() if name.startswith("RESTATE_")}
        if own:
            raise Fault(f"the environment configures Restate: {', '.join(own)}")
        env = {"RESTATE_INGRESS__BIND_ADDRESS": self.ingress, "RESTATE_ADMIN__BIND_ADDRESS": self.admin,
               "RESTATE_DEFAULT_NUM_PARTITIONS": "1", "RESTATE_DISABLE_TELEMETRY": "true", "RESTATE_LOG_FILTER": "warn",
               "RESTATE_LISTEN_MODE": "tcp", "RESTATE_BASE_DIR": str(place / "restate")}
        command = [self.program(), "--no-logo", "--bind-ip", "127.0.0.1", "--bind-port", free_port(), "--node-name", "bench"]
        dumped = run([*command, "--dump-config"], OTHER_CORE, env=env)
        if "rocksdb-disable-wal = true" in dumped or "rocksdb-disable-wal-fsync = true" in dumped:
            raise Fault("Restate does not sync its log")
        self.child = Child(command, GATEWAY_CORE, OUT / "restate.log", env=env, cwd=place, output=False)
        ready(self.admin, "/health", self.child)

    @classmethod
    def program(cls):
        """The server itself: the file npm links starts it through Node.js, which would count as the engine."""
        found = sorted(cls.MODULES.glob("@restatedev/restate-server-*/bin/restate-server"))
        if not found:
            raise Fault("npm has no server of Restate for this platform")
        return found[0]

    def register(self, port):
        """Registers the gateway's service; retried, since the server may not have a leader yet."""
        end = time.monotonic() + 30
        while True:
            status, answer, _ = ask(self.admin, "POST", "/deployments", json.dumps({"uri": f"http://127.0.0.1:{port}"}),
                                    {"Content-Type": "application/json"})
            if status < 300:
                return
            if time.monotonic() > end:
                raise Fault(f"Restate refused the deployment: {status} {answer[:500]}")
            time.sleep(0.2)

    def check(self):
        """Its settings were checked at the start."""

    def end(self):
        self.child.end()
