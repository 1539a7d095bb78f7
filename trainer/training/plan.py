"""What is left of a training: which of its phases, and from which weights they begin.

Of a pretrained network first the head is trained and then its upper layers with it; one from scratch has one phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.run.config import TrainingConfig
from trainer.run.finished import HEAD_PHASE, last_phase
from trainer.training.checkpoints import TrainingState


@dataclass(frozen=True)
class Plan:
    """Of one run."""

    head: bool
    """Whether the head is still to be trained on the frozen backbone's features."""
    last: str
    """The phase that trains the backbone."""
    backbone: bool
    """Whether that is still to be trained."""
    start: Path | None
    """The version from whose weights the run begins, where it begins now."""
    load_weights: bool
    """Whether the backbone begins with its pretrained weights: behind the head's phase, a checkpoint follows."""


def plan_of(config: TrainingConfig, state: TrainingState) -> Plan:
    """Return what is left of a run; its last phase goes on where more is asked for than it was finished with."""
    last = last_phase(config)
    state.reopen(last, config.fine_tune_epochs(), config.schedule.patience)
    scratch = config.network.from_scratch
    begun = HEAD_PHASE in state.finished
    head = not scratch and not begun
    fresh = head or (scratch and state.best is None)
    start = Path(config.network.start) if config.network.start and fresh else None
    return Plan(head, last, last not in state.finished, start, load_weights=not begun and start is None)
