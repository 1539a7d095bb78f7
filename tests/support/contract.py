"""Holds replies against openapi.yaml: the clients of the tests send every reply of `predict` through `check`.

A status, a media type, a header or a member that the document does not know is an error, as is a value that does not
fit its schema. What is not in the document at all has to be answered with a problem.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.test import TestResponse

from tests.support.processes import FUNCTIONS

DOCUMENT = FUNCTIONS / "openapi.yaml"
PROBLEM = "application/problem+json"
GENERAL = (
    "access-control-", "connection", "content-encoding", "content-length", "content-type", "date", "server",
    "transfer-encoding", "vary",
)  # fmt: skip
"""Headers, or their beginnings, that belong to HTTP, its server, or CORS."""
PAGE_FILES = {file.name for file in (FUNCTIONS / "web").iterdir()}
"""What lies beside the page and is answered as the page is."""
LITERT = "/litert/"
"""Where LiteRT.js is; answered as the page is, or with a 404."""
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class ContractClient(FlaskClient):
    """A test client that checks every reply of an app that serves the contract."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        reply = super().open(*args, **kwargs)
        if "pointer.model" in self.application.view_functions:  # not the callable function
            request = reply.request
            check(request.method, request.path, reply.status_code, reply.headers, reply.get_data)
        return reply


def check(method: str, path: str, status: int, headers: Mapping[str, str], read: Callable[[], bytes]) -> None:
    """Raise AssertionError where a reply is not what openapi.yaml says of its method and path.

    Args:
        method: of the request.
        path: of the request, without the query.
        status: of the reply.
        headers: of the reply.
        read: returns the reply's body; called only where the body is text with a schema.
    """
    if status == 431 and "X-Request-Id" not in headers:
        return  # gunicorn's own answer to headers that are too large, before there is a request
    contract = _contract()
    path = re.sub("^/api(?=/|$)", "", path) or "/"
    where = f"{method} {path} -> {status}"
    operation = contract.operation(method, path)
    if operation is None:
        _check_unknown(contract, where, method, path, status, headers, read)
        return
    responses = operation["responses"]
    assert str(status) in responses, f"{where}: expected one of the statuses {', '.join(responses)}"
    response = contract.resolved(responses[str(status)])
    _check_headers(contract, where, response.get("headers", {}), headers)
    content = response.get("content", {})
    if not content:
        assert not headers.get("Content-Type"), f"{where}: has a Content-Type"
        assert method == "HEAD" or not read(), f"{where}: has a body"
        return
    media_type = _media_type(headers)
    assert media_type in content, f"{where}: expected one of {', '.join(content)}; received {media_type or 'no type'}"
    if method != "HEAD" and media_type.partition("/")[2] in ("json", "problem+json", "yaml"):
        _check_body(contract, where, content[media_type]["schema"], media_type, status, read())


class Contract:
    """The document, with a validator for each of its schemas."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        strict = _strict(document)
        self._registry = Registry().with_resource("urn:contract", Resource(strict, DRAFT202012))
        self._validators: dict[str, OAS31Validator] = {}

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """Return what is documented of a method and path; HEAD is what GET is."""
        item = self.document["paths"].get(path) or next(
            (item for template, item in self.document["paths"].items() if _matches(template, path)), {}
        )
        found: dict[str, Any] | None = item.get("get" if method == "HEAD" else method.lower())
        return found

    def resolved(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return a part of the document, or what it refers to."""
        while "$ref" in value:
            found: Any = self.document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name.replace("~1", "/").replace("~0", "~")]
            value = found
        return value

    def errors(self, schema: dict[str, Any], instance: Any) -> list[str]:
        """Say what is wrong with an instance of a schema of the document."""
        key = json.dumps(schema)
        if key not in self._validators:
            absolute = json.loads(key.replace('"$ref": "#/', '"$ref": "urn:contract#/'))
            self._validators[key] = OAS31Validator(
                _strict(absolute), registry=self._registry, format_checker=OAS31Validator.FORMAT_CHECKER
            )
        return [f"{error.json_path}: {error.message}"[:500] for error in self._validators[key].iter_errors(instance)]


@functools.cache
def _contract() -> Contract:
    return Contract(yaml.load(DOCUMENT.read_text(), yaml.CSafeLoader))


def _check_unknown(
    contract: Contract,
    where: str,
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    read: Callable[[], bytes],
) -> None:
    if method == "OPTIONS" and status == 200:
        assert "Allow" in headers or "Access-Control-Allow-Methods" in headers, f"{where}: says nothing"
    elif method in ("GET", "HEAD") and (path.removeprefix("/") in PAGE_FILES or path.startswith(LITERT)):
        page = contract.document["paths"]["/"]["get"]["responses"].get(str(status))
        if status == 404 and path.startswith(LITERT):
            page = contract.document["components"]["responses"]["NotFound"]
        assert page, f"{where}: expected what the page is answered with"
        _check_headers(contract, where, contract.resolved(page)["headers"], headers)
    else:
        expected = 405 if any(_matches(template, path) for template in contract.document["paths"]) else 404
        assert status >= 400 and status in (expected, 401, 429, 500), f"{where}: is not in the document"
        assert _media_type(headers) == PROBLEM, f"{where}: expected a problem"
        assert status != 405 or headers["Allow"], f"{where}: expected Allow"
        if method != "HEAD":
            _check_body(contract, where, {"$ref": "#/components/schemas/Problem"}, PROBLEM, status, read())


def _check_headers(
    contract: Contract, where: str, documented: Mapping[str, dict[str, Any]], headers: Mapping[str, str]
) -> None:
    known = {name.lower(): contract.resolved(header) for name, header in documented.items()}
    for name, value in headers.items():
        if name.lower().startswith(GENERAL):
            continue
        assert name.lower() in known, f"{where}: the header {name}: {value} is not in the document"
        schema = known[name.lower()]["schema"]
        wrong = contract.errors(schema, _typed(contract.resolved(schema), value))
        assert not wrong, f"{where}: the header {name}: {'; '.join(wrong)}"
    present = {name.lower() for name, _ in headers.items()}
    missing = [name for name, header in known.items() if header.get("required") and name not in present]
    assert not missing, f"{where}: expected the headers {', '.join(missing)}"


def _check_body(
    contract: Contract, where: str, schema: dict[str, Any], media_type: str, status: int, content: bytes
) -> None:
    if content == _document():
        return
    body = yaml.load(content, yaml.CSafeLoader) if media_type.endswith("yaml") else json.loads(content)
    wrong = contract.errors(schema, body)
    assert not wrong, f"{where}: {'; '.join(wrong)}\n{str(body)[:1000]}"
    assert media_type != PROBLEM or body["status"] == status, f"{where}: another status than {body['status']}"


@functools.cache
def _document() -> bytes:
    return DOCUMENT.read_bytes()


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip()


def _matches(template: str, path: str) -> bool:
    """Say whether a path is one of those that an address such as /model/samples/{sha256} stands for."""
    return re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path) is not None


def _typed(schema: dict[str, Any], value: str) -> Any:
    """Read a header's value as its schema's type."""
    try:
        return {"integer": int, "number": float}.get(schema.get("type", ""), str)(value)
    except ValueError:
        return value


def _strict(value: Any, within: frozenset[str] | None = None) -> Any:
    """Return a copy in which an object has only the members that are named: what is not documented is found.

    ``within`` are the schemas that others are made of with allOf; what those may have besides is theirs to say.
    """
    if within is None:
        within = frozenset(_parts(value))
    if isinstance(value, list):
        return [_strict(each, within) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("$ref") in within:
        return {**value, "unevaluatedProperties": False}
    copy = {
        name: each if f"#/components/schemas/{name}" in within else _strict(each, within)
        for name, each in value.items()
    }
    if "allOf" in value:
        copy["allOf"] = [
            {name: each if name == "$ref" else _strict(each, within) for name, each in part.items()}
            for part in value["allOf"]
        ]
    if "allOf" in value or (value.get("type") == "object" and isinstance(value.get("properties"), dict)):
        copy.setdefault("unevaluatedProperties", False)
    return copy


def _parts(value: Any) -> Iterator[str]:
    """Yield what allOf refers to."""
    if isinstance(value, dict):
        yield from (each["$ref"] for each in value.get("allOf", []) if "$ref" in each)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(each)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation's path and method."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]
