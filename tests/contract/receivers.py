"""Runs the receivers of docs/WEBHOOKS.md against a running gateway: the public libraries of other languages accept what it
signs, also while a secret is rotated, and refuse what was altered or is old.

Usage: receivers.py ADDRESS KEY FOLDER [LIBRARIES]  (FOLDER/node_modules holds the npm packages; LIBRARIES is a checkout of
standard-webhooks/standard-webhooks, with which the receivers in Java and PHP are run, too: no registry of packages is needed)
"""

import contextlib
import datetime
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from standardwebhooks import Webhook

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Longer than any step takes on the slowest machine.
PATIENCE = 60


def snippet(language):
    """Returns the program in this language from the documentation."""
    text = (ROOT / "docs/WEBHOOKS.md").read_text(encoding="utf-8")
    return re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


def post(url, body, headers):
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Gateway:
    def __init__(self, address, key):
        self.address, self.key = address, key

    def post(self, path, body=None):
        headers = {"Authorization": f"Bearer {self.key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, text = post(self.address + path, b"" if body is None else json.dumps(body).encode(), headers)
        answer = json.loads(text) if text else None
        if status not in (200, 201):
            sys.exit(f"POST {path}: {status} {answer}")
        return answer


class Captured(http.server.BaseHTTPRequestHandler):
    """Keeps what the gateway delivers, as it came."""

    deliveries = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        names = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        self.deliveries.append((body, {"Content-Type": "application/json", **{name: self.headers[name] for name in names}}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def receiver(command, secret):
    """Runs a receiver with this secret; yields its address."""
    port = free_port()
    environment = {**os.environ, "HOOK_SECRET": secret, "PORT": str(port)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() - began > PATIENCE:
                    sys.exit(f"{command}: it does not listen")
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def programs(folder, node_modules):
    """Writes the receivers into the folder; returns the command of each."""
    (folder / "receiver.py").write_text(snippet("python"), encoding="utf-8")
    (folder / "receiver.ts").write_text(snippet("ts"), encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "node_modules").symlink_to(node_modules)
    compiler = node_modules / ".bin/tsc"
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--types", "node"]
    subprocess.run([compiler, *options, "receiver.ts"], cwd=folder, check=True)
    return {"npm": ["node", str(folder / "receiver.js")], "PyPI": [sys.executable, str(folder / "receiver.py")]}


def compiled_programs(folder, libraries):
    """Writes the receivers whose libraries are taken from a checkout; returns the command of each."""
    (folder / "Receiver.java").write_text(snippet("java"), encoding="utf-8")
    main = libraries / "java/src/main"
    sources = [*main.glob("java11/**/Webhook.java"), *main.glob("java/**/WebhookBase.java"), *main.glob("java/**/exceptions/*.java")]
    subprocess.run(["javac", "-d", str(folder / "classes"), str(folder / "Receiver.java"), *map(str, sources)], check=True)
    (folder / "receiver.php").write_text(snippet("php"), encoding="utf-8")
    (folder / "vendor").mkdir()
    # What composer writes: classes are loaded from their files by name.
    (folder / "vendor/autoload.php").write_text(
        "<?php spl_autoload_register(fn($name) => require '" + str(libraries / "php/src")
        + "/' . str_replace('\\\\', '/', substr($name, strlen('StandardWebhooks\\\\'))) . '.php');",
        encoding="utf-8",
    )
    php = ["sh", "-c", f'exec php -q -S "127.0.0.1:$PORT" {folder / "receiver.php"}']
    return {"Java": ["java", "-cp", str(folder / "classes"), "Receiver"], "PHP": php}


def check(gateway, commands):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Captured)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    webhook = gateway.post("/webhooks", {"url": f"http://127.0.0.1:{server.server_port}/"})
    path, former = f"/webhooks/{webhook['id']}", webhook["secret"]
    current = gateway.post(f"{path}/rotate", {"overlap": "1h"})["secret"]
    gateway.post(f"{path}/ping")
    (body, first), (_, both) = Captured.deliveries
    pinged = Captured.deliveries[1][0]
    if len(first["webhook-signature"].split()) != 1 or len(both["webhook-signature"].split()) != 2:
        sys.exit(f"signatures: {first} {both}")
    hour_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    signed = Webhook(former).sign(first["webhook-id"], hour_ago, body.decode())
    old = {**first, "webhook-timestamp": str(int(hour_ago.timestamp())), "webhook-signature": signed}
    for name, command in commands.items():
        with receiver(command, former) as by_former, receiver(command, current) as by_current:
            for what, address, sent, headers, expected in [
                ("a delivery", by_former, body, first, 204),
                ("the same again", by_former, body, first, 204),
                ("a delivery, with another secret", by_current, body, first, 401),
                ("one of a rotation, with the former secret", by_former, pinged, both, 204),
                ("one of a rotation, with the current secret", by_current, pinged, both, 204),
                ("altered bytes", by_former, body.replace(b'"ping"', b'"pong"'), first, 401),
                ("another id", by_former, body, {**first, "webhook-id": "evt_1"}, 401),
                ("an old time stamp", by_former, body, old, 401),
                ("what is no signature", by_former, body, {**first, "webhook-signature": "v1"}, 401),
            ]:
                status, _ = post(address, sent, headers)
                if status != expected:
                    sys.exit(f"{name}: {what}: {status} instead of {expected}")
            # From end to end: the gateway itself delivers to it.
            ping = gateway.post("/webhooks", {"url": by_current, "secret": current})["ping"]
            if not ping["delivered"] or ping["status"] != 204:
                sys.exit(f"{name}: {ping}")
        print(f"{name}: accepts what is genuine and refuses the rest")
    server.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        node_modules = pathlib.Path(sys.argv[3]).resolve() / "node_modules"
        commands = programs(pathlib.Path(folder), node_modules)
        if len(sys.argv) > 4:
            commands |= compiled_programs(pathlib.Path(folder), pathlib.Path(sys.argv[4]).resolve() / "libraries")
        check(Gateway(sys.argv[1], sys.argv[2]), commands)
