"""Chooses the file that is served: of the files that lose nothing that matters, the fastest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table

from classifier.errors import InvalidRequest
from classifier.settings import available_cpus
from trainer.export.litert import FLOAT32, VARIANTS
from trainer.export.measuring import Compared, Variant
from trainer.metrics.comparison import CERTAINTY
from trainer.run.export_options import VariantName

ROUNDING = 1e-9
NOISE = 0.03
"""Share by which two latencies may differ and still be the same."""
LOG_LOSS_PER_TOLERANCE = 10.0
"""Nats by which the log-loss may rise for a tolerance of 1: 0.05 nats for the usual half a point of top-1."""
LEAST_LOG_LOSS = 0.01
"""Nats by which it may rise whatever the tolerance."""


@dataclass(frozen=True)
class Choice:
    """The variants, and which of them is served."""

    served: Variant
    variants: tuple[Variant, ...]
    failures: dict[str, str]
    """Why the other variants could not be made or run, by name."""
    refused: dict[str, str]
    """What speaks against those that may not be served, by name."""
    overridden: bool = False
    """Whether the served one was asked for by name."""

    @property
    def warning(self) -> str | None:
        """What is to be said of a file that is served against the rules."""
        objection = self.refused.get(self.served.name)
        return f"{self.served.name} {objection}; it is served because --variant asks for it." if objection else None

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's ``variants``: figures by name, or ``{"failed": why}``."""
        rows: dict[str, dict[str, Any]] = {variant.name: dict(variant.row()) for variant in self.variants}
        if self.overridden:
            rows[self.served.name]["overridden"] = True
        rows |= {name: {"failed": why} for name, why in self.failures.items()}
        return {name: rows[name] for name in VARIANTS if name in rows}

    def show(self, console: Console, photos: Compared, cpus: int) -> None:
        """Print the table, measured on those photos for a function with so many CPUs."""
        every = available_cpus()
        title = f"variants, top-1 of {len(photos.labelled)} validation photos"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
        times = [_on(cpus), *([_on(every)] if every != cpus else [])]
        figures = ("top-1", "points\nlost", "log-\nloss", "same\nlabel", "heat-\nmaps")
        for column in ("", "variant", *figures, *times, "MB", "MB in\nmemory"):
            justify: JustifyMethod = "left" if column in ("", "variant") else "right"
            table.add_column(column, justify=justify, vertical="bottom", no_wrap=True)
        for variant in self.variants:
            measured = (variant.latency_ms, variant.latency_all_cpus_ms)[: len(times)]
            table.add_row(
                "*" if variant is self.served else "",
                variant.name,
                f"{variant.top_1:.1%}",
                f"{variant.damage.top_1_loss * 100:.2f}",
                f"{variant.damage.log_loss_increase:+.3f}",
                f"{variant.damage.agreement:.1%}",
                f"{variant.heatmap_correlation:.3f}",
                *(f"{latency:.1f}" for latency in measured),
                f"{len(variant.content) / 1e6:.1f}",
                "-" if variant.memory is None else f"{variant.memory / 1e6:.0f}",
            )
        console.print(table)
        lines = [f"{name} could not be made: {why}" for name, why in self.failures.items()]
        lines += [f"{name} {why}" for name, why in self.refused.items() if name != self.served.name]
        lines += [self.resolved(photos), *([f"warning: {self.warning}"] if self.warning else [])]
        for line in lines:
            console.print(line, highlight=False, markup=False)

    def resolved(self, photos: Compared) -> str:
        """Say what so many photos can tell of the served file, or of the others where it is float32."""
        compared = [variant.damage for variant in self.variants if variant.name != FLOAT32]
        named = [variant.damage for variant in self.variants if variant is self.served and variant.name != FLOAT32]
        if not compared:
            return f"{photos.unseen} photos were measured on float32 alone."
        points = max(each.top_1_resolved for each in named or compared) * 100
        nats = max(each.log_loss_resolved for each in named or compared)
        learnt = ""
        if len(photos.learnt):
            counted = max(0, round(compared[0].photos) - photos.unseen)
            learnt = f" and {len(photos.learnt)} that were, which count as {counted}"
        return (
            f"By float32's own probabilities, on {photos.unseen} photos that were not trained on{learnt}: a loss of "
            f"less than {points:.2f} points of top-1, or of {nats:.3f} in log-loss, cannot be told from chance."
        )


def choose(
    variants: list[Variant], failures: dict[str, str], tolerance: float, wanted: VariantName | None = None
) -> Choice:
    """Choose the fastest variant that may be served; see `objection`.

    Of those as fast as the fastest within `NOISE`, it is the smallest file. `wanted` is taken as it is, with a warning
    where something speaks against it.

    Raises:
        InvalidRequest: the wanted variant could not be made.
    """
    refused = {
        variant.name: said
        for variant in variants
        if variant.name != FLOAT32 and (said := objection(variant, tolerance))
    }
    if wanted is None:
        good = [variant for variant in variants if variant.name not in refused]
        limit = min(variant.latency_ms for variant in good) * (1 + NOISE)
        fastest = [variant for variant in good if variant.latency_ms <= limit]
        served = min(fastest, key=lambda variant: (len(variant.content), variant.latency_ms))
        return Choice(served, tuple(variants), failures, refused)
    found = [variant for variant in variants if variant.name == wanted]
    if not found:
        raise InvalidRequest(
            f"Expected --variant to be one that can be made; {wanted} cannot: {failures.get(wanted, 'not exported')}."
        )
    return Choice(found[0], tuple(variants), failures, refused, overridden=True)


def objection(variant: Variant, tolerance: float) -> str | None:
    """Return what speaks against serving a file, or None.

    The top-1 that it loses against float32 (see `trainer.metrics.comparison.damage`) may be at most `tolerance`, a
    share, and the most by which its log-loss may rise, by the paired bound, must be small too. A loss that labels
    prove, their bounds being over the same limits, speaks against it whatever float32's probabilities make of it.
    """
    lost, labelled = variant.damage, variant.comparison
    if lost.top_1_loss > tolerance + ROUNDING:
        return (
            f"loses {lost.top_1_loss * 100:.1f} points of top-1 against float32, more than the tolerance of "
            f"{tolerance * 100:.1f}"
        )
    if labelled.top_1_loss_low > tolerance + ROUNDING:
        return (
            f"loses {labelled.top_1_loss * 100:.1f} points of top-1 on the validation photos, and more than the "
            f"tolerance of {tolerance * 100:.1f} by the {CERTAINTY:.0%} bound"
        )
    allowed = max(LEAST_LOG_LOSS, LOG_LOSS_PER_TOLERANCE * tolerance)
    highest = max(lost.log_loss_increase_high, labelled.log_loss_increase_low)
    if highest > allowed:
        return f"may lose {highest:.3f} in log-loss against float32 ({CERTAINTY:.0%} bound), more than {allowed:.3f}"
    return None


def _on(cpus: int) -> str:
    return "ms on\n1 CPU" if cpus == 1 else f"ms on\n{cpus} CPUs"
