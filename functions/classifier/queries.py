"""What a caller asks for besides the photo: the query and the Accept header, checked first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from classifier.errors import InvalidRequest

if TYPE_CHECKING:  # a command line has queries too, and no Flask
    from flask import Request

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "heatmap": "image/png"}
JSON = "application/json"
PARAMETERS = ("top_k", "gradcam", "gradcam_format", "gradcam_size", "tta")
OFF, ON = ("0", "false"), ("1", "true")
TOP_LABEL = ""
LABEL_PREFIX = "label:"
"""``gradcam=label:1`` explains the label "1", which without the prefix would ask for the most probable one."""
LONGEST_LABEL = 1000
"""Characters. To look for labels that are like one of millions takes minutes and a gigabyte."""


@dataclass(frozen=True)
class Query:
    """One prediction's options."""

    top_k: int = 5
    gradcam: str | None = None
    """The label to explain, `TOP_LABEL` for the most probable one, None for no explanation."""
    gradcam_format: str = "jpeg"
    """A key of `MEDIA_TYPES`."""
    gradcam_size: int = 512
    """The overlay's longest side, in pixels."""
    tta: bool = False
    """Test-time augmentation: whether to average over the photo and its mirror image."""
    bare: bool = False
    """Whether the reply is the overlay itself instead of JSON."""


def read_query(request: Request) -> Query:
    """Read and check the query.

    Raises:
        InvalidRequest: an unknown or repeated parameter, or a value that cannot be used.
        NotAcceptable: the Accept header leaves nothing that could be sent.
    """
    for name, values in request.args.lists():
        if name not in PARAMETERS:
            raise InvalidRequest(f"Expected the parameters {', '.join(PARAMETERS)}; received {name!r}.")
        if len(values) > 1:
            raise InvalidRequest(f"Expected {name} once; received it {len(values)} times.")
    query = query_of(request.args)
    choice, bare = _accepted(request, query)
    return replace(query, gradcam_format=choice, bare=bare)


def query_for_several(request: Request, query: Query) -> Query:
    """Return a request's query for several photos, whose reply is JSON whatever else is preferred.

    Raises:
        NotAcceptable: the Accept header allows no JSON.
    """
    from werkzeug.exceptions import NotAcceptable

    if query.bare and not request.accept_mimetypes[JSON]:
        raise NotAcceptable(
            f"Expected Accept to allow {JSON} for several photos; received {request.accept_mimetypes.to_header()}. "
            "The overlay itself is the reply to one photo only."
        )
    return replace(query, bare=False)


def query_of(values: Mapping[str, str]) -> Query:
    """Check the parameters by themselves, for a reply that is JSON.

    Raises:
        InvalidRequest: a value that cannot be used.
    """
    gradcam = _gradcam(values.get("gradcam", "0"))
    for name in ("gradcam_format", "gradcam_size"):
        if name in values and "gradcam" not in values:
            raise InvalidRequest(f"Expected gradcam together with {name}: add gradcam=1 or gradcam=LABEL.")
    choice = values.get("gradcam_format", Query.gradcam_format)
    if choice not in MEDIA_TYPES:
        raise InvalidRequest(f"Expected gradcam_format to be one of {', '.join(MEDIA_TYPES)}; received {choice!r}.")
    return Query(
        top_k=_integer(values, "top_k", Query.top_k, 1, 100),
        gradcam=gradcam,
        gradcam_format=choice,
        gradcam_size=_integer(values, "gradcam_size", Query.gradcam_size, 32, 2048),
        tta=_switch(values, "tta"),
    )


def label_index(labels: Sequence[str], label: str) -> int:
    """Find the label that a caller wants explained.

    Raises:
        InvalidRequest: the model does not know it; the message names close matches, or the first labels.
    """
    if label in labels:
        return labels.index(label)
    close = difflib.get_close_matches(label, labels, n=5, cutoff=0.5)
    shown = ", ".join(close or labels[:10])
    more = "" if close or len(labels) <= 10 else f" and {len(labels) - 10} more (GET /model lists them)"
    raise InvalidRequest(f"Expected gradcam to be 0, 1 or a label such as {shown}{more}; received {label!r}.")


def _gradcam(value: str) -> str | None:
    if value.lower() in OFF:
        return None
    if value.lower() in ON:
        return TOP_LABEL
    label = value.removeprefix(LABEL_PREFIX)
    if not label:
        raise InvalidRequest(f"Expected gradcam to be 0, 1 or a label; received {value or 'nothing'}.")
    if len(label) > LONGEST_LABEL:
        raise InvalidRequest(
            f"Expected gradcam to be 0, 1 or a label of at most {LONGEST_LABEL:,} characters; received {len(label):,}."
        )
    return label


def _switch(values: Mapping[str, str], name: str) -> bool:
    value = values.get(name, "0")
    if value.lower() not in (*OFF, *ON):
        raise InvalidRequest(f"Expected {name} to be {' or '.join((*OFF, *ON))}; received {value or 'nothing'!r}.")
    return value.lower() in ON


def _integer(values: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = values.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not least <= int(value) <= most:
        raise InvalidRequest(f"Expected {name} to be a whole number from {least} to {most}; received {value!r}.")
    return int(value)


def _accepted(request: Request, query: Query) -> tuple[str, bool]:
    """Return the overlay's format, and whether it is the whole reply, from gradcam_format and Accept."""
    from werkzeug.exceptions import NotAcceptable

    asked, gradcam = request.args.get("gradcam_format"), query.gradcam is not None
    accept = request.accept_mimetypes
    formats = [asked] if asked else ["jpeg", "png", "webp"]
    offered = [JSON, *(MEDIA_TYPES[name] for name in formats)] if gradcam else [JSON]
    best = accept.best_match(offered) if accept else JSON
    if best is None:
        raise NotAcceptable(
            f"Expected Accept to allow one of {', '.join(offered)}; received {accept.to_header()}."
            + ("" if gradcam else " To have the overlay itself, add gradcam=1.")
        )
    if best == JSON:
        return asked or Query.gradcam_format, False
    return asked or next(name for name in formats if MEDIA_TYPES[name] == best), True
