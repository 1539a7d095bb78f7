"""When two labels are the same: they are compared in Unicode's composed form, wherever they come from."""

from __future__ import annotations

import re
import unicodedata


def trimmed(label: str) -> str:
    """Write a label in Unicode's composed form (NFC), without outer white space: macOS writes é as two characters."""
    return unicodedata.normalize("NFC", label).strip()


def folded(label: str) -> str:
    """Write a label without letter case, and with a blank for what stands between its words: to find what is meant."""
    return re.sub(r"[\s_-]+", " ", trimmed(label).casefold())
