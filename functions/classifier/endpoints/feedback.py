"""POST /feedback: what the right label was, with the photo only where the user agrees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flask import Request, g

from classifier.access.admission import Admission
from classifier.endpoints import request_log
from classifier.endpoints.bodies import read_body
from classifier.endpoints.json_body import parse_json
from classifier.endpoints.query_string import MODEL
from classifier.endpoints.replies import admit_model
from classifier.endpoints.request_photos import body_limit
from classifier.endpoints.text_photos import ONE_TEXT_AT_A_TIME, decode_base64
from classifier.errors import Forbidden, InvalidImage, InvalidRequest, UnsupportedMedia
from classifier.photo.limits import too_large
from classifier.serving.models import Models
from classifier.settings import Settings
from classifier.storage.protocol import ObjectStore
from classifier.traffic.corrections import Correction, Seen, given_label
from classifier.traffic.feedback import Feedback
from classifier.wording import shown

MEMBERS = ("label", "request_id", "photo_sha256", "image", "consent", "seen", "model")
SEEN = ("version", "channel", "label", "confidence", "status")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")


class Said(NamedTuple):
    """A correction, the photo that its user agreed to give (b"" for none), and which model is named, if one is."""

    correction: Correction
    photo: bytes
    model: str | None


class FeedbackDesk:
    """Takes corrections. Opens the store with the first; any thread may call it."""

    def __init__(self, models: Models, admission: Admission, store: Callable[[], ObjectStore]) -> None:
        self._models = models
        self._settings = models.settings
        self._admission = admission
        self._store = store

    def take(self, request: Request) -> tuple[dict[str, Any], int]:
        """Answer a request: the reply's body and 201, or 200 where the same was said before.

        Raises:
            Forbidden: none is taken here of this model.
            NotFound: a model is named that may not be asked for.
            UnsupportedMedia, InvalidRequest, InvalidImage, TooLarge: it cannot be understood.
            RateLimited: the caller has sent as many as are taken of it in a while.
            Unavailable: the store cannot be reached.
        """
        # Before a body is read that nobody could take.
        named = (g.model,) if MODEL in request.args else self._models.names
        if not any(self._models.settings_of(name).feedback_limit for name in named):
            raise _not_taken()
        if request.mimetype != "application/json":
            raise UnsupportedMedia(f"Expected application/json; received {request.mimetype or 'no Content-Type'}.")
        body = read_body(request, body_limit(self._settings))
        with ONE_TEXT_AT_A_TIME:
            members = parse_json(body)
            del body
            said = read_correction(members, self._settings)
        if said.model is not None and MODEL in request.args:
            raise InvalidRequest("Expected model once; received it in the address and in the body.")
        return self.keep(said)

    def keep(self, said: Said) -> tuple[dict[str, Any], int]:
        """Store a correction, if its caller may send one more; see `take`."""
        correction, photo, model = said
        admit_model(model, self._models, self._admission)
        if not self._models.settings_of(g.model).feedback_limit:
            raise _not_taken()
        self._admission.admit_feedback()
        added = Feedback(self._store(), g.model).add(correction, photo)
        request_log.note("INFO", "Took a correction.", feedback=correction.id, photo=bool(photo), again=not added)
        body = {"id": correction.id, "photo": bool(photo), "known": not added, "request_id": g.request_id}
        return body, 201 if added else 200


def _not_taken() -> Forbidden:
    return Forbidden("Corrections are not taken here. An operator may allow them with FEEDBACK_LIMIT.")


def read_correction(members: Any, settings: Settings) -> Said:
    """Read a correction.

    Raises:
        InvalidRequest, InvalidImage, TooLarge: a member is missing or cannot be used.
    """
    if not isinstance(members, dict):
        raise InvalidRequest('Expected a JSON object such as {"request_id": "…", "label": "pizza"}.')
    for name in members:
        if name not in MEMBERS:
            raise InvalidRequest(f"Expected the members {', '.join(MEMBERS)}; received {name!r}.")
    if "label" not in members:
        raise InvalidRequest("Expected label: what the photo shows, or null for none of the labels; received none.")
    label = given_label(members["label"], "label") if members["label"] is not None else None
    photo = _photo(members, settings)
    request_id = _matching(members, "request_id", _REQUEST_ID, "the request_id of a reply")
    sha256 = _matching(members, "photo_sha256", _SHA256, "the SHA-256 of a photo in lowercase hexadecimal")
    if not (photo or request_id or sha256):
        raise InvalidRequest("Expected request_id, photo_sha256 or image: which photo is meant; received none of them.")
    correction = Correction.make(
        label, request_id=request_id, photo_sha256=sha256, photo=photo, seen=_seen(members.get("seen", {}))
    )
    if sha256 and correction.photo_sha256 != sha256:
        raise InvalidRequest(
            f"Expected image to have the SHA-256 of photo_sha256, {sha256}; it has {correction.photo_sha256}."
        )
    model = members.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest(f"Expected model to be a model's name; received {shown(model)}.")
    return Said(correction, photo, model)


def _photo(members: Mapping[str, Any], settings: Settings) -> bytes:
    consent = members.get("consent", False)
    if not isinstance(consent, bool):
        raise InvalidRequest(f"Expected consent to be true or false; received {shown(consent)}.")
    if "image" not in members:
        return b""
    image = members["image"]
    if not consent:
        raise InvalidRequest(
            "Expected consent: true beside image, which says that the user agrees that the photo is kept; leave image "
            "out otherwise."
        )
    if not isinstance(image, str):
        raise InvalidRequest(f"Expected image to be a photo in base64; received {shown(image)}.")
    from classifier.photo.signature import begins_like_photo

    photo = decode_base64(image)
    if len(photo) > settings.max_image_bytes:
        raise too_large(settings.max_image_bytes)
    if not begins_like_photo(photo):
        raise InvalidImage("Expected image to be a photo; it does not begin as one does.")
    return photo


def _seen(value: Any) -> Seen:
    """Read what the model is said to have said: all of it may be missing, none of it is believed."""
    if not isinstance(value, dict) or not set(value) <= set(SEEN):
        raise InvalidRequest(f"Expected seen to be an object with {', '.join(SEEN)}; received {shown(value)}.")
    given = dict(value)
    confidence = given.get("confidence")
    if "confidence" in given and (
        not isinstance(confidence, int | float) or isinstance(confidence, bool) or not 0 <= confidence <= 1
    ):
        raise InvalidRequest(f"Expected seen.confidence to be a number from 0 to 1; received {shown(confidence)}.")
    for name, allowed in (("channel", ("production", "canary")), ("status", ("ok", "unknown"))):
        if name in given and given[name] not in allowed:
            raise InvalidRequest(f"Expected seen.{name} to be {' or '.join(allowed)}; received {shown(given[name])}.")
    return Seen(
        version=_matching(given, "version", _VERSION, "a version such as v7"),
        channel=given.get("channel"),
        label=given_label(given["label"], "seen.label") if "label" in given else None,
        confidence=None if confidence is None else round(float(confidence), 6),
        status=given.get("status"),
    )


def _matching(members: Mapping[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidRequest(f"Expected {name} to be {expected}; received {shown(value)}.")
    return value
