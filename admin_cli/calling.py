"""Asks a running function for a photo's prediction, as any other client does."""

from __future__ import annotations

import json
import os
from typing import Any

from classifier.errors import (
    Corrupt,
    InvalidImage,
    InvalidRequest,
    NotFound,
    NotReady,
    PointerError,
    RateLimited,
    TooLarge,
    Unavailable,
)
from classifier.serving.query import LABEL_PREFIX, OCCLUSION, Query

TIMEOUT_SECONDS = 60
PROBLEMS: dict[str, type[PointerError]] = {
    "urn:pointer:problem:not-found": NotFound,
    "urn:pointer:problem:not-ready": NotReady,
    "urn:pointer:problem:corrupt-version": Corrupt,
    "urn:pointer:problem:invalid-image": InvalidImage,
    "urn:pointer:problem:too-large": TooLarge,
}
"""What a function's problem is here; another one goes by its status."""
TOKENS = {
    "POINTER_ID_TOKEN": ("Authorization", "Bearer {}"),
    "POINTER_APP_CHECK_TOKEN": ("X-Firebase-AppCheck", "{}"),
}
"""From the environment, not the command line, which every user of a machine can read; with the headers they fill."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def ask_function(url: str, model: str | None, content: bytes, query: Query) -> dict[str, Any]:
    """Ask a running function, as any other client does."""
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    tokens = token_headers(url)
    parameters = {"top_k": str(query.top_k)} | (
        {"tta": "1" if query.tta == "mirror" else query.tta} if query.tta else {}
    )
    if model is not None:
        parameters["model"] = model
    if query.gradcam is not None:
        parameters |= {
            "gradcam": _gradcam(query),
            "gradcam_format": query.gradcam_format,
        }
    request = urllib.request.Request(  # noqa: S310 - http or https, checked above
        f"{url.rstrip('/')}/?{urllib.parse.urlencode(parameters)}",
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    for header, token in tokens.items():
        request.add_unredirected_header(header, token)  # nobody else is to get them
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
            return _checked(url, response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return _checked(url, error.code, error.headers, error.read())
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        reason = getattr(cause, "strerror", None) or cause
        raise Unavailable(f"{url} cannot be reached: {reason}. Is it running?") from error


def _gradcam(query: Query) -> str:
    label = f"{LABEL_PREFIX}{query.gradcam}" if query.gradcam else ""
    if query.occlusion:
        return f"{OCCLUSION}:{label}" if label else OCCLUSION
    return label or "1"


def token_headers(url: str) -> dict[str, str]:
    """Return the headers that tell a function who is calling; none goes where others could read it.

    Raises:
        InvalidRequest: no address of a function, or one over plain HTTP that would get a token.
    """
    import urllib.parse

    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https"):
        raise InvalidRequest(f"Expected --url to start with http:// or https://; received {url!r}.")
    tokens = _tokens()
    if tokens and address.scheme == "http" and address.hostname not in LOOPBACK:
        raise InvalidRequest(f"Expected an https:// --url for the tokens in {' and '.join(TOKENS)}; received {url!r}.")
    return tokens


def _tokens() -> dict[str, str]:
    headers = {}
    for name, (header, form) in TOKENS.items():
        token = os.environ.get(name, "").strip()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise InvalidRequest(f"Expected a token in {name}; received characters that none has.")
        if token:
            headers[header] = form.format(token)
    return headers


def _checked(url: str, status: int, headers: Any, body: bytes) -> dict[str, Any]:
    """Return a reply's JSON; a problem becomes the error that it describes."""
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    if status == 200 and isinstance(reply, dict) and "predictions" in reply:
        return reply
    if isinstance(reply, dict) and "title" in reply:
        message = f"{reply['title']} ({status}): {reply.get('detail', '')}"
        if status == 401:
            message += f" Set {' or '.join(TOKENS)}, whichever it asks for."
        if kind := PROBLEMS.get(str(reply.get("type"))):
            raise kind(message)
    else:
        message = f"Expected a function of Pointer at {url}; received status {status} and {body[:80]!r}."
    if status == 429:
        wait = headers.get("Retry-After", "")
        raise RateLimited(message, retry_after=int(wait) if wait.isdecimal() else 1)
    if status in (502, 503, 504):
        raise Unavailable(message)
    raise InvalidRequest(message) if status < 500 else PointerError(message)
