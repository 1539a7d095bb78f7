"""The command label: a whole bucket's photos labelled by one version, by Apache Beam, into Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from admin_cli.batch_program import events
from admin_cli.label_progress import Progress, print_listed
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    open_registry,
    version_of,
)
from admin_cli.output import percent, print_json, print_table, print_text
from classifier.errors import CannotExplain, InvalidRequest
from classifier.registry.catalogue import version_name
from classifier.registry.channels import CANARY, PRODUCTION, Pointer
from classifier.registry.rules import Registry
from classifier.settings import Settings, available_cpus
from classifier.wording import plural

RUNNERS = {"dataflow": "DataflowRunner", "flink": "FlinkRunner", "spark": "SparkRunner"}
"""Short names; another one is Beam's own."""
LOCAL = "local"
SHOWN_LABELS = 20
Views = Literal["mirror", "crops", "all"]
OutOption = Annotated[str, typer.Option("--out", help="Where the labels go: gs://bucket/prefix or a folder.")]


def label(
    context: typer.Context,
    photos: Annotated[
        str,
        typer.Argument(
            metavar="PHOTOS",
            help="A quoted pattern such as 'gs://photos/**/*.jpg', a folder, or a table: .csv, .jsonl, .parquet.",
        ),
    ],
    out: OutOption,
    version: Annotated[str, typer.Option("--version", help="Such as v8, or canary.")] = PRODUCTION,
    top_k: Annotated[int, typer.Option("--top-k", help="How many labels of each photo.", min=1, max=100)] = 5,
    views: Annotated[
        Views | None, typer.Option("--views", help="Average over mirror, crops, or all, as predict.")
    ] = None,
    gradcam: Annotated[bool, typer.Option("--gradcam", help="Keep the overlay of each top label too.")] = False,
    occlusion: Annotated[
        bool, typer.Option("--occlusion", help="The same by occlusion: 64 more forward passes a photo.")
    ] = False,
    sample: Annotated[int, typer.Option("--sample", help="Label so many at random; tell what they show.", min=0)] = 0,
    against: Annotated[
        str,
        typer.Option(
            "--against", help="Compare with the labels of this version. Default with --sample: the newest other."
        ),
    ] = "",
    candidates: Annotated[
        int, typer.Option("--candidates", help="Then choose so many photos whose labelling would teach most.", min=0)
    ] = 0,
    candidates_to: Annotated[
        Path, typer.Option("--candidates-to", help="Folder for them and for candidates.csv, which has none yet.")
    ] = Path("candidates"),
    runner: Annotated[
        str, typer.Option("--runner", help="local, dataflow, flink, spark, or a runner's name as Beam has it.")
    ] = LOCAL,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes of a local run. Default: a CPU each.", min=1)
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", help="Photos that one worker process labels at the same time.", min=1)
    ] = 1,
    price: Annotated[
        float, typer.Option("--price", help="US dollars for an hour of one worker, for the estimate of costs.", min=0)
    ] = 0.0,
    billing_project: Annotated[
        str, typer.Option("--billing-project", help="Who pays for reading a bucket whose requesters pay.")
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Label all photos of a bucket or folder, into Parquet.

    What that version has labelled already is skipped, so that the same command goes on where one was interrupted, and
    labels what was added. Options behind -- are Apache Beam's own.

    Example: admin_cli label 'gs://photos/**/*.jpg' --out gs://labels/food --sample 1000
    """
    if candidates and (candidates_to / "candidates.csv").exists():
        raise InvalidRequest(
            f"Expected --candidates-to FOLDER without candidates.csv, which people may have filled in; {candidates_to} "
            "has one."
        )
    given = list(context.args)
    strays = [each for each in given if not each.startswith("-")]
    if given and strays and given[0] == strays[0]:
        raise InvalidRequest(f"Expected one PHOTOS, quoted where it is a pattern; received {strays[0]!r} too.")
    registry = open_registry(store, model)
    pointer = resolved(registry, version)
    manifest = registry.manifest_at(pointer)
    explained = gradcam or occlusion
    if explained and not occlusion and manifest.no_gradcam:
        raise CannotExplain(f"Expected --occlusion: {pointer.version} has no Grad-CAM, because {manifest.no_gradcam}.")
    job = {
        **job_of(store, model, pointer),
        "photos": photos, "out": out, "top_k": top_k, "tta": views or "", "gradcam": explained, "occlusion": occlusion,
        "threads": threads, "billing_project": billing_project,
    }  # fmt: skip
    processes = workers or available_cpus()
    how = {
        "runner": RUNNERS.get(runner.lower(), runner), "workers": processes, "sample": sample,
        "against": version_name(against) if against else "", "candidates": candidates,
        "candidates_to": str(candidates_to.absolute()),
    }  # fmt: skip
    finished: dict[str, Any] = {}
    with Progress(price, processes if runner == LOCAL else None, shown=not as_json) as progress:
        for event in events("label", {"job": job, "how": how}, given):
            if event["event"] == "listed":
                finished["listed"] = event
                if not as_json:
                    print_text(f"{pointer.version} of {model} ({manifest.variant}), whatever is promoted meanwhile")
                    print_listed(event, pointer.version, sample=sample)
                progress.begin(event["todo"])
            elif event["event"] == "progress":
                progress.move(event["done"], event["seconds"])
            elif event["event"] == "candidates":
                finished["candidates"] = {name: value for name, value in event.items() if name != "event"}
            elif event["event"] == "finished":
                finished |= event
                progress.end()
                _print(finished, progress, out, as_json=as_json)


def resolved(registry: Registry, version: str) -> Pointer:
    """Return what somebody names as a version, with the SHA-256 of its manifest.

    Raises:
        NotFound: there is none.
        Corrupt: production or the canary is not what was pointed at.
    """
    if version.strip().lower() == CANARY:
        return registry.canary().pointer
    name = version_of(registry, version)
    return Pointer(name, registry.manifest(name)[1])


def job_of(store: str, model: str, pointer: Pointer) -> dict[str, Any]:
    """Return the part of a job that says which version labels, within which limits."""
    settings = Settings.from_env({**os.environ, "MODEL_STORE": store, "MODEL_NAME": model})
    return {
        "store": store, "model": model, "version": pointer.version, "manifest_sha256": pointer.manifest_sha256,
        "max_image_bytes": settings.max_image_bytes, "max_image_pixels": settings.max_image_pixels,
        "max_image_memory": settings.max_image_memory,
    }  # fmt: skip


def _print(finished: Mapping[str, Any], progress: Progress, out: str, *, as_json: bool) -> None:
    if as_json:
        print_json({name: value for name, value in finished.items() if name != "event"})
        return
    total, statuses = finished["photos"], finished["statuses"]
    shown = finished["labels"][:SHOWN_LABELS]
    if shown:
        print_table(
            ("label", "photos", "share", "unknown"),
            (
                (label, f"{count:,}", percent(count / total), percent(unknown / count))
                for label, count, unknown in shown
            ),
            right=("photos", "share", "unknown"),
        )
        typer.echo("")
    if len(finished["labels"]) > len(shown):
        print_text(f"and {plural(len(finished['labels']) - len(shown), 'more label')} (--json has all)")
    unknown = statuses.get("unknown", 0)
    print_text(
        f"{plural(total, 'photo')} of {finished['version']} in {out}: "
        f"{percent(unknown / total) if total else '-'} unknown, {statuses.get('unreadable', 0):,} unreadable"
    )
    if compared := finished.get("against"):
        _print_compared(compared, finished["version"])
    for line in progress.told():
        print_text(line)
    if chosen := finished.get("candidates"):
        print_text(
            f"{plural(chosen['count'], 'photo')} of a shortlist of {chosen['shortlist']:,} in {chosen['folder']}: fill "
            "in the column label of candidates.csv, then `trainer train … --corrections FOLDER/candidates.csv`"
        )


def _print_compared(compared: Mapping[str, Any], version: str) -> None:
    shared, differ = compared["shared"], compared["differ"]
    if not shared:
        print_text(f"{compared['version']} has labels of none of these photos: nothing to compare with")
        return
    print_text(
        f"{version} labels {percent(differ / shared)} of {plural(shared, 'photo')} otherwise than "
        f"{compared['version']} did"
    )
    if compared["moved"]:
        print_table(
            (compared["version"], version, "photos"),
            ((before, after, f"{count:,}") for before, after, count in compared["moved"]),
            right=("photos",),
        )
