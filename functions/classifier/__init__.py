"""Pointer's runtime: photos in, labels, confidences and heatmaps out. Never imports TensorFlow or Keras.

`open_model` and `open_bundle` are for programs in Python (docs/python.md). The function uses neither, so that they are
imported by whoever names them, and not by `import classifier`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classifier.api import Classifier, Result, open_bundle, open_model

__all__ = ["Classifier", "Result", "open_bundle", "open_model"]


def __getattr__(name: str) -> object:
    """Import `classifier.api` when one of its names is used for the first time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from classifier import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the names that are imported when they are used, too."""
    return sorted([*globals(), *__all__])
