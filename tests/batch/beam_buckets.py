"""Labelling from a bucket into a bucket, and how Beam's own options and other runners are reached."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.labelling import PYTHON, Engine, Failed, job_for, label, needs_beam, rows
from tests.support.photo_buckets import LABELS, PAYS, photo_buckets, put
from tests.support.processes import environment
from tests.support.serving import MODEL, publish

pytestmark = needs_beam


@pytest.fixture(scope="module", name="emulator")
def emulator_fixture() -> Iterator[str]:
    with photo_buckets() as emulator:
        for number, colour in enumerate(TINY_LABELS * 5):
            put(emulator, PAYS, f"a b/{number} #é?.png", colour_photo(colour, seed=number))
        put(emulator, PAYS, "a b/empty.png", b"")
        put(emulator, PAYS, "a b/", b"")
        yield emulator


@pytest.fixture(scope="module", name="there")
def there_fixture(emulator: str) -> Iterator[Engine]:
    engine = Engine(STORAGE_EMULATOR_HOST=emulator)
    yield engine
    engine.end()


@pytest.fixture(scope="module", name="store")
def store_fixture(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    store = tmp_path_factory.mktemp("store") / "store"
    publish(store, tiny_bundle_original)
    return store


def test_a_bucket_whose_requesters_pay_is_labelled_into_another_as_a_folder_is(
    there: Engine, emulator: str, store: Path, tmp_path: Path
) -> None:
    job = job_for(store, f"gs://{PAYS}/a b", f"gs://{LABELS}/food", billing_project="mine")
    with pytest.raises(Failed, match=r"^InvalidSetting: Expected --billing-project PROJECT"):
        there.label({**job, "billing_project": ""})
    told = there.label(job)
    assert (told["listed"]["todo"], told["listed"]["folders"], told["finished"]["failed"]) == (21, 1, 0)
    again = there.label(job)["listed"]
    assert (again["listed"], again["todo"], again["changed"], again["deleted"]) == (21, 0, 0, 0)

    put(emulator, PAYS, "a b/0 #é?.png", colour_photo("red", seed=99))
    told = there.label(job)
    assert told["listed"]["changed_paths"] == [f"gs://{PAYS}/a b/0 #é?.png"] and told["listed"]["todo"] == 1
    found = rows(copied(emulator, tmp_path / "copied"))
    assert len(found) == 22
    by_path: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(found, key=lambda row: row["generation"]):
        by_path.setdefault(row["path"], []).append(row)
    assert [row["label"] for row in by_path[f"gs://{PAYS}/a b/0 #é?.png"]] == ["blue", "red"]
    assert by_path[f"gs://{PAYS}/a b/empty.png"][0]["status"] == "unreadable"

    here = tmp_path / "photos"
    here.mkdir()
    for number, colour in enumerate(TINY_LABELS * 5):
        (here / f"{number} #é?.png").write_bytes(colour_photo(colour, seed=number))
    there.label(job_for(store, here, tmp_path / "labels"))
    for row in rows(tmp_path / "labels"):
        same = by_path[f"gs://{PAYS}/a b/{Path(row['path']).name}"][0]
        assert {**row, "path": "", "generation": 0, "version": ""} == {
            **same,
            "path": "",
            "generation": 0,
            "version": "",
        }


def copied(emulator: str, folder: Path) -> Path:
    """The files of the bucket of labels."""
    listed = requests.get(f"{emulator}/storage/v1/b/{LABELS}/o", timeout=10).json()["items"]
    for name in (each["name"] for each in listed if each["name"].endswith(".parquet")):
        path = folder / Path(name).relative_to("food")
        path.parent.mkdir(parents=True, exist_ok=True)
        address = f"{emulator}/storage/v1/b/{LABELS}/o/{quote(name, safe='')}?alt=media"
        path.write_bytes(requests.get(address, timeout=10).content)
    return folder


def test_a_photo_that_cannot_be_fetched_has_no_row_and_is_tried_again(
    there: Engine, emulator: str, store: Path, tmp_path: Path
) -> None:
    """The table tells a generation that the object does not have, as where it was replaced after it was listed."""
    name, generations = "late/x.png", []
    for seed in (1, 2):
        put(emulator, PAYS, name, colour_photo("green", seed=seed))
        facts = requests.get(f"{emulator}/storage/v1/b/{PAYS}/o/late%2Fx.png?userProject=mine", timeout=10).json()
        generations.append(facts["generation"])
    table = tmp_path / "list.csv"
    table.write_text(f"bucket,name,generation,size\n{PAYS},{name},{generations[0]},10\n")
    job = job_for(store, table, tmp_path / "out", billing_project="mine")
    for _ in range(2):
        with pytest.raises(Failed, match=r"^Unavailable: 1 photo could not be fetched, such as gs://photos-pays/late"):
            there.label(job)
        assert not list((tmp_path / "out").rglob("*.parquet"))
    table.write_text(table.read_text().replace(generations[0], generations[1]))
    assert there.label(job)["finished"]["failed"] == 0
    (row,) = rows(tmp_path / "out")
    assert (row["label"], row["generation"]) == ("green", int(generations[1]))
    assert not list((tmp_path / "out").rglob("_failed/*"))


OPTIONS = """
import json, sys
from batch.running import options_for
from apache_beam.options.pipeline_options import GoogleCloudOptions, PortableOptions, StandardOptions, WorkerOptions
for runner, *given in json.loads(sys.argv[1]):
  options = options_for(runner, 2, given)
  print(json.dumps({"all": options.get_all_options(drop_default=True),
    "runner": options.view_as(StandardOptions).runner,
    "machine": options.view_as(WorkerOptions).machine_type, "image": options.view_as(WorkerOptions).sdk_container_image,
    "region": options.view_as(GoogleCloudOptions).region, "job": options.view_as(PortableOptions).job_endpoint}))
"""


def test_options_reach_beam_as_they_are() -> None:
    """The runners themselves are not here: docs/batch.md has their commands."""
    given = [
        [
            "DataflowRunner", "--project=p", "--region=europe-west4", "--temp_location=gs://b/tmp",
            "--machine_type=n2-highcpu-8", "--sdk_container_image=europe-west4-docker.pkg.dev/p/pointer/batch:1",
            "--max_num_workers=20", "--experiments=no_use_multiple_sdk_containers",
        ],
        ["FlinkRunner", "--flink_master=localhost:8081", "--environment_type=DOCKER", "--parallelism=8"],
        ["PortableRunner", "--job_endpoint=localhost:8099"],
        ["local", "--direct_num_workers=3"],
    ]  # fmt: skip
    done = subprocess.run([PYTHON, "-c", OPTIONS, json.dumps(given)], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    dataflow, flink, portable, local = map(json.loads, done.stdout.splitlines())
    assert (dataflow["runner"], dataflow["machine"], dataflow["region"]) == (
        given[0][0],
        "n2-highcpu-8",
        "europe-west4",
    )
    assert dataflow["image"].endswith("/batch:1") and dataflow["all"]["max_num_workers"] == 20
    assert dataflow["all"]["experiments"] == ["no_use_multiple_sdk_containers"]
    assert flink["all"]["flink_master"] == "localhost:8081" and flink["all"]["parallelism"] == 8
    assert portable["job"] == "localhost:8099"
    assert local["runner"].endswith(".FnApiRunner") and local["all"]["direct_num_workers"] == 3


def test_workers_elsewhere_cannot_reach_what_is_here(store: Path, tmp_path: Path) -> None:
    env: dict[str, Any] = {"MODEL_STORE": store, "MODEL_NAME": MODEL}
    told = label(tmp_path, "--out", tmp_path / "labels", "--runner", "dataflow", "--", "--region=x", **env)
    assert "Expected --store as gs://bucket/… with --runner DataflowRunner" in told.failed(2)
