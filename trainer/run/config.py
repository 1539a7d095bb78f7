"""Everything that decides what a training run does, as one frozen object that is kept with the run as config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from trainer.run.presets import OWN, PRESETS, preset_of
from trainer.run.sections import ComputeConfig, DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.validation import read_sections

SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "network": NetworkConfig,
    "schedule": ScheduleConfig,
    "compute": ComputeConfig,
}


@dataclass(frozen=True)
class TrainingConfig:
    """One run."""

    data: DataConfig
    network: NetworkConfig
    schedule: ScheduleConfig
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> TrainingConfig:
        """Read what `to_json` wrote.

        Raises:
            InvalidSetting: a section or option is missing, unknown or not what it has to be; the message names it.
        """
        return cls(**read_sections(plain, SECTIONS, may_lack=("compute",)))

    def differences(self, other: TrainingConfig) -> list[str]:
        """Return a line for each option whose value differs, such as ``network.dropout: 0.2, then 0.3``."""
        lines = []
        for section in fields(self):
            mine, theirs = getattr(self, section.name), getattr(other, section.name)
            for option in fields(mine):
                before, after = getattr(mine, option.name), getattr(theirs, option.name)
                if before != after:
                    lines.append(f"{section.name}.{option.name}: {before!r}, then {after!r}")
        return lines

    def is_prolonged_by(self, other: TrainingConfig) -> bool:
        """Return whether another configuration asks for this training and more: epochs of fine-tuning, or patience."""
        schedule = replace(
            self.schedule, fine_tune_epochs=other.schedule.fine_tune_epochs, patience=other.schedule.patience
        )
        return (
            replace(self, schedule=schedule) == other
            and other.fine_tune_epochs() >= self.fine_tune_epochs()
            and other.schedule.patience >= self.schedule.patience
        )

    def fine_tune_epochs(self) -> int:
        """Return how many epochs are fine-tuned at most: those asked for, or the architecture's own."""
        asked = self.schedule.fine_tune_epochs
        if asked is not None or self.network.architecture not in (*PRESETS, OWN):
            return asked or 0
        return preset_of(self.network.architecture).fine_tune_epochs
