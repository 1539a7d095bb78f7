"""Lays out the pages of the site for Sphinx: docs/, the README, the notebook, and the files that any of them links to.

    python scripts/site/pages.py FOLDER

In the repository a link is relative to the file that it is in, as code hosts want it; here it is turned to where the
file is in the site. One that leads nowhere is left as it is: Sphinx refuses it.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/quickstart.ipynb": "quickstart.md",
    "clients/typescript/README.md": "client-typescript.md",
    "clients/python/README.md": "client-python.md",
}
"""Files outside of docs/, and of another kind, that are pages, by the name that they have in the site."""
ORDER = {
    "Start": ("quickstart",),
    "Train": ("training", "results", "importing", "leaving-firebase-ml", "leaving-vertex", "leaving-custom-vision"),
    "Roll out": ("rollout", "batch"),
    "Serve": (
        "serving",
        "A client for TypeScript <client-typescript>",
        "A client for Python <client-python>",
        "python",
        "on-device",
        "container",
    ),
    "Operate": ("deploy", "operations", "reliability"),
    "Reference": ("cli", "benchmarks", "changelog"),
    "Why": ("architecture", "contributing"),
}
"""Every page but the first, as the site's menu has them; ``TITLE <PAGE>`` where a page's own title says too little.

Sphinx tells of one that is missing, or too many.
"""
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def lay_out(target: Path, root: Path = ROOT) -> None:
    """Write the pages, and what they link to, into a folder that is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    names = {f"docs/{path.name}": path.name for path in sorted((root / "docs").glob("*.md"))} | PAGES
    for origin, name in names.items():
        text = (root / origin).read_text(encoding="utf-8")
        if origin.endswith(".ipynb"):
            text = notebook(text)
        text = _turned(text, origin, names, target, root)
        (target / name).write_text(text + (_menu() if name == "index.md" else ""), encoding="utf-8")


def notebook(text: str) -> str:
    """Return a notebook's cells as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def _turned(text: str, origin: str, names: dict[str, str], target: Path, root: Path) -> str:
    """Return a page with its links as the site has them, after copying the files that are no pages."""

    def turned(match: re.Match[str]) -> str:
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[1]))
        if wanted in names:
            return names[wanted] + (match[2] or "")
        if not (root / wanted).is_file():
            return match[0]
        copied = target / "files" / wanted
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / wanted, copied)
        return f"files/{wanted}"

    return LINK.sub(turned, text)


def _menu() -> str:
    tables = (
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in ORDER.items()
    )
    return "\n" + "\n\n".join(tables) + "\n"


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
