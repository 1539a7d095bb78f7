"""The report as one HTML page that needs nothing besides itself: styles, script and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from trainer.report.document import Block, Picture, Section, cell_text

HERE = Path(__file__).parent
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
STYLES = (HERE / "page.css").read_text(encoding="utf-8")
SCRIPT = (HERE / "page.js").read_text(encoding="utf-8")


def to_html(title: str, summary: Sequence[Block], sections: Sequence[Section], folder: Path) -> str:
    """Return the page; the files of its pictures are below `folder`.

    Its content security policy forbids every request and every script but its own, whatever a label holds.
    """
    script_hash = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'",
        title=title,
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
    data = base64.b64encode(path.read_bytes()).decode()
    return _Embedded(f"data:{MEDIA_TYPES[path.suffix]};base64,{data}", width, height)
