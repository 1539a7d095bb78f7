"""What the page needs to run the model itself, where ON_DEVICE is set: LiteRT.js, and a policy for its worker."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from flask import Blueprint, Response

from classifier.endpoints.files import CONTENT_SECURITY_POLICY, YEAR, send_static
from classifier.variables import LITERT

WORKER = "device_worker.js"
WORKER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the worker alone: the page's own has no WebAssembly."""


def link() -> str:
    """Return where LiteRT.js is, seen from GET /models."""
    return f"litert/{next(path.name for path in sorted(LITERT.iterdir()))}/"


def add_files(routes: Blueprint) -> None:
    """Add a route for each file of LiteRT.js; their addresses have the version's name, so that they may be kept."""

    def send(path: Path, name: str) -> Response:
        reply = send_static(path, mimetypes.guess_type(name)[0] or "application/octet-stream", max_age=YEAR)
        reply.cache_control.immutable = True
        if reply.status_code == 200:
            reply.content_encoding = "gzip"
        reply.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        reply.headers["Referrer-Policy"] = "no-referrer"
        return reply

    for path in sorted(LITERT.rglob("*.gz")):
        name = path.relative_to(LITERT).with_suffix("").as_posix()
        routes.add_url_rule(f"/litert/{name}", "litert", send, defaults={"path": path, "name": name}, methods=["GET"])
