"""Measures two versions for a comparison: their answers on the same photos, and what serving each takes, in one run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

from admin_cli.evaluation_set import LabelledPhoto, open_evaluation_set
from admin_cli.subjects import Subject
from classifier.errors import Corrupt, NotFound, PointerError, Unavailable
from classifier.quiet import quiet
from classifier.registry.comparison import (
    Answer,
    Change,
    Comparison,
    Cost,
    Photo,
    by_class,
    calibration_error,
    labels_changed,
    right,
    shared,
    told_unknown,
    unpaired,
)
from classifier.registry.manifest import MODEL_FILE
from classifier.settings import available_cpus
from classifier.wording import plural

if TYPE_CHECKING:
    from classifier.serving.model import Model

Answers = dict[str, tuple[str, Answer]]
ROUNDS = 15
"""Timed passes of each version, in turn."""


def compare(before: Subject, after: Subject, *, eval_set: str | None = None, costs: bool = True) -> Comparison:
    """Compare two versions: on an evaluation set or else by what each said of the test photos that both have seen.

    Args:
        before: what serves, or the first one named.
        after: what is to take its place.
        eval_set: see `open_evaluation_set`.
        costs: whether latency and memory are measured.

    Raises:
        NotFound, Corrupt, Unavailable: a version or the evaluation set cannot be read.
        InvalidImage: none of its photos can be.
    """
    same_file = before.model_sha256 == after.model_sha256
    known = [label for label in before.manifest.labels if label in set(after.manifest.labels)]
    photos: list[Photo] = []
    left_out = 0
    top_1: Change | None = None
    if eval_set is not None:
        photos, left_out = shared(*_measured(open_evaluation_set(eval_set), before, after), known)
        basis = f"{plural(len(photos), 'photo')} of {eval_set}"
    else:
        stored = before.stored_answers(), after.stored_answers()
        if stored[0] is not None and stored[1] is not None:
            photos, left_out = shared(*_of_the_same_photos(stored[0], stored[1]), known)
            if not photos:  # one of them is of a release that kept no hashes
                by_path = before.stored_answers(by_path=True), after.stored_answers(by_path=True)
                photos, left_out = shared(*_of_the_same_photos(by_path[0] or {}, by_path[1] or {}), known)
        basis = f"the {len(photos):,} test photos that both were measured on"
    if photos:
        top_1 = right(photos)
    else:
        top_1 = _by_manifests(before, after)
        basis = "the test photos of each, which are not the same" if top_1 else "nothing that both were measured on"
    return Comparison(
        before=before.name,
        after=after.name,
        basis=basis,
        labels=labels_changed(before.manifest.labels, after.manifest.labels),
        costs=_costs(before, after) if costs and not same_file else (_size(before), _size(after)),
        top_1=top_1,
        classes=by_class(photos),
        unknown=told_unknown(photos),
        ece=_calibration(photos),
        left_out=left_out,
        changed=tuple(each for each in photos if each.before.label != each.after.label),
        same_file=same_file,
    )


def load(subject: Subject, *, threads: int = 1) -> Model:
    """Load the file that serves.

    Raises:
        Corrupt: it is not the model that the manifest describes.
    """
    from classifier.serving.model import Model

    with quiet():
        model = Model(subject.read(MODEL_FILE), threads=threads)
    subject.manifest.expect_fit(
        width=model.width, height=model.height, classes=model.classes, gradcam=model.has_heatmaps
    )
    return model


def ask(subject: Subject, model: Model, content: bytes) -> Answer:
    """Return what a version says of a photo. Raises `InvalidImage` and `TooLarge` as `load_array` does."""
    from classifier.photo.preprocessing import load_array

    output = model.run(load_array(content, subject.manifest.input))
    top = int(output.probabilities.argmax())
    unknown = None if subject.limit is None else bool(output.score < subject.limit)
    return Answer(subject.manifest.labels[top], float(output.probabilities[top]), unknown)


def _measured(photos: Sequence[LabelledPhoto], before: Subject, after: Subject) -> tuple[Answers, Answers]:
    """Return both versions' answers, by the photo's name. A photo that cannot be read ends it: nothing is guessed."""
    sides = before, after
    with ThreadPoolExecutor(available_cpus()) as pool:
        # As many interpreters as threads, each used by one thread at a time.
        free = [[load(side) for side in sides] for _ in range(available_cpus())]

        def look(photo: LabelledPhoto) -> tuple[Answer, ...]:
            models = free.pop()
            try:
                content = photo.read()
                return tuple(ask(side, model, content) for side, model in zip(sides, models, strict=True))
            except FileNotFoundError as error:
                raise NotFound(f"Expected the photo {photo.name} of the evaluation set; it is not there.") from error
            except (Corrupt, Unavailable, NotFound):
                raise
            except PointerError as error:
                raise type(error)(f"{photo.name}: {error}") from error
            finally:
                free.append(models)

        looks = list(pool.map(look, photos))
    first, second = (
        {photo.name: (photo.label, seen[side]) for photo, seen in zip(photos, looks, strict=True)} for side in (0, 1)
    )
    return first, second


def _of_the_same_photos(before: Answers, after: Answers) -> tuple[Answers, Answers]:
    both = before.keys() & after.keys()
    return {name: before[name] for name in both}, {name: after[name] for name in both}


def _by_manifests(before: Subject, after: Subject) -> Change | None:
    """Compare the top-1 that each export measured on its own test photos; None where one did not."""
    figures = []
    for side in (before, after):
        test = side.manifest.metrics.get("test")
        top_1, photos = (test.get("top_1"), test.get("photos")) if isinstance(test, dict) else (None, None)
        if not isinstance(top_1, int | float) or not isinstance(photos, int) or photos < 1 or not 0 <= top_1 <= 1:
            return None
        figures.append((float(top_1), photos))
    return unpaired(figures[0], figures[1])


def _calibration(photos: Sequence[Photo]) -> tuple[float, float] | None:
    if not photos:
        return None
    return (
        calibration_error((each.before, each.truth) for each in photos),
        calibration_error((each.after, each.truth) for each in photos),
    )


def _size(subject: Subject) -> Cost:
    spec = subject.manifest.input
    return Cost(subject.manifest.files[MODEL_FILE].bytes, spec.width, spec.height)


def _costs(before: Subject, after: Subject) -> tuple[Cost, Cost]:
    """Time both files in turn, one thread each as they serve, and measure the memory of each in a fresh process."""
    import numpy as np

    from classifier.serving.footprint import added_memory

    sides = before, after
    models = [load(side) for side in sides]
    images = [np.zeros((model.height, model.width, 3), np.uint8) for model in models]
    times: list[list[float]] = [[], []]
    for number in range(ROUNDS + 1):
        for side in (0, 1):
            began = time.perf_counter()
            models[side].run(images[side])
            if number:  # the first pass builds what the others use
                times[side].append((time.perf_counter() - began) * 1000)
    first, second = (
        Cost(
            cost.bytes,
            cost.width,
            cost.height,
            round(median(times[side]), 3),
            added_memory(sides[side].read(MODEL_FILE), 1),
        )
        for side, cost in enumerate(map(_size, sides))
    )
    return first, second
