"""The command retrain: production's recipe on the photos of today, published, compared and rolled out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from admin_cli.compare import EvalSetOption, print_comparison, print_verdict
from admin_cli.feedback_lines import tell_damage
from admin_cli.feedback_table import write_accepted
from admin_cli.files import write_file
from admin_cli.measuring import compare as measure
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    ModelOption,
    StoreOption,
    WhoOption,
    name_of,
    open_registry,
    version_of,
)
from admin_cli.output import print_text
from admin_cli.production import ReasonOption, promote_through_gate
from admin_cli.publishing import published_before
from admin_cli.recipe import (
    Recipe,
    changes_elsewhere,
    place_backbone,
    place_data,
    place_teaching,
    recipe_of,
    run_folder,
    set_option,
    store_of_teacher,
)
from admin_cli.replay import replay
from admin_cli.subjects import Subject, of_version
from admin_cli.training_program import train
from admin_cli.vertex import (
    AcceleratorOption,
    DryRunOption,
    ImageOption,
    JobOptions,
    MachineOption,
    OnOption,
    ProjectOption,
    RegionOption,
    ServiceAccountOption,
    arguments_of,
    custom_job,
    expect_reachable,
    start,
)
from classifier.errors import InvalidRequest, NotFound, Refused, Unavailable
from classifier.registry.canary import check_percent
from classifier.registry.channels import PRODUCTION
from classifier.registry.manifest import DECISIONS_FILE, KERAS_FILE, MANIFEST_FILE, PHOTOS_FILE
from classifier.registry.rules import Registry
from classifier.wording import plural

AFRESH = "none"


def retrain(
    dataset: Annotated[str | None, typer.Option("--dataset", help="food-101, dog-breed, folder or csv.")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir", help="Folder of the photos, or gs://. Default: that of the run that made the version."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="The table of --dataset csv.")] = None,
    feedback: Annotated[bool, typer.Option("--feedback", help="Train on accepted corrections too.")] = False,
    source: Annotated[
        str,
        typer.Option("--from", help="Go on from the network of this version; none: train production's recipe afresh."),
    ] = AFRESH,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Of the trainer, such as head_epochs=20.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run. Default: one for the version, the options and the photos."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train also where no photo has changed.")] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Promote it, if the gate lets it pass.")] = False,
    canary: Annotated[
        float | None,
        typer.Option("--canary", metavar="PERCENT", help="Start it as a canary, if the gate lets it pass."),
    ] = None,
    eval_set: EvalSetOption = None,
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    on: OnOption = "here",
    image: ImageOption = None,
    region: RegionOption = None,
    project: ProjectOption = None,
    machine: MachineOption = None,
    accelerator: AcceleratorOption = None,
    service_account: ServiceAccountOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train production's recipe again on the photos of today.

    Without options it repeats what made the version in production: `trainer train` with the options of its manifest and
    the data folder of the run that made it, found under runs/. It says which photos were added, removed or relabelled
    since. Then it publishes the result, compares it with production, and promotes it or starts a canary where that is
    asked for. Interrupted anywhere, the same command goes on.

    With --on vertex all of this is done by a custom job of Vertex AI, which gcloud starts; store and photos are in
    Cloud Storage then.

    Example: admin_cli retrain --feedback --set head_epochs=20 --canary 10
    """
    if promote and canary is not None:
        raise InvalidRequest("Expected --promote or --canary; received both.")
    if canary is not None:
        check_percent(canary)
    job = JobOptions(image, region, project, machine, accelerator, service_account, dry_run)
    if on == "vertex":
        job.expect_complete(store, run)
    else:
        job.expect_none()
    registry = open_registry(store, model)
    afresh = source.strip().lower() == AFRESH
    try:
        parent = of_version(registry, version_of(registry, PRODUCTION if afresh else source))
    except Unavailable as error:
        if not dry_run:
            raise
        typer.echo(f"The recipe was not looked at, the job will do that: {error}", err=True)
        data = {"data_dir": data_dir, "csv": csv}
        config: Recipe = {"data": data, "network": {"weights": "imagenet"}, "schedule": {}}
        same_photos = False
    else:
        config = recipe_of(parent.manifest)
        same_photos = place_data(config, parent.manifest, dataset, data_dir, csv)
        for change in changes or ():
            set_option(config, change)
        place_teaching(config, parent.manifest)
        if afresh:
            place_backbone(config, parent.manifest)
    if not afresh and config["network"].get("weights") != "none":
        # The version's own are read, and no file that may be gone.
        config["network"]["weights"] = "own" if config["network"].get("backbone") else "imagenet"
    if on == "vertex":
        expect_reachable(config, eval_set, afresh=afresh)
        same = {
            "store": store, "model": model, "dataset": dataset, "data-dir": config["data"]["data_dir"],
            "csv": config["data"].get("csv"), "feedback": feedback, "from": source,
            "set": changes_elsewhere(config, changes), "force": force, "promote": promote, "canary": canary,
            "eval-set": eval_set, "reason": reason, "who": name_of(who),
        }  # fmt: skip
        start(custom_job(model, arguments_of(same), job), job)
        return
    feedback = feedback or bool(parent.manifest.data.get("corrections"))  # what it has learnt is not unlearnt
    folder = run or run_folder(registry, parent.name, config, afresh=afresh, feedback=feedback)
    inputs = folder.with_name(f"{folder.name}.inputs")
    _fetch(parent, inputs / "parent")
    config["network"]["start"] = None if afresh else str(inputs / "parent")
    if config["network"].get("backbone") and not afresh:
        config["network"]["backbone"] = str(inputs / "parent" / KERAS_FILE)  # which has it
    config["data"]["decisions"] = (
        str(inputs / "parent" / DECISIONS_FILE) if DECISIONS_FILE in parent.manifest.files else None
    )
    config["data"]["corrections"] = _corrections(registry, inputs / "corrections") if feedback else None
    write_file(inputs / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    gate = _write_gate(registry, inputs / "gate.json") if promote or canary is not None else None
    if (folder / "bundle").is_dir():
        print_text(f"{folder} is finished; --run names another folder to train once more")
    else:
        variables = store_of_teacher(config, parent.manifest, registry.store.url, registry.model)
        notice = parent.manifest.notice if same_photos else None
        if parent.manifest.notice and not notice:
            print_text(
                f"trained on other photos than {parent.name}, whose notice is left out: {parent.manifest.notice}"
            )
        train(folder, inputs, parent, variables, gate, notice, force=force)
    version = _publish(registry, folder, who)
    _roll_out(registry, version, who, reason, eval_set, promote=promote, canary=canary)


def _fetch(parent: Subject, folder: Path) -> None:
    """Put what a training goes on from into a folder: each file whole or not at all."""
    wanted = {MANIFEST_FILE: parent.manifest.to_json()}
    for name in (KERAS_FILE, PHOTOS_FILE, DECISIONS_FILE):
        if name in parent.manifest.files and not (folder / name).is_file():
            wanted[name] = parent.read(name)
    for name, content in wanted.items():
        write_file(folder / name, content)


def _corrections(registry: Registry, folder: Path) -> str:
    exported = write_accepted(registry, folder)
    tell_damage(exported.found)
    if not exported.photos:
        raise NotFound(
            "Expected accepted corrections with photos for --feedback; there are none. "
            "`admin_cli feedback list` shows what users said."
        )
    print_text(f"for the training: {plural(exported.photos, 'accepted correction')}")
    return str(folder / "corrections.csv")


def _write_gate(registry: Registry, file: Path) -> Path | None:
    """Write what a training's labels will be compared with, so that it refuses them first; None: nothing serves."""
    channels = registry.channels(newest=0)
    if channels.production is None:
        return None
    version = channels.production.version
    labels = list(registry.manifest(version)[0].labels)
    facts = {"version": version, "labels": labels, "gate": channels.gate.to_dict()}
    write_file(file, (json.dumps(facts, indent=2) + "\n").encode())
    return file


def _publish(registry: Registry, folder: Path, who: str) -> str:
    """Publish a run's bundle, unless that was done before: then the same version is meant."""
    bundle = folder / "bundle"
    if same := published_before(registry, bundle):
        print_text(f"{same} was published before")
        return same
    manifest = registry.publish(bundle, who=name_of(who), replay=replay)
    print_text(f"published {manifest.version}")
    return str(manifest.version)


def _roll_out(
    registry: Registry,
    version: str,
    who: str,
    reason: str,
    eval_set: str | None,
    *,
    promote: bool,
    canary: float | None,
) -> None:
    """Compare with what serves, then promote or start a canary, if that is asked for.

    Raises:
        Refused: the gate does not let it pass.
    """
    text = reason or "retrained"
    channels = registry.channels(newest=0)
    if promote:
        promote_through_gate(registry, version, who=who, reason=text, eval_set=eval_set, force=False, as_json=False)
        return
    if channels.production is None or channels.production.version == version:
        return
    comparison = measure(
        of_version(registry, channels.production.version), of_version(registry, version), eval_set=eval_set
    )
    reasons = channels.gate.refuses(comparison)
    print_comparison(comparison)
    typer.echo("")
    print_verdict(comparison, reasons)
    if canary is None:
        print_text(f"next: `admin_cli promote {version}`, or `admin_cli canary start {version} --percent 10`")
        return
    if reasons:
        raise Refused(
            f"{version} was published and did not become a canary, as said above. `admin_cli canary start {version} "
            f"--percent {canary:g}` starts it all the same, which asks no gate."
        )
    registry.start_canary(version, canary, who=name_of(who), reason=text, replay=replay)
    print_text(f"{version} is the canary, for {canary:g} % of the callers")
