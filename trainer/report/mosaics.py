"""The pictures of photos in the report: each function takes arrays and returns a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.report.style import INK, RIGHT, WRONG, bare, fonts, new_figure, styled

PAGE_WIDTH = 8.6
"""Inches."""
PAPER = "#eef0f3"


@dataclass(frozen=True)
class Tile:
    """One photo with its caption."""

    image: NDArray[np.uint8]
    """[H, W, 3]; shown whole."""
    lines: tuple[str, ...]
    """Below each other, above the photo."""
    right: bool | None = None
    """Whether the label that it shows is right; None where nothing was predicted."""


@dataclass(frozen=True)
class Triptych:
    """Why a photo got its label."""

    images: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
    """Photo, heatmap, overlay: each [H, W, 3]."""
    lines: tuple[str, ...]
    right: bool | None
    """None where the true label is not known."""


@styled
def photo_grid(tiles: Sequence[Tile], columns: int = 4) -> Figure:
    """Draw photos with their captions, row by row."""
    lines = max((len(tile.lines) for tile in tiles), default=0)
    with mpl.rc_context({"font.family": _fonts(tiles)}):
        figure, cells = _cells(len(tiles), columns, 0.17 * lines + 0.06)
        for cell, tile in zip(cells, tiles, strict=False):
            _picture(cell, tile.image)
            cell.set_title("\n".join(tile.lines), **_caption(tile.right))
    return figure


@styled
def photo_rows(rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]]) -> Figure:
    """Draw rows of pictures, each row under its title.

    Args:
        rows: title and pictures, [H, W, 3] or grey [H, W].
    """
    columns = max(len(pictures) for _, pictures in rows)
    with mpl.rc_context({"font.family": fonts([title for title, _ in rows])}):
        figure, cells = _cells(len(rows) * columns, columns, 0.24)
        for number, (title, pictures) in enumerate(rows):
            own = cells[number * columns : (number + 1) * columns]
            for cell, picture in zip(own, pictures, strict=False):
                _picture(cell, picture)
            for cell in own[len(pictures) :]:
                cell.set_visible(False)
            own[0].set_title(" ", **_caption(None))  # keeps the room: the title itself is as wide as the row
            text = own[0].text(0, 1.02, title, transform=own[0].transAxes, va="bottom", fontsize=8)
            text.set_in_layout(False)
    return figure


@styled
def triptychs(explanations: Sequence[Triptych], across: int = 2) -> Figure:
    """Draw photo, heatmap and overlay beside each other, `across` explanations a row."""
    with mpl.rc_context({"font.family": _fonts(explanations)}):
        lines = max(len(each.lines) for each in explanations)
        figure, cells = _cells(len(explanations) * 3, across * 3, 0.17 * lines + 0.1)
        for number, each in enumerate(explanations):
            for cell, image in zip(cells[number * 3 : number * 3 + 3], each.images, strict=True):
                _picture(cell, image)
            cells[number * 3].set_title("\n".join(each.lines), **_caption(each.right))
    return figure


def _cells(count: int, columns: int, caption: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of a page's width and its cells, those beyond `count` invisible; captions in inches."""
    rows = -(-count // columns)
    side = PAGE_WIDTH / columns
    figure = new_figure(PAGE_WIDTH, rows * (side + caption), w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    cells: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for cell in cells[count:]:
        cell.set_visible(False)
    return figure, cells


def _picture(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show a whole picture in the middle of a square."""
    bare(axes)
    height, width = image.shape[:2]
    side = max(height, width)
    axes.imshow(image, cmap="gray" if image.ndim == 2 else None, interpolation="antialiased", aspect="equal")
    axes.set_xlim((width - side) / 2 - 0.5, (width + side) / 2 - 0.5)
    axes.set_ylim((height + side) / 2 - 0.5, (height - side) / 2 - 0.5)
    axes.set_facecolor(PAPER)


def _caption(right: bool | None) -> dict[str, Any]:
    colour = INK if right is None else RIGHT if right else WRONG
    return {"fontsize": 8, "fontweight": "normal", "color": colour, "loc": "left", "pad": 2.5}


def _fonts(captioned: Sequence[Tile | Triptych]) -> list[str]:
    return fonts([line for each in captioned for line in each.lines])
