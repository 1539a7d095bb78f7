"""Refuses options that would change nothing, by what `trainer.run.sections` declares of each."""

from __future__ import annotations

from collections.abc import Iterator

from classifier.errors import InvalidRequest
from trainer.run.config import SECTIONS, TrainingConfig
from trainer.run.declarations import Declared, declared
from trainer.run.sections import FROM_SCRATCH, HEAD_ONLY, NO_CONVOLUTION, NO_STRENGTH, UNAUGMENTED


def require_effect(config: TrainingConfig) -> None:
    """Refuse options that would change nothing.

    Raises:
        InvalidRequest: another option leaves one without effect; the message names both.
    """
    if config.network.from_scratch and config.schedule.fine_tune_epochs == 0:
        raise InvalidRequest(
            "With --weights none, everything is learnt in fine-tuning: --fine-tune-epochs has to be 1 or more."
        )
    if config.data.unlabelled is not None and config.schedule.teacher is None:
        raise InvalidRequest("--unlabelled needs --teacher, which says what the photos show.")
    given = list(_given(config))
    names = {each.name for each in given}
    for each in given:
        needed = each.option.needs
        if needed is not None and needed not in names:
            raise InvalidRequest(f"{each.flag} needs --{needed.replace('_', '-')}: add it, or leave the option out.")
    for reason in _reasons(config):
        useless = [each.flag for each in given if reason in each.option.idle_with]
        if useless:
            raise InvalidRequest(f"{reason} leaves {' and '.join(useless)} without effect: leave one of them out.")


def idle_by(config: TrainingConfig, section: str, name: str) -> str | None:
    """Return what leaves an option without effect, whatever its value: ``--no-augment``, say; None if nothing does."""
    (option,) = (each.option for each in declared(SECTIONS[section]) if each.name == name)
    return next((reason for reason in _reasons(config) if reason in option.idle_with), None)


def _given(config: TrainingConfig) -> Iterator[Declared]:
    """Yield the options that are not as declared."""
    for section, kind in SECTIONS.items():
        for each in declared(kind):
            if getattr(getattr(config, section), each.name) != each.default:
                yield each


def _reasons(config: TrainingConfig) -> list[str]:
    """Return what holds of all that leaves other options without effect."""
    schedule = config.schedule
    holds = {
        FROM_SCRATCH: config.network.from_scratch,
        HEAD_ONLY: schedule.fine_tune_epochs == 0,
        UNAUGMENTED: not schedule.augment,
        NO_STRENGTH: schedule.augmentation_strength == 0,
        NO_CONVOLUTION: config.network.head_convolution == 0,
    }
    return [reason for reason, does in holds.items() if does]
