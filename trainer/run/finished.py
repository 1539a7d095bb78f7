"""What a run still lacks: a training that is given again does that and nothing else."""

from __future__ import annotations

from typing import Literal

from classifier.errors import PointerError
from classifier.registry.manifest import MANIFEST_FILE, REPORT_FILE, Manifest
from trainer.run.config import TrainingConfig
from trainer.run.files import read_json
from trainer.run.folder import RunFolder

Step = Literal["training", "bundle", "report"]
HEAD_PHASE, FINE_TUNING_PHASE, TRAINING_PHASE = "head", "fine-tuning", "training"
"""The phases, as state.json names them: a network from scratch has the last one alone, others the first two."""


def last_phase(config: TrainingConfig) -> str:
    """Return the phase with which a training is complete."""
    return TRAINING_PHASE if config.network.from_scratch else FINE_TUNING_PHASE


def is_trained(run: RunFolder) -> bool:
    """Return whether both phases, or the only one of a network from scratch, are finished."""
    finished = read_json(run.state).get("finished", []) if run.state.is_file() else []
    return bool(finished) and finished[-1] != HEAD_PHASE


def next_step(run: RunFolder, config: TrainingConfig, *, report: bool) -> Step | None:
    """Return where a run has to go on; None where it has all that is asked for.

    Args:
        run: the run.
        config: what is asked for; it may ask for more epochs, or patience, than the run was trained with.
        report: whether a report is asked for.
    """
    if not is_trained(run):
        return "training"
    state = read_json(run.state)
    wanted = [config.fine_tune_epochs(), config.schedule.patience]
    if state.get("planned", {}).get(state["finished"][-1]) != wanted:
        return "training"
    manifest = _bundle_of(run)
    best = {name: value for name, value in (state["best"] or {}).items() if name not in ("weights", "seeds")}
    if manifest is None or manifest.training.get("best_epoch") != best:
        return "bundle"
    return "report" if report and REPORT_FILE not in manifest.files else None


def _bundle_of(run: RunFolder) -> Manifest | None:
    path = run.bundle / MANIFEST_FILE
    try:
        return Manifest.from_json(path.read_bytes()) if path.is_file() else None
    except PointerError:
        return None
