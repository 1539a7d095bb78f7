"""The files that are sent as they are: the page, its parts and the contract."""

from __future__ import annotations

from pathlib import Path

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed

_PACKAGE = Path(__file__).resolve().parents[1]
ROOT = next(folder for folder in (_PACKAGE / "deployed", _PACKAGE.parent) if folder.is_dir())
"""Of openapi.yaml and web/: the folder that is deployed, which an installed package has within it."""
PAGE = "index.html"
YEAR = 365 * 24 * 3600
"""Seconds: as long as a reply can be kept whose address says which bytes it has."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def send_static(path: Path, media_type: str, *, max_age: int) -> Response:
    """Return a file as a reply that may be kept for `max_age` seconds and asked for again by its ETag."""
    reply = Response(path.read_bytes(), mimetype=media_type)
    reply.cache_control.public = True
    reply.cache_control.max_age = max_age
    make_conditional(reply)
    return reply


def make_conditional(reply: Response) -> None:
    """Answer with 304 what the caller has. Raises PreconditionFailed where it wants another one than there is."""
    reply.add_etag()
    reply.make_conditional(request)
    if reply.status_code == 412:  # its body would still be the whole document
        raise PreconditionFailed("Expected If-Match to have this document's ETag or *; received others.")
