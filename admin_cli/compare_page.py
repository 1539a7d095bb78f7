"""The page of a comparison: the figures, and the photos whose answer changed with what each version looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from admin_cli.evaluation_set import open_evaluation_set
from admin_cli.files import write_html
from admin_cli.measuring import load
from admin_cli.output import percent
from admin_cli.subjects import Subject
from classifier.pages import data_address, render
from classifier.registry.comparison import Answer, Comparison, Photo

if TYPE_CHECKING:
    from classifier.serving.model import Model

SHOWN = 60
"""Photos on the page, the most confident changes for the worse first."""
SIDE = 320
"""Longer side of a picture, in pixels."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Side:
    """What one version says of a photo, and why."""

    label: str
    confidence: str
    right: bool
    unknown: bool
    overlay: str
    """A data address."""


@dataclass(frozen=True)
class _Shown:
    name: str
    truth: str
    before: _Side
    after: _Side


def write_page(
    path: Path, comparison: Comparison, before: Subject, after: Subject, reasons: Sequence[str], eval_set: str | None
) -> None:
    """Write the page, which needs nothing besides itself.

    The photos are those of the evaluation set; without one, the golden photos of both versions, because no other photo
    travels with a version.

    Raises:
        InvalidRequest: the file cannot be written.
    """
    changed = {photo.name: photo for photo in comparison.changed}
    if eval_set is not None:
        found = {each.name: each.read for each in open_evaluation_set(eval_set) if each.name in changed}
        chosen = sorted(changed.values(), key=_interest, reverse=True)[:SHOWN]
        photos = [(photo.name, photo.truth, found[photo.name]) for photo in chosen if photo.name in found]
    else:
        photos = _golden(before) + _golden(after)
    shown = _look(photos, before, after, only_changes=eval_set is None)
    page = render(
        HERE / "compare_page.html",
        f"{comparison.before} and {comparison.after}",
        styles=(HERE / "page.css").read_text(encoding="utf-8"),
        comparison=comparison,
        reasons=reasons,
        photos=shown,
        golden=eval_set is None,
        percent=percent,
    )
    write_html(path, page)


def _interest(photo: Photo) -> tuple[bool, float]:
    return photo.before.label == photo.truth, photo.after.confidence


def _golden(subject: Subject) -> list[tuple[str, str, Callable[[], bytes]]]:
    return [
        (f"{subject.name}/{case.file}", case.label, partial(subject.read, case.file))
        for case in subject.manifest.golden
    ]


def _look(
    photos: Sequence[tuple[str, str, Callable[[], bytes]]], before: Subject, after: Subject, *, only_changes: bool
) -> list[_Shown]:
    if not photos:
        return []
    models = load(before), load(after)
    shown = []
    for name, truth, read in photos:
        content = read()
        one, other = _side(before, models[0], content, truth), _side(after, models[1], content, truth)
        if one.label != other.label or not only_changes:
            shown.append(_Shown(name, truth, one, other))
    return shown


def _side(subject: Subject, model: Model, content: bytes, truth: str) -> _Side:
    from classifier.photo import heatmap, preprocessing

    spec = subject.manifest.input
    photo = preprocessing.decode(content, width=spec.width, height=spec.height)
    output = model.run(photo.array(spec.width, spec.height, spec.resize))
    top = int(output.probabilities.argmax())
    label = subject.manifest.labels[top]
    answer = Answer(label, float(output.probabilities[top]), subject.limit is not None and output.score < subject.limit)
    region = photo.region(spec.width, spec.height, spec.resize)
    shown = photo.display(SIDE)
    if model.has_heatmaps:  # else the photo alone: by occlusion each would take as long as 64 photos
        shown = heatmap.overlay(shown, output.heatmap(top), region=region)
    overlay = heatmap.encode(shown, "image/jpeg")
    return _Side(label, percent(answer.confidence), label == truth, bool(answer.unknown), data_address(overlay))
