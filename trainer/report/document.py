"""A document as sections of blocks, which become HTML and Markdown: whatever is text is escaped here, and only here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Cell = str | float | int | None
ADDRESS = re.compile(r"https?://[\w./~:?=&%+,@-]+\)?")
"""What nothing of Markdown or HTML can hide in."""


@dataclass(frozen=True)
class Paragraph:
    """Text; a warning stands out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Listing:
    """Points."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under heads. Text is written as it is; numbers to the right, None as "not measured"."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    formats: tuple[str, ...] = ()
    """A format for the numbers of each column, such as ``.1%``; the first column needs none."""
    sortable: bool = False


@dataclass(frozen=True)
class Picture:
    """A file of the report."""

    file: Path
    """Relative to the report's folder."""
    caption: str
    alternative: str
    """What it shows, for who cannot see it."""


Block = Paragraph | Listing | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the document."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the document in Markdown (CommonMark with tables)."""
    parts = [f"# {_escaped(title)}"]
    for section in sections:
        parts.append(f"## {_escaped(section.title)}")
        parts += [_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def cell_text(table: Table, column: int, value: Cell) -> str:
    """Return what is written in a cell."""
    if value is None:
        return "not measured"
    if isinstance(value, str):
        return value
    return format(value, table.formats[column] if column < len(table.formats) else "")


def _markdown(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"> **Warning.** {_escaped(block.text)}" if block.warning else _escaped(block.text)
    if isinstance(block, Listing):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{_escaped(block.alternative)}]({block.file.as_posix()})"
    lines = [f"{_escaped(block.caption)}:", "", _row([_escaped(head) for head in block.heads])]
    lines.append(_row(["---", *["---:"] * (len(block.heads) - 1)]))
    lines += [
        _row([_escaped(cell_text(block, column, value)) for column, value in enumerate(row)]) for row in block.rows
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; addresses stay as they are, to be followed."""
    words = " ".join(text.split()).split(" ")
    return " ".join(
        word if ADDRESS.fullmatch(word) else re.sub(r"[\\`*\[\]<>|#&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", word)
        for word in words
    )
