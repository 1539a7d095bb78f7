"""`trainer train` and `trainer export`: from photos to a bundle."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from classifier.errors import InvalidSetting
from trainer.commands.options import (
    CacheOption,
    RunArgument,
    RunOption,
    StrangersOption,
    ToleranceOption,
    VariantOption,
    WorkersOption,
    training_options,
)
from trainer.commands.reporting import ReportOption, write_report
from trainer.commands.screen import console, load_keras, print_result
from trainer.config import TrainingConfig


@training_options
def train(
    run: RunOption,
    config: TrainingConfig,
    tolerance: ToleranceOption = 0.005,
    variant: VariantOption = None,
    strangers: StrangersOption = None,
    cache_gb: CacheOption = None,
    workers: WorkersOption = None,
    report: ReportOption = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again if the run folder is in use.")] = False,
) -> None:
    """Train, export, evaluate, report, and leave a bundle in the run's folder.

    Example: trainer train --dataset folder --data-dir photos --architecture mobilenet_v2 --run runs/mine
    """
    from trainer.run_folder import start_run
    from trainer.strangers import require_folder

    if strangers is not None:
        require_folder(strangers)
    folder = start_run(run, config, overwrite=overwrite)
    began = time.perf_counter()
    load_keras()
    from trainer import bundle, training

    cache_bytes = None if cache_gb is None else int(cache_gb * 1e9)
    trained = training.train(config, folder, console(), cache_bytes=cache_bytes, workers=workers)
    console().print(f"trained in {time.perf_counter() - began:.0f} s", highlight=False)
    if bundle.backend() != bundle.EXPORTING_BACKEND:
        console().print(f"next: KERAS_BACKEND=tensorflow trainer export {run}", highlight=False, soft_wrap=True)
        return
    manifest = bundle.make_bundle(
        trained, config, folder, console(), tolerance=tolerance, variant=variant, strangers=strangers
    )
    print_result(manifest, folder.bundle)
    if report:
        write_report(folder, strangers)
    console().print(f"done in {time.perf_counter() - began:.0f} s", highlight=False)


def export(
    run: RunArgument,
    tolerance: ToleranceOption = 0.005,
    variant: VariantOption = None,
    strangers: StrangersOption = None,
    report: ReportOption = True,
) -> None:
    """Make a run's bundle again from its best checkpoint.

    Example: trainer export runs/food --tolerance 0.01
    """
    from trainer.run_folder import open_run

    folder, config = open_run(run)
    load_keras()
    from trainer import bundle, training

    if bundle.backend() != bundle.EXPORTING_BACKEND:
        raise InvalidSetting(f"Expected KERAS_BACKEND=tensorflow for the export; received {bundle.backend()}.")
    trained = training.load_trained(folder, config)
    manifest = bundle.make_bundle(
        trained, config, folder, console(), tolerance=tolerance, variant=variant, strangers=strangers
    )
    print_result(manifest, folder.bundle)
    if report:
        write_report(folder, strangers)
