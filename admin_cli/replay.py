"""Replays golden cases without what LiteRT says about itself, which would stand between a command's own lines."""

from __future__ import annotations

from collections.abc import Callable

from classifier.quiet import quiet
from classifier.registry.manifest import Manifest


def replay(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    """See `classifier.serving.golden.replay`."""
    from classifier.serving import golden

    with quiet():
        golden.replay(manifest, read_file)
