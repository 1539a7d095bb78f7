"""The photos of a run: prepared by its chief, taken by the processes that train with it.

They are refused before they are trained on where nothing has changed since a version, or a gate refuses their labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from classifier.errors import Refused
from trainer.compute.processes import Workers
from trainer.data.changes import changes_since, lines_of
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.expected_labels import expect_labels
from trainer.data.preparation import load_photos, prepare_photos
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.folder import RunFolder


def run_photos(
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    workers: Workers,
    *,
    cache_bytes: int | None = None,
    threads: int | None = None,
) -> CheckedPhotos:
    """Return a run's photos, which the chief prepares; another process takes the same ones, from its own data folder.

    Args:
        config: the run's.
        run: its folder.
        console: where progress is shown.
        workers: this process among those that train.
        cache_bytes: how many bytes of decoded photos are kept in memory.
        threads: how many decode; None means one a CPU.

    Raises what `prepare_photos`, `load_photos` and `require_unchanged` raise.
    """
    spec = input_spec(config.network)
    if workers.chief:
        photos = prepare_photos(config, spec, run, console, cache_bytes=cache_bytes, workers=threads)
        workers.meet()
        return photos
    workers.meet()
    photos = load_photos(run, config, spec, cache_bytes=cache_bytes, unlabelled=True)
    require_unchanged(photos, np.arange(len(photos.frame)))
    return photos


def accepted_photos(
    version: Path | None,
    gate: Path | None,
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
) -> CheckedPhotos:
    """Prepare a run's photos, refuse labels that a gate would refuse, and say which photos have changed.

    Args:
        version: the folder of the version since which they have; None: nothing is said.
        gate: see `expect_labels`; None: there is none.
        config: see `run_photos`.
        run: see `run_photos`.
        console: where it is said, a line a class.
        cache_bytes: see `run_photos`.
        workers: threads that decode.

    Raises:
        Refused: none has, or the gate would refuse their labels.
        Also what `prepare_photos` and `changes_since` raise.
    """

    def accept(photos: CheckedPhotos) -> None:
        if gate is not None:
            expect_labels(gate, photos.frame["label"])
        if version is None:
            return
        changes = changes_since(version, photos.frame)
        if changes.empty:
            raise Refused(
                f"No photo and no label has changed since {version} was trained. --unchanged (or --force of admin_cli "
                "retrain) trains all the same."
            )
        for line in lines_of(changes):
            console.print(line, highlight=False, markup=False)

    return prepare_photos(
        config,
        input_spec(config.network),
        run,
        console,
        cache_bytes=cache_bytes,
        workers=workers,
        accept=accept,
    )
