"""Shows a page that was written, or says where it is where there is no browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from admin_cli.output import print_text


def show_page(path: Path) -> None:
    """Open a page in the browser; without one, as over SSH, say where it is."""
    address = path.resolve().as_uri()
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    if not screen or not webbrowser.open(address):
        print_text(f"there is no browser here; the page is {address}")
