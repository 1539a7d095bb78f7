"""What schemathesis cannot think of by itself in `test_contract`: photos, labels, and what belongs together.

Where it makes data that the document allows, a random string in the photo's place would be refused for that alone, and
hide whether everything else of the request was read right. Data that the document forbids is left as it is.
"""

from __future__ import annotations

import base64
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

from classifier.registry.bundle import entry_of
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.serving import MODEL, photo_bytes

PHOTO = photo_bytes()
AS_JSON = {"image": base64.b64encode(PHOTO).decode()}
SAMPLE = entry_of(colour_photo(TINY_LABELS[0])).sha256
"""Of the photo golden/0.png of a tiny bundle."""
SWITCHES = ("0", "1", "false", "true")

for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, strategies.just(PHOTO))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Put a photo where one is allowed, and a label of the model where a label is."""
    made = case.meta.components if case.meta else {}
    query = made.get(ParameterLocation.QUERY)
    if case.query and "model" in case.query and (query is None or query.mode == GenerationMode.POSITIVE):
        case.query = {**case.query, "model": MODEL}
    place = made.get(ParameterLocation.PATH)
    if "sha256" in (case.path_parameters or {}) and (place is None or place.mode == GenerationMode.POSITIVE):
        case.path_parameters = {"sha256": SAMPLE}
    if case.path == "/feedback" and isinstance(case.body, dict):
        body = made.get(ParameterLocation.BODY)
        if body is None or body.mode == GenerationMode.POSITIVE:
            _make_correction(case.body)
            if "model" in (case.query or {}):
                case.body.pop("model", None)
        return
    if case.path != "/" or case.method != "POST":
        return
    body = made.get(ParameterLocation.BODY)
    if body and body.mode == GenerationMode.POSITIVE and case.media_type in ("application/json", "multipart/form-data"):
        case.media_type, case.body = "application/json", AS_JSON  # its forms have no files, only text
    if body is None and isinstance(case.body, dict):  # of an example, whose options are in its query too
        case.body = {name: value for name, value in case.body.items() if name in ("image", "object")}
    header = made.get(ParameterLocation.HEADER)
    if case.headers and (header is None or header.mode == GenerationMode.POSITIVE):
        case.headers.pop("Content-Encoding", None)  # nothing is compressed here
    if query is None or query.mode == GenerationMode.POSITIVE:
        asked = dict(case.query or {})
        if asked.get("gradcam", "0") not in SWITCHES:
            asked["gradcam"] = "pizza"
        if {"gradcam_format", "gradcam_size"} & set(asked):  # which cannot be without it
            asked.setdefault("gradcam", "1")
        case.query = asked


def _make_correction(body: dict[str, Any]) -> None:
    """Give a correction a label that can be printed, a model that there is, and its photo consent."""
    if isinstance(body.get("model"), str):
        body["model"] = MODEL
    for members in (body, body.get("seen")):
        if isinstance(members, dict) and isinstance(members.get("label"), str):
            members["label"] = "pizza"
    if "image" in body:
        body.pop("photo_sha256", None)
        body |= {"image": AS_JSON["image"], "consent": True}
