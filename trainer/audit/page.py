"""The page of an audit: the photos that something was found of, to decide on by looking; it makes no request."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from classifier.pages import data_address, render
from classifier.photo.preprocessing import decode
from trainer.audit.findings import Findings
from trainer.data.source import TRAINING_LIMITS
from trainer.report.page import STYLES

HERE = Path(__file__).parent
PAGE = "audit.html"
SCRIPT = (HERE / "audit.js").read_text(encoding="utf-8")
SIDE, QUALITY = 220, 75
"""Of a photo on the page: pixels of its longer side, and JPEG's."""


@dataclass(frozen=True)
class Card:
    """One thing to decide on."""

    path: str
    rows: tuple[int, ...]
    """The photos that are shown: the one in question first."""
    text: str
    suggested: str = ""


@dataclass(frozen=True)
class Part:
    """The cards of one kind."""

    anchor: str
    title: str
    text: str
    cards: tuple[Card, ...]


def to_html(findings: Findings, table: pd.DataFrame, title: str, summary: list[str], most: int) -> str:
    """Return the page.

    Args:
        findings: what was found.
        table: of decisions, which the page saves with those made on it.
        title: of the page.
        summary: lines below it.
        most: how many cards of each kind are shown; the table has the others too.
    """
    frame = findings.photos.frame
    parts = _parts(findings, table, most)
    shown = {row for part in parts for card in part.cards for row in card.rows}
    return render(
        HERE / "audit.html",
        title,
        styles=STYLES + (HERE / "audit.css").read_text(encoding="utf-8"),
        script=SCRIPT,
        summary=summary,
        sections=parts,
        pictures={row: _picture(findings.photos.source.paths[row]) for row in sorted(shown)},
        labels=frame["label"].tolist(),
        splits=frame["split"].tolist(),
        classes=findings.labels,
        table={"columns": list(table.columns), "rows": table.to_dict("records")},
    )


def _parts(findings: Findings, table: pd.DataFrame, most: int) -> list[Part]:
    paths = findings.photos.frame["image_path"].to_numpy()
    reasons = dict(zip(table["image_path"], table["reason"], strict=True))
    doubts = [
        Card(paths[row], (row,), reasons[paths[row]], findings.suggested(row))
        for row in findings.doubted[:most].tolist()
    ]
    twins = [
        Card(paths[pair.second], (pair.second, pair.first), f"nearly the same as {paths[pair.first]}")
        for pair in findings.duplicates[:most]
    ]
    strange = [Card(paths[row], (row,), reasons[paths[row]]) for row in findings.outliers[:most].tolist()]
    told = (
        (
            "labels", "Labels in doubt", doubts, len(findings.doubted),
            "Models that have not seen the photo take it for another class; the least probable labels come first. "
            f"{findings.confident:,} of them belong to the other class confidently.",
        ),
        (
            "duplicates", "Near duplicates", twins, len(findings.duplicates),
            "Pairs of photos that are nearly the same; the decision is about the first one. A pair in two splits makes "
            "figures look better than they are.",
        ),
        ("outliers", "Outliers", strange, len(findings.outliers), "Photos that are like no other one."),
    )  # fmt: skip
    return [
        Part(
            anchor,
            f"{title} ({count:,})",
            f"{text} The first {len(cards):,} are shown." if len(cards) < count else text,
            tuple(cards),
        )
        for anchor, title, cards, count, text in told
        if count
    ]


def _picture(path: Path) -> str:
    image = decode(path.read_bytes(), width=SIDE, height=SIDE, limits=TRAINING_LIMITS).display(SIDE)
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=QUALITY)
    return data_address(content.getvalue())
