"""Google's published schemas of its APIs as JSON Schema: discovery documents, which google-api-python-client has."""

from __future__ import annotations

import functools
import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


@functools.cache
def document(api: str) -> dict[str, Any]:
    """A discovery document, such as that of `aiplatform.v1`, unchanged."""
    package = distribution("google-api-python-client")
    path = package.locate_file(f"googleapiclient/discovery_cache/documents/{api}.json")
    return json.loads(Path(str(path)).read_text(encoding="utf-8"))


def problems(api: str, schema: str, value: Any) -> list[str]:
    """What is wrong with a request of this schema: names, types and values that it does not have, and outputs."""
    validator = Draft202012Validator({"$ref": f"#/$defs/{schema}", "$defs": _definitions(api)})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@functools.cache
def _definitions(api: str) -> dict[str, Any]:
    return {name: _json_schema(each) for name, each in document(api)["schemas"].items()}


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    meant: dict[str, Any] = {} if schema["type"] == "any" else {"type": schema["type"]}
    if schema.get("format") in ("int64", "uint64"):
        # They are written as texts; both are read: https://protobuf.dev/programming-guides/json.
        meant = {"type": ["string", "integer"]}
    if "enum" in schema:
        meant["enum"] = schema["enum"]
    if "items" in schema:
        meant["items"] = _json_schema(schema["items"])
    if schema["type"] == "object":
        properties = schema.get("properties", {}).items()
        meant["properties"] = {name: _json_schema(each) for name, each in properties if not each.get("readOnly")}
        others = schema.get("additionalProperties")
        meant["additionalProperties"] = _json_schema(others) if others else False
    return meant
