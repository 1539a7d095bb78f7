"""Label files: one label a line, in the order of the model's outputs, and how many of them there have to be."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from classifier.errors import InvalidRequest, NotFound
from trainer.importing.metadata import LARGEST_LABELS

BACKGROUND = "background"
IMAGENET = 1001
"""Outputs of networks whose first one is for none of ImageNet's thousand classes."""
_NUMBERED = re.compile(r"(\d+)(?:[\t ,;]+|: *)(\S.*)")


def read_labels(path: Path) -> list[str]:
    """Return the labels of a file.

    Raises:
        NotFound: there is none.
        InvalidRequest: it is not a text of labels.
    """
    if not path.is_file():
        raise NotFound(f"Expected a label file at --labels {path}; there is none.")
    if path.stat().st_size > LARGEST_LABELS:
        raise InvalidRequest(f"Expected --labels to have at most {LARGEST_LABELS:,} bytes; {path} has more.")
    try:
        return labels_in(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Expected --labels to be text in UTF-8; {path} is not.") from error


def labels_in(text: str) -> list[str]:
    """Return the labels of a text: one a line, or ``0 first``, ``1 second`` with every number in its place.

    Raises:
        InvalidRequest: a line is empty between others.
    """
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        number = lines.index("") + 1 if lines else 1
        raise InvalidRequest(f"Expected a label on each line of the label file; line {number} is empty.")
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    found = [(int(each[1]), each[2].strip()) for each in numbered if each]
    if len(found) == len(lines):
        for first in (0, 1):
            if sorted(number for number, _ in found) == list(range(first, first + len(found))):
                return [label for _, label in sorted(found, key=lambda each: each[0])]
    return lines


def fitted_labels(labels: list[str], outputs: int) -> tuple[tuple[str, ...], list[str]]:
    """Return a label for each output, none twice, and what was assumed to get there.

    Args:
        labels: as they were read.
        outputs: of the model; 1 stands for two labels, of which the output is the second one's probability.

    Raises:
        InvalidRequest: there are not as many.
    """
    classes = 2 if outputs == 1 else outputs
    notes = []
    if len(labels) == classes + 1 and labels[0].lower() in (BACKGROUND, "dummy", "???"):
        notes.append(f"the first label, {labels[0]!r}, has no output: it is left out")
        labels = labels[1:]
    elif len(labels) == classes - 1 and classes == IMAGENET:
        notes.append(f"{outputs} outputs and {len(labels)} labels: the first output is taken as {BACKGROUND!r}")
        labels = [BACKGROUND, *labels]
    if len(labels) != classes:
        told = "two labels for its one output" if outputs == 1 else f"a label for each of the {outputs} outputs"
        raise InvalidRequest(
            f"Expected {told}; received {len(labels)} labels. Give --labels of this model, a label a line in the order "
            "of its outputs."
        )
    counts = Counter(labels)
    if len(counts) != len(labels):
        twice = sorted(label for label, count in counts.items() if count > 1)
        notes.append(f"labels that are there twice get their number: {', '.join(twice[:5])}")
        labels = [f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels)]
    return tuple(labels), notes
