"""Generates a Python client from each form of the description and fails on whatever the generator leaves out.

Usage: clients.py DESCRIPTION...
"""

import datetime
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
# What callers handle most: these must survive being read and written.
RESOURCES = ["Candidate", "CandidateList", "Assignment", "AssignmentList", "Operation", "OperationList",
             "OperationItemList", "CandidateBulkReport", "AssignmentBulkReport", "AuditList", "Webhook", "WebhookList",
             "Delivery", "DeliveryList", "Problem"]


def generated(description, folder):
    """Generates the client and returns the name of its package. A warning means that something is missing."""
    generator = pathlib.Path(sys.executable).with_name("openapi-python-client")
    command = [generator, "generate", "--path", description, "--output-path", folder, "--overwrite",
               "--config", HERE / "generator.yaml", "--fail-on-warning"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "WARNING" in done.stdout + done.stderr:
        sys.exit(f"{description}: the generator leaves something out:\n{done.stdout}{done.stderr}")
    return next(folder.glob("*/client.py")).parent.name


def modules(package, folder):
    """Imports every module of the client."""
    for file in sorted((folder / package).rglob("*.py")):
        name = ".".join(file.relative_to(folder).with_suffix("").parts)
        yield importlib.import_module(name.removesuffix(".__init__"))


def with_times(value):
    """Replaces the texts of times by the times: the client writes them in another form."""
    if isinstance(value, dict):
        return {name: with_times(part) for name, part in value.items()}
    if isinstance(value, list):
        return [with_times(part) for part in value]
    try:
        return datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value


def example(document, name):
    schema = document["components"]["schemas"][name]
    return schema["example"] if "example" in schema else schema["examples"][0]


def check(description):
    document = json.loads(pathlib.Path(description).read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        package = generated(description, folder)
        sys.path.insert(0, str(folder))
        try:
            known = {module.__name__: module for module in modules(package, folder)}
        finally:
            sys.path.remove(str(folder))
        models = known[f"{package}.models"]
        classes = {name for name, schema in schemas.items() if "properties" in schema or "enum" in schema}
        # A name that Python has taken gets an underscore.
        missing = sorted(classes - {name.rstrip("_") for name in models.__all__})
        operations = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
        endpoints = {name.rsplit(".", 1)[1].replace("_", "") for name in known if f"{package}.api." in name}
        missing += sorted(name for name in operations if name.lower() not in endpoints)
        for name in RESOURCES:
            given = example(document, name)
            written = getattr(models, name).from_dict(given).to_dict()
            if with_times(written) != with_times(given):
                missing.append(f"a part of {name}")
        # Both forms make a package of the same name.
        for name in known:
            del sys.modules[name]
    if missing:
        sys.exit(f"{description}: the client lacks {', '.join(missing)}")
    print(f"{description}: a client with {len(classes)} models and {len(operations)} operations")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        check(name)
