"""The commands that look at versions: list, show, verify."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    NEWEST,
    JsonOption,
    LimitOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    open_registry,
    serving,
    version_of,
)
from admin_cli.output import (
    NOTHING,
    day,
    figure,
    megabytes,
    minute,
    percent,
    print_json,
    print_rows,
    print_table,
    print_text,
)
from admin_cli.replay import replay
from classifier.registry.channels import PRODUCTION
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.versions import VersionSummary
from classifier.wording import plural


def list_versions(
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    everything: Annotated[
        bool, typer.Option("--all", help="All versions, and also numbers claimed but not finished.")
    ] = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest versions.

    A star marks what serves, a plus the canary, which serves some of the callers.

    Example: admin_cli list --limit 50
    """
    registry = open_registry(store, model)
    listing, channels = registry.newest_versions(
        limit or (None if everything else NEWEST), include_incomplete=everything
    )
    summaries = listing.versions
    served = channels.production.version if channels.production else None
    canary = channels.canary.version if channels.canary else None
    if as_json:
        rows = [
            {
                "version": summary.version,
                "complete": summary.complete,
                "production": summary.version == served,
                "canary": summary.version == canary,
                "problem": summary.problem,
                **(_facts(summary.manifest) if summary.manifest else {}),
            }
            for summary in summaries
        ]
        print_json(rows)
        return
    if not summaries:
        print_text(f"No version of {model} is published in {store}. `admin_cli publish RUN` publishes the first.")
        return
    print_rows(
        ("version", "created", "network", "variant", "labels", "top-1", "MB", "by"),
        (_line(summary, served, canary) for summary in summaries),
        right=("labels", "top-1", "MB"),
    )
    if channels.canary:
        typer.echo("")
        print_text(f"+ {canary} is the canary, for {channels.canary.percent:g} % of the callers")
    if listing.older:
        typer.echo("")
        shown = served is None or any(summary.version == served for summary in summaries)
        production = "" if shown else f"; production serves {served}"
        print_text(f"the newest {len(summaries)} of {listing.claimed:,}{production}; --all shows all")
    problems = [(summary.version, summary.problem) for summary in summaries if summary.problem]
    if problems:
        typer.echo("")
        print_table(("version", "problem"), problems)


def show(
    version: VersionArgument = PRODUCTION,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show one version: data, training, figures, variants. Without a version: what production serves.

    Example: admin_cli show v7
    """
    registry = open_registry(store, model)
    if version.strip().lower() == PRODUCTION:
        pointer = serving(registry)
        manifest, sha256 = registry.manifest_at(pointer), pointer.manifest_sha256
    else:
        manifest, sha256 = registry.manifest(version_of(registry, version))
    if as_json:
        print_json({**json.loads(manifest.to_json()), "manifest_sha256": sha256})
        return
    print_table(("", ""), _description(manifest, sha256))
    splits = {name: row for name, row in manifest.metrics.items() if isinstance(row, Mapping) and "top_1" in row}
    if splits:
        typer.echo("")
        print_table(
            ("served file on", "photos", "top-1", "top-5", "log-loss", "F1"),
            (
                (
                    name,
                    figure(row.get("photos"), ",.0f"),
                    percent(row.get("top_1")),
                    percent(row.get("top_5")),
                    figure(row.get("log_loss"), ".3f"),
                    figure(row.get("f1"), ".3f"),
                )
                for name, row in splits.items()
            ),
            right=("photos", "top-1", "top-5", "log-loss", "F1"),
        )
    if manifest.variants:
        typer.echo("")
        print_table(
            ("variant", "top-1", "agreement", "heatmaps", "ms", "MB", "MB in memory"),
            (
                (
                    _marked(name, name == manifest.variant),
                    percent(row.get("top_1")),
                    percent(row.get("agreement")),
                    figure(row.get("heatmap_correlation"), ".3f"),
                    figure(row.get("latency_ms"), ".1f"),
                    megabytes(row.get("bytes")),
                    megabytes(row.get("memory_bytes")),
                )
                for name, row in ((name, _object(manifest.variants, name)) for name in manifest.variants)
            ),
            right=("top-1", "agreement", "heatmaps", "ms", "MB", "MB in memory"),
        )
        for name in manifest.variants:
            row = _object(manifest.variants, name)
            if "failed" in row:
                print_text(f"{name} could not be made: {row['failed']}")
            if row.get("overridden"):
                print_text(f"{name} was asked for by name; it was not chosen for its figures")


def verify(
    version: VersionArgument,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Check a version's stored files, and replay its golden cases.

    Example: admin_cli verify v7
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    files = registry.verify(version, replay=replay)
    cases = len(registry.manifest(version)[0].golden)
    if as_json:
        checked = [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in files]
        print_json({"version": version, "files": checked, "golden_cases": cases})
        return
    print_table(
        ("file", "bytes", "sha256 begins"),
        ((file.name, f"{file.bytes:,}", file.sha256[:16]) for file in files),
        right=("bytes",),
    )
    typer.echo("")
    print_text(
        f"{version}: {plural(len(files), 'file')} as published, "
        + plural(cases, "golden case repeats", "golden cases repeat")
    )


def _line(summary: VersionSummary, served: str | None, canary: str | None) -> tuple[str, ...]:
    """Return a version's cells in the list."""
    version = _marked(summary.version, summary.version == served)
    if summary.version == canary:
        version = f"+ {summary.version}"
    if summary.manifest is None:
        return (version, *[NOTHING] * 7)
    facts = _facts(summary.manifest)
    return (
        version,
        day(facts["created_at"]),
        facts["architecture"] or NOTHING,
        facts["variant"],
        str(facts["labels"]),
        percent(facts["top_1"]),
        megabytes(facts["bytes"]),
        facts["created_by"] or NOTHING,
    )


def _facts(manifest: Manifest) -> dict[str, Any]:
    """Return what a line of the list says of a version."""
    entry = manifest.files.get(MODEL_FILE)
    return {
        "created_at": manifest.created_at,
        "created_by": manifest.created_by,
        "architecture": _architecture(manifest),
        "variant": manifest.variant,
        "labels": len(manifest.labels),
        "top_1": _object(manifest.metrics, "test").get("top_1"),
        "bytes": entry.bytes if entry else 0,
    }


def _description(manifest: Manifest, sha256: str) -> list[tuple[str, str]]:
    """Return what is to be said of a version besides its figures, without what its manifest does not tell."""
    photos = ", ".join(f"{split} {figure(count, ',.0f')}" for split, count in _object(manifest.data, "photos").items())
    best = _object(manifest.training, "best_epoch")
    spec = manifest.input
    size = sum(entry.bytes for entry in manifest.files.values())
    lines = {
        "version": f"{manifest.version} of {manifest.model}",
        "notice": manifest.notice or "",
        "created": f"{minute(manifest.created_at)} UTC, published by {manifest.created_by or NOTHING}",
        "network": f"{_architecture(manifest) or NOTHING}, {spec.width} x {spec.height} pixels, {spec.resize}",
        "best epoch": f"{best['epoch']} (phase {best['phase']})" if {"epoch", "phase"} <= best.keys() else "",
        "data": ": ".join(each for each in (str(manifest.data.get("dataset") or ""), photos) if each),
        "fingerprint": str(manifest.data.get("fingerprint") or ""),
        "labels": f"{len(manifest.labels)}: {', '.join(manifest.labels)}",
        "thresholds": ", ".join(f"{name} below {each:.3f}" for name, each in manifest.thresholds.items()),
        "parent": manifest.parent_version or "",
        "files": f"{len(manifest.files)}, {megabytes(size)} MB",
        "public": ", ".join(manifest.public),
        "tools": ", ".join(f"{name} {number}" for name, number in manifest.tools.items()),
        "manifest": sha256,
    }
    return [(name, text) for name, text in lines.items() if text]


def _architecture(manifest: Manifest) -> str | None:
    found = _object(manifest.training, "network").get("architecture")
    return str(found) if found else None


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a manifest's free-form fields, which another tool may have filled differently."""
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}


def _marked(text: str, chosen: bool) -> str:
    return f"{'*' if chosen else ' '} {text}"
