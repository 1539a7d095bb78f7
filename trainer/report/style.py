"""How every picture of the report looks, and how it becomes a file: fonts, colours, sizes; labels that can be drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from trainer.run.files import write_file

BLUE, ORANGE, GREEN, VERMILION, INK, MUTED = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#1b1f24", "#626a73"
"""Okabe and Ito's colours (2008), which colour-blind readers can tell apart."""
SPLIT_COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
RIGHT, WRONG = "#00704f", "#b34700"
"""Of text; the words say it too."""
CHART_DPI, PHOTO_DPI = 150, 110
JPEG_QUALITY = 80
BASE_FONT = "DejaVu Sans"
"""Comes with Matplotlib: the same on every machine."""
PLACEHOLDERS = "Last Resort"
"""A font with a box for every character there is."""
LONGEST_LABEL = 26
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": False,
    "grid.color": "#d9dde2",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a label may hold dollar signs
}

styled = mpl.rc_context(STYLE)
"""Decorates the functions that draw."""


def new_figure(width: float, height: float, **gaps: Any) -> Figure:
    """Return an empty figure of a size in inches: no window, no global state.

    Args:
        width: inches.
        height: inches.
        gaps: what `ConstrainedLayoutEngine` takes: w_pad, h_pad (inches), wspace, hspace (shares of an axes' size).
    """
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**gaps))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as ``.png`` (charts) or ``.jpg`` (photos), without a date: the same figure gives the same file."""
    if path.suffix == ".jpg":
        options: dict[str, Any] = {"dpi": PHOTO_DPI, "pil_kwargs": {"quality": JPEG_QUALITY, "optimize": True}}
    else:
        options = {"dpi": CHART_DPI, "metadata": {"Software": None}, "bbox_inches": "tight"}
    write_file(path, lambda beside: figure.savefig(beside, **options))


def bare(axes: Axes) -> None:
    """Take the ticks and the frame off axes that hold a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def drawable(labels: Sequence[str], limit: int = LONGEST_LABEL) -> list[str]:
    """Return each label as it can be drawn: on one line, not too long, ``class 7`` where no font has its characters.

    Args:
        labels: all of them, in order.
        limit: the most characters; a longer one is cut in the middle, where labels differ least.
    """
    return [_drawable(label, number, limit) for number, label in enumerate(labels)]


def fonts(texts: Sequence[str]) -> list[str]:
    """Return the font families that these texts need: Matplotlib's own, then the machine's for what that has not."""
    return [BASE_FONT, *(family for family, _ in _fallbacks(_missing("".join(texts))))]


def _drawable(label: str, number: int, limit: int) -> str:
    text = " ".join(label.replace("_", " ").split())
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    missing = _missing(text)
    for _, path in _fallbacks(missing):
        missing -= _characters(path)
    if missing or not text:
        return f"class {number}"
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head].rstrip()}…{text[head - limit + 1 :].lstrip()}"


def _missing(text: str) -> frozenset[str]:
    return frozenset(text) - _characters(str(font_manager.findfont(BASE_FONT)))


@cache
def _characters(path: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(path).get_charmap()))


@cache
def _fallbacks(missing: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return name and file of installed fonts that together have as many of these characters as can be had."""
    found: list[tuple[str, str]] = []
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: str(entry.name)):
        if not missing:
            break
        plain = entry.style == "normal" and entry.weight in (400, "normal") and entry.stretch == "normal"
        if not plain or entry.name.startswith(PLACEHOLDERS):
            continue
        try:
            characters = _characters(entry.fname)
        except (RuntimeError, OSError):
            continue  # one that FreeType cannot read
        if missing & characters:
            found.append((entry.name, entry.fname))
            missing -= characters
    return tuple(found)
