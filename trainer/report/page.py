"""The report as one HTML page that needs nothing besides itself: styles, script and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from trainer.report.document import Block, Listing, Paragraph, Picture, Section, Table, cell_text

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
STYLES = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")


def to_html(title: str, summary: Sequence[Block], sections: Sequence[Section], folder: Path) -> str:
    """Return the page; the files of its pictures are below `folder`.

    Its content security policy forbids every request and every script but its own, whatever a label holds.
    """
    script_hash = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'"
    links = "\n".join(f'<li><a href="#{each.anchor}">{escape(each.title)}</a></li>' for each in sections)
    body = "\n".join(_section(section, folder) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLES}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{_blocks(summary, folder)}
</header>
<nav aria-label="Contents"><h2>Contents</h2><ol>
{links}
</ol></nav>
<main>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _section(section: Section, folder: Path) -> str:
    return (
        f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>\n'
        f"{_blocks(section.blocks, folder)}\n</section>"
    )


def _blocks(blocks: Sequence[Block], folder: Path) -> str:
    return "\n".join(_block(block, folder) for block in blocks)


def _block(block: Block, folder: Path) -> str:
    if isinstance(block, Paragraph):
        kind = ' class="warning" role="note"' if block.warning else ""
        return f"<p{kind}>{escape(block.text)}</p>"
    if isinstance(block, Listing):
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
    return _picture(block, folder) if isinstance(block, Picture) else _table(block)


def _picture(picture: Picture, folder: Path) -> str:
    path = folder / picture.file
    with Image.open(path) as image:
        width, height = image.size
    data = base64.b64encode(path.read_bytes()).decode()
    caption = escape(picture.caption)
    # The checkbox enlarges the picture to its full size, with no script.
    return (
        f'<figure><label class="zoom"><input type="checkbox" aria-label="Full size: {escape(picture.caption)}">'
        f'<span class="frame"><img src="data:{MEDIA_TYPES[path.suffix]};base64,{data}" width="{width}" '
        f'height="{height}" alt="{escape(picture.alternative)}"></span></label>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = []
    for row in table.rows:
        cells = []
        for column, value in enumerate(row):
            text = escape(cell_text(table, column, value))
            number = f' class="number" data-value="{value}"' if isinstance(value, int | float) else ""
            cells.append(f'<th scope="row">{text}</th>' if column == 0 else f"<td{number}>{text}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    kind = ' class="sortable"' if table.sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table{kind}>'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
