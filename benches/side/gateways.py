"""Everything compared between caller and vendor."""

import base64
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import sqlite3
import time

from .engines import Postgres, Restate
from .machine import GATEWAY_CORE, OUT, PEERS, ROOT, Child, Fault, ask, free_port, needed, ready

KEY = "egk_bench-only"
BEARER = {"Authorization": f"Bearer {KEY}"}
TEST = "fa19e351-36d0-49c0-be92-66d640b17878"
SOURCES = ROOT / "benches/peers"
NODE = shutil.which("node") or "node"


class Gateway:
    """One of the gateways compared; `start` gives it a fresh process and, if it stores anything, a fresh store."""

    # What it keeps: "nothing", "promise", or "outcomes", which it repeats but may have sent twice.
    keeps = "nothing"
    # The table that holds a row for each write, if it has one; the file of that table, unless the engine has it.
    table = file = None

    def __init__(self, name, label):
        self.name, self.label, self.child, self.engine = name, label, None, None

    def kill(self):
        """Kills the process as a crash would; the engine lives on."""
        for pid in self.child.tree():
            os.kill(pid, signal.SIGKILL)
        self.child.process.wait(5)
        self.child.end()

    def end(self):
        if self.child:
            self.child.end()
        if self.engine:
            self.engine.end()
        self.child = self.engine = None

    def check(self, answered, table=None):
        """Fails if the store has fewer writes than were answered, or is not as durable as it has to be."""
        if self.engine:
            self.engine.check()
        if not self.table:
            return
        count = f"SELECT count(*) FROM {table or self.table}"
        if self.engine:
            stored = int(self.engine.sql(count))
        else:
            with sqlite3.connect(self.file) as db:
                stored = db.execute(count).fetchone()[0]
                if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    raise Fault(f"{self.name}: not in WAL mode")
            db.close()
        if stored < answered:
            raise Fault(f"{self.name}: {answered} writes got responses, {stored} are stored")

    def ids(self, count):
        return ["cand_01a2037e5d2d7c8d9e0f1a2b3c4d5e71"] * count


class Direct(Gateway):
    def start(self, vendor, place, traces=False):
        self.address = vendor.address
        return None


class Nginx(Gateway):
    def start(self, vendor, place, traces=False):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        (place / "nginx.conf").write_text(f"""daemon off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  upstream vendor {{ server {vendor.address}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen {self.address};
    location = /readyz {{ return 200; }}
    location / {{ proxy_pass http://vendor; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""")
        os.chmod(place, 0o755)
        command = [needed("nginx", "nginx-light"), "-p", place, "-c", place / "nginx.conf", "-e", place / "error.log"]
        self.child = Child(command, GATEWAY_CORE, place / "nginx.log")
        return ready(self.address, "/readyz", self.child)


class Program(Gateway):
    """A gateway that takes the vendor's address as its argument and prints its own."""

    def __init__(self, name, label, command, cwd):
        super().__init__(name, label)
        self.command, self.cwd = command, cwd

    def start(self, vendor, place, traces=False):
        self.arguments = [f"http://{vendor.address}", *self.store(place)]
        return self.again(place)

    def store(self, place):
        """Makes the store and returns the arguments that name it."""
        return []

    def again(self, place):
        self.child = Child([*self.command, *self.arguments], GATEWAY_CORE, place / "log", cwd=self.cwd,
                           env={"NODE_ENV": "production"})
        self.address = self.child.first_line()
        return ready(self.address, "/readyz", self.child)


class WithSqlite(Program):
    keeps, table = "promise", "keys"

    def __init__(self, name, label, commits):
        super().__init__(name, label, [NODE, "with_sqlite.js"], SOURCES / "fastify")
        self.commits = commits

    def store(self, place):
        self.file = place / "store.db"
        return [self.file, self.commits]

    def check(self, answered, table=None):
        settings = json.loads(ask(self.address, "GET", "/readyz/durability")[1])
        # 2 is FULL.
        if settings != {"journal_mode": "wal", "synchronous": 2}:
            raise Fault(f"{self.name} runs with {settings}")
        super().check(answered, table)


class WithPostgres(Program):
    def __init__(self, name, label, command, cwd, template, keeps, table):
        super().__init__(name, label, command, cwd)
        self.template, self.keeps, self.table = template, keeps, table

    def store(self, place):
        self.engine = Postgres(self.template, place)
        return [self.engine.url]


class WithRestate(Program):
    keeps = "outcomes"

    def store(self, place):
        self.engine, self.port = Restate(place), free_port()
        return [f"http://{self.engine.ingress}", self.port]

    def start(self, vendor, place, traces=False):
        took = super().start(vendor, place)
        self.engine.register(self.port)
        return took


class Uvicorn(Gateway):
    def __init__(self, name, label, module, template=None):
        super().__init__(name, label)
        self.module, self.template = module, template
        if template:
            self.keeps, self.table = "promise", "keys"

    def start(self, vendor, place, traces=False):
        self.env = {"VENDOR_URL": f"http://{vendor.address}", "PYTHONDONTWRITEBYTECODE": "1"}
        if self.template:
            self.engine = Postgres(self.template, place)
            self.env["DATABASE_URL"] = self.engine.url
        return self.again(place)

    def again(self, place):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = [OUT / "venv/bin/python", "-m", "uvicorn", f"{self.module}:app", "--host", "127.0.0.1", "--port", port,
                   "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        self.child = Child(command, GATEWAY_CORE, place / "log", cwd=SOURCES / "fastapi", env=self.env)
        return ready(self.address, "/readyz", self.child)


class Examgate(Gateway):
    keeps = "promise"
    table = "candidates"

    def __init__(self, name, label, binary, template=None):
        super().__init__(name, label)
        self.binary, self.template = binary, template

    def start(self, vendor, place, traces=False, **connection):
        """`connection` overrides keys of both connections."""
        self.file = place / "examgate.db"
        store = f"sqlite:{self.file}"
        if self.template:
            self.engine = Postgres(self.template, place)
            store = self.engine.url
            (place / "examgate.key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
        common = {"max_in_flight": 64, "requests_per_second": 0, **connection}
        startexam = {"existing_registration": common.pop("existing_registration", "unknown")}
        shared = "\n".join(f"{key} = {json.dumps(value)}" for key, value in common.items())
        (place / "examgate.toml").write_text(f"""[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[auth.clients.bench]
key_sha256 = ["{hashlib.sha256(KEY.encode()).hexdigest()}"]
scopes = ["candidates:write", "candidates:read", "assignments:write", "assignments:read", "operations:read"]
connections = ["*"]
rate_limit = {{ requests_per_second = 1000000, burst = 1000000 }}
[store]
url = "{store}"
encryption_key = "file:{place}/examgate.key"
[connections.startexam-main]
vendor = "startexam"
base_url = "http://{vendor.address}"
account_id = 99
secret = "plain:bench-secret-of-the-fake-vendor"
center = "mycenter"
profile_id = "d51b5efd-fb21-4cb8-94e2-145014839465"
existing_registration = "{startexam['existing_registration']}"
{shared}
[connections.examtesting-main]
vendor = "examtesting"
base_url = "http://{vendor.address}"
institution_id = "1234"
api_key = "plain:bench-key"
api_pass = "plain:bench-pass"
default_group = "Students"
{shared}
[assessments.rust-101]
name = "Rust 101"
connection = "startexam-main"
ref = "{TEST}"
""")
        self.env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{vendor.address}"} if traces else {}
        return self.again(place)

    def again(self, place):
        """Starts on the existing store and configuration."""
        command = [self.binary, "serve", "--config", place / "examgate.toml"]
        self.child = Child(command, GATEWAY_CORE, place / "log", env=self.env, stop=signal.SIGINT)
        self.address = self.child.first_line().rsplit("//", 1)[1]
        return ready(self.address, "/readyz", self.child)

    def ids(self, count):
        made = []
        for number in range(count):
            body = {"connection": "startexam-main", "externalId": f"read-{number}", "email": f"read-{number}@example.com",
                    "name": {"givenName": "Ines", "familyName": "Costa"}}
            status, answer, _ = ask(self.address, "POST", "/candidates", json.dumps(body),
                                    {**BEARER, "Content-Type": "application/json"})
            if status != 201:
                raise Fault(f"registering a candidate to read got {status}: {answer[:500]}")
            made.append(json.loads(answer)["id"])
        return made


def all_gateways(binary, template, skipped):
    """Every gateway but those that could not be installed."""
    fastify, fastapi = SOURCES / "fastify", SOURCES / "fastapi"
    every = [
        Direct("direct", "nothing between"),
        Nginx("nginx", "nginx"),
        Program("bare", "axum + reqwest", [PEERS / "bare"], ROOT),
        Program("fastify", "fastify + undici", [NODE, "gateway.js"], fastify),
        Uvicorn("fastapi", "FastAPI + aiohttp", "with_aiohttp"),
        WithSqlite("fastify-sqlite", "fastify + better-sqlite3, a commit each", "each"),
        WithSqlite("fastify-group", "fastify + better-sqlite3, group commit", "group"),
        Examgate("sqlite", "**examgate, SQLite**", binary),
        WithPostgres("fastify-pg", "fastify + pg", [NODE, "with_postgres.js"], fastify, template, "promise", "keys"),
        Uvicorn("fastapi-pg", "FastAPI + asyncpg + aiohttp", "with_asyncpg", template),
        WithPostgres("dbos", "DBOS", [NODE, "gateway.js"], SOURCES / "dbos", template, "outcomes", "dbos.workflow_status"),
        Examgate("postgres", "**examgate, PostgreSQL**", binary, template),
        WithRestate("restate", "Restate, one partition", [NODE, "gateway.js"], SOURCES / "restate"),
    ]
    return [gateway for gateway in every if gateway.name not in skipped]


def fresh(base, name):
    place = pathlib.Path(base) / f"{name}-{time.monotonic_ns()}"
    place.mkdir(parents=True)
    return place
