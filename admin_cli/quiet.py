"""Runs the model without what LiteRT says about itself, which would stand between a command's own lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from classifier.manifest import Manifest


def replay(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    """See `classifier.golden.replay`."""
    from classifier import golden

    with quiet():
        golden.replay(manifest, read_file)


@contextmanager
def quiet() -> Iterator[None]:
    """Send standard error to nowhere. LiteRT writes to the descriptor itself; its errors are raised besides."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - not a file
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
