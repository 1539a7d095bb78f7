"""The report as one HTML page that needs nothing besides itself: styles, script and pictures are inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from classifier.pages import data_address, render
from trainer.report.document import Block, Picture, Section, cell_text

HERE = Path(__file__).parent
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
STYLES = (HERE / "page.css").read_text(encoding="utf-8")
SCRIPT = (HERE / "page.js").read_text(encoding="utf-8")


def to_html(title: str, summary: Sequence[Block], sections: Sequence[Section], folder: Path) -> str:
    """Return the page; the files of its pictures are below `folder`."""
    return render(
        HERE / "page.html",
        title,
        styles=STYLES,
        script=SCRIPT,
        summary=summary,
        sections=sections,
        kind_of=lambda block: type(block).__name__,
        cell_text=cell_text,
        embedded=partial(_embedded, folder),
    )


class _Embedded(NamedTuple):
    """A picture as it stands in the page."""

    address: str
    width: int
    height: int


def _embedded(folder: Path, picture: Picture) -> _Embedded:
    path = folder / picture.file
    with Image.open(path) as image:
        width, height = image.size
    return _Embedded(data_address(path.read_bytes(), MEDIA_TYPES[path.suffix]), width, height)
