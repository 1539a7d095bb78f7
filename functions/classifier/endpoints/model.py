"""What an app that runs the model itself needs: the LiteRT file, whole or in parts, and how to use it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import (
    PreconditionFailed,
    RequestedRangeNotSatisfiable,
)

from classifier.endpoints.downloads import Downloads
from classifier.endpoints.problems import body_of_problem
from classifier.endpoints.public_files import public_members
from classifier.errors import PointerError
from classifier.registry.manifest import MODEL_FILE, SIGNATURE, FileEntry
from classifier.serving.instance import Instance
from classifier.serving.loader import Chosen, Fetched, Loaded
from classifier.serving.models import Models
from classifier.serving.reply_body import fallback_of
from classifier.settings import Settings

LINK = "model/file"
"""Where the file is, seen from GET /model."""
MEDIA_TYPE = "application/octet-stream"
BLOCK = 2**18
LARGEST_REPLY = 30_000_000
"""Bytes. Cloud Run functions refuse a reply of 32 MB or more that announces its length."""

Part = tuple[int, int]
"""The first byte and the one after the last."""


def describe(chosen: Chosen, link: str = LINK) -> dict[str, Any]:
    """Return what an app has to know to download the file, from `link`, and to run it."""
    manifest = chosen.manifest
    entry, classes = manifest.files[MODEL_FILE], len(manifest.labels)
    heatmaps = {"dtype": "float32", "shape": [1, classes, None, None]}
    return {
        "file": {"url": link, "name": _name(chosen), "bytes": entry.bytes, "sha256": entry.sha256},
        "signature": {
            "name": SIGNATURE,
            "inputs": {"image": {"dtype": "uint8", "shape": [1, manifest.input.height, manifest.input.width, 3]}},
            "outputs": {
                "probabilities": {"dtype": "float32", "shape": [1, classes]},
                **({"heatmaps": heatmaps} if manifest.no_gradcam is None else {}),
                "score": {"dtype": "float32", "shape": [1, 1], "optional": True},
            },
        },
    }


def send_file(
    request: Request, instance: Instance, downloads: Downloads, caller: str | None = None
) -> tuple[Response, Chosen]:
    """Answer a request for the file that serves its caller now, and say whose it is.

    RFC 9110: conditional, and one range of bytes.

    A part is at most `LARGEST_REPLY` bytes, and may so be shorter than what was asked for. No more than a block is
    ever copied: concurrent downloads share the bytes that the interpreters use, or that were read for the first of
    them.

    Raises:
        PreconditionFailed: If-Match names other files.
        RequestedRangeNotSatisfiable: the file is shorter.
        Overloaded: see `Downloads`.
        Also what `Instance.with_file` raises.
    """
    chosen = instance.chosen(caller)
    if request.method == "HEAD" or _is_known(request, chosen):
        return _reply(request, chosen), chosen
    held = instance.with_file(caller)  # which may be another version, and another file
    end = downloads.begin(held.content)
    try:
        reply = _reply(request, held, held)
    except BaseException:
        end()
        raise
    reply.call_on_close(end)
    return reply, held


def _reply(request: Request, chosen: Chosen, held: Loaded | Fetched | None = None) -> Response:
    entry = chosen.manifest.files[MODEL_FILE]
    if request.if_match and not request.if_match.contains(entry.sha256):
        raise PreconditionFailed(
            f'If-Match: expected "{entry.sha256}", the file of {chosen.pointer.version}, which serves now; '
            "received others. Read GET /model again."
        )
    if _is_known(request, chosen):
        reply = Response(status=304)
    else:
        part = _part(request, entry)
        first, end = part or (0, entry.bytes)
        reply = Response(_blocks(held, first, end) if held else None, 206 if part else 200, mimetype=MEDIA_TYPE)
        if end - first <= LARGEST_REPLY or held is None:  # else it is sent in chunks, which may be longer
            reply.content_length = end - first
        if part:
            reply.headers["Content-Range"] = f"bytes {first}-{end - 1}/{entry.bytes}"
        reply.headers["Accept-Ranges"] = "bytes"
        reply.headers["Content-Disposition"] = f'attachment; filename="{_name(chosen)}"'
        reply.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(entry.sha256)).decode()}:"
    reply.set_etag(entry.sha256)
    reply.headers["X-Pointer-Version"] = chosen.pointer.version
    return reply


def _is_known(request: Request, chosen: Chosen) -> bool:
    return request.if_none_match.contains_weak(chosen.manifest.files[MODEL_FILE].sha256)


def _part(request: Request, entry: FileEntry) -> Part | None:
    """Return the one range that is asked for; None for the whole file, also where what is asked is not understood.

    Raises:
        RequestedRangeNotSatisfiable: the file is shorter.
    """
    asked = request.range
    condition = request.headers.get("If-Range", f'"{entry.sha256}"')
    if request.method != "GET" or asked is None or asked.units != "bytes" or condition != f'"{entry.sha256}"':
        return None
    if len(asked.ranges) != 1:
        return None
    first, end = asked.ranges[0]
    if first < 0:  # the last bytes
        first = max(0, entry.bytes + first)
    if first >= entry.bytes:
        raise RequestedRangeNotSatisfiable(
            entry.bytes,
            "bytes",
            f"Expected bytes of a file that has {entry.bytes:,}; received bytes from {first:,} on.",
        )
    return first, min(entry.bytes, first + LARGEST_REPLY, end or entry.bytes)


def _blocks(held: Loaded | Fetched, first: int, end: int) -> Iterator[bytes]:
    """Cut the bytes into blocks. It keeps hold of the model that they belong to: see `Instance.with_file`."""
    for start in range(first, end, BLOCK):
        yield held.content[start : min(start + BLOCK, end)]


def _name(chosen: Chosen) -> str:
    """Return a name to save the file as, such as food-v7-int8.tflite."""
    parts = (chosen.manifest.model or "model", chosen.pointer.version, chosen.manifest.variant)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)) + ".tflite"


def model_body(chosen: Chosen, settings: Settings, *, default: bool = True, since: str | None = None) -> dict[str, Any]:
    """Return the body of GET /model: what serves, and how an app runs it by itself.

    Args:
        chosen: the version.
        settings: of its model.
        default: whether that is the model of those who name none.
        since: see `Instance.since`.
    """
    manifest = chosen.manifest
    suffix = "" if default else f"?model={settings.model_name}"
    return {
        "name": settings.model_name,
        "version": chosen.pointer.version,
        "channel": chosen.channel,
        **({"since": since} if since else {}),
        "task": manifest.task,
        **fallback_of(chosen),
        "labels": list(manifest.labels),
        "input": {
            "width": manifest.input.width,
            "height": manifest.input.height,
            "resize": manifest.input.resize,
        },
        **describe(chosen, f"{LINK}{suffix}"),
        "metrics": dict(manifest.metrics),
        "thresholds": dict(manifest.thresholds),
        "tta": dict(manifest.tta),
        "variant": manifest.variant,
        "created_at": manifest.created_at,
        **({"notice": manifest.notice} if manifest.notice is not None else {}),
        **({"no_gradcam": manifest.no_gradcam} if manifest.no_gradcam is not None else {}),
        **public_members(chosen, suffix),
        "feedback": bool(settings.feedback_limit),
    }


def models_body(models: Models, admitted: str, caller: str | None = None) -> dict[str, Any]:
    """Return the body of GET /models: what may be asked for. Loads none; says of each that cannot be why.

    Args:
        models: of the instance.
        admitted: by whose rules the caller was admitted; of models with other rules no more than these is told.
        caller: see `Instance.chosen`.
    """
    here = models.settings_of(admitted)
    told = [name for name in models.names if _same_rules(models.settings_of(name), here)]
    found = models.all_chosen(told, caller)
    summaries = [_summary(models, name, found.get(name)) for name in models.names]
    return {"default": models.default, "models": summaries}


def _same_rules(settings: Settings, here: Settings) -> bool:
    return (settings.access, settings.access_claim) == (here.access, here.access_claim)


def _summary(models: Models, name: str, chosen: Chosen | Exception | None) -> dict[str, Any]:
    summary = {"name": name, "url": "model" if name == models.default else f"model?model={name}"}
    if chosen is None:
        return {**summary, "access": models.settings_of(name).access}
    if isinstance(chosen, PointerError):
        return {**summary, "problem": body_of_problem(chosen)}
    if isinstance(chosen, Exception):
        raise chosen
    manifest = chosen.manifest
    return {
        **summary,
        "version": chosen.pointer.version,
        "channel": chosen.channel,
        "labels": len(manifest.labels),
        "created_at": manifest.created_at,
        **({"notice": manifest.notice} if manifest.notice is not None else {}),
    }
