"""What `retrain --on vertex` hands to gcloud, held against Vertex AI's published schema, and what the job then does."""

from __future__ import annotations

import copy
import json
import re
import shlex
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from admin_cli.main import app
from admin_cli.vertex import RUN_THERE, JobOptions
from classifier.storage.opening import open_store
from tests.conftest import BUCKET
from tests.support import discovery
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import Cli, cli_fixture, process  # noqa: F401  # fixture
from tests.support.processes import ROOT
from tests.support.retraining import RECIPE, asked, described, option, stand_in_fixture  # noqa: F401  # fixture

SCHEMA = partial(discovery.problems, "aiplatform.v1", "GoogleCloudAiplatformV1CustomJob")
IMAGE = "europe-west4-docker.pkg.dev/my-project/pointer/trainer:1"
PHOTOS = "gs://photos/food"
ON = ("retrain", "--on", "vertex", "--image", IMAGE)
THERE = (*ON, "--region", "europe-west4", "--data-dir", PHOTOS)
GCLOUD = """#!{python}
import json, pathlib, sys
(config,) = (each.removeprefix("--config=") for each in sys.argv if each.startswith("--config="))
text = pathlib.Path(config).read_text(encoding="utf-8")
pathlib.Path({record!r}).write_text(json.dumps([sys.argv[1:], config, text]))
sys.stderr.write({said!r})
sys.exit({code})
"""


@pytest.fixture(name="there")
def there_fixture(
    cli: Cli, emulator: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """The command line on a bucket, where v1 serves."""
    monkeypatch.chdir(tmp_path)
    store = f"gs://{BUCKET}/{uuid.uuid4().hex}"
    run = partial(cli, MODEL_STORE=store, STORAGE_EMULATOR_HOST=emulator)
    run("publish", described(tiny_bundle)).well()
    run("promote", "v1").well()
    return run


@pytest.fixture(name="gcloud")
def gcloud_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A program in gcloud's place, the only one on the path, that keeps what it was given."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))

    def install(code: int = 0, said: str = "CustomJob [projects/1/locations/x/customJobs/2] is submitted.\n") -> Path:
        path = tmp_path / "path/gcloud"
        path.parent.mkdir(exist_ok=True)
        record = tmp_path / "gcloud.json"
        path.write_text(GCLOUD.format(python=sys.executable, record=str(record), said=said, code=code))
        path.chmod(0o755)
        return record

    return install


def container(job: dict[str, Any]) -> dict[str, Any]:
    return job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]


def test_the_job_is_one_that_vertex_ai_takes(there: Cli) -> None:
    job = there(*ON, "--data-dir", PHOTOS, "--dry-run").json()
    assert SCHEMA(job) == []
    assert job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] == {"machineType": "n1-standard-8"}
    assert "serviceAccount" not in job["jobSpec"]
    assert (container(job)["imageUri"], container(job)["command"]) == (IMAGE, ["admin_cli"])
    every = ("--machine", "g2-standard-8", "--accelerator", "NVIDIA_L4:2", "--service-account", "t@p.iam")
    job = there(*THERE, *every, "--dry-run").json()
    assert SCHEMA(job) == []
    assert job["displayName"] == "pointer-retrain-food"
    assert job["jobSpec"]["serviceAccount"] == "t@p.iam"
    assert job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"] == {
        "machineType": "g2-standard-8",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 2,
    }


def test_a_job_that_vertex_ai_would_refuse_is_found(there: Cli) -> None:
    """The schema above says something: each of these is one mistake."""
    job = there(*THERE, "--accelerator", "NVIDIA_TESLA_T4", "--dry-run").json()

    def with_mistake(*path: str | int, value: Any) -> list[str]:
        changed = copy.deepcopy(job)
        inner = changed
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        return SCHEMA(changed)

    pool = ("jobSpec", "workerPoolSpecs", 0)
    assert with_mistake("display_name", value="x")
    assert with_mistake("name", value="given by Vertex AI")
    assert with_mistake("jobSpec", "service_account", value="x")
    assert with_mistake(*pool, "containerSpec", "args", value="retrain")
    assert with_mistake(*pool, "containerSpec", "args", 0, value=1)
    assert with_mistake(*pool, "machineSpec", "acceleratorType", value="NVIDIA_T4")
    assert with_mistake(*pool, "machineSpec", "acceleratorCount", value="1")
    assert with_mistake(*pool, "replicaCount", value=1.5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("NVIDIA_TESLA_T4", ("NVIDIA_TESLA_T4", 1)),
        ("NVIDIA_TESLA_A100:8", ("NVIDIA_TESLA_A100", 8)),
        ("nvidia-tesla-t4:2", ("NVIDIA_TESLA_T4", 2)),
    ],
)
def test_accelerators(there: Cli, given: str, meant: tuple[str, int]) -> None:
    job = there(*THERE, "--accelerator", given, "--dry-run").json()
    machine = job["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]
    assert (machine["acceleratorType"], machine["acceleratorCount"]) == meant
    assert SCHEMA(job) == []


def test_gcloud_gets_the_job_that_a_dry_run_prints(there: Cli, gcloud: Callable[..., Path]) -> None:
    record = gcloud()
    # What JSON writes and YAML reads otherwise, unless it is escaped; and what a shell would.
    reason = 'soups 🍜, "salads"\u2028\x85 $(x) - and: #more'
    options = (*THERE, "--reason", reason, "--set", "head_epochs=9", "--set", "precision=mixed_bfloat16")
    printed = there(*options, "--dry-run").json()
    assert not record.exists()
    done = there(*options, "--project", "my-project")
    assert (done.code, done.err) == (0, "CustomJob [projects/1/locations/x/customJobs/2] is submitted.\n")
    assert "stream-logs" in done.out and "admin_cli retrain" in done.out
    arguments, config, text = json.loads(record.read_text())
    assert arguments == [
        "ai",
        "custom-jobs",
        "create",
        "--region=europe-west4",
        "--display-name=pointer-retrain-food",
        f"--config={config}",
        "--project=my-project",
    ]
    assert yaml.safe_load(text) == json.loads(text) == printed["jobSpec"]
    assert f"--reason={reason}" in container(printed)["args"]
    assert not Path(config).exists()
    there(*THERE)
    assert not any(each.startswith("--project") for each in json.loads(record.read_text())[0])


def test_gcloud_s_own_message_is_shown_where_it_fails(there: Cli, gcloud: Callable[..., Path]) -> None:
    gcloud(code=1, said="ERROR: (gcloud.ai.custom-jobs.create) PERMISSION_DENIED: Permission denied\n")
    done = there(*THERE)
    assert done.code == 5
    theirs, ours = done.err.splitlines()
    assert theirs.startswith("ERROR: (gcloud.ai.custom-jobs.create) PERMISSION_DENIED")
    assert ours.startswith("admin_cli: Expected gcloud to create the job; it ended with exit code 1")
    assert "handed over" not in done.out


def test_without_gcloud_the_remedy_is_told(there: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = there(*THERE, PATH=tmp_path / "empty").failed(3)
    assert "Expected the program gcloud" in message and "cloud.google.com/sdk" in message and "--dry-run" in message
    assert SCHEMA(there(*THERE, "--dry-run", PATH=tmp_path / "empty").json()) == []


def test_every_option_is_the_job_s_or_handed_on(there: Cli) -> None:
    values = {
        "--dataset": "csv", "--data-dir": PHOTOS, "--csv": "/gcs/photos/food.csv", "--from": "v1",
        "--set": "head_epochs=9", "--eval-set": "gs://photos/hard", "--reason": "weekly", "--store": None,
        "--model": "food", "--who": "lee",
    }  # fmt: skip
    flags = ["--feedback", "--force"]
    either = [["--promote"], ["--canary", "10.0"]]
    own = {f"--{name.replace('_', '-')}" for name in JobOptions._fields} | {"--on", "--run"}
    command = typer.main.get_command(app).commands["retrain"]
    known = {name for parameter in command.params for name in parameter.opts} - {"--help"}
    assert known == {*values, *flags, "--promote", "--canary", *own}
    given = [f"{name}={value}" for name, value in values.items() if value]
    for last in either:
        job = there(*ON, *given, *flags, *last, "--dry-run").json()
        first, *rest = container(job)["args"]
        assert first == "retrain"
        (store,) = (each for each in rest if each.startswith(f"--store=gs://{BUCKET}/"))
        assert sorted(rest) == sorted([*given, *flags, "=".join(last), store, f"--run={RUN_THERE}"])


def test_the_job_retrains_publishes_and_promotes(there: Cli, stand_in: Any, tmp_path: Path) -> None:
    """Its arguments are run here, with a program in the trainer's place; the run's folder alone is another."""
    job = there(*THERE, "--promote", "--force", "--reason=-weekly", "--set", "head_epochs=9", "--dry-run").json()
    (run,) = (each for each in container(job)["args"] if each.startswith("--run="))
    arguments = [each for each in container(job)["args"] if each != run]
    # Nothing but the arguments tells where the store is, and who asked.
    said = there(*arguments, f"--run={tmp_path / 'runs/retrained'}", MODEL_STORE="nowhere", POINTER_WHO="trainer")
    assert "published v2" in said.well() and "promoted v2 (before: v1)" in said.out
    (call,) = asked(tmp_path)
    config = json.loads(Path(option(call, "--config")).read_text())
    assert (config["data"]["data_dir"], config["schedule"]["head_epochs"]) == (PHOTOS, 9)
    assert "--unchanged" in call
    newest = there("history", "--json").json()[0]
    assert (newest["to"], newest["who"], newest["reason"]) == ("v2", "kim", "-weekly")


def test_a_job_is_printed_also_where_the_bucket_cannot_be_read(there: Cli) -> None:
    """The photos' folder is the job's to find then, unless it is named."""
    away = {"MODEL_STORE": "gs://nobody-s-bucket/models"}
    printed = there(*ON, "--dry-run", "--data-dir", PHOTOS, **away)
    assert printed.code == 0 and "was not looked at" in printed.err
    (pool,) = json.loads(printed.out)["jobSpec"]["workerPoolSpecs"]
    assert f"--data-dir={PHOTOS}" in pool["containerSpec"]["args"]
    (pool,) = json.loads(there(*ON, "--dry-run", **away).out)["jobSpec"]["workerPoolSpecs"]
    assert not [each for each in pool["containerSpec"]["args"] if each.startswith("--data-dir")]
    assert "data/food" in there(*ON, "--dry-run", "--data-dir", "data/food", **away).err
    assert there(*ON, "--region", "x", "--data-dir", PHOTOS, **away).code == 3


def test_what_the_job_s_machine_would_not_see_is_refused(there: Cli, cli: Cli, gcloud: Callable[..., Path]) -> None:
    record = gcloud()
    photos = ("--data-dir", PHOTOS)
    assert "received .model-store" in cli(*THERE, MODEL_STORE=".model-store").failed(2)
    assert "received data/food" in there(*ON, "--region", "x", "--data-dir", "data/food").failed(2)
    assert "received table.csv" in there(*THERE, "--csv", "table.csv").failed(2)
    assert "received hard" in there(*THERE, "--eval-set", "hard").failed(2)
    assert "received w.h5" in there(*THERE, "--set", "weights=w.h5").failed(2)
    assert "received runs/mine" in there(*THERE, "--run", "runs/mine").failed(2)
    assert "gs://bucket/prefix" in there(*ON, "--region", "x", "--data-dir", "gs://").failed(2)
    assert "Name them with --data-dir" in there(*ON, "--region", "x").failed(3)
    assert "received none" in there("retrain", "--on", "vertex", "--region", "x", *photos).failed(2)
    assert "--region" in there(*ON, *photos).failed(2)
    for accelerator in ("NVIDIA_TESLA_T4:0", "NVIDIA TESLA", ":2", "NVIDIA_L4:two"):
        assert "TYPE[:COUNT]" in there(*THERE, "--accelerator", accelerator).failed(2)
    assert "received 'v9'" in there(*THERE, "--from", "v9").failed(3)
    assert "with one of" in there(*THERE, "--set", "epochs=3").failed(2)
    assert not record.exists()


def test_what_the_mount_has_is_seen(there: Cli) -> None:
    mounted = ("--csv", "/gcs/photos/food.csv", "--set", "weights=/gcs/photos/w.h5", "--eval-set", "/gcs/photos/hard")
    arguments = container(there(*ON, *mounted, "--dry-run").json())["args"]
    assert {"--data-dir=/gcs/photos", "--csv=/gcs/photos/food.csv", "--set=weights=/gcs/photos/w.h5"} <= {*arguments}


def test_the_photos_of_the_version_are_handed_on(cli: Cli, emulator: str, tiny_bundle: Path, tmp_path: Path) -> None:
    run = partial(cli, MODEL_STORE=f"gs://{BUCKET}/{uuid.uuid4().hex}", STORAGE_EMULATOR_HOST=emulator)
    described(tiny_bundle, training={**RECIPE, "data": {**RECIPE["data"], "data_dir": PHOTOS}})
    run("publish", tiny_bundle, "--again").well()
    run("promote", "v1").well()
    assert f"--data-dir={PHOTOS}" in container(run(*ON, "--dry-run").json())["args"]


@pytest.mark.parametrize("given", [("--image", "x"), ("--dry-run",), ("--accelerator", "NVIDIA_L4"), ("--region", "x")])
def test_options_of_the_job_are_refused_where_it_trains_here(there: Cli, given: tuple[str, ...]) -> None:
    assert f"Expected --on vertex with {given[0]}" in there("retrain", "--data-dir", PHOTOS, *given).failed(2)


def test_the_commands_of_the_guide_are_those_that_work(there: Cli) -> None:
    """Those of docs/deploy.md, with its variables: what they hand over, and the address that the scheduler calls."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "docs/deploy.md").read_text())
    variables = {name: value for line in re.findall(r"^ +export (.+)$", text, re.MULTILINE) for name, value in
                 (word.split("=", 1) for word in shlex.split(line))}  # fmt: skip

    def words(line: str) -> list[str]:
        while (expanded := re.sub(r"\$(\w+)", lambda found: variables[found[1]], line)) != line:
            line = expanded
        return shlex.split(line.partition(">")[0])

    retrains = re.findall(r"^ +(admin_cli retrain --on vertex .*)$", text, re.MULTILINE)
    assert len(retrains) == 2
    for line in retrains:
        _, *arguments = words(line)
        dry = [] if "--dry-run" in arguments else ["--dry-run"]
        job = there(*arguments, *dry).json()
        assert SCHEMA(job) == []
        assert job["jobSpec"]["serviceAccount"] == words("$TRAINER")[0]
    (line,) = re.findall(r"^ +(gcloud scheduler jobs create http .*)$", text, re.MULTILINE)
    scheduled = dict(each.split("=", 1) for each in words(line) if each.startswith("--"))
    api = discovery.document("aiplatform.v1")
    method = api["resources"]["projects"]["resources"]["locations"]["resources"]["customJobs"]["methods"]["create"]
    (project,), (region,) = words("$PROJECT"), words("$REGION")
    (endpoint,) = (each["endpointUrl"] for each in api["endpoints"] if each["location"] == region)
    path = method["flatPath"].format(projectsId=project, locationsId=region)
    assert scheduled["--uri"] == endpoint + path
    assert scheduled["--http-method"] == method["httpMethod"]
    assert scheduled["--message-body-from-file"] == retrains[1].partition("> ")[2]


@pytest.mark.long
def test_the_job_trains_on_photos_of_a_bucket(emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real trainer: the arguments of the job, run as a process; the run's folder alone is another."""
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    name = uuid.uuid4().hex
    run = partial(process, STORAGE_EMULATOR_HOST=emulator, MODEL_STORE=f"gs://{BUCKET}/{name}/models")
    photos = put_photos(emulator, f"gs://{BUCKET}/{name}/photos")
    trained = process(
        "train", "--dataset", "folder", "--data-dir", photos, "--architecture", "base_cnn", "--weights", "none",
        "--image-size", "32", "--fine-tune-epochs", "2", "--batch-size", "8", "--no-report", "--run",
        tmp_path / "first", program="from trainer.main import main; main()", STORAGE_EMULATOR_HOST=emulator,
        POINTER_MIRROR=tmp_path / "mirror",
    )  # fmt: skip
    assert trained.code == 0, trained
    run("publish", tmp_path / "first").well()
    run("promote", "v1").well()
    job = run(*ON, "--force", "--promote", "--dry-run").json()
    arguments = container(job)["args"]
    assert f"--data-dir={photos}" in arguments
    done = run(*arguments, f"--run={tmp_path / 'there'}", POINTER_MIRROR=tmp_path / "mirror there")
    assert done.code == 0, done
    assert "promoted v2" in done.out
    assert (tmp_path / "mirror there" / BUCKET / name / "photos").is_dir()
    # In the image it is root's, and the trainer is not.
    assert [*Path.cwd().iterdir()] == []


def put_photos(emulator: str, url: str) -> str:
    """Put photos of four colours into a bucket; return where."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", emulator)
        store = open_store(url)
        for label in TINY_LABELS:
            for seed in range(16):
                store.write(f"{label}/{seed}.png", colour_photo(label, seed=seed))
    return url
