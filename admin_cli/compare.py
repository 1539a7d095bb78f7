"""The commands about the gate: compare two versions, and show or set what a promotion refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from admin_cli.measuring import compare as measure
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import NOTHING, figure, megabytes, percent, print_json, print_table, print_text
from admin_cli.subjects import of_pointer, of_version, subject
from classifier.errors import InvalidRequest, Refused
from classifier.registry.channels import Pointer
from classifier.registry.comparison import Change, Comparison
from classifier.registry.gate import Gate, options, shown
from classifier.registry.rules import Registry
from classifier.wording import plural

EvalSetOption = Annotated[
    str | None,
    typer.Option(
        "--eval-set",
        help="Compare on these photos: a folder with a folder per label, a CSV (image_path, label) or gs://bucket/"
        "prefix. Default: the test photos that both were measured on.",
    ),
]
gate = typer.Typer(help="Show or set what a promotion refuses.", rich_markup_mode=None)


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="v7, production, canary or a run's folder.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same; what is to take A's place.")],
    eval_set: EvalSetOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the photos whose answer changed.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 5 where the gate would refuse B.")] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions on the same photos.

    It says whether the gate would let B take A's place. Intervals are 95 %, of paired differences (Agresti and Min); a
    class is worse where McNemar's exact test says so, corrected for the number of classes (Holm).

    Example: admin_cli compare production runs/new --html changed.html
    """
    registry = open_registry(store, model)
    one, other = subject(registry, before), subject(registry, after)
    comparison = measure(one, other, eval_set=eval_set)
    reasons = registry.channels(newest=0).gate.refuses(comparison)
    if html is not None:
        from admin_cli.compare_page import write_page

        write_page(html, comparison, one, other, reasons, eval_set)
    if as_json:
        print_json({**comparison.to_dict(), "refused": reasons})
    else:
        print_comparison(comparison)
        typer.echo("")
        print_verdict(comparison, reasons)
        if html is not None:
            print_text(f"wrote {html}")
    if check and reasons:
        raise Refused(f"The gate refuses {comparison.after}: {'; '.join(reasons)}.")


class Gatekeeper:
    """Compares a version with whatever serves when it is to be promoted; see `Registry.promote`."""

    def __init__(self, registry: Registry, version: str, eval_set: str | None) -> None:
        self._registry = registry
        self.version = version
        self._eval_set = eval_set
        self.comparison: Comparison
        """The last one."""
        self.reasons: list[str] = []

    def __call__(self, serving: Pointer, gate: Gate) -> list[str]:
        """Return why the version must not take the place of what serves."""
        before = of_pointer(self._registry, serving)
        after = of_version(self._registry, self.version)
        self.comparison = measure(before, after, eval_set=self._eval_set)
        self.reasons = gate.refuses(self.comparison)
        return self.reasons


def print_comparison(comparison: Comparison) -> None:
    """Print the tables of a comparison."""
    print_text(f"{comparison.before} and {comparison.after}, compared on {comparison.basis}")
    if comparison.same_file:
        print_text("both serve the same model file")
    typer.echo("")
    print_table(
        ("", comparison.before, comparison.after, "difference (95 %)"),
        _lines(comparison),
        right=(comparison.before, comparison.after),
    )
    moved = [each for each in comparison.classes if each.change.before != each.change.after]
    if moved:
        typer.echo("")
        print_table(
            ("class", "photos", comparison.before, comparison.after, "difference (95 %)", ""),
            (
                (
                    each.label,
                    f"{each.change.photos:,}",
                    percent(each.change.before),
                    percent(each.change.after),
                    _interval(each.change),
                    "worse" if each.worse else "",
                )
                for each in sorted(moved, key=lambda each: each.change.difference)
            ),
            right=("photos", comparison.before, comparison.after),
        )
        others = len(comparison.classes) - len(moved)
        if others:
            print_text(f"recall; the same: {plural(others, 'other class')}")
    labels = comparison.labels
    for what, names in (("added", labels.added), ("removed", labels.removed), ("renumbered", labels.renumbered)):
        if names:
            print_text(f"labels {what}: {', '.join(names)}")


def print_verdict(comparison: Comparison, reasons: list[str]) -> None:
    """Print whether the gate lets the second version pass."""
    if not reasons:
        print_text(f"the gate lets {comparison.after} pass")
        return
    print_text(f"the gate refuses {comparison.after}:")
    for reason in reasons:
        print_text(f"- {reason}")


def _lines(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    before, after = comparison.costs
    lines = []
    for name, change in (("top-1", comparison.top_1), ("unknown", comparison.unknown)):
        if change:
            lines.append((name, percent(change.before), percent(change.after), _interval(change)))
    if comparison.ece:
        lines.append(("calibration error", percent(comparison.ece[0]), percent(comparison.ece[1]), ""))
    if before.latency_ms and after.latency_ms:
        ratio = f"{after.latency_ms / before.latency_ms:.2f} times"
        lines.append(("ms a photo", figure(before.latency_ms, ".1f"), figure(after.latency_ms, ".1f"), ratio))
    if before.memory_bytes is not None or after.memory_bytes is not None:
        lines.append(("MB in memory", megabytes(before.memory_bytes), megabytes(after.memory_bytes), ""))
    lines.append(("MB", megabytes(before.bytes), megabytes(after.bytes), ""))
    lines.append(("input", f"{before.width} x {before.height}", f"{after.width} x {after.height}", ""))
    if comparison.left_out:
        lines.append(("photos left out", "", f"{comparison.left_out:,}", "labels that one does not know"))
    return lines


def _interval(change: Change) -> str:
    if change.before == change.after and change.p == 1:
        return NOTHING
    return f"{change.low:+.1%} to {change.high:+.1%}" + ("" if change.paired else ", not paired")


@gate.command("show")
def show_gate(
    store: StoreOption = DEFAULT_STORE, model: ModelOption = DEFAULT_MODEL, as_json: JsonOption = False
) -> None:
    """Show the thresholds, which are kept in the store beside the pointer.

    Example: admin_cli gate show
    """
    registry = open_registry(store, model)
    channels = registry.known_channels(newest=0)
    values = channels.gate.to_dict()
    if as_json:
        print_json(values)
        return
    usual = Gate().to_dict()
    print_table(
        ("threshold", "value", "default", ""),
        ((each.name, shown(values[each.name]), shown(usual[each.name]), MEANINGS[each.name]) for each in options()),
        right=("value", "default"),
    )


MEANINGS = {
    "top_1_drop": "most that top-1 may fall, if beyond chance",
    "class_drop": "the same of each class's recall",
    "unknown_rise": "most that the share of unknown photos may grow",
    "latency_ratio": "how many times as long a forward pass may take",
    "memory_ratio": "how many times as much memory it may take",
    "allow_added_labels": "whether new labels may appear",
    "allow_renumbered_labels": "whether a label may get another label_idx",
}


@gate.command("set")
def set_gate(
    changes: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="Such as top_1_drop=0.02.")],
    reason: Annotated[str, typer.Option("--reason", help="Recorded in the history.")] = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set thresholds; the change is in the history.

    Example: admin_cli gate set top_1_drop=0.02 allow_added_labels=true --reason "ten new dishes"
    """
    pairs = [change.partition("=") for change in changes]
    for name, equals, _ in pairs:
        if not equals:
            raise InvalidRequest(f"Expected NAME=VALUE such as top_1_drop=0.02; received {name!r}.")

    def changed(current: Gate) -> Gate:
        for name, _, value in pairs:
            current = current.changed(name, value)
        return current

    changed(Gate())  # a mistake is told before the store is asked
    registry = open_registry(store, model)
    registry.expect_model()
    entry = registry.set_gate(changed, who=name_of(who), reason=reason)
    if as_json:
        print_json(registry.channels(newest=0).gate.to_dict())
    elif entry is None:
        print_text("the gate has these values already; nothing was changed")
    else:
        print_text(f"gate: {entry.to_version} (before: {entry.from_version})")
