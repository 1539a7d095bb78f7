"""What a version shows of itself because whoever published it said so: sample photos and its model card."""

from __future__ import annotations

from typing import Any

from flask import Request, Response

from classifier.endpoints.files import YEAR
from classifier.errors import NotFound
from classifier.registry.public_files import CARD_FILE, media_type_of, samples_of
from classifier.serving.instance import Instance
from classifier.serving.loader import Chosen

CARD_TYPE = "text/markdown"
SAMPLES = "model/samples/"
CARD = "model/card"
"""Where they are, seen from GET /model."""


def public_members(chosen: Chosen, suffix: str) -> dict[str, Any]:
    """Return the members of GET /model that say where samples and card are; none where nothing is shown.

    Args:
        chosen: the version.
        suffix: of the addresses, such as "?model=dogs".
    """
    files = chosen.manifest.files
    samples = [
        {
            "url": f"{SAMPLES}{files[case.file].sha256}{suffix}",
            "label": case.label,
            "media_type": media_type_of(case),
            "bytes": files[case.file].bytes,
        }
        for case in samples_of(chosen.manifest)
    ]
    return {
        **({"samples": samples} if samples else {}),
        **({"card": f"{CARD}{suffix}"} if CARD_FILE in chosen.manifest.public else {}),
    }


def send_sample(
    request: Request, instance: Instance, sha256: str, *, public: bool, caller: str | None = None
) -> Response:
    """Answer with one of the sample photos of the version that serves a caller: the bytes that have this SHA-256.

    Args:
        request: the request.
        instance: of the model.
        sha256: as the address has it.
        public: whether caches that serve others too may keep it.
        caller: see `Instance.chosen`.

    Raises:
        NotFound: the version shows no such photo.
        Also what `Instance.chosen` and `Instance.read` raise.
    """
    chosen = instance.chosen(caller)
    for case in samples_of(chosen.manifest):
        if chosen.manifest.files[case.file].sha256 == sha256:
            reply = _reply(request, instance, chosen, case.file, media_type_of(case))
            reply.headers["Cache-Control"] = f"{'public' if public else 'private'}, max-age={YEAR}, immutable"
            return reply
    raise NotFound(
        f"Expected a sample photo that {chosen.pointer.version} shows, by its SHA-256; it shows no such one. Read "
        "GET /model again."
    )


def send_card(request: Request, instance: Instance, caller: str | None = None) -> Response:
    """Answer with the model card of the version that serves a caller, as Markdown. Raises as `send_sample` does."""
    chosen = instance.chosen(caller)
    if CARD_FILE not in chosen.manifest.public:
        raise NotFound(
            f"Expected a version that shows its model card; {chosen.pointer.version} shows none. "
            "`admin_cli publish RUN --card` publishes one that does."
        )
    return _reply(request, instance, chosen, CARD_FILE, CARD_TYPE)


def _reply(request: Request, instance: Instance, chosen: Chosen, name: str, media_type: str) -> Response:
    entry = chosen.manifest.files[name]
    if request.if_none_match.contains_weak(entry.sha256):
        reply = Response(status=304)
        reply.headers.pop("Content-Type", None)
    else:
        reply = Response(instance.read(chosen, name), mimetype=media_type)
    reply.set_etag(entry.sha256)
    # Whoever opens it by itself gets what it is, and nothing that runs.
    reply.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    reply.headers["X-Pointer-Version"] = chosen.pointer.version
    return reply
