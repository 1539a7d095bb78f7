"""The table of what a search may vary: each parameter's values, their scale, and the option that it sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from classifier.errors import InvalidRequest
from trainer.run.config import TrainingConfig
from trainer.run.effect import idle_by
from trainer.run.sections import HEAD_ONLY

Value = float | int | str
HIDDEN = "network.hidden"


@dataclass(frozen=True)
class Parameter:
    """One row of the table."""

    name: str
    label: str
    """In a line about a trial."""
    kind: Literal["range", "choice"]
    values: tuple[Value, ...]
    """The two ends of a range, or the choices in their order."""
    scale: Literal["linear", "log", "list"]
    """On which a range is drawn from evenly; the choices of a list are equally likely."""
    sets: str
    """Section and option of `TrainingConfig`."""
    backbone: bool = False
    """Whether trying a value takes a training of the backbone; otherwise a head on cached features tells."""
    start: Literal["pretrained", "scratch", "any"] = "any"
    """For which networks."""
    needs: tuple[str, tuple[Value, ...]] | None = None
    """Another parameter, and the values of it for which this one means anything."""
    usual: bool = True
    """Whether it is searched unless others are named."""
    rate: bool = False
    """Whether it is a learning rate: of Adam, and multiplied by `optimizers.RATE_FACTORS` for another."""


SPACE = (
    Parameter(
        "learning_rate", "rate", "range", (1e-4, 1e-2), "log", "schedule.head_learning_rate",
        start="pretrained", rate=True,
    ),
    Parameter(
        "learning_rate", "rate", "range", (2e-4, 2e-2), "log", "schedule.fine_tune_learning_rate",
        backbone=True, start="scratch", rate=True,
    ),
    Parameter("dropout", "dropout", "range", (0.0, 0.6), "linear", "network.dropout"),
    Parameter("dense_layers", "dense", "choice", (0, 1, 2), "list", HIDDEN),
    Parameter("dense_width", "wide", "choice", (64, 128, 256, 512), "list", HIDDEN, needs=("dense_layers", (1, 2))),
    Parameter("optimizer", "", "choice", ("adam", "adamw", "sgd"), "list", "schedule.optimizer"),
    Parameter(
        "image_size", "pixels", "choice", (96, 128, 160, 192, 224, 299), "list", "network.image_size", backbone=True
    ),
    Parameter(
        "fine_tune_layers", "layers", "choice", (5, 10, 20, 30, 60, -1), "list", "schedule.fine_tune_layers",
        backbone=True, start="pretrained",
    ),
    Parameter(
        "fine_tune_rate", "fine", "range", (5e-6, 5e-4), "log", "schedule.fine_tune_learning_rate",
        backbone=True, start="pretrained", rate=True,
    ),
    Parameter(
        "augmentation_strength", "augment", "range", (0.0, 2.0), "linear", "schedule.augmentation_strength",
        backbone=True,
    ),
    Parameter(
        "flip", "flip", "choice", ("none", "horizontal", "vertical", "both"), "list", "schedule.flip",
        backbone=True, usual=False,
    ),
    Parameter("rotation", "turn", "range", (0.0, 90.0), "linear", "schedule.rotation", backbone=True, usual=False),
    Parameter("shift", "shift", "range", (0.0, 0.3), "linear", "schedule.shift", backbone=True, usual=False),
    Parameter("shear", "shear", "range", (0.0, 30.0), "linear", "schedule.shear", backbone=True, usual=False),
    Parameter("zoom", "zoom", "range", (0.0, 0.5), "linear", "schedule.zoom", backbone=True, usual=False),
    Parameter("contrast", "contrast", "range", (0.0, 0.5), "linear", "schedule.contrast", backbone=True, usual=False),
    Parameter(
        "head_convolution", "convolve", "choice", (64, 128, 256, 512), "list", "network.head_convolution",
        backbone=True, usual=False,
    ),
    Parameter("label_smoothing", "smooth", "range", (0.0, 0.3), "linear", "schedule.label_smoothing", usual=False),
)  # fmt: skip
AUGMENTATION = ("augmentation_strength", "flip", "rotation", "shift", "shear", "zoom", "contrast")


def choose_parameters(config: TrainingConfig, names: Sequence[str] = (), *, fine_tune: bool = False) -> Space:
    """Return the rows to search for a network.

    Args:
        config: what stays as it is asked for.
        names: the parameters; none means all usual ones that a head on cached features can tell, and with `fine_tune`
            or for a network from scratch simply all usual ones.
        fine_tune: whether each trial trains the backbone too.

    Raises:
        InvalidRequest: there is no such parameter for this network, or the other options leave it without effect.
    """
    scratch = config.network.from_scratch
    fitting = [row for row in SPACE if row.start in ("any", "scratch" if scratch else "pretrained")]
    known = [row.name for row in fitting]
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"Expected --parameters out of {', '.join(known)} for a network "
                f"{'from scratch' if scratch else 'with pretrained weights'}; received {name!r}."
            )
    if names:
        rows = [row for row in fitting if row.name in names]
    else:
        rows = [row for row in fitting if row.usual and (fine_tune or scratch or not row.backbone)]
        rows = [row for row in rows if _without_effect(row, config) is None]
    for row in rows:
        reason = _without_effect(row, config)
        if reason is not None:
            raise InvalidRequest(f"--parameters {row.name} changes nothing with {reason}: leave one of them out.")
    chosen = {row.name for row in rows}
    # A condition on a parameter that is not searched is decided by the configuration.
    rows = [row if row.needs is None or row.needs[0] in chosen else replace(row, needs=None) for row in rows]
    return Space(tuple(rows), heads_only=not (scratch or fine_tune or any(row.backbone for row in rows)))


@dataclass(frozen=True)
class Space:
    """What one search varies."""

    rows: tuple[Parameter, ...]
    heads_only: bool
    """Whether a trial is a head on cached features; otherwise it is a whole training."""

    def apply(self, config: TrainingConfig, values: Mapping[str, Value]) -> TrainingConfig:
        """Return the configuration with a trial's values in their places.

        `values` may lack parameters whose condition is not met, and hold more than the space's own.
        """
        from trainer.training.optimizers import RATE_FACTORS

        factor = RATE_FACTORS[values.get("optimizer", config.schedule.optimizer)]  # type: ignore[index]
        for row in self.rows:
            if row.name in values and row.sets != HIDDEN:
                section, option = row.sets.split(".")
                value = float(values[row.name]) * factor if row.rate else values[row.name]
                config = replace(config, **{section: replace(getattr(config, section), **{option: value})})
        if {"dense_layers", "dense_width"} & {row.name for row in self.rows}:
            asked = config.network.hidden
            layers = int(values.get("dense_layers", len(asked) or 1))
            width = int(values.get("dense_width", asked[0] if asked else 256))
            config = replace(config, network=replace(config.network, hidden=(width,) * layers))
        return config

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as plain JSON values."""
        # Not whether they are usual, which makes a search no other one.
        return [
            {name: value for name, value in asdict(row).items() if name != "usual"}
            | {"values": list(row.values), "needs": _plain_needs(row)}
            for row in self.rows
        ]

    def describe(self, values: Mapping[str, Value]) -> str:
        """Return a trial's values in one line."""
        return " ".join(f"{row.label} {shown(values[row.name])}".strip() for row in self.rows if row.name in values)


def shown(value: Value) -> str:
    """Return a value as it is printed: numbers with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _without_effect(row: Parameter, config: TrainingConfig) -> str | None:
    """Return the option that leaves a parameter without effect, if one does."""
    reason = idle_by(config, *row.sets.split("."))
    if reason is None and row.name in AUGMENTATION:
        # The head sees the photos as they are, unless it is given more views of each.
        reason = HEAD_ONLY if config.schedule.fine_tune_epochs == 0 and config.schedule.head_views == 1 else None
    return reason


def _plain_needs(row: Parameter) -> list[Any] | None:
    return None if row.needs is None else [row.needs[0], list(row.needs[1])]
