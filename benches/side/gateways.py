"""The fake vendor, PostgreSQL, and everything compared between caller and vendor."""

import base64
import hashlib
import json
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import time

from .machine import GATEWAY_CORE, OTHER_CORE, OUT, PEERS, ROOT, Child, Fault, ask, free_port, needed, postgres_programs, ready, run

KEY = "egk_bench-only"
BEARER = {"Authorization": f"Bearer {KEY}"}
TEST = "fa19e351-36d0-49c0-be92-66d640b17878"


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


class Postgres:
    """A durable PostgreSQL (fsync, synchronous_commit), on the core that the gateway does not use."""

    def __init__(self, place):
        self.place, self.programs, self.count = place, postgres_programs(), 0
        self.prefix = []
        if os.getuid() == 0:
            # The server refuses to run as root.
            user = next((name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}))
            entry = pwd.getpwnam(user)
            place.mkdir()
            os.chown(place, entry.pw_uid, entry.pw_gid)
            self.prefix = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        else:
            place.mkdir()
        data = place / "data"
        run([*self.prefix, self.programs / "initdb", "-D", data, "-U", "examgate", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8"], OTHER_CORE, cwd=place)
        self.port = free_port()
        settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={place}", "max_connections=100",
                    "fsync=on", "synchronous_commit=on", "full_page_writes=on"]
        options = [word for setting in settings for word in ("-c", setting)]
        self.child = Child([*self.prefix, self.programs / "postgres", "-D", data, "-p", self.port, *options], OTHER_CORE,
                           OUT / "postgres.log", cwd=place, stop=signal.SIGINT)
        end = time.monotonic() + 30
        while True:
            try:
                self.sql("SELECT 1")
                return
            except Fault:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def sql(self, text):
        run([self.programs / "psql", "-h", "127.0.0.1", "-p", self.port, "-U", "examgate", "-d", "postgres", "-c", text],
            OTHER_CORE)

    def database(self):
        self.count += 1
        self.sql(f"CREATE DATABASE bench{self.count}")
        return f"postgres://examgate@127.0.0.1:{self.port}/bench{self.count}"

    def end(self):
        self.child.end()


class Gateway:
    """One of the gateways compared; `start` gives it a fresh process and, if it stores anything, a fresh store."""

    durable = False

    def __init__(self, name, label):
        self.name, self.label, self.child = name, label, None

    def end(self):
        if self.child:
            self.child.end()
            self.child = None

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

    def __init__(self, name, label, command, cwd=None):
        super().__init__(name, label)
        self.command, self.cwd = command, cwd

    def start(self, vendor, place, traces=False):
        self.child = Child([*self.command, f"http://{vendor.address}"], GATEWAY_CORE, place / "log", cwd=self.cwd,
                           env={"NODE_ENV": "production"})
        self.address = self.child.first_line()
        return ready(self.address, "/readyz", self.child)


class Uvicorn(Gateway):
    def start(self, vendor, place, traces=False):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = [OUT / "venv/bin/python", "-m", "uvicorn", f"with_{self.name}:app", "--host", "127.0.0.1", "--port", port,
                   "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        self.child = Child(command, GATEWAY_CORE, place / "log", cwd=ROOT / "benches/peers/fastapi",
                           env={"VENDOR_URL": f"http://{vendor.address}", "PYTHONDONTWRITEBYTECODE": "1"})
        return ready(self.address, "/readyz", self.child)


class Examgate(Gateway):
    durable = True

    def __init__(self, name, label, binary, postgres=None):
        super().__init__(name, label)
        self.binary, self.postgres = binary, postgres

    def start(self, vendor, place, traces=False, **connection):
        """`connection` overrides keys of both connections."""
        store = f"sqlite:{place}/examgate.db"
        if self.postgres:
            store = self.postgres.database()
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


def all_gateways(binary, postgres):
    return [
        Direct("direct", "nothing between"),
        Nginx("nginx", "nginx"),
        Program("bare", "axum + reqwest", [PEERS / "bare"]),
        Program("fastify", "fastify + undici", [shutil.which("node") or "node", "gateway.js"], ROOT / "benches/peers/fastify"),
        Uvicorn("httpx", "FastAPI + httpx"),
        Uvicorn("aiohttp", "FastAPI + aiohttp"),
        Examgate("sqlite", "examgate, SQLite", binary),
        Examgate("postgres", "examgate, PostgreSQL", binary, postgres),
    ]


def fresh(base, name):
    place = pathlib.Path(base) / f"{name}-{time.monotonic_ns()}"
    place.mkdir(parents=True)
    return place
