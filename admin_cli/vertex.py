"""What `retrain --on vertex` hands to Vertex AI: a custom job whose container runs `admin_cli retrain` itself.

The job is a `CustomJob` of the REST API, as `projects.locations.customJobs.create` takes it:
https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.customJobs. `gcloud ai custom-jobs create`
takes its `jobSpec` as a file and its `displayName` as an option.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal, NamedTuple

import typer

from admin_cli.output import json_text, print_json, print_text
from admin_cli.recipe import Recipe
from classifier.errors import InvalidRequest, NotFound, Refused
from classifier.registry.catalogue import VERSION
from classifier.storage.names import bucket_of

DEFAULT_MACHINE = "n1-standard-8"
RUN_THERE = "/runs/retrained"
"""The folder of the run in the container, in the volume of trainer/Dockerfile that its user may write."""
MOUNT = "/gcs/"
"""Where Vertex AI mounts Cloud Storage: https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system."""
ACCELERATOR = r"([A-Z][A-Z0-9_]*)(?::([1-9][0-9]*))?"
"""A type as Vertex AI writes it, and how many."""

Place = Literal["here", "vertex"]
OnOption = Annotated[Place, typer.Option("--on", help="Train here, or as a custom job of Vertex AI.")]
ImageOption = Annotated[
    str | None, typer.Option("--image", help="With --on vertex: the image of trainer/Dockerfile in a registry.")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="With --on vertex, such as europe-west4.")]
ProjectOption = Annotated[str | None, typer.Option("--project", help="With --on vertex. Default: gcloud's.")]
MachineOption = Annotated[
    str | None, typer.Option("--machine", help=f"With --on vertex: its type. Default: {DEFAULT_MACHINE}.")
]
AcceleratorOption = Annotated[
    str | None,
    typer.Option("--accelerator", metavar="TYPE[:COUNT]", help="With --on vertex, such as NVIDIA_TESLA_T4."),
]
ServiceAccountOption = Annotated[
    str | None, typer.Option("--service-account", help="With --on vertex: whom the job acts as.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="With --on vertex: print the job as JSON and start nothing.")
]


class JobOptions(NamedTuple):
    """The options of a job; None where one was not given."""

    image: str | None = None
    region: str | None = None
    project: str | None = None
    machine: str | None = None
    accelerator: str | None = None
    service_account: str | None = None
    dry_run: bool = False

    def expect_none(self) -> None:
        """Expect none of them, because it trains here.

        Raises:
            InvalidRequest: one was given.
        """
        given = [f"--{name.replace('_', '-')}" for name, value in self._asdict().items() if value]
        if given:
            raise InvalidRequest(
                f"Expected --on vertex with {', '.join(given)}; received none. Add it, or leave them out."
            )

    def expect_complete(self, store: str, run: Path | None) -> None:
        """Expect what a job needs, and nothing that it would not see.

        Raises:
            InvalidRequest: something is missing, or is of this machine alone.
            InvalidSetting: the store's address cannot be used.
        """
        if not self.image:
            raise InvalidRequest(
                "Expected --image, the pushed image of trainer/Dockerfile, with --on vertex; received none."
            )
        if not self.region and not self.dry_run:
            raise InvalidRequest("Expected --region, such as europe-west4, with --on vertex; received none.")
        if run is not None:
            raise InvalidRequest(
                f"Expected no --run with --on vertex, where the run's folder ends with the job; received {run}. "
                "Leave it out: what the job publishes has the report."
            )
        if bucket_of(store) is None:
            raise InvalidRequest(
                "Expected --store gs://bucket/prefix with --on vertex, whose machine does not see this one's files; "
                f"received {store}. Publish into a bucket, and promote there."
            )


def expect_reachable(recipe: Recipe, eval_set: str | None, *, afresh: bool = False) -> None:
    """Expect everything that a training reads to be where the job's machine sees it.

    Args:
        recipe: the training configuration.
        eval_set: the photos of the comparison, if others than the test photos.
        afresh: whether nothing of a version is gone on from, which has its own network.

    Raises:
        InvalidRequest: something is on this machine alone.
        InvalidSetting: an address cannot be used.
    """
    data, weights = recipe["data"], str(recipe["network"].get("weights"))
    teacher = str(recipe["schedule"].get("teacher") or "")
    places = (
        ("--data-dir", data.get("data_dir")),
        ("--eval-set", eval_set),
        ("--set unlabelled", data.get("unlabelled")),
    )
    for option, place in places:
        if place and not str(place).startswith(MOUNT) and bucket_of(str(place)) is None:
            raise _unseen(f"{option} gs://bucket/folder or {MOUNT}bucket/folder", place)
    if data.get("csv") and not str(data["csv"]).startswith(MOUNT):
        raise _unseen(f"--csv {MOUNT}bucket/table.csv", data["csv"])
    if teacher and not VERSION.fullmatch(teacher) and not teacher.startswith(MOUNT):
        raise _unseen(f"--set teacher=v7 (a version), or {MOUNT}bucket/run", teacher)
    backbone = recipe["network"].get("backbone")
    if afresh and backbone and not str(backbone).startswith(MOUNT):
        raise _unseen(f"--set backbone={MOUNT}bucket/file.keras", backbone)
    if weights not in ("imagenet", "none", "own") and not weights.startswith(MOUNT):
        raise _unseen(f"--set weights=imagenet, none or {MOUNT}bucket/file", weights)


def _unseen(expected: str, received: object) -> InvalidRequest:
    return InvalidRequest(
        f"Expected {expected} with --on vertex, whose machine does not see this one's files; received {received}. "
        "`trainer upload` puts a data set into a bucket, `gcloud storage cp --recursive` any folder."
    )


def arguments_of(options: Mapping[str, Any]) -> list[str]:
    """Return options as a command line has them.

    Args:
        options: values by name. True is a flag, a list an option for each of its values; what is None, False or "" is
            left out.
    """
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif isinstance(value, list):
            words += [f"--{name}={each}" for each in value]
        elif value is not None and value is not False and value != "":
            words.append(f"--{name}={value}")
    return words


def custom_job(model: str, arguments: list[str], options: JobOptions) -> dict[str, Any]:
    """Return the job that runs `admin_cli retrain` with these arguments, on one machine.

    Raises:
        InvalidRequest: the accelerator cannot be understood.
    """
    machine: dict[str, Any] = {"machineType": options.machine or DEFAULT_MACHINE}
    if options.accelerator:
        # Compute Engine writes nvidia-tesla-t4 where Vertex AI writes NVIDIA_TESLA_T4.
        found = re.fullmatch(ACCELERATOR, options.accelerator.strip().upper().replace("-", "_"))
        if found is None:
            raise InvalidRequest(
                f"Expected --accelerator TYPE[:COUNT], such as NVIDIA_TESLA_T4:1; received {options.accelerator!r}."
            )
        machine |= {"acceleratorType": found[1], "acceleratorCount": int(found[2] or 1)}
    container = {
        "imageUri": options.image,
        "command": ["admin_cli"],
        "args": ["retrain", *arguments, f"--run={RUN_THERE}"],
    }
    spec: dict[str, Any] = {
        "workerPoolSpecs": [{"machineSpec": machine, "replicaCount": 1, "containerSpec": container}]
    }
    if options.service_account:
        spec["serviceAccount"] = options.service_account
    return {"displayName": f"pointer-retrain-{model}", "jobSpec": spec}


def start(job: Mapping[str, Any], options: JobOptions) -> None:
    """Give a job to gcloud, whose questions and answers are shown as they come; with --dry-run only print it.

    Raises:
        NotFound: gcloud is not installed.
        Refused: it did not create the job, and said why.
    """
    if options.dry_run:
        print_json(job)
        return
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise NotFound(
            "Expected the program gcloud on the path; it is not installed. "
            "https://cloud.google.com/sdk/docs/install, or --dry-run, which prints the job."
        )
    with tempfile.TemporaryDirectory(prefix="pointer-") as folder:
        config = Path(folder, "job.json")
        config.write_text(json_text(job["jobSpec"]) + "\n", encoding="utf-8")
        command = [
            gcloud,
            "ai",
            "custom-jobs",
            "create",
            f"--region={options.region}",
            f"--display-name={job['displayName']}",
            f"--config={config}",
            *([f"--project={options.project}"] if options.project else []),
        ]
        print_text(" ".join(quote(part) for part in ["gcloud", *command[1:]]))
        print_text("the job runs: " + " ".join(quote(part) for part in _command_of(job)))
        done = subprocess.run(command, check=False)
    if done.returncode:
        raise Refused(
            f"Expected gcloud to create the job; it ended with exit code {done.returncode}, and says why above."
        )
    print_text(
        "handed over to Vertex AI. `gcloud ai custom-jobs stream-logs` with the job's name, which gcloud has printed, "
        "shows its log; `admin_cli list` what it has published."
    )


def _command_of(job: Mapping[str, Any]) -> list[str]:
    container = job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
    return [*container["command"], *container["args"]]
