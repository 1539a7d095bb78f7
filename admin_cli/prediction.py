"""The command predict: a photo's labels and Grad-CAM, from a running function or straight from the store."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from admin_cli.options import DEFAULT_MODEL, DEFAULT_STORE, JsonOption, ModelOption, StoreOption
from admin_cli.output import print_json, print_table
from classifier.errors import InvalidRequest, NotFound, PointerError, Unavailable

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
TIMEOUT_SECONDS = 60


def predict(
    photo: Annotated[Path, typer.Argument(help="The photo.")],
    gradcam: Annotated[
        Path | None, typer.Option("--gradcam", help="Write the Grad-CAM overlay here: .jpg, .png or .webp.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Explain this label instead of the top one.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", help="How many labels.", min=1, max=100)] = 5,
    url: Annotated[
        str | None, typer.Option("--url", help="Ask this function. Default: run production's model here.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Classify a photo.

    Example: admin_cli predict photo.jpg --gradcam out.jpg --url http://localhost:8080
    """
    if not photo.is_file():
        raise NotFound(f"Expected a photo at {photo}; there is none.")
    query = {"top_k": str(top_k)}
    if gradcam is not None:
        query |= {"gradcam": label or "1", "gradcam_format": _format(gradcam)}
    elif label is not None:
        raise InvalidRequest("Expected --gradcam FILE with --label; received none.")
    reply = _ask(url, photo, query) if url else _run_here(store, model, photo, query)
    overlay = reply.get("gradcam")
    if gradcam is not None and overlay is not None:
        gradcam.write_bytes(base64.b64decode(overlay.pop("image")))
        overlay["file"] = str(gradcam)
    if as_json:
        print_json(reply)
        return
    print_table(
        ("label", "confidence"),
        ((row["label"], f"{row['confidence']:.1%}") for row in reply["predictions"]),
        right=("confidence",),
    )
    served = reply["model"]
    status = "" if reply["status"] == "ok" else f" ({reply['status']})"
    typer.echo(f"{reply['label']}{status} by {served['name']} {served['version']}")
    if overlay is not None:
        typer.echo(f"wrote {overlay['file']}: why {overlay['label']}")


def _format(path: Path) -> str:
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"Expected --gradcam to end in {', '.join(FORMATS)}; received {path.name!r}.")
    return FORMATS[path.suffix.lower()]


def _run_here(store: str, model: str, photo: Path, query: dict[str, str]) -> dict[str, Any]:
    """Ask the function's own app, in this process, without a socket."""
    from classifier.app import create_app
    from classifier.settings import Settings

    settings = Settings.from_env({**os.environ, "MODEL_STORE": store, "MODEL_NAME": model})
    response = create_app(settings).test_client().post(
        "/", query_string=query, data=photo.read_bytes(), content_type="application/octet-stream"
    )  # fmt: skip
    return _checked(response.get_data(), response.status_code)


def _ask(url: str, photo: Path, query: dict[str, str]) -> dict[str, Any]:
    import urllib.error
    import urllib.parse
    import urllib.request

    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InvalidRequest(f"Expected --url to start with http:// or https://; received {url!r}.")
    request = urllib.request.Request(  # noqa: S310 - http or https, checked above
        f"{url.rstrip('/')}/?{urllib.parse.urlencode(query)}",
        data=photo.read_bytes(),
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
            return _checked(response.read(), response.status)
    except urllib.error.HTTPError as error:
        return _checked(error.read(), error.code)
    except OSError as error:
        raise Unavailable(f"{url} cannot be reached: {getattr(error, 'reason', error)}. Is it running?") from error


def _checked(body: bytes, status: int) -> dict[str, Any]:
    """Return a reply's JSON; a problem becomes the error that it describes."""
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise PointerError(f"Expected JSON from the function; received status {status} and {body[:80]!r}.")
    if status == 200:
        return reply
    detail = f"{reply.get('title', 'Error')} ({status}): {reply.get('detail', '')}"
    if status == 404:
        raise NotFound(detail)
    if status in (502, 503, 504):
        raise Unavailable(detail)
    raise InvalidRequest(detail) if status < 500 else PointerError(detail)
