"""A server whose forward passes take as long as a test wants."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import FUNCTIONS

SLOW = """
# Python imports this before anything else.
import importlib.abc, sys, time

class Slower(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "classifier.serving.pool":
            return None
        sys.meta_path.remove(self)
        import classifier.serving.model
        run = classifier.serving.model.Model.run
        def slow(self, image, **options):
            time.sleep(float({seconds!r}))
            return run(self, image, **options)
        classifier.serving.model.Model.run = slow
        return None

sys.meta_path.insert(0, Slower())
"""


def slowed(folder: Path, seconds: float) -> str:
    """A PYTHONPATH that makes each forward pass take longer."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW.replace("{seconds!r}", repr(seconds)))
    return f"{folder}:{FUNCTIONS}"
