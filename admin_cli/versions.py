"""The commands about versions: publish, list, show, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import day, percent, print_json, print_table
from classifier.errors import NotFound
from classifier.manifest import MODEL_FILE, Manifest


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a bundle.")],
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store a run's bundle as the next version. It serves nobody until it is promoted.

    Example: admin_cli publish runs/food
    """
    from classifier.golden import replay

    bundle = run / "bundle" if (run / "bundle").is_dir() else run
    if not (bundle / "manifest.json").is_file():
        raise NotFound(f"Expected a bundle in {run}; there is none. `trainer train` or `trainer export` makes one.")
    manifest = open_registry(store, model).publish(bundle, who=name_of(who), replay=replay)
    if as_json:
        print_json({"version": manifest.version, "model": model})
    else:
        typer.echo(f"published {manifest.version}")


def list_versions(
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    include_incomplete: Annotated[bool, typer.Option("--all", help="Also numbers claimed but not finished.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions; a star marks the one that production serves.

    Example: admin_cli list
    """
    registry = open_registry(store, model)
    summaries = registry.versions(include_incomplete=include_incomplete)
    pointer = registry.channels().production
    serving = pointer.version if pointer else None
    if as_json:
        rows = [
            {
                "version": summary.version,
                "complete": summary.complete,
                "production": summary.version == serving,
                "problem": summary.problem,
                **(_facts(summary.manifest) if summary.manifest else {}),
            }
            for summary in summaries
        ]
        print_json(rows)
        return
    if not summaries:
        typer.echo(f"No version of {model} is published in {store}. `admin_cli publish RUN` publishes the first.")
        return
    table = []
    for summary in summaries:
        mark = "*" if summary.version == serving else ""
        if summary.manifest is None:
            table.append((mark, summary.version, "", "", "", "", "", "", ""))
            continue
        facts = _facts(summary.manifest)
        table.append(
            (
                mark,
                summary.version,
                day(facts["created_at"]),
                str(facts["architecture"] or "-"),
                facts["variant"],
                str(facts["labels"]),
                percent(facts["top_1"]),
                f"{facts['bytes'] / 1e6:.1f}",
                str(facts["created_by"] or ""),
            )
        )
    print_table(
        ("", "version", "created (UTC)", "network", "variant", "labels", "top-1", "MB", "by"),
        table,
        right=("labels", "top-1", "MB"),
    )
    for summary in summaries:
        if summary.problem:
            typer.echo(f"{summary.version}: {summary.problem}")


def show(
    version: Annotated[str, typer.Argument(help="Such as v7, or production.")] = "production",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show one version: figures, variants, data, training, files. Without a version: what production serves.

    Example: admin_cli show v7
    """
    registry = open_registry(store, model)
    if version == "production":
        pointer = registry.channels().production
        if pointer is None:
            raise NotFound(f"No version of {model} is promoted in {store}. `admin_cli promote v1` promotes the first.")
        version = pointer.version
    manifest, sha256 = registry.manifest(version)
    if as_json:
        import json

        print_json({**json.loads(manifest.to_json()), "manifest_sha256": sha256})
        return
    facts = _facts(manifest)
    best = manifest.training.get("best_epoch", {})
    lines = {
        "version": f"{manifest.version} of {manifest.model}",
        "created": f"{day(manifest.created_at)} UTC by {manifest.created_by}",
        "network": f"{facts['architecture'] or '-'}, {manifest.input.width}x{manifest.input.height}, "
        f"{manifest.input.resize}",
        "best epoch": f"{best.get('phase')} {best.get('epoch')}" if best else "-",
        "data": f"{manifest.data.get('dataset', '-')}, {manifest.data.get('photos', {})}",
        "fingerprint": str(manifest.data.get("fingerprint", "-")),
        "labels": ", ".join(manifest.labels),
        "parent": manifest.parent_version or "-",
        "tools": ", ".join(f"{name} {number}" for name, number in manifest.tools.items()),
        "manifest": sha256,
    }
    print_table(("", ""), lines.items())
    splits = {name: row for name, row in manifest.metrics.items() if isinstance(row, dict)}
    typer.echo("")
    print_table(
        ("served file on", "photos", "top-1", "top-5", "log-loss", "F1"),
        (
            (
                name,
                str(row.get("photos", "-")),
                percent(row.get("top_1")),
                percent(row.get("top_5")),
                f"{row.get('log_loss', float('nan')):.3f}",
                f"{row.get('f1', float('nan')):.3f}",
            )
            for name, row in splits.items()
        ),
        right=("photos", "top-1", "top-5", "log-loss", "F1"),
    )
    typer.echo("")
    print_table(
        ("", "variant", "top-1", "agreement", "heatmaps", "ms", "MB"),
        (
            (
                "*" if name == manifest.variant else "",
                name,
                percent(row.get("top_1")),
                percent(row.get("agreement")),
                f"{row.get('heatmap_correlation', float('nan')):.3f}",
                f"{row.get('latency_ms', float('nan')):.1f}",
                f"{row.get('bytes', 0) / 1e6:.1f}",
            )
            for name, row in manifest.variants.items()
        ),
        right=("top-1", "agreement", "heatmaps", "ms", "MB"),
    )


def verify(
    version: VersionArgument,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Compare every stored file of a version with its manifest, and replay its golden cases.

    Example: admin_cli verify v7
    """
    from classifier.golden import replay

    registry = open_registry(store, model)
    files = registry.verify(version, replay=replay)
    cases = len(registry.manifest(version)[0].golden)
    if as_json:
        checked = [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in files]
        print_json({"version": version, "files": checked, "golden_cases": cases})
        return
    print_table(
        ("file", "bytes", "sha256"),
        ((file.name, f"{file.bytes:,}", file.sha256[:16] + "…") for file in files),
        right=("bytes",),
    )
    typer.echo(f"{version}: {len(files)} files as published, {cases} golden cases repeat")


def _facts(manifest: Manifest) -> dict[str, Any]:
    """Return what a line of the list says of a version."""
    test = manifest.metrics.get("test")
    entry = manifest.files.get(MODEL_FILE)
    return {
        "created_at": manifest.created_at,
        "created_by": manifest.created_by,
        "architecture": manifest.training.get("network", {}).get("architecture"),
        "variant": manifest.variant,
        "labels": len(manifest.labels),
        "top_1": test.get("top_1") if isinstance(test, dict) else None,
        "bytes": entry.bytes if entry else 0,
    }
