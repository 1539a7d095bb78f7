"""`trainer architectures`: the networks on offer, and what a prediction of each costs on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from classifier.errors import InvalidRequest
from classifier.quiet import quiet
from trainer.commands.screen import console, load_keras
from trainer.run.presets import PRESETS

NOTHING = "-"


def architectures(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which ones. Default: all.")] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Export each with random weights, and measure a forward pass of every variant here."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the networks: size, published top-1 of their ImageNet weights, and with --measure their cost here.

    Milliseconds are of a forward pass with one CPU, which is how a function serves it; memory is what the file adds to
    a process. Both are of the served file with Grad-CAM in it. Accuracy after int8 is not told: the weights are random.

    Example: trainer architectures mobilenet_v2 efficientnet_v2b0 --measure
    """
    chosen = list(dict.fromkeys(names or PRESETS))
    if unknown := [name for name in chosen if name not in PRESETS]:
        raise InvalidRequest(f"Expected some of {', '.join(PRESETS)}; received {unknown[0]!r}.")
    costs: dict[str, dict[str, Any]] = {}
    if measure:
        load_keras()
        from trainer.export.costs import costs_of

        for name in chosen:
            with quiet(tell_on_error=True):
                costs[name] = costs_of(name)
            if not as_json:
                typer.echo(f"measured {name}", err=True)
    if as_json:
        typer.echo(json.dumps([_plain(name, costs) for name in chosen], indent=2))
        return
    _show(chosen)
    if measure:
        _show_costs(chosen, costs)


def _plain(name: str, costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    preset = PRESETS[name]
    return {
        "architecture": name,
        "parameters": round(preset.parameters * 1e6),
        "input_size": preset.input_size,
        "imagenet_top_1": preset.top_1,
        "source": preset.source or None,
        **({"variants": costs[name]} if name in costs else {}),
    }


def _show(names: Sequence[str]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("architecture", no_wrap=True)
    for column in ("pixels", "million\nparameters", "ImageNet\ntop-1 %"):
        table.add_column(column, justify="right", vertical="bottom")
    sources = list(dict.fromkeys(PRESETS[name].source for name in names if PRESETS[name].source))
    table.add_column("as told by", justify="right", vertical="bottom")
    for name in names:
        preset = PRESETS[name]
        top_1 = NOTHING if preset.top_1 is None else f"{preset.top_1:.1f}"
        told = str(sources.index(preset.source) + 1) if preset.source else NOTHING
        table.add_row(name, str(preset.input_size), f"{preset.parameters:.1f}", top_1, told)
    console().print(table)
    for number, source in enumerate(sources, start=1):
        typer.echo(f"{number}: {source}")


def _show_costs(names: Sequence[str], costs: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table

    typer.echo("")
    table = Table(box=None, pad_edge=False)
    for column in ("architecture", "variant"):
        table.add_column(column, no_wrap=True)
    for column in ("ms", "MB", "MB in\nmemory"):
        table.add_column(column, justify="right", vertical="bottom")
    for name in names:
        for variant, row in costs[name].items():
            if "failed" in row:
                table.add_row(name, variant, NOTHING, NOTHING, NOTHING)
                continue
            memory = NOTHING if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.0f}"
            table.add_row(name, variant, f"{row['latency_ms']:.1f}", f"{row['bytes'] / 1e6:.1f}", memory)
    console().print(table)
    for name in names:
        for variant, row in costs[name].items():
            if "failed" in row:
                typer.echo(f"{name} {variant} could not be made: {row['failed']}")
