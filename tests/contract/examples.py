"""Validates every example of the description against its schema. Usage: examples.py DESCRIPTION..."""

import json
import sys

import jsonschema_rs


def checked(description):
    """Yields the place of each example, the example and its schema."""
    def resolved(node):
        while "$ref" in node:
            target = description
            for name in node["$ref"].removeprefix("#/").split("/"):
                target = target[name.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def of(place, node):
        # A stream of events has no schema.
        if "schema" not in node:
            return
        if "example" in node:
            yield place, node["example"], node["schema"]
        for name, example in node.get("examples", {}).items():
            yield f"{place} {name}", resolved(example)["value"], node["schema"]

    for path, item in {**description["paths"], **description.get("webhooks", {})}.items():
        for method, operation in item.items():
            place = f"{method.upper()} {path}"
            for parameter in map(resolved, operation.get("parameters", [])):
                yield from of(f"{place} {parameter['name']}", parameter)
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media_type, content in resolved(body).get("content", {}).items():
                    yield from of(f"{place} {name} {media_type}", content)
    for name, schema in description["components"]["schemas"].items():
        for example in schema.get("examples", []):
            yield f"schema {name}", example, {"$ref": f"#/components/schemas/{name}"}


def faults(description):
    """Returns the number of examples, and one line for each that does not fit its schema."""
    found, count = [], 0
    for place, example, schema in checked(description):
        count += 1
        # The names of the description's schemas stay where the references look for them.
        validator = jsonschema_rs.Draft202012Validator(
            {**schema, "components": description["components"]}, validate_formats=True
        )
        found += [f"{place} at /{'/'.join(map(str, error.instance_path))}: {error.message}"
                  for error in validator.iter_errors(example)]
    return count, found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            count, found = faults(json.load(file))
        print(f"{name}: {count} examples, {len(found)} do not fit their schema")
        print("\n".join(found), end="\n" if found else "")
        if found or not count:
            sys.exit(1)
