"""The gate: what a version may not be worse by to become production, kept in ``channels.json`` beside the pointer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from classifier.errors import InvalidSetting
from classifier.registry.comparison import Change, Comparison, LabelChange
from classifier.registry.fields import Object
from classifier.wording import did_you_mean, plural

LATENCY_SLACK = 2.0
"""Milliseconds that are never held against a version: timers and neighbours are not more exact."""
MEMORY_SLACK = 8 << 20
SHOWN = 5


@dataclass(frozen=True)
class Gate:
    """The thresholds. Labels that vanish are refused whatever they are."""

    top_1_drop: float = 0.01
    """Share of the photos by which top-1 may fall, where the fall is beyond chance."""
    class_drop: float = 0.1
    """The same of each class's recall."""
    unknown_rise: float = 0.05
    """Share of the photos by which those told as unknown may grow, where that is beyond chance."""
    latency_ratio: float = 1.5
    """How many times as long a forward pass may take."""
    memory_ratio: float = 1.5
    """How many times as much memory it may take."""
    allow_added_labels: bool = False
    """Whether there may be new labels."""
    allow_renumbered_labels: bool = False
    """Whether a label may have another number: clients that keep label_idx would show a wrong name."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def read(cls, entry: Object | None) -> Gate:
        """Read what `to_dict` wrote; defaults for what is missing. Raises `InvalidManifest`."""
        if entry is None:
            return cls()
        values: dict[str, Any] = {}
        for option in options():
            if option.name not in entry.names():
                continue
            if isinstance(option.default, bool):
                values[option.name] = entry.boolean(option.name)
            else:
                values[option.name] = entry.number(option.name, **limits(option.name))
        return cls(**values, extra=entry.rest())

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {**{option.name: getattr(self, option.name) for option in options()}, **self.extra}

    def changed(self, name: str, text: str) -> Gate:
        """Return it with a threshold as somebody wrote it.

        Raises:
            InvalidSetting: there is no such threshold, or it cannot be that.
        """
        known = {option.name: option for option in options()}
        name = name.strip().replace("-", "_")
        if name not in known:
            raise InvalidSetting(f"Expected one of {', '.join(known)}; received {name!r}.{did_you_mean(name, known)}")
        read: Any = _switch if isinstance(known[name].default, bool) else _number
        return replace(self, **{name: read(name, text)})

    def differences(self, other: Gate) -> list[tuple[str, str, str]]:
        """Return name, value here and value there of each threshold that differs."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [(name, shown(mine[name]), shown(theirs[name])) for name in mine if mine[name] != theirs.get(name)]

    def refuses(self, comparison: Comparison) -> list[str]:
        """Return why the second version must not take the first one's place, each with its figure; empty: it may."""
        reasons = [*self.refuses_labels(comparison.labels), *self._answers(comparison), *self._costs(comparison)]
        if comparison.top_1 is None and not comparison.same_file:
            reasons.append(
                "nothing tells whether it is as good: no photos that both were measured on (--eval-set names some)"
            )
        return reasons

    def refuses_labels(self, labels: LabelChange) -> list[str]:
        """Return why the second version's labels must not take the place of the first one's."""
        reasons = []
        if labels.removed:
            reasons.append(f"labels vanish: {_few(labels.removed)}")
        if labels.added and not self.allow_added_labels:
            reasons.append(f"labels are added: {_few(labels.added)} (`admin_cli gate set allow_added_labels=true`)")
        if labels.renumbered and not self.allow_renumbered_labels:
            reasons.append(
                f"labels get another label_idx: {_few(labels.renumbered)} "
                "(`admin_cli gate set allow_renumbered_labels=true`)"
            )
        return reasons

    def _answers(self, comparison: Comparison) -> list[str]:
        reasons = []
        if _fell(comparison.top_1, self.top_1_drop):
            reasons.append(f"top-1 {_told(comparison.top_1)}, more than {self.top_1_drop:.1%} and than chance explains")
        reasons += [
            f"recall of {each.label} {_told(each.change)}, more than {self.class_drop:.0%} and than chance explains"
            for each in comparison.classes
            if each.worse and -each.change.difference > self.class_drop
        ]
        unknown = comparison.unknown
        if unknown and unknown.low > 0 and unknown.difference > self.unknown_rise:
            reasons.append(
                f"unknown photos {_told(unknown)}, more than {self.unknown_rise:.0%} and than chance explains"
            )
        return reasons

    def _costs(self, comparison: Comparison) -> list[str]:
        reasons = []
        before, after = comparison.costs
        if before.latency_ms and after.latency_ms:
            most = max(before.latency_ms * self.latency_ratio, before.latency_ms + LATENCY_SLACK)
            if after.latency_ms > most:
                reasons.append(
                    f"a forward pass takes {after.latency_ms:.1f} ms, before {before.latency_ms:.1f} ms: more than "
                    f"{self.latency_ratio:g} times"
                )
        if before.memory_bytes is not None and after.memory_bytes is not None:
            most = max(before.memory_bytes * self.memory_ratio, before.memory_bytes + MEMORY_SLACK)
            if after.memory_bytes > most:
                reasons.append(
                    f"it takes {after.memory_bytes / 1e6:.0f} MB of memory, before {before.memory_bytes / 1e6:.0f} MB: "
                    f"more than {self.memory_ratio:g} times"
                )
        return reasons


def options() -> list[Any]:
    """Return the thresholds' fields, in their order."""
    return [each for each in fields(Gate) if each.name != "extra"]


def limits(name: str) -> dict[str, float]:
    """Return the least and the largest value of a threshold that is a number."""
    return {"low": 1.0, "high": 100.0} if name.endswith("_ratio") else {"low": 0.0, "high": 1.0}


def shown(value: Any) -> str:
    """Return a threshold's value for people, as `Gate.changed` takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _fell(change: Change | None, most: float) -> bool:
    return change is not None and change.high < 0 and -change.difference > most


def _told(change: Change | None) -> str:
    if change is None:
        return ""
    verb = "falls" if change.difference < 0 else "rises"
    return (
        f"{verb} from {change.before:.1%} to {change.after:.1%} on {plural(change.photos, 'photo')} "
        f"(difference {change.low:+.1%} to {change.high:+.1%})"
    )


def _few(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more


def _switch(name: str, text: str) -> bool:
    if text.strip().lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise InvalidSetting(f"Expected {name} to be true or false; received {text!r}.")
    return text.strip().lower() in ("true", "1", "yes")


def _number(name: str, text: str) -> float:
    low, high = limits(name).values()
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InvalidSetting(f"Expected {name} to be a number from {low:g} to {high:g}; received {text!r}.")
    return value
