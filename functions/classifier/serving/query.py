"""What a caller asks for besides the photo: the query and the Accept header, checked first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from classifier.errors import InvalidRequest
from classifier.labels import folded, trimmed

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "heatmap": "image/png"}
OFF, ON = ("0", "false"), ("1", "true")
Tta = Literal["", "mirror", "crops", "all"]
"""Test-time augmentation: none, the photo and its mirror image, five crops, or those and their mirror images."""
PASSES: dict[Tta, int] = {"": 1, "mirror": 2, "crops": 5, "all": 10}
"""Forward passes that each takes."""
VIEWS = tuple(name for name in PASSES if name)
TOP_LABEL = ""
LABEL_PREFIX = "label:"
"""``gradcam=label:1`` explains the label "1", which without the prefix would ask for the most probable one."""
OCCLUSION = "occlusion"
"""``gradcam=occlusion`` and ``gradcam=occlusion:LABEL`` explain by occlusion instead of by Grad-CAM."""
LONGEST_LABEL = 1000
"""Characters. To look for labels that are like one of millions takes minutes and a gigabyte."""


@dataclass(frozen=True)
class Query:
    """One prediction's options."""

    top_k: int = 5
    gradcam: str | None = None
    """The label to explain, `TOP_LABEL` for the most probable one, None for no explanation."""
    occlusion: bool = False
    """Whether the label is explained by occlusion; see `classifier.serving.occlusion`."""
    gradcam_format: str = "jpeg"
    """A key of `MEDIA_TYPES`."""
    gradcam_size: int = 512
    """The overlay's longest side, in pixels."""
    tta: Tta = ""
    """Test-time augmentation: over which views to average; see `classifier.serving.views`."""
    bare: bool = False
    """Whether the reply is the overlay itself instead of JSON."""
    consent: bool = False
    """Whether the user agrees that the photo is kept, to learn from. It changes nothing of the reply."""


def query_of(values: Mapping[str, str]) -> Query:
    """Check the parameters by themselves, for a reply that is JSON.

    Raises:
        InvalidRequest: a value that cannot be used.
    """
    gradcam, occlusion = _gradcam(values.get("gradcam", "0"))
    for name in ("gradcam_format", "gradcam_size"):
        if name in values and "gradcam" not in values:
            raise InvalidRequest(f"Expected gradcam together with {name}: add gradcam=1 or gradcam=LABEL.")
    choice = values.get("gradcam_format", Query.gradcam_format)
    if choice not in MEDIA_TYPES:
        raise InvalidRequest(f"Expected gradcam_format to be one of {', '.join(MEDIA_TYPES)}; received {choice!r}.")
    return Query(
        top_k=_integer(values, "top_k", Query.top_k, 1, 100),
        gradcam=gradcam,
        occlusion=occlusion,
        gradcam_format=choice,
        gradcam_size=_integer(values, "gradcam_size", Query.gradcam_size, 32, 2048),
        tta=_views(values),
        consent=_switch(values, "consent"),
    )


def label_index(labels: Sequence[str], label: str) -> int:
    """Find the label that a caller wants explained: as it is written, else in another spelling that means it alone.

    Raises:
        InvalidRequest: the model does not know it, or has several labels of which each may be meant; the message names
            those, or close matches, or the first labels.
    """
    if label in labels:
        return labels.index(label)
    for spelling in (trimmed, folded):
        wanted = spelling(label)
        alike = [index for index, known in enumerate(labels) if spelling(known) == wanted]
        if len(alike) == 1:
            return alike[0]
        if alike:
            each = ", ".join(repr(labels[index]) for index in alike[:10])
            raise InvalidRequest(f"Expected gradcam to be one of {each}, written in the same way; received {label!r}.")
    close = difflib.get_close_matches(label, labels, n=5, cutoff=0.5)
    shown = ", ".join(close or labels[:10])
    more = "" if close or len(labels) <= 10 else f" and {len(labels) - 10} more (GET /model lists them)"
    raise InvalidRequest(f"Expected gradcam to be 0, 1 or a label such as {shown}{more}; received {label!r}.")


def _gradcam(value: str) -> tuple[str | None, bool]:
    """Return the label to explain, and whether by occlusion."""
    if value.strip().lower() in OFF:
        return None, False
    if value.strip().lower() in ON:
        return TOP_LABEL, False
    method, _, rest = value.partition(":")
    occlusion = method.strip().lower() == OCCLUSION
    if occlusion and not rest.strip():
        return TOP_LABEL, True
    label = (rest if occlusion else value).removeprefix(LABEL_PREFIX)
    if not label:
        raise InvalidRequest(f"Expected gradcam to be 0, 1 or a label; received {value or 'nothing'}.")
    if len(label) > LONGEST_LABEL:
        raise InvalidRequest(
            f"Expected gradcam to be 0, 1 or a label of at most {LONGEST_LABEL:,} characters; received {len(label):,}."
        )
    return label, occlusion


def _switch(values: Mapping[str, str], name: str) -> bool:
    value = values.get(name, "0")
    if value.lower() not in (*OFF, *ON):
        raise InvalidRequest(f"Expected {name} to be {' or '.join((*OFF, *ON))}; received {value or 'nothing'!r}.")
    return value.lower() in ON


def _views(values: Mapping[str, str]) -> Tta:
    value = values.get("tta", "0")
    if value.lower() in ON:
        return "mirror"
    if value.lower() in OFF:
        return ""
    found = next((name for name in PASSES if name and name == value), None)
    if found is None:
        expected = f"{', '.join((*OFF, *ON, *VIEWS[:-1]))} or {VIEWS[-1]}"
        raise InvalidRequest(f"Expected tta to be {expected}; received {value or 'nothing'!r}.")
    return found


def _integer(values: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = values.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not least <= int(value) <= most:
        raise InvalidRequest(f"Expected {name} to be a whole number from {least} to {most}; received {value!r}.")
    return int(value)
